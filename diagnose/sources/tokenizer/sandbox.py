"""A chat template, rendered as transformers renders it: the same sandbox, filters and tags, and within bounds.

What is set up here follows `transformers.utils.chat_template_utils` (5.24): Jinja's immutable sandbox with trim_blocks
and lstrip_blocks, loop controls, the tag `generation`, `tojson` without HTML escapes, `raise_exception`,
`strftime_now`. A template is somebody else's program: `limit_this_process` gives it little memory and little time.
"""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MOST_CHARACTERS = 1 << 20
"""The longest prompt that is kept: the conversations here have a few hundred characters."""
SECONDS_EACH = 1.0
MEMORY = 512 << 20
"""Bytes that rendering may take beside what the process had before."""
MOMENT = datetime(2026, 1, 31, 12, 34, 56, tzinfo=timezone.utc)
"""The time that templates are told, so that two renderings can be compared."""

Message = dict[str, Any]


class Rendered(Struct, frozen=True):
    """What came of one conversation. `text` is the prompt.

    `problem`: empty, or refused (the template raised it itself), failed (an exception), endless (too slow), huge.
    `message` is what the reader of a log would see, `line` the template's line, `asked_time` whether it asked the time.
    """

    text: str = ""
    problem: str = ""
    message: str = ""
    line: int = 0
    asked_time: bool = False


class _Slow(BaseException):
    """Too much time was taken; not an Exception, so that nothing in between takes it for its own."""


def limit_this_process(memory: int = MEMORY, seconds: int = 30) -> None:
    """Bound this process, which must be one of our own children, for good: memory, processor time."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    _lower(resource.RLIMIT_AS, now + memory)
    _lower(resource.RLIMIT_CPU, seconds)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(what: int, wanted: int) -> None:
    soft, hard = resource.getrlimit(what)
    for known in (soft, hard):
        if known != resource.RLIM_INFINITY:
            wanted = min(wanted, known)
    resource.setrlimit(what, (wanted, hard))


def compiled(text: str) -> tuple[Template | None, Rendered]:
    """The template ready to be rendered, or what is wrong with its text."""
    from jinja2 import TemplateSyntaxError

    try:
        with _time_limit(SECONDS_EACH):  # Jinja works out what is constant at once
            return environment().from_string(text), Rendered()
    except _Slow:
        return None, Rendered(problem="endless", message=f"it took more than {SECONDS_EACH:g} s to read it")
    except TemplateSyntaxError as error:
        return None, Rendered(problem="syntax", message=str(error.message)[:300], line=error.lineno)
    except (RecursionError, MemoryError) as error:
        return None, Rendered(problem="syntax", message=f"it is nested too deeply ({type(error).__name__})")
    except Exception as error:  # what Jinja itself trips over
        return None, Rendered(problem="syntax", message=f"{type(error).__name__}: {error}"[:300])


def render(template: Template, messages: Sequence[Message], **others: Any) -> Rendered:
    """One conversation as a prompt. Nothing is raised."""
    asked.clear()
    values = {"tools": None, "documents": None, "add_generation_prompt": False, **others, "messages": list(messages)}
    try:
        with _time_limit(SECONDS_EACH):
            return _collected(template, values)
    except _Slow:
        return Rendered(problem="endless", message=f"it took more than {SECONDS_EACH:g} s")
    except MemoryError:
        return Rendered(problem="huge", message="it takes too much memory")
    except RecursionError:
        return Rendered(problem="endless", message="it calls itself without end")
    except Exception as error:
        return _failure(error)


asked: list[str] = []
"""The formats that a template asked the time in, while it is rendered."""


def _collected(template: Template, values: Mapping[str, Any]) -> Rendered:
    parts: list[str] = []
    size = 0
    for part in template.generate(values):
        parts.append(part)
        size += len(part)
        if size > MOST_CHARACTERS:
            return Rendered(problem="huge", message=f"the prompt has more than {MOST_CHARACTERS:,} characters")
    return Rendered("".join(parts), asked_time=bool(asked))


def _failure(error: Exception) -> Rendered:
    from jinja2 import TemplateError, UndefinedError
    from jinja2.exceptions import SecurityError

    line = _line_of(error)
    if type(error) is TemplateError:  # only raise_exception makes it
        return Rendered(problem="refused", message=str(error)[:300], line=line)
    if isinstance(error, (SecurityError, UndefinedError)):
        return Rendered(problem="failed", message=f"{type(error).__name__}: {error}"[:300], line=line)
    return Rendered(problem="failed", message=f"{type(error).__name__}: {error}"[:300], line=line)


def _line_of(error: Exception) -> int:
    """The line of the template: Jinja rewrites the traceback so that its frames are the template's."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename in ("<template>", "<unknown>"):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Break off after a time. Works in the main thread only, where our children run; elsewhere there is no limit."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Slow

    try:
        before: Any = signal.signal(signal.SIGALRM, stop)
    except ValueError:  # not the main thread
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@cache
def environment() -> Environment:
    """Jinja's sandbox with what transformers puts into it."""
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.runtime import Macro
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """The tag `generation`, which marks what an assistant wrote for training; the text goes through."""

        tags = {"generation"}  # noqa: RUF012 (so it is declared in the base class)

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_through"), [], [], body).set_lineno(line)

        def _through(self, caller: Macro) -> str:
            return str(caller())

    class Names(Namespace):
        """A namespace whose attributes cannot begin with an underscore."""

        def __setitem__(self, name: str, value: Any) -> None:
            if str(name).startswith("_"):
                raise jinja2.exceptions.SecurityError(f"a namespace cannot store {name!r}")
            super().__setitem__(name, value)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = _as_json
    made.globals["raise_exception"] = _raise_exception(jinja2.exceptions.TemplateError)
    made.globals["strftime_now"] = _strftime_now
    made.globals["namespace"] = Names
    return made


def _as_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(kind: type[Exception]) -> Callable[[str], None]:
    def raise_exception(message: str) -> None:
        raise kind(message)

    return raise_exception


def _strftime_now(form: str) -> str:
    asked.append(form)
    return MOMENT.strftime(form)
