"""A fact tells the line of the key that it was read from."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Fact
from diagnose.sources import checkpoint
from diagnose.sources.checkpoint.lines import lines_in
from tests.sources.checkpoint.folders import llama


def test_facts_of_a_config_have_their_lines(tmp_path: Path) -> None:
    """The first line of the key, and none where the file has only one."""
    value = llama(num_key_value_heads=3, rope_scaling={"rope_type": "yarn"}, hidden_size="64")
    (tmp_path / "config.json").write_text(json.dumps(value, indent=2))
    text = (tmp_path / "config.json").read_text().split("\n")
    facts = {r.name: r for r in checkpoint.read(str(tmp_path), {}, "/") if isinstance(r, Fact)}
    for name, key in (
        ("model.kv_heads", "num_key_value_heads"),
        ("model.kv_heads_divide", "num_key_value_heads"),
        ("rope.missing", "rope_scaling"),
        ("config.wrong.0.key", "hidden_size"),
        ("model.type", "model_type"),
    ):
        assert f'"{key}"' in text[facts[name].line - 1], name
    (tmp_path / "config.json").write_text(json.dumps(value))
    facts = {r.name: r for r in checkpoint.read(str(tmp_path), {}, "/") if isinstance(r, Fact)}
    assert facts["model.kv_heads"].line == 0


@given(
    st.lists(
        st.sampled_from(['"a": 1,', '"b" : {', "}", '"a"', '"c\\"": 2', "x" * 20, '{"d": 1, "a": 2}', '"é":']),
        max_size=12,
    )
)
def test_a_line_holds_its_key(parts: list[str]) -> None:
    """Whatever the text is, JSON or not."""
    for key, line in lines_in("\n".join(parts)).items():
        assert f'"{key}"' in parts[line - 1]
