"""YAML → rules: the schema of a rule, and every mistake of every file at once, with line numbers.

The compiled, cached form that matching needs is in `ruleset.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from msgspec import Struct

from diagnose import facts, places, predicate
from diagnose.errors import Mistake, RuleError
from diagnose.model import CERTAINTIES, SEVERITIES, Example, Fix, Kind, Labels, Match, Rule
from diagnose.pattern import PatternError, plain, regex
from diagnose.taxonomy import Taxonomy, read_taxonomy
from diagnose.template import NAME, fact_of
from diagnose.yaml_lines import File, Node, shown

ID = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")
KINDS: tuple[str, ...] = get_args(Kind)
RESTARTS = ("may-help", "cannot-help")

_REQUIRED = ("id", "title", "severity", "labels", "match", "why", "fix", "examples")
_OPTIONAL = ("kind", "certainty", "symptom_only", "leads_to", "restart", "references", "retired")


class RuleFile(Struct, frozen=True):
    """A rule with its proof: the cases that it must match, and the near misses that it must not."""

    rule: Rule
    positive: tuple[Example, ...]
    negative: tuple[Example, ...]
    lines: dict[str, int]


def read_rules(folders: Sequence[str | Path], taxonomy: Taxonomy) -> list[RuleFile]:
    """Read all rules below the folders (or single files). Raises RuleError with every mistake that was found."""
    read, mistakes = survey_rules(folders, taxonomy)
    if mistakes:
        raise RuleError(mistakes)
    return read


def survey_rules(folders: Sequence[str | Path], taxonomy: Taxonomy) -> tuple[list[RuleFile], list[Mistake]]:
    """All rules below the folders that can be read, and every mistake in all files, by file and line."""
    read: list[RuleFile] = []
    mistakes: list[Mistake] = []
    paths = rule_paths(folders)
    for path in paths:
        file = File(path)
        made = _read_file(file, taxonomy)
        mistakes += file.mistakes
        if made and not file.mistakes:
            read.append(made)
    mistakes += _check_together(read, {path.stem for path in paths})
    return read, sorted(mistakes, key=lambda m: (m.file, m.line))


def rule_paths(folders: Sequence[str | Path]) -> list[Path]:
    """The rule files below folders, in a stable order. Raises RuleError if a folder is not there."""
    found: list[Path] = []
    for folder in map(Path, folders):
        if folder.is_file():
            found.append(folder)
        elif folder.is_dir():
            if not os.access(folder, os.R_OK | os.X_OK):
                raise RuleError([Mistake(str(folder), 0, "not allowed to read this folder")])
            found += sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml") and path.is_file())
        else:
            raise RuleError([Mistake(str(folder), 0, "no such file or folder")])
    return found


def _read_file(file: File, taxonomy: Taxonomy) -> RuleFile | None:
    root = file.compose()
    if root is None:
        return None
    if not isinstance(root.value, dict):
        file.wrong(root.line, "a rule is a mapping of keys: id, title, severity, labels, match, why, fix, examples")
        return None
    top: dict[str, Node] = root.value
    for key in top:
        if key not in _REQUIRED + _OPTIONAL:
            file.wrong(root.keys[key], f"unknown key {key!r}{_nearest(key, _REQUIRED + _OPTIONAL)}")
    for key in _REQUIRED:
        if key not in top:
            file.wrong(1, f"key {key!r} is missing")
    match = _match(file, top.get("match"))
    captures = _captures(match)
    if not match.log and any("*" in text for text in match.facts):
        captures.add("instance")
    positive, negative = _examples(file, top.get("examples"), bool(match.log))
    rule = Rule(
        id=_id(file, top.get("id")),
        title=_template(file, _text(file, top, "title", one_line=True), top.get("title"), captures),
        severity=_choice(file, top.get("severity"), "severity", SEVERITIES, "error"),  # type: ignore[arg-type]
        labels=_labels(file, top.get("labels"), taxonomy),
        match=match,
        why=_template(file, _text(file, top, "why").strip(), top.get("why"), captures),
        fix=_fixes(file, top.get("fix"), captures),
        kind=_choice(file, top.get("kind"), "kind", KINDS, "specific"),  # type: ignore[arg-type]
        certainty=_choice(file, top.get("certainty"), "certainty", CERTAINTIES, "likely"),  # type: ignore[arg-type]
        symptom_only=_flag(file, top.get("symptom_only"), "symptom_only"),
        leads_to=_strings(file, top.get("leads_to"), "leads_to"),
        restart=_choice(file, top.get("restart"), "restart", RESTARTS, ""),
        references=_references(file, top.get("references")),
        retired=_text(file, top, "retired"),
        family=file.path.parent.name,
        file=os.fsencode(file.path).decode("utf-8", "replace"),
    )
    return RuleFile(rule, positive, negative, root.keys)


def _nearest(word: str, words: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, list(words), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _text(file: File, top: dict[str, Node], key: str, one_line: bool = False) -> str:
    node = top.get(key)
    if node is None:
        return ""
    if not isinstance(node.value, str) or not node.value.strip():
        file.wrong(node.line, f"{key!r} must be text")
        return ""
    if one_line and "\n" in node.value.strip():
        file.wrong(node.line, f"{key!r} must be one line")
    return node.value.strip() if one_line else node.value


def _id(file: File, node: Node | None) -> str:
    if node is None:
        return file.path.stem
    if not isinstance(node.value, str) or not ID.fullmatch(node.value):
        file.wrong(node.line, f"id {shown(node.value)} must be kebab-case: lower case letters, digits and hyphens")
    elif node.value != file.path.stem:
        file.wrong(node.line, f"id {node.value!r} must be the file's name, {file.path.stem!r}")
    return str(node.value)


def _choice(file: File, node: Node | None, key: str, allowed: Sequence[str], default: str) -> str:
    if node is None:
        return default
    if node.value not in allowed:
        file.wrong(node.line, f"{key} {shown(node.value)} must be one of {', '.join(allowed)}")
        return default
    return str(node.value)


def _flag(file: File, node: Node | None, key: str) -> bool:
    if node is not None and not isinstance(node.value, bool):
        file.wrong(node.line, f"{key!r} must be true or false")
    return node is not None and node.value is True


def _strings(file: File, node: Node | None, key: str) -> tuple[str, ...]:
    if node is None:
        return ()
    if not isinstance(node.value, list) or not all(isinstance(item.value, str) for item in node.value):
        file.wrong(node.line, f"{key!r} must be a list of texts (quote what YAML would read as a number)")
        return ()
    return tuple(item.value for item in node.value)


def _references(file: File, node: Node | None) -> tuple[str, ...]:
    links = _strings(file, node, "references")
    for link in links:
        if not link.startswith("https://"):
            file.wrong(node.line if node else 0, f"reference {link!r} must be an https link")
    return links


def _labels(file: File, node: Node | None, taxonomy: Taxonomy) -> Labels:
    if node is None:
        return Labels("", "")
    if not isinstance(node.value, dict):
        file.wrong(node.line, "'labels' must be a mapping with symptom and cause")
        return Labels("", "")
    known: dict[str, Collection[str]] = {
        "symptom": taxonomy.symptoms,
        "cause": taxonomy.causes,
        "stage": Taxonomy.STAGES,
    }
    found = {"symptom": "", "cause": "", "stage": ""}
    for key, item in node.value.items():
        if key not in known:
            file.wrong(node.keys[key], f"unknown label {key!r}{_nearest(key, known)}")
        elif not isinstance(item.value, str) or (
            item.value not in known[key] and (key, item.value) != ("symptom", Taxonomy.OF_THE_EXCEPTION)
        ):
            file.wrong(
                node.keys[key],
                f"{key} {shown(item.value)} is not in the taxonomy{_nearest(str(item.value), known[key])}",
            )
        else:
            found[key] = item.value
    for key in ("symptom", "cause"):
        if key not in node.value:
            file.wrong(node.line, f"label {key!r} is missing")
    return Labels(**found)


def _match(file: File, node: Node | None) -> Match:
    if node is None:
        return Match()
    if not isinstance(node.value, dict):
        file.wrong(node.line, "'match' must be a mapping with log or facts")
        return Match()
    for key in node.value:
        if key not in ("log", "unless", "where", "facts"):
            file.wrong(
                node.keys[key], f"unknown key {key!r} in match{_nearest(key, ('log', 'unless', 'where', 'facts'))}"
            )
    parts = {key: _strings(file, node.value.get(key), key) for key in ("log", "unless", "where", "facts")}
    if not parts["log"] and not parts["facts"]:
        file.wrong(node.line, "match needs log patterns, facts, or both")
    if (parts["where"] or parts["unless"]) and not parts["log"]:
        file.wrong(node.line, "where and unless speak of an event, so match needs log patterns")
    for key in ("log", "unless"):
        for index, pattern in enumerate(parts[key]):
            _check_pattern(file, node.value[key].value[index].line, pattern, needs_plain=key == "log")
    found = Match(**parts)
    captures = _captures(found)
    for key in ("where", "facts"):
        for index, condition in enumerate(parts[key]):
            _check_condition(file, node.value[key].value[index].line, condition, key, captures)
    return found


def _check_pattern(file: File, line: int, pattern: str, needs_plain: bool) -> None:
    try:
        regex(pattern)
        if needs_plain:
            plain(pattern)
        if regex(pattern).search("") is not None:
            file.wrong(line, f"pattern {pattern!r} matches the empty text")
    except PatternError as error:
        file.wrong(line, f"pattern {pattern!r}: {error}")


def _check_condition(file: File, line: int, condition: str, key: str, captures: set[str]) -> None:
    try:
        parsed = predicate.parse(condition)
    except predicate.PredicateError as error:
        file.wrong(line, str(error))
        return
    names = [parsed.name] + ([str(parsed.value)] if parsed.reference else [])
    for name in names:
        if name.startswith("capture."):
            if name.removeprefix("capture.") not in captures:
                file.wrong(line, f"{condition!r}: no pattern captures {name.removeprefix('capture.')!r}")
        elif name.startswith("event."):
            if name not in facts.EVENT_NAMES:
                file.wrong(line, f"{condition!r}: nobody defines {name!r}{_nearest(name, facts.EVENT_NAMES)}")
            elif key == "facts":
                file.wrong(line, f"{condition!r} speaks of the event: write it under where")
        elif facts.describe(name) is None:
            file.wrong(
                line,
                f"{condition!r}: nobody defines the fact {name!r}{_nearest(name, [k.name for k in facts.CATALOGUE])}",
            )
        elif key == "where":
            file.wrong(line, f"{condition!r} speaks of the machine: write it under facts")


def _captures(match: Match) -> set[str]:
    return {name for pattern in match.log for name in re.findall(r"\(\?P<(\w+)>", pattern)}


def _template(file: File, text: str, node: Node | None, captures: set[str]) -> str:
    for name, _ in NAME.findall(text):
        known = name in captures or name in facts.EVENT_NAMES or name == "model"
        if not known and facts.describe(fact_of(name)) is None:
            file.wrong(node.line if node else 0, f"{{{{{name}}}}} is neither captured by a pattern nor a fact")
    return text


def _fixes(file: File, node: Node | None, captures: set[str]) -> tuple[Fix, ...]:
    if node is None:
        return ()
    if not isinstance(node.value, list) or not node.value:
        file.wrong(node.line, "'fix' must be a list of alternatives, best first")
        return ()
    fixes: list[Fix] = []
    for item in node.value:
        if not isinstance(item.value, dict) or "do" not in item.value:
            file.wrong(item.line, "each fix needs 'do': what to do, in a sentence")
            continue
        parts: dict[str, str] = {}
        for key, value in item.value.items():
            if key == "when":
                continue
            if key not in ("do", "run", "verify", "expect"):
                file.wrong(
                    item.keys[key],
                    f"unknown key {key!r} in fix{_nearest(key, ('do', 'run', 'verify', 'expect', 'when'))}",
                )
            elif not isinstance(value.value, str):
                file.wrong(item.keys[key], f"{key!r} must be text (quote it)")
            else:
                parts[key] = _template(file, value.value.strip(), value, captures)
        when = _strings(file, item.value.get("when"), "when")
        for index, condition in enumerate(when):
            _check_condition(file, item.value["when"].value[index].line, condition, "when", captures)
        fixes.append(
            Fix(
                do=parts.get("do", ""),
                run=parts.get("run", ""),
                verify=parts.get("verify", ""),
                expect=parts.get("expect", ""),
                when=when,
            )
        )
    return tuple(fixes)


def _examples(file: File, node: Node | None, has_log: bool) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    if node is None:
        return (), ()
    if not isinstance(node.value, dict):
        file.wrong(node.line, "'examples' must be a mapping with positive and negative")
        return (), ()
    for key in node.value:
        if key not in ("positive", "negative"):
            file.wrong(node.keys[key], f"unknown key {key!r} in examples{_nearest(key, ('positive', 'negative'))}")
    made: dict[str, tuple[Example, ...]] = {}
    for key in ("positive", "negative"):
        items = node.value.get(key)
        if items is None or not isinstance(items.value, list) or not items.value:
            file.wrong(node.line, f"examples need at least one {key} case")
            made[key] = ()
            continue
        made[key] = tuple(example for item in items.value if (example := _example(file, item, has_log)))
    return made["positive"], made["negative"]


def _example(file: File, node: Node, has_log: bool) -> Example | None:
    if isinstance(node.value, str):
        return Example(log=node.value)
    if not isinstance(node.value, dict):
        file.wrong(node.line, "an example is a log text, or a mapping with log, facts, captures, seen")
        return None
    parts: dict[str, Any] = {}
    for key, value in node.value.items():
        if key in ("log", "seen"):
            if isinstance(value.value, str):
                parts[key] = value.value
            else:
                file.wrong(node.keys[key], f"{key!r} of an example must be text")
        elif key in ("facts", "captures"):
            if not isinstance(value.value, dict):
                file.wrong(node.keys[key], f"{key!r} of an example must be a mapping of names to values")
                continue
            parts[key] = {name: item.value for name, item in value.value.items()}
            for name, item in value.value.items():
                _check_example_value(file, key, name, item)
        else:
            file.wrong(
                node.keys[key],
                f"unknown key {key!r} in an example{_nearest(key, ('log', 'facts', 'captures', 'seen'))}",
            )
    if has_log and not parts.get("log"):
        file.wrong(node.line, "this example has no log text")
    return Example(**parts)


def _check_example_value(file: File, key: str, name: str, item: Node) -> None:
    if key == "captures" and not isinstance(item.value, str):
        file.wrong(item.line, f"capture {name!r} must be quoted: it is text")
    if key == "facts" and not isinstance(item.value, (str, int, float)):
        file.wrong(item.line, f"fact {name!r} must be one value: text, a number, true or false")
        return
    if key == "facts":
        kind = facts.describe(name)
        if kind is None:
            file.wrong(item.line, f"nobody defines the fact {name!r}")
        elif kind.type == "version" and not isinstance(item.value, str):
            file.wrong(item.line, f"version {name!r} must be quoted: YAML reads 2.10 as 2.1")


def _check_together(read: list[RuleFile], known: set[str]) -> list[Mistake]:
    """What only all rules together show: ids used twice, `leads_to` of nobody (`known` are the ids of all files), cycles."""
    mistakes: list[Mistake] = []
    by_id: dict[str, RuleFile] = {}
    for item in read:
        first = by_id.setdefault(item.rule.id, item)
        if first is not item:
            mistakes.append(
                Mistake(
                    item.rule.file, item.lines.get("id", 1), f"id {item.rule.id!r} is already used by {first.rule.file}"
                )
            )
    for item in read:
        line = item.lines.get("leads_to", 1)
        for target in item.rule.leads_to:
            if target not in known:
                mistakes.append(
                    Mistake(item.rule.file, line, f"leads_to {target!r}: no such rule{_nearest(target, known)}")
                )
    for cycle in _cycles({key: item.rule.leads_to for key, item in by_id.items()}):
        item = by_id[cycle[0]]
        mistakes.append(
            Mistake(item.rule.file, item.lines.get("leads_to", 1), f"leads_to goes in a circle: {' → '.join(cycle)}")
        )
    return mistakes


def _cycles(edges: dict[str, tuple[str, ...]]) -> list[list[str]]:
    """One cycle for each group of rules that lead to each other."""
    done: set[str] = set()
    found: list[list[str]] = []
    for start in edges:
        path: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            node, index = stack.pop()
            if index == 0:
                if node in path:
                    found.append([*path[path.index(node) :], node])
                    continue
                if node in done:
                    continue
                path.append(node)
            targets = edges.get(node, ())
            if index < len(targets):
                stack.append((node, index + 1))
                stack.append((targets[index], 0))
            else:
                path.remove(node)
                done.add(node)
    return found


def bundled_taxonomy() -> Taxonomy:
    """The bundled taxonomy with the study's counts."""
    return read_taxonomy(Path(places.taxonomy_file()))
