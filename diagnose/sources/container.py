"""What kind of container this process runs in, from the signs that each kind leaves."""

from __future__ import annotations

import re
from collections.abc import Mapping

from diagnose.sources.tree import Tree

_GROUP = re.compile(r"[/_-](kubepods|docker|libpod|lxc|containerd)(?!\.service)")  # docker.service is the daemon itself
_KINDS = {"kubepods": "kubernetes", "libpod": "podman"}
_FIRST = ("kubepods", "docker", "libpod", "lxc", "containerd")


def kind(tree: Tree, environ: Mapping[str, str]) -> str:
    """docker, podman, kubernetes, apptainer, lxc, containerd, a name that the container tells of itself, or none."""
    if environ.get("APPTAINER_CONTAINER") or environ.get("SINGULARITY_CONTAINER") or tree.exists("/.singularity.d"):
        return "apptainer"
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if tree.exists("/run/.containerenv"):
        return "podman"
    if tree.exists("/.dockerenv"):
        return "docker"
    groups = "\n".join(tree.text(f"/proc/{process}/cgroup", 1 << 14) or "" for process in ("self", "1"))
    signs = set(_GROUP.findall(groups))
    for sign in _FIRST:
        if sign in signs:
            return _KINDS.get(sign, sign)
    return (_told(tree) or environ.get("container", "") or "none")[:40]


def _told(tree: Tree) -> str:
    """What systemd noted of the container, or its first process was told."""
    noted = tree.text("/run/systemd/container", 4096)
    first = (tree.bytes("/proc/1/environ", 1 << 14) or b"").split(b"\0")
    said = next((item[10:].decode("utf-8", "replace") for item in first if item.startswith(b"container=")), "")
    return noted or said
