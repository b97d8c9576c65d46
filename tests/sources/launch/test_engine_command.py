"""A launch command → its facts."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.facts import describe
from diagnose.model import Fact, Unchecked
from diagnose.sources import launch
from diagnose.sources.launch import config_files, meant
from diagnose.sources.launch.words import json_problem


def facts(
    text: str, folder: str = "/nowhere", environ: dict[str, str] | None = None
) -> dict[str, str | int | float | bool]:
    """The facts of a command's text."""
    return {r.name: r.value for r in launch.read([text + " "], [], environ or {}, folder) if isinstance(r, Fact)}


def test_a_command_tells_program_engine_model_and_flags() -> None:
    """The names that other parts rely on."""
    found = facts(
        "CUDA_VISIBLE_DEVICES=0,1 vllm serve ./Qwen3-8B -tp 2 --max-model-len 32k --gpu-memory-utilization 0.9"
    )
    assert found["launch.program"] == "vllm serve"
    assert found["engine.name"] == "vllm"
    assert found["launch.model"] == "./Qwen3-8B"
    assert found["launch.arg.tensor_parallel_size"] == "2"
    assert found["launch.tensor_parallel"] == 2
    assert found["launch.context"] == 32_000
    assert found["launch.memory_share"] == 0.9
    assert found["launch.env.CUDA_VISIBLE_DEVICES"] == "0,1"
    assert found["launch.port"] == 8000


def test_engines_call_their_settings_differently_and_the_facts_do_not() -> None:
    """One name for the context, the parallel size and the share of memory."""
    found = facts(
        "python -m sglang.launch_server --model-path m/x --tp 4 --context-length 8192 --mem-fraction-static 0.8"
    )
    assert (found["launch.tensor_parallel"], found["launch.context"], found["launch.memory_share"]) == (4, 8192, 0.8)
    found = facts("llama-server -m x.gguf -c 8192 -np 4 -ngl 99")
    assert (found["launch.context_all"], found["launch.context"], found["launch.gpu_layers"]) == (8192, 2048, 99)
    found = facts("text-generation-launcher --model-id m/x --num-shard 2 --max-total-tokens 4096")
    assert (found["launch.model"], found["launch.tensor_parallel"], found["launch.context"]) == ("m/x", 2, 4096)


def test_secrets_never_become_facts() -> None:
    """A key on the command line, in a variable, or quoted with curly quotes is not told."""
    key = "sup3r-private-value"
    text = f"HF_TOKEN={key} MY_THING={key} vllm serve m --api-key {key} --hf-token={key} --api-key “{key}”"
    found = [r for r in launch.read([text], [], {}, "/nowhere") if isinstance(r, Fact)]
    assert not [fact for fact in found if key in str(fact.value)]
    assert facts(text)["launch.arg.api_key"] == "set"
    assert facts(text)["launch.secret_in_command"] == "--api-key"
    assert key not in str(list(launch.read([f'vllm serve m --api-key "{key}'], [], {}, "/nowhere")))


def test_numbers_of_tokens_are_no_secrets() -> None:
    """A name with `token` in it is not a key by that alone."""
    found = facts(
        "vllm serve m --long-prefill-token-threshold 512 --max-num-batched-tokens 8192 --api-key k --hf-token t"
    )
    assert found["launch.arg.long_prefill_token_threshold"] == "512"
    assert found["launch.arg.max_num_batched_tokens"] == "8192"
    assert (found["launch.arg.api_key"], found["launch.arg.hf_token"]) == ("set", "set")


def test_json_that_the_shell_took_apart_is_told_and_good_json_is_not() -> None:
    """Each way of breaking JSON has its word."""
    assert (
        facts("""vllm serve m --hf-overrides '{"a": {"b": 1}}' --speculative-config '{"method": "ngram"}'""").get(
            "launch.json.0.flag"
        )
        is None
    )
    assert facts("vllm serve m --speculative-config {method: ngram}")["launch.json.0.problem"] == "quotes-lost"
    assert (
        facts("""vllm serve m --speculative-config "{'method': 'ngram'}" """)["launch.json.0.problem"]
        == "single-quotes"
    )
    assert facts("""vllm serve m --hf-overrides '{"a": True}'""")["launch.json.0.problem"] == "python-words"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3),
    )
)
def test_json_is_never_called_broken(value: object) -> None:
    """What json writes has no problem."""
    assert json_problem(json.dumps(value)) == ""


