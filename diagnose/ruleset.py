"""The compiled, cached form of the rules: what matching needs, and nothing that costs time at start-up.

A compiled file holds the first-pass automaton, the patterns, and each rule encoded apart, decoded only when it matched.
It is keyed by the content of the rule files; file sizes and times are a shortcut to know that nothing changed.
A file that is missing, damaged, from another version or machine, or that cannot be written, is never an error.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from diagnose.model import Rule, Study
from diagnose.scan import Scanner, compile_scanner

if TYPE_CHECKING:
    from diagnose.rules import RuleFile
    from diagnose.taxonomy import Taxonomy

FORMAT = 2
_CODE = tuple(
    os.path.join(os.path.dirname(__file__), f"{name}.py")
    for name in ("facts", "model", "pattern", "predicate", "rules", "ruleset", "scan", "sources/banner", "yaml_lines")
)
"""What decides the content of a compiled file beside the rules: an update of llmdoctor makes it anew."""
_MAGIC = b"llmdoctor-rules"


class Pattern(Struct, frozen=True, array_like=True):
    """A log pattern: which rule it belongs to (index), and its place among that rule's patterns."""

    rule: int
    order: int
    text: str


class Environment(Struct, frozen=True, array_like=True):
    """An environment rule (index), and the first parts of the fact names without which it cannot hold."""

    rule: int
    needs: list[str]


class _Stored(Struct, frozen=True):
    """The content of a compiled file. `quick` and `content` say which rule files it was made from."""

    quick: str
    content: str
    ids: list[str]
    rules: list[bytes]
    patterns: list[Pattern]
    environment: list[Environment]
    database: bytes
    owners: list[list[int]]
    fact_database: bytes
    fact_owners: list[list[int]]
    studies: dict[str, Study]
    causes: dict[str, str]
    exceptions: dict[str, str]


class RuleSet:
    """All rules, ready to match. `patterns` and `scanner` belong together: the scanner's owners index the patterns.

    `fact_scanner` finds the lines that the banner reader reads; it is kept here since it takes time to compile.
    """

    def __init__(self, stored: _Stored) -> None:
        self.stored = stored
        self.patterns = stored.patterns
        self.environment = stored.environment
        self.causes = stored.causes
        self.scanner = Scanner(stored.database, stored.owners)
        self.fact_scanner = Scanner(stored.fact_database, stored.fact_owners)
        self._rules: dict[int, Rule] = {}
        self._consequences: dict[str, frozenset[str]] = {}
        self._index = {name: index for index, name in enumerate(stored.ids)}
        self._decoder = msgspec.msgpack.Decoder(Rule)

    @property
    def ids(self) -> list[str]:
        """The ids of all rules, in the order of the files."""
        return self.stored.ids

    def rule(self, index: int) -> Rule:
        """The rule at an index, decoded on first use."""
        if index not in self._rules:
            self._rules[index] = self._decoder.decode(self.stored.rules[index])
        return self._rules[index]

    def find(self, rule_id: str) -> Rule | None:
        """The rule with this id, or None."""
        index = self._index.get(rule_id)
        return None if index is None else self.rule(index)

    def consequences(self, rule_id: str) -> frozenset[str]:
        """The ids of all rules that a rule explains, directly (`leads_to`) or through others."""
        if rule_id not in self._consequences:
            found: set[str] = set()
            front = [rule_id]
            while front:
                rule = self.find(front.pop())
                new = set(rule.leads_to if rule else ()) - found
                found |= new
                front += new
            self._consequences[rule_id] = frozenset(found)
        return self._consequences[rule_id]

    def symptom_of(self, exception: str) -> str:
        """The symptom leaf of an uncaught exception of this class."""
        return self.stored.exceptions.get(exception) or self.stored.exceptions["*"]

    def study(self, symptom: str) -> Study | None:
        """What the study saw of a symptom leaf."""
        return self.stored.studies.get(symptom)


def compile_rules(files: Sequence[RuleFile], taxonomy: Taxonomy, quick: str = "", content: str = "") -> RuleSet:
    """Compile rules that were read. Retired rules can be explained and never match."""
    from diagnose.pattern import plain
    from diagnose.sources.banner import FACT_TEXTS

    patterns = [
        Pattern(index, order, text)
        for index, item in enumerate(files)
        if not item.rule.retired
        for order, text in enumerate(item.rule.match.log)
    ]
    scanner = compile_scanner([plain(pattern.text) for pattern in patterns])
    facts = compile_scanner(FACT_TEXTS)
    encode = msgspec.msgpack.Encoder().encode
    return RuleSet(
        _Stored(
            quick=quick,
            content=content,
            ids=[item.rule.id for item in files],
            rules=[encode(item.rule) for item in files],
            patterns=patterns,
            environment=[
                Environment(index, _needs(item.rule))
                for index, item in enumerate(files)
                if not item.rule.match.log and not item.rule.retired
            ],
            database=scanner.stored,
            owners=[list(owner) for owner in scanner.owners],
            fact_database=facts.stored,
            fact_owners=[list(owner) for owner in facts.owners],
            studies=taxonomy.symptoms,
            causes=taxonomy.causes,
            exceptions=taxonomy.exceptions,
        )
    )


