"""What the tables tell of the versions found: only what they hold, each with its source, and nothing that is a guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from diagnose.derive import compat
from diagnose.derive.compat import complete
from diagnose.facts import describe
from diagnose.match import match
from diagnose.model import Case, Fact
from diagnose.rules import survey_rules
from diagnose.ruleset import compile_rules
from tests.support import ROOT, TAXONOMY

FOLDER = ROOT / "dataset" / "compat"
TABLES = sorted(path for path in FOLDER.glob("*.json") if path.name != "gpus.json")
FAMILIES = ["compat-cuda", "compat-torch", "compat-transformers", "compat-engines"]
KNOWLEDGE = ROOT.parent / "shared" / "knowledge" / "compat"


def told(**given: str | int | bool) -> dict[str, Any]:
    """What follows from facts; `__` stands for a dot."""
    return after({name.replace("__", "."): value for name, value in given.items()})


def after(facts: dict[str, Any]) -> dict[str, Any]:
    return {fact.name: fact.value for fact in complete([Fact(name, value, "test") for name, value in facts.items()])}


def table(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return read


# --- the tables


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_row_says_where_it_is_from(path: Path) -> None:
    """Each table is dated, and each row (of model types: the table) names the file or page that it was read in."""
    read = json.loads(path.read_text("utf-8"))
    assert read["read"] >= "2026-11-01"
    assert read["rows"]
    if path.stem == "model_types":
        assert read["source"]
        assert Version(read["oldest"]) < Version(read["newest"])
    else:
        assert all(row["source"].strip() for row in read["rows"])


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_versions_and_ranges_can_be_read(path: Path) -> None:
    """Each version in a table is one, and so is each range."""
    for row in json.loads(path.read_text("utf-8"))["rows"]:
        for key in (
            "version",
            "since",
            "until",
            "cuda",
            "driver",
            "driver_min",
            "cuda_min",
            "cuda_below",
            "built_torch",
        ):
            if key in row:
                Version(row[key])
        for key in ("versions", "other_versions", "requires_python"):
            if key in row:
                SpecifierSet(row[key])
        for wanted in (*row.get("requires", {}).values(), *row.get("optional", {}).values()):
            SpecifierSet(wanted)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_no_row_is_there_twice(path: Path) -> None:
    """A version, a model type, a pair or a build has one row."""
    rows = json.loads(path.read_text("utf-8"))["rows"]
    names = ("version", "type", "need", "compute_capability", "package", "versions", "other", "torch", "cuda")
    keys = [tuple(row.get(name) if isinstance(row.get(name), str) else None for name in names) for row in rows]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    "name", ["torch", "transformers", "vllm", "trl", "peft", "accelerate", "datasets", "bitsandbytes"]
)
def test_tables_reach_three_years_back(name: str) -> None:
    """From this autumn back to 2023."""
    dates = sorted(row["date"] for row in table(name)["rows"])
    assert dates[0] < "2023-11-30"
    assert dates[-1] > "2026-08-01"


def test_tables_are_small() -> None:
    """All of them together stay below a megabyte: they are shipped."""
    assert sum(path.stat().st_size for path in TABLES) < 1 << 20


def test_a_release_older_than_a_driver_floor_never_asks_for_more() -> None:
    """The oldest driver that a CUDA runs with is none newer than the one that it came with."""
    for row in table("cuda")["rows"]:
        assert "driver" not in row or Version(row["driver_min"]) <= Version(row["driver"]) or row["cuda"] == "11.0"


def test_breaks_end_before_the_newest_release() -> None:
    """A break is between an old and a new release: the two newest releases are never told to break, but for autoawq."""
    for row in table("breaks")["rows"]:
        if row["package"] == "autoawq":
            continue
        newest = [_newest(row["package"]), _newest(row["other"])]
        if all(newest):
            inside = [
                SpecifierSet(row[key]).contains(version)
                for key, version in zip(("versions", "other_versions"), newest, strict=True)
            ]
            assert not all(inside), row


def _newest(name: str) -> str:
    path = FOLDER / f"{name}.json"
    return str(json.loads(path.read_text("utf-8"))["rows"][-1]["version"]) if path.exists() else ""


@pytest.mark.parametrize(
    ("model_type", "since"),
    [("qwen3", "4.51.0"), ("mistral", "4.34.0"), ("gpt_oss", "4.55.0"), ("qwen3_5", "5.2.0"), ("gemma2", "4.42.0")],
)
def test_first_release_with_a_model_type(model_type: str, since: str) -> None:
    """As the releases' notes have it."""
    assert [row for row in table("model_types")["rows"] if row["type"] == model_type] == [
        {"type": model_type, "since": since}
    ]


