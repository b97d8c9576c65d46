"""What follows of a model, its command and the machine: compared with the engines' rules tried out one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.derive import fit, parallel
from diagnose.derive.parallel import Shape
from diagnose.facts import describe
from tests.support import facts_of

VLLM = {"engine.name": "vllm", "launch.program": "vllm serve"}
SGLANG = {"engine.name": "sglang", "launch.program": "sglang serve"}
QWEN = {"model.heads": 28, "model.kv_heads": 4, "model.head_dim": 128, "model.intermediate_size": 18944, "model.attention": "gqa", "model.layers": 28}  # fmt: skip


def told(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What fit tells of facts (`launch__context` stands for `launch.context`)."""
    known: dict[str, Any] = {}
    for part in parts:
        known |= part
    known |= {name.replace("__", "."): value for name, value in more.items()}
    return {fact.name: fact.value for fact in fit.complete(facts_of(known))}


# --- tensor parallel


@pytest.mark.parametrize(
    ("size", "fault", "best"),
    [(1, "none", 1), (2, "none", 2), (4, "none", 4), (7, "kv-heads", 4), (8, "heads", 4), (28, "intermediate", 4)],
)
def test_heads_of_a_model_with_28(size: int, fault: str, best: int) -> None:
    """28 heads, 4 of keys and values: 1, 2 and 4, and 28 where the rest comes out even."""
    found = told(VLLM, QWEN, launch__tensor_parallel=size)
    assert found["fit.tensor_parallel_fault"] == fault
    assert found["fit.tensor_parallel_best"] == best
    assert found["fit.tensor_parallel_possible"] == "1, 2, 4"


def test_keys_and_values_are_repeated_where_gpus_are_more() -> None:
    """8 GPUs and 4 heads of keys and values go together; the vocabulary never stands in the way."""
    shape = {
        "model.heads": 32,
        "model.kv_heads": 4,
        "model.intermediate_size": 12288,
        "model.vocab_size": 151_937,
        "model.attention": "gqa",
    }
    assert told(VLLM, shape, launch__tensor_parallel=8)["fit.tensor_parallel_fault"] == "none"


def test_mla_has_no_heads_of_keys_and_values_to_share() -> None:
    """DeepSeek's attention keeps one latent on each GPU."""
    shape = Shape(heads=128, kv_heads=3, attention="mla")
    assert parallel.fault(shape, 16) == ""


def test_groups_of_a_gptq_model() -> None:
    """29568 columns in groups of 128 cannot be cut in two; 29696 can be cut in eight."""
    big = {
        "model.heads": 64,
        "model.kv_heads": 8,
        "model.head_dim": 128,
        "model.attention": "gqa",
        "model.quantization": "gptq",
        "model.quantization_group": 128,
    }
    found = told(VLLM, big, model__intermediate_size=29568, launch__tensor_parallel=2)
    assert (
        found["fit.tensor_parallel_fault"],
        found["fit.tensor_parallel_number"],
        found["fit.tensor_parallel_unit"],
    ) == ("group", 14784, 128)
    assert found["fit.tensor_parallel_possible"] == "1"
    assert (
        told(VLLM, big, model__intermediate_size=29696, launch__tensor_parallel=8)["fit.tensor_parallel_fault"]
        == "none"
    )


def test_whole_rows_that_share_a_scale_can_be_cut() -> None:
    """A group of -1 is a whole row; bitsandbytes and GGUF are cut anywhere."""
    assert parallel.grouped("gptq", -1) == 0
    assert parallel.grouped("bitsandbytes", 64) == 0
    assert parallel.grouped("awq", 128) == 128


def test_blocks_of_fp8_experts() -> None:
    """1536 columns of an expert in blocks of 128 go to 4 GPUs, not to 8, unless experts stay whole."""
    shape = {
        "model.heads": 64, "model.kv_heads": 4, "model.head_dim": 128, "model.experts": 128, "model.intermediate_size": 12288,
        "model.expert_width": 1536, "model.quantization": "fp8", "model.quantization_block": 128, "model.attention": "gqa",
    }  # fmt: skip
    assert told(VLLM, shape, launch__tensor_parallel=4)["fit.tensor_parallel_fault"] == "none"
    found = told(VLLM, shape, launch__tensor_parallel=8)
    assert (found["fit.tensor_parallel_fault"], found["fit.tensor_parallel_number"]) == ("block", 192)
    assert (
        told(VLLM, shape, launch__tensor_parallel=8, launch__expert_parallel=True)["fit.tensor_parallel_fault"]
        == "none"
    )


