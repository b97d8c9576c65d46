"""The command line. The only package that prints or exits.

`main` is the entry point. `app` holds the Typer app; the commonest calls, `llmdoctor diagnose LOG…` without options and
`llmdoctor check` for an environment, go past it, since an option parser takes longer to import than such a log takes to read.
"""

from __future__ import annotations

import gc
import signal
import sys
from io import TextIOWrapper

from diagnose.errors import DoctorError

__all__ = ["main"]

TAKE_COMMANDS = ("check", "collect", "run")
"""The commands that take a launch command after `--`; it is cut off before options are looked for."""

INTERRUPTS_IGNORED = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
"""Whether we were started with Ctrl-C ignored, as what a script puts into the background is; a command of `run` is then too."""


class _Stopped(BaseException):
    """Ctrl-C. Not KeyboardInterrupt, which Typer would turn into exit code 1: "something was found"."""


def main() -> None:
    """Run the command line; what goes wrong is told in a sentence on stderr, with exit code 2."""
    signal.signal(signal.SIGINT, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no UTF-8
    gc.disable()  # a short life: what cycles there are is freed by the end of the process
    try:
        sys.exit(_run(sys.argv[1:]))
    except DoctorError as error:
        from diagnose.formats.layout import visible

        for line in str(error).split("\n"):
            print(f"llmdoctor: {visible(line)}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stdout = None  # who read us has gone; nothing is left to flush
        sys.exit(1)
    except _Stopped:
        print("llmdoctor: stopped", file=sys.stderr)
        sys.exit(2)


def _run(words: list[str]) -> int:
    if words[:1] == ["diagnose"] and all(word == "-" or not word.startswith("-") for word in words[1:]):
        from diagnose.cli.diagnose import run

        return run(words[1:], None, [])
    if words == ["check"] or (words[:2] == ["check", "--python"] and len(words) == 3):
        from diagnose.cli.check import Target
        from diagnose.cli.check import run as check
        from diagnose.cli.report import Wanted

        return check(Target(python="".join(words[2:])), Wanted(), [])
    from diagnose.cli.app import app

    cut = words.index("--") if "--" in words and words[0] in TAKE_COMMANDS else len(words)
    app(args=words[:cut], obj=tuple(words[cut + 1 :]))
    return 0


def _stop(number: int, frame: object) -> None:
    raise _Stopped
