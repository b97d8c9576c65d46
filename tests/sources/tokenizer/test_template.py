"""The chat template: where it is, and what becomes of conversations in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sources.tokenizer.made import CHATML, Value, config, facts, folder


def told(path: Path, template: str, **others: Any) -> dict[str, Value]:
    """The facts of a folder whose template is this."""
    return facts(folder(path, tokenizer_config_json=config(chat_template=template, **others)))


def test_a_template_that_does_everything_is_told_as_it_is(tmp_path: Path) -> None:
    """System and turns come through, the head of an answer is added, and the end of a turn is known."""
    found = facts(folder(tmp_path))
    assert found["template.source"] == "tokenizer_config.json"
    assert found["template.system"] == "used"
    assert found["template.loses"] == "nothing"
    assert found["template.tools"] == "dropped"
    assert found["template.generation_prompt"] == "<|im_start|>assistant"
    assert found["template.generation_prompt_ignored"] is False
    assert found["template.turn_end"] == "<|im_end|>"
    assert found["template.turn_end_stops"] == "everywhere"
    assert found["template.think_prefilled"] is False
    assert "template.case.plain.result" not in found


def test_the_file_of_its_own_goes_first_and_a_difference_is_told(tmp_path: Path) -> None:
    """chat_template.jinja counts; what tokenizer_config.json has instead is older."""
    found = facts(folder(tmp_path, chat_template_jinja=CHATML + "x"))
    assert found["template.source"] == "chat_template.jinja"
    assert found["template.older_source"] == "tokenizer_config.json"
    assert found["template.older_differs"] is True
    assert facts(folder(tmp_path, chat_template_jinja=CHATML + "\n"))["template.older_differs"] is False


def test_several_templates_have_names(tmp_path: Path) -> None:
    """A list in tokenizer_config.json, a folder of files; one of them has to be the default."""
    listed = [
        {"name": "default", "template": CHATML},
        {"name": "tool_use", "template": CHATML + "{{ tools[0].function.name }}"},
    ]
    found = facts(folder(tmp_path, tokenizer_config_json=config(chat_template=listed)))
    assert found["template.names"] == "default, tool_use"
    assert found["template.tools"] == "used"
    found = facts(folder(tmp_path, tokenizer_config_json=config(chat_template=listed[1:] + listed[1:])))
    assert found["template.default_missing"] is True
    made = folder(tmp_path, tokenizer_config_json=config(chat_template=None))
    (made / "additional_chat_templates").mkdir()
    (made / "additional_chat_templates" / "rag.jinja").write_text(CHATML)
    (made / "additional_chat_templates" / "tool_use.jinja").write_text(CHATML)
    assert facts(made)["template.default_missing"] is True


def test_no_template_and_an_empty_one_are_not_the_same(tmp_path: Path) -> None:
    """None is how base models come; an empty one makes empty prompts."""
    assert facts(folder(tmp_path, tokenizer_config_json=config(chat_template=None)))["template.source"] == "none"
    assert told(tmp_path, "  ")["template.empty"] is True


def test_a_mistake_of_syntax_has_its_line(tmp_path: Path) -> None:
    """What Jinja says, and where."""
    found = told(tmp_path, "{% for m in messages %}\n{{ m.content }\n{% endfor %}")
    assert "unexpected '}'" in str(found["template.syntax_error"])
    assert found["template.syntax_line"] == 2
    assert "template.system" not in found


@pytest.mark.parametrize(
    ("template", "name", "result", "message", "line"),
    [
        ("{{ messages[0].content + eos_tokn }}", "plain", "failed", "UndefinedError: 'eos_tokn' is undefined", 1),
        ("\n{{ raise_exception('No, ' + messages[0].role) }}", "plain", "refused", "No, user", 2),
        (CHATML + "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}", "system", "refused", "no system", 1),
        (CHATML + "{% if messages|length > 2 %}\n{{ messages[1].thoughts.text }}{% endif %}", "turns", "failed", "'thoughts'", 2),
    ],
)  # fmt: skip
def test_what_a_template_raises_is_told_with_the_conversation(
    tmp_path: Path, template: str, name: str, result: str, message: str, line: int
) -> None:
    """Raised by itself (refused) or by accident (failed), with the template's line."""
    found = told(tmp_path, template)
    assert found[f"template.case.{name}.result"] == result
    assert message in str(found[f"template.case.{name}.message"])
    assert found[f"template.case.{name}.line"] == line


def test_texts_that_are_left_out_are_told(tmp_path: Path) -> None:
    """A system message that is dropped, earlier turns that are lost, content read under another key."""
    last = "{% for m in messages[-1:] %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    found = told(tmp_path, last)
    assert found["template.system"] == "dropped"
    assert found["template.loses"] == "first-user, assistant"
    assert told(tmp_path, "{% for m in messages %}{{ m.text }}{% endfor %}")["template.loses"] != "nothing"