def test_the_width_of_a_mixture_is_not_that_of_its_experts() -> None:
    """intermediate_size of a mixture of experts may belong to no layer at all."""
    shape = {
        "model.heads": 32,
        "model.kv_heads": 4,
        "model.experts": 128,
        "model.intermediate_size": 6145,
        "model.attention": "gqa",
    }
    assert told(VLLM, shape, launch__tensor_parallel=4)["fit.tensor_parallel_fault"] == "none"


def test_sglangs_data_parallel_attention_splits_heads_less() -> None:
    """With --enable-dp-attention the attention is split over tp / dp GPUs."""
    found = told(
        SGLANG, QWEN, {"launch.arg.enable_dp_attention": "true"}, launch__tensor_parallel=8, launch__data_parallel=2
    )
    assert found["fit.tensor_parallel_fault"] == "none"
    assert told(SGLANG, QWEN, launch__tensor_parallel=8)["fit.tensor_parallel_fault"] == "heads"


@pytest.mark.parametrize("engine", ["llama.cpp", "ollama", "transformers"])
def test_engines_that_hand_out_layers_have_no_such_rule(engine: str) -> None:
    """Nothing is said for them."""
    found = told(QWEN, {"engine.name": engine, "launch.program": "x"}, launch__tensor_parallel=3)
    assert not [name for name in found if name.startswith("fit.tensor_parallel")]


def test_more_stages_than_layers() -> None:
    """Layers need not divide, but each stage needs one."""
    assert told(VLLM, QWEN, launch__pipeline_parallel=3)["fit.pipeline_over"] is False
    assert told(VLLM, QWEN, launch__pipeline_parallel=29)["fit.pipeline_over"] is True


_SHAPES = st.builds(
    Shape,
    heads=st.integers(1, 130),
    kv_heads=st.integers(0, 40),
    head_dim=st.sampled_from([0, 64, 80, 96, 128]),
    intermediate=st.sampled_from([0, 1024, 10000, 11008, 18944, 29568, 29696]),
    expert=st.sampled_from([0, 768, 1408, 1536, 2048]),
    attention=st.sampled_from(["", "gqa", "mha", "mla", "none"]),
    group=st.sampled_from([0, 32, 64, 128]),
    block=st.sampled_from([0, 128]),
)


def _vllm_starts(shape: Shape, size: int, whole_experts: bool) -> bool:
    """What vLLM's layers do, one after the other: each GPU builds its part, and asserts."""
    if size == 1:
        return True
    if shape.heads % size:
        return False
    if shape.attention not in ("mla", "none") and shape.kv_heads:
        even = size % shape.kv_heads == 0 if size >= shape.kv_heads else shape.kv_heads % size == 0
        if not even:
            return False
    columns = [shape.intermediate] + ([] if whole_experts else [shape.expert])
    if any(column % size for column in columns):
        return False
    rows = [column for column in columns if column]
    rows += [shape.heads * shape.head_dim] if shape.attention != "mla" and shape.head_dim else []
    for row in rows:
        part = row // size
        if shape.group and shape.group < row and part % shape.group:
            return False
        if shape.block and part % shape.block:
            return False
    return True


@given(shape=_SHAPES, whole_experts=st.booleans())
def test_possible_sizes_are_those_that_every_layer_takes(shape: Shape, whole_experts: bool) -> None:
    """The list agrees with trying out each size; one GPU always does."""
    expected = [size for size in range(1, parallel.MOST + 1) if _vllm_starts(shape, size, whole_experts)]
    assert parallel.possible(shape, "vllm", whole_experts=whole_experts) == expected
    assert 1 in expected


