"""Times `llmdoctor check --config … --data …` on a JSON Lines file of 2 GB against a plain loop of `json.loads`, and `--sample`.

    python tests/benchmarks/data.py [--megabytes 2048] [--runs 1] [--keep DIR] [--model FOLDER]

The file holds conversations of 1 to 4 KB a line. Told are seconds, MB/s, the ratio to `json.loads` line by line and to
`wc -l` in the same run, and the peak memory of the whole process tree: resident, shared pages counted for each process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "model_name_or_path: none-here\nlearning_rate: 2.0e-5\nper_device_train_batch_size: 1\nmax_length: 2048\n"
LOOP = "import json, sys\nrows = 0\nfor line in open(sys.argv[1], 'rb'):\n    rows += bool(json.loads(line))\nprint(rows)\n"
WORDS = (
    "model",
    "data",
    "learns",
    "rate",
    "token",
    "batch",
    "layer",
    "train",
    "answer",
    "question",
    "reads",
    "writes",
    "small",
)


def conversations(path: Path, megabytes: int) -> int:
    """Write a file of conversations with 1 to 4 KB a line; the number of lines."""
    rng = random.Random(7)
    sentences = [" ".join(rng.choices(WORDS, k=rng.randint(6, 18))).capitalize() + "." for _ in range(4000)]
    wanted, written, lines = megabytes << 20, 0, 0
    with path.open("wb", buffering=1 << 20) as file:
        while written < wanted:
            turns, left = [], rng.randint(1000, 4000)
            while left > 0:
                for role in ("user", "assistant"):
                    text = " ".join(rng.choices(sentences, k=rng.randint(2, 8)))
                    turns.append({"role": role, "content": text})
                    left -= len(text) + 36
            line = json.dumps({"id": lines, "messages": turns}).encode() + b"\n"
            file.write(line)
            written += len(line)
            lines += 1
    return lines


def run(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Seconds, peak memory in MB of a command with all its children, and what it printed."""
    peak = [0.0]
    done = threading.Event()
    start = time.perf_counter()
    process = psutil.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def watch() -> None:
        while not done.wait(0.05):
            total = 0
            try:
                for one in [process, *process.children(recursive=True)]:
                    try:
                        total += one.memory_info().rss
                    except psutil.Error:
                        continue
            except psutil.Error:
                continue
            peak[0] = max(peak[0], total / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, trouble = process.communicate()
    taken = time.perf_counter() - start
    done.set()
    watcher.join()
    if process.returncode not in (0, 1) or b"Traceback" in trouble:  # 1: check found something
        sys.exit(f"{command} ended with {process.returncode}: {trouble.decode(errors='replace')[-2000:]}")
    return taken, peak[0], out.decode(errors="replace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2048)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--keep", default="")
    parser.add_argument("--model", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.keep or None) as temporary:
        folder = Path(temporary)
        data, config = folder / "train.jsonl", folder / "train.yaml"
        lines = conversations(data, options.megabytes)
        config.write_text(CONFIG)
        size = data.stat().st_size / 1e6
        print(f"{size:,.0f} MB, {lines:,} lines, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        check = [sys.executable, "-m", "diagnose", "check", "--no-machine", "--format", "json"]
        check += ["--config", str(config), "--data", str(data)]
        check += [options.model] if options.model else []
        os.environ["PYTHONPATH"] = str(ROOT)
        for _ in range(options.runs):
            counted, _, _ = run(["wc", "-l", str(data)], folder)
            plain, _, _ = run([sys.executable, "-c", LOOP, str(data)], folder)
            whole, memory, told = run(check, folder)
            part, part_memory, _ = run([*check, "--sample"], folder)
            facts = {fact["name"]: fact["value"] for fact in json.loads(told)["facts"]}
            assert facts["data.examples"] == lines, facts.get("data.examples")
            print(
                f"check: {whole:.1f} s, {size / whole:.0f} MB/s, {whole / plain:.2f} times json.loads ({plain:.1f} s), "
                f"{whole / counted:.0f} times wc -l; peak {memory:.0f} MB"
            )
            print(f"check --sample: {part:.1f} s, peak {part_memory:.0f} MB")


if __name__ == "__main__":
    main()