def _needs(rule: Rule) -> list[str]:
    """What must be known for a rule to hold: whole names, and for a name with `*` its first part and a dot."""
    from diagnose.predicate import names, parse

    asked = [name for text in rule.match.facts for name in names(parse(text))]
    needs = (name if "*" not in name else f"{name.partition('.')[0]}." for name in asked if not name.startswith("*"))
    return list(dict.fromkeys(needs))


def load(extra: Sequence[str] = ()) -> RuleSet:
    """The bundled rules and those of the folders in `extra`. Raises RuleError if a rule file has a mistake."""
    from diagnose import places

    folders = places.rule_folders(extra)
    taxonomy_file = places.taxonomy_file()
    cache = _cache_path(folders)
    quick = _quick_key([*folders, taxonomy_file, *_CODE])
    stored = _read_cache(cache)
    if stored is not None and stored.quick == quick:
        made = _usable(stored)
        if made is not None:
            return made
        stored = None
    return _compile_and_store(folders, taxonomy_file, cache, quick, stored)


def _usable(stored: _Stored) -> RuleSet | None:
    """The rules of a compiled file, or None if its automaton is from another processor or another Hyperscan."""
    try:
        return RuleSet(stored)
    except Exception:  # hyperscan's errors share no base class
        return None


def _compile_and_store(
    folders: list[str], taxonomy_file: str, cache: str, quick: str, stored: _Stored | None
) -> RuleSet:
    from pathlib import Path

    from diagnose import rules
    from diagnose.taxonomy import read_taxonomy

    content = _content_key(folders, taxonomy_file)
    if stored is not None and stored.content == content:
        renewed = _usable(replace(stored, quick=quick))
        if renewed is not None:
            _write_cache(cache, renewed.stored)
            return renewed
    taxonomy = read_taxonomy(Path(taxonomy_file))
    made = compile_rules(rules.read_rules(folders, taxonomy), taxonomy, quick, content)
    _write_cache(cache, made.stored)
    return made


def _cache_path(folders: Sequence[str]) -> str:
    from platformdirs import user_cache_dir

    key = zlib.crc32(b"\0".join(os.fsencode(os.path.abspath(folder)) for folder in folders))
    return os.path.join(user_cache_dir("llmdoctor", appauthor=False), f"rules-{FORMAT}-{key:08x}.bin")


def _walk(path: str, found: list[tuple[str, int, int]], files: bool = True) -> None:
    """Note all rule files below a folder; without `files` only its folders, whose times tell what an installer put there."""
    if not files:
        _note(path, found)
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _walk(entry.path, found, files)
                elif files and entry.name.endswith((".yaml", ".yml")):
                    _note(entry.path, found)
    except OSError:
        _note(path, found)


def _note(path: str, found: list[tuple[str, int, int]]) -> None:
    """A file's size and time; one that is not there (an editor's lock, a dangling link) is noted as such."""
    try:
        info = os.stat(path)
        found.append((path, info.st_size, info.st_mtime_ns))
    except OSError:
        found.append((path, -1, -1))


def _quick_key(paths: Sequence[str]) -> str:
    """Sizes and times of all files: equal only if nothing was touched."""
    from diagnose import __version__, places

    found: list[tuple[str, int, int]] = []
    for path in paths:
        _walk(path, found, files=not places.is_installed(path))
    found.sort()
    told = repr(found).encode()
    return f"{__version__} {len(found)} {zlib.crc32(told):08x} {zlib.adler32(told):08x}"


def _content_key(folders: Sequence[str], taxonomy_file: str) -> str:
    from hashlib import sha256

    from diagnose import __version__
    from diagnose.rules import rule_paths
    from diagnose.yaml_lines import MOST_BYTES

    digest = sha256(__version__.encode())
    for path in [*map(str, rule_paths(folders)), taxonomy_file, *_CODE]:
        digest.update(os.fsencode(path) + b"\0")
        try:
            with open(path, "rb") as file:
                digest.update(file.read(MOST_BYTES + 1))
        except OSError:
            digest.update(b"unreadable")  # reading the rules will tell
    return digest.hexdigest()


def _read_cache(path: str) -> _Stored | None:
    try:
        with open(path, "rb") as file:
            data = file.read()
        magic, checksum, payload = data.split(b" ", 2)
        if magic != _MAGIC or int(checksum, 16) != zlib.crc32(payload):
            return None
        return msgspec.msgpack.decode(payload, type=_Stored)
    except (OSError, ValueError, msgspec.MsgspecError):
        return None


def _write_cache(path: str, stored: _Stored) -> None:
    payload = msgspec.msgpack.encode(stored)
    partial = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(partial, "wb") as file:
            file.write(b"%s %08x %s" % (_MAGIC, zlib.crc32(payload), payload))
        os.replace(partial, path)
    except OSError:
        try:
            os.unlink(partial)
        except OSError:
            pass