@given(shape=_SHAPES, size=st.integers(1, 64))
def test_a_fault_has_its_number(shape: Shape, size: int) -> None:
    """What does not come out even is told with the number that does not."""
    facts = {
        "model.heads": shape.heads, "model.kv_heads": shape.kv_heads, "model.head_dim": shape.head_dim or 64,
        "model.intermediate_size": shape.intermediate or 4096, "model.attention": shape.attention,
        "model.quantization": "gptq" if shape.group else "", "model.quantization_group": shape.group,
    }  # fmt: skip
    found = told(VLLM, facts, launch__tensor_parallel=size)
    if found["fit.tensor_parallel_fault"] == "none":
        assert "fit.tensor_parallel_number" not in found
        return
    number = found["fit.tensor_parallel_number"]
    unit = found.get("fit.tensor_parallel_unit")
    if unit:
        assert number % unit
    else:
        assert number % size or size % number


# --- GPUs


@pytest.mark.parametrize(
    ("facts", "wanted", "there", "short"),
    [
        ({"launch.tensor_parallel": 8, "gpu.count": 4}, 8, 4, True),
        ({"launch.tensor_parallel": 4, "gpu.count": 4}, 4, 4, False),
        ({"launch.tensor_parallel": 2, "launch.pipeline_parallel": 3, "gpu.count": 4}, 6, 4, True),
        ({"launch.tensor_parallel": 2, "launch.data_parallel": 4, "gpu.count": 8}, 8, 8, False),
        ({"launch.tensor_parallel": 4, "gpu.count": 8, "launch.env.CUDA_VISIBLE_DEVICES": "0,1"}, 4, 2, True),
        ({"launch.tensor_parallel": 2, "gpu.count": 8, "gpu.visible_count": 1}, 2, 1, True),
        ({"launch.tensor_parallel": 2, "gpu.count": 8, "gpu.visible_count": 1, "deploy.kind": "docker"}, 2, 8, False),
        ({"launch.tensor_parallel": 4, "gpu.count": 8, "deploy.gpus": 2, "deploy.kind": "docker"}, 4, 2, True),
        ({"launch.tensor_parallel": 4, "gpu.count": 1, "deploy.gpus": 4, "deploy.kind": "kubernetes"}, 4, 4, False),
    ],
)
def test_gpus_wanted_and_there(facts: dict[str, Any], wanted: int, there: int, short: bool) -> None:
    """The fewest that something lets the engine see; a manifest for a cluster knows nothing of this machine."""
    found = told(VLLM, facts)
    assert (found["fit.gpus_wanted"], found["fit.gpus_there"], found["fit.gpus_short"]) == (wanted, there, short)


@pytest.mark.parametrize(
    "more",
    [
        {"launch.arg.distributed_executor_backend": "ray"},
        {"launch.arg.nnodes": "2"},
        {"launch.arg.data_parallel_size_local": "1"},
        {"deploy.nodes": 2},
    ],
)
def test_several_machines_are_not_counted(more: dict[str, Any]) -> None:
    """With vLLM on several machines the GPUs of one say nothing."""
    assert "fit.gpus_wanted" not in told(VLLM, more, launch__tensor_parallel=16, gpu__count=8)


def test_sglang_shares_its_gpus_out_to_machines() -> None:
    """tp over nnodes; data-parallel attention adds none."""
    assert told(SGLANG, {"launch.arg.nnodes": "2"}, launch__tensor_parallel=16)["fit.gpus_wanted"] == 8
    assert told(SGLANG, launch__tensor_parallel=4, launch__data_parallel=2)["fit.gpus_wanted"] == 8
    attention = told(
        SGLANG, {"launch.arg.enable_dp_attention": "true"}, launch__tensor_parallel=4, launch__data_parallel=2
    )
    assert attention["fit.gpus_wanted"] == 4


@pytest.mark.parametrize("flag", ["tensor_parallel_size", "data_parallel_size"])
def test_a_size_that_only_the_shell_knows_is_not_taken_for_one(flag: str) -> None:
    """`--tensor-parallel-size $TP`: how many GPUs are wanted is not known; nor with a file inside the container."""
    given = {"launch.given.0.name": flag, "launch.given.0.flag": "--x", "launch.given.0.for_shell": True}
    assert "fit.gpus_wanted" not in told(VLLM, given, gpu__count=4)
    assert "fit.gpus_wanted" not in told(VLLM, {"launch.arg.config": "/c.yaml"}, gpu__count=4, deploy__kind="docker")
    assert told(VLLM, {"launch.arg.config": "/c.yaml"}, gpu__count=4)["fit.gpus_wanted"] == 1
    assert "fit.gpus_wanted" not in told(VLLM, gpu__count=4, launch__more_words=True)


