"""Container commands are taken apart as the container programs do it, and what they give the engine is told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Fact, Unchecked
from diagnose.sources.launch import around, docker, docker_call, images, shell
from diagnose.sources.launch.shell import Word
from tests.sources.launch.support import facts, unchecked

HOME = {"HOME": "/home/ann"}


def told(command: str, environ: Mapping[str, str] = HOME, folder: str = "/work") -> dict[str, Fact]:
    """The facts of a command as a user would paste it."""
    words = shell.parse(command, environ).commands[-1]
    return facts(around.command(words.words, dict(words.assigned), environ, folder))


def values(command: str, *names: str) -> list[object]:
    found = told(command)
    return [found[name].value if name in found else None for name in names]


def test_the_usual_command_is_read_whole() -> None:
    """Options, image and the engine's arguments of the command that vLLM's documentation gives."""
    found = told(
        "docker run --runtime nvidia --gpus all -v ~/.cache/huggingface:/root/.cache/huggingface "
        '--env "HF_TOKEN=$HF_TOKEN" -p 8000:8000 --ipc=host vllm/vllm-openai:v0.11.0 --model Qwen/Qwen3-0.6B',
        {"HOME": "/home/ann", "HF_TOKEN": "hf_secret"},
    )
    assert found["deploy.kind"].value == "docker"
    assert found["deploy.image_engine"].value == "vllm"
    assert found["launch.engine_version"].value == "0.11.0"
    assert found["launch.model"].value == "Qwen/Qwen3-0.6B"
    assert found["deploy.gpu_access"].value == "all"
    assert found["deploy.ipc"].value == "host"
    assert "deploy.shm" not in found  # the host's own, which the host's source tells
    assert found["deploy.cache_path"].value == "/home/ann/.cache/huggingface/hub"
    assert found["launch.env.HF_TOKEN"].value == "set"


@pytest.mark.parametrize(
    ("options", "access", "count"),
    [
        ("--gpus all", "all", None),
        ("--gpus 2", "count", 2),
        ("--gpus '\"device=0,3\"'", "devices", 2),
        ("--gpus device=1", "devices", 1),
        ("--gpus=count=4", "count", 4),
        ("--gpus 'count=2,capabilities=utility'", "count", 2),
        ("--device nvidia.com/gpu=all", "all", None),
        ("--device nvidia.com/gpu=0 --device nvidia.com/gpu=1", "devices", 2),
        ("--runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=0,1,2", "devices", 3),
        ("--runtime=nvidia", "all", None),
        ("--device /dev/kfd --device /dev/dri", "devices-by-hand", None),
        ("--privileged", "devices-by-hand", None),
        ("-it --rm", "none", None),
    ],
)
def test_forms_of_asking_for_gpus(options: str, access: str, count: int | None) -> None:
    """Each way of giving a container GPUs is understood, and counted where it says how many."""
    assert values(f"docker run {options} img x", "deploy.gpu_access", "deploy.gpus") == [access, count]


@pytest.mark.parametrize("text", ["²", "٣", "9" * 400, "", "all,1", "count=", "device=", ",,,", "-1"])
def test_odd_counts_of_gpus_are_no_trouble(text: str) -> None:
    """Digits of other scripts, numbers without end, and nothing at all."""
    assert "deploy.gpus_asked" in told(f"docker run --gpus '{text}' img")
    assert docker.published(f"{text}:{text}") is None or text.isascii()


def test_a_list_of_devices_without_inner_quotes_is_told() -> None:
    """What Docker reads as a count and a list at once."""
    found = told("docker run --gpus device=0,1 img")
    assert found["deploy.gpus_list_unquoted"].value is True
    assert "deploy.gpus" not in found


def test_flags_in_one_word_and_attached_values() -> None:
    """`-itd`, `-dp 80:80`, `-m16g` and `--shm-size=1g` leave the image where it is."""
    found = told(
        "docker run -itd -dp 8080:80 -m16g --shm-size=1g ghcr.io/huggingface/text-generation-inference:3.0.1 --model-id a/b"
    )
    assert found["deploy.image_engine"].value == "tgi"
    assert (found["deploy.port.0.inside"].value, found["deploy.port.0.outside"].value) == (80, 8080)
    assert found["deploy.memory"].value == 16 << 30
    assert found["deploy.shm"].value == 1 << 30


@pytest.mark.parametrize(
    "command",
    [
        "docker run {} img",
        "docker container run {} img",
        "sudo docker run {} img",
        "docker --context a run {} img",
        "podman run {} img",
        "nerdctl run {} img",
    ],
)
def test_without_a_word_shared_memory_is_the_default(command: str) -> None:
    """Docker and its kin give 64 MiB; a tmpfs or mount at /dev/shm is somebody's own choice."""
    assert told(command.format("-it"))["deploy.shm"].value == docker.DEFAULT_SHM
    assert "deploy.shm" not in told(command.format("--tmpfs /dev/shm:size=8g"))
    assert "deploy.shm" not in told(command.format("--ipc host"))


