"""The shard index against the headers of the shards: tensors that it promises and none has, and the reverse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from diagnose.model import Fact
from diagnose.sources.checkpoint.safetensors import Header
from diagnose.sources.checkpoint.series import Index


def facts(index: Index, headers: Sequence[tuple[str, Header]], origin: str) -> Iterator[Fact]:
    """`weights.index_*`. Tensors of a shard that could not be read are not asked for."""
    holders: dict[str, str] = {}
    twice: list[str] = []
    size = 0
    for file, header in headers:
        for tensor in header.tensors:
            if tensor.name in holders:
                twice.append(tensor.name)
            holders[tensor.name] = file
            size += tensor.end - tensor.start
    readable = {file for file, _ in headers}
    absent = [name for name, file in index.weight_map.items() if file in readable and name not in holders]
    moved = [
        name
        for name, file in index.weight_map.items()
        if name in holders and holders[name] != file and file in readable
    ]
    unnamed = [name for name in holders if name not in index.weight_map]
    for word, names in (("absent", absent), ("moved", moved), ("unnamed", unnamed), ("twice", twice)):
        yield Fact(f"weights.index_{word}", len(names), origin)
        if names:
            yield Fact(f"weights.index_{word}_example", min(names)[:300], origin)
    if index.total_size >= 0 and readable == set(index.weight_map.values()):
        yield Fact("weights.index_total", index.total_size, origin)
        yield Fact("weights.index_total_right", abs(index.total_size - size) <= size // 100, origin)
