"""The process that is left behind where others than the command still write to its streams: it hands on what they say."""

from __future__ import annotations

import os
import select
import signal

from diagnose.run.start import Route

CHUNK = 1 << 16


def relay_on(routes: list[Route]) -> None:
    """Leave a process behind that hands on what others than the command still write, until they are done."""
    if not routes or os.fork():
        return
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        targets = {route.source: route.target for route in routes}
        keep = {0, 1, 2, *targets}
        for handle in range(3, 4096):
            if handle not in keep:
                try:
                    os.close(handle)
                except OSError:
                    pass
        used = set(targets.values())
        for handle in {0, 1, 2} - used:
            os.dup2(os.open(os.devnull, os.O_RDWR), handle)
        while targets:
            for handle in select.select(list(targets), [], [])[0]:
                if not _relay(handle, targets[handle]):
                    del targets[handle]
                    os.close(handle)
    finally:
        os._exit(0)


def _relay(source: int, target: int) -> bool:
    """Hand on what is there; whether more can come."""
    try:
        data = os.read(source, CHUNK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(target, left) :]
    except OSError:
        return False
    return bool(data)
