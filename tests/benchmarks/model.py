"""Times `llmdoctor check FOLDER` on a model of 200 shards and 400 GB against opening all shards with the safetensors library.

    python tests/benchmarks/model.py [--shards 200] [--experts 256] [--runs 5] [--keep DIR]

The shards are sparse files: their headers are true, and their tensors take no room on the disk. Runs alternate, the first
pair is not counted. The reader alone is timed too, in a process of its own: what it adds to the command. Memory is the peak
of each process as the kernel counts it, and the largest sum of proportional sizes (PSS) of the command's process tree.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
HIDDEN, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY = 6144, 48, 8, 128, 151936

READER = """
import resource, sys, time
sys.path.insert(0, {root!r})
from diagnose.sources import checkpoint
start = time.perf_counter()
facts = list(checkpoint.read({folder!r}, {{}}, "/"))
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, len(facts))
"""
LIBRARY = """
import glob, resource, time
from safetensors import safe_open
start = time.perf_counter()
total = 0
for path in sorted(glob.glob({folder!r} + "/*.safetensors")):
    with safe_open(path, "np") as file:
        for name in file.keys():
            piece = file.get_slice(name)
            total += len(piece.get_shape())
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, total)
"""


def tensors(layers: int, experts: int, inner: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a mixture-of-experts model."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for n in range(layers):
        base = f"model.layers.{n}."
        for name, rows in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            yield f"{base}self_attn.{name}_proj.weight", (rows * HEAD_DIM, HIDDEN)
        yield f"{base}self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD_DIM)
        for name in ("q_norm", "k_norm"):
            yield f"{base}self_attn.{name}.weight", (HEAD_DIM,)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{base}{name}.weight", (HIDDEN,)
        yield f"{base}mlp.gate.weight", (experts, HIDDEN)
        for expert in range(experts):
            for name, shape in (("gate", (inner, HIDDEN)), ("up", (inner, HIDDEN)), ("down", (HIDDEN, inner))):
                yield f"{base}mlp.experts.{expert}.{name}_proj.weight", shape
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def build(folder: Path, shards: int, experts: int) -> tuple[int, int]:
    """Write the model; returns the bytes that it appears to have and the number of its tensors."""
    layers, wanted = 62, 400_000_000_000
    inner = max(wanted // (2 * layers * experts * 3 * HIDDEN) // 64 * 64, 64)
    every = list(tensors(layers, experts, inner))
    share = -(-len(every) // shards)
    weight_map, total = {}, 0
    for n in range(shards):
        name = f"model-{n + 1:05d}-of-{shards:05d}.safetensors"
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        at = 0
        for tensor, shape in every[n * share : (n + 1) * share]:
            size = 2
            for dimension in shape:
                size *= dimension
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
            weight_map[tensor] = name
            at += size
        text = json.dumps(header, separators=(",", ":")).encode()
        with open(folder / name, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + at)
        total += at
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    config = {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": HIDDEN, "head_dim": HEAD_DIM,
        "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "num_experts": experts,
        "num_experts_per_tok": 8, "moe_intermediate_size": inner, "intermediate_size": inner, "vocab_size": VOCABULARY,
        "max_position_embeddings": 40960, "tie_word_embeddings": False, "dtype": "bfloat16", "eos_token_id": 151645,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return total, len(weight_map)


def script(text: str) -> tuple[float, int, int]:
    """Run a program that prints its seconds, its peak memory and a count."""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    seconds, peak, count = done.stdout.split()
    return float(seconds), int(peak), int(count)


def check(folder: Path) -> tuple[float, int]:
    """Seconds of `llmdoctor check`, and the largest PSS of its process tree."""
    command = [sys.executable, "-m", "diagnose", "check", str(folder), "--format", "json"]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak = [0]
    watcher = threading.Thread(target=watch, args=(process, peak))
    watcher.start()
    out, err = process.communicate()
    seconds = time.perf_counter() - start
    watcher.join()
    if process.returncode > 1 or not json.loads(out):
        raise SystemExit(f"check broke: {err.decode()}")
    return seconds, peak[0]


def watch(process: subprocess.Popen[bytes], peak: list[int]) -> None:
    """Sum up the proportional memory of a process and its children until it ends."""
    try:
        top = psutil.Process(process.pid)
        while process.poll() is None:
            total = 0
            for one in (top, *top.children(recursive=True)):
                try:
                    total += one.memory_full_info().pss
                except (psutil.Error, OSError):
                    continue
            peak[0] = max(peak[0], total)
            time.sleep(0.02)
    except psutil.Error:
        return


def alternate(runs: int, one: Callable[[], float], other: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Both in turn; the first pair is not counted."""
    pairs = [(one(), other()) for _ in range(runs + 1)][1:]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--experts", type=int, default=160)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(given.keep or temporary) / "Sparse-MoE-200B"
        folder.mkdir(parents=True, exist_ok=True)
        size, count = build(folder, given.shards, given.experts)
        on_disk = sum(os.stat(path).st_blocks * 512 for path in folder.iterdir())
        print(f"{given.shards} shards, {count:,} tensors, {size / 1e9:.0f} GB apparent, {on_disk / 1e6:.0f} MB on disk")
        reader, library = READER.format(root=str(ROOT), folder=str(folder)), LIBRARY.format(folder=str(folder))
        peaks: dict[str, int] = {}

        def timed(name: str, text: str) -> Callable[[], float]:
            def run() -> float:
                seconds, peak, _ = script(text)
                peaks[name] = max(peaks.get(name, 0), peak)
                return seconds

            return run

        ours, theirs = alternate(given.runs, timed("reader", reader), timed("library", library))
        print(f"reader   {statistics.median(ours):.3f} s   peak RSS {peaks['reader'] / 1e6:.0f} MB")
        print(f"library  {statistics.median(theirs):.3f} s   peak RSS {peaks['library'] / 1e6:.0f} MB")
        print(f"ratio    {statistics.median(ours) / statistics.median(theirs):.2f}")
        checks = [check(folder) for _ in range(given.runs + 1)][1:]
        print(
            f"check    {statistics.median(seconds for seconds, _ in checks):.2f} s   "
            f"peak PSS of the tree {max(peak for _, peak in checks) / 1e6:.0f} MB"
        )


if __name__ == "__main__":
    main()
