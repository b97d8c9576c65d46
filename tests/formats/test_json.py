"""JSON: the documented contract."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from diagnose.formats.json import schema, write
from tests.support import ROOT, diagnosis_of, rule, ruleset_of

TEXT = """\
torch==2.3.1
Traceback (most recent call last):
  File "/opt/venv/lib/python3.12/site-packages/vllm/worker.py", line 10, in load_model
    run()
RuntimeError: words of the cause
RuntimeError: words of the effect \x1b]8;;\x07 \u202e \ufffd
"""


def written(tmp_path: Path, text: str = TEXT) -> dict[str, object]:
    rules = ruleset_of(
        tmp_path,
        rule(
            "a-cause",
            match={"log": ["words of the (?P<what>cause)"], "facts": ["torch.version < 2.4"]},
            leads_to=["an-effect"],
        ),
        rule("an-effect", "words of the effect", certainty="possible"),
    )
    found: dict[str, object] = json.loads(write(diagnosis_of(rules, text)))
    return found


def test_the_published_schema_is_the_one_in_use() -> None:
    """docs/diagnosis.schema.json is what `make schema` writes."""
    assert json.loads(json.dumps(schema())) == json.loads(
        (ROOT / "docs" / "diagnosis.schema.json").read_text(encoding="utf-8")
    )


def test_a_report_keeps_the_schema(tmp_path: Path) -> None:
    """With a cause, its facts and symptoms, and with nothing found: both are valid."""
    jsonschema.Draft202012Validator.check_schema(schema())
    for text in (TEXT, "words of the effect\n", "nothing\n"):
        jsonschema.validate(written(tmp_path, text), schema())


def test_the_keys_that_programs_read(tmp_path: Path) -> None:
    """A version, the list of diagnoses best first, and of each the rule, certainty, labels and evidence lines."""
    report = written(tmp_path)
    assert report["version"] == "1"
    [first] = report["diagnoses"]  # type: ignore[misc]
    assert (first["rule"], first["certainty"], first["symptom"]) == ("a-cause", "confirmed", "crash/other-crashes")
    assert first["cause"] == "environment-compatibility-issues/dependency-library-compatibility"
    assert tuple(first["evidence"][0][key] for key in ("line", "end_line", "text")) == (
        5,
        5,
        "RuntimeError: words of the cause",
    )
    assert [symptom["rule"] for symptom in first["symptoms"]] == ["an-effect"]
    assert first["captures"] == {"what": "cause"}


def test_it_is_one_object_on_lines_of_its_own(tmp_path: Path) -> None:
    """Indented for people, with a newline at the end."""
    text = write(diagnosis_of(ruleset_of(tmp_path, rule("a-cause")), "nothing\n"))
    assert (text.startswith("{\n"), text.endswith("}\n")) == (True, True)
