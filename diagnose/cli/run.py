"""`llmdoctor run -- COMMAND …`: run a command as ever; if it dies or hangs, the diagnosis follows on stderr."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from io import StringIO
from typing import TYPE_CHECKING

from msgspec import Struct

from diagnose.cli import INTERRUPTS_IGNORED
from diagnose.cli.terminal import in_colour, show
from diagnose.errors import DoctorError, InputError
from diagnose.places import working_folder
from diagnose.run.follow import Follow, Followed, Hang
from diagnose.run.kept import Kept
from diagnose.run.messages import Looked, Tell
from diagnose.run.outcome import SHELL, exit_code, facts, was_interrupted
from diagnose.run.progress import Progress
from diagnose.run.relay import relay_on
from diagnose.run.signals import Signals, name_of
from diagnose.run.start import StartError, path_of, start, streams
from diagnose.run.watch import Watch
from diagnose.run.witness import Witness

if TYPE_CHECKING:
    from diagnose.model import Case, Diagnosis
    from diagnose.run.report import Files

LAST_LOOK = 2.0
"""Seconds that the witnesses have for a last look."""
_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER: what the command leaves behind becomes ours to see, and not the system's."""
_MOST_STACKS = 20_000
"""How many characters of stacks are shown where no rule tells more; the file of them has all."""
_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(s|sec|m|min|h|d|)")
_UNITS = {"s": 1, "sec": 1, "": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


class Wish(Struct, frozen=True):
    """What the command line asks of a run, as it was typed: times such as `20m`, folders, what belongs to the diagnosis."""

    hang: str = ""
    on_hang: str = "leave"
    grace: str = "30s"
    report: str = ""
    python: str = ""
    model: str = ""
    configs: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


def run(command: tuple[str, ...], wish: Wish, before: tuple[str, ...] = ()) -> int:
    """Run the command; its exit code. Raises InputError for a wish that cannot be.

    `before` are words that stand before `--`, where no command belongs.
    """
    if before:
        said = " ".join((*before, *command))
        raise InputError(f"the command stands after --, as in: llmdoctor run -- {said}")
    if not command:
        raise InputError(
            "nothing to run: write the command after --, as in: llmdoctor run -- torchrun --nproc_per_node 8 train.py"
        )
    hang = seconds_of(wish.hang, "--hang") if wish.hang else 0.0
    grace = seconds_of(wish.grace, "--grace")
    if wish.hang and hang < 1:
        raise InputError(f"--hang {wish.hang}: at least a second; a training is silent for minutes while it loads")
    _see_that_it_can_be_told(wish)
    from diagnose.run import report

    files = report.prepare(wish.report, os.environ) if wish.report else None
    gc.enable()
    return _Run(command, wish, Hang(hang, wish.on_hang == "end", grace) if hang else None, files).run()


def _see_that_it_can_be_told(wish: Wish) -> None:
    """Mistakes that a diagnosis would meet are told before the command starts, not days later. Raises InputError for them."""
    if wish.rules:
        from diagnose import ruleset

        ruleset.load(list(wish.rules))
    for path in wish.configs:
        if not os.path.isfile(path):
            raise InputError(f"--config {path}: no such file")
    if wish.report and os.path.lexists(wish.report) and not os.path.isdir(wish.report):
        raise InputError(f"--report {wish.report}: is a file; name a folder")


def seconds_of(text: str, option: str) -> float:
    """A time as people write it, in seconds: 90, 90s, 20m, 2h, 1d. Raises InputError for anything else."""
    found = _TIME.fullmatch(text.strip().lower())
    if found is None:
        raise InputError(f"{option} {text}: is no time; write 90s, 20m or 2h")
    return float(found[1]) * _UNITS[found[2]]


class _Run:
    """One run, from its start to its report."""

    def __init__(self, command: tuple[str, ...], wish: Wish, hang: Hang | None, files: Files | None) -> None:
        self._command, self._wish, self._hang = command, wish, hang
        self._files = files
        self._environ: Mapping[str, str] = dict(os.environ)
        self._folder = working_folder()
        self._follow: Follow | None = None
        self._kept = Kept()

    def run(self) -> int:
        """Run it to its end; the exit code."""
        ours = streams()
        try:
            file = path_of(self._command[0], self._environ.get("PATH"))
        except StartError as error:
            return self._not_started(error)
        signals = Signals()
        try:
            ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
            began = time.monotonic()
            try:
                started = start(file, self._command, ours, signals.before, INTERRUPTS_IGNORED)
            except StartError as error:
                signals.give_back()
                return self._not_started(error)
            follow = Follow(
                started, self._kept, signals, began, Progress(), self._hang, self._look_into_hang, self._tell_hang
            )
            self._follow = follow
            self._pid, self._began = started.pid, began
            witnesses = self._witnesses()
            for witness in witnesses:
                follow.witness(witness)
            seen = follow.run()
            for witness in witnesses:
                for message in witness.finish(LAST_LOOK):
                    follow.hear(message)
            relay_on(follow.left_open)
            code = exit_code(seen)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # who sends one now wants no report
                signal.signal(number, lambda *_: os._exit(code))
        finally:
            signals.give_back()
        self._without_harm(lambda: self._after(seen, code))
        return code

    def _without_harm(self, tell: Callable[[], None]) -> None:
        """Tell something; whatever goes wrong with that, the exit code is the command's."""
        try:
            tell()
        except DoctorError as error:
            self._say(f"llmdoctor: {error}\n")
        except Exception as error:
            self._say(f"llmdoctor: the diagnosis failed: {type(error).__name__}: {error}\n")

    def _witnesses(self) -> list[Witness]:
        from diagnose.run import gpus

        made = []
        if gpus.are_there():
            made.append(Witness(gpus.look(self._began)))
        watch = Watch(self._pid, self._began, os.getpid(), self._folders(), self._results())
        made.append(Witness(watch.look))
        return made

    def _results(self) -> list[str]:
        """The folders that the command writes its results to, as its words tell."""
        found = []
        for word, following in zip(self._command, (*self._command[1:], ""), strict=True):
            name, told, value = word.partition("=")
            if name.lstrip("-").replace("-", "_") in ("output_dir", "save_dir", "checkpoint_dir", "hydra.run.dir"):
                found.append(value if told else following)
        return [os.path.join(self._folder, folder) for folder in found if folder and not folder.startswith("-")]

    def _folders(self) -> list[str]:
        """The folders whose free room matters: where it works, where its results and temporary files go."""
        import tempfile

        from diagnose.sources.storage import existing

        there = [self._folder, *(existing(folder) for folder in self._results())]
        try:
            there.append(tempfile.gettempdir())
        except OSError:
            pass
        return list(dict.fromkeys(there))

    # -- after the end -------------------------------------------------------------------------------------------------

    def _after(self, seen: Followed, code: int) -> None:
        data = self._kept.text()
        self._kept.close()
        if seen.output_lost:
            self._say("llmdoctor: a part of the output could not be written where it was to go (is the disk full?)\n")
        failed = code != 0
        if not failed and self._files is None:
            return
        if failed and self._files is None and (was_interrupted(seen) or _lost_its_reader(seen)):
            return
        if seen.ended_by_us and seen.hang is not None and seen.hang.text:
            self._say(f"llmdoctor: {_told(seen, code)}\n")
            return  # it has been told why
        if failed:
            self._say(f"\nllmdoctor: {_told(seen, code)}; looking for the reason …\n")
        text = data.decode("utf-8", "replace")
        self._keep(text, seen)
        self._diagnose(seen, text, failed)

    def _diagnose(self, seen: Followed, text: str, shown: bool) -> None:
        from diagnose.run import report

        case, diagnosis = self._judge(seen, text)
        if shown and not report.tells_why(diagnosis):
            self._say("llmdoctor: neither the output nor the end tells why. Of the machine this was found:\n\n")
        if shown:
            self._say(_rendered(diagnosis, in_colour(sys.stderr)))
        if self._files is not None:
            self._say(self._write(case, diagnosis, seen))

    def _judge(self, seen: Followed, text: str) -> tuple[Case, Diagnosis]:
        """The case of the run and what the rules say of it."""
        from diagnose import ruleset
        from diagnose.machine import Request, case_of_machine
        from diagnose.run import report

        rules = ruleset.load(list(self._wish.rules))
        request = Request(
            environ=self._environ,
            folder=self._folder,
            python=self._wish.python or self._interpreter(seen),
            model=self._wish.model,
            command=self._command,
            configs=self._wish.configs,
        )
        told = facts(seen, self._command, self._environ)
        case = report.case_of(rules, text, seen, told, case_of_machine(lambda: rules, request))
        return case, report.judged(rules, case)

    def _interpreter(self, seen: Followed) -> str:
        """The Python that the command was seen to run in; empty if none was."""
        called = seen.python.called if seen.python is not None else ""
        found = shutil.which(called, path=self._environ.get("PATH")) if called else None
        return os.path.join(self._folder, found) if found else ""

    def _keep(self, text: str, seen: Followed) -> None:
        """Write what was seen at once: who stopped the command may leave us little time."""
        from diagnose.run import report

        if self._files is not None:
            for sentence in report.keep(self._files, text, seen.curve.points):
                self._say(f"llmdoctor: {sentence}\n")

    def _write(self, case: Case, diagnosis: Diagnosis, seen: Followed) -> str:
        """Write case, report and stacks; in lines where they are, or what could not be written."""
        from diagnose.run import report

        assert self._files is not None
        main = self._files.path("report.md")
        wrong = report.write(self._files, case, diagnosis, seen.hang.stacks if seen.hang is not None else "")
        if not any(sentence.startswith(f"{main}: ") for sentence in wrong):
            wrong.append(f"report in {main}")
        return "".join(f"llmdoctor: {sentence}\n" for sentence in wrong)

    def _not_started(self, error: StartError) -> int:
        """Say why; the exit code that a shell would give."""
        self._say(f"llmdoctor: {error.sentence}\n")
        self._without_harm(lambda: self._explain_not_started(error))
        return error.code

    def _explain_not_started(self, error: StartError) -> None:
        """What the rules know of it."""
        from diagnose import ruleset
        from diagnose.model import Case, Fact
        from diagnose.run import report
        from diagnose.run.outcome import ORIGIN

        told = (
            Fact("run.start_error", error.reason, ORIGIN),
            Fact("run.exit_code", error.code, ORIGIN),
            Fact("run.program", os.path.basename(self._command[0]), ORIGIN),
        )
        case = Case(told, origins=(report.OUTPUT,), machine=True)
        diagnosis = report.judged(ruleset.load(list(self._wish.rules)), case)
        if diagnosis.diagnoses:
            self._say(f"\n{_rendered(diagnosis, in_colour(sys.stderr))}")
        if self._files is not None:
            self._keep("", Followed())
            self._say(self._write(case, diagnosis, Followed()))

    # -- a hang --------------------------------------------------------------------------------------------------------

    def _look_into_hang(self, seen: Followed) -> Witness:
        """Start a process that reads all stacks and diagnoses, while the command's output goes on."""
        text = self._kept.text().decode("utf-8", "replace")
        still = self._hang.seconds if self._hang else 0.0
        self._say(f"\nllmdoctor: no output and no progress for {_spoken(still)}; looking where the processes stand …\n")
        with_colours = in_colour(sys.stderr)  # asked here: a witness has no streams

        def look(asked: int, tell: Tell) -> None:
            from diagnose import redact
            from diagnose.run import hang, stacks

            ranks = {one.pid: one.rank for one in seen.ranks.values()}
            results = list(stacks.dump(stacks.processes_of(self._pid), ranks))
            found = [one for one in results if isinstance(one, stacks.Stack)]
            failed = [one for one in results if isinstance(one, stacks.Failed)]
            last = seen.curve.last
            told = hang.facts_of(found, failed, still, last.cpu if last is not None else 0.0)
            looked = Looked("", told, stacks.text_of(found, failed))
            looked.unchecked = [(f"the stack of process {one.pid} ({one.name})", one.why) for one in failed[:8]]
            seen.hang = looked
            seen.seconds = round(time.monotonic() - self._began, 1)
            try:
                case, diagnosis = self._judge(seen, text)
                looked.text = _rendered(diagnosis, with_colours)
                if looked.stacks and not diagnosis.diagnoses:
                    looked.text = f"{redact.mask(looked.stacks[:_MOST_STACKS])}\n{looked.text}"
                if self._files is not None:
                    self._keep(text, seen)
                    looked.text += self._write(case, diagnosis, seen)
            finally:
                tell(looked)

        return Witness(look)

    def _tell_hang(self, looked: Looked) -> None:
        ending = "ending it now" if self._hang is not None and self._hang.end else "the command is left as it is"
        self._say(f"{looked.text or looked.stacks}llmdoctor: {ending}\n")

    def _say(self, text: str) -> None:
        """On our standard error; a raw terminal wants returns too."""
        if self._follow is not None and self._follow.raw:
            text = text.replace("\n", "\r\n")
        data = text.encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(2, data) :]
        except OSError:
            pass


def _rendered(diagnosis: Diagnosis, with_colours: bool) -> str:
    """The report as a text, with the marks of colours where these are shown."""
    if not with_colours:
        from diagnose.formats import formatter

        return formatter("text")(diagnosis)
    from diagnose.formats.layout import lines

    made = StringIO()
    show(lines(diagnosis), made)
    return made.getvalue()


def _lost_its_reader(seen: Followed) -> bool:
    """Whether it ended since nobody read its output any more, as in `… | head`."""
    return seen.reader_gone and seen.status is not None and exit_code(seen) == SHELL + signal.SIGPIPE


def _told(seen: Followed, code: int) -> str:
    """How it ended, in words."""
    ran = _spoken(seen.seconds)
    if seen.ended_by_us:
        return f"the command was ended after {ran}, because it hung"
    if seen.status is not None and os.WIFSIGNALED(seen.status):
        return f"the command was ended by {name_of(os.WTERMSIG(seen.status))} after {ran}"
    return f"the command ended with exit code {code} after {ran}"


def _spoken(seconds: float) -> str:
    """A time for a reader: 12 s, 20 min, 2 h 5 min."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
