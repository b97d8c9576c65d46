"""Interfaces, names, ports, proxy and the hub's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources import network
from tests.sources.trees import facts, tree, unchecked

ADDRESSES = {"lo": ["127.0.0.1", "::1"], "eth0": ["10.0.0.7"], "enp3s0f0": ["192.168.1.9"], "ib0": ["10.9.0.7"]}

NET = {
    "/sys/class/net/lo/type": "772",
    "/sys/class/net/lo/flags": "0x9",
    "/sys/class/net/eth0/type": "1",
    "/sys/class/net/eth0/flags": "0x1003",
    "/sys/class/net/eth0/device/vendor": "0x8086",
    "/sys/class/net/enp3s0f0/type": "1",
    "/sys/class/net/enp3s0f0/flags": "0x1002",
    "/sys/class/net/enp3s0f0/device/vendor": "0x8086",
    "/sys/class/net/ib0/type": "32",
    "/sys/class/net/ib0/flags": "0x1003",
    "/sys/class/net/docker0/type": "1",
    "/sys/class/net/docker0/flags": "0x1003",
    "/sys/class/net/docker0/bridge/x": "",
    "/sys/class/net/bonding_masters": "bond0",
}


def addresses() -> Mapping[str, Sequence[str]]:
    return ADDRESSES


def told(tmp_path: Path, files: Mapping[str, str], **environ: str) -> dict[str, str | int | float | bool]:
    """The facts of a made-up machine's network."""
    return facts(network.read(environ, tree(tmp_path, NET | dict(files)), addresses))


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("eth0", "eth0"),
        ("eth", "eth0"),
        ("=eth", "none"),
        ("=eth0", "eth0"),
        ("en,eth", "enp3s0f0, eth0"),
        ("^docker,lo", "enp3s0f0, eth0, ib0"),
        ("^=eth", "enp3s0f0, eth0, ib0, lo"),
        ("ens5", "none"),
        ("docker", "none"),  # it is there, but has no address
        ("lo", "lo"),
    ],
)
def test_nccl_socket_ifname(tmp_path: Path, setting: str, found: str) -> None:
    """Names are prefixes, `=` makes them exact, `^` turns the choice round; only what has an address counts."""
    assert told(tmp_path, {}, NCCL_SOCKET_IFNAME=setting)["network.nccl_interfaces"] == found


def test_loopback_alone_is_told(tmp_path: Path) -> None:
    """A choice of nothing but loopback reaches no other machine."""
    assert told(tmp_path, {}, NCCL_SOCKET_IFNAME="lo")["network.nccl_only_loopback"] is True
    assert told(tmp_path, {}, NCCL_SOCKET_IFNAME="eth,lo")["network.nccl_only_loopback"] is False


@given(st.text(alphabet="^=,:abeth01", max_size=12), st.sampled_from(["eth0", "lo", "ib0", "bond0"]))
def test_turning_a_choice_round_takes_exactly_the_others(setting: str, name: str) -> None:
    """Of two settings that differ in `^` alone, exactly one takes an interface."""
    bare = setting.lstrip("^")
    assert network.matches_nccl(bare, name) != network.matches_nccl(f"^{bare}", name)


@given(st.from_regex(r"[a-z][a-z0-9]{1,9}", fullmatch=True), st.integers(min_value=1, max_value=4))
def test_a_name_takes_itself(name: str, port: int) -> None:
    """An interface is taken by its own name, exactly or as a prefix; a device by its port, or by none."""
    assert network.matches_nccl(name, name)
    assert network.matches_nccl(f"={name}", name)
    assert network.matches_nccl(f"{name}:{port}", name, port)
    assert not network.matches_nccl(f"{name}:{port}", name, port + 1)
    assert not network.matches_nccl(f"={name}x", name)


@pytest.mark.parametrize(
    ("setting", "missing"),
    [("eth0", "none"), ("eth", "eth"), ("eth0,ib0", "none"), ("eth0,ens5", "ens5"), ("docker0", "docker0")],
)
def test_gloo_socket_ifname(tmp_path: Path, setting: str, missing: str) -> None:
    """gloo takes names as they stand."""
    assert told(tmp_path, {}, GLOO_SOCKET_IFNAME=setting)["network.gloo_missing"] == missing


