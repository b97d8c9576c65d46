"""A text for a shell → the simple commands in it: words without their quotes, assignments, and what is odd about the quoting.

It reads what people paste: quotes, backslashes, continued lines, comments, variables, redirections, pipes, lists. It is no
shell: nothing is run, no file is looked for, and what only the shell could tell (`$(…)`, a variable that is not known) leaves
a word that is not `known`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from diagnose.sources.launch import nesting

MOST_CHARACTERS = 256 << 10
"""How much of a text is read."""
MOST_WORDS = 5000
MOST_EXPANDED = 64 << 10
"""How long a word may become by its variables."""


class Word(Struct, frozen=True):
    """One word: its text as the program gets it, and where it stands (line and column from 1; 0 outside a text).

    `known` is false where a part is for the shell to tell; `quoted`: some of it stood in quotes or behind a backslash.
    """

    text: str
    line: int = 0
    column: int = 0
    known: bool = True
    quoted: bool = False


class Simple(Struct, frozen=True):
    """A simple command: the assignments before it, its words, and the operator after it (`|`, `&&`, `;`, empty)."""

    words: tuple[Word, ...]
    assigned: tuple[tuple[str, Word], ...] = ()
    after: str = ""


class Problem(Struct, frozen=True):
    """Something odd about the text: `quote-open`, `blank-after-backslash`, `comment-in-command`, `too-long`; and where."""

    kind: str
    line: int
    column: int
    text: str = ""


class Script(Struct, frozen=True):
    """The commands of a text in order, and its problems."""

    commands: tuple[Simple, ...]
    problems: tuple[Problem, ...] = ()


def parse(text: str, environ: Mapping[str, str] | None = None) -> Script:
    """Read a text. Nothing is raised; `environ` holds the variables whose values are known."""
    reader = _Reader(_continued(text[:MOST_CHARACTERS].replace("\r\n", "\n")), dict(environ or {}))
    reader.read()
    if len(text) > MOST_CHARACTERS:
        reader.problem("too-long")
    return Script(tuple(reader.commands), tuple(reader.problems))


def _continued(text: str) -> str:
    """Lines that are continued as in Windows' shells (^ or a backtick at their end) continued as here."""
    for mark in ("^", "`"):
        if f" {mark}\n" in text and "\\\n" not in text:
            text = re.sub(rf"(?<=\s){re.escape(mark)}[ \t]*\n", r"\\\n", text)
    return text


def words_of(argv: tuple[str, ...] | list[str]) -> tuple[Word, ...]:
    """The words of a command whose quotes a shell has taken off already."""
    return tuple(Word(text) for text in argv[:MOST_WORDS])


_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=", re.ASCII)
_OPERATOR = re.compile(r"&&|\|\||\|&|;;|[|;&\n()]")
_REDIRECTION = re.compile(r"(?:\d+|&|\{\w+\})?(?:<<<|<<-?|>>|>\||<>|[<>]&?)", re.ASCII)
_PLACEHOLDER = re.compile(r"<[A-Za-z][\w./| -]{0,60}>(?=[\s/:,]|$)", re.ASCII)
"""`<model>`: a name that the reader is to fill in. A shell would read from a file `model` and write to what follows."""
_BLANKS = " \t"
_KEYWORDS = frozenset({"then", "do", "else", "if", "while", "until", "!", "{", "time", "exec", "command"})


class _Part(Struct):
    """A word that is being read: its pieces, those that split at blanks aside."""

    text: str = ""
    known: bool = True
    quoted: bool = False


