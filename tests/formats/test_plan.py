"""A plan as text, JSON and Markdown."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from diagnose.cards import parse
from diagnose.formats import plan as formats
from diagnose.plan import Wish, plan
from diagnose.plan.structs import Load, Part
from tests.test_plan import LARGE, SMALL

FITS = plan(SMALL, Wish(context=8192, concurrency=16), parse("H100"))
TOO_LARGE = plan(LARGE, Wish(context=8192, concurrency=4), parse("H100"))
UNKNOWN = plan(replace(SMALL, groups=()), Wish(), parse("H100"))
TUNED = plan(SMALL, Wish(tune="lora"), parse("2xRTX4090"))
ALL = (FITS, TOO_LARGE, UNKNOWN, TUNED)


def test_text_has_80_columns_but_for_commands() -> None:
    """Tables and bars are no wider."""
    for made in ALL:
        for line in formats.lines(made):
            assert line.role == "command" or len(line.text) <= 80


def test_plain_text_is_ascii() -> None:
    """For a terminal that shows nothing else."""
    for made in ALL:
        assert formats.write(made, plain=True).isascii()


def test_the_verdict_comes_first_and_the_command_with_what_fits() -> None:
    """Yes with the command, no with what is missing and the changes, a question mark with what is unknown."""
    assert formats.write(FITS).startswith("✓ model with vllm fits on H100")
    assert "vllm serve model" in formats.write(FITS)
    assert "does not fit" in formats.write(TOO_LARGE).split("\n\n")[0]
    assert "It would fit if you" in formats.write(TOO_LARGE)
    assert formats.write(UNKNOWN).startswith("?")
    assert "not known:" in formats.write(UNKNOWN)


def test_estimates_are_marked() -> None:
    """Counted sizes are not."""
    text = formats.write(FITS)
    assert "≈600 MiB" in text
    assert "≈16.00 GiB" not in text


def test_json_holds_bytes_and_sums() -> None:
    """Every card with its parts, what it needs and what is free."""
    told = json.loads(formats.write_json(FITS))
    card = told["cards"][0]
    assert card["needed"] == sum(part["bytes"] for part in card["parts"])
    assert card["free"] == card["usable"] - card["needed"]


def test_markdown_escapes_names() -> None:
    """A model's name makes no markup and no mention."""
    text = formats.write_markdown(replace(FITS, model="<b>*x*|@y"))
    assert "<b>" not in text
    assert "@y" not in text


def test_a_name_cannot_steer_the_terminal() -> None:
    """Escapes are spelt out."""
    assert "\x1b" not in formats.write(replace(FITS, model="\x1b[31mred\nline"))


@given(st.lists(st.integers(0, 1 << 40), max_size=12), st.integers(1, 1 << 38))
def test_a_bar_has_always_its_width(sizes: list[int], usable: int) -> None:
    """Whatever the parts are."""
    parts = tuple(Part(str(index), size, True) for index, size in enumerate(sizes))
    made = formats.bar(Load("card", usable, usable, usable, parts), ("#", "=", "+"))
    assert len(made) == formats.BAR
    assert made.endswith("!") == (sum(sizes) > usable)