def test_typographic_dashes_and_quotes_are_told_with_what_was_meant() -> None:
    """The flag is read as it was meant all the same."""
    found = facts("vllm serve m —tensor-parallel-size 2 --served-model-name “qwen”")
    assert (found["launch.dash.0.text"], found["launch.dash.0.meant"]) == (
        "—tensor-parallel-size",
        "--tensor-parallel-size",
    )
    assert found["launch.tensor_parallel"] == 2
    assert found["launch.curly.0.meant"] == '"qwen"'


def test_a_model_that_a_flag_took_is_told() -> None:
    """A flag that takes many words before the model takes it too."""
    found = facts("vllm serve --served-model-name a Qwen/Qwen3-8B --port 8000")
    assert found["launch.model_missing"] is True
    assert (found["launch.model_swallowed"], found["launch.model_swallowed_by"]) == (
        "Qwen/Qwen3-8B",
        "--served-model-name",
    )


def test_a_model_named_twice_and_words_of_nobody() -> None:
    """A word and a flag for the model, and a stray word."""
    found = facts("vllm serve a/b --model c/d")
    assert (found["launch.model_twice"], found["launch.model_flag"]) == ("a/b", "c/d")
    found = facts("vllm serve a/b --enforce-eager true")
    assert (found["launch.stray.0.word"], found["launch.stray.0.after"]) == ("true", "--enforce-eager")


def test_flags_cut_off_by_a_missing_backslash_are_told() -> None:
    """The next line begins with a flag."""
    found = facts("vllm serve a/b\n  --port 8001")
    assert (found["launch.cut_off"], found["launch.cut_off_line"]) == ("--port", 1)
    assert "launch.cut_off" not in facts("vllm serve a/b\nls -l")


def test_a_config_file_gives_flags_with_its_lines_and_the_command_goes_before_it(tmp_path: Path) -> None:
    """vLLM reads flags from YAML; those of the command count."""
    (tmp_path / "serve.yaml").write_text(
        "model: a/b\ntensor-parallel-size: 2\nport: 9000\nenforce-eager: true\nlora-modules: [x=1, y=2]\n"
    )
    readings = [
        r
        for r in launch.read(["vllm serve --config serve.yaml --port 9001"], [], {}, str(tmp_path))
        if isinstance(r, Fact)
    ]
    found = {fact.name: fact for fact in readings}
    assert found["launch.model"].value == "a/b"
    assert found["launch.tensor_parallel"].value == 2
    assert found["launch.arg.tensor_parallel_size"].origin == "serve.yaml"
    assert found["launch.arg.tensor_parallel_size"].line == 2
    assert found["launch.port"].value == 9001
    assert found["launch.eager"].value is True
    assert found["launch.adapter.1.name"].value == "y"


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        (None, "a.yaml", "missing"),
        ("- 1\n", "a.yaml", "not-a-mapping"),
        ("", "a.yaml", "empty"),
        ("a: [", "a.yaml", "unreadable"),
        ("port: 1\n", "a.txt", "not-yaml-by-name"),
    ],
)
def test_config_files_that_cannot_be_read(tmp_path: Path, content: str | None, name: str, problem: str) -> None:
    """Each way has its word."""
    if content is not None:
        (tmp_path / name).write_text(content)
    assert facts(f"vllm serve m --config {name}", str(tmp_path))["launch.config_problem"] == problem


def test_a_config_with_an_equals_sign_is_not_read(tmp_path: Path) -> None:
    """The engines look for the word alone."""
    (tmp_path / "a.yaml").write_text("port: 9000\n")
    found = facts("vllm serve m --config=a.yaml", str(tmp_path))
    assert found["launch.config_attached"] == "a.yaml"
    assert found["launch.port"] == 8000


def test_files_that_are_not_there_are_told_and_templates_by_name_are_no_files(tmp_path: Path) -> None:
    """A path is looked for; a built-in name or a template in full is not."""
    (tmp_path / "a.jinja").write_text("x")
    assert "launch.path.0.missing" not in facts("vllm serve m --chat-template ./a.jinja", str(tmp_path))
    assert facts("vllm serve m --chat-template ./b.jinja", str(tmp_path))["launch.path.0.missing"] == "./b.jinja"
    assert "launch.path.0.missing" not in facts("sglang serve m --chat-template chatml", str(tmp_path))
    assert "launch.path.0.missing" not in facts("vllm serve m --chat-template '{{ messages }}/x'", str(tmp_path))


def test_adapters_have_names_paths_and_ranks(tmp_path: Path) -> None:
    """An adapter that lies here tells its rank; one that does not is missing."""
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "adapter_config.json").write_text('{"r": 64}')
    found = facts(
        """vllm serve m --enable-lora --lora-modules sql=./sql '{"name": "b", "path": "./gone"}'""", str(tmp_path)
    )
    assert (found["launch.adapter.0.name"], found["launch.adapter.0.rank"]) == ("sql", 64)
    assert (found["launch.adapter.1.name"], found["launch.adapter.1.missing"]) == ("b", "./gone")


