"""The port and address that an engine in a container listens on, against what the container publishes and what probes ask."""

from __future__ import annotations

import re
from collections.abc import Mapping

from diagnose.derive.known import Known, Told

PORTS: Mapping[str, int] = {"vllm": 8000, "sglang": 30000, "llama.cpp": 8080, "tgi": 3000, "ollama": 11434}
"""The port that each engine listens on unless told otherwise; TGI's image says 80."""


def complete(known: Known) -> Told:
    """The engine's port against what the container publishes and what probes ask."""
    engine = known.engine
    port = _port(known)
    if not known.contained or port is None:
        return
    yield "fit.port", port
    inside = [known.whole(name) for name in known.names() if re.fullmatch(r"deploy\.port\.\d+\.inside", name)]
    bridged = known.text("deploy.network") == "bridge"
    if known.text("deploy.kind") == "docker" and bridged and known.text("launch.program"):
        yield "fit.no_port_published", not inside and not known.yes("deploy.ports_all")
    if not known.elsewhere and bridged and inside:
        yield "fit.port_published", port in inside
    probe = known.whole("deploy.probe_port")
    if probe:
        yield "fit.probe_port_differs", probe != port
    target = known.whole("deploy.service_target")
    if target:
        yield "fit.service_target_differs", target != port
    host = known.text("launch.host") or ("127.0.0.1" if engine == "sglang" else "")
    reached = known.elsewhere or (bridged and bool(inside))
    if host and reached and not known.unsure("host"):
        yield "fit.listens_inside_only", host in ("127.0.0.1", "localhost", "::1")


_PORT_VARIABLES = {"tgi": "PORT", "ollama": "OLLAMA_HOST", "llama.cpp": "LLAMA_ARG_PORT"}
"""Variables that set the port of an engine."""


def _port(known: Known) -> int | None:
    """The port that the engine listens on inside; None where the command or its variables leave it open."""
    engine = known.engine
    if engine not in PORTS or not known.text("launch.program") or known.unsure("port"):
        return None
    asked = known.whole("launch.arg.port")
    if asked:
        return asked
    variable = _PORT_VARIABLES.get(engine, "")
    if {f"launch.env.{variable}", f"deploy.env_elsewhere.{variable}"} & set(known.names()):
        return known.whole(f"launch.env.{variable}")
    if engine == "tgi" and known.text("deploy.image_engine") == "tgi":
        return 80
    return known.whole("launch.port") or PORTS[engine]
