"""Times `llmdoctor check` on an environment of 300 packages and 8 stub GPUs against `torch.utils.collect_env`.

    python tests/benchmarks/check.py [--install 'torch transformers'] [--packages 300] [--runs 9] [--keep DIR]

Real wheels are installed first, made-up packages fill the number up. Runs alternate, the first pair is not counted. Then
the memory of the whole process tree is measured, and it is shown that no package of the environment is imported: its
modules leave a mark when they are, which collect_env proves to work. Needs a C compiler for the stub of NVML.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.environments.build import DOCTOR, installer, interpreter, variables  # noqa: E402
from tests.stubs.nvml import stub_environment  # noqa: E402

GPUS = {
    "devices": 8,
    "*.name": "NVIDIA H100 80GB HBM3",
    "*.capability": "9.0",
    "*.memory": 85899345920,
    "*.used": 1073741824,
    "*.processes": "4242:1073741824",
    "*.links": "1 " * 17 + "1",
}


def fill_up(site: Path, packages: int) -> None:
    """Made-up packages beside the real ones: a module, metadata with requirements on each other, and a RECORD."""
    rng = random.Random(5)
    there = len(list(site.glob("*.dist-info")))
    for n in range(packages - there):
        name = f"made-up-{n}"
        module = site / f"made_up_{n}"
        info = site / f"made_up_{n}-1.{n}.dist-info"
        module.mkdir()
        info.mkdir()
        (module / "__init__.py").write_text("")
        others = "".join(f"Requires-Dist: made-up-{rng.randrange(n)}>=1.0,<2\n" for _ in range(min(n, 8)))
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.{n}\nRequires-Python: >=3.8\n{others}\n"
            + "A description of what it is good for.\n" * 100
        )
        (info / "WHEEL").write_text("Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        (info / "INSTALLER").write_text("pip\n")
        (info / "RECORD").write_text(
            f"{module.name}/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n"
            f"{info.name}/METADATA,,\n{info.name}/WHEEL,,\n{info.name}/INSTALLER,,\n{info.name}/RECORD,,\n"
        )


def leave_marks(site: Path, mark: Path) -> int:
    """Make every package of the environment leave a mark when it is imported, and the interpreter when it starts."""
    line = f"open({str(mark)!r}, 'a').write(__name__ + '\\n')\n"
    modules = [path for path in site.glob("*/__init__.py") if path.parent.name != "pip"]
    for path in modules:
        text = path.read_text(encoding="utf-8", errors="replace")
        path.unlink()  # not written in place: an installer may share the file with its cache
        at = text.find("from __future__")
        end = text.find("\n", at) + 1 if at >= 0 else 0
        whole = text[:end] + line + text[end:] if end else text + "\n" + line
        path.write_text(whole, encoding="utf-8")
    (site / "sitecustomize.py").write_text(line)
    return len(modules)


def seconds(command: list[str], env: dict[str, str], folder: Path) -> float:
    """How long one run takes; a run that breaks stops the benchmark."""
    start = time.perf_counter()
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode not in (0, 1) or b"Traceback" in done.stderr:  # 1: check found something
        sys.exit(f"{command} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return taken


def alternating(ours: Callable[[], float], other: Callable[[], float], runs: int) -> tuple[list[float], list[float]]:
    """Times of both, run in turn; the first pair is not counted."""
    ours(), other()
    pairs = [(ours(), other()) for _ in range(runs)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def peak_memory(command: list[str], env: dict[str, str], folder: Path) -> tuple[float, float]:
    """Largest memory of a process with all its children in MB: shared pages counted once, and counted for each."""
    peaks = [0.0, 0.0]
    done = threading.Event()
    process = psutil.Popen(command, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def watch() -> None:
        while not done.is_set():
            sums = [0.0, 0.0]
            for one in [process, *children(process)]:
                try:
                    info = one.memory_full_info()
                except psutil.Error:
                    continue
                sums = [sums[0] + info.pss / 2**20, sums[1] + info.rss / 2**20]
            peaks[:] = [max(old, new) for old, new in zip(peaks, sums, strict=True)]

    watcher = threading.Thread(target=watch)
    watcher.start()
    process.wait()
    done.set()
    watcher.join()
    return peaks[0], peaks[1]


def children(process: psutil.Process) -> list[psutil.Process]:
    """All processes below one, which may be gone by now."""
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def build(folder: Path, install: str, packages: int) -> tuple[Path, Path]:
    """The environment: its interpreter and its site-packages."""
    home = folder / "venv"
    uv = installer(folder / "uv")
    quiet = {"check": True, "env": variables(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*uv, "venv", "--seed", "--python", interpreter("3.11"), str(home)], **quiet)
    python = home / "bin" / "python"
    subprocess.run([*uv, "pip", "install", "--python", str(python), *install.split()], **quiet)
    site = next(home.glob("lib/python*/site-packages"))
    fill_up(site, packages)
    return python, site


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", default="torch transformers trl peft accelerate datasets", metavar="NAMES")
    parser.add_argument("--packages", type=int, default=300, help="how many there shall be in all")
    parser.add_argument("--runs", type=int, default=9, help="counted pairs of runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="check-benchmark-") as temporary:
        folder = Path(temporary)
        python, site = build(folder, options.install, options.packages)
        env = variables() | stub_environment(GPUS, folder / "stub", cuda_library=False)
        work = folder / "work"
        work.mkdir()
        ours = [str(DOCTOR), "check", "--python", str(python)]
        theirs = [str(python), "-m", "torch.utils.collect_env"]

        a, b = alternating(lambda: seconds(ours, env, work), lambda: seconds(theirs, env, work), options.runs)
        print(f"{len(list(site.glob('*.dist-info')))} packages, {GPUS['devices']} stub GPUs, {options.runs} pairs")
        for name, times in (("llmdoctor check", a), ("torch.utils.collect_env", b)):
            print(f"{name:<28}median {statistics.median(times):.2f} s   ({min(times):.2f} to {max(times):.2f})")
        ratio = statistics.median(y / x for x, y in zip(a, b, strict=True))
        print(f"{'collect_env / check':<28}median {ratio:.1f}")
        once, each = peak_memory(ours, env, work)
        print(f"peak memory of all processes {once:.0f} MB (shared pages counted for each process: {each:.0f} MB)")

        mark = folder / "imported.txt"
        modules = leave_marks(site, mark)
        seconds(ours, env, work)
        count = len(mark.read_text().split()) if mark.exists() else 0
        print(f"marks left in {modules} packages and sitecustomize: {count} after check", end="")
        seconds(theirs, env, work)
        print(f", {len(mark.read_text().split()) if mark.exists() else 0} after collect_env")


if __name__ == "__main__":
    main()