IB = {
    "/sys/class/infiniband/mlx5_0/ports/1/state": "4: ACTIVE",
    "/sys/class/infiniband/mlx5_0/ports/1/rate": "400 Gb/sec (4X NDR)",
    "/sys/class/infiniband/mlx5_0/ports/1/link_layer": "InfiniBand",
    "/sys/class/infiniband/mlx5_1/ports/1/state": "2: INIT",
    "/sys/class/infiniband/mlx5_1/ports/1/rate": "what",
    "/sys/class/infiniband/mlx5_1/ports/1/link_layer": "InfiniBand",
    "/proc/modules": "nvidia_peermem 16384 0 - Live 0x0\nib_core 1 2 - Live 0x0\n",
}


def test_infiniband_ports(tmp_path: Path) -> None:
    """State, rate and link layer of each port, and the module that GPUs need."""
    found = told(tmp_path, IB, NCCL_IB_HCA="=mlx5_0:1")
    assert found["infiniband.ports"] == 2
    assert found["infiniband.active"] == 1
    assert found["infiniband.mlx5_0-1.rate"] == 400.0
    assert found["infiniband.mlx5_1-1.state"] == "INIT"
    assert "infiniband.mlx5_1-1.rate" not in found
    assert found["infiniband.peermem"] is True
    assert found["network.nccl_devices"] == "mlx5_0"


@pytest.mark.parametrize(("setting", "devices"), [("mlx5", "mlx5_0, mlx5_1"), ("^mlx5_0", "mlx5_1"), ("mlx4", "none")])
def test_nccl_ib_hca(tmp_path: Path, setting: str, devices: str) -> None:
    """Devices are chosen like interfaces."""
    assert told(tmp_path, IB, NCCL_IB_HCA=setting)["network.nccl_devices"] == devices


@pytest.mark.parametrize(("setting", "missing"), [("mlx5_0:1,eth0", "none"), ("mlx5_7:1", "mlx5_7:1"), ("all", "none")])
def test_ucx_net_devices(tmp_path: Path, setting: str, missing: str) -> None:
    """UCX takes devices with their port, and interfaces, by their full name."""
    assert told(tmp_path, IB, UCX_NET_DEVICES=setting)["network.ucx_missing"] == missing


def test_interfaces_that_can_be_used(tmp_path: Path) -> None:
    """Up, with an address, and not loopback."""
    found = told(tmp_path, {})
    assert found["network.usable"] == "eth0, ib0"
    assert found["network.usable_count"] == 2
    assert "bonding_masters" not in str(found["network.interfaces"])


@pytest.mark.parametrize(
    ("hosts", "services", "kind"),
    [
        ("127.0.1.1 node7.example node7\n", "files dns", "loopback"),
        ("10.0.0.7 node7\n127.0.0.1 localhost\n", "files dns", "own"),
        ("::1 node7\n10.0.0.7 NODE7 # the true one\n", "files dns", "own"),
        ("10.3.3.3 node7\n", "files dns", "other"),
        ("127.0.0.1 localhost\n", "files", "none"),
        ("127.0.0.1 localhost\n", "files myhostname", "own"),
        ("127.0.0.1 localhost\n", "files dns", None),
        ("garbage\n\n#\n", "mdns4_minimal [NOTFOUND=return] dns", None),
    ],
)
def test_what_the_own_name_leads_to(tmp_path: Path, hosts: str, services: str, kind: str | None) -> None:
    """/etc/hosts tells; a name server is never asked, so what only it knows is unknown."""
    files = {
        "/proc/sys/kernel/hostname": "node7\n",
        "/etc/hosts": hosts,
        "/etc/nsswitch.conf": f"passwd: files\nhosts:   {services}\n",
    }
    found = told(tmp_path, files)
    assert found.get("network.host_address") == kind
    assert found.get("network.host_resolves") == (None if kind is None else kind != "none")
    assert found.get("network.gloo_binds") == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("localhost", "loopback"),
        ("127.0.0.1", "loopback"),
        ("[::1]", "loopback"),
        ("10.0.0.7", "own"),
        ("10.1.1.1", "other"),
        ("head", "other"),
    ],
)
def test_the_meeting_point(tmp_path: Path, name: str, kind: str) -> None:
    """Addresses and names of /etc/hosts are known."""
    assert told(tmp_path, {"/etc/hosts": "10.0.0.1 head\n"}, MASTER_ADDR=name)["network.master_address"] == kind


def test_a_meeting_point_that_only_a_name_server_knows(tmp_path: Path) -> None:
    """It is left open, and the report says how to find out."""
    readings = list(network.read({"MASTER_ADDR": "node-0.cluster"}, tree(tmp_path, NET), addresses))
    assert "network.master_address" not in facts(readings)
    assert [item.what for item in unchecked(readings)] == ["MASTER_ADDR"]


