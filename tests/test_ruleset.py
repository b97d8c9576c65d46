"""The compiled, cached form of the rules: whatever happens to the cache costs time and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diagnose import places, ruleset
from diagnose.pattern import Plain
from diagnose.ruleset import _read_cache, compile_rules
from diagnose.scan import compile_scanner
from tests.support import TAXONOMY, environment, installation, rule, ruleset_of, run_doctor, write_rules

LOG = b"the words of first-trouble\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return installation(tmp_path / "home", rule("first-trouble"), rule("second-trouble"))


def cached(home: Path) -> Path:
    """The one compiled file of an installation."""
    [file] = (home / "cache" / "llmdoctor").iterdir()
    return file


def found(home: Path, text: bytes = LOG) -> list[str]:
    """The rules that llmdoctor finds in a text, in a new process."""
    done = run_doctor(home, "diagnose", "--format", "json", text=text)
    assert (done.stderr, done.returncode in (0, 1)) == (b"", True)
    return [cause["rule"] for cause in json.loads(done.stdout)["diagnoses"]]


def test_the_cache_is_made_and_used(home: Path) -> None:
    """The first run writes the compiled form; the next one reads it and writes nothing."""
    assert found(home) == ["first-trouble"]
    before = cached(home).stat()
    assert found(home) == ["first-trouble"]
    after = cached(home).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_cached_run_reads_no_yaml(home: Path) -> None:
    """What the cache is for: with it neither YAML nor the rule reader is imported."""
    found(home)
    code = "import sys; from diagnose import ruleset; ruleset.load(); print('yaml' in sys.modules, 'diagnose.rules' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=environment(home), capture_output=True, check=True
    )
    assert done.stdout.strip() == b"False False"


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "other", "folder", "foreign automaton"])
def test_a_damaged_cache_is_made_again(home: Path, damage: str) -> None:
    """Empty, cut off, with a wrong byte, of another program, not even a file: the answer is the same."""
    found(home)
    file = cached(home)
    data = file.read_bytes()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        flipped = data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]
        broken = {
            "empty": b"",
            "short": data[: len(data) // 2],
            "flipped": flipped,
            "other": b"x" * 5000,
            "foreign automaton": foreign(file),
        }
        file.write_bytes(broken[damage])
    assert found(home) == ["first-trouble"]
    assert damage == "folder" or file.read_bytes() == data


def foreign(file: Path) -> bytes:
    """The compiled file as another processor would have made it: sound, but with an automaton that does not load."""
    import zlib

    import msgspec
    from msgspec.structs import replace

    stored = _read_cache(str(file))
    assert stored is not None
    payload = msgspec.msgpack.encode(replace(stored, database=b"of another processor"))
    return b"llmdoctor-rules %08x %s" % (zlib.crc32(payload), payload)


def test_a_foreign_automaton_of_touched_rules_is_made_again(home: Path) -> None:
    """The content being the same does not make an automaton fit."""
    found(home)
    cached(home).write_bytes(foreign(cached(home)))
    os.utime(home / "rules" / "family" / "first-trouble.yaml", (1, 1))
    assert found(home) == ["first-trouble"]


def test_touched_rules_are_not_compiled_again(home: Path) -> None:
    """A file with another time and the same content keeps its compiled form; only what is known of the time changes."""
    found(home)
    before = _read_cache(str(cached(home)))
    os.utime(home / "rules" / "family" / "first-trouble.yaml", (1, 1))
    assert found(home) == ["first-trouble"]
    after = _read_cache(str(cached(home)))
    assert before is not None
    assert after is not None
    assert (before.content, before.database) == (after.content, after.database)
    assert before.quick != after.quick


def test_a_changed_rule_counts_at_once(home: Path) -> None:
    """Another content is another compiled form: the old words are gone, the new ones match."""
    found(home)
    write_rules(home / "rules" / "family", [rule("first-trouble", "quite other words")])
    assert found(home) == []
    assert found(home, b"quite other words\n") == ["first-trouble"]


def test_a_new_and_a_removed_rule_count_at_once(home: Path) -> None:
    """A file more or less is noticed."""
    found(home)
    write_rules(home / "rules" / "other", [rule("third-trouble")])
    assert found(home, b"the words of third-trouble\n") == ["third-trouble"]
    (home / "rules" / "family" / "first-trouble.yaml").unlink()
    assert found(home) == []


def test_an_editors_lock_hides_no_change(home: Path) -> None:
    """A dangling link among the rules (an editor's lock) neither is a rule nor hides that others changed."""
    for name in ("aaa", "zzz"):
        (home / "rules" / "family" / f".#{name}.yaml").symlink_to("someone@nowhere:42")
    assert found(home) == ["first-trouble"]
    write_rules(home / "rules" / "family", [rule("first-trouble", "quite other words")])
    assert found(home, b"quite other words\n") == ["first-trouble"]


def test_links_in_a_circle_are_not_followed(home: Path) -> None:
    """A folder that links to itself is read once."""
    for name in ("one", "two", "three"):
        (home / "rules" / name).symlink_to(home / "rules")
    assert found(home) == ["first-trouble"]


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/below"])
def test_a_cache_that_cannot_be_written(home: Path, place: str) -> None:
    """Where nothing can be written, rules are compiled each time."""
    for _ in range(2):
        done = run_doctor(home, "diagnose", "--format", "json", text=LOG, XDG_CACHE_HOME=place)
        assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_folder(home: Path) -> None:
    """A folder without permission to write costs time and nothing else."""
    (home / "cache").mkdir(mode=0o500)
    assert found(home) == ["first-trouble"]


def test_many_processes_at_once(home: Path) -> None:
    """Six first runs at once all answer, and leave one sound compiled file and nothing else."""
    command = [sys.executable, "-m", "diagnose", "diagnose", "--format", "json"]
    env = environment(home)
    runs = [
        subprocess.Popen(
            command, cwd=home, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(6)
    ]
    answers = [run.communicate(LOG) for run in runs]
    assert [(run.returncode, errors) for run, (_, errors) in zip(runs, answers, strict=True)] == [(1, b"")] * 6
    assert len({output for output, _ in answers}) == 1
    assert _read_cache(str(cached(home))) is not None


def test_other_folders_have_a_cache_of_their_own(home: Path, tmp_path: Path) -> None:
    """With and without a user's folder: two compiled files that do not replace each other."""
    mine = write_rules(tmp_path / "mine", [rule("my-trouble")])
    found(home)
    run_doctor(home, "diagnose", "--rules", str(mine), text=LOG)
    assert len(list((home / "cache" / "llmdoctor").iterdir())) == 2


def test_retired_rules_can_be_found_and_never_match(tmp_path: Path) -> None:
    """A retired rule keeps its page; its patterns are not looked for."""
    rules = ruleset_of(tmp_path, rule("old-trouble", retired="new-trouble took over"), rule("new-trouble"))
    kept = rules.find("old-trouble")
    assert kept is not None
    assert kept.retired == "new-trouble took over"
    assert [pattern.text for pattern in rules.patterns] == ["the words of new-trouble"]


def test_what_a_ruleset_knows(tmp_path: Path) -> None:
    """Rules by id, the study by symptom, the symptom by exception; None or the general answer for what is unknown."""
    rules = ruleset_of(tmp_path, rule("one-trouble"))
    assert rules.ids == ["one-trouble"]
    assert rules.find("no-such-trouble") is None
    assert rules.study("no/such/symptom") is None
    assert rules.symptom_of("TypeError") == "crash/value-related-error/typeerror"
    assert rules.symptom_of("NobodyKnowsThisError") == "crash/other-crashes"


def test_no_rules_at_all() -> None:
    """An empty set compiles and finds nothing."""
    rules = compile_rules([], TAXONOMY)
    assert (rules.ids, rules.scanner.find(b"the words")) == ([], [])
    assert compile_scanner([Plain(("the words",))]).find(b"the words")


def test_of_installed_rules_only_the_folders_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installer makes them anew; beside a checkout a touched file is seen."""
    folder = write_rules(tmp_path / "bundled" / "rules" / "family", [rule("a-cause")]).parent
    file = folder / "family" / "a-cause.yaml"
    before = ruleset._quick_key([str(folder)])
    os.utime(file, (1, 1))
    assert ruleset._quick_key([str(folder)]) != before

    monkeypatch.setattr(places, "_PACKAGE", str(tmp_path))
    before = ruleset._quick_key([str(folder)])
    os.utime(file, (2, 2))
    assert ruleset._quick_key([str(folder)]) == before
    (folder / "family" / "b-cause.yaml").write_text("", encoding="utf-8")
    assert ruleset._quick_key([str(folder)]) != before