def test_options_behind_the_image_are_told() -> None:
    """`--gpus all` behind the image goes to the engine; the engine's own -v or -p does not look like Docker's."""
    late = told("docker run vllm/vllm-openai:latest --model a/b --gpus all")
    assert late["deploy.late_option"].value == "--gpus"
    assert told("docker run vllm/vllm-openai --model a/b -v /m:/m")["deploy.late_option"].value == "-v"
    assert "deploy.late_option" not in told("docker run --gpus all vllm/vllm-openai:latest --model a/b")
    assert "deploy.late_option" not in told("docker run ghcr.io/ggml-org/llama.cpp:server -m /m.gguf -v -p hello")


def test_a_program_named_twice_is_told_and_read_as_meant() -> None:
    """The image starts `vllm serve` by itself; the model is found all the same."""
    found = told("docker run --gpus all vllm/vllm-openai:v0.11.0 vllm serve Qwen/Qwen3-8B")
    assert found["deploy.program_twice"].value == "vllm serve"
    assert found["launch.model"].value == "Qwen/Qwen3-8B"
    replaced = told("docker run --entrypoint vllm vllm/vllm-openai:v0.11.0 serve Qwen/Qwen3-8B")
    assert "deploy.program_twice" not in replaced
    assert replaced["launch.model"].value == "Qwen/Qwen3-8B"


def test_the_entrypoint_of_vllms_images_by_release() -> None:
    """The module up to 0.11.0, `vllm serve` since; a tag without a number is a new one."""
    old, new = images.read("vllm/vllm-openai:v0.11.0"), images.read("registry.example:5000/vllm/vllm-openai:v0.11.1")
    assert old.entrypoint == ("python3", "-m", "vllm.entrypoints.openai.api_server")
    assert new.entrypoint == images.read("vllm/vllm-openai:latest").entrypoint == ("vllm", "serve")


