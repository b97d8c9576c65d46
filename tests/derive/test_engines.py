"""The tables of the engines' flags, and what they say of a command."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from diagnose.derive import engine_facts, engine_model, engines
from diagnose.derive.engines import Flag, Table, _Document
from diagnose.facts import describe
from diagnose.model import Fact
from tests.support import ROOT

NAMES = ("vllm", "sglang", "llama-cpp", "tgi", "transformers", "torchrun", "accelerate", "deepspeed")
OWN = Table(
    _Document(
        "x",
        "",
        "",
        ("1.0", "1.1", "1.2", "2.0"),
        "flexible",
        prefixes=("X_",),
        environment={"X_OLD_THING": ":1.1", "X_NEW_THING": "2.0:", "X_ALWAYS_ON": ""},
        names={"architectures": {"A": "", "B": "1.2:", "C": ":1.1"}},
        names_since={"architectures": "1.0"},
        rows=(
            Flag("--max-len", type="size", was={"int": ":1.1"}),
            Flag("--max-seqs", type="int", also={"-s": "1.2:"}),
            Flag("--old", within=":1.1", instead="--max-len"),
            Flag("--young", within="1.2:", type="switch", off={"--no-young": ""}),
            Flag("--kind", choices={"a": "", "b": "1.2:", "c": ":1.0"}, checked="1.1:"),
            Flag("--away", within=":1.0,1.2:"),
            Flag("--stop", refused="2.0:", type="flag"),
        ),
    )
)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_readable_small_and_in_order(name: str) -> None:
    """Every file decodes; its releases rise; spans name releases of it; it stays below 300 kB."""
    path = ROOT / "dataset" / "engines" / f"{name}.json"
    assert path.stat().st_size < 300_000
    found = engines.table("llama.cpp" if name == "llama-cpp" else name)
    assert found is not None
    assert list(found.releases) == sorted(found.releases, key=Version)
    for row in found.flags:
        spans = [row.within, row.spelled, row.checked, row.deprecated, row.refused]
        spans += [*row.also.values(), *row.off.values(), *row.was.values(), *row.choices.values()]
        for run in (run for span in spans if span and span != "all" for run in span.split(",")):
            first, _, last = run.partition(":")
            assert {first, last} - {""} <= set(found.releases), (row.flag, run)
        assert row.type.rstrip("?") in {"flag", "switch", "int", "float", "size", "text", "json"}, row


def test_the_tables_hold_what_everybody_gives() -> None:
    """A few flags per engine, by name and what they take."""
    for engine, flag, name, takes in (
        ("vllm", "-tp", "tensor_parallel_size", "1"),
        ("vllm", "--enforce-eager", "enforce_eager", "0"),
        ("sglang", "--tp", "tp_size", "1"),
        ("llama.cpp", "-ngl", "gpu_layers", "1"),
        ("llama.cpp", "--lora-scaled", "lora_scaled", "1"),
        ("tgi", "--num-shard", "num_shard", "1"),
        ("transformers", "--continuous-batching", "continuous_batching", "0"),
        ("torchrun", "--nproc_per_node", "nproc_per_node", "1"),
        ("accelerate", "--num_processes", "num_processes", "1"),
        ("deepspeed", "--num_gpus", "num_gpus", "1"),
    ):
        table = engines.table(engine)
        assert table is not None
        hit = table.find(flag)
        assert hit is not None, (engine, flag)
        assert (hit.flag.name, hit.flag.takes) == (name, takes)


def test_spans_say_which_releases_have_something() -> None:
    """Open and closed runs, and gaps."""
    assert [OWN.within(":1.1", at) for at in range(4)] == [True, True, False, False]
    assert [OWN.within(":1.0,1.2:", at) for at in range(4)] == [True, False, True, True]
    assert (OWN.since("1.2:"), OWN.until("1.2:"), OWN.until(":1.1")) == ("1.2", "", "1.1")
    assert OWN.place("1.2+cu128") == 2
    assert OWN.place("v2") == OWN.place("2.0") == 3
    assert OWN.place("1.3.dev1") is None
    assert OWN.is_beyond("3.0")
    assert not OWN.is_beyond("1.1.1")


def test_a_missing_or_strange_table_is_none() -> None:
    """A name out of a fact is no path."""
    for name in ("", "nobody", "../compat/vllm", "a/b"):
        assert engines.table(name) is None


def judge(
    monkeypatch: pytest.MonkeyPatch, version: str, *flags: tuple[str, str | None], **more: str
) -> dict[str, object]:
    """What is said of some flags for a release of the small table."""
    monkeypatch.setattr(engines, "table", lambda name: OWN if name == "x" else None)
    monkeypatch.setitem(engine_facts.PACKAGES, "x", "x")
    monkeypatch.setitem(engine_facts.JUDGED, "x", ("x serve",))
    facts = [Fact("engine.name", "x", ""), Fact("launch.program", "x serve", "")]
    facts += [Fact("x.version", version, "")] if version else []
    for number, (flag, value) in enumerate(flags):
        hit = OWN.find(flag)
        facts += [
            Fact(f"launch.given.{number}.flag", flag, "c"),
            Fact(f"launch.given.{number}.name", hit.flag.name if hit else "x", "c"),
        ]
        facts += [Fact(f"launch.given.{number}.value", value, "c")] if value is not None else []
    facts += [Fact(name.replace("__", "."), value, "") for name, value in more.items()]
    return {fact.name.removeprefix("launch."): fact.value for fact in engines.complete(facts)}


def test_unknown_gone_and_too_new_flags_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the release that is installed."""
    assert judge(monkeypatch, "1.1", ("--max-lenn", "1"))["unknown.0.nearest"] == "--max-len"
    assert judge(monkeypatch, "2.0", ("--old", "1"))["gone.0.until"] == "1.1"
    assert judge(monkeypatch, "2.0", ("--old", "1"))["gone.0.instead"] == "--max-len"
    assert judge(monkeypatch, "1.0", ("--young", None))["too_new.0.since"] == "1.2"
    assert judge(monkeypatch, "1.0", ("-s", "3"))["too_new.0.flag"] == "-s"
    assert judge(monkeypatch, "2.0", ("--stop", None))["gone.0.flag"] == "--stop"
    for version in ("1.0", "1.1", "2.0"):
        said = judge(monkeypatch, version, ("--max_len", "5"), ("--max-seqs", "3"))
        assert not [name for name in said if name.startswith(("unknown", "gone", "too_new", "bad", "no_value"))]


