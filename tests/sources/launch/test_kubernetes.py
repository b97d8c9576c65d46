"""Manifests are read as Kubernetes reads them: pods of every kind of object, their GPUs, memory, probes and Services."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.model import Fact
from diagnose.sources.launch import around
from diagnose.sources.launch.pods import quantity
from tests.sources.launch.support import facts, unchecked


def told(folder: Path, text: str) -> dict[str, Fact]:
    (folder / "llm.yaml").write_text(textwrap.dedent(text))
    return facts(around.file("llm.yaml", {}, str(folder)))


WHOLE = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: qwen, namespace: ai}
    spec:
      replicas: 2
      template:
        metadata: {labels: {app: qwen}}
        spec:
          terminationGracePeriodSeconds: 10
          containers:
          - name: sidecar
            image: busybox
          - name: vllm
            image: vllm/vllm-openai:v0.11.0
            args: ["--model", "$(MODEL)", "--tensor-parallel-size", "4"]
            env:
            - {name: MODEL, value: Qwen/Qwen3-8B}
            - name: HF_TOKEN
              valueFrom: {secretKeyRef: {name: hf, key: token}}
            ports: [{name: http, containerPort: 8000}]
            resources:
              limits: {nvidia.com/gpu: "2", memory: 16Gi}
            livenessProbe:
              httpGet: {path: /health, port: http}
              initialDelaySeconds: 60
            volumeMounts: [{name: shm, mountPath: /dev/shm}]
          volumes:
          - name: shm
            emptyDir: {medium: Memory, sizeLimit: 2Gi}
    ---
    apiVersion: v1
    kind: Service
    metadata: {name: vllm, namespace: ai}
    spec: {selector: {app: qwen}, ports: [{port: 80, targetPort: 9000}]}
"""


def test_a_whole_manifest(tmp_path: Path) -> None:
    """The container with the engine among others, and what is said of it."""
    found = told(tmp_path, WHOLE)
    expected = {
        "deploy.kind": "kubernetes",
        "deploy.object": "Deployment qwen",
        "deploy.service": "vllm",
        "deploy.gpus": 2,
        "deploy.gpu_resource": "nvidia.com/gpu",
        "deploy.gpu_only_requested": False,
        "deploy.memory": 16 << 30,
        "deploy.shm": 2 << 30,
        "deploy.shm_in_memory": True,
        "deploy.probe.liveness.seconds": 90,
        "deploy.probe.liveness.port": 8000,
        "deploy.load_seconds": 90,
        "deploy.load_probe": "livenessProbe",
        "deploy.grace_seconds": 10,
        "deploy.replicas": 2,
        "deploy.env_elsewhere.HF_TOKEN": True,
        "deploy.service_sets_port": "vllm",
        "deploy.rollout_beside": True,
        "launch.model": "Qwen/Qwen3-8B",
        "launch.tensor_parallel": 4,
    }
    assert {name: found[name].value for name in expected} == expected
    assert found["deploy.image"].line == 15
    assert found["launch.model"].line == 16


def test_a_service_with_two_containers_in_the_pod_is_not_judged(tmp_path: Path) -> None:
    """The port may be the other container's."""
    assert "deploy.service_target" not in told(tmp_path, WHOLE)
    alone = WHOLE.replace("          - name: sidecar\n            image: busybox\n", "")
    alone = "\n".join(line for line in WHOLE.splitlines() if "sidecar" not in line and "busybox" not in line)
    assert told(tmp_path, alone)["deploy.service_target"].value == 9000


@pytest.mark.parametrize("change", ["enableServiceLinks: false\n          terminationGracePeriodSeconds: 10", None])
def test_service_links_can_be_off(tmp_path: Path, change: str | None) -> None:
    """Without the links no variable is set; nor for a Service of another name."""
    if change:
        text = WHOLE.replace("terminationGracePeriodSeconds: 10", change)
    else:
        text = WHOLE.replace("metadata: {name: vllm, namespace: ai}", "metadata: {name: vllm-server, namespace: ai}")
    assert "deploy.service_sets_port" not in told(tmp_path, text)


POD = "containers: [{name: llm, image: 'vllm/vllm-openai:v0.11.0', args: ['--model', 'a/b']}]"


@pytest.mark.parametrize(
    "text",
    [
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec: {{{POD}}}\n",
        f"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: x}}\nspec: {{template: {{spec: {{{POD}}}}}}}\n",
        f"apiVersion: batch/v1\nkind: Job\nmetadata: {{name: x}}\nspec: {{template: {{spec: {{{POD}}}}}}}\n",
        f"apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: x}}\nspec: {{jobTemplate: {{spec: {{template: {{spec: {{{POD}}}}}}}}}}}\n",
        f"apiVersion: leaderworkerset.x-k8s.io/v1\nkind: LeaderWorkerSet\nmetadata: {{name: x}}\nspec: {{leaderWorkerTemplate: {{size: 2, leaderTemplate: {{spec: {{{POD}}}}}}}}}\n",
        f"apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {{name: x}}\nspec: {{predictor: {{{POD}}}}}\n",
        f"apiVersion: v1\nkind: List\nitems: [{{apiVersion: v1, kind: Pod, metadata: {{name: x}}, spec: {{{POD}}}}}]\n",
    ],
)  # fmt: skip
def test_objects_that_make_pods(tmp_path: Path, text: str) -> None:
    """A pod is found in whatever object makes it."""
    found = told(tmp_path, text)
    assert found["launch.model"].value == "a/b"
    assert found["deploy.gpu_access"].value == "none"
    assert found["deploy.shm"].value == 64 << 20