TCP = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    "   0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0\n"
    "   1: 0100007F:733C 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 100 0 0 10 0\n"
)


def test_ports_in_use(tmp_path: Path) -> None:
    """A socket that listens holds its port; one that is connected does not."""
    root = tree(tmp_path, NET | {"/proc/net/tcp": TCP, "/proc/812/comm": "python3\n", "/proc/812/fd/": ""})
    (tmp_path / "proc/812/fd/7").symlink_to("socket:[4711]")
    found = facts(network.read({"MASTER_PORT": "8000"}, root, addresses))
    assert found["port.8000.listening"] is True
    assert found["port.8000.owner"] == "python3 (812)"
    assert found["port.29500.listening"] is False
    assert found["network.master_port_taken"] is True
    assert found["network.master_port_owner"] == "python3 (812)"


def test_without_a_table_of_sockets_nothing_is_said_of_ports(tmp_path: Path) -> None:
    """Could not look is not the same as free."""
    assert not any(name.startswith("port.") for name in told(tmp_path, {}))


@given(st.text(max_size=200))
def test_any_table_of_sockets_is_borne(text: str) -> None:
    """Lines that are no sockets are passed over."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        root = tree(Path(folder), {"/proc/net/tcp": f"header\n{text}"})
        assert all(0 <= port <= 65535 for port in network.listening(root))


@pytest.mark.parametrize(
    ("environ", "taken"),
    [
        ({}, None),
        ({"https_proxy": "http://p:3128"}, None),
        ({"http_proxy": "http://p:3128"}, True),
        ({"ALL_PROXY": "socks5://p:1080"}, True),
        ({"http_proxy": "http://p:3128", "no_proxy": "localhost,127.0.0.1"}, False),
        ({"http_proxy": "http://p:3128", "NO_PROXY": "localhost, 127.0.0.0/8"}, False),
        ({"http_proxy": "http://p:3128", "no_proxy": "localhost"}, True),
        ({"http_proxy": "http://p:3128", "no_proxy": "*"}, False),
        ({"http_proxy": "http://p:3128", "no_proxy": ".example.com"}, True),
    ],
)
def test_whether_a_proxy_takes_local_requests(tmp_path: Path, environ: dict[str, str], taken: bool | None) -> None:
    """Only with a proxy for http, and only if no_proxy leaves out localhost or 127.0.0.1."""
    assert told(tmp_path, {}, **environ).get("network.proxy_takes_localhost") is taken


def test_the_hubs_settings(tmp_path: Path) -> None:
    """Switches are read as the client reads them; of a token only where it is."""
    found = told(tmp_path, {}, HF_HUB_OFFLINE="yes", HF_ENDPOINT="hf-mirror.com", HF_TOKEN="hf_secretsecretsecret")
    assert found["hub.offline"] is True
    assert found["hub.endpoint_valid"] is False
    assert found["hub.token"] == "environment"
    assert not any("secret" in str(value) for value in found.values())


@pytest.mark.parametrize(("text", "offline"), [("1", True), ("true", True), ("0", False), ("2", False), ("", False)])
def test_offline_is_a_switch(tmp_path: Path, text: str, offline: bool) -> None:
    """What is no yes is no."""
    assert told(tmp_path, {}, TRANSFORMERS_OFFLINE=text)["hub.offline"] is offline


def test_a_token_file_is_seen_and_not_read(tmp_path: Path) -> None:
    """An empty file is no token."""
    assert told(tmp_path, {}, HOME="/root")["hub.token"] == "none"
    files = {"/root/.cache/huggingface/token": "hf_secretsecretsecret"}
    assert told(tmp_path, files, HOME="/root")["hub.token"] == "file"
    assert told(tmp_path, {"/t/token": ""}, HF_HOME="/t")["hub.token"] == "none"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("https://huggingface.co", True),
        ("http://mirror:8080/hf/", True),
        ("huggingface.co", False),
        ("https://", False),
        ("https://a b", False),
        ("http://[::1", False),
        ('"https://huggingface.co"', False),
    ],
)
def test_an_endpoint_is_a_whole_address(text: str, valid: bool) -> None:
    """Scheme and host must be there, and nothing that cannot stand in front of a path."""
    assert network.valid_endpoint(text) is valid


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_proxy_list_and_endpoint_is_borne(text: str, host: str) -> None:
    """Nothing is raised for odd values."""
    network.spares(text, host)
    network.valid_endpoint(text)
