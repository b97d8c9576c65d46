"""Names of GPUs and their memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.cards import GIB, MIB, UnknownCardError, card_of, of_machine, parse


@pytest.mark.parametrize(
    ("text", "mebibytes"),
    [
        ("H100-80GB", 81559),
        ("NVIDIA H100 80GB HBM3", 81559),
        ("H200", 143771),
        ("A100-40GB", 40960),
        ("NVIDIA A100-SXM4-40GB", 40960),
        ("A100", 81920),
        ("RTX4090", 24564),
        ("NVIDIA GeForce RTX 4090", 24564),
        ("4090", 24564),
        ("L40S", 46068),
        ("L4", 23034),
        ("MI300X", 196592),
        ("B200", 183359),
        ("T4", 15360),
        ("Tesla V100-SXM2-32GB", 32510),
        ("RTX 3080 Ti", 12288),
        ("7900 XTX", 24560),
        ("24GB", 24 * 1024),
        ("512 MiB", 512),
    ],
)
def test_a_name_gives_the_memory_that_the_driver_lists(text: str, mebibytes: int) -> None:
    """Whatever way a card is spelt."""
    assert card_of(text).memory == mebibytes * MIB


def test_several_cards_are_named_in_one_text() -> None:
    """With times, with plus, or by a count beside."""
    assert [card.name for card in parse("2x RTX 3090 + L4")] == ["RTX 3090", "RTX 3090", "L4"]
    assert len(parse("H100", 8)) == 8


def test_a_count_that_contradicts_the_names_is_refused() -> None:
    """Two named and three counted."""
    with pytest.raises(UnknownCardError, match="names 2 cards"):
        parse("2xL4", 3)


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    """And a hint that a size is understood."""
    with pytest.raises(UnknownCardError, match="Did you mean RTX 5090"):
        card_of("RTX 9999")


def test_a_size_that_a_card_does_not_come_in_is_refused() -> None:
    """There is no H100 with 40 GB; a laptop's chip is another one."""
    for name in ("H100-40GB", "RTX 4090 Laptop GPU"):
        with pytest.raises(UnknownCardError):
            card_of(name)


def test_cuda_offers_less_than_is_listed() -> None:
    """79.19 of the 79.65 GiB of an H100."""
    card = card_of("H100")
    assert round(card.offered / GIB, 2) == 79.19
    assert card.capability == "9.0"


def test_a_card_of_this_machine_keeps_the_memory_that_the_driver_told() -> None:
    """A slice of a card has its own."""
    slice_ = of_machine("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9728 * MIB)
    assert slice_.memory == 9728 * MIB
    assert slice_.offered < slice_.memory


@given(st.text(max_size=60))
def test_any_text_is_a_card_or_refused(text: str) -> None:
    """Never another exception."""
    try:
        found = parse(text)
    except UnknownCardError:
        return
    assert all(0 < card.offered <= card.memory for card in found)