def test_a_modelfile_tells_its_model_and_what_is_no_instruction(tmp_path: Path) -> None:
    """FROM, parameters, texts over several lines, and a word that is none."""
    (tmp_path / "Modelfile").write_text(
        '# x\nFROM ./m.gguf\nPARAMETER num_ctx 8192\nSYSTEM """a\nFROM b\n"""\nPARAMETERS x 1\n'
    )
    found = facts("ollama create x", str(tmp_path))
    assert found["launch.model"] == "./m.gguf"
    assert found["launch.arg.num_ctx"] == "8192"
    assert found["launch.instruction.0.word"] == "PARAMETERS"
    assert "launch.instruction.1.word" not in found
    (tmp_path / "Modelfile").write_text("PARAMETER a 1\n")
    assert facts("ollama create x", str(tmp_path))["launch.modelfile_problem"] == "no-from"


@given(st.text(max_size=120))
def test_any_modelfile_is_read(text: str) -> None:
    """Nothing is raised, and lines are counted from one."""
    assert all(line > 0 for line, _, _ in config_files.instructions(text))


@given(st.text(max_size=12))
def test_any_number_text_is_a_number_or_none(text: str) -> None:
    """`32k`, `-1` and rubbish."""
    assert meant.whole(text) is None or isinstance(meant.whole(text), int)


def test_numbers_with_units_as_vllm_reads_them() -> None:
    """Small letters are thousands, capitals are 1024."""
    assert [meant.whole(text) for text in ("8192", "32k", "32K", "25.6k", "1.5K", "1e3", "-1")] == [
        8192,
        32000,
        32768,
        25600,
        None,
        None,
        -1,
    ]


def test_an_unknown_program_is_not_checked_and_says_why() -> None:
    """Nothing is made up of a command that is not known."""
    found = list(launch.read(["make", "train"], [], {}, "/nowhere"))
    assert [type(reading) for reading in found] == [Unchecked]


@given(
    st.lists(
        st.sampled_from(
            [
                "vllm",
                "serve",
                "--port",
                "-tp",
                "x",
                "",
                "--",
                "—a",
                "{",
                "'",
                "--config",
                "=",
                "--lora-modules",
                "a=b",
                "-O3",
                "\n",
                "--hf-overrides",
                "llama-server",
                "-m",
            ]
        ),
        max_size=12,
    )
)
def test_any_command_gives_facts_of_the_catalogue(argv: list[str]) -> None:
    """Whatever the words: nothing is raised, and every name is defined and of its type."""
    for reading in launch.read(["vllm", "serve", *argv], [], {}, "/nowhere"):
        if isinstance(reading, Fact):
            kind = describe(reading.name)
            assert kind is not None, reading.name
            wanted = {"flag": bool, "number": (int, float), "text": str, "version": str, "bytes": int}[kind.type]
            assert isinstance(reading.value, wanted), reading


@pytest.mark.parametrize(
    "command",
    [
        "text-generation-launcher $@",
        "vllm serve --port 8000 $ARGUMENTS",
        'exec llama-server --host 0.0.0.0 "$@"',
        "text-generation-launcher --help",
        "text-generation-launcher --env",
        "llama-server --version",
        "vllm serve <model> --port 1 $MORE",
        "vllm serve --config not-there.yaml",
    ],
)
def test_a_command_that_need_not_name_a_model(command: str) -> None:
    """The model may be in what the shell puts in, or the program only tells of itself."""
    found = facts(command)
    assert "launch.model_missing" not in found
    assert ("launch.more_words" in found) == ("$" in command)
    assert "launch.more_words" not in facts("vllm serve $MODEL_PATH --port 1")
    assert "launch.more_words" not in facts("vllm serve <model> --port 1")


def test_a_port_that_something_listens_on() -> None:
    """Another socket holds the port; a vLLM without its server does not want it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert facts(f"vllm serve m --port {port}")["launch.port_taken"] == port
        assert "launch.port_taken" not in facts(f"vllm serve m --port {port} --headless")


def test_a_port_for_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 1024 only root may listen: with sudo before it the command does."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("diagnose.sources.launch.engine._first_free", lambda: 1024)
    assert facts("vllm serve m --port 80")["launch.port_privileged"] == 80
    assert "launch.port_privileged" not in facts("sudo -E vllm serve m --port 80")
    assert "launch.port_privileged" not in facts("vllm serve m --port 8080")