class _Reader:
    """Reads a text from its start to its end; every step moves on by at least one character."""

    def __init__(self, text: str, variables: dict[str, str]) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._line_start = 0
        self._variables = variables
        self._words: list[Word] = []
        self._assigned: list[tuple[str, Word]] = []
        self._count = 0
        self._heredocs: list[tuple[str, bool]] = []
        self._continued_at = -1
        self._open_found = False
        self._in_vain = -1
        self.commands: list[Simple] = []
        self.problems: list[Problem] = []

    def problem(self, kind: str, line: int = 0, column: int = 0, text: str = "") -> None:
        if len(self.problems) < 20:
            self.problems.append(Problem(kind, line or self._line, column or self._column(), text[:80]))

    def _column(self) -> int:
        return self._at - self._line_start + 1

    def read(self) -> None:
        while self._at < len(self._text) and self._count < MOST_WORDS:
            self._step()
        self._end("")
        if self._count >= MOST_WORDS:
            self.problem("too-long")

    def _step(self) -> None:
        character = self._text[self._at]
        if character in _BLANKS:
            self._at += 1
        elif self._text.startswith("\\\n", self._at):
            self._newline(2)
            self._continued_at = self._at
        elif character == "#":
            self._comment()
        elif _PLACEHOLDER.match(self._text, self._at):
            self._word()
        elif redirection := _REDIRECTION.match(self._text, self._at):
            self._redirect(redirection)
        elif operator := _OPERATOR.match(self._text, self._at):
            self._operator(operator[0])
        else:
            self._word()

    def _newline(self, characters: int) -> None:
        self._at += characters
        self._line += 1
        self._line_start = self._at

    def _comment(self) -> None:
        """A comment ends the command that a backslash was to continue: what follows would be a command of its own."""
        if self._continued_at >= 0 and self._words and not self._text[self._continued_at : self._at].strip():
            self.problem("comment-in-command", text=self._text[self._at : self._at + 80].partition("\n")[0])
        stop = self._text.find("\n", self._at)
        self._at = len(self._text) if stop < 0 else stop

    def _operator(self, operator: str) -> None:
        if operator == "\n":
            self._newline(1)
            self._end("\n")
            self._skip_heredocs()
            return
        self._at += len(operator)
        self._end(operator)

    def _redirect(self, found: re.Match[str]) -> None:
        """A redirection and its target, which are no words of the command."""
        self._at = found.end()
        while self._at < len(self._text) and self._text[self._at] in _BLANKS:
            self._at += 1
        if self._at >= len(self._text) or self._text[self._at] in "\n|;&()":
            if found[0].endswith("&") and self._text.startswith("-", self._at):
                self._at += 1
            return
        start = self._at
        self._part()
        if found[0].rstrip("-").endswith("<<") and not found[0].endswith("<<<"):
            mark = self._text[start : self._at]
            self._heredocs.append((re.sub(r"[\"'\\]", "", mark), found[0].endswith("-")))

    def _skip_heredocs(self) -> None:
        for mark, indented in self._heredocs:
            while self._at < len(self._text):
                stop = self._text.find("\n", self._at)
                stop = len(self._text) if stop < 0 else stop
                line = self._text[self._at : stop]
                self._at = stop
                if stop < len(self._text):
                    self._newline(1)
                if (line.lstrip("\t") if indented else line) == mark:
                    break
        self._heredocs = []

    def _end(self, operator: str) -> None:
        """The end of a simple command; assignments without one are kept for what follows."""
        if not self._words:
            self._variables.update({name: word.text for name, word in self._assigned if word.known})
            for name, word in self._assigned:
                if not word.known:
                    self._variables.pop(name, None)
        if self._words or self._assigned:
            self.commands.append(Simple(tuple(self._words), tuple(self._assigned), operator))
            self._export()
        self._words, self._assigned, self._continued_at = [], [], -1

    def _export(self) -> None:
        """`export NAME=value`: the value is known from here on."""
        if self._words and self._words[0].text in ("export", "declare", "typeset", "set"):
            for word in self._words[1:]:
                name, given, value = word.text.partition("=")
                if given and word.known and _NAME.fullmatch(name):
                    self._variables[name] = value

    def _word(self) -> None:
        line, column = self._line, self._column()
        assignment = None if self._words else _ASSIGNMENT.match(self._text, self._at)
        parts = self._part()
        if assignment and parts:
            name = assignment[1]
            value = " ".join(part.text for part in parts)[len(assignment[0]) :]
            known = all(part.known for part in parts)
            quoted = any(part.quoted for part in parts)
            self._assigned.append((name, Word(value, line, column, known, quoted)))
            self._count += 1
            return
        for part in parts:
            if not self._words and not part.quoted and part.text in _KEYWORDS:
                continue
            self._words.append(Word(part.text, line, column, part.known, part.quoted))
            self._count += 1

    def _part(self) -> list[_Part]:
        """One written word. Blanks in an unquoted variable split it, so that there may be several, or none."""
        parts = [_Part()]
        begun = False
        if self._text.startswith("~", self._at) and self._text[self._at + 1 : self._at + 2] in ("", "/", " ", "\n"):
            home = self._variables.get("HOME")
            parts[-1].text += home if home is not None else "~"
            self._at += 1
            begun = True
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == "<" and (not begun or self._text[self._at - 1] in "=/:,") and self._placeholder(parts[-1]):
                begun = True
                continue
            if character in _BLANKS or character in "\n|;&()<>":
                break
            begun |= self._piece(character, parts)
        return [part for part in parts if part.text or part.quoted or not part.known] if begun else []

    def _placeholder(self, part: _Part) -> bool:
        """Whether a `<name>` stands here; it is taken as a part that is not known."""
        found = _PLACEHOLDER.match(self._text, self._at)
        if found is None:
            return False
        part.text += found[0]
        part.known = False
        self._at = found.end()
        return True

    def _piece(self, character: str, parts: list[_Part]) -> bool:
        """One piece of a word; whether it makes a word even if it is empty."""
        part = parts[-1]
        if character == "\\":
            return self._backslash(part)
        if character == "'":
            self._single(part)
            return True
        if character == '"':
            self._double(part)
            return True
        if character == "`":
            self._substitution("`", part)
            return True
        if character == "$":
            self._dollar(parts, quoted=False)
            return True
        part.text += character
        self._at += 1
        return True

    def _backslash(self, part: _Part) -> bool:
        following = self._text[self._at + 1 : self._at + 2]
        if following == "\n":
            self._newline(2)
            self._continued_at = self._at
            return False
        blank = re.compile(r"\\[ \t]+(?=\n|$)").match(self._text, self._at)
        if blank:
            self.problem("blank-after-backslash")
        part.text += following or "\\"
        part.quoted = True
        self._at += 2 if following else 1
        return True

    def _single(self, part: _Part) -> None:
        stop = self._text.find("'", self._at + 1)
        part.quoted = True
        if stop < 0:
            self._open("'", part)
            return
        part.text += self._text[self._at + 1 : stop]
        self._move(stop + 1)

    def _open(self, mark: str, part: _Part) -> None:
        """A quote that is never closed: the rest of its line is taken for the word."""
        self.problem("quote-open", text=mark)
        self._open_found = True
        stop = self._text.find("\n", self._at)
        stop = len(self._text) if stop < 0 else stop
        part.text += self._text[self._at + len(mark) : stop]
        self._at = stop

    def _closing(self, at: int, closer: str, quoted: bool = False) -> int:
        """`nesting.closing` in this text. Where one thing stays open already, the next is looked for in its line only."""
        if at <= self._in_vain:
            return -1
        stop = self._text.find("\n", at) if self._open_found else -1
        stop = len(self._text) if stop < 0 else stop
        found = nesting.closing(self._text, at, closer, stop, quoted)
        if found < 0 and self._open_found:
            self._in_vain = stop
        return found

    def _move(self, to: int) -> None:
        """Go on at a place, with the lines on the way counted."""
        lines = self._text.count("\n", self._at, to)
        if lines:
            self._line += lines
            self._line_start = self._text.rfind("\n", self._at, to) + 1
        self._at = to

    def _double(self, part: _Part) -> None:
        closing = self._closing(self._at + 1, '"')
        part.quoted = True
        if closing < 0:
            self._open('"', part)
            return
        self._at += 1
        while self._at < closing:
            character = self._text[self._at]
            if character == "\\" and self._at + 1 < closing:
                self._escaped_in_double(part)
            elif character == "$":
                self._dollar([part], quoted=True, most=closing)
            elif character == "`":
                self._substitution("`", part)
            elif character == "\n":
                part.text += character
                self._newline(1)
            else:
                part.text += character
                self._at += 1
        self._move(max(closing + 1, self._at))

    def _escaped_in_double(self, part: _Part) -> None:
        following = self._text[self._at + 1]
        if following == "\n":
            self._newline(2)
            return
        part.text += following if following in '$`"\\' else "\\" + following
        self._at += 2

    def _dollar(self, parts: list[_Part], quoted: bool, most: int = -1) -> None:
        text = self._text
        part = parts[-1]
        following = text[self._at + 1 : self._at + 2]
        name = _NAME.match(text, self._at + 1)
        if following == "'" and not quoted:
            self._at += 1
            self._single(part)
        elif following == '"' and not quoted:
            self._at += 1  # a text that may be translated: the dollar sign is no part of it
        elif following == "(":
            self._substitution("$(", part)
        elif following == "{":
            self._braced(parts, quoted)
        elif name:
            self._at = name.end()
            self._expand(name[0], None, parts, quoted)
        elif following and following in "0123456789@*#?$!-":
            part.text += "$" + following
            part.known = False
            self._at += 2
        else:
            part.text += "$"
            self._at += 1

    def _braced(self, parts: list[_Part], quoted: bool) -> None:
        """`${NAME}` and `${NAME:-default}`; any other form is for the shell to tell."""
        stop = self._closing(self._at + 2, "}", quoted)
        if stop < 0:
            self._open_found = True
            parts[-1].text += "$"
            self._at += 1
            return
        inside = self._text[self._at + 2 : stop]
        told = re.fullmatch(r"([A-Za-z_]\w*)(?:(:?-)([^$`\"'{]*))?", inside, re.ASCII)
        if told is None:
            parts[-1].text += self._text[self._at : stop + 1]
            parts[-1].known = False
            self._move(stop + 1)
            return
        self._move(stop + 1)
        self._expand(told[1], told[3] if told[2] else None, parts, quoted)

    def _expand(self, name: str, default: str | None, parts: list[_Part], quoted: bool) -> None:
        part = parts[-1]
        value = self._variables.get(name)
        if value is None or (not value and default is not None):
            value = default if default is not None else value
        if value is None or len(part.text) + len(value) > MOST_EXPANDED:
            part.text += f"${name}"
            part.known = False
            return
        if quoted or not re.search(r"\s", value):
            part.text += value
            return
        pieces = value.split()
        if not pieces or value[0].isspace():
            parts.append(_Part())
        for number, piece in enumerate(pieces[:MOST_WORDS]):
            if number:
                parts.append(_Part())
            parts[-1].text += piece
        if pieces and value[-1].isspace():
            parts.append(_Part())

    def _substitution(self, opening: str, part: _Part) -> None:
        """`$(…)` or backticks: kept as written, and not known."""
        start = self._at
        stop = self._closing(start + len(opening), "`" if opening == "`" else ")")
        if stop < 0:
            self.problem("quote-open", text=opening)
            self._open_found = True
            stop = self._text.find("\n", start)
            stop = len(self._text) - 1 if stop < 0 else stop - 1
        part.text += self._text[start : stop + 1][:200]
        part.known = False
        self._move(max(stop + 1, start + 1))
