"""What can go wrong with llmdoctor's own input.

DoctorError              the base: a message for a person; the command line shows it and exits with 2
├── InputError           a log, file or folder that cannot be read as text
│   └── CaseError        a case file that cannot be read or written
└── RuleError            rule files with mistakes: all of them, each with file and line
"""

from __future__ import annotations

from msgspec import Struct


class DoctorError(Exception):
    """Something that a person can mend; its text says what is wrong, where, and what to do."""


class InputError(DoctorError):
    """A log that cannot be read: missing, unreadable, a folder without logs, binary data."""


class CaseError(InputError):
    """A case file that cannot be read or written: damaged, too new, no case file at all, no room for it."""


class Mistake(Struct, frozen=True):
    """One mistake in a rule file: where it is (`line` 0: the whole file) and what to write instead."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


class RuleError(DoctorError):
    """Rule files with mistakes; `mistakes` holds all of them, not only the first."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
