"""Compose files are read as Compose does it: the service with the engine, its variables, GPUs, mounts and health check."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.model import Fact, Unchecked
from diagnose.sources.launch import around, shell
from tests.sources.launch.support import facts, unchecked

HOME = {"HOME": "/home/ann"}


def told(folder: Path, text: str, environ: Mapping[str, str] = HOME, **files: str) -> dict[str, Fact]:
    (folder / "compose.yaml").write_text(textwrap.dedent(text))
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return facts(around.file("compose.yaml", environ, str(folder)))


WHOLE = """
    x-gpus: &gpus
      driver: nvidia
      count: ${GPUS:-2}
      capabilities: [gpu]
    services:
      web:
        image: nginx
        depends_on:
          llm: {condition: service_healthy}
      llm:
        image: vllm/vllm-openai:${TAG:-v0.11.0}
        volumes:
          - ./models:/models:ro
          - type: bind
            source: ~/.cache/huggingface
            target: /root/.cache/huggingface
        ports: ["9000:8000"]
        command: >
          --model /models/tiny
          --tensor-parallel-size 2
        deploy:
          resources:
            limits: {memory: 32g}
            reservations:
              devices: [*gpus]
        healthcheck:
          test: [CMD, curl, -f, "http://localhost:8000/health"]
          interval: 10s
          retries: 3
          start_period: 1m30s
"""


def test_a_whole_file(tmp_path: Path) -> None:
    """Anchors, defaults, both forms of mounts and of durations, and the lines of what was read."""
    found = told(tmp_path, WHOLE)
    expected = {
        "deploy.kind": "compose",
        "deploy.service": "llm",
        "deploy.image": "vllm/vllm-openai:v0.11.0",
        "deploy.gpus": 2,
        "deploy.gpu_access": "count",
        "deploy.memory": 32 << 30,
        "deploy.shm": 64 << 20,
        "deploy.port.0.inside": 8000,
        "deploy.port.0.outside": 9000,
        "deploy.health_budget": 120,
        "deploy.health_waited_for": "web",
        "launch.engine_version": "0.11.0",
        "launch.model": "/models/tiny",
        "deploy.model_path": str(tmp_path / "models" / "tiny"),
        "deploy.model_in_empty_mount": str(tmp_path / "models"),
    }
    assert {name: found[name].value for name in expected} == expected
    assert found["deploy.image"].origin == "compose.yaml"
    assert found["deploy.image"].line == 12
    assert found["deploy.mount.0.source"].line == 14


def test_variables_of_the_shell_go_before_those_of_the_file(tmp_path: Path) -> None:
    """`.env` beside the file, the shell above it, defaults last; what nobody sets is told."""
    text = """
        services:
          llm:
            image: vllm/vllm-openai:${TAG}
            environment:
              VLLM_LOGGING_LEVEL: ${MODE:-DEBUG}
              VLLM_LOGGING_PREFIX: $$5
              HF_TOKEN: ${TOKEN}
              HF_HOME: ${NEEDED:?give one}
              VLLM_HOST_IP: ${EMPTY-kept}
            command: --model ${MODEL} --port ${PORT}
    """
    found = told(tmp_path, text, {**HOME, "MODEL": "a/b", "EMPTY": ""}, __env="TAG='v0.10.0'\nMODEL=no/no\n")
    assert found["deploy.image"].value == "vllm/vllm-openai:v0.10.0"
    assert found["launch.model"].value == "a/b"
    assert found["launch.env.VLLM_LOGGING_LEVEL"].value == "DEBUG"
    assert found["launch.env.VLLM_LOGGING_PREFIX"].value == "$5"
    assert found["launch.env.VLLM_HOST_IP"].value == ""
    assert found["deploy.variable_empty"].value == "TOKEN"
    assert found["deploy.variable_unset"].value == "PORT"
    assert "launch.arg.port" not in found  # not known, rather than empty
    assert found["deploy.variable_required"].value == "NEEDED"


@pytest.mark.parametrize(
    ("lines", "access", "count"),
    [
        ("gpus: all", "all", None),
        ("gpus: [{driver: nvidia, count: 2, capabilities: [gpu]}]", "count", 2),
        ("runtime: nvidia", "all", None),
        ("devices: ['nvidia.com/gpu=0', 'nvidia.com/gpu=1']", "devices", 2),
        ("devices: ['/dev/kfd', '/dev/dri']", "devices-by-hand", None),
        ("deploy: {resources: {reservations: {devices: [{driver: nvidia, device_ids: ['0', '3'], capabilities: [gpu]}]}}}", "devices", 2),
        ("deploy: {resources: {reservations: {devices: [{driver: nvidia, capabilities: [gpu]}]}}}", "all", None),
        ("deploy: {resources: {reservations: {devices: [{driver: nvidia, count: all, capabilities: [gpu]}]}}}", "all", None),
        ("restart: always", "none", None),
    ],
)  # fmt: skip
def test_forms_of_asking_for_gpus(tmp_path: Path, lines: str, access: str, count: int | None) -> None:
    """Each way that Compose knows."""
    found = told(tmp_path, f"services: {{llm: {{image: vllm/vllm-openai, command: --model a/b, {lines}}}}}\n")
    assert found["deploy.gpu_access"].value == access
    assert (found["deploy.gpus"].value if "deploy.gpus" in found else None) == count


def test_mistakes_in_a_reservation(tmp_path: Path) -> None:
    """Missing capabilities, and count beside device_ids."""
    form = (
        "services: {{llm: {{image: vllm/vllm-openai, deploy: {{resources: {{reservations: {{devices: [{0}]}}}}}}}}}}\n"
    )
    assert "deploy.device_capabilities_missing" in told(tmp_path, form.format("{driver: nvidia, count: 1}"))
    both = told(tmp_path, form.format("{count: 1, device_ids: ['0'], capabilities: [gpu]}"))
    assert both["deploy.count_and_ids"].value is True


def test_shared_memory(tmp_path: Path) -> None:
    """A size, the host's, or the default."""
    form = "services: {{llm: {{image: vllm/vllm-openai, {0}}}}}\n"
    assert told(tmp_path, form.format("shm_size: 16gb"))["deploy.shm"].value == 16 << 30
    assert "deploy.shm" not in told(tmp_path, form.format("ipc: host"))
    assert told(tmp_path, form.format("init: true"))["deploy.shm"].value == 64 << 20


