"""Builds environments of real wheels and asks `llmdoctor check` about each: `build.py [NAME…] [--keep DIR] [--record]`.

Slow (an hour of downloads on a first run) and hungry for disk: every wheel is fetched once into uv's cache, one
environment stands at a time. `UV_FIND_LINKS` and `UV_INDEX_URL` are heeded. `--record` writes what was collected to
`cases/NAME.json.gz`, without what belongs to this machine, for the quick suite.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from diagnose.facts import describe  # noqa: E402
from tests.environments.recipes import RECIPES, Place, Recipe, names, recipe  # noqa: E402

CASES = Path(__file__).parent / "cases"
AREAS = ("interpreter", "packages", "CUDA libraries", "extensions", "engine")
DOCTOR = Path(sys.executable).with_name("llmdoctor")
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "UV_FIND_LINKS", "UV_INDEX_URL", "UV_CACHE_DIR")


class Result(Struct, frozen=True):
    """How an environment fared. `seconds` is the check alone; `found` are the rules of its report, first to last."""

    recipe: Recipe
    built: float
    provoked: str
    seconds: float = 0.0
    code: int = 0
    found: tuple[tuple[str, str], ...] = ()
    trouble: str = ""

    @property
    def told(self) -> bool:
        """Whether the report says what it should: the fault first, or no error and no warning that is not true."""
        if self.trouble:
            return False
        if self.recipe.first:
            return bool(self.found) and self.found[0][0] in self.recipe.first
        return not self.untrue

    @property
    def untrue(self) -> list[str]:
        """Errors and warnings in the report of a healthy environment, but for those that are true there."""
        judged = [name for name, severity in self.found if severity != "note"]
        return [name for name in judged if name not in self.recipe.also] if not self.recipe.first else []


def variables() -> dict[str, str]:
    """The environment of every process here: nothing of the caller's own Python."""
    return {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}


def interpreter(version: str) -> str:
    """A Python of this version on this machine; raises LookupError where there is none."""
    roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"]
    kept = [str(path) for root in roots for path in sorted(root.glob(f"{version}.*/bin/python"))]
    for python in [*kept, shutil.which(f"python{version}") or ""]:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run([python, "-c", "import venv"], check=True, capture_output=True, timeout=30)
            return python
    raise LookupError(f"no Python {version} on this machine")


def installer(folder: Path) -> list[str]:
    """The command of uv: the one on the path, or one installed into a folder."""
    found = shutil.which("uv")
    if found:
        return [found]
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv"], check=True)
    return [str(folder / "bin" / "uv")]


def make(uv: list[str], wanted: Recipe, folder: Path) -> Place:
    """Build an environment below a folder; raises CalledProcessError with what the installer said."""
    home = folder / "venv"
    quiet = {"check": True, "capture_output": True, "text": True, "env": variables(), "timeout": 3600}
    subprocess.run([*uv, "venv", "--quiet", "--python", interpreter(wanted.python), str(home)], **quiet)
    python = home / "bin" / "python"
    for line in wanted.install:
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), *line.split()], **quiet)
    work = folder / "work"
    work.mkdir()
    place = Place(python, next(home.glob("lib/python*/site-packages")), work)
    if wanted.plant:
        wanted.plant(place)
    return place


def provoke(wanted: Recipe, place: Place) -> str:
    """Run what must fail, or must succeed, in the environment: what it said, or a complaint in capitals."""
    if not wanted.provoke:
        return "not tried"
    command = [str(place.python), "-c", wanted.provoke]
    done = subprocess.run(command, cwd=place.folder, env=variables(), capture_output=True, text=True, timeout=900)
    said = done.stderr + done.stdout
    if not wanted.fails:
        return "works" if done.returncode == 0 else f"FAILS: {last_line(said)}"
    seen = re.search(f".*(?:{wanted.fails}).*", said)
    return (
        seen.group().strip() if seen and done.returncode else f"NOT AS PLANTED ({done.returncode}): {last_line(said)}"
    )


def last_line(text: str) -> str:
    """The last line that is not blank."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "(nothing)")


def doctor(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run llmdoctor on an environment, from the folder that is worked in."""
    command = [str(DOCTOR), *arguments, "--python", str(place.python)]
    return subprocess.run(command, cwd=place.folder, env=variables(), capture_output=True, text=True, timeout=120)


def asked(wanted: Recipe) -> list[str]:
    """The `--for` of a recipe."""
    return ["--for", wanted.asked] if wanted.asked else []


