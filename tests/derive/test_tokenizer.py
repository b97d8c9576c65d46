"""What follows from a tokenizer together with environment and launch command."""

from __future__ import annotations

import pytest

from diagnose.derive.tokenizer import complete
from diagnose.model import Fact
from diagnose.sources.tokenizer.formats import fits, reasoning_format, tool_format

Value = str | int | float | bool


def follows(**known: Value) -> dict[str, Value]:
    """The facts that follow; names are given with `__` for the dot."""
    return {
        fact.name: fact.value
        for fact in complete([Fact(name.replace("__", "."), value, "t") for name, value in known.items()])
    }


def test_a_package_is_missing_only_where_the_packages_were_read() -> None:
    """Without the list of packages nothing is known; without a reader of tokenizers nothing is needed."""
    environment: dict[str, Value] = {"packages__count": 3, "transformers__version": "5.2.0"}
    needs: dict[str, Value] = {"tokenizer__needs_sentencepiece": True, "tokenizer__remote_code": False}
    assert follows(**environment, **needs)["tokenizer.package_missing"] == "sentencepiece"
    assert follows(**environment, **needs, sentencepiece__version="0.2.0")["tokenizer.package_missing"] == "protobuf"
    assert "tokenizer.package_missing" not in follows(
        **environment, **needs, sentencepiece__version="1", protobuf__version="5"
    )
    assert "tokenizer.package_missing" not in follows(**needs)
    tekken: dict[str, Value] = {"tokenizer__needs_mistral_common": True}
    assert follows(**environment, **tekken)["tokenizer.package_missing"] == "mistral-common"
    assert "tokenizer.package_missing" not in follows(packages__count=3, **needs)


def test_a_template_of_the_command_takes_the_place_of_the_models() -> None:
    """Then the model's own is neither needed nor compared with the parser."""
    assert follows(template__source="none")["template.needed"] is True
    assert "template.needed" not in follows(template__source="none", launch__arg__chat_template="x.jinja")
    given: dict[str, Value] = {"template__tool_format": "hermes", "launch__arg__tool_call_parser": "mistral"}
    assert follows(**given)["template.tool_parser_fits"] is False
    assert "template.tool_parser_fits" not in follows(**given, launch__arg__chat_template="x.jinja")


@pytest.mark.parametrize(
    ("parser", "format_", "answer"),
    [
        ("hermes", "hermes", True),
        ("qwen25", "hermes", True),
        ("qwen3_xml", "qwen3_coder", True),
        ("mistral", "hermes", False),
        ("my_plugin", "hermes", None),
        ("hf", "hermes", None),
        ("hermes", "unknown", None),
    ],
)
def test_whether_a_parser_reads_a_format(parser: str, format_: str, answer: bool | None) -> None:
    """Yes and no for known pairs; a parser of one's own is not judged."""
    assert fits(parser, format_) is answer


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ("<tool_call>\n{...}\n</tool_call>", "hermes"),
        ("<tool_call><function=x><parameter=y>", "qwen3_coder"),
        ("<tool_call>f<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>", "glm45"),
        ("[AVAILABLE_TOOLS] [TOOL_CALLS]", "mistral"),
        ("<|python_tag|>", "llama3_json"),
        ("<｜tool▁call▁begin｜>function<｜tool▁sep｜>n\n```json", "deepseek_v3"),
        ("<｜tool▁call▁begin｜>n<｜tool▁sep｜>{}", "deepseek_v31"),
        ("<|start|>assistant<|channel|>commentary to=functions.x<|message|>{}<|call|>", "openai"),
        ("{% if tools %}{{ tools }}{% endif %}", "unknown"),
        ("{{ messages }}", "none"),
    ],
)
def test_the_format_of_tool_calls_is_known_by_its_marks(marks: str, expected: str) -> None:
    """A mark of one family stands in no other's template."""
    assert tool_format(marks) == expected


def test_the_format_of_thoughts_is_known_by_its_marks() -> None:
    """The tags, or what stands for them."""
    assert reasoning_format("<think>…</think>") == "think"
    assert reasoning_format("<|channel|>analysis") == "openai_gptoss"
    assert reasoning_format("{{ messages }}") == "none"