def test_a_service_without_an_image_is_known_by_its_command(tmp_path: Path) -> None:
    """Images of one's own are common; the command tells the engine. A list of words is not split again."""
    text = """
        services:
          db: {image: postgres}
          api:
            build: .
            entrypoint: ["python3", "-m", "sglang.launch_server"]
            command: ["--model-path", "/m/name with blanks", "--tp", "2"]
    """
    found = told(tmp_path, text)
    assert found["deploy.service"].value == "api"
    assert found["engine.name"].value == "sglang"
    assert found["launch.model"].value == "/m/name with blanks"


def test_two_engines_are_told(tmp_path: Path) -> None:
    """One is read, the other is said not to be; `docker compose up NAME` chooses."""
    text = """
        services:
          a: {image: vllm/vllm-openai, command: --model a/a}
          b: {image: vllm/vllm-openai, command: --model b/b}
    """
    (tmp_path / "compose.yaml").write_text(textwrap.dedent(text))
    readings = list(around.file("compose.yaml", HOME, str(tmp_path)))
    assert facts(readings)["launch.model"].value == "a/a"
    assert any("service b" in item.what for item in unchecked(readings))
    chosen = facts(around.file("compose.yaml", HOME, str(tmp_path), "b"))
    assert chosen["launch.model"].value == "b/b"


def test_files_put_over_each_other(tmp_path: Path) -> None:
    """`-f a -f b`, the override file beside the default name, and services that extend others."""
    (tmp_path / "compose.yaml").write_text(
        "services: {llm: {image: vllm/vllm-openai, command: --model a/b, ports: ['1:8000']}}\n"
    )
    (tmp_path / "gpu.yaml").write_text("services: {llm: {gpus: all, command: --model c/d, ports: ['2:8000']}}\n")
    words = shell.words_of(["docker", "compose", "-f", "compose.yaml", "-f", "gpu.yaml", "up", "-d"])
    found = facts(around.command(words, {}, HOME, str(tmp_path)))
    assert found["deploy.gpu_access"].value == "all"
    assert found["launch.model"].value == "c/d"
    assert (found["deploy.port.0.outside"].value, found["deploy.port.1.outside"].value) == (1, 2)
    assert facts(around.file("compose.yaml", HOME, str(tmp_path)))["deploy.gpu_access"].value == "none"
    (tmp_path / "compose.override.yaml").write_text("services: {llm: {gpus: all}}\n")
    assert facts(around.file("compose.yaml", HOME, str(tmp_path)))["deploy.gpu_access"].value == "all"
    (tmp_path / "broken.yaml").write_text("[")
    bad = shell.words_of(["docker", "compose", "-f", "compose.yaml", "-f", "broken.yaml", "up"])
    assert "deploy.gpu_access" not in facts(around.command(bad, {}, HOME, str(tmp_path)))