def test_values_are_judged_by_the_type_of_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that one release takes another refuses; choices come and go."""
    assert judge(monkeypatch, "1.0", ("--max-len", "16k"))["bad_type.0.value"] == "16k"
    assert "bad_type.0.value" not in judge(monkeypatch, "2.0", ("--max-len", "16k"))
    assert judge(monkeypatch, "1.1", ("--kind", "b"))["bad_choice.0.since"] == "1.2"
    assert judge(monkeypatch, "1.1", ("--kind", "c"))["bad_choice.0.until"] == "1.0"
    assert judge(monkeypatch, "2.0", ("--kind", "A"))["bad_choice.0.nearest"] == "a"
    assert "bad_choice.0.flag" not in judge(monkeypatch, "1.0", ("--kind", "anything"))
    assert judge(monkeypatch, "2.0", ("--max-seqs", None))["no_value.0.flag"] == "--max-seqs"


def test_the_beginning_of_one_flag_is_that_flag_and_of_several_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As argparse does it."""
    assert judge(monkeypatch, "2.0", ("--max", "1"))["ambiguous.0.could_be"] == "--max-len, --max-seqs"
    assert not [
        name for name in judge(monkeypatch, "2.0", ("--max-l", "1")) if name.startswith(("unknown", "ambiguous"))
    ]


def test_a_flag_that_is_gone_may_be_the_beginning_of_another() -> None:
    """--return-hidden-states left SGLang, and its parser takes it for --return-hidden-states-mode now."""
    told = {
        "engine.name": "sglang",
        "launch.program": "sglang serve",
        "sglang.version": "0.5.23",
        "launch.given.0.flag": "--return-hidden-states",
        "launch.given.0.name": "return_hidden_states",
    }
    found = {fact.name for fact in engine_facts.complete(Fact(name, value, "test") for name, value in told.items())}
    assert "engine.release" in found
    assert "launch.gone.0.flag" not in found


def test_without_a_release_the_newest_judges_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken for certain that is not."""
    said = judge(monkeypatch, "", ("--old", "1"))
    assert said["engine.release_assumed"] == "2.0"
    assert said["gone.0.until"] == "1.1"
    assert "engine.release" not in said


def test_a_newer_release_than_the_table_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that no table knows may be new; a build between two releases lacks only what none has."""
    said = judge(monkeypatch, "9.0", ("--newest", "1"), ("--old", "1"))
    assert set(said) == {"engine.release_unknown", "engine.judged", "engine_version"}
    said = judge(monkeypatch, "1.3.dev1", ("--newest", "1"), ("--old", "1"))
    assert "unknown.0.flag" in said
    assert not [name for name in said if name.startswith(("gone", "too_new"))]


