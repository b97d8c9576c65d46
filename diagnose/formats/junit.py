"""JUnit XML: a test case per finding and per part of the checklist, for CI systems that show test results."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from diagnose.formats.layout import visible
from diagnose.formats.located import message, place_of
from diagnose.model import Area, Cause, Diagnosis

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(diagnosis: Diagnosis) -> str:
    """One suite. Errors and warnings are failures, notes are passed, what was not checked is skipped."""
    suite = ElementTree.Element("testsuite")
    for cause in diagnosis.diagnoses:
        suite.append(_finding(cause, diagnosis))
    for area in diagnosis.areas:
        if not area.rules and area.status != "unchecked":  # that is told below, with its reason
            suite.append(_area(area))
    for item in diagnosis.unchecked:
        case = _case("not checked", item.what)
        ElementTree.SubElement(case, "skipped").text = _text(item.why)
        suite.append(case)
    failures, skipped = (sum(case.find(tag) is not None for case in suite) for tag in ("failure", "skipped"))
    counts = {"tests": len(suite), "failures": failures, "errors": 0, "skipped": skipped, "time": 0}
    suite.attrib = {"name": "llmdoctor", **{name: str(value) for name, value in counts.items()}}
    root = ElementTree.Element("testsuites", {"name": "llmdoctor"})
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(group: str, name: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", {"classname": f"llmdoctor.{_text(group)}", "name": _text(name), "time": "0"})


def _finding(cause: Cause, diagnosis: Diagnosis) -> ElementTree.Element:
    place = place_of(cause, diagnosis)
    case = _case(cause.rule, cause.title)
    where = f"{place.path}:{place.line}" if place.line else place.path
    text = _text(f"{where}\n{message(cause)}")
    if cause.severity == "note":
        ElementTree.SubElement(case, "system-out").text = text
    else:
        ElementTree.SubElement(case, "failure", {"type": cause.severity, "message": _text(cause.title)}).text = text
    return case


def _area(area: Area) -> ElementTree.Element:
    case = _case("checked", area.name)
    ElementTree.SubElement(case, "system-out").text = _text(area.summary)
    return case


def _text(text: str) -> str:
    """Text without what XML cannot hold, or steers a terminal."""
    return _NO_XML.sub("\ufffd", "\n".join(visible(line) for line in text.split("\n")))
