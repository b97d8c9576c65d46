"""Who and where become aliases, the same everywhere; versions, packages and paths stay what they are."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import ruleset
from diagnose.collect import case_of_text
from diagnose.identity import Identity, of_this_machine
from diagnose.match import match
from diagnose.model import Case, Event, Fact, Frame, Line, Raised, Unchecked
from diagnose.redact import case
from tests.support import ROOT

QUARTER = 1 << 18


def of(*rows: str, identity: Identity | None = None, **changes: str) -> tuple[str, ...]:
    """The lines of an event, masked."""
    lines = tuple(Line(number, row, row) for number, row in enumerate(rows, start=1))
    event = Event("x", 1, len(rows), lines, **changes)  # type: ignore[arg-type]
    return tuple(line.text for line in case(Case(events=(event,)), identity or Identity()).events[0].lines)


@pytest.mark.parametrize(
    ("row", "masked"),
    [
        ('  File "/home/alice/run.py", line 3, in main', '  File "/home/user1/run.py", line 3, in main'),
        ("/Users/alice/models", "/Users/user1/models"),
        (r"C:\Users\Alice\models", r"C:\Users\user1\models"),
        (r"'C:\\Users\\Alice\\models'", r"'C:\\Users\\user1\\models'"),
        ("file:///home/alice/x file:///data/home/bob", "file:///home/user1/x file:///data/home/user2"),
        ("/mnt/data/home/alice/x", "/mnt/data/home/user1/x"),
        ("USER=alice HOME=/home/alice", "USER=user1 HOME=/home/user1"),
        ("/home/bob/home/alice /data/cluster/a/b/home/carol/x", "/home/user1/home/user2 /data/cluster/a/b/home/user3/x"),
        ("/home/alice/x is not writable by alice", "/home/user1/x is not writable by user1"),
        ("/home/alice/alice_model /home/bob/x", "/home/user1/user1_model /home/user2/x"),
        ("/home/Jürgen/x", "/home/user1/x"),
        ("alice@node7:~$ python x.py", "user1@host1:~$ python x.py"),
        ("mail alice@corp.example.de", "mail user1@host1"),
        ("node7:1301:1301 [0] NCCL INFO Bootstrap", "host1:1301:1301 [0] NCCL INFO Bootstrap"),
        ("node-7.dc.corp:1301:1399 [3] NCCL WARN x", "host1:1301:1399 [3] NCCL WARN x"),
        ("http://gpu-box:8000/v1/models", "http://host1:8000/v1/models"),
        ("--index-url https://pypi.corp.internal/simple", "--index-url https://host1/simple"),
        ("tcp://node7:29500", "tcp://host1:29500"),
        ("MASTER_ADDR=node7 MASTER_PORT=29500", "MASTER_ADDR=host1 MASTER_PORT=29500"),
        ("torchrun --rdzv_endpoint node7:29400 t.py", "torchrun --rdzv_endpoint host1:29400 t.py"),
        ("Jan 02 03:04:05 node7 kernel: NVRM: Xid", "Jan 02 03:04:05 host1 kernel: NVRM: Xid"),
        ("failed on host node7, rank 3", "failed on host host1, rank 3"),
        ("[c10d] connect to 10.12.0.7:29500 failed", "[c10d] connect to ip1:29500 failed"),
        ("NET/Socket : Using [0]eth0:192.168.3.4<0>", "NET/Socket : Using [0]eth0:ip1<0>"),
        ("(Worker pid=12, ip=10.0.0.5) x", "(Worker pid=12, ip=ip1) x"),
        ("tcp://172.17.0.2:29500 and 172.17.0.3", "tcp://ip1:29500 and ip2"),
        ("inet6 fe80::5054:ff:fe12:3456%eth0", "inet6 ip1%eth0"),
        ("listening on [2001:db8::8a2e:370:7334]:80", "listening on [ip1]:80"),
        ("link/ether 52:54:00:12:34:56 brd", "link/ether mac1 brd"),
        ("GPU 0: H100 (UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)", "GPU 0: H100 (UUID: GPU-uuid1)"),
        ("CUDA_VISIBLE_DEVICES=GPU-8932f937 of GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "CUDA_VISIBLE_DEVICES=GPU-uuid1 of GPU-uuid1"),
        ("CUDA_VISIBLE_DEVICES=MIG-41b36a5f-10f7-5d1a-a5d3-7d6d0e3d2a11", "CUDA_VISIBLE_DEVICES=MIG-uuid1"),
        ("    Serial Number                         : 1652222014738", "    Serial Number                         : serial1"),
        ("machine-id: 0123456789abcdef0123456789abcdef", "machine-id: serial1"),
    ],
)  # fmt: skip
def test_who_and_where_become_aliases(row: str, masked: str) -> None:
    """Users, hosts, addresses and serial numbers."""
    assert of(row) == (masked,)


@pytest.mark.parametrize(
    "row",
    [
        "127.0.0.1:8000", "0.0.0.0", "host='0.0.0.0', port=8000", "http://localhost:8000/v1", "255.255.255.0", "::1", "[::]:29500", "tcp://127.0.0.1:1",
        "12.8.1.3", "nvidia-cublas-cu12 12.8.4.1", "nvidia-cublas-cu12==12.8.4.1", "nvidia-curand-cu12       10.3.9.90", "nvidia-curand-cu12==10.3.9.90", "[pip3] nvidia-curand-cu12==10.3.9.90",
        "libcublas.so.12.8.4.1", "cuDNN version: 9.10.2.21", "nvidia-cudnn-cu12 (9.10.2.21)", "tensorrt 10.9.0.34", "tensorrt==10.13.3.9", "requires nvidia-cufft-cu12==11.3.3.83; platform",
        "VBIOS Version : 96.00.5E.00.01", "driver 535.104.05", "torch 2.8.0+cu128", "0000:3b:00.0", "Bus 00000000:3B:00.0", "12:34:56", "at::native::add", "c10::cuda::x", "a[1::2]", "std::a::b",
        "https://huggingface.co/a/b", "https://cdn-lfs.hf.co/x", "https://github.com/a/b", "https://files.pythonhosted.org/x", "https://download.pytorch.org/whl/cu128", "https://docs.vllm.ai/en",
        "hf://datasets/a/b", "https://huggingface.co/home/pagename", "/root/.cache/huggingface", "/home/ubuntu/x", "/home/jovyan/x", "/opt/conda/lib/python3.12", "git@github.com:a/b.git", "torch@2.8.0", "actions/checkout@v4",
        "memcpy@GLIBC_2.14", "host: pinned", "node: Conv", "on node memory", "host=None", "node: 0", "Serial: disabled", "GPU-uuid1", "user1 host2 ip3", "commit 0123456789abcdef0123456789abcdef01234567",
        "vllm/vllm-openai@sha256:" + "ab" * 32, "model-00001-of-00004.safetensors", "rank0: NCCL", "worker:3:4 x", "%h:%m",
    ],
)  # fmt: skip
def test_what_names_nobody_stays(row: str) -> None:
    """Loopback, versions of four numbers, public hosts, C++ names, default users."""
    assert of(row) == (row,)


def test_the_same_name_is_the_same_alias() -> None:
    """Who belongs to whom can still be seen: the rank's host, its address, the short and the full name of a host."""
    rows = (
        "node7:1:1 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.0.7<0>",
        "node8:1:1 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.0.8<0>",
        "connect to node8.dc.corp 10.0.0.8:41 failed, retry node7",
        "hostname=node8.dc.corp",
    )
    assert of(*rows) == (
        "host1:1:1 [0] NCCL INFO NET/Socket : Using [0]eth0:ip1<0>",
        "host2:1:1 [0] NCCL INFO NET/Socket : Using [0]eth0:ip2<0>",
        "connect to host2 ip2:41 failed, retry host1",
        "hostname=host2",
    )