@pytest.mark.parametrize(
    ("value", "count"),
    [("0,1,2", 3), ("", 0), ("-1", 0), ("0,-1,2", 1), ("GPU-8a0c,GPU-11ff", 2), ("0, 1", 2), ("all", 0)],
)
def test_visible_devices_of_the_command(value: str, count: int) -> None:
    """CUDA stops at the first entry that is none."""
    found = told(VLLM, {"launch.env.CUDA_VISIBLE_DEVICES": value}, gpu__count=8, launch__tensor_parallel=1)
    assert found["fit.gpus_there"] == count


def test_a_containers_gpus_count_from_zero() -> None:
    """An index of the host is none inside; CUDA sees what stands before it."""
    inside = {"deploy.kind": "docker", "deploy.gpus": 2, "launch.tensor_parallel": 2}
    found = told(VLLM, inside, {"launch.env.CUDA_VISIBLE_DEVICES": "2,3"})
    assert (found["fit.visible_beyond_container"], found["fit.gpus_there"]) == (2, 0)
    assert "fit.visible_beyond_container" not in told(VLLM, inside, {"launch.env.CUDA_VISIBLE_DEVICES": "1,0"})
    assert "fit.visible_beyond_container" not in told(VLLM, {"launch.env.CUDA_VISIBLE_DEVICES": "2,3"}, gpu__count=8)


def test_processes_of_a_launcher() -> None:
    """More than GPUs, or one on several."""
    assert told(deploy__launcher="torchrun", deploy__processes=8, gpu__count=4)["fit.processes_over"] is True
    found = told(deploy__launcher="torchrun", deploy__processes=1, deploy__processes_default=True, gpu__count=4)
    assert (found["fit.processes_over"], found["fit.gpus_idle"]) == (False, True)
    assert told(deploy__launcher="deepspeed", deploy__gpu_highest=4, gpu__count=4)["fit.gpu_index_over"] is True


# --- context


