"""JUnit XML, by the XSD of Jenkins' xUnit plugin."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import xmlschema
from msgspec.structs import replace

from diagnose.formats.junit import write
from diagnose.model import Area, Diagnosis
from tests.formats.pipelines import HOSTILE, diagnosis

SCHEMA = xmlschema.XMLSchema(str(Path(__file__).parent / "schemas" / "junit-10.xsd"))


def suite_of(found: Diagnosis) -> ElementTree.Element:
    """The one suite of a report that is valid."""
    text = write(found)
    root = ElementTree.fromstring(text)
    SCHEMA.validate(root)
    suite = root.find("testsuite")
    assert suite is not None
    return suite


def test_errors_and_warnings_fail_and_notes_pass(tmp_path: Path) -> None:
    """The counts of the suite are those of its cases."""
    suite = suite_of(diagnosis(tmp_path))
    failed = {case.get("classname") for case in suite if case.find("failure") is not None}

    assert failed == {"llmdoctor.rate-too-high", "llmdoctor.scheduler-odd", "llmdoctor.memory-small"}
    assert suite.get("failures") == "3"
    assert suite.get("skipped") == "1"
    assert suite.get("tests") == str(len(suite))


def test_a_failure_says_where_why_and_what_to_do(tmp_path: Path) -> None:
    """The place stands first, as editors open it."""
    case = next(case for case in suite_of(diagnosis(tmp_path)) if case.get("classname") == "llmdoctor.rate-too-high")
    text = case.findtext("failure") or ""

    assert text.startswith("conf/train.yaml:12\n")
    assert "Fix: Write optimizer.lr: 2e-5" in text


def test_what_stands_well_is_a_passed_case(tmp_path: Path) -> None:
    """A part of the checklist without a finding."""
    found = replace(diagnosis(tmp_path), areas=(Area("driver", "ok", "580"), Area("GPUs", "unchecked", "no driver")))
    states = {case.get("name"): [child.tag for child in case] for case in suite_of(found)}

    assert states["driver"] == ["system-out"]
    assert "GPUs" not in states


def test_hostile_text_is_still_xml(tmp_path: Path) -> None:
    """NULs, ends of CDATA and control characters."""
    suite_of(diagnosis(tmp_path, value=HOSTILE))