def check(wanted: Recipe, place: Place, built: float, provoked: str) -> Result:
    """Ask llmdoctor, and read its report."""
    start = time.perf_counter()
    done = doctor(place, "check", "--format", "json", *asked(wanted))
    seconds = time.perf_counter() - start
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return Result(wanted, built, provoked, seconds, done.returncode, trouble=last_line(done.stderr))
    found = tuple((item["rule"], item["severity"]) for item in report["diagnoses"])
    trouble = "" if done.returncode in (0, 1) else last_line(done.stderr)
    return Result(wanted, built, provoked, seconds, done.returncode, found, trouble)


def record(wanted: Recipe, place: Place) -> None:
    """Write what is collected of an environment to `cases/`, without the machine that it was built on."""
    file = place.folder.parent / "collected.json"
    done = doctor(place, "collect", *asked(wanted), "-o", str(file))
    if not file.exists():
        raise LookupError(last_line(done.stderr))
    text = json.dumps(trimmed(file.read_text(encoding="utf-8"), place), indent=0, sort_keys=True)
    CASES.mkdir(exist_ok=True)
    with (
        open(CASES / f"{wanted.name}.json.gz", "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
    ):
        packed.write(text.encode())


def trimmed(text: str, place: Place) -> dict[str, Any]:
    """A collected case with the facts of the environment alone, in folders that could be anybody's."""
    base = Path(os.path.realpath(place.python)).parent.parent
    for real, anybody in ((place.folder.parent, "/srv/environment"), (base, "/usr/local")):
        text = text.replace(str(real), anybody)
    case: dict[str, Any] = json.loads(text)
    case["facts"] = [fact for fact in case["facts"] if of_environment(fact["name"])]
    case["events"] = []
    case["unchecked"] = [item for item in case.get("unchecked", []) if place.folder.parent.name not in str(item)]
    return case


def of_environment(name: str) -> bool:
    """Whether a fact tells of the environment rather than of the machine it was built on."""
    kind = describe(name)
    return kind is not None and kind.area in AREAS and not name.startswith("cuda.toolkit")


@contextlib.contextmanager
def room(keep: str, name: str) -> Iterator[Path]:
    """A folder for an environment, deleted afterwards unless it is to be kept."""
    if keep:
        folder = Path(keep).resolve() / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="environment-") as temporary:
            yield Path(temporary)


def try_out(uv: list[str], wanted: Recipe, keep: str = "", write: bool = False) -> Result:
    """Build, provoke, check and perhaps record one environment."""
    with room(keep, wanted.name) as folder:
        start = time.perf_counter()
        try:
            place = make(uv, wanted, folder)
        except (LookupError, OSError, subprocess.SubprocessError) as failure:
            said = getattr(failure, "stderr", "") or str(failure)
            return Result(wanted, time.perf_counter() - start, "not built", trouble=last_line(said))
        built = time.perf_counter() - start
        result = check(wanted, place, built, provoke(wanted, place))
        if write and not result.trouble:
            record(wanted, place)
        return result


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201


def row(result: Result) -> str:
    """A line of the table."""
    first = result.found[0][0] if result.found else "-"
    severities = [severity for _, severity in result.found]
    expected = result.recipe.first[0] if result.recipe.first else "healthy"
    counts = f"{severities.count('error')}/{severities.count('warning')}"
    told = "ok" if result.told else "MISS"
    return f"{result.recipe.name:<30}{result.built:>6.0f}{result.seconds:>7.2f}  {first:<38}{expected:<38}{counts:>6}  {told}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(names())}")
    parser.add_argument("--keep", default="", metavar="DIR", help="build below DIR and leave the environments there")
    parser.add_argument("--record", action="store_true", help="write cases/NAME.json.gz")
    options = parser.parse_args()
    chosen = [recipe(name) for name in options.names] or list(RECIPES)
    say(f"{'environment':<30}{'built':>6}{'check':>7}  {'first diagnosis':<38}{'expected':<38}{'e/w':>6}")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="uv-") as tools:
        uv = installer(Path(tools))
        for wanted in chosen:
            result = try_out(uv, wanted, options.keep, options.record)
            missed += not result.told
            say(row(result))
            say(f"    {result.provoked[:160]}")
            for line in [result.trouble, *(f"{severity}: {name}" for name, severity in result.found)]:
                if line:
                    say(f"    {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