@pytest.mark.skipif(not KNOWLEDGE.is_dir(), reason="no facts to compare with here")
def test_torch_agrees_with_other_tables() -> None:
    """torchvision, torchaudio, CUDA and Pythons of torch are those that another collection has, which is cut to Python 3.10 and up."""
    ours = {row["version"]: row for row in table("torch")["rows"]}
    seen = 0
    for row in json.loads((KNOWLEDGE / "torch_compatibility.json").read_text("utf-8")):
        if "+" in row["Torch"] or row["Torch"] not in ours:
            continue
        seen += 1
        mine = ours[row["Torch"]]
        assert mine["cuda"] == row["CUDA"]
        assert set(row["Pythons"]) <= set(mine["python"])
        assert compat._made_for("torchaudio", row["Torch"]) == row["Torchaudio"]
        assert compat._made_for("torchvision", row["Torch"]) == row["Torchvision"]
    assert seen


# --- what is told


def test_nothing_is_read_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without versions among the facts no table is decoded."""

    def refuse(name: str) -> list[dict[str, Any]]:
        raise AssertionError(name)

    monkeypatch.setattr(compat, "_table", refuse)
    assert complete([Fact("os.name", "Ubuntu", "test"), Fact("gpu.count", 0, "test")]) == ()


def test_what_is_known_is_not_told_again() -> None:
    """A fact that was read goes before the table's, and completing twice adds nothing."""
    first = [
        Fact("torch.version", "2.9.1+cu128", "test"),
        Fact("torch.cuda", "12.6", "nvcc"),
        Fact("driver.version", "570.124.06", "test"),
    ]
    new = complete(first)
    assert "torch.cuda" not in {fact.name for fact in new}
    assert complete([*first, *new]) == ()


def test_every_fact_stands_in_the_catalogue_and_names_its_table() -> None:
    """Names, types and origins of all that can be told from one rich case."""
    facts = complete(
        [
            Fact(name, value, "test", line)
            for line, (name, value) in enumerate(
                {
                    "torch.version": "2.6.0+cu124",
                    "torchvision.version": "0.20.0+cu121",
                    "torchaudio.version": "2.6.0+cu126",
                    "xformers.version": "0.0.28",
                    "triton.version": "3.3.0",
                    "bitsandbytes.version": "0.44.1",
                    "flash-attn.version": "2.7.4+cu11torch2.5",
                    "transformers.version": "4.57.1",
                    "tokenizers.version": "0.23.3",
                    "accelerate.version": "1.2.0",
                    "peft.version": "0.17.1",
                    "vllm.version": "0.9.2",
                    "launch.arg.quantization": "awq_marlin",
                    "driver.version": "470.256.02",
                    "python.version": "3.14.0",
                    "numpy.version": "2.2.0",
                    "cuda.toolkit": "11.5",
                    "gpu.0.compute_capability": "12.0",
                    "gpu.1.compute_capability": "7.0",
                    "wanted.kind": "model-type",
                    "wanted.name": "qwen3",
                }.items(),
                start=1,
            )
        ]
    )
    assert len(facts) > 60
    for fact in facts:
        kind = describe(fact.name)
        assert kind is not None, fact.name
        assert (kind.type == "flag") == isinstance(fact.value, bool), fact
        stem = fact.origin.removeprefix("dataset/compat/").removesuffix(".json")
        assert (FOLDER / f"{stem}.json").exists(), fact
        assert fact.line > 0