def test_variables_are_judged_like_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """Misspelt, gone and too new; a name that is like none is somebody's own."""
    said = judge(
        monkeypatch, "2.0", launch__env__X_ALWAYZ_ON="1", launch__env__X_OLD_THING="1", env__X_SERVICE_HOST="1"
    )
    assert said["variable_unknown.0.nearest"] == "X_ALWAYS_ON"
    assert said["variable_gone.1.until"] == "1.1"
    assert not [name for name in said if name.startswith("variable_unknown.1")]
    assert judge(monkeypatch, "1.0", launch__env__X_NEW_THING="1")["variable_too_new.0.since"] == "2.0"


def test_variables_that_were_read_before_they_were_declared_are_not_too_new() -> None:
    """SGLang declares its variables in one place since 0.5.3, and moved some there later that it had always read."""
    told = {
        "engine.name": "sglang",
        "launch.program": "sglang serve",
        "sglang.version": "0.5.5",
        "launch.env.SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT": "600",
    }
    found = {fact.name for fact in engine_facts.complete(Fact(name, value, "test") for name, value in told.items())}
    assert not [name for name in found if name.startswith("launch.variable_")]


def test_variables_that_another_module_reads_are_not_gone() -> None:
    """VLLM_MORIIO_NUM_WORKERS left vLLM's list after 0.22.1 and is read by the connector itself."""
    table = engines.table("vllm")
    assert table is not None
    assert "VLLM_MORIIO_NUM_WORKERS" in table.document.read_elsewhere


@pytest.mark.parametrize("version", ["0.10.2", "0.14.0", "0.19.1", "0.25.1", "0.33.0"])
@pytest.mark.parametrize("flag", ["--max-num-batched-tokens", "--kv-cache-memory-bytes", "--max-model-len"])
def test_vllm_takes_short_numbers_in_every_release_since(flag: str, version: str) -> None:
    """16k for a number of tokens or bytes: each release since 0.10.1 reads it, however its source lists the flags."""
    table = engines.table("vllm")
    assert table is not None
    at = table.place(version)
    hit = table.find(flag, at)
    assert at is not None
    assert hit is not None
    assert engine_facts.fits(table.kind(hit.flag, at)[0], "16k", table.style)


@pytest.mark.parametrize(("name", "value"), [("quantization", "ascend"), ("load_format", "netloader")])
def test_names_that_plugins_add_are_not_called_wrong(name: str, value: str) -> None:
    """Packages beside vLLM register methods of their own; a word that neither vLLM nor a known plugin has is told."""
    for text, wrong in ((value, False), ("nonesuch", True)):
        told = {
            "engine.name": "vllm",
            "launch.program": "vllm serve",
            "vllm.version": "0.33.0",
            "launch.given.0.flag": "--" + name.replace("_", "-"),
            "launch.given.0.name": name,
            "launch.given.0.value": text,
        }
        found = {fact.name for fact in engine_facts.complete(Fact(key, value, "test") for key, value in told.items())}
        assert ("launch.bad_choice.0.value" in found) is wrong


def test_flags_that_may_stand_in_a_variable_are_not_missing() -> None:
    """`vllm serve m --enable-eplb $EXTRA`: the flag that it needs may be in $EXTRA."""
    told: dict[str, str | bool] = {
        "engine.name": "vllm",
        "launch.program": "vllm serve",
        "vllm.version": "0.12.0",
        "launch.arg.enable_eplb": "true",
    }
    alone = [Fact(name, value, "test") for name, value in told.items()]
    assert "launch.needs.0.flag" in {fact.name for fact in engine_facts.complete(alone)}
    more = [*alone, Fact("launch.more_words", True, "test")]
    assert "launch.needs.0.flag" not in {fact.name for fact in engine_facts.complete(more)}


