"""What is said of tokenizers and templates, beside what transformers does with the same folders."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from diagnose.model import Fact
from diagnose.sources import tokenizer
from diagnose.sources.tokenizer import files, sandbox, special, template, vocabulary
from diagnose.sources.tokenizer.conversations import ANSWER, CONVERSATIONS, Conversation
from diagnose.sources.tokenizer.encoding import TEXTS

transformers = pytest.importorskip("transformers", reason="transformers is not installed here")
pytestmark = pytest.mark.real

TINY = Path(__file__).parent.parent / "models" / "folders"
PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "corpus" / "model_folders"
REBUILT = ("LlamaTokenizer", "GemmaTokenizer")
"""Classes of transformers 5 that build steps of their own in place of the file's: blanks at the front become other
tokens, and a token <mask> is added."""
ANSWERED = Conversation("answered", (CONVERSATIONS[0].messages[0], {"role": "assistant", "content": ANSWER}), {})


def _folders() -> list[Path]:
    """Folders of models with a tokenizer that can be loaded: tiny ones, and published ones where they are."""
    found = [path.parent for top in (TINY, PUBLISHED) for path in sorted(top.glob("*/tokenizer_config.json"))]
    return [
        path for path in found if (path / "tokenizer.json").exists() and (path / "tokenizer.json").stat().st_size > 1000
    ]


def _templates() -> list[Path]:
    """Folders with a template, of any depth: published ones often come without the vocabulary."""
    found = [path.parent for top in (TINY, PUBLISHED) for path in sorted(top.rglob("tokenizer_config.json"))]
    return [path for path in found if template.find(files.look(str(path), path.name)).chosen is not None]


def _name(path: Path) -> str:
    return path.name if path.name != "tokenizer" else path.parent.name


@pytest.mark.parametrize("folder", _templates(), ids=_name)
def test_prompts_are_those_of_transformers(folder: Path) -> None:
    """Every conversation, with and without the head of an answer: the same text, or an error in both."""
    render = import_module("transformers.utils.chat_template_utils").render_jinja_template
    known = files.look(str(folder), folder.name)
    source = template.find(known).chosen
    assert source is not None
    names = {key: written.text for key, written in special.named(known, vocabulary.gather(known)).items()}
    marks = template.marks_of(known, names, ())
    ours, trouble = sandbox.compiled(source.text)
    assert ours is not None, trouble
    for conversation in (*CONVERSATIONS, ANSWERED):
        for head in (True, False):
            tools: Any = list(conversation.tools) or None
            result = sandbox.render(
                ours, conversation.messages, tools=tools, add_generation_prompt=head, **marks.special
            )
            text, error = _rendered(render, source.text, conversation, tools, head, marks.special)
            if error:
                assert result.problem in ("refused", "failed"), (conversation.name, error)
                assert error[:100] in result.message
            else:
                assert result.problem == ""
                assert result.text == text or result.asked_time, conversation.name


def _rendered(
    render: Any, source: str, conversation: Conversation, tools: Any, head: bool, tokens: dict[str, str]
) -> tuple[str, str]:
    """The prompt of transformers, or what it raised."""
    messages = list(conversation.messages)
    try:
        texts, _ = render([messages], tools=tools, chat_template=source, add_generation_prompt=head, **tokens)
    except Exception as error:
        return "", str(error)
    return str(texts[0]), ""


@pytest.mark.parametrize("folder", _folders(), ids=_name)
def test_special_tokens_ids_and_prompts_are_those_of_transformers(folder: Path) -> None:
    """Texts and ids of special tokens, the size of the vocabulary, and how many tokens a prompt has."""
    real = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    told = {
        reading.name: reading.value
        for reading in tokenizer.read_folder(str(folder), folder.name, folder.name)
        if isinstance(reading, Fact)
    }
    for name in ("eos", "bos", "pad", "unk"):
        text = told.get(f"special.{name}.text")
        if text is not None and name != "unk":
            assert getattr(real, f"{name}_token") == text
            assert getattr(real, f"{name}_token_id") == told[f"special.{name}.id"]
    rebuilt = type(real).__name__ in REBUILT
    assert len(real.get_vocab()) - int(told["tokenizer.vocab_size"]) in ((0, 1) if rebuilt else (0,))
    if "template.prompt_tokens" in told and "template.asks_time" not in told and told["template.content"] != "parts":
        ids = real.apply_chat_template(list(CONVERSATIONS[0].messages), add_generation_prompt=True)["input_ids"]
        assert abs(int(told["template.prompt_tokens"]) - len(ids)) <= (1 if rebuilt else 0)


@pytest.mark.parametrize("folder", _folders(), ids=_name)
def test_texts_become_the_tokens_of_transformers(folder: Path) -> None:
    """The tokenizers library here and the class of transformers there: the same ids of ten kinds of text."""
    from tokenizers import Tokenizer

    real = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for name, text in TEXTS.items():
        if name == "blanks" and type(real).__name__ in REBUILT:
            continue
        assert ours.encode(text, add_special_tokens=False).ids == real.encode(text, add_special_tokens=False), name
