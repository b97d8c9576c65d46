"""Templates of others are programs: what they may do, and how long."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.sources.tokenizer import sandbox
from tests.sources.tokenizer.made import config, facts, folder

HOSTILE = {
    "range of ranges": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "power": "{{ 9 ** (9 ** (9 ** 9)) }}",
    "long text": "{{ 'x' * 10000000000 }}",
    "long list": "{% set x = [1] * 10000000000 %}",
    "doubling": "{% set n = namespace(s='xxxxxxxx') %}{% for a in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "output": "{% for a in range(99999) %}{{ 'y' * 1000 }}{% endfor %}",
    "format": "{{ '%1000000000d' | format(1) }}",
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__['json'] }}",
    "import": "{% import 'os' as os %}{{ os }}",
    "include": "{% include '/etc/passwd' %}",
    "format string": "{{ '{0.__class__.__init__.__globals__}'.format(namespace) }}",
    "underscore": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "change": "{% set _ = messages.append({'role': 'user'}) %}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_told_and_ends(tmp_path: Path, name: str) -> None:
    """Loops, huge values and reaching into Python: a result for the conversation, or a reason why there is none."""
    made = folder(tmp_path, tokenizer_config_json=config(chat_template=HOSTILE[name]))
    found = facts(made)
    told = found.get("template.case.plain.result", found.get("template.case.whole.result"))
    assert told in ("endless", "huge", "failed") or "template.syntax_error" in found
    assert "root:" not in str(found)
    assert found["tokenizer.adds_before"] == "nothing"  # the tokenizer is judged all the same


def test_what_is_endless_leaves_the_other_facts_known(tmp_path: Path) -> None:
    """The conversations that do not end are named; what was known before is kept, and the tokenizer is judged."""
    template = "{% if messages|length > 2 %}" + HOSTILE["range of ranges"] + "{% endif %}{{ messages[0].content }}"
    found = facts(folder(tmp_path, tokenizer_config_json=config(chat_template=template)))
    assert found["template.case.turns.result"] == "endless"
    assert "template.case.plain.result" not in found
    assert found["template.case.tool-result.result"] == "endless"
    assert found["template.tool_format"] == "none"
    assert found["tokenizer.unknown_in"] == "none"


def test_the_sandbox_has_what_templates_of_transformers_use() -> None:
    """Blocks are trimmed, loops can be left, JSON is not escaped, and the tag for answers lets text through."""
    text = "  {% for m in messages %}\n{% if loop.index0 == 1 %}{% break %}{% endif %}\n{% generation %}{{ m | tojson }}{% endgeneration %}\n{% endfor %}"
    template, trouble = sandbox.compiled(text)
    assert trouble.problem == ""
    assert template is not None
    messages = [{"content": "<é>"}, {"content": "2"}]
    assert sandbox.render(template, messages).text == '{"content": "<é>"}'


def test_messages_are_not_changed_by_a_template() -> None:
    """Each conversation is rendered as it was written."""
    template, _ = sandbox.compiled("{{ messages.pop() }}")
    assert template is not None
    messages = [{"role": "user", "content": "x"}]
    assert sandbox.render(template, messages).problem == "failed"
    assert messages == [{"role": "user", "content": "x"}]


@given(st.text(alphabet="{}%# abcfor in.'\"|()+-*x0\n", max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_as_a_template_gives_an_answer(text: str) -> None:
    """A prompt, or a word for what went wrong; never an exception."""
    template, trouble = sandbox.compiled(text)
    if template is None:
        assert trouble.problem == "syntax"
        return
    result = sandbox.render(template, [{"role": "user", "content": "hi"}])
    assert result.problem in ("", "failed", "refused", "endless", "huge")
