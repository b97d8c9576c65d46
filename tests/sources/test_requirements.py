"""Declared requirements are checked as pip checks them, for the target interpreter and not for ours."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from diagnose.sources.distributions import Distribution
from diagnose.sources.interpreter import Interpreter
from diagnose.sources.requirements import Unmet, Unreadable, python_unmet, satisfies, unmet_requirements

TARGET = Interpreter("/e/bin/python", "/e/bin/python", version="3.11.7", short="3.11", machine="x86_64")


def dist(name: str, version: str, *requires: str, python: str = "") -> Distribution:
    return Distribution(name, version, f"/e/{name}.dist-info", "/e", tuple(requires), python)


def unmet(*dists: Distribution, target: Interpreter = TARGET) -> list[tuple[str, str, str, str, str]]:
    found = unmet_requirements({d.name: d for d in dists}, target)
    told = [u for u in found if isinstance(u, Unmet)]
    return [(u.package, u.name, u.wants, u.installed, u.kind.removesuffix("-elsewhere")) for u in told]


def kinds(*dists: Distribution) -> list[tuple[str, str]]:
    found = unmet_requirements({d.name: d for d in dists}, TARGET)
    return [(u.package, u.kind) for u in found if isinstance(u, Unmet)]


def test_a_version_outside_the_range_is_a_conflict() -> None:
    """Who asks, for what, which versions, and what is there."""
    assert unmet(dist("transformers", "4.44.2", "tokenizers<0.20,>=0.19"), dist("tokenizers", "0.21.1")) == [
        ("transformers", "tokenizers", ">=0.19,<0.20", "0.21.1", "conflict")
    ]


def test_what_is_not_installed_is_missing() -> None:
    """With or without a range."""
    assert unmet(dist("a", "1", "b", "c (>=2)")) == [
        ("a", "b", "", "none", "missing"),
        ("a", "c", ">=2", "none", "missing"),
    ]


def test_names_are_compared_in_canonical_form() -> None:
    """Huggingface_Hub, huggingface.hub and huggingface-hub are one."""
    assert unmet(dist("a", "1", "Huggingface_Hub>=0.20", "huggingface.hub"), dist("huggingface-hub", "0.34.0")) == []


def test_extras_count_only_where_somebody_asks_for_them() -> None:
    """A requirement of an extra is put aside, unless an installed distribution requires that extra; chains are followed."""
    b = dist("b", "1", 'c>=2; extra == "fast"', 'd; extra == "slow"', 'x; python_version < "3" and extra == "fast"')
    assert unmet(dist("a", "1", "b"), b) == []
    assert unmet(dist("a", "1", "b[Fast]"), b) == [("b", "c", ">=2", "none", "missing")]
    chain = dist("z", "1", 'b[fast]; extra == "all"')
    assert unmet(chain, b) == []
    assert unmet(dist("top", "1", "z[all]"), chain, b) == [("b", "c", ">=2", "none", "missing")]


def test_markers_are_those_of_the_target() -> None:
    """Its Python version, architecture and implementation decide, on this system."""
    asks = dist(
        "a", "1", 'b; python_version < "3.10"', 'c; platform_machine == "aarch64"', 'd; sys_platform == "win32"'
    )
    assert unmet(asks) == []
    old = Interpreter("/e", "/e", version="3.9.18", short="3.9", machine="aarch64")
    assert [name for _, name, *_ in unmet(asks, target=old)] == ["b", "c"]
    pypy = Interpreter("/e", "/e", version="3.10.1", short="3.10", implementation="PyPy")
    assert unmet(dist("a", "1", 'b; platform_python_implementation == "PyPy"'), target=pypy) == [
        ("a", "b", "", "none", "missing")
    ]


def test_installed_pre_releases_and_local_versions_count() -> None:
    """2.9.0rc1 is a version like another when it is there; 2.8.0+cu126 satisfies ==2.8.0."""
    assert unmet(dist("a", "1", "torch>=2.8"), dist("torch", "2.9.0rc1")) == []
    assert unmet(dist("a", "1", "torch==2.8.0"), dist("torch", "2.8.0+cu126")) == []
    assert unmet(dist("a", "1", "torch==2.8.0+cu128"), dist("torch", "2.8.0+cu126"))[0][4] == "conflict"


def test_a_build_before_its_release_counts_as_the_release() -> None:
    """What containers and builds from source are numbered like does for who asks for the release to come, not below it."""
    nvidia = dist("torch", "2.9.0a0+145a3a7.nv25.10")
    assert unmet(dist("peft", "1", "torch>=2.9"), nvidia) == []
    assert unmet(dist("peft", "1", "torch>=2.9.1"), nvidia)[0][4] == "conflict"
    assert unmet(dist("peft", "1", "transformers<5"), dist("transformers", "5.0.0rc1"))[0][4] == "conflict"


def test_transformers_compares_pre_releases_by_their_numbers() -> None:
    """It refuses 0.22.0rc1 for >=0.22, and takes 1.0.0rc1 for <1.0: so it does when it is imported."""
    asks = dist("transformers", "4.57.1", "tokenizers>=0.22.0,<=0.23.0", "huggingface-hub<1.0,>=0.34.0")
    assert unmet(asks, dist("tokenizers", "0.22.0rc1"), dist("huggingface-hub", "1.0.0rc1")) == [
        ("transformers", "tokenizers", ">=0.22.0,<=0.23.0", "0.22.0rc1", "conflict")
    ]


def test_what_no_model_needs_is_told_apart() -> None:
    """An engine, what it is built on, and whoever asks for torch are of this field; a notebook service's own are not."""
    engine = dist("vllm", "0.12.0", "fastapi", "starlette<1")
    assert kinds(
        engine,
        dist("fastapi", "1", "starlette>=2", "missing-one"),
        dist("starlette", "0.5"),
        dist("fastai", "2", "torch<2.7"),
        dist("torch", "2.9.0"),
        dist("google-colab", "1", "starlette==3", "pandas==2.2.2"),
        dist("tokenizers", "0.22", 'black==22.3; extra == "testing"'),
        dist("black", "23", "click>=9"),
        dist("click", "8"),
    ) == [
        ("black", "conflict-elsewhere"),
        ("fastai", "conflict"),
        ("fastapi", "conflict"),
        ("fastapi", "missing"),
        ("google-colab", "conflict-elsewhere"),
        ("google-colab", "missing-elsewhere"),
    ]


