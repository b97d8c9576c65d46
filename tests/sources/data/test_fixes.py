"""The commands that rules give really mend the data: run in a shell on a planted fault, the finding is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diagnose.causes import diagnose
from diagnose.collect import completed
from diagnose.match import match
from diagnose.model import Case
from tests.sources.data.support import MODELS, TRL, answer, chats, jsonl, read, system, user
from tests.support import facts_of
from tests.test_bundled_rules import RULES

DPO, KTO, GRPO = ({**TRL, "training.task": task} for task in ("dpo", "kto", "grpo"))
LLAMA = {"training.framework": "llamafactory", "training.task": "sft"}
N = range(20)
PAIRS = [{"prompt": f"q {n}", "chosen": f"a {n}", "rejected": f"b {n}"} for n in N]
JUDGED = [{"prompt": f"q {n}", "completion": f"a {n}", "label": n % 2 == 0} for n in N]
GOOD = '{"messages": [{"role": "user", "content": "q%d"}, {"role": "assistant", "content": "a"}]}'
LONG = {"id": "x" * 4000}

FAULTS: dict[str, tuple[Any, list[Any]]] = {
    "data-lines-unreadable": (TRL, [*chats(), '{"messages": [}']),
    "data-not-utf8": (TRL, [*chats(), GOOD.replace("q%d", "caf\xe9").encode("latin-1")]),
    "data-nul-bytes": (TRL, [*chats(), GOOD.replace("q%d", "q\0").encode()]),
    "data-raw-control-characters": (TRL, [*chats(), GOOD.replace("q%d", "q\t")]),
    "data-python-repr": (TRL, [str(row) for row in chats()]),
    "data-several-objects-on-a-line": (TRL, [*chats(), GOOD.replace("%d", "1") + GOOD.replace("%d", "2")]),
    "data-keys-twice": (TRL, [*chats(), '{"id": 1, "id": 2, ' + GOOD.replace("%d", "1")[1:]]),
    "data-half-characters": (TRL, [*chats(), GOOD.replace("q%d", "\\ud83d")]),
    "data-rows-are-no-objects": (TRL, [*chats(), "[1]", "5"]),
    "data-types-differ": (TRL, [*({**row, "n": 1} for row in chats()), {**chats()[1], "n": "x"}]),
    "data-column-comes-late": (TRL, [*({**row, **LONG} for row in chats(3000)), {**chats()[1], "new": 1}]),
    "data-key-comes-late": (TRL, [*({**row, **LONG} for row in chats(3000)), {"messages": [user("q"), answer("a", name="x")]}]),
    "data-type-comes-late": (
        TRL,
        [*({**row, **LONG, "n": None} for row in chats(3000)), {**chats()[1], "id": "y", "n": 5}],
    ),
    "data-without-columns-for-sft": (TRL, [{"instruction": f"do {n}", "input": "it", "output": f"done {n}"} for n in N]),
    "data-conversation-misnamed": (TRL, [{"dialog": row["messages"]} for row in chats()]),
    "data-conversations-with-role-and-content": (TRL, [{"conversations": row["messages"]} for row in chats()]),
    "data-messages-with-from-and-value": (TRL, [{"messages": [{"from": "human", "value": f"{n}"}, {"from": "gpt", "value": "a"}]} for n in N]),
    "data-without-completion": (TRL, [{"prompt": f"q {n}", "response": "a"} for n in N]),
    "data-without-pairs": (DPO, [{"prompt": f"q {n}", "chosen": "a", "reject": "b"} for n in N]),
    "data-without-prompts": (GRPO, chats()),
    "data-roles-of-sharegpt": (TRL, [{"conversations": [{"from": "human", "value": f"{n}"}, {"from": "gpt", "value": "a"}]} for n in N]),
    "data-conversation-empty": (TRL, [*chats(), {"messages": []}]),
    "data-conversation-missing": (TRL, [*chats(), {"messages": None}]),
    "data-conversation-is-text": (TRL, [{"messages": json.dumps(row["messages"])} for row in chats()]),
    "data-messages-no-objects": (TRL, [*chats(), {"messages": ["q", "a"]}]),
    "data-messages-without-content": (TRL, [*chats(), {"messages": [user("q"), answer(None)]}]),
    "data-content-is-no-text": (TRL, [*chats(), {"messages": [user("q"), answer(7)]}]),
    "data-calls-are-no-list": (TRL, [*chats(), {"messages": [user("q"), answer("a", tool_calls="[]")]}]),
    "data-answers-missing": (TRL, [*chats(), {"messages": [user("q")]}]),
    "data-answers-empty": (TRL, [*chats(), {"messages": [user("q"), answer(" ")]}]),
    "data-ends-without-answer": (TRL, [*chats(), {"messages": [user("q"), answer("a"), user("r")]}]),
    "data-text-missing": (TRL, [*({"text": f"{n}"} for n in N), {"text": None}]),
    "data-text-is-no-text": (TRL, [*({"text": f"{n}"} for n in N), {"text": 5}]),
    "data-text-empty": (TRL, [*({"text": f"{n}"} for n in N), {"text": " "}]),
    "data-completion-missing": (TRL, [*({"prompt": f"{n}", "completion": "a"} for n in N), {"prompt": "q", "completion": None}]),
    "data-completion-empty": (TRL, [*({"prompt": f"{n}", "completion": "a"} for n in N), {"prompt": "q", "completion": ""}]),
    "data-prompt-missing": (TRL, [*({"prompt": f"{n}", "completion": "a"} for n in N), {"prompt": None, "completion": "b"}]),
    "data-prompt-and-completion-differ-in-kind": (TRL, [{"prompt": [user(f"{n}")], "completion": "a"} for n in N]),
    "data-pairs-without-an-answer": (DPO, [*PAIRS, {**PAIRS[0], "prompt": "x", "rejected": None}]),
    "data-pairs-without-chosen": (DPO, [*PAIRS, {**PAIRS[0], "prompt": "x", "chosen": None}]),
    "data-pair-same": (DPO, [*PAIRS, {"prompt": "x", "chosen": "y", "rejected": "y"}]),
    "data-pairs-of-different-prompts": (DPO, [{"chosen": [user(f"q {n}"), answer("a")], "rejected": [user(f"p {n}"), answer("b")]} for n in N]),
    "data-label-is-text": (KTO, [{**row, "label": str(row["label"])} for row in JUDGED]),
    "data-label-is-no-flag": (KTO, [{**row, "label": 1 if row["label"] else -1} for row in JUDGED]),
    "data-label-missing": (KTO, [*JUDGED, {**JUDGED[0], "prompt": "x", "label": None}]),
    "data-completion-loss-without-completions": ({**TRL, "training.loss_on": "completion"}, [{"messages": [system("s"), *row["messages"]]} for row in chats()]),
    "data-special-tokens-in-text": ({**TRL, "training.model": str(MODELS / "qwen2")}, [*chats(), {"messages": [user("q"), answer("a<|im_end|>")]}]),
    "data-begins-with-bos-twice": ({**TRL, "special.bos.text": "<s>", "tokenizer.adds_bos": True}, [{"text": f"<s>a {n}"} for n in N]),
    "data-html-entities": (TRL, [{"messages": [user(f"q {n}"), answer("a &amp; b &#39;")]} for n in N]),
    "data-newlines-escaped": (TRL, [{"messages": [user(f"q {n}"), answer("a\\nThen b")]} for n in N]),
    "data-control-characters": (TRL, [{"messages": [user(f"q {n}"), answer("a\x07")]} for n in N]),
    "data-replacement-characters": (TRL, [*chats(), GOOD.replace("q%d", "q\ufffd")]),
    "data-many-duplicates": (TRL, [*chats(), *chats()]),
    "data-some-duplicates": (TRL, [*chats(40), chats()[3]]),
    "data-labels-all-masked": (TRL, [*({"input_ids": [1, n], "labels": [1, n]} for n in N), {"input_ids": [1, 99], "labels": [-100, -100]}]),
}  # fmt: skip


_MAY_COME = {"data-some-duplicates", "data-types-differ"}
"""What a mended file may have: two lines that differed in their fault alone are the same now."""


def causes(path: Path, known: Any) -> dict[str, list[str]]:
    """The rules that find something in a file, with the commands of their fixes."""
    facts, unchecked = read([path], known)
    case = completed(Case((*facts_of(dict(known)), *facts.values()), unchecked=tuple(unchecked), machine=True))
    found = diagnose(RULES, case, match(RULES, case)).diagnoses
    told = {cause.rule: [fix.run for fix in cause.fix if ">" in fix.run] for cause in found}
    return told | {symptom.rule: [] for cause in found for symptom in cause.symptoms}


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
@pytest.mark.parametrize("rule", FAULTS)
def test_the_command_mends_the_data(tmp_path: Path, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first command that writes a file; what it writes has the fault no more, and no new error."""
    known, rows = FAULTS[rule]
    path = jsonl(tmp_path / "train.jsonl", rows)
    before = causes(path, known)

    assert before.get(rule), before
    command = before[rule][0].partition("  #")[0]
    place = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=place, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, (command, done.stderr)
    mended = tmp_path / command.rpartition("> ")[2].strip()
    assert mended.stat().st_size
    after = causes(mended, known)
    assert rule not in after, command
    assert after.keys() <= before.keys() | _MAY_COME, after.keys() - before.keys()