def test_context_and_the_variable_that_lifts_the_check() -> None:
    """Beyond the model: refused, or allowed by the engine's own variable; the environment's does not reach a container."""
    over = told(VLLM, launch__context=65536, model__context=40960)
    assert (over["fit.context_over"], over["fit.context_over_allowed"]) == (True, False)
    lifted = {"launch.env.VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
    assert told(VLLM, lifted, launch__context=65536, model__context=40960)["fit.context_over_allowed"] is True
    outside = {"env.VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
    assert told(VLLM, outside, launch__context=65536, model__context=40960)["fit.context_over_allowed"] is True
    assert (
        told(VLLM, outside, launch__context=65536, model__context=40960, deploy__kind="docker")[
            "fit.context_over_allowed"
        ]
        is False
    )
    assert told(VLLM, launch__context=40960, model__context=40960)["fit.context_over"] is False


@pytest.mark.parametrize("name", ["hf_overrides", "rope_scaling", "json_model_override_args"])
def test_a_command_that_changes_the_positions_is_not_judged(name: str) -> None:
    """The limit is another one then."""
    assert "fit.context_over" not in told(
        VLLM, {f"launch.arg.{name}": "{}"}, launch__context=65536, model__context=40960
    )


# --- number types


@pytest.mark.parametrize(
    ("asked", "own", "type_", "best", "expected"),
    [
        ("", "bfloat16", "qwen3", "8.0", {"fit.dtype": "bfloat16", "fit.bfloat16_lacks": False}),
        (
            "",
            "bfloat16",
            "qwen3",
            "7.5",
            {"fit.bfloat16_lacks": True, "fit.dtype_instead": "float16"},
        ),
        ("auto", "bfloat16", "gemma2", "7.5", {"fit.dtype_instead": "float32"}),
        ("bfloat16", "float16", "qwen3", "7.0", {"fit.bfloat16_lacks": True, "fit.dtype_instead": None}),
        ("half", "bfloat16", "gemma3_text", "9.0", {"fit.dtype": "float16", "fit.float16_refused": True}),
        ("float16", "bfloat16", "qwen3", "9.0", {"fit.float16_refused": False}),
        ("", "float32", "qwen3", "9.0", {"fit.dtype": "bfloat16"}),
        ("", "float32", "qwen3", "7.5", {"fit.dtype": "float16"}),
        ("float32", "bfloat16", "gemma2", "7.5", {"fit.dtype": "float32", "fit.bfloat16_lacks": None}),
    ],
)
def test_number_types(asked: str, own: str, type_: str, best: str, expected: dict[str, Any]) -> None:
    """As vLLM resolves and checks them."""
    found = told(VLLM, {"launch.dtype": asked, "model.dtype": own, "model.type": type_, "gpus.capability_best": best})
    assert {name: found.get(name) for name in expected} == expected


def test_a_cluster_has_other_gpus() -> None:
    """This machine's cards say nothing of a pod's."""
    found = told(VLLM, {"model.dtype": "bfloat16", "gpus.capability_best": "7.5", "deploy.kind": "kubernetes"})
    assert "fit.bfloat16_lacks" not in found


def test_quantization_of_the_model_against_the_card() -> None:
    """The table of the version that runs: the one installed, or the image's."""
    base = {"model.quantization": "mxfp4", "gpus.capability_best": "7.5"}
    assert told(VLLM, base, vllm__version="0.33.0")["fit.quantization_refused"] is True
    assert (
        told(VLLM, base, {"gpus.capability_best": "9.0"}, vllm__version="0.33.0")["fit.quantization_refused"] is False
    )
    inside = told(VLLM, base, vllm__version="0.33.0", deploy__kind="docker")
    assert "fit.quantization_refused" not in inside
    assert told(VLLM, base, launch__engine_version="0.33.0", deploy__kind="docker")["fit.quantization_refused"] is True


def test_the_vocabulary_of_a_draft_model() -> None:
    """A model of its own needs the same number of rows; heads that were trained for the model (EAGLE) need not."""
    base = {
        "model.vocab_size": 152_064,
        "draft.vocab_size": 151_936,
        "draft.architecture": "Qwen2ForCausalLM",
        "draft.asked": "a/small",
    }
    assert told(VLLM, base)["fit.draft_vocabulary_differs"] is True
    assert told(VLLM, base, model__vocab_size=151_936)["fit.draft_vocabulary_differs"] is False
    assert "fit.draft_vocabulary_differs" not in told(VLLM, base, {"draft.asked": "a/EAGLE3-x"})
    assert "fit.draft_vocabulary_differs" not in told(VLLM, base, {"launch.speculative_method": "eagle3"})
    assert "fit.draft_vocabulary_differs" not in told(SGLANG, base)


# --- ports


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"deploy.kind": "docker", "deploy.network": "bridge", "deploy.port.0.inside": 8000}, {"fit.port": 8000, "fit.port_published": True}),
        ({"deploy.kind": "docker", "deploy.network": "bridge", "deploy.port.0.inside": 80}, {"fit.port_published": False}),
        ({"deploy.kind": "docker", "deploy.network": "bridge", "deploy.port.0.inside": 80, "launch.arg.port": "80"}, {"fit.port_published": True}),
        ({"deploy.kind": "docker", "deploy.network": "host", "deploy.port.0.inside": 80}, {"fit.port_published": None}),
        ({"deploy.kind": "kubernetes", "deploy.probe_port": 8080}, {"fit.probe_port_differs": True, "fit.port_published": None}),
        ({"deploy.kind": "kubernetes", "deploy.service_target": 8000}, {"fit.service_target_differs": False}),
        ({"deploy.kind": "docker", "deploy.network": "bridge", "deploy.port.0.inside": 8000, "launch.host": "127.0.0.1"}, {"fit.listens_inside_only": True}),
        ({"deploy.kind": "docker", "deploy.network": "bridge", "deploy.port.0.inside": 8000, "launch.host": "0.0.0.0"}, {"fit.listens_inside_only": False}),
        ({}, {"fit.port": None}),
        ({"deploy.kind": "docker", "launch.given.0.name": "port", "launch.given.0.for_shell": True}, {"fit.port": None}),
        ({"deploy.kind": "docker", "launch.program": ""}, {"fit.port": None}),
        ({"deploy.kind": "docker", "engine.name": "tgi", "deploy.image_engine": "tgi", "launch.env.PORT": "set"}, {"fit.port": None}),
        ({"deploy.kind": "docker", "engine.name": "tgi", "deploy.image_engine": "tgi", "launch.env.PORT": "8080"}, {"fit.port": 8080}),
    ],
)  # fmt: skip
def test_ports(facts: dict[str, Any], expected: dict[str, Any]) -> None:
    """The engine's port against what is published and asked."""
    found = told(VLLM, facts)
    assert {name: found.get(name) for name in expected} == expected


