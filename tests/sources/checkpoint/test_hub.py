"""The Hub is asked only when told to, through the real client, here against a small server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from diagnose.model import Fact, Unchecked
from diagnose.sources import checkpoint
from tests.sources.checkpoint.folders import COMMIT, LLAMA, OTHER, in_cache

TOKEN = "hf_" + "x" * 34


class Hub(ThreadingHTTPServer):
    """A server that answers each path as told: status, headers, JSON. It keeps the tokens that it was sent."""

    answers: dict[str, tuple[int, dict[str, str], Any]]
    tokens: list[str]
    paths: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.server.tokens.append(self.headers.get("Authorization", ""))
        self.server.paths.append(self.path)
        status, headers, body = self.server.answers.get(
            self.path.partition("?")[0], (404, {"X-Error-Code": "RepoNotFound"}, {"error": "Repository not found"})
        )
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub(("127.0.0.1", 0), _Handler)
    server.answers, server.tokens, server.paths = {}, [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def info(**changes: Any) -> dict[str, Any]:
    return {"id": "tiny/llama", "modelId": "tiny/llama", "sha": COMMIT, "private": False, "gated": False, "disabled": False,
            "tags": [], "downloads": 0, "likes": 0, "siblings": [], **changes}  # fmt: skip


def ask(hub: Hub, tmp_path: Path, model: str = "tiny/llama", **environ: str) -> tuple[dict[str, Any], list[Unchecked]]:
    """The facts of the Hub, and what could not be asked."""
    told = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_CACHE": str(tmp_path), "HOME": str(tmp_path)}
    revision = environ.pop("revision", "")
    readings = list(checkpoint.read(model, {**told, **environ}, str(tmp_path), online=True, revision=revision))
    assert not [r for r in readings if TOKEN in repr(r)], "the token was told"
    facts = {r.name: r.value for r in readings if isinstance(r, Fact) and r.name.startswith("hub.")}
    return facts, [r for r in readings if isinstance(r, Unchecked) and "Hub" in r.what]


def test_without_online_nothing_is_asked(hub: Hub, tmp_path: Path) -> None:
    """Not a single request."""
    environ = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_CACHE": str(tmp_path)}
    assert list(checkpoint.read("tiny/llama", environ, str(tmp_path)))
    assert hub.paths == []


def test_a_model_that_is_there_is_found(hub: Hub, tmp_path: Path) -> None:
    """With its newest commit."""
    hub.answers["/api/models/tiny/llama"] = (200, {}, info())
    facts, unchecked = ask(hub, tmp_path)
    assert (facts["hub.status"], facts["hub.commit"], facts["hub.gated"]) == ("found", COMMIT, "none")
    assert unchecked == []


@pytest.mark.parametrize(
    ("status", "headers", "word"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, "missing-or-private"),
        (401, {}, "missing-or-private"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "token-refused"),
        (403, {"X-Error-Code": "GatedRepo"}, "gated"),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, "disabled"),
        (403, {}, "forbidden"),
        (429, {}, "rate-limited"),
        (500, {}, "error"),
    ],
)
def test_a_refusal_is_told_as_what_it_is(
    hub: Hub, tmp_path: Path, status: int, headers: dict[str, str], word: str
) -> None:
    """An answer that means nothing is also told as not checked."""
    hub.answers["/api/models/tiny/llama"] = (status, headers, {"error": "no"})
    facts, unchecked = ask(hub, tmp_path, HF_TOKEN=TOKEN)
    assert (facts["hub.status"], facts["hub.token_sent"]) == (word, True)
    assert bool(unchecked) is (word == "error")


def test_a_revision_that_is_not_there_is_told(hub: Hub, tmp_path: Path) -> None:
    """The repository is."""
    hub.answers["/api/models/tiny/llama/revision/v9"] = (404, {"X-Error-Code": "RevisionNotFound"}, {})
    assert ask(hub, tmp_path, revision="v9")[0]["hub.status"] == "revision-missing"


@pytest.mark.parametrize(
    ("answer", "access"),
    [((200, {}, {}), "granted"), ((403, {"X-Error-Code": "GatedRepo"}, {}), "gated")],
)
def test_access_to_a_gated_model_is_tried(hub: Hub, tmp_path: Path, answer: Any, access: str) -> None:
    """Its page is public, its files are not."""
    hub.answers["/api/models/tiny/llama"] = (200, {}, info(gated="auto"))
    hub.answers["/api/models/tiny/llama/auth-check"] = answer
    facts, _ = ask(hub, tmp_path)
    assert (facts["hub.status"], facts["hub.gated"], facts["hub.access"]) == ("found", "auto", access)


def test_a_newer_revision_is_told(hub: Hub, tmp_path: Path) -> None:
    """Its files are not compared with the older ones."""
    in_cache(tmp_path)
    hub.answers["/api/models/tiny/llama"] = (
        200,
        {},
        info(sha=OTHER, siblings=[{"rfilename": "config.json", "size": 1}]),
    )
    facts, _ = ask(hub, tmp_path)
    assert facts["hub.newer"] is True
    assert "hub.files_differ" not in facts


def test_files_of_the_same_commit_are_compared(hub: Hub, tmp_path: Path) -> None:
    """By their length; names that lead elsewhere are passed over."""
    in_cache(tmp_path, files={"config.json": json.dumps(LLAMA).encode(), "model.safetensors": b"half"})
    siblings = [
        {"rfilename": "config.json", "size": len(json.dumps(LLAMA))},
        {"rfilename": "model.safetensors", "size": 9000},
        {"rfilename": "tokenizer.json", "size": 5},
        {"rfilename": "../../secret.json", "size": 5},
    ]
    hub.answers["/api/models/tiny/llama"] = (200, {}, info(siblings=siblings))
    facts, _ = ask(hub, tmp_path)
    assert (facts["hub.newer"], facts["hub.files_differ"], facts["hub.file_differs"]) == (False, 1, "model.safetensors")
    assert (facts["hub.files_missing"], facts["hub.file_missing"]) == (1, "tokenizer.json")


def test_another_name_is_told(hub: Hub, tmp_path: Path) -> None:
    """The Hub forwards the old one."""
    hub.answers["/api/models/tiny/llama"] = (200, {}, info(id="new/llama"))
    assert ask(hub, tmp_path)[0]["hub.moved_to"] == "new/llama"


def test_the_token_is_sent_and_never_told(hub: Hub, tmp_path: Path) -> None:
    """From a variable, else from the file that logging in writes; none means none."""
    hub.answers["/api/models/tiny/llama"] = (200, {}, info())
    ask(hub, tmp_path)
    ask(hub, tmp_path, HF_TOKEN=TOKEN)
    (tmp_path / "token").write_text(TOKEN + "\n")
    ask(hub, tmp_path, HF_TOKEN_PATH=str(tmp_path / "token"))
    assert hub.tokens == ["", f"Bearer {TOKEN}", f"Bearer {TOKEN}"]


def test_an_endpoint_s_password_is_not_told(tmp_path: Path) -> None:
    """A proxy's address may hold one."""
    readings = list(
        checkpoint.read(
            "tiny/llama",
            {"HF_ENDPOINT": "http://user:geheim@127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path)},
            "/",
            online=True,
        )
    )
    assert "geheim" not in repr(readings)
    assert [r for r in readings if isinstance(r, Unchecked) and "Hub" in r.what]


def test_offline_is_obeyed(hub: Hub, tmp_path: Path) -> None:
    """Asking is not checked then."""
    facts, unchecked = ask(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert facts == {}
    assert hub.paths == []
    assert len(unchecked) == 1


def test_a_folder_without_an_id_has_nothing_to_ask(hub: Hub, tmp_path: Path) -> None:
    """It is told as not checked."""
    (tmp_path / "x").mkdir()
    facts, unchecked = ask(hub, tmp_path, "./x")
    assert (facts, hub.paths, len(unchecked)) == ({}, [], 1)