def test_architectures_are_known_since_and_until(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's class against the release's list."""
    assert judge(monkeypatch, "1.0", model__architecture="A")["engine.architecture_known"] is True
    assert judge(monkeypatch, "1.0", model__architecture="B")["engine.architecture_since"] == "1.2"
    assert judge(monkeypatch, "2.0", model__architecture="C")["engine.architecture_until"] == "1.1"
    assert judge(monkeypatch, "2.0", model__architecture="Z")["engine.architecture_ever"] is False


@pytest.mark.parametrize(
    ("asked", "stored", "name", "value"),
    [
        ("awq", "gptq", "launch.quantization_fits", False),
        ("awq_marlin", "awq", "launch.quantization_fits", True),
        ("gptq", "none", "launch.quantization_without_checkpoint", "gptq"),
        ("fp8", "none", "launch.quantization_without_checkpoint", None),
        ("moe_wna16", "gptq", "launch.quantization_fits", None),
        ("awq", "somebody's", "launch.quantization_fits", None),
    ],
)
def test_a_method_that_is_not_the_checkpoints_is_told(asked: str, stored: str, name: str, value: object) -> None:
    """Methods of one family read the same weights; of others nothing is said."""
    facts = [
        Fact("engine.name", "vllm", ""),
        Fact("launch.program", "vllm serve", ""),
        Fact("launch.quantization", asked, ""),
        Fact("model.quantization", stored, ""),
    ]
    assert {fact.name: fact.value for fact in engines.complete(facts)}.get(name) == value


@given(st.sampled_from(["int", "float", "size", "int?", "text", "json"]), st.text(max_size=10))
def test_a_number_that_python_reads_is_never_called_wrong(kind: str, text: str) -> None:
    """What `int` and `float` take, the judge takes."""
    reads = {"int": int, "float": float, "size": int, "int?": int}.get(kind)
    try:
        if reads is None:
            raise TypeError
        reads(text)
    except (ValueError, TypeError):
        return
    assert engine_facts.fits(kind, text, "argparse") or not text.isascii()


def test_keys_of_json_are_judged_where_the_engine_refuses_others() -> None:
    """A key that SpeculativeConfig does not have is told with the nearest, also as `--flag.key`."""
    for keys, expected in (("method,num_tokens", "num_tokens"), ("method,num_speculative_tokens", None)):
        facts = [
            Fact("engine.name", "vllm", ""),
            Fact("launch.program", "vllm serve", ""),
            Fact("vllm.version", "0.12.0", ""),
            Fact("launch.given.0.flag", "--speculative-config", "c"),
            Fact("launch.given.0.name", "speculative_config", "c"),
            Fact("launch.given.0.value", "{}", "c"),
            Fact("launch.given.0.keys", keys, "c"),
        ]
        assert {fact.name: fact.value for fact in engines.complete(facts)}.get("launch.json_key.0.key") == expected


def test_flags_that_go_to_another_program_are_not_judged() -> None:
    """vLLM-Omni and SGLang's server for diffusion models have flags of their own."""
    for engine, first, value in (("vllm", "--omni", None), ("sglang", "--model-type", "diffusion")):
        facts = [Fact("engine.name", engine, ""), Fact("launch.program", f"{engine} serve", "")]
        facts += [Fact("launch.given.0.flag", first, ""), Fact("launch.given.0.name", first[2:].replace("-", "_"), "")]
        facts += [Fact("launch.given.0.value", value, "")] if value else []
        facts += [Fact("launch.given.1.flag", "--nobody-knows", ""), Fact("launch.given.1.name", "nobody_knows", "")]
        assert not [fact for fact in engines.complete(facts) if fact.name.startswith("launch.unknown")]
        assert [fact for fact in engines.complete(facts[:2] + facts[-2:]) if fact.name.startswith("launch.unknown")]


def test_what_for_names_is_judged_without_a_command() -> None:
    """A model against the engine that is to run it."""
    facts = [
        Fact("wanted.name", "vllm", ""),
        Fact("vllm.version", "0.8.0", ""),
        Fact("model.architecture", "Qwen3ForCausalLM", ""),
    ]
    assert {fact.name: fact.value for fact in engines.complete(facts)}["engine.architecture_since"] == "0.8.4"


def test_relations_name_flags_that_the_tables_have() -> None:
    """Every pair is of flags that the engine has had, and its span of its releases."""
    rows = engine_model.relations()
    assert len(rows) > 10
    for row in rows:
        table = engines.table(row.engine)
        assert table is not None
        for name in (row.flag, row.needs, row.excludes):
            assert not name or table.find("--" + name.replace("_", "-")) is not None, row
        assert all(part in ("", *table.releases) for run in row.within.split(",") for part in run.split(":")), row


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "launch.given.0.flag",
                "launch.given.0.value",
                "launch.given.0.name",
                "vllm.version",
                "launch.engine_version",
                "launch.quantization",
                "model.quantization",
                "model.architecture",
                "env.VLLM_X",
                "launch.env.VLLM_USE_V1",
                "launch.arg.enable_eplb",
                "launch.tool_parser",
            ]
        ),
        st.text(max_size=12),
    )
)
def test_any_facts_are_judged(told: dict[str, str]) -> None:
    """Nothing is raised, nothing known is told again, and every name is in the catalogue."""
    facts = [
        Fact("engine.name", "vllm", ""),
        Fact("launch.program", "vllm serve", ""),
        *(Fact(n, v, "") for n, v in told.items()),
    ]
    found = engines.complete(facts)
    assert not {fact.name for fact in found} & {fact.name for fact in facts}
    for fact in found:
        assert describe(fact.name) is not None, fact.name
        assert fact.origin == "dataset/engines/vllm.json"


def test_tables_are_what_the_command_writes() -> None:
    """Each file is JSON with its source and the day it was read."""
    for name in NAMES:
        told = json.loads((ROOT / "dataset" / "engines" / f"{name}.json").read_text("utf-8"))
        assert told["source"]
        assert told["read"].count("-") == 2
