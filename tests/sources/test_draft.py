"""The draft model is found and its config read; what is not there or broken is said to be."""

from __future__ import annotations

from pathlib import Path

from diagnose.model import Fact, Unchecked
from diagnose.sources import draft


def told(name: str, folder: Path) -> tuple[dict[str, object], list[str]]:
    readings = list(draft.read(name, {"HOME": str(folder)}, str(folder)))
    facts = {item.name: item.value for item in readings if isinstance(item, Fact)}
    return facts, [item.why for item in readings if isinstance(item, Unchecked)]


def test_a_folder_is_read(tmp_path: Path) -> None:
    """Kind, architecture and vocabulary of its config.json."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.json").write_text(
        '{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "vocab_size": 151936, "hidden_size": 8, "num_hidden_layers": 1}'
    )
    facts, unchecked = told("./small", tmp_path)
    assert (facts["draft.type"], facts["draft.architecture"], facts["draft.vocab_size"]) == (
        "qwen2",
        "Qwen2ForCausalLM",
        151936,
    )
    assert not unchecked
    assert "draft.problem" not in facts


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A path that leads nowhere, an id that is not cached, and a config that is no object."""
    assert told("./gone", tmp_path)[0]["draft.problem"] == "no-such-path"
    assert told("some/body", tmp_path)[0]["draft.problem"] == "not-cached"
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("[1, 2")
    facts, unchecked = told("./bad", tmp_path)
    assert "draft.vocab_size" not in facts
    assert unchecked
    (tmp_path / "bad" / "config.json").write_text('{"vocab_size": "many", "architectures": [3], "model_type": 7}')
    assert set(told("./bad", tmp_path)[0]) == {"draft.asked"}