@pytest.mark.parametrize(
    "version",
    [
        "2.9.0.dev20250801+cu128",
        "2.9.0a0+nv25.10",
        "2.4.0a0+07cecf4168.nv24.5",
        "2.99.0",
        "1.13.1",
        "",
        "nightly",
        "2.6.0rc1",
    ],
)
def test_a_torch_that_no_table_knows_tells_nothing_of_its_build(version: str) -> None:
    """A nightly, a vendor's build, a release to come: no architectures, no Python, no requirement that fails."""
    found = told(
        torch__version=version,
        torch__cuda="12.8",
        gpu__0__compute_capability="7.0",
        torchvision__version="0.18.0",
        python__version="3.13.1",
    )
    assert not {
        name
        for name in found
        if name.startswith("torch.capability") or name.endswith(("torch_code", "python_max", "cuda_default"))
    }
    if version not in ("2.99.0", "1.13.1"):
        assert "torchvision.torch_fits" not in found


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "torch.version",
                "torch.cuda",
                "driver.version",
                "driver.cuda",
                "xformers.version",
                "transformers.version",
                "peft.version",
                "flash-attn.version",
                "gpu.0.compute_capability",
                "gpu.vendor",
                "wanted.name",
                "wanted.kind",
                "python.version",
                "bitsandbytes.version",
            ]
        ),
        st.text(max_size=20) | st.sampled_from(["2.4.0", "12.8", "9.0", "1.0+cu12torch2.4", "model-type"]),
    )
)
def test_any_text_as_a_version_is_taken(facts: dict[str, str]) -> None:
    """Whatever stands where a version is expected: no exception, and only facts of the catalogue."""
    assert all(describe(name) for name in after(facts))


def test_label_of_a_build_tells_its_cuda() -> None:
    """`+cu126` and `+cpu` say what torch was built with; no label says nothing."""
    assert told(torch__version="2.9.1+cu126")["torch.cuda"] == "12.6"
    assert told(torch__version="2.9.1+cpu")["torch.cpu_only"] is True
    assert "torch.cuda" not in told(torch__version="2.9.1")
    assert told(torch__version="2.9.1")["torch.cuda_default"] == "12.8"


@pytest.mark.parametrize(
    ("version", "cuda", "capability", "code"),
    [
        ("2.8.0+cu128", "", "6.1", False),
        ("2.8.0+cu126", "", "6.1", True),
        ("2.8.0+cu128", "", "7.0", True),
        ("2.11.0", "13.0", "7.0", False),
        ("2.6.0+cu124", "", "8.9", True),
        ("2.6.0+cu124", "", "12.0", False),
        ("2.7.0+cu128", "", "12.0", True),
        ("2.9.1", "12.8", "12.1", True),
        ("2.9.1", "12.8", "10.3", True),
        ("2.1.0+cu118", "", "3.7", True),
        ("2.9.1", "12.7", "9.0", None),
        ("2.9.1+rocm6.4", "", "9.0", None),
        ("2.15.0", "13.2", "13.0", None),
    ],
)
def test_which_gpus_a_build_has_code_for(version: str, cuda: str, capability: str, code: bool | None) -> None:
    """Code of the same major and no newer minor number, or PTX; of builds that nobody publishes nothing is known."""
    facts = {"torch.version": version, "gpu.0.compute_capability": capability} | ({"torch.cuda": cuda} if cuda else {})
    assert after(facts).get("gpu.0.torch_code") is code


def test_gpus_of_others_and_other_machines_are_not_judged() -> None:
    """The lists are of wheels for x86_64 and of NVIDIA's numbers."""
    arm = told(torch__version="2.11.0", torch__cuda="13.0", os__machine="aarch64", gpu__0__compute_capability="7.0")
    assert "gpu.0.torch_code" not in arm
    assert "gpu.0.bf16" not in told(gpu__vendor="amd", gpu__0__compute_capability="9.0")


@pytest.mark.parametrize(
    ("facts", "fits"),
    [
        ({"driver.version": "550.163.01"}, False),
        ({"driver.version": "580.65.06"}, True),
        ({"driver.cuda": "12.8"}, False),
        ({"driver.cuda": "13.2"}, True),
        ({"driver.version": "550.163.01", "driver.cuda": "13.0"}, True),
        ({"driver.version": "550.163.01", "driver.compat_in_path": True}, None),
        ({"driver.version": "550.163.01", "driver.compat_version": "580.82.07"}, None),
        ({"driver.version": "572.61", "driver.wsl": True}, None),
        ({"driver.version": "572.61", "os.name": "Microsoft Windows"}, None),
        ({}, None),
    ],
)
def test_driver_against_cuda_13(facts: dict[str, Any], fits: bool | None) -> None:
    """By what the driver says of itself, else by its version; unknown where something may stand in for it."""
    assert after({"torch.version": "2.11.0", "torch.cuda": "13.0"} | facts).get("torch.driver_fits") is fits