@pytest.mark.parametrize(
    ("name", "engine", "version", "accelerator"),
    [
        ("vllm/vllm-openai:v0.11.0-aarch64", "vllm", "0.11.0", "cuda"),
        ("docker.io/vllm/vllm-openai@sha256:ab", "vllm", "", "cuda"),
        ("lmsysorg/sglang:v0.5.3.post1-cu129-amd64", "sglang", "0.5.3.post1", "cuda"),
        ("lmsysorg/sglang:v0.5.3-rocm700-mi30x", "sglang", "0.5.3", "rocm"),
        ("ghcr.io/huggingface/text-generation-inference:3.3.4-intel-cpu", "tgi", "3.3.4", "cpu"),
        ("ghcr.io/huggingface/text-generation-inference:latest", "tgi", "", "cuda"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda-b6123", "llama.cpp", "6123", "cuda"),
        ("ghcr.io/ggml-org/llama.cpp:server", "llama.cpp", "", "cpu"),
        ("ollama/ollama:0.11.4-rocm", "ollama", "0.11.4", "rocm"),
        ("rocm/vllm:rocm6.4.1_vllm_0.9.1", "vllm", "", "rocm"),
        ("nginx:1.27", "", "", ""),
        ("somebody/vllm-tools", "", "", ""),
        ("", "", "", ""),
    ],
)
def test_what_an_images_name_tells(name: str, engine: str, version: str, accelerator: str) -> None:
    """Engine, version and what it is built for, behind any registry; nothing of an image that is not known."""
    image = images.read(name)
    assert (image.engine, image.version, image.accelerator) == (engine, version, accelerator)


def test_images_without_an_entrypoint_name_their_program() -> None:
    """SGLang's image runs what it is told."""
    found = told("docker run --gpus all lmsysorg/sglang:v0.5.3 python3 -m sglang.launch_server --model-path a/b --tp 2")
    assert found["engine.name"].value == "sglang"
    assert found["launch.engine_version"].value == "0.5.3"
    assert "deploy.program_twice" not in found


def test_a_model_is_looked_for_behind_its_mount(tmp_path: Path) -> None:
    """The path inside becomes the one on this machine; without a mount it is told that none leads there."""
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    found = told(f"docker run -v {tmp_path}/models:/models:ro vllm/vllm-openai --model /models/tiny")
    assert found["deploy.model_path"].value == str(tmp_path / "models" / "tiny")
    assert "deploy.model_in_empty_mount" not in found
    bare = told("docker run vllm/vllm-openai --model /models/tiny")
    assert bare["deploy.model_mounted"].value is False


def test_a_mount_of_nothing_is_told(tmp_path: Path) -> None:
    """The short form makes an empty folder; the long form refuses."""
    short = told(f"docker run -v {tmp_path}/no:/models vllm/vllm-openai --model /models/tiny")
    assert short["deploy.model_in_empty_mount"].value == f"{tmp_path}/no"
    assert (short["deploy.mount.0.there"].value, short["deploy.mount.0.made"].value) == (False, True)
    long = told(
        f"docker run --mount type=bind,source={tmp_path}/no,target=/models vllm/vllm-openai --model /models/tiny"
    )
    assert (long["deploy.mount.0.there"].value, long["deploy.mount.0.made"].value) == (False, False)
    assert "deploy.model_in_empty_mount" not in long


def test_the_mount_with_the_longest_target_counts() -> None:
    """A mount inside another one hides it."""
    found = told("docker run -v /a:/models -v /b:/models/big vllm/vllm-openai --model /models/big/x")
    assert found["deploy.model_path"].value == "/b/x"


def test_named_volumes_are_no_folders_of_this_machine() -> None:
    """What lies in a volume cannot be looked at, and that is said."""
    readings = list(
        docker.read(
            shell.words_of(["docker", "run", "-v", "models:/models", "vllm/vllm-openai", "--model", "/models/x"]),
            HOME,
            "/",
        )
    )
    assert not [item for item in readings if isinstance(item, Fact) and item.name.startswith("deploy.mount")]
    found = told("docker run -v models:/models vllm/vllm-openai --model /models/x")
    assert found["deploy.model_mounted"].value is True
    assert "deploy.model_path" not in found


def test_variables_come_from_files_and_options(tmp_path: Path) -> None:
    """--env-file before -e, which wins; a missing file is told."""
    (tmp_path / "v.env").write_text("# comment\nVLLM_LOGGING_LEVEL=DEBUG\nCUDA_VISIBLE_DEVICES=0,1\n")
    found = told(f"docker run --env-file {tmp_path}/v.env -e CUDA_VISIBLE_DEVICES=3 vllm/vllm-openai --model a/b")
    assert found["launch.env.CUDA_VISIBLE_DEVICES"].value == "3"
    assert found["launch.env.VLLM_LOGGING_LEVEL"].value == "DEBUG"
    assert told("docker run --env-file /nowhere/x vllm/vllm-openai")["deploy.env_file_missing"].value == "/nowhere/x"


def test_a_pipe_for_a_file_of_variables_is_not_opened(tmp_path: Path) -> None:
    """A pipe that nobody writes to would hang the reader."""
    os.mkfifo(tmp_path / "pipe")
    words = shell.words_of(["docker", "run", "--env-file", str(tmp_path / "pipe"), "vllm/vllm-openai"])
    assert any("regular file" in item.why for item in unchecked(docker.read(words, HOME, "/")))


def test_a_user_by_number_needs_a_name_and_a_home() -> None:
    """Root and named users are those of the image."""
    assert told("docker run --user 1000:1000 vllm/vllm-openai a/b")["deploy.user_without_home"].value is True
    given = told("docker run -u 1000 -e HOME=/tmp -e USER=app vllm/vllm-openai a/b")
    assert given["deploy.user_without_home"].value is False
    assert "deploy.user_without_home" not in told("docker run -u 0 vllm/vllm-openai a/b")
    assert "deploy.user_without_home" not in told("docker run -u vllm vllm/vllm-openai a/b")


def test_apptainer_is_read_too() -> None:
    """Its image and its command; it sees GPUs with --nv only, and the folders of the host."""
    found = told("apptainer exec --nv -B /data:/data docker://vllm/vllm-openai:v0.11.0 vllm serve /data/m")
    assert found["deploy.kind"].value == "apptainer"
    assert found["deploy.gpu_access"].value == "all"
    assert found["launch.model"].value == "/data/m"
    assert told("singularity run x.sif vllm serve m")["deploy.gpu_access"].value == "none"


def test_nvidias_runtime_as_default_gives_gpus_unasked(tmp_path: Path) -> None:
    """Docker's configuration decides what a container gets that asks for none."""
    path = tmp_path / "daemon.json"
    assert docker.default_is_nvidia(str(path)) is False
    path.write_text('{"default-runtime": "nvidia", "runtimes": {}}')
    assert docker.default_is_nvidia(str(path)) is True
    path.write_text("{broken")
    assert docker.default_is_nvidia(str(path)) is False
    assert docker.without_asking("", True) == "by-default-runtime"
    assert docker.without_asking("void", True) == "none"


def test_other_commands_are_no_containers() -> None:
    """`docker ps`, `docker compose up` and words without a program."""
    for text in ("docker ps -a", "docker compose up", "docker", "echo docker run x", "apptainer pull x", ""):
        assert docker_call.taken_apart([Word(word) for word in text.split()]) is None


def test_a_run_without_an_image_is_unchecked() -> None:
    """Nothing is made up for a command that is cut off."""
    words = shell.words_of(["docker", "run", "--gpus", "all"])
    assert any("no image" in item.why for item in unchecked(docker.read(words, HOME, "/")))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16g", 16 << 30),
        ("16GB", 16 << 30),
        ("1.5g", 3 << 29),
        ("64m", 64 << 20),
        ("100", 100),
        ("2GiB", 2 << 30),
        ("x", None),
        ("", None),
        ("-1", None),
        ("9" * 400, None),
        ("9999999p", None),
        ("²", None),
    ],
)
def test_sizes_as_docker_reads_them(text: str, size: int | None) -> None:
    """All units are powers of 1024."""
    assert docker.docker_size(text) == size


