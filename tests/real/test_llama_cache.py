"""The cache of llama.cpp beside what its server says that it has made."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from fractions import Fraction
from pathlib import Path

import pytest

from diagnose.memory.stored import LLAMA_CPP, sequence_bytes, value_bytes
from diagnose.plan import model_of
from diagnose.sources import checkpoint

pytestmark = pytest.mark.real

FILE = Path(__file__).parents[1] / "models" / "folders" / "gguf" / "tiny-q8.gguf"
SIZE = re.compile(r"llama_kv_cache(?:_\w+)?: size = +([\d.]+) MiB")
SECONDS = 60.0


@pytest.fixture(scope="module")
def server() -> str:
    """llama.cpp's server."""
    named = os.environ.get("LLMDOCTOR_LLAMA_SERVER", "")
    if not named or not os.access(named, os.X_OK):
        pytest.skip("no llama-server: name one in LLMDOCTOR_LLAMA_SERVER")
    return named


def told(server: str, *more: str) -> float:
    """MiB of cache that the server tells of while it starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [server, "-m", str(FILE), "--no-warmup", "--port", port, "-v", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    late = threading.Timer(SECONDS, process.kill)
    late.start()
    seen: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            seen.append(line)
            found = SIZE.search(line)
            if found and "fitting" not in line:
                return float(found[1])
    finally:
        late.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    raise AssertionError("".join(seen[-20:]))


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("kinds", [("f16", "f16"), ("f32", "f16"), ("bf16", "bf16")])
def test_the_server_makes_the_cache_that_we_reckon(server: str, slots: int, kinds: tuple[str, str]) -> None:
    """Of several types of keys and values, the context shared among slots."""
    facts = {item.name: item.value for item in checkpoint.read(str(FILE), os.environ, "/") if hasattr(item, "name")}
    context = 262144
    value = sum((value_bytes(kind) or Fraction(0) for kind in kinds), Fraction(0)) / 2
    each = sequence_bytes(model_of(facts).groups, context // slots, value, LLAMA_CPP)
    real = told(server, "-c", str(context), "-np", str(slots), "-ctk", kinds[0], "-ctv", kinds[1])
    assert real == round(slots * each / (1 << 20), 2)