def test_older_driver_of_the_same_major_version_will_do() -> None:
    """Minor-version compatibility: CUDA 12.8 on a driver of CUDA 12.2."""
    assert told(torch__version="2.9.1+cu128", driver__version="535.183.01")["torch.driver_fits"] is True


def test_cuda_of_a_driver_by_its_branch() -> None:
    """Only for branches that the table has, and never over what was read."""
    assert told(driver__version="535.183.01")["driver.cuda"] == "12.2"
    assert "driver.cuda" not in told(driver__version="999.10")
    assert "driver.cuda" not in told(driver__version="565.57.01")


def test_ranges_that_were_read_on_the_machine_are_not_told_again() -> None:
    """Where METADATA were read, the table's ranges say nothing new; those of extras do."""
    facts = {"transformers.version": "5.1.0", "tokenizers.version": "0.19.1", "accelerate.version": "0.34.0"}
    assert after(facts)["transformers.tokenizers_fits"] is False
    found = after(facts | {"unmet.count": 1})
    assert "transformers.tokenizers_fits" not in found
    assert found["transformers.accelerate_fits"] is False


def test_bitsandbytes_takes_a_neighbour_since_0_50() -> None:
    """Before, only the library of exactly torch's CUDA; beside a torch of conda's nothing is known."""
    facts = {"torch.version": "2.8.0+cu129"}
    assert after(facts | {"bitsandbytes.version": "0.45.5"})["bitsandbytes.cuda_fits"] is False
    assert after(facts | {"bitsandbytes.version": "0.46.1"})["bitsandbytes.cuda_fits"] is True
    assert after(facts | {"bitsandbytes.version": "0.50.2"})["bitsandbytes.cuda_fits"] is True
    conda = {"torch.version": "2.7.0", "torch.cuda": "12.9", "bitsandbytes.version": "0.45.5"}
    assert "bitsandbytes.cuda_fits" not in after(conda)


def test_a_trio_of_one_release_fits() -> None:
    """Healthy environments tell of no misfit."""
    for facts in (
        {
            "torch.version": "2.14.1",
            "torch.cuda": "13.0",
            "torchvision.version": "0.29.1",
            "torchaudio.version": "2.11.0",
            "triton.version": "3.8.0",
            "driver.cuda": "13.0",
            "gpu.0.compute_capability": "9.0",
            "numpy.version": "2.4.6",
            "python.version": "3.12.3",
        },
        {
            "torch.version": "2.1.2+cu121",
            "torchvision.version": "0.16.2+cu121",
            "torchaudio.version": "2.1.2+cu121",
            "numpy.version": "1.26.4",
            "driver.version": "535.104.05",
            "gpu.0.compute_capability": "8.0",
            "python.version": "3.10.12",
        },
        {
            "transformers.version": "5.24.0",
            "tokenizers.version": "0.23.3",
            "huggingface-hub.version": "2.4.0",
            "safetensors.version": "0.8.0",
            "accelerate.version": "1.15.0",
            "peft.version": "0.21.2",
            "trl.version": "1.16.0",
            "datasets.version": "5.2.0",
            "torch.version": "2.15.0+cpu",
            "numpy.version": "2.4.6",
            "python.version": "3.12.3",
        },
        {
            "transformers.version": "4.36.2",
            "tokenizers.version": "0.15.2",
            "huggingface-hub.version": "0.20.3",
            "accelerate.version": "0.25.0",
            "peft.version": "0.7.1",
            "datasets.version": "2.16.1",
            "torch.version": "2.1.2+cpu",
            "numpy.version": "1.26.4",
        },
    ):
        assert _findings(facts) == [], facts


