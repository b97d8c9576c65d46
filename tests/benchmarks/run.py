"""Start-up, throughput and memory of `llmdoctor diagnose`, as ratios measured in one run.

    python tests/benchmarks/run.py [--size MB] [--runs N]

It prints a table. Nothing here is asserted: speed is a figure to read, not a test.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HELLO = """import typer
app = typer.Typer()
@app.command()
def main(name: str = "world") -> None:
    print(f"Hello {name}")
app()
"""
SCAN = """import re, sys, time
import hyperscan
sys.path.insert(0, sys.argv[2])
from diagnose import ruleset

def database(texts):
    made = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    flags = [hyperscan.HS_FLAG_SINGLEMATCH] * len(texts)
    made.compile(expressions=texts, ids=list(range(len(texts))), elements=len(texts), flags=flags)
    return made

def supported(text):
    try:
        return database([text])
    except hyperscan.error:
        return None

texts = [re.sub(r"\\(\\?P<\\w+>", "(?:", pattern.text).encode() for pattern in ruleset.load().patterns]
made = database([text for text in texts if supported(text)])
seen = []
start = time.perf_counter()
with open(sys.argv[1], "rb") as file:
    while chunk := file.read(1 << 20):
        made.scan(chunk, match_event_handler=lambda *hit: seen.append(hit[0]))
print(time.perf_counter() - start)
"""
"""Raw scanning of the same bytes with the same patterns, each reported once a window; compiling is not counted."""
RULE = """id: made-up-{n}
title: 'made up'
severity: error
labels: {{symptom: crash/other-crashes, cause: environment-compatibility-issues/dependency-library-compatibility}}
match:
  log:
    - '{a} could not {b} the {c} of (?P<what>\\S+): {d}'
    - '{c} {a} was refused by {d} after \\d+ {b}'
    - '{b} of {d} needs {a} in [^ ]+ but {c}'
    - '{d}: {c} and {b} differ in {a}'
    - 'no {a} for {d} with {b} under {c}'
why: made up
fix: [{{do: nothing}}]
examples:
  positive: ['{a} could not {b} the {c} of x: {d}']
  negative: ['{a} and {b}']
"""


def healthy_line(rng: random.Random, number: int) -> str:
    """A line that an engine writes while all is well."""
    return (
        f"INFO 11-02 09:{number // 60 % 60:02d}:{number % 60:02d} [loggers.py:118] Engine 000: Avg prompt throughput: {rng.random() * 900:.1f} tokens/s, "
        f"Avg generation throughput: {rng.random() * 400:.1f} tokens/s, Running: {number % 200} reqs, GPU KV cache usage: {rng.random() * 100:.1f}%\n"
    )


def error_line(rng: random.Random, number: int) -> str:
    """A line that says that something went wrong; most are known to a rule, each with other numbers."""
    kind = number % 5
    rank = number % 64
    if kind == 0:
        return f"[rank{rank}]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {rng.random() * 9:.2f} GiB. GPU {rank % 8} has a total capacity of 79.14 GiB of which {rng.random() * 3:.2f} GiB is free.\n"
    if kind == 1:
        return f"ERROR 11-02 10:00:00 [async_llm.py:480] ValueError: request {number} has a prompt that nobody understands\n"
    if kind == 2:
        return f"[rank{rank}]:[E1102 10:00:00.{number % 1000:03d}000000 ProcessGroupNCCL.cpp:632] [Rank {rank}] Watchdog caught collective operation timeout: WorkNCCL(SeqNum={number}, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=600000) ran for 600029 milliseconds before timing out.\n"
    if kind == 3:
        return f"OSError: [Errno 28] No space left on device: '/tmp/part-{number}'\n"
    return f"ERROR 11-02 10:00:00 [serving.py:90] request {number} failed with code {rng.randrange(500)}\n"


def write_log(path: Path, megabytes: int, seed: int = 1) -> None:
    """A log of this size with one error line in a hundred, made of a few thousand different lines."""
    rng = random.Random(seed)
    block = "".join(error_line(rng, n) if n % 100 == 99 else healthy_line(rng, n) for n in range(200_000)).encode()
    with open(path, "wb") as file:
        left = megabytes << 20
        while left > 0:
            file.write(block[:left])
            left -= len(block)


def write_short_log(path: Path) -> None:
    """200 lines, the last ones a traceback."""
    rng = random.Random(2)
    example = (ROOT / "docs" / "examples" / "kv-cache.log").read_text()
    path.write_text("".join(healthy_line(rng, n) for n in range(182)) + example)


def write_rules(folder: Path, count: int) -> None:
    """Rules with five patterns each, of random words."""
    rng = random.Random(3)
    word = lambda: "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(5, 10)))  # noqa: E731
    for n in range(count):
        (folder / f"made-up-{n}.yaml").write_text(RULE.format(n=n, a=word(), b=word(), c=word(), d=word()))


def seconds(command: list[str]) -> float:
    """Wall time of a whole process, its output read and thrown away."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, check=False)
    return time.perf_counter() - start


