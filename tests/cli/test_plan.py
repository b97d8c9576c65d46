"""`llmdoctor plan` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diagnose.cli.plan import of_facts, run
from diagnose.errors import InputError
from diagnose.plan import Wish
from tests.test_memory import LLAMA_3_8B


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A model's folder with a config and no weights."""
    made = tmp_path / "Llama-3-8B"
    made.mkdir()
    (made / "config.json").write_text(json.dumps({**LLAMA_3_8B, "max_position_embeddings": 8192}))
    return str(made)


def test_what_fits_ends_with_0_and_its_command(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Llama 3 8B on an H100."""
    assert run(folder, Wish(context=8192, concurrency=8), "H100-80GB") == 0
    told = capsys.readouterr().out
    assert "fits on H100" in told
    assert f"vllm serve {folder}" in told.replace("\n", " ")


def test_what_does_not_fit_ends_with_1(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And says what would."""
    assert run(folder, Wish(context=8192), "T4", 1) == 1
    assert "It would fit if you" in capsys.readouterr().out


def test_what_cannot_be_told_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without anything to go by."""
    (tmp_path / "config.json").write_text('{"model_type": "newllm", "hidden_size": 64, "ssm_cfg": {"d": 1}}')
    assert run(str(tmp_path), Wish(), "H100") == 2
    assert "not known" in capsys.readouterr().out


def test_json_is_one_object(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For machines."""
    run(folder, Wish(context=1024), "2xRTX4090", 0, "json")
    told = json.loads(capsys.readouterr().out)
    assert told["fits"] is True
    assert len(told["cards"]) == 2


@pytest.mark.parametrize(
    ("wish", "gpu"),
    [
        (Wish(engine="exllama"), "H100"),
        (Wish(cache_dtype="turbo9"), "H100"),
        (Wish(optimizer="magic"), "H100"),
        (Wish(quantization="int3"), "H100"),
        (Wish(context=-1), "H100"),
        (Wish(utilization=1.5), "H100"),
        (Wish(), "H10"),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(folder: str, wish: Wish, gpu: str) -> None:
    """Never a traceback, never a guess."""
    with pytest.raises(InputError):
        run(folder, wish, gpu)


def test_a_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With why."""
    with pytest.raises(InputError, match="nothing-here"):
        run(str(tmp_path / "nothing-here"), Wish(), "H100")


def test_optimizers_are_spelt_either_way(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    """adamw-8bit is adamw_8bit."""
    assert run(folder, Wish(tune="lora", optimizer="adamw-8bit", context=512), "H100") == 0
    assert "adamw_8bit" in capsys.readouterr().out


def test_cards_of_a_machine_come_in_their_order() -> None:
    """The tenth after the ninth; odd values are no cards."""
    told: dict[str, Any] = {f"gpu.{index}.memory": (8 + index) << 30 for index in (10, 2, 0)}
    told |= {"gpu.1.memory": "much", "gpu.3.memory": True, "gpu.2.name": "NVIDIA L4"}
    assert [card.memory >> 30 for card in of_facts(told)] == [8, 10, 18]
    assert [card.name for card in of_facts(told, 2)] == ["GPU", "NVIDIA L4"]


def test_a_gguf_file_is_planned_for_llama_cpp(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever engine was the default."""
    file = Path(__file__).parents[1] / "models" / "folders" / "gguf" / "tiny-q8.gguf"
    assert run(str(file), Wish(context=64), "24GB") == 0
    assert "llama-server -m" in capsys.readouterr().out
