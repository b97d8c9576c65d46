"""The witness for GPUs: how much of each is in use, asked of the driver now and then, in a process that may hang with it."""

from __future__ import annotations

import os
import select
import time
from typing import Any

from diagnose.run.messages import Gpus, Look, Tell
from diagnose.sources.nvml import Driver, Gpu

FIRST, SLOWEST = 1.0, 5.0
MOST_GPUS = 64
SIGNS = ("/dev/nvidiactl", "/dev/dxg")
"""Device files without which there is no GPU of NVIDIA to ask for."""


def are_there() -> bool:
    """Whether the driver is worth asking."""
    return any(os.path.exists(path) for path in SIGNS)


def look(started: float) -> Look:
    """What the witness does. `started` is when the command was, by the monotonic clock."""

    def ask(asked: int, tell: Tell) -> None:
        driver = Driver()
        for _ in driver.start():
            pass
        count = driver.ask("the number of GPUs", None, "nvmlDeviceGetCount") if driver.works else 0
        gpus = [_gpu(driver, index) for index in range(min(count or 0, MOST_GPUS))]
        if not gpus:
            return
        pause = FIRST
        while True:
            ended = bool(select.select([asked], [], [], 0)[0])
            tell(_sample(driver, gpus, round(time.monotonic() - started, 3)))
            if ended:
                return
            select.select([asked], [], [], pause)
            pause = min(pause * 1.25, SLOWEST)

    return ask


def _gpu(driver: Driver, index: int) -> Gpu:
    return Gpu(index, driver.ask("a GPU", None, "nvmlDeviceGetHandleByIndex", index))


def _sample(driver: Driver, gpus: list[Gpu], at: float) -> Gpus:
    found = Gpus(at, {}, {})
    for gpu in gpus:
        if gpu.handle is None or gpu.gone:
            continue
        memory: Any = driver.ask("memory", gpu, "nvmlDeviceGetMemoryInfo", gpu.handle)
        name = str(gpu.index)
        if memory is not None:
            found.used[name], found.total[name] = int(memory.used), int(memory.total)
    return found