def test_gpus_requested_only_or_otherwise(tmp_path: Path) -> None:
    """A request without a limit, and one that differs."""
    form = "apiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\nspec: {{containers: [{{name: a, image: vllm/vllm-openai, resources: {0}}}]}}\n"
    only = told(tmp_path, form.format("{requests: {nvidia.com/gpu: 1}}"))
    assert only["deploy.gpu_only_requested"].value is True
    assert "deploy.gpus" not in only
    other = told(tmp_path, form.format("{requests: {nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 2}}"))
    assert other["deploy.gpu_request_differs"].value == "1"
    same = told(tmp_path, form.format("{requests: {nvidia.com/gpu: 2}, limits: {nvidia.com/gpu: '2'}}"))
    assert "deploy.gpu_request_differs" not in same
    amd = told(tmp_path, form.format("{limits: {amd.com/gpu: 4}}"))
    assert (amd["deploy.gpu_resource"].value, amd["deploy.gpus"].value) == ("amd.com/gpu", 4)


def test_the_startup_probe_decides_how_long_loading_may_take(tmp_path: Path) -> None:
    """Liveness waits for it."""
    text = WHOLE.replace(
        "livenessProbe:",
        "startupProbe: {httpGet: {path: /health, port: 8000}, failureThreshold: 60}\n            livenessProbe:",
    )
    found = told(tmp_path, text)
    assert (found["deploy.load_seconds"].value, found["deploy.load_probe"].value) == (600, "startupProbe")


def test_a_name_that_the_pod_does_not_know_is_left_alone(tmp_path: Path) -> None:
    """`$(NAME)` of a secret stays unknown, so that no model is made up."""
    found = told(tmp_path, WHOLE.replace("- {name: MODEL, value: Qwen/Qwen3-8B}", "- {name: OTHER, value: x}"))
    assert "launch.model" not in found


def test_nothing_of_the_host_is_told(tmp_path: Path) -> None:
    """A manifest is for a cluster: its folders are not looked for here."""
    text = WHOLE.replace("emptyDir: {medium: Memory, sizeLimit: 2Gi}", "hostPath: {path: /data}")
    found = told(tmp_path, text)
    assert "deploy.mount.0.there" not in found
    assert "deploy.model_path" not in found


def test_manifests_without_an_engine_are_said_to_be(tmp_path: Path) -> None:
    """A Service alone, and a pod of something else."""
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 1}]}\n")
    assert any("no object in it makes pods" in item.why for item in unchecked(around.file("a.yaml", {}, str(tmp_path))))
    (tmp_path / "b.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: nginx}]}\n"
    )
    assert any("none of its 1 pods" in item.why for item in unchecked(around.file("b.yaml", {}, str(tmp_path))))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("4", 4),
        ("16Gi", 16 << 30),
        ("16G", 16_000_000_000),
        ("1.5Gi", 3 << 29),
        ("128Mi", 128 << 20),
        ("100m", 1),
        ("2e9", 2_000_000_000),
        ("x", None),
        ("", None),
        ("-1", None),
        ("1 Gi", None),
        ("999999999999999E", None),
        ("9e99", None),
    ],
)
def test_quantities(text: str, number: int | None) -> None:
    """As Kubernetes writes them; thousandths are rounded up."""
    assert quantity(text) == number


_SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.sampled_from(["vllm/vllm-openai", "1Gi", "http"])
)
_KEYS = st.sampled_from(
    [
        "containers",
        "image",
        "command",
        "args",
        "env",
        "name",
        "value",
        "resources",
        "limits",
        "requests",
        "nvidia.com/gpu",
        "memory",
        "ports",
        "containerPort",
        "livenessProbe",
        "startupProbe",
        "httpGet",
        "port",
        "volumeMounts",
        "volumes",
        "emptyDir",
        "mountPath",
        "hostIPC",
    ]
)
_ANY = st.recursive(
    _SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=16,
)


@settings(max_examples=150, deadline=None)
@given(container=st.dictionaries(_KEYS, _ANY, max_size=8), spec=st.dictionaries(_KEYS, _ANY, max_size=4))
def test_no_pod_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, container: dict[str, object], spec: dict[str, object]
) -> None:
    """Values of the wrong kind in any place end in facts or an honest word."""
    import yaml

    folder = tmp_path_factory.mktemp("pod")
    body = {**spec, "containers": [{"image": "vllm/vllm-openai", **container}]}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": body}
    (folder / "x.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    assert list(around.file("x.yaml", {}, str(folder)))