def test_services_that_extend_others(tmp_path: Path) -> None:
    """From the same file and from another; what cannot be read leaves the service unjudged."""
    text = """
        services:
          base: {build: ., gpus: all}
          llm: {extends: base, image: vllm/vllm-openai, command: --model a/b}
          self: {extends: self, image: x}
    """
    assert told(tmp_path, text)["deploy.gpu_access"].value == "all"
    other = "services: {llm: {extends: {file: gpu.yaml, service: g}, image: vllm/vllm-openai, command: --model a/b}}\n"
    assert "deploy.gpu_access" not in told(tmp_path, other)
    (tmp_path / "gpu.yaml").write_text("services: {g: {gpus: all}}\n")
    assert told(tmp_path, other)["deploy.gpu_access"].value == "all"


def test_files_of_variables(tmp_path: Path) -> None:
    """They go before what stands in the file itself; a missing one that is required is told."""
    text = """
        services:
          llm:
            image: vllm/vllm-openai
            env_file: [a.env, {path: no.env, required: false}, gone.env]
            environment: {CUDA_VISIBLE_DEVICES: two}
            command: --model a/b
    """
    found = told(tmp_path, text, HOME, a__env="VLLM_LOGGING_LEVEL=one\nCUDA_VISIBLE_DEVICES=one\n")
    assert (found["launch.env.VLLM_LOGGING_LEVEL"].value, found["launch.env.CUDA_VISIBLE_DEVICES"].value) == (
        "one",
        "two",
    )
    assert found["deploy.env_file_missing"].value == "gone.env"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("services:\n  a: [1\n", "line"),
        ("services:\n\tllm: {}\n", "line"),
        ("services: {db: {image: postgres}}\n", "none of its 1 services"),
        ("just a text\n", "neither a Compose file"),
        ("", "neither a Compose file"),
        ("a: &a [*a]\n", "refers to itself"),
        ("services:\n  llm:\n    image: {{ .Values.image }}\n", "helm template"),
    ],
)
def test_what_is_no_such_file_is_said(tmp_path: Path, text: str, why: str) -> None:
    """Broken YAML with its line, templates, and files of something else."""
    (tmp_path / "compose.yaml").write_text(text)
    assert any(why in item.why for item in unchecked(around.file("compose.yaml", HOME, str(tmp_path))))


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """Nested anchors stand for billions of values; each is made once."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    found = told(tmp_path, "\n".join([*lines, "services: {llm: {image: vllm/vllm-openai, command: *a29}}"]))
    assert found["deploy.image_engine"].value == "vllm"


def test_a_bomb_of_merge_keys_is_refused(tmp_path: Path) -> None:
    """A merge copies entries, so that they are counted."""
    big = "big: &big {" + ", ".join(f"k{n}: 1" for n in range(2000)) + "}"
    many = "\n".join(f"m{n}: {{<<: *big}}" for n in range(2000))
    (tmp_path / "compose.yaml").write_text(f"{big}\n{many}\n")
    assert any("merge keys" in item.why for item in unchecked(around.file("compose.yaml", HOME, str(tmp_path))))


def test_folders_and_missing_files(tmp_path: Path) -> None:
    """A folder is looked into; a missing file is no crash."""
    (tmp_path / "compose.yaml").write_text("services: {llm: {image: vllm/vllm-openai, command: --model a/b}}\n")
    assert facts(around.file(".", HOME, str(tmp_path)))["launch.model"].value == "a/b"
    assert unchecked(around.file("gone.yaml", HOME, str(tmp_path)))
    (tmp_path / "empty").mkdir()
    assert unchecked(around.file("empty", HOME, str(tmp_path)))


_SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=8),
    st.sampled_from(["vllm/vllm-openai", "${X}", "all", "1g"]),
)
_KEYS = st.sampled_from(
    [
        "image",
        "command",
        "entrypoint",
        "environment",
        "volumes",
        "ports",
        "deploy",
        "gpus",
        "shm_size",
        "ipc",
        "healthcheck",
        "ulimits",
        "devices",
        "env_file",
        "resources",
        "reservations",
        "tmpfs",
        "depends_on",
        "source",
        "target",
    ]
)
_ANY = st.recursive(
    _SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=14,
)


@settings(max_examples=150, deadline=None)
@given(service=st.dictionaries(_KEYS, _ANY, max_size=8))
def test_no_service_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, service: dict[str, object]) -> None:
    """Values of the wrong kind in any place end in facts or an honest word."""
    import yaml

    folder = tmp_path_factory.mktemp("compose")
    document = {"services": {"llm": {"image": "vllm/vllm-openai", **service}}}
    (folder / "compose.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    for reading in around.file("compose.yaml", {}, str(folder)):
        assert not isinstance(reading, Unchecked) or reading.why


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """A file of anything."""
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "x.yaml").write_bytes(data)
    list(around.file("x.yaml", {}, str(folder)))
