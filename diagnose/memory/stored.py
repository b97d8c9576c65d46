"""Cache groups → bytes: how transformers and the engines lay out what they keep, and how it is split over cards."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from msgspec import Struct

from diagnose.memory.cache import CacheGroup

CACHE_BYTES: dict[str, Fraction] = {
    "float32": Fraction(4),
    "float16": Fraction(2),
    "bfloat16": Fraction(2),
    "fp8": Fraction(1),
    "int8": Fraction(1),
    "f32": Fraction(4),
    "f16": Fraction(2),
    "bf16": Fraction(2),
    "q8_0": Fraction(34, 32),
    "q5_1": Fraction(24, 32),
    "q5_0": Fraction(22, 32),
    "q4_1": Fraction(20, 32),
    "q4_0": Fraction(18, 32),
    "iq4_nl": Fraction(18, 32),
}
"""Bytes of one value. llama.cpp's types keep 32 values in a block with its scale (ggml/src/ggml-common.h): a q8_0 block
has 2 + 32 bytes, q4_0 2 + 16, q4_1 4 + 16, q5_0 2 + 4 + 16, q5_1 4 + 4 + 16."""

_SPELLINGS = {
    "half": "float16",
    "float": "float32",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "fp8_inc": "fp8",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8",
}


def value_bytes(name: str) -> Fraction | None:
    """Bytes of one value of a cache dtype as engines name it; None for one that is not known."""
    plain = name.strip().lower().removeprefix("torch.")
    if plain in CACHE_BYTES:
        return CACHE_BYTES[plain]
    return CACHE_BYTES.get(_SPELLINGS.get(plain, ""))


class Layout(Struct, frozen=True):
    """How a library keeps a cache. Tokens are counted in blocks of `block`.

    `window_extra`: tokens that a layer with a window keeps beyond it (vLLM keeps those of the batch in flight);
    `window_blocks`: blocks more, since a window need not begin at a block's edge. `ignores_windows`: every token is kept
    in every layer. `whole_kernel`: a convolution keeps kernel columns, else kernel − 1. `expanded`: MLA is kept without
    its compression. `index_bytes`: bytes per value of a sparse attention's index keys; None: as the cache.
    `narrow_states`: states are kept in the model's dtype rather than float32; `wide`: convolutions too are kept in float32.
    """

    name: str
    block: int = 1
    window_extra: int = 0
    window_blocks: int = 0
    ignores_windows: bool = False
    whole_kernel: bool = False
    expanded: bool = False
    index_bytes: Fraction | None = None
    narrow_states: bool = False
    wide: bool = False


TRANSFORMERS = Layout("transformers", window_extra=-1, whole_kernel=True)
"""DynamicCache: a window's layer keeps window − 1 tokens after a step (transformers/cache_utils.py)."""
STATIC = Layout("transformers, static cache", whole_kernel=True)
"""StaticCache: a window's layer has room for the window, or for the longest sequence if that is shorter."""
PLAIN = Layout("plain")
"""Every token, one by one."""
LLAMA_CPP = Layout("llama.cpp", 256, window_extra=512, wide=True)
"""llama.cpp: rows in steps of 256; a window's layer has room for the window and one batch more (src/llama-kv-cache-iswa.cpp)."""


def vllm(batched_tokens: int, block: int = 16) -> Layout:
    """vLLM: pages of 16 tokens; a window's layer keeps window − 1 and the tokens in flight, and one block (vllm/v1/kv_cache_interface.py).

    Index keys of sparse attention are 8 bits with a float32 scale per 128 of them; states are in the model's dtype unless
    the config says otherwise (mamba_ssm_cache_dtype).
    """
    return Layout("vllm", block, batched_tokens - 1, 1, index_bytes=Fraction(132, 128), narrow_states=True)


def sequence_bytes(
    groups: Iterable[CacheGroup],
    tokens: int,
    value: Fraction | int,
    layout: Layout,
    *,
    shards: int = 1,
    encoder_tokens: int = 0,
    state: Fraction | int | None = None,
) -> int:
    """What one sequence of `tokens` takes on one of `shards` cards (tensor parallel), in bytes.

    `value`: bytes of a cached value; `state`: of a convolution or a state (None: the same).
    """
    small = Fraction(value if state is None else state)
    total = Fraction(0)
    for group in groups:
        total += _tokens(group, tokens, encoder_tokens, layout) * token_bytes(group, value, layout, shards)
        total += group.layers * state_bytes(group, small, layout, shards)
    return -(-total.numerator // total.denominator)


def token_bytes(group: CacheGroup, value: Fraction | int, layout: Layout, shards: int = 1) -> Fraction:
    """What one token takes in all layers of a group, on one of `shards` cards.

    Heads are shared among the cards; where there are more cards than heads each card keeps one, and MLA's latent is kept
    whole by every card.
    """
    if group.kind == "mla" and layout.expanded and group.expanded_per_token:
        return group.layers * Fraction(group.expanded_per_token, shards) * value
    values = Fraction(group.values_per_token)
    if group.heads:
        values = values / group.heads * max(1, -(-group.heads // shards))
    index = group.index_per_token * (layout.index_bytes if layout.index_bytes is not None else Fraction(value))
    return group.layers * (values * value + index)


def state_bytes(group: CacheGroup, value: Fraction, layout: Layout, shards: int = 1) -> Fraction:
    """What one sequence keeps in one layer of a group however long it is, on one of `shards` cards."""
    columns = group.conv_kernel if layout.whole_kernel else max(0, group.conv_kernel - 1)
    share = Fraction(1, max(1, shards if group.state_heads else 1))
    kept = Fraction(group.state_bytes) or (Fraction(4) if group.state_float and not layout.narrow_states else value)
    made = group.conv_channels * columns * (Fraction(4) if layout.wide else value)
    return (made + group.state_values * max(kept, Fraction(4) if layout.wide else kept)) * share


def _tokens(group: CacheGroup, tokens: int, encoder_tokens: int, layout: Layout) -> int:
    """How many tokens a group has room for, in whole blocks."""
    if not group.values_per_token:
        return 0
    wanted = encoder_tokens if group.kind == "cross" else tokens
    blocks = 0
    if group.window and not layout.ignores_windows:
        wanted = min(wanted, max(1, group.window + layout.window_extra))
        blocks = layout.window_blocks
    return (-(-wanted // layout.block) + blocks) * layout.block