@given(st.lists(st.text(max_size=12), max_size=14))
def test_no_words_break_the_reader(words: list[str]) -> None:
    """Whatever stands behind `docker run`, reading ends with facts or an honest word."""
    found = list(around.command(shell.words_of(["docker", "run", *words]), {}, HOME, "/"))
    assert all(isinstance(item, Fact) or item for item in found)


_FLAG = st.sampled_from(["-it", "--rm", "-d", "--privileged", "--init"])
_VALUED = st.sampled_from(
    [["--name", "a"], ["--gpus=all"], ["-e", "A=b"], ["-v", "/a:/b"], ["-p", "1:2"], ["--shm-size", "1g"], ["-m1g"]]
)


@given(st.lists(st.one_of(_FLAG.map(lambda word: [word]), _VALUED), max_size=8))
def test_the_image_is_found_behind_any_options(options: list[list[str]]) -> None:
    """Options in any order and form take what belongs to them and no more."""
    words = ["docker", "run", *(word for option in options for word in option), "some/image:1", "--model", "x"]
    call = docker_call.taken_apart([Word(word) for word in words])
    assert call is not None
    assert call.image is not None
    assert call.image.text == "some/image:1"
    assert [word.text for word in call.rest] == ["--model", "x"]


def test_an_unchecked_reading_has_a_reason() -> None:
    """Each says why."""
    found = unchecked(
        around.command(
            shell.words_of(["docker", "run", "-v", "vol:/m", "vllm/vllm-openai", "--model", "/m/x"]), {}, HOME, "/"
        )
    )
    assert found
    assert all(isinstance(item, Unchecked) and item.why for item in found)


def test_a_source_that_only_the_shell_knows_is_not_looked_for() -> None:
    """`--mount type=bind,source=$DATA,…`: the folder of that name is none."""
    found = told('docker run --mount "type=bind,source=${DATA},target=/data" vllm/vllm-openai:v0.33.0 m')
    assert not [name for name in found if name.endswith(".there")]
