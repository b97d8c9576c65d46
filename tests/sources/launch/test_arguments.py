"""Arguments → flags with their values, by the engine's table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from diagnose.derive.engines import Flag, Table, table
from diagnose.sources.launch.arguments import read, straight
from diagnose.sources.launch.shell import words_of


def told(text: str, engine: str = "vllm") -> list[tuple[str, str]]:
    """Name and value of each flag."""
    return [(one.name, one.value) for one in read(words_of(text.split()), table(engine)).given]


def test_aliases_have_the_canonical_name() -> None:
    """`-tp`, underscores, equals signs and beginnings of a flag are all the same flag."""
    for text in ("-tp 2", "-tp=2", "--tensor_parallel_size 2", "--tensor-parallel-size=2", "--tensor-par 2"):
        assert told(text) == [("tensor_parallel_size", "2")]


def test_switches_take_no_word() -> None:
    """A word behind a switch belongs to no flag; `--no-` switches off."""
    found = read(words_of(["m", "--enforce-eager", "true", "--no-enable-prefix-caching"]), table("vllm"))
    assert [(one.name, one.value) for one in found.given] == [
        ("enforce_eager", "true"),
        ("enable_prefix_caching", "false"),
    ]
    assert [(stray.word.text, stray.after) for stray in found.others] == [("m", ""), ("true", "--enforce-eager")]


def test_dotted_keys_and_optimization_levels_belong_to_their_flags() -> None:
    """vLLM takes `--compilation-config.mode 3` and `-O3`."""
    found = read(words_of(["--compilation-config.cudagraph_mode", "NONE", "-O3"]), table("vllm")).given
    assert (found[0].name, found[0].key, found[0].value) == ("compilation_config", "cudagraph_mode", "NONE")
    assert found[1].flag == "-O"
    assert found[1].value == "3"


def test_flags_with_many_values_take_all_up_to_the_next_flag() -> None:
    """argparse's nargs='+' is told by the table."""
    assert told("--lora-modules a=1 b=2 --port 8000") == [("lora_modules", "a=1 b=2"), ("port", "8000")]


def test_negative_numbers_are_values() -> None:
    """`-1` is no flag, and llama.cpp takes whatever follows."""
    assert told("--max-model-len -1") == [("max_model_len", "-1")]
    assert told("--seed -1 -ngl 99", "llama-cpp") == [("seed", "-1"), ("gpu_layers", "99")]


def test_a_flag_of_llama_cpp_is_no_value_of_another() -> None:
    """`-fa` stood alone in older releases; the flag behind it is still a flag."""
    assert told("-fa -hf a/b", "llama-cpp") == [("flash_attn", "true"), ("hf_repo", "a/b")]


def test_an_unknown_flag_takes_the_next_word_unless_that_is_a_flag() -> None:
    """Nothing is known of it, so that the usual is taken for it."""
    assert told("--nobody-knows 3 --me-neither --port 1") == [
        ("nobody_knows", "3"),
        ("me_neither", "true"),
        ("port", "1"),
    ]


def test_long_dashes_are_read_as_two_hyphens() -> None:
    """A dash out of a chat is read as the flag that was meant; other words keep their dashes."""
    assert straight("—port") == "--port"
    assert straight("–tp") == "--tp"
    assert straight("-tp") == "-tp"
    assert straight("a–b") == "a–b"
    assert straight("—") == "—"


@given(st.lists(st.text(max_size=8), max_size=12), st.sampled_from(["argparse", "flexible", "llama", "typer"]))
def test_any_words_are_read(some: list[str], style: str) -> None:
    """No list of words raises anything or is read for ever; every word is told once at most."""
    from diagnose.derive.engines import _Document

    own = Table(
        _Document("x", "", "", ("1.0",), style, rows=(Flag("--a"), Flag("--b", type="flag"), Flag("--c", many="+")))
    )
    found = read(words_of(some), own)
    assert len(found.given) + len(found.others) <= len(some)