def test_content_in_parts_is_no_loss(tmp_path: Path) -> None:
    """Templates of models with images take lists of parts; their text must come out of those."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}{% if part.type == 'text' %}"
        "{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    )
    found = told(tmp_path, template)
    assert found["template.content"] == "parts"
    assert found["template.loses"] == "nothing"
    assert found["template.system"] == "used"
    both = CHATML.replace(
        "message['content']", "(message.content if message.content is string else message.content[0].text)"
    )
    assert told(tmp_path, both)["template.content"] == "both"


def test_an_ignored_generation_prompt_is_told_only_where_answers_have_a_head(tmp_path: Path) -> None:
    """Where answers follow at once, as behind [/INST], nothing has to be added."""
    found = told(tmp_path, CHATML.partition("{% if add_generation_prompt")[0])
    assert found["template.generation_prompt_ignored"] is True
    assert found["template.answer_head"] == "<|im_start|>assistant"
    inst = "{% for m in messages %}{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else ' ' + m.content + eos_token }}{% endfor %}"
    assert told(tmp_path, inst)["template.generation_prompt_ignored"] is False


@pytest.mark.parametrize(
    ("generation", "eos", "place"),
    [
        ({"eos_token_id": [260, 258]}, "<|im_end|>", "everywhere"),
        ({"eos_token_id": 258}, "<|im_end|>", "engines"),
        ({"eos_token_id": 258}, "<|endoftext|>", "nowhere"),
        ({"eos_token_id": [258, 260]}, "<|endoftext|>", "everywhere"),
    ],
)
def test_who_stops_at_the_end_of_a_turn_is_told(
    tmp_path: Path, generation: dict[str, Any], eos: str, place: str
) -> None:
    """generate() goes by the ids of generation_config.json, engines by the tokenizer's eos as well."""
    files = {"generation_config_json": generation, "tokenizer_config_json": config(eos_token=eos)}
    assert facts(folder(tmp_path, **files))["template.turn_end_stops"] == place


def test_where_an_adapter_stops_is_its_base_s_to_say(tmp_path: Path) -> None:
    """Without a config nothing is known of what ends an answer."""
    files = {"config_json": None, "generation_config_json": None, "tokenizer_config_json": config(eos_token="<|endoftext|>")}  # fmt: skip
    assert "template.turn_end_stops" not in facts(folder(tmp_path, **files))


def test_the_token_that_begins_a_text_is_counted(tmp_path: Path) -> None:
    """Printed once, or twice."""
    begin = {"bos_token": "<|endoftext|>"}
    assert told(tmp_path, "{{ bos_token }}" + CHATML, **begin)["template.prints_bos"] is True
    assert told(tmp_path, "{{ bos_token + bos_token }}" + CHATML, **begin)["template.bos_twice"] is True
    found = told(tmp_path, CHATML, **begin)
    assert (found["template.prints_bos"], found["template.bos_twice"]) == (False, False)


def test_thoughts_and_time_and_tags_are_told(tmp_path: Path) -> None:
    """A prompt that opens thoughts, a switch for them, the date, the tag for training."""
    opened = CHATML.replace("assistant\\n", "assistant\\n<think>\\n") + "{# </think> #}"
    assert told(tmp_path, opened)["template.think_prefilled"] is True
    assert told(tmp_path, opened)["template.reasoning_format"] == "think"
    switch = CHATML + "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    assert told(tmp_path, switch)["template.thinking_switch"] is True
    assert told(tmp_path, CHATML + "{{ strftime_now('%d %b %Y') }}")["template.asks_time"] is True
    tagged = CHATML.replace(
        "{{ '<|im_start|>' + message['role']", "{% generation %}{% endgeneration %}{{ '<|im_start|>' + message['role']"
    )
    found = told(tmp_path, tagged)
    assert found["template.generation_tag"] is True
    assert "template.syntax_error" not in found


def test_a_call_and_its_result_are_tried(tmp_path: Path) -> None:
    """A template that shows tools has to show what they answered."""
    tools = "{% if tools %}{{ tools | tojson }}{% endif %}"
    calls = "{% for m in messages %}{% if m.role != 'tool' %}{{ m.content }}{% endif %}{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}"
    found = told(tmp_path, tools + calls)
    assert (found["template.tools"], found["template.tool_result"]) == ("used", "dropped")


def test_a_new_answer_that_is_always_begun_is_told(tmp_path: Path) -> None:
    """Also behind an answer, where none is asked for."""
    always = CHATML.replace("{% if add_generation_prompt %}", "").removesuffix("{% endif %}")
    assert told(tmp_path, always)["template.generation_prompt_always"] is True
    assert facts(folder(tmp_path))["template.generation_prompt_always"] is False


def test_a_control_token_that_was_misspelt_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    """A bar that was lost; marks of another kind are no misspelling."""
    found = told(tmp_path, CHATML.replace("<|im_end|>", "<|im_end>"))
    assert (found["template.misspelt"], found["template.meant"]) == ("<|im_end>", "<|im_end|>")
    assert "template.misspelt" not in told(tmp_path, CHATML.replace("<|im_end|>", "<|user|>"))


def test_answers_without_an_end_are_told(tmp_path: Path) -> None:
    """Nothing behind the answer, or what begins the next turn, which may be what a model stops at."""
    bare = "{% for m in messages %}{{ '[INST] ' + m.content + ' [/INST] ' if m.role == 'user' else m.content }}{% endfor %}"
    assert told(tmp_path, bare)["template.turn_end"] == "none"
    heads = "{% for m in messages %}{{ ('<|im_start|>' if m.role == 'user' else '') + m.content }}{% endfor %}"
    assert told(tmp_path, heads)["template.turn_end"] == "none"
    setup = {
        "tokenizer_config_json": config(chat_template=heads),
        "generation_config_json": {"eos_token_id": [258, 259]},
    }
    assert facts(folder(tmp_path, **setup))["template.turn_end"] == "<|im_start|>"


def test_arguments_of_a_call_may_be_text(tmp_path: Path) -> None:
    """Some templates join them as JSON text; a call with an object in its place is no fault of theirs."""
    joined = (
        "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.content }}"
        "{% for call in m.tool_calls or [] %}{{ call.function.name + call.function.arguments }}{% endfor %}{% endfor %}"
    )
    assert told(tmp_path, joined)["template.tool_result"] == "used"
