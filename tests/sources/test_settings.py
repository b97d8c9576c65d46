"""Environment variables by an allow-list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.facts import describe
from diagnose.sources import settings
from tests.sources.trees import facts

SECRET = "hf_abcdefghijklmnopqrstuvwxyz012345"


@pytest.mark.parametrize(
    "name",
    [
        "CUDA_VISIBLE_DEVICES",
        "NCCL_SOCKET_IFNAME",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "VLLM_USE_V1",
        "SGLANG_USE_MODELSCOPE",
        "OMP_NUM_THREADS",
        "MASTER_ADDR",
        "TOKENIZERS_PARALLELISM",
        "http_proxy",
        "LC_ALL",
    ],
)
def test_what_is_on_the_list_is_told(name: str) -> None:
    """A variable that libraries for models read is told with its value."""
    assert facts(settings.read({name: "some-value"}))[f"env.{name}"] == "some-value"


@pytest.mark.parametrize("name", ["HOME", "USER", "PATH", "SSH_AUTH_SOCK", "MY_APP_SETTING", "DATABASE_URL", "PS1", ""])
def test_what_is_not_on_the_list_is_not_read(name: str) -> None:
    """Nothing else of the environment is told, not even its name."""
    assert not any(fact.startswith("env.") for fact in facts(settings.read({name: "some-value"})))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", SECRET),
        ("HUGGING_FACE_HUB_TOKEN", "anything"),
        ("OPENAI_API_KEY", "sk-abcdefgh12345678"),
        ("WANDB_API_KEY", "0123456789abcdef"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI"),
        ("VLLM_API_KEY", "token-abc123"),
        ("https_proxy", "http://joe:pass@proxy.example:3128"),
        ("HF_ENDPOINT", "https://joe:pass@mirror.example"),
        ("VLLM_SOMETHING", f"Bearer {SECRET}"),
        ("LD_PRELOAD", SECRET),
    ],
)
def test_secrets_are_told_as_set(name: str, value: str) -> None:
    """Of a variable that may hold a secret, or whose value looks like one, only that it is set."""
    told = facts(settings.read({name: value}))
    assert told[f"env.{name}"] == "set"
    assert not any(value in str(item) for item in told.values())


def test_a_switch_is_no_secret() -> None:
    """A name with TOKEN in it whose value is on or off is told as it is."""
    assert settings.shown("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1") == "1"
    assert settings.shown("HF_TOKEN", "") == ""


@given(
    st.dictionaries(
        st.sampled_from(
            ["HF_TOKEN", "CUDA_HOME", "PYTORCH_CUDA_ALLOC_CONF", "LANG", "WORLD_SIZE", "NCCL_DEBUG", "A b"]
        ),
        st.text(max_size=80),
    )
)
def test_any_environment_gives_facts_of_the_catalogue(environ: dict[str, str]) -> None:
    """Whatever the values are, each fact is in the catalogue and can be sent."""
    for name, value in facts(settings.read(environ)).items():
        assert describe(name) is not None
        str(value).encode()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("expandable_segments:True", ("expandable_segments",)),
        (
            "max_split_size_mb:128, garbage_collection_threshold:0.8",
            ("max_split_size_mb", "garbage_collection_threshold"),
        ),
        ("roundup_power2_divisions:[256:1,512:2,>:4],backend:native", ("roundup_power2_divisions", "backend")),
        ("roundup_power2_divisions:[256:1", ("roundup_power2_divisions",)),
        (",,", ()),
    ],
)
def test_the_allocators_options_are_read(text: str, options: tuple[str, ...]) -> None:
    """Commas within brackets do not end an option."""
    assert settings.allocator_options(text) == options


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("max_split_size_mb:64", "none"),
        ("max_split_size:64,expandable_segments:True", "max_split_size"),
        ("expandable_segment=True", "expandable_segment=True"),
    ],
)
def test_an_option_that_nobody_reads_is_named(text: str, unknown: str) -> None:
    """The first option that no release of PyTorch reads is told."""
    assert facts(settings.read({"PYTORCH_CUDA_ALLOC_CONF": text}))["setting.allocator_unknown_option"] == unknown


@pytest.mark.parametrize(
    ("environ", "utf8"),
    [
        ({}, True),
        ({"LANG": "C"}, True),
        ({"LANG": "en_US.UTF-8"}, True),
        ({"LANG": "de_DE.utf8"}, True),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_CN.GBK"}, False),
        ({"LANG": "de_DE.ISO-8859-15@euro"}, False),
        ({"LANG": "de_DE.ISO-8859-15", "PYTHONUTF8": "1"}, True),
        ({"LANG": "en_US"}, None),
    ],
)
def test_the_locales_encoding(environ: dict[str, str], utf8: bool | None) -> None:
    """LC_ALL goes before LANG; C means UTF-8 to Python; a locale without an encoding tells nothing."""
    assert facts(settings.read(environ)).get("setting.locale_utf8") is utf8


@pytest.mark.parametrize(
    ("environ", "nodes"),
    [
        ({"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}, 2),
        ({"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}, 1),
        ({"SLURM_NNODES": "4", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}, 4),
        ({"NNODES": "1:4"}, None),
        ({"WORLD_SIZE": "16"}, None),
        ({"WORLD_SIZE": "many", "LOCAL_WORLD_SIZE": "8"}, None),
    ],
)
def test_the_number_of_machines(environ: dict[str, str], nodes: int | None) -> None:
    """It is told only where the launcher's variables tell it."""
    assert facts(settings.read(environ)).get("setting.nodes") == nodes


@pytest.mark.parametrize(("text", "count"), [("8", 8), ("4,2", 4), ("", 0), ("many", None), ("-1", None)])
def test_the_number_of_threads(text: str, count: int | None) -> None:
    """Zero stands for a variable that is not set; what is no number is not told."""
    assert facts(settings.read({"OMP_NUM_THREADS": text} if text else {})).get("setting.omp_threads") == count


@pytest.mark.parametrize(("level", "known"), [("INFO", True), ("info", True), ("DEBUG", False), ("2", False)])
def test_nccl_knows_few_levels(level: str, known: bool) -> None:
    """A level that NCCL does not know is told as such."""
    assert facts(settings.read({"NCCL_DEBUG": level}))["setting.nccl_debug_known"] is known