def test_a_server_without_any_published_port() -> None:
    """Docker alone: a pod and a Compose service have neighbours."""
    base = {"deploy.kind": "docker", "deploy.network": "bridge"}
    assert told(VLLM, base)["fit.no_port_published"] is True
    assert told(VLLM, base, {"deploy.port.0.inside": 8000})["fit.no_port_published"] is False
    assert told(VLLM, base, {"deploy.ports_all": True})["fit.no_port_published"] is False
    assert "fit.no_port_published" not in told(VLLM, base, {"deploy.kind": "compose"})


def test_sglang_listens_on_loopback_unless_told() -> None:
    """And TGI's image on port 80."""
    base = {"deploy.kind": "docker", "deploy.network": "bridge", "deploy.port.0.inside": 30000}
    assert told(SGLANG, base)["fit.listens_inside_only"] is True
    tgi = {
        "engine.name": "tgi",
        "launch.program": "text-generation-launcher",
        "deploy.image_engine": "tgi",
        "launch.port": 3000,
    }
    assert told(tgi, base)["fit.port"] == 80


def test_offloaded_weights_count_for_each_gpu() -> None:
    """64 GB on four GPUs are 256."""
    facts = {"launch.arg.cpu_offload_gb": "64", "memory.usable": 200 << 30}
    found = told(VLLM, facts, launch__tensor_parallel=4)
    assert (found["fit.offload_bytes"], found["fit.offload_over"]) == (256 << 30, True)


# --- all together

_NAMES = st.sampled_from(
    [
        "engine.name", "launch.program", "launch.tensor_parallel", "launch.pipeline_parallel", "launch.data_parallel", "launch.context",
        "model.heads", "model.kv_heads", "model.head_dim", "model.hidden_size", "model.intermediate_size", "model.layers", "model.context",
        "model.experts", "model.expert_width", "model.quantization", "model.quantization_group", "model.attention", "model.dtype",
        "gpu.count", "gpu.visible_count", "gpus.capability_best", "deploy.kind", "deploy.gpus", "deploy.network", "deploy.port.0.inside",
        "deploy.probe_port", "deploy.processes", "deploy.launcher", "launch.env.CUDA_VISIBLE_DEVICES", "launch.arg.nnodes", "launch.arg.port",
        "launch.arg.cpu_offload_gb", "memory.usable", "vllm.version", "launch.dtype", "model.type", "wanted.name", "model.sliding_window",
    ]
)  # fmt: skip
_VALUES = st.one_of(
    st.integers(-5, 1 << 70), st.floats(), st.booleans(), st.text(max_size=6),
    st.sampled_from(["vllm", "sglang", "tgi", "docker", "kubernetes", "bridge", "gptq", "fp8", "bfloat16", "8", "0,1"]),
)  # fmt: skip


@given(st.dictionaries(_NAMES, _VALUES, max_size=24))
def test_no_facts_break_it_and_all_names_are_catalogued(known: dict[str, Any]) -> None:
    """A case file may claim anything; what follows has a name that a rule may ask for, and is made by arithmetic."""
    for fact in fit.complete(facts_of(known)):
        assert describe(fact.name) is not None, fact.name
        assert fact.origin == "arithmetic"


def test_what_is_known_is_not_told_again() -> None:
    """A fact that a case brings stays."""
    found = told(VLLM, QWEN, {"fit.tensor_parallel_fault": "none"}, launch__tensor_parallel=8)
    assert "fit.tensor_parallel_fault" not in found