def test_a_user_called_like_a_package() -> None:
    """Its name is masked in its paths, and the package stays."""
    row = 'File "/home/vllm/.venv/lib/python3.12/site-packages/vllm/worker.py", line 3'
    assert of(row) == (row.replace("/home/vllm/", "/home/user1/"),)


@pytest.mark.parametrize("name", ["ids", "ed", "models", "cache", "Desktop"])
def test_short_and_common_names(name: str) -> None:
    """A user called like a word of logs is masked in paths, and the words stay: `input_ids` is no user."""
    row = f"input_{name} of {name}: /home/{name}/x"
    assert of(row) == (f"input_{name} of {name}: /home/user1/x",)


def test_the_parts_of_a_case() -> None:
    """Facts, the host of an event, frames, what was not checked, and names known beforehand."""
    event = Event(
        "/home/alice/crash.log", 1, 1, (Line(1, "x alice", "x alice"),),
        (Raised(1, "ValueError", "no /home/alice/m", (Frame("/home/alice/r.py", 3, "f", "user", "r.py:f"),)),), host="node7", near="node7 said",
    )  # fmt: skip
    facts = (
        Fact("host.name", "node9", "uname"),
        Fact("env.USER", "alice", "environment"),
        Fact("env.HF_HOME", "/home/alice/.cache", "environment"),
        Fact("gpu.0.serial", "1652222014738", "NVML"),
        Fact("gpu.0.uuid", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "NVML"),
        Fact("nvidia-curand-cu12.version", "10.3.9.90", "/home/alice/v/METADATA"),
        Fact("cuda.libcurand", "10.3.9.90", "x"),
        Fact("env.MASTER_ADDR", "10.3.9.91", "environment"),
    )
    made = Case(facts, (event,), (Unchecked("/home/alice", "not on myhost.corp"),), ("/home/alice/crash.log",))
    masked = case(made, Identity(host_names=("myhost",)))
    shown = repr(masked)
    assert [
        word
        for word in ("alice", "node7", "node9", "myhost", "1652222014738", "8932f937", "10.3.9.91")
        if word in shown
    ] == []
    assert [fact.value for fact in masked.facts if fact.value == "10.3.9.90"] == ["10.3.9.90"] * 2
    assert (masked.events[0].host, masked.events[0].near) == ("host2", "host2 said")
    assert case(masked, Identity(host_names=("myhost",))) == masked


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("users", "/home/alice/x"),
        ("hosts", "tcp://node7:29500"),
        ("addresses", "to 10.12.0.7:29500 and 52:54:00:12:34:56"),
        ("serials", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6 Serial: 1652222014738"),
    ],
)
def test_each_kind_is_a_choice(kind: str, kept: str) -> None:
    """What was not asked for stays; the others are masked."""
    every = {"users": True, "hosts": True, "addresses": True, "serials": True}
    assert of(kept, identity=Identity(**{**every, kind: False})) == (kept,)
    assert of(kept, identity=Identity()) != (kept,)


