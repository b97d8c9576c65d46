"""Whether a command still gets on: by what it says, and by what it writes and reads. Work of its processors does not count.

Ranks that wait for each other spin, so a busy CPU or GPU tells nothing. A line of output counts if it is new once clocks,
durations and spinners are taken out of it: a heartbeat that says "still waiting, 120 s" is no progress, a step count is.
"""

from __future__ import annotations

import re
from collections import deque

from diagnose.run.messages import Sample

REMEMBERED = 64
"""How many lines said last are told from new ones."""
LEAST_BYTES = 1 << 20
"""Written to disks or read from them between two looks: a checkpoint, a download, a data set. Less is a log."""

_STEERING = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_CLOCK = re.compile(
    rb"\d{1,4}[-/]\d{1,2}[-/]\d{1,4}[T ]?|\d{1,3}:\d{2}(?::\d{2})?(?:[.,]\d+)?"
    rb"|\d+(?:[.,]\d+)?\s?(?:seconds?|secs?|minutes?|mins?|hours?|milliseconds?|ms|s|m|h)\b"
    rb"|[\d.,]+\s?(?:it/s|s/it|tokens?/s|tok/s|samples?/s)|\[\d+\.\d+\]"
)
_SPINNER = re.compile(rb"[|/\\-]\s*$|\xe2[\xa0-\xa3][\x80-\xbf]|\.{2,}")


class Progress:
    """Knows when a command last got on, in seconds since its start."""

    def __init__(self) -> None:
        self.at = 0.0
        self._lines: deque[bytes] = deque(maxlen=REMEMBERED)
        self._line = b""

    def said(self, data: bytes) -> None:
        """Something was said; what counts of it is looked at in `look`."""
        self._line = data

    def saw(self, sample: Sample) -> None:
        """A look of the witness: what was written and read since the one before, and whether results changed."""
        if sample.changed or sample.written >= LEAST_BYTES or sample.read >= LEAST_BYTES:
            self.at = max(self.at, sample.at)

    def look(self, now: float) -> float:
        """See what is new; for how many seconds the command has not got on."""
        if self._line:
            line, self._line = essence(self._line), b""
            if line and line not in self._lines:
                self._lines.append(line)
                self.at = now
        return now - self.at


def essence(data: bytes) -> bytes:
    """The last line of an output without clocks, durations, rates and spinners."""
    text = data[-8192:].rstrip(b"\r\n ")
    text = text[max(text.rfind(b"\n"), text.rfind(b"\r")) + 1 :]
    text = _SPINNER.sub(b"", _CLOCK.sub(b"", _STEERING.sub(b"", text)))
    return b" ".join(text.split())