def test_numbering_of_breaks_follows_the_table() -> None:
    """Several pairs are told side by side, each whole."""
    found = told(peft__version="0.17.1", transformers__version="5.1.0", vllm__version="0.11.0")
    assert [found["break.1.pair"], found["break.2.pair"]] == ["peft transformers", "vllm transformers"]
    assert found["break.1.other_version"] == "5.1.0"


# --- the rules


_OURS, _ = survey_rules([ROOT / "rules" / family for family in FAMILIES], TAXONOMY)
_RULES = compile_rules(_OURS, TAXONOMY)


def _findings(facts: dict[str, Any]) -> list[str]:
    """The rules of these families that match, notes aside."""
    given = tuple(Fact(name, value, "test") for name, value in facts.items())
    case = Case(facts=given + complete(given), origins=("test",))
    return [
        finding.rule.id
        for finding in match(_RULES, case)
        if finding.rule.family in FAMILIES and finding.rule.severity != "note"
    ]


def test_there_are_rules() -> None:
    """At least 45 on what the tables tell."""
    assert len(_OURS) >= 45


@pytest.mark.parametrize("item", _OURS, ids=lambda item: item.rule.id)
def test_examples_hold_with_what_follows_from_them(item: Any) -> None:
    """A rule's example gives versions; what the tables tell of them makes it match, or not."""
    for expected, examples in ((True, item.positive), (False, item.negative)):
        for example in examples:
            given = tuple(Fact(name, value, "test") for name, value in example.facts.items())
            case = Case(facts=given + complete(given), origins=("test",))
            assert (item.rule.id in {finding.rule.id for finding in match(_RULES, case)}) is expected, example.facts


def test_newest_torch_with_newest_torchaudio_is_told() -> None:
    """The pair that pip installs today, and whose import fails: CUDA 13.2 beside 13.0."""
    facts = {
        "torch.version": "2.15.0",
        "torch.cuda": "13.2",
        "torchvision.version": "0.29.2",
        "torchaudio.version": "2.11.0",
    }
    assert _findings(facts) == ["torchaudio-of-another-cuda"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"os__machine": "aarch64"},
        {"os__name": "Microsoft Windows 11"},
        {"package__torchvision__installer": "conda", "package__torch__installer": "conda"},
    ],
)
def test_wheels_of_other_systems_are_not_in_the_tables(elsewhere: dict[str, Any]) -> None:
    """The number alone tells of PyPI's wheel for Linux on x86_64, and of no other build of that release."""
    pair = {"torch__version": "2.9.1+cu130", "torchvision__version": "0.24.1", "bitsandbytes__version": "0.45.5"}
    assert told(**pair)["torchvision.cuda_fits"] is False
    assert told(**pair)["bitsandbytes.cuda_fits"] is False
    assert not {"torchvision.cuda_fits", "bitsandbytes.cuda_fits"} & told(**pair, **elsewhere).keys()


@pytest.mark.parametrize("torch", [{"package__torch__installer": "conda"}, {"torch__cuda": "12.9"}])
def test_a_torch_of_somebody_else_has_code_for_cards_of_its_own(torch: dict[str, Any]) -> None:
    """conda's builds and those from source carry the bare number of a release too."""
    card = {"torch__version": "2.6.0", "torch__cuda": "12.4", "gpu__0__compute_capability": "12.0"}
    assert told(**card)["gpu.0.torch_code"] is False
    assert "gpu.0.torch_code" not in told(**(card | torch))


def test_a_jetson_board_counts_its_drivers_in_another_way() -> None:
    """Its driver 540.4 goes with CUDA 12.6, and says nothing of those for servers."""
    board = {"torch__cuda": "13.0", "driver__version": "540.4.0", "driver__cuda": "12.6"}
    assert told(**board)["torch.driver_fits"] is False
    assert "torch.driver_fits" not in told(**board, driver__tegra=True)


@pytest.mark.parametrize("name", ["llava-next-video", "llava_next_video"])
def test_a_model_type_that_was_only_spelt_anew_is_still_there(name: str) -> None:
    """The older spelling was given up; the model was not."""
    facts = told(wanted__kind="model-type", wanted__name=name)
    assert facts["wanted.model_type_since"] == "4.45.0"
    assert "wanted.model_type_until" not in facts
