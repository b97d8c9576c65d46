"""Launches planted faults for real, and puts what was foretold beside what followed; run from the checkout's root:

    LLMDOCTOR_REAL_PYTHON=… LLMDOCTOR_LLAMA_SERVER=… python -m tests.real.launches [NAME …]

The interpreter has torch, transformers and peft; the server is llama.cpp's. Servers listen on loopback only.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from diagnose.causes import diagnose
from diagnose.collect import case_of_text
from diagnose.machine import joined
from diagnose.match import match
from tests.models.faults import FAULTS, Fault
from tests.models.judging import case_of_fault, diagnosis_of
from tests.models.planting import plant
from tests.test_bundled_rules import RULES

TRIAL = Path(__file__).with_name("trial.py")
SERVED: dict[str, str] = {
    "config-is-cut-off": "",
    "model-type-is-unknown": "",
    "rope-factor-is-missing": "",
    "kv-heads-differ-from-the-weights": "",
    "a-shard-is-missing": "",
    "weights-are-an-lfs-pointer": "",
    "the-only-file-is-cut-off": "",
    "no-weights-at-all": "",
    "tokenizer-json-is-an-lfs-pointer": "Unrecognized processing class",
    "tokenizer-json-is-missing": "Unrecognized processing class",
    "template-has-an-open-block": "",
    "template-has-an-unknown-name": "",
    "tokenizer-config-is-missing-for-chat": "",
    "more-experts-per-token-than-experts": "",
    "temperature-is-zero-while-sampling": "",
    "tokenizer-of-a-larger-model": "",
}
"""Faults that are also tried with `transformers serve`: it is asked for one conversation. The words are the server's, where
it does not pass on what loading says."""


class Outcome(Struct, frozen=True):
    """What became of a fault: which rule stood first before, what was written then, and which rule stands first with that log."""

    fault: str
    tried: str
    foretold: str
    expected: str
    log: str
    explained: str

    @property
    def followed(self) -> bool:
        """Whether the failure that was expected came."""
        return bool(self.expected) and self.expected in self.log

    @property
    def line(self) -> str:
        """The line of the log that tells it, or its last one."""
        lines = [line.strip() for line in self.log.splitlines() if line.strip()]
        return next((line for line in lines if self.expected in line), lines[-1] if lines else "")


def faults_tried_with(real: str) -> list[Fault]:
    """The faults that can be launched with one program."""
    return [fault for fault in FAULTS if fault.real == real and fault.follows]


def outcome(fault: Fault, tried: str, world: Path, log: str, expected: str = "") -> Outcome:
    """Judge a log together with the model that it is of."""
    case = case_of_fault(fault, world)
    told = diagnosis_of(case).diagnoses
    both = joined(case_of_text(RULES, log or "nothing", "launch.log"), case)
    after = diagnose(RULES, both, match(RULES, both)).diagnoses
    return Outcome(
        fault.name, tried, told[0].rule if told else "", expected or fault.follows, log, after[0].rule if after else ""
    )


def loaded(python: str, faults: Sequence[Fault], place: Path) -> Iterator[Outcome]:
    """Load each model with transformers (and peft) and let it answer."""
    requests = []
    for fault in faults:
        target = plant(fault, place / fault.name)
        request = {"model": str(target), "chat": fault.chat, "new_tokens": 2}
        if fault.real == "peft":
            request |= {"model": str(place / fault.name / "qwen2"), "adapter": str(target)}
        requests.append(request)
    run = subprocess.run([python, str(TRIAL)], input=json.dumps(requests), text=True, capture_output=True, cwd=place)
    assert not run.returncode, run.stderr
    for fault, line in zip(faults, run.stdout.splitlines(), strict=True):
        report = json.loads(line)
        yield outcome(fault, fault.real, place / fault.name, report["log"] + report["problem"])


def llama_server(binary: str, fault: Fault, place: Path) -> Outcome:
    """Start llama.cpp's server with the fault; it ends by itself if it cannot load the model."""
    world = place / fault.name
    target = plant(fault, world)
    given = shlex.split(fault.command)[1:] if fault.command else ["-m", str(target), "-c", "256"]
    log = _written([binary, *given, "--host", "127.0.0.1", "--port", str(_free_port())], world, 20)
    return outcome(fault, "llama-server", world, log)


def served(python: str, fault: Fault, place: Path) -> Outcome:
    """Start `transformers serve` on loopback, ask it once, and keep what it wrote and answered."""
    world = place / fault.name
    target = plant(fault, world)
    port = _free_port()
    program = [str(Path(python).with_name("transformers")), "serve"]
    if fault.command:
        given = shlex.split(fault.command)[2:]
        return outcome(fault, "transformers serve", world, _written([*program, *given], world, 60))
    with tempfile.TemporaryFile("w+") as log:
        command = [*program, "--host", "127.0.0.1", "--port", str(port)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=world, env=environment)
        try:
            answer = _asked(server, port, str(target))
        finally:
            server.terminate()
            server.wait(20)
        log.seek(0)
        text = log.read() + answer
    return outcome(fault, "transformers serve", world, text, SERVED.get(fault.name, ""))


def _asked(server: subprocess.Popen[bytes], port: int, model: str) -> str:
    """The answer to one conversation, as soon as the server listens; a failure's text."""
    body = {"model": model, "messages": [{"role": "user", "content": "Which train is late?"}], "max_tokens": 2}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(300):
        try:
            with opener.open(request, timeout=120) as response:
                return str(response.read(20_000).decode("utf-8", "replace"))
        except urllib.error.HTTPError as error:
            return error.read(20_000).decode("utf-8", "replace")
        except urllib.error.URLError:
            if server.poll() is not None:
                return ""
            time.sleep(0.3)
    return ""


def _written(command: Sequence[str], folder: Path, seconds: float) -> str:
    """What a program writes until it ends, or for so long."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.seek(0)
        return log.read()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def row(one: Outcome) -> str:
    """A line of the table: the fault, how it was tried, the rule told before, whether that stands first with the log, what followed."""
    text = re.sub(r"/\S*/", "", one.line)[:100]
    same = "explains it" if one.explained == one.foretold else f"NOT FIRST: {one.explained}"
    came = "" if one.followed else "NOT AS FORETOLD: "
    return f"{one.fault:44} {one.tried:18} {one.foretold:36} {same:12} {came}{text}"


def main() -> None:
    """Launches the faults that are named, or all that can be launched, and prints the table."""
    named = set(sys.argv[1:])
    python = os.environ.get("LLMDOCTOR_REAL_PYTHON", sys.executable)
    server = os.environ.get("LLMDOCTOR_LLAMA_SERVER", "")
    with tempfile.TemporaryDirectory() as folder:
        for one in _outcomes(python, server, named, Path(folder)):
            sys.stdout.write(row(one) + "\n")
            sys.stdout.flush()


def _outcomes(python: str, server: str, named: set[str], place: Path) -> Iterator[Outcome]:
    def wanted(faults: Sequence[Fault]) -> list[Fault]:
        return [fault for fault in faults if not named or fault.name in named]

    if server:
        for fault in wanted(faults_tried_with("llama-server")):
            yield llama_server(server, fault, place / "llama")
    serve = [fault for fault in FAULTS if fault.name in SERVED]
    for fault in wanted([*faults_tried_with("transformers serve"), *serve]):
        yield served(python, fault, place / "served")
    load = wanted([*faults_tried_with("transformers"), *faults_tried_with("peft")])
    if load:
        yield from loaded(python, load, place)


if __name__ == "__main__":
    main()
