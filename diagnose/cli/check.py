"""`llmdoctor check` and `llmdoctor collect`: look at this machine, judge it or write it to a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache

from msgspec import Struct
from msgspec.structs import replace

from diagnose import project, ruleset
from diagnose.cli import paths
from diagnose.cli.report import Wanted, accepted, check_wanted, finish, judged, warn_of_unknown
from diagnose.collect import completed
from diagnose.errors import InputError
from diagnose.merge import merged
from diagnose.model import Case
from diagnose.places import working_folder
from diagnose.project import Project
from diagnose.ruleset import RuleSet


class Target(Struct, frozen=True):
    """What the command line names to be looked at, or a case file instead.

    `python` is an interpreter, `wanted` what stands after `--for`, `model` a path or Hub id, `command` what stands
    after `--`, `files` manifests, `configs` and `data` those of a training, of which `sample` reads only a part,
    `machine` whether to look at this machine too.
    """

    python: str = ""
    wanted: str = ""
    deep: bool = False
    case: str = ""
    model: str = ""
    command: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    sample: bool = False
    online: bool = False
    machine: bool = True


def run(target: Target, wanted: Wanted, rule_folders: list[str], each: Sequence[str] = ()) -> int:
    """Check and report; the exit code tells whether something at or above the threshold was found.

    `each` are configurations of trainings that have nothing to do with each other: every one is judged by itself.
    """
    settings = project.find(working_folder())
    inputs = [target.case, target.model, *target.files, *target.configs, *target.data, *each]
    baseline = check_wanted(wanted, settings, inputs)
    targets = _targets(target, each, settings)
    rules = cache(lambda: ruleset.load([*rule_folders, *(settings.inside(path) for path in settings.rules)]))
    cases = [case_of(rules, one) for one in targets]
    warn_of_unknown(rules(), settings)
    found = merged([judged(rules(), case, settings) for case in cases])
    code = finish(accepted(rules(), found, settings, baseline), wanted, settings)
    for one, case in zip(targets, cases, strict=True):
        _complain(one, case)
    return code


def _targets(target: Target, each: Sequence[str], settings: Project) -> list[Target]:
    """A target for each configuration, and each engine; those of the project's settings, where the command line names none."""
    named = target.case or target.model or target.command or target.files or target.configs or target.data
    if not named and not each and settings.paths:
        found = paths.sort_out([settings.inside(path) for path in settings.paths], settings.file)
        target = replace(target, model=found.model, files=found.files, data=found.data)
        each = found.configs
    if each and target.configs:
        raise InputError("the files of one training are named with --config, several trainings without it; not both")
    engines = (target.wanted,) if target.case or target.wanted or not settings.engines else settings.engines
    targets = [replace(target, configs=(path,)) for path in each] or [target]
    return [replace(one, wanted=engine) for one in targets for engine in engines]


def collect(target: Target, output: str, keep: list[str]) -> int:
    """Write what `check` would judge to a file, without secrets."""
    from diagnose import bundle, redact
    from diagnose.identity import of_this_machine

    masked = of_this_machine(*(name not in keep for name in ("users", "hosts", "addresses", "serials")))
    case = redact.case(case_of(lambda: ruleset.load([]), target), masked)
    if output == "-":
        print(bundle.dumps(case), end="")
    else:
        bundle.write(case, output)
        print(f"{output}: {len(case.facts)} facts, {len(case.events)} events", file=sys.stderr)
        print(f"Read it before you send it; to see what it says: llmdoctor check --case {output}", file=sys.stderr)
    _complain(target, case)
    return 0


def case_of(rules: Callable[[], RuleSet], target: Target) -> Case:
    """The case of a file, or of this machine."""
    if target.case:
        from diagnose import bundle

        if target != Target(case=target.case):
            raise InputError(
                "--case judges what a file holds; what is to be looked at is named to `llmdoctor collect`, which writes it"
            )

        return completed(bundle.read(target.case))
    if not (target.machine or target.model or target.command or target.files or target.configs or target.data):
        raise InputError(
            "--no-machine leaves nothing to look at: name a model, a manifest (-f), a training's --config or --data, "
            "or a command after --"
        )
    if "" in (*target.files, *target.configs, *target.data):
        raise InputError("a file is named by an empty word: is a variable of the shell not set?")
    from diagnose.machine import Request, case_of_machine

    request = Request(
        environ=os.environ,
        folder=working_folder(),
        python=target.python,
        wanted=target.wanted,
        deep=target.deep,
        model=target.model,
        command=target.command,
        files=target.files,
        configs=target.configs,
        data=target.data,
        sample=target.sample,
        online=target.online,
        machine=target.machine,
    )
    progress = _Progress()
    try:
        return case_of_machine(rules, request, progress.show)
    finally:
        progress.clear()


def _complain(target: Target, case: Case) -> None:
    """What was named and is not there is bad input: the rest was checked, the exit code is 2."""
    named = [f"--for {target.wanted}"] if target.wanted else []
    named += ["the Python environment"] if target.python else []
    named += ["launch command"] if target.command or target.files else []
    named += ["training configuration"] if target.configs else []
    named += ["training data"] if target.data else []
    wrong = [item for item in case.unchecked if item.what in named and not target.case]
    if wrong:
        raise InputError("\n".join(f"{item.what}: {item.why}" for item in wrong))


class _Progress:
    """A line on the terminal that says what is still being read; nothing where no terminal is."""

    def __init__(self) -> None:
        self._shown = sys.stderr is not None and sys.stderr.isatty()

    @property
    def show(self) -> Callable[[list[str]], None]:
        return self._show if self._shown else lambda names: None

    def _show(self, names: list[str]) -> None:
        text = f"reading {', '.join(map(_bar, names))} …" if names else ""
        print(f"\r\033[K{text[:78]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _bar(name: str) -> str:
    """A name that ends with a percentage, with a bar of it: `train.jsonl ━━━━━╌╌╌╌╌ 50%`."""
    what, _, share = name.rpartition(" ")
    if not what or not share.endswith("%") or not share[:-1].isdigit():
        return name
    done = min(int(share[:-1]), 100) // 10
    return f"{what} {'━' * done}{'╌' * (10 - done)} {share}"
