"""What stands before the text of a log line: time, rank, process, container, level, quote marks.

Each kind of prefix is a pattern here; they are taken off one after another, in any order and number.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_PREFIX = re.compile(
    r"""(?:
      (?P<quote>>[ ]?)
    | (?:\#{1,6}|[-*])[ ]{1,4}(?=\S)
    | \*{2,3}(?=[A-Z]\w+(?:Error|Exception)\b)
    | \[(?:Bug|BUG|bug|Usage|Installation|Performance|Question|Misc|Build|Doc|Model|CI)\]:?[ ]{1,4}(?=\S)
    | [ ]?\[?(?P<stamp>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)(?:Z|[ ]?[+-]\d\d:?\d\d)?(?:[ ](?P<worker>(?:[A-Z]{2}[\dO]{1,4}[ ]?){1,4}))?\]?:?(?:[ ]*-[ ]|[ ]+(?=[A-Z]{4,8}\b|\|)|[ ]?)
    | \[[A-Z][a-z]{2}[ ](?P<cmonth>[A-Z][a-z]{2})[ ]+(?P<cday>\d{1,2})[ ](?P<ctime>\d\d:\d\d:\d\d)[ ]\d{4}\][ ]
    | (?P<jmonth>[A-Z][a-z]{2})[ ]+(?P<jday>\d{1,2})[ ](?P<jtime>\d\d:\d\d:\d\d)[ ](?P<host>[\w.-]{1,64})[ ](?P<daemon>[\w./@-]{1,64}(?:\[\d+\])?):[ ]
    | (?P<us>\d\d/\d\d/\d{4}[ ]\d\d:\d\d:\d\d)[ ]-[ ](?:(?P<uslevel>ERROR|WARNING|INFO|DEBUG|CRITICAL)[ ]-[ ][\w.]{1,80}[ ]-[ ])?
    | std(?:out|err)[ ][FP][ ]
    | (?:[A-Z][a-z]{2}[ ])?(?P<wmonth>[A-Z][a-z]{2})[ ]+(?P<wday>\d{1,2})[ ](?P<wtime>\d\d:\d\d:\d\d)[ ]\d{4}(?=\[)
    | \[[ ]{0,6}\d{1,9}\.\d{6}\][ ]
    | \[?(?P<glog>[EWIFDVC])(?P<gdate>\d{3,4})[ ](?P<gtime>\d\d:\d\d:\d\d(?:\.\d{1,9})?)[ ]+(?:(?P<gpid>\d{1,10})[ ])?(?P<gfile>[\w./-]{1,128}:\d{1,6})\][ ]?(?:\[\d{1,6}/\d{1,6}(?:_\d{1,6})?\][ ]?)?
    | \[(?P<clog>[EWIFC])[ ][\w./-]{1,128}\.(?:cpp|cu|cc|h):\d{1,6}\][ ]
    | \d{1,6}\.\d\d\.\d{3}\.\d{3}[ ](?P<llama>[EWIDT])[ ]
    | (?P<level>(?:ERROR|WARNING|WARN|INFO|DEBUG|CRITICAL|FATAL))(?::[ ]{1,8}|[ ]{1,4})(?=\S)
    | \[(?P<blevel>ERROR|WARNING|WARN|INFO|DEBUG|CRITICAL|FATAL)(?:\|[\w./-]{1,64}:\d{1,6})?\][ ]{1,4}(?:(?P<hf>\d{4}-\d\d-\d\d[ ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)[ ])?(?:>>[ ])?
    | (?P<root>(?:ERROR|WARNING|INFO|DEBUG|CRITICAL)):[\w.]{1,80}:(?=\S)
    | (?P<date>\d\d-\d\d)[ ](?P<clock>\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)[ ]
    | \[?[\w./-]{1,64}\.py:\d{1,6}(?::[\w<>]{1,64})?\][ ]?
    | \[[\w./-]{1,64}\.(?:cpp|cu|cc|h):\d{1,6}\][ ]
    | \[(?:rank|default|RANK|Rank)[ ]?(?P<rank>\d{1,6})\]:?[ ]?
    | \[(?P<mpi>\d{1,6}(?:,\d{1,6})?)\](?:<std(?:err|out)>)?:[ ]?
    | \[\d{4,6}\][ ](?=\S)
    | (?P<task>\d{1,6}|[ ]\d{1,2}|[ ]{2}\d):[ ](?=\S|[ ]{2}|$)
    | \((?P<actor>[A-Za-z][\w.:-]{0,63})(?:[ ](?P<detail>[^()\n]{0,120}?))?[ ]pid=(?P<pid>\d{1,10})(?:,[ ]ip=(?P<ip>[\w.:]{1,64}))?\)[ ]?
    | \[(?:pod/)?(?P<pod>[a-z0-9](?:[a-z0-9.-]{0,100}/[a-z0-9.-]{1,100}){1,2})\][ ]
    | (?P<container>[A-Za-z0-9][\w.-]{0,80}?)[ ]{1,40}\|[ ]?
    | [\w.]{1,80}[ ]-[ ](?P<pylevel>ERROR|WARNING|INFO|DEBUG|CRITICAL)[ ]-[ ]
    | \|[ ](?P<loguru>ERROR|WARNING|INFO|DEBUG|CRITICAL)[ ]{0,8}\|[ ][\w.:<>-]{1,120}[ ]-[ ]
    | \|[ ](?=(?:ERROR|WARNING|INFO|DEBUG|CRITICAL)\b)
    | [ ]{0,20}\+[ ](?=Exception[ ]Group[ ]Traceback)
    | [ ]{2,20}\|[ ]?
    | E[ ]{2,8}(?=\S)
    | [ ]{0,8}\[\d{0,3}(?:;\d{1,3}){0,4}m[ ]?
    )""",
    re.VERBOSE,
)
_RANKS = (re.compile(r"\brank=(\d+)|_rank(\d+)"), re.compile(r"TP(\d+)"), re.compile(r"DP(\d+)"))
_COUNT = re.compile(r"\[repeated (\d{1,9})x across (?:cluster|all nodes)\]")
LONGEST = 400


class Prefix(Struct, frozen=True):
    """What a line's prefixes told. `stream` is the same for lines of the same process; `length` is where the text starts.

    `level` is warning, info, error, or empty where the line does not tell; `logged` says that a logger wrote it.
    """

    length: int = 0
    stream: str = ""
    rank: str = ""
    process: str = ""
    host: str = ""
    time: float | None = None
    logged: bool = False
    level: str = ""


_LEVELS = {
    "W": "warning",
    "WARN": "warning",
    "WARNING": "warning",
    "I": "info",
    "INFO": "info",
    "D": "info",
    "V": "info",
    "DEBUG": "info",
    "T": "info",
}


def read_prefix(text: str) -> Prefix:
    """Read the prefixes of a line without colour codes."""
    prefix = Prefix()
    at = 0
    stream: list[str] = []
    head = text[:LONGEST]
    while at < len(head):
        found = _PREFIX.match(head, at)
        if not found or found.end() == at:
            break
        kind = found.lastgroup
        prefix = _learn(prefix, found, stream)
        at = found.end()
        if kind == "quote" and at >= len(head):
            break
    return replace(prefix, length=at, stream=" ".join(stream))


def repeats(text: str) -> int:
    """How many further times Ray says that a line was said by others."""
    found = _COUNT.search(text)
    return int(found[1]) if found else 0


def _learn(prefix: Prefix, found: re.Match[str], stream: list[str]) -> Prefix:
    part = {name: value for name, value in found.groupdict().items() if value}
    for name in ("level", "pylevel", "loguru", "glog", "clog", "llama", "blevel", "root", "uslevel"):
        if name in part:
            prefix = replace(prefix, level=level_of(part[name]))
    if "stamp" in part:
        worker = part.get("worker", "").strip()
        stream += [worker] if worker else []
        return replace(
            prefix,
            time=_stamp(part["stamp"]),
            rank=_rank_of(worker) or prefix.rank,
            process=worker or prefix.process,
            logged=True,
        )
    if "gdate" in part:
        day = part["gdate"]
        return replace(prefix, time=_seconds(int(day[:-2]), int(day[-2:]), part["gtime"]), logged=True)
    if "date" in part:
        return replace(prefix, time=_seconds(int(part["date"][:2]), int(part["date"][3:]), part["clock"]), logged=True)
    for month, day, clock in (("cmonth", "cday", "ctime"), ("jmonth", "jday", "jtime"), ("wmonth", "wday", "wtime")):
        if month in part and part[month] in _MONTHS:
            number = _MONTHS.index(part[month]) + 1
            return replace(
                prefix,
                time=_seconds(number, int(part[day]), part[clock]),
                host=part.get("host", prefix.host),
                logged=True,
            )
    if "rank" in part or "task" in part or "mpi" in part:
        rank = part.get("rank") or part.get("task", "").strip() or part["mpi"].split(",")[-1]
        stream += [rank] if rank not in stream else []
        return replace(prefix, rank=rank)
    if "actor" in part:
        stream.append(f"{part['actor']} {part['pid']}")
        return replace(
            prefix,
            process=f"{part['actor']} pid={part['pid']}",
            rank=_rank_of(f"{part['actor']} {part.get('detail', '')}") or prefix.rank,
            host=part.get("ip", prefix.host),
        )
    if "container" in part or "pod" in part:
        name = part.get("container") or part["pod"]
        stream.append(name)
        return replace(prefix, process=prefix.process or name)
    if "us" in part:
        return replace(prefix, time=_seconds(int(part["us"][:2]), int(part["us"][3:5]), part["us"][11:]), logged=True)
    if "hf" in part:
        return replace(prefix, time=_stamp(part["hf"]), logged=True)
    if any(name in part for name in ("level", "blevel", "clog", "root")):
        return replace(prefix, logged=True)
    return prefix


def level_of(word: str) -> str:
    """What a program calls its line: warning, info or error."""
    return _LEVELS.get(word, "error")


def _rank_of(worker: str) -> str:
    """The rank in a worker's name: the one that it is called, else of tensor, else of data parallelism."""
    for pattern in _RANKS:
        found = pattern.search(worker)
        if found:
            return str(found[found.lastindex or 0])
    return ""


def _stamp(text: str) -> float:
    return _seconds(int(text[5:7]), int(text[8:10]), text[11:])


def _seconds(month: int, day: int, clock: str) -> float:
    hours, minutes, seconds = clock.replace(",", ".").split(":")
    return ((month * 31.0 + day) * 24 + int(hours)) * 3600 + int(minutes) * 60 + float(seconds)
