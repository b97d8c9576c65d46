"""Measures what `llmdoctor run` costs a training loop: its time with and without, as a ratio of one run's pairs.

    python tests/benchmarks/run_overhead.py [--pairs 7] [--seconds 20] [--lines 20] [--hang]

The loop computes on one processor, like the Python side of a training, and says a line with numbers each step, `--lines` a
second. It times itself from its first step to its last, so that starting us is told apart (`start`). Runs alternate, the first
pair is not counted. Beside the wall time its own processor time is compared, which other work on the machine changes less, and
the processor time that we take ourselves is told, without that of a run of `true`. The
flood (a program that only writes) is told too: there every byte goes through us.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LOOP = """
import json, sys, time
steps, work, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
weights = [0.5] * 512
def step(n):
    loss = 0.0
    for _ in range(work):
        total = 0.0
        for weight in weights:
            total += weight * 1.0001
        loss = total / 512
    return loss
wall, cpu = time.perf_counter(), time.process_time()
for n in range(steps):
    print({"loss": round(step(n), 4), "grad_norm": 0.3312, "learning_rate": 1e-05, "epoch": round(n / 1000, 3)}, flush=True)
json.dump([time.perf_counter() - wall, time.process_time() - cpu], open(path, "w"))
"""
FLOOD = (
    "import sys\nline = b'x' * 119 + b'\\n'\nfor _ in range(int(sys.argv[1]) // 120): sys.stdout.buffer.write(line)\n"
)
DOCTOR = [sys.executable, "-m", "diagnose", "run"]


def loop(words: list[str], steps: int, work: int, folder: str) -> tuple[float, float, float, float]:
    """Wall time and processor time of the loop by its own clocks, the wall time of all of it, and its processor time."""
    path = os.path.join(folder, "times.json")
    began, used = time.perf_counter(), _used()
    command = [*words, sys.executable, "-c", LOOP, str(steps), str(work), path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=folder, env=_environ()) as process:
        assert process.stdout is not None
        while process.stdout.read1(1 << 16):
            pass
    whole = time.perf_counter() - began
    with open(path) as file:
        wall, cpu = json.load(file)
    return wall, cpu, whole, _used() - used


def _used() -> float:
    """Processor time of all processes that we started and that ended, with those below them."""
    told = resource.getrusage(resource.RUSAGE_CHILDREN)
    return told.ru_utime + told.ru_stime


def flood(words: list[str], size: int, folder: str) -> float:
    """Wall time of a program that writes so many bytes."""
    began = time.perf_counter()
    subprocess.run(
        [*words, sys.executable, "-c", FLOOD, str(size)],
        stdout=subprocess.DEVNULL,
        cwd=folder,
        env=_environ(),
        check=True,
    )
    return time.perf_counter() - began


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--lines", type=float, default=20.0, help="lines per second")
    parser.add_argument("--no-flood", action="store_true")
    parser.add_argument("--hang", action="store_true", help="also watch for a hang")
    options = parser.parse_args()
    doctor = [*DOCTOR, *(["--hang", "20m"] if options.hang else []), "--"]
    with tempfile.TemporaryDirectory() as folder:
        steps = max(int(options.seconds * options.lines), 1)
        once = loop([], 20, 100, folder)[1] / 20 / 100
        work = max(int(1 / options.lines / once), 1)
        pairs = []
        for number in range(options.pairs + 1):
            with_us, without = loop(doctor, steps, work, folder), loop([], steps, work, folder)
            if number:
                pairs.append((with_us, without))
        for name, at in (("wall time of the loop", 0), ("its processor time", 1)):
            ratios = [one[at] / other[at] for one, other in pairs]
            spread = statistics.quantiles(ratios, n=4)
            print(
                f"{name}: {100 * (statistics.median(ratios) - 1):+.2f}% (quartiles {100 * (spread[0] - 1):+.2f}% to {100 * (spread[2] - 1):+.2f}%)"
            )
        plain = [100 * (pairs[n][1][0] / pairs[n - 1][1][0] - 1) for n in range(1, len(pairs))]
        print(f"the same between runs without us: {min(plain):+.2f}% to {max(plain):+.2f}%")
        used = _used()
        subprocess.run([*doctor, "true"], cwd=folder, env=_environ(), check=True)
        once = _used() - used
        ours = [100 * ((one[3] - one[1]) - (other[3] - other[1]) - once) / one[0] for one, other in pairs]
        print(
            f"processor time that we take: {statistics.median(ours):.2f}% of one processor, {once:.2f} s to start and end"
        )
        start = [(one[2] - one[0]) - (other[2] - other[0]) for one, other in pairs]
        print(f"starting and ending: {statistics.median(start):.2f} s more")
        if options.no_flood:
            return
        size = 200 << 20
        floods = [(flood(doctor, size, folder), flood([], size, folder)) for _ in range(3)]
        print(
            f"a flood of {size >> 20} MiB: {statistics.median(a for a, _ in floods):.2f} s, {statistics.median(b for _, b in floods):.2f} s without"
        )


if __name__ == "__main__":
    main()
