"""Hostile commands and manifests: a clear answer, never a crash, a hang or memory without bound; nothing of them is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.edits import write
from tests.models.reading import started

DEEP = "[" * 200_000
COMMANDS: dict[str, list[str]] = {
    "open quote": ["vllm serve './model"],
    "only blanks": ["   \n\t "],
    "nothing": [""],
    "many words": ["vllm", "serve", *["--x"] * 50_000],
    "a long word": ["vllm serve " + "a" * 2_000_000],
    "nul": ["vllm serve a\0b --port \0"],
    "line ends": ["vllm", "serve", "a\nb", "--port\n", "80\n80"],
    "substitution": ["vllm serve $(cat /etc/passwd) `id` ${HOME:?x} $((1<<99)) <(yes)"],
    "huge numbers": ["vllm serve m --tensor-parallel-size 9" + "9" * 5_000 + " --max-model-len -1 --gpu-memory-utilization nan"],
    "a config that is a device": ["vllm serve m --config /dev/zero"],
    "a config that is itself": ["vllm serve --config ."],
    "deep json": ["vllm", "serve", "m", "--hf-overrides", DEEP],
    "in a circle": ["sh -c 'sh -c \"sh -c vllm\"'"],
    "docker of docker": ["docker run docker run docker run vllm/vllm-openai docker run x"],
    "no quotes closed in heredoc": ["cat <<EOF | bash\nvllm serve 'm\nEOF\n"],
    "surrogate": ["vllm serve \udcff --model \udcfe"],
}  # fmt: skip


@pytest.mark.parametrize("kind", list(COMMANDS))
def test_a_command_may_be_anything(kind: str, tmp_path: Path) -> None:
    """Whatever stands behind `--` is read as words; nothing of it is run."""
    started(COMMANDS[kind], [], tmp_path)


LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MANIFESTS: dict[str, str | bytes] = {
    "empty": "",
    "laughs": LAUGHS + "services: {llm: {image: vllm/vllm-openai, command: *a11}}\n",
    "itself": "services: &s\n  llm: *s\n",
    "python": "services: !!python/object/apply:os.system ['echo no']\n",
    "deep": "a: " + "[" * 20_000,
    "a list": "- a\n- b\n",
    "numbers": "services: {llm: {image: 7, command: [1, null, {a: b}], ports: [8000, {}], deploy: [], shm_size: .nan}}\n",
    "pod of nothing": "apiVersion: v1\nkind: Pod\nspec: {containers: [null, 7, {image: [], args: {}, resources: 3}], volumes: 9}\n",
    "many documents": "---\n".join(["kind: Pod\n"] * 5_000),
    "not text": b"\xff\xfe\0\0kind",
    "nul": b"kind: Pod\0\n",
    "huge numbers": "kind: Pod\nspec: {containers: [{image: vllm/vllm-openai, resources: {limits: {nvidia.com/gpu: 99999999999999999999, memory: 1e999Gi}}}]}\n",
    "aliases as keys": "? &a [1, 2]\n: *a\nservices: {? {a: b} : c}\n",
    "merge of itself": "services: &a\n  <<: *a\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", list(MANIFESTS))
def test_a_manifest_may_hold_anything(kind: str, tmp_path: Path) -> None:
    """YAML is read with bounds, and no tag makes an object."""
    write("x.yaml", MANIFESTS[kind])(tmp_path)
    started([], [str(tmp_path / "x.yaml")], tmp_path)


@pytest.mark.parametrize("path", ["missing.yaml", ".", "/dev/zero", "a\nb", "\0"])
def test_a_manifest_may_be_anything(path: str, tmp_path: Path) -> None:
    """What is no file is told."""
    assert started([], [path], tmp_path)