def test_without_identity_only_secrets_are_masked() -> None:
    """A case that is not to be sent keeps who and where."""
    event = Event("x", 1, 1, (Line(1, "/home/alice node7", "/home/alice node7"),), host="node7")
    assert case(Case(events=(event,))).events == (event,)


def test_this_machine_is_known() -> None:
    """The names of this machine and its user are taken, as far as they can be found."""
    identity = of_this_machine(serials=False)
    assert (identity.users, identity.serials) == (True, False)
    assert all(isinstance(name, str) and name for name in (*identity.user_names, *identity.host_names))


def test_rules_know_a_masked_case() -> None:
    """Each bundled rule still finds its own example logs when secrets, users, hosts and addresses are masked in them."""
    rules = ruleset.load()
    lost = []
    for path in sorted((ROOT / "rules").rglob("*.yaml")):
        told = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        for example in told["examples"]["positive"]:
            text = example if isinstance(example, str) else example.get("log", "")
            read = case_of_text(rules, text) if text else Case()
            if told["id"] in {finding.rule.id for finding in match(rules, read)}:
                after = {finding.rule.id for finding in match(rules, case(read, Identity()))}
                lost += [told["id"]] if told["id"] not in after else []
    assert lost == []


parts = st.sampled_from(
    ["/home/", "alice", "user1", "host1", "ip2", "node7", ":1:1 [0] NCCL INFO", "10.0.0.7", ":80", "http://", "@", ".corp", " ", "\n", "GPU-8932f937", "Serial: ", "12345678", "::", "fe80", "vllm", "C:\\Users\\", "hostname="]
)  # fmt: skip


@given(rows=st.lists(st.one_of(st.lists(parts, max_size=8).map("".join), st.text(max_size=40)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=400)
def test_masking_again_changes_no_alias(rows: list[str]) -> None:
    """A masked case that is masked again keeps its aliases, and lines stay lines."""
    rows = [row.replace("\n", " ") for row in rows]
    once = of(*rows)
    assert len(once) == len(rows)
    assert of(*once) == once


@pytest.mark.parametrize(
    "unit",
    [
        "/home/a",
        "/home/",
        "1.",
        "10.0.0.",
        "a:",
        "::",
        "a@",
        "a.b@c.",
        "http://a",
        "GPU-",
        "Serial",
        "host=",
        "on host a",
        "a-",
        "A1:",
        "\\Users\\",
        "/home/x1 /home/x2 ",
    ],
)
def test_much_of_the_same(unit: str) -> None:
    """Time in proportion to the text, whatever it repeats."""
    assert of(unit * (QUARTER // len(unit)))


def test_thousands_of_names() -> None:
    """As many users and hosts as a text can hold are told apart up to a limit; the text is read to its end."""
    rows = [
        f"/home/user-{number}x/a node{number}:1:1 [0] NCCL INFO from 10.{number // 256 % 256}.{number % 256}.1:80"
        for number in range(9000)
    ]
    masked = of(*rows)
    assert (len(masked), "user-5x" in masked[5], "10.0.5.1" in masked[5]) == (9000, False, False)
