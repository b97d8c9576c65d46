"""What is known of a machine, as its sources would tell it."""

from __future__ import annotations

GiB = 1024**3
Value = str | int | float | bool


def gpus(name: str, capability: str, gibibytes: float, count: int = 1, **more: Value) -> dict[str, Value]:
    """A machine with NVIDIA's GPUs of one kind, all free."""
    memory = int(gibibytes * GiB)
    facts: dict[str, Value] = {
        "gpu.vendor": "nvidia", "gpu.count": count, "driver.version": "580.95.05", "driver.cuda": "13.0",
        "os.name": "Linux", "os.machine": "x86_64", "host.memory": 256 * GiB,
    }  # fmt: skip
    for index in range(count):
        facts |= {
            f"gpu.{index}.name": name,
            f"gpu.{index}.compute_capability": capability,
            f"gpu.{index}.memory": memory,
        }
        facts |= {f"gpu.{index}.memory_free": memory - GiB // 2}
    return facts | more


H100 = gpus("NVIDIA H100 80GB HBM3", "9.0", 79.6)
H100_X8 = gpus("NVIDIA H100 80GB HBM3", "9.0", 79.6, 8)
A100_X4 = gpus("NVIDIA A100-SXM4-80GB", "8.0", 80, 4)
RTX4090 = gpus("NVIDIA GeForce RTX 4090", "8.9", 23.99)
RTX4090_X2 = gpus("NVIDIA GeForce RTX 4090", "8.9", 23.99, 2)
T4 = gpus("Tesla T4", "7.5", 15.0)
NONE: dict[str, Value] = {"gpu.vendor": "none", "gpu.count": 0, "os.name": "Linux", "os.machine": "x86_64"}
