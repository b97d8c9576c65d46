"""Interfaces, InfiniBand, host name, ports, proxy and the hub's settings → facts; nothing is asked of the network.

Names are looked up in /etc/hosts only: a question to a name server would leave the machine.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from msgspec import Struct

from diagnose.model import Fact, Reading, Step, Unchecked
from diagnose.sources import proc, storage
from diagnose.sources.settings import number, truth

Addresses = Callable[[], Mapping[str, Sequence[str]]]

SERVING_PORTS = (8000, 30000, 8080, 11434, 29500)
MOST_NAMES = 32
"""How many interfaces NCCL reads from a list (16), and more than any list that a person writes."""


class Interface(Struct, frozen=True):
    """A network interface: loopback, ethernet, infiniband, bridge or virtual; whether it is up, and its addresses."""

    name: str
    kind: str
    up: bool
    addresses: tuple[str, ...] = ()


class Port(Struct, frozen=True):
    """One port of an InfiniBand or RoCE device, as /sys/class/infiniband tells it."""

    device: str
    number: str
    state: str
    link: str
    rate: float | None


def read(environ: Mapping[str, str], root: str = "/", addresses: Addresses | None = None) -> Iterator[Reading]:
    """The facts of the network. `addresses` gives the addresses of each interface (by default psutil's)."""
    yield Step("listing the network interfaces")
    known = interfaces(root, addresses or _addresses)
    yield from _interfaces(known)
    devices = infiniband(root)
    yield from _infiniband(devices, root)
    yield from _named_interfaces(environ, known, devices)
    yield from _host_name(environ, root, known)
    yield from _meeting_point(environ, root, known)
    yield Step("looking which ports are in use")
    yield from _ports(environ, root)
    yield from _proxy(environ)
    yield Step("looking for the hub's token file")
    yield from _hub(environ, root)


def _addresses() -> Mapping[str, Sequence[str]]:
    import socket

    import psutil

    internet = (socket.AF_INET, socket.AF_INET6)
    return {
        name: [item.address for item in items if item.family in internet]
        for name, items in psutil.net_if_addrs().items()
    }


def interfaces(root: str, addresses: Addresses) -> list[Interface]:
    """The interfaces that /sys/class/net lists, or those that have an address where there is no /sys."""
    try:
        known = addresses()
    except OSError:
        known = {}
    listed = proc.names(root, "/sys/class/net") or sorted(known)
    found = []
    for name in listed:
        folder = f"/sys/class/net/{name}"
        if name == "bonding_masters":
            continue
        flags = proc.word(root, f"{folder}/flags")
        up = bool(int(flags, 16) & 1) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", flags) else name in known
        own = tuple(address.partition("%")[0] for address in known.get(name, ()))
        found.append(Interface(name, _kind(root, folder, name), up, own))
    return found


def _kind(root: str, folder: str, name: str) -> str:
    kind = proc.word(root, f"{folder}/type")
    if kind == "772" or name == "lo":
        return "loopback"
    if kind == "32":
        return "infiniband"
    if os.path.isdir(proc.at(root, f"{folder}/bridge")) or name.startswith(("docker", "virbr", "cni", "br-")):
        return "bridge"
    if os.path.exists(proc.at(root, f"{folder}/device")) or os.path.isdir(proc.at(root, f"{folder}/bonding")):
        return "ethernet"
    return "virtual" if kind else "ethernet"


def _interfaces(known: Sequence[Interface]) -> Iterator[Reading]:
    origin = "/sys/class/net"
    usable = [item.name for item in known if item.up and item.addresses and item.kind != "loopback"]
    yield Fact("network.interfaces", ", ".join(item.name for item in known)[:400], origin)
    yield Fact("network.usable", ", ".join(usable)[:400] or "none", origin)
    yield Fact("network.usable_count", len(usable), origin)


def matches_nccl(setting: str, name: str, port: int = -1) -> bool:
    """Whether NCCL takes an interface or device by a list such as `eth,ib0`, `=eth0`, `^docker`, `=mlx5_0:1`.

    A name in the list is a prefix; `=` in front of the list makes names exact, `^` turns the choice round. A port after
    `:` must be equal where both sides have one.
    """
    turned = setting.startswith("^")
    setting = setting[1:] if turned else setting
    exact = setting.startswith("=")
    setting = setting[1:] if exact else setting
    wanted = [item for item in setting.split(",") if item][:MOST_NAMES]
    if not wanted:
        return not turned
    found = False
    for item in wanted:
        prefix, _, told = item.partition(":")
        same_port = port == -1 or not number(told) or number(told) == port
        found = found or (same_port and (name == prefix if exact else name.startswith(prefix)))
    return found != turned


def _named_interfaces(
    environ: Mapping[str, str], known: Sequence[Interface], devices: Sequence[Port]
) -> Iterator[Reading]:
    """What the variables for NCCL, gloo and UCX name, against what is there."""
    addressed = [item.name for item in known if item.addresses]
    wanted = environ.get("NCCL_SOCKET_IFNAME", "")
    if wanted:
        found = [name for name in addressed if matches_nccl(wanted, name)]
        yield Fact("network.nccl_interfaces", ", ".join(found)[:200] or "none", "NCCL_SOCKET_IFNAME")
        only_loopback = bool(found) and all(item.kind == "loopback" for item in known if item.name in found)
        yield Fact("network.nccl_only_loopback", only_loopback, "NCCL_SOCKET_IFNAME")
    wanted = environ.get("GLOO_SOCKET_IFNAME", "")
    if wanted:
        missing = [name for name in wanted.split(",") if name and name not in addressed]
        yield Fact("network.gloo_missing", ", ".join(missing)[:200] or "none", "GLOO_SOCKET_IFNAME")
    wanted = environ.get("NCCL_IB_HCA", "")
    if wanted:
        chosen = [item for item in devices if matches_nccl(wanted, item.device, number(item.number) or -1)]
        yield Fact("network.nccl_devices", ", ".join(item.device for item in chosen)[:200] or "none", "NCCL_IB_HCA")
    wanted = environ.get("UCX_NET_DEVICES", "")
    if wanted and not wanted.startswith("^") and not re.search(r"[*?]", wanted):
        there = {item.name for item in known} | {f"{item.device}:{item.number}" for item in devices} | {"all"}
        missing = [name for name in wanted.split(",") if name and name not in there]
        yield Fact("network.ucx_missing", ", ".join(missing)[:200] or "none", "UCX_NET_DEVICES")


def infiniband(root: str) -> list[Port]:
    """The ports of all InfiniBand and RoCE devices."""
    found = []
    for device in proc.names(root, "/sys/class/infiniband"):
        for port in proc.names(root, f"/sys/class/infiniband/{device}/ports"):
            folder = f"/sys/class/infiniband/{device}/ports/{port}"
            state = proc.word(root, f"{folder}/state").partition(":")[2].strip()
            rate = re.match(r"(\d{1,6}(?:\.\d+)?) Gb/sec", proc.word(root, f"{folder}/rate"))
            link = proc.word(root, f"{folder}/link_layer")
            found.append(Port(device, port, state, link, float(rate[1]) if rate else None))
    return found


def _infiniband(ports: Sequence[Port], root: str) -> Iterator[Reading]:
    origin = "/sys/class/infiniband"
    yield Fact("infiniband.ports", len(ports), origin)
    yield Fact("infiniband.active", sum(port.state == "ACTIVE" for port in ports), origin)
    if not ports:
        return
    for port in ports:
        label = f"infiniband.{re.sub(r'[^A-Za-z0-9_]', '_', port.device)}-{port.number}"
        yield Fact(f"{label}.state", port.state or "unknown", origin)
        yield Fact(f"{label}.link_layer", port.link or "unknown", origin)
        if port.rate is not None:
            yield Fact(f"{label}.rate", port.rate, origin)
    modules = proc.text(root, "/proc/modules")
    if modules is not None:
        loaded = re.search(r"^(?:nvidia_peermem|nv_peer_mem) ", modules, re.MULTILINE) is not None
        yield Fact("infiniband.peermem", loaded, "/proc/modules")


def hosts(root: str) -> dict[str, list[str]]:
    """Name → addresses, as /etc/hosts has them; names in lower case."""
    found: dict[str, list[str]] = {}
    for line in (proc.text(root, "/etc/hosts") or "").splitlines():
        address, *names = line.partition("#")[0].split()[:64] or [""]
        for name in names:
            found.setdefault(name.lower(), []).append(address)
    return found


def kind_of(addresses: Iterable[str], known: Sequence[Interface]) -> str:
    """loopback, own (an interface here has it), other, or none. IPv4 goes first, as most programs take it."""
    own = {address for item in known for address in item.addresses}
    parsed = []
    for address in addresses:
        try:
            parsed.append(ipaddress.ip_address(address.partition("%")[0]))
        except ValueError:
            continue
    parsed.sort(key=lambda address: address.version)
    if not parsed:
        return "none"
    if parsed[0].is_loopback:
        return "loopback"
    return "own" if any(str(address) in own for address in parsed) else "other"


def _services(root: str) -> list[str]:
    """Who is asked for host names, in order: files, dns, myhostname …; empty if it is not told."""
    line = re.search(r"^hosts:(.*)$", proc.text(root, "/etc/nsswitch.conf") or "", re.MULTILINE)
    return re.sub(r"\[[^\]]*\]", " ", line[1]).split() if line else []


def _host_name(environ: Mapping[str, str], root: str, known: Sequence[Interface]) -> Iterator[Reading]:
    """What this machine's own name leads to; gloo binds to that address unless it is told an interface."""
    kind, origin = _own_address(root, known)
    if kind:
        yield Fact("network.host_resolves", kind != "none", origin)
        yield Fact("network.host_address", kind, origin)
    if environ.get("GLOO_SOCKET_IFNAME"):
        yield Fact("network.gloo_binds", "named", "GLOO_SOCKET_IFNAME")
    elif kind:
        yield Fact("network.gloo_binds", kind, origin)


def _own_address(root: str, known: Sequence[Interface]) -> tuple[str, str]:
    """Kind of address of this machine's own name, and who says so; empty if only a name server could tell."""
    name = proc.word(root, "/proc/sys/kernel/hostname")
    listed = hosts(root).get(name.lower(), [])
    services = _services(root)
    if name and listed:
        return kind_of(listed, known), "/etc/hosts"
    if name and "myhostname" in services:
        return "own", "/etc/nsswitch.conf"
    return ("none", "/etc/hosts") if name and services == ["files"] else ("", "")


def _meeting_point(environ: Mapping[str, str], root: str, known: Sequence[Interface]) -> Iterator[Reading]:
    name = environ.get("MASTER_ADDR", "").strip()
    if not name:
        return
    bare = name.strip("[]")
    try:
        listed = [str(ipaddress.ip_address(bare))]
    except ValueError:
        listed = ["127.0.0.1"] if bare == "localhost" else hosts(root).get(bare.lower(), [])
    if listed:
        yield Fact("network.master_address", kind_of(listed, known), "MASTER_ADDR")
    else:
        yield Unchecked("MASTER_ADDR", "it is not in /etc/hosts, and no name server is asked; try: getent hosts NAME")


def listening(root: str) -> dict[int, str]:
    """Port → inode of the socket that listens there (TCP, version 4 and 6)."""
    found: dict[int, str] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (proc.text(root, table, 8 << 20) or "").splitlines()[1:]:
            parts = line.split()
            if len(parts) > 9 and parts[3] == "0A":
                port = parts[1].rpartition(":")[2]
                if re.fullmatch(r"[0-9A-F]{4}", port):
                    found.setdefault(int(port, 16), parts[9])
    return found


def _ports(environ: Mapping[str, str], root: str) -> Iterator[Reading]:
    if proc.text(root, "/proc/net/tcp", 64) is None:
        return
    taken = listening(root)
    master = number(environ.get("MASTER_PORT", ""))
    wanted = {inode for port, inode in taken.items() if port in SERVING_PORTS or port == master}
    owners = _owners(root, wanted)
    for port in SERVING_PORTS:
        yield Fact(f"port.{port}.listening", port in taken, "/proc/net/tcp")
        if taken.get(port, "") in owners:
            yield Fact(f"port.{port}.owner", owners[taken[port]], "/proc")
    if master:
        yield Fact("network.master_port_taken", master in taken, "/proc/net/tcp")
        if taken.get(master, "") in owners:
            yield Fact("network.master_port_owner", owners[taken[master]], "/proc")


def _owners(root: str, inodes: set[str], most: int = 20000) -> dict[str, str]:
    """Inode of a socket → `name (pid)` of the process that holds it, of those that may be looked at."""
    found: dict[str, str] = {}
    for pid in proc.names(root, "/proc", most) if inodes else ():
        if not pid.isdigit() or len(found) == len(inodes):
            continue
        folder = proc.at(root, f"/proc/{pid}/fd")
        try:
            handles = os.listdir(folder)
        except OSError:
            continue
        for handle in handles:
            try:
                target = os.readlink(f"{folder}/{handle}")
            except OSError:
                continue
            inode = target[8:-1] if target.startswith("socket:[") else ""
            if inode in inodes:
                found.setdefault(inode, f"{proc.word(root, f'/proc/{pid}/comm') or 'a process'} ({pid})")
    return found


def spares(no_proxy: str, host: str) -> bool:
    """Whether a no_proxy list exempts a host: `*`, its name, a parent domain, or a network that holds its address."""
    for item in re.split(r"[,\s]+", no_proxy.strip().lower()):
        bare = item.lstrip(".").partition(":")[0] if item.count(":") < 2 else item
        if item and (item == "*" or bare == host or (bare and host.endswith(f".{bare}")) or _in_network(host, item)):
            return True
    return False


def _in_network(host: str, item: str) -> bool:
    try:
        return "/" in item and ipaddress.ip_address(host) in ipaddress.ip_network(item, strict=False)
    except ValueError:
        return False


def _proxy(environ: Mapping[str, str]) -> Iterator[Reading]:
    """Requests to http://localhost take the proxy of `http` or `all`; that of `https` is not asked for them."""
    plain = [name for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY") if environ.get(name)]
    secure = [name for name in ("https_proxy", "HTTPS_PROXY") if environ.get(name)]
    yield Fact("network.proxy", bool(plain or secure), (plain + secure or ["environment"])[0])
    if plain:
        exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        spared = spares(exempt, "localhost") and spares(exempt, "127.0.0.1")
        yield Fact("network.proxy_takes_localhost", not spared, plain[0])


def _hub(environ: Mapping[str, str], root: str) -> Iterator[Reading]:
    offline = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or ""
    yield Fact("hub.offline", truth(offline), "HF_HUB_OFFLINE" if environ.get("HF_HUB_OFFLINE") else "environment")
    yield Fact("hub.hf_transfer", truth(environ.get("HF_HUB_ENABLE_HF_TRANSFER", "")), "environment")
    endpoint = environ.get("HF_ENDPOINT", "")
    if endpoint:
        yield Fact("hub.endpoint_valid", valid_endpoint(endpoint), "HF_ENDPOINT")
    if environ.get("HF_TOKEN") or environ.get("HUGGING_FACE_HUB_TOKEN"):
        yield Fact("hub.token", "environment", "environment")
        return
    home, _ = storage.hub_home(environ)
    path = environ.get("HF_TOKEN_PATH") or (os.path.join(home, "token") if home else "")
    if path:
        try:
            there = os.stat(proc.at(root, path)).st_size > 0
        except (OSError, ValueError):
            there = False
        yield Fact("hub.token", "file" if there else "none", path)


def valid_endpoint(text: str) -> bool:
    """Whether a text is the address of a hub: http or https, a host, no blank, no question or fragment."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"[\s?#'\"]", text)
    except ValueError:
        return False
