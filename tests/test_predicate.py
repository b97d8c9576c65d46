"""Conditions: versions as versions, sizes as sizes, three answers, and no text that breaks them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.predicate import Predicate, PredicateError, answer, parse, size, solve

OPPOSITES = {"==": "!=", "<": ">=", ">": "<=", "in": "not in", "matches": "not matches"}

versions = st.lists(st.integers(0, 40), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
sizes = st.builds("{} {}".format, st.integers(0, 2000), st.sampled_from(["B", "KiB", "MiB", "GiB", "MB", "TB"]))
words = st.text(max_size=30)
values = st.one_of(versions, sizes, words, st.integers(), st.floats(), st.booleans())


def ask(condition: str, **known: str | int | float | bool) -> bool | None:
    return answer(parse(condition), {name.replace("__", "."): value for name, value in known.items()})


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("live.rate < 0.002", 0.0004, True),
        ("live.rate < 0.10", 0.9, False),
        ("live.rate >= 1e-5", 0.5, True),
        ("live.rate > 0.9", 0.10, False),
    ],
)
def test_a_number_compares_as_a_number(condition: str, value: float, expected: bool) -> None:
    """0.0004 is less than 0.002, though as versions 0.4 would be more than 0.2: a version is always a text."""
    assert ask(condition, live__rate=value) is expected


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("torch.version < 2.10", "2.9.1", True),
        ("torch.version < 2.9", "2.10.0", False),
        ("torch.version >= 2.4", "2.4.0+cu121", True),
        ("torch.version == 2.4", "2.4.0", True),
        ("torch.version < 2.6", "2.6.0.dev20250101", True),
        ("torch.version < 2.6", "built from source", None),
        ("torch.version == 2.6", "built from source", False),
    ],
)
def test_versions_compare_as_versions(condition: str, value: str, expected: bool | None) -> None:
    """2.10 is newer than 2.9, a local build counts as its version, and what is no version has no order."""
    assert expected == ask(condition, torch__version=value)


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("capture.free < 1 GiB", "512.00 MiB", True),
        ("capture.free < 1 GiB", "1.50 GiB", False),
        ("capture.free == 1 GiB", 1 << 30, True),
        ("capture.free > 900 MiB", "1 GB", True),
        ("capture.free < 1 GiB", "none", None),
    ],
)
def test_sizes_compare_as_bytes(condition: str, value: str | int, expected: bool | None) -> None:
    """Sizes with different units compare by what they hold; a text that is no size has no order."""
    assert expected == ask(condition, capture__free=value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 KiB", 1024),
        ("1.5 GiB", 3 << 29),
        ("112 MB", 112 << 20),
        (" 7 bytes ", 7),
        ("12", None),
        ("GiB", None),
        ("5 byte\u017f", None),
        ("9" * 400 + " GiB", None),
    ],
)
def test_a_size_is_a_number_with_a_unit(text: str, expected: int | None) -> None:
    """What is not a number with a unit in plain letters, or absurdly long, is no size."""
    assert expected == size(text)


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("event.caller in [vllm, sglang]", "sglang", True),
        ("event.caller in [vllm, sglang]", "ray", False),
        ("event.caller not in ['vllm', \"sglang\"]", "vllm", False),
        ("event.caller in []", "vllm", False),
        ("event.caller matches 'v?llm$'", "vllm", True),
        ("event.caller matches ^lm", "vllm", False),
        ("event.caller not matches ray", "vllm", True),
        ("event.caller == ''", "", True),
        ("event.caller != user", "user", False),
    ],
)
def test_lists_and_patterns(condition: str, value: str, expected: bool) -> None:
    """`in` asks for one of a list, `matches` for a pattern anywhere in the text; both can be negated."""
    assert expected == ask(condition, event__caller=value)


def test_flags_compare_as_truth_values() -> None:
    """A flag is true or false, whatever it is compared with."""
    assert ask("cuda.available == false", cuda__available=False) is True
    assert ask("cuda.available == true", cuda__available=False) is False


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", float("nan"), float("inf")])
def test_no_order_without_a_number(value: str | float) -> None:
    """A loss of nan is neither below nor above a number: the answer is unknown."""
    assert ask("capture.loss < 5", capture__loss=value) is None
    assert ask("capture.loss >= 5", capture__loss=value) is None


@pytest.mark.parametrize("value", ["9" * 5000, "9" * 5000 + ".1", 10**400])
def test_absurd_numbers_are_answered(value: str | int) -> None:
    """Numbers too long for Python to read do not break a comparison."""
    assert ask("capture.count < 5", capture__count=value) in (None, False)


def test_a_name_on_the_right_side() -> None:
    """The value can be another name; it is unknown if either is."""
    assert ask("torch.cuda > driver.cuda", torch__cuda="12.4", driver__cuda="12.2") is True
    assert ask("vllm.version == flash-attn.version", **{"vllm__version": "0.8", "flash-attn__version": "0.8.0"}) is True
    assert ask("torch.cuda > driver.cuda", torch__cuda="12.4") is None
    assert ask("torch.cuda > driver.cuda", driver__cuda="12.2") is None


def test_what_is_not_known_is_unknown() -> None:
    """A missing fact is the third answer for every operator, never false."""
    conditions = (
        "a.b == 1",
        "a.b != 1",
        "a.b < 1",
        "a.b in [x]",
        "a.b not in [x]",
        "a.b matches xyz",
        "a.b not matches xyz",
    )
    assert [answer(parse(condition), {}) for condition in conditions] == [None] * 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("torch.version", "is not a condition"),
        ("torch.version <", "is not a condition"),
        ("torch.version ~ 2", "is not a condition"),
        ("cabin [a]", "is not a condition"),
        ("event.caller in vllm", "comes a list"),
        ("event.caller matches 'a('", "is not a pattern"),
        ("event.caller matches '(?=a)'", "is not a pattern"),
        ("torch.version < new", "neither a version nor a number"),
        ("cuda.available < true", "neither a version nor a number"),
    ],
)
def test_a_wrong_condition_says_what_is_wrong(text: str, said: str) -> None:
    """Each kind of mistake has its sentence."""
    with pytest.raises(PredicateError, match=said):
        parse(text)


GPUS = {
    "gpu.0.name": "Tesla V100",
    "gpu.0.compute_capability": "7.0",
    "gpu.0.memory": 16 << 30,
    "gpu.1.name": "NVIDIA A100",
    "gpu.1.compute_capability": "8.0",
    "gpu.1.memory": 80 << 30,
}


def solve_texts(*conditions: str, **known: str | int | float | bool) -> bool | None:
    return solve([parse(text) for text in conditions], {**GPUS, **known})[0]


def test_a_star_is_the_same_instance_in_every_condition() -> None:
    """One GPU below 8.0 and another one large is not one GPU that is both."""
    assert solve_texts("gpu.*.compute_capability < 8.0") is True
    assert solve_texts("gpu.*.compute_capability < 8.0", "gpu.*.memory < 20 GiB") is True
    assert solve_texts("gpu.*.compute_capability < 8.0", "gpu.*.memory > 20 GiB") is False


def test_a_star_on_the_right_side_is_an_instance_too() -> None:
    """`capture.free > gpu.*.memory` holds if one GPU has less."""
    assert solve_texts("capture.asked > gpu.*.memory", **{"capture.asked": "24 GiB"}) is True
    assert solve_texts("capture.asked > gpu.*.memory", **{"capture.asked": "8 GiB"}) is False


def test_all_conditions_together() -> None:
    """One false makes all false, one unknown leaves all unknown, and what was used and what was missing is told."""
    known = {"torch.version": "2.4"}
    yes, no, open_question = parse("torch.version > 2"), parse("torch.version < 2"), parse("driver.version > 500")
    assert solve([yes], known) == (True, ("torch.version",), ())
    assert solve([open_question, no], known) == (False, ("torch.version",), ())
    assert solve([yes, open_question], known) == (None, ("torch.version",), ("driver.version",))
    assert solve([parse("gpu.*.name == A100")], known) == (None, (), ("gpu.*.name",))


@given(value=values, right=st.one_of(versions, sizes))
@settings(deadline=None, max_examples=150)
def test_an_operator_and_its_opposite_disagree(value: str | int | float | bool, right: str) -> None:
    """Where an operator answers, its opposite answers the contrary; where it cannot, neither can its opposite."""
    for op, opposite in OPPOSITES.items():
        literal = f"[{right}]" if op == "in" else right
        one, other = ask(f"a.b {op} {literal}", a__b=value), ask(f"a.b {opposite} {literal}", a__b=value)
        assert (one is None) == (other is None)
        assert one is None or one != other


@given(left=values, right=values)
@settings(deadline=None, max_examples=150)
def test_comparing_backwards_gives_the_same(left: str | int | float | bool, right: str | int | float | bool) -> None:
    """`a < b` says what `b > a` says, and `==` does not mind the order."""
    known = {"capture.a": left, "capture.b": right}
    for op, mirrored in (("<", ">"), ("<=", ">="), ("==", "=="), ("!=", "!=")):
        forwards = answer(Predicate("capture.a", op, "capture.b", reference=True), known)
        backwards = answer(Predicate("capture.b", mirrored, "capture.a", reference=True), known)
        assert forwards is backwards


@given(
    text=st.one_of(
        words, st.builds("{} {} {}".format, words, st.sampled_from(["==", "<", "in", "not matches"]), words)
    ),
    value=values,
)
@settings(deadline=None, max_examples=300)
def test_any_text_is_a_condition_or_a_mistake(text: str, value: str | int | float | bool) -> None:
    """Whatever stands in a rule: it can be answered, or PredicateError tells why not."""
    try:
        parsed = parse(text)
    except PredicateError:
        return
    assert answer(parsed, {parsed.name: value, str(parsed.value): value}) in (True, False, None)


def test_a_measured_number_compares_as_a_number_also_with_a_fraction() -> None:
    """A learning rate of 0.0002 is below 0.001, although a release 0.0002 would be above a release 0.001."""
    assert answer(parse("training.learning_rate > 0.001"), {"training.learning_rate": 0.0002}) is False
    assert answer(parse("training.learning_rate < 0.001"), {"training.learning_rate": 0.0002}) is True
    assert answer(parse("torch.version < 2.10"), {"torch.version": "2.9"}) is True