def test_whether_what_is_there_is_newer() -> None:
    """Newer than all that would do: above an exact version or an upper bound; never for what is missing."""
    wants = dist("torch", "2.9.0", "nvidia-nccl-cu12==2.27.5", "triton==3.5.0", "sympy<2,>=1.13", "gone")
    found = unmet_requirements(
        {d.name: d for d in (wants, dist("nvidia-nccl-cu12", "2.28.3"), dist("triton", "3.4.0"), dist("sympy", "2.0"))},
        TARGET,
    )
    assert [(u.name, u.newer) for u in found if isinstance(u, Unmet)] == [
        ("nvidia-nccl-cu12", True),
        ("triton", False),
        ("sympy", True),
        ("gone", False),
    ]


def test_all_operators_are_known() -> None:
    """~=, !=, === and wildcards."""
    for wants, met in (("~=2.3", True), ("!=2.4.*", False), ("==2.4.*", True), ("===2.4.1", True), ("~=2.3.0", False)):
        assert satisfies("2.4.1", wants) is met


def test_an_address_in_place_of_a_range_accepts_any_version() -> None:
    """A direct reference names a file, not a range."""
    assert unmet(dist("a", "1", "b @ https://example.org/b.whl"), dist("b", "9")) == []
    assert unmet(dist("a", "1", "b@git+https://example.org/b ; python_version>'3'")) == [
        ("a", "b", "", "none", "missing")
    ]


def test_nonsense_is_neither_met_nor_unmet() -> None:
    """What cannot be understood is told apart; the others are still checked."""
    found = list(unmet_requirements({"a": dist("a", "1", "!!!", "b>=x.y", 'c; nonsense == "1"', "d")}, TARGET))
    assert [u.name for u in found if isinstance(u, Unmet)] == ["b", "d"]
    assert sum(isinstance(u, Unreadable) for u in found) == 2
    assert unmet(dist("a", "1", "b>=1"), dist("b", "not-a-version!")) == []


def test_the_python_version_is_checked_against_what_a_package_asks_for() -> None:
    """Without a patch number only what holds for the whole series is said."""
    assert python_unmet(dist("a", "1", python=">=3.12"), TARGET)
    assert not python_unmet(dist("a", "1", python=">=3.8,<3.12"), TARGET)
    assert not python_unmet(dist("a", "1", python="rubbish"), TARGET)
    series = Interpreter("/e", "/e", version="3.11", short="3.11")
    assert not python_unmet(dist("a", "1", python=">=3.11.4"), series)
    assert python_unmet(dist("a", "1", python=">=3.12"), series)


@given(st.lists(st.text(max_size=60), max_size=6))
def test_any_text_is_a_requirement_or_not(texts: list[str]) -> None:
    """METADATA may say anything; nothing raises."""
    for found in unmet_requirements({"a": dist("a", "1", *texts), "b": dist("b", "2")}, TARGET):
        assert isinstance(found, Unmet | Unreadable)


VERSION = st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,2}){0,2}((a|rc)[0-9])?(\+cu[0-9]{3})?", fullmatch=True)
SPECIFIER = st.builds("{}{}".format, st.sampled_from(["==", "!=", ">=", "<=", ">", "<", "~="]), VERSION)


@given(VERSION, st.lists(SPECIFIER, min_size=1, max_size=3))
def test_ranges_mean_what_packaging_says(version: str, specifiers: list[str]) -> None:
    """The answer is that of the reference, whatever the combination."""
    wants = ",".join(specifiers)
    try:
        expected = SpecifierSet(wants).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        expected = None
    assert satisfies(version, wants) is expected