def alternating(first: Callable[[], float], second: Callable[[], float], runs: int) -> tuple[float, float, float]:
    """Medians of both, and the median of the ratios pair by pair; one pair before is not counted."""
    first(), second()
    pairs = [(first(), second()) for _ in range(runs)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


def peak_megabytes(command: list[str]) -> float:
    """Largest resident memory of a process."""
    pid = os.fork()
    if pid == 0:
        os.chdir(ROOT)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.execv(command[0], command)
    _, _, usage = os.wait4(pid, 0)
    return usage.ru_maxrss / 1024 if sys.platform != "darwin" else usage.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="size of the big log in MB")
    parser.add_argument("--runs", type=int, default=9, help="counted pairs of runs for start-up")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode, as Typer has
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        doctor = [sys.executable, "-m", "diagnose", "diagnose"]
        hello, short, big, raw = folder / "hello.py", folder / "short.log", folder / "big.log", folder / "scan.py"
        hello.write_text(HELLO)
        raw.write_text(SCAN)
        write_short_log(short)
        write_log(big, options.size)
        print(f"{'measure':<58}{'ours':>10}{'other':>10}{'ratio':>8}")

        ours, other, ratio = alternating(
            lambda: seconds([*doctor, str(short)]), lambda: seconds([sys.executable, str(hello)]), options.runs
        )
        print(f"{'start-up: 200-line log / Typer hello, s':<58}{ours:>10.3f}{other:>10.3f}{ratio:>8.2f}")
        with_option = [*doctor, "--format", "json", str(short)]
        ours, other, ratio = alternating(
            lambda: seconds(with_option), lambda: seconds([sys.executable, str(hello)]), options.runs
        )
        print(f"{'the same with --format json / Typer hello, s':<58}{ours:>10.3f}{other:>10.3f}{ratio:>8.2f}")

        def raw_scan() -> float:
            done = subprocess.run(
                [sys.executable, str(raw), str(big), str(ROOT)], capture_output=True, text=True, check=True
            )
            return float(done.stdout)

        ours, other, ratio = alternating(lambda: seconds([*doctor, str(big)]), raw_scan, 3)
        rate, raw_rate = options.size / ours, options.size / other
        print(
            f"{f'throughput: {options.size} MB, 1% errors / raw Hyperscan, MB/s':<58}{rate:>10.0f}{raw_rate:>10.0f}{rate / raw_rate:>8.2f}"
        )
        print(f"{'peak memory on it, MB':<58}{peak_megabytes([*doctor, str(big)]):>10.0f}")

        many = folder / "rules"
        many.mkdir()
        known = sum(1 for _ in (ROOT / "rules").rglob("*.yaml"))
        write_rules(many, 9 * known)
        more = [*doctor, "--rules", str(many)]
        ours, other, ratio = alternating(lambda: seconds([*more, str(big)]), lambda: seconds([*doctor, str(big)]), 3)
        print(
            f"{f'ten times the rules ({10 * known}) / the rules ({known}), s':<58}{ours:>10.2f}{other:>10.2f}{ratio:>8.2f}"
        )


if __name__ == "__main__":
    main()
