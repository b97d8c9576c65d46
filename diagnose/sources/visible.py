"""What CUDA_VISIBLE_DEVICES (and ROCm's variables) make of the devices that are there, as the CUDA runtime reads them.

The runtime says nothing about a wrong entry: it stops reading there, and devices named later do not exist for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

LONGEST = 4096


class Device(Struct, frozen=True):
    """A device as the driver lists it: its UUID where known, and those of its MIG instances (None: not in MIG mode)."""

    uuid: str = ""
    instances: tuple[str, ...] | None = None


class Seen(Struct, frozen=True):
    """What a process would see: how many devices (None: not known), which, and what is wrong with the setting.

    `problem` is none, hides-all, missing-index, unknown-uuid, ambiguous-uuid, duplicate, not-a-number, mixed or
    several-mig; `entry` is the entry it is about.
    """

    count: int | None
    devices: tuple[int, ...] = ()
    problem: str = "none"
    entry: str = ""


def see(setting: str | None, devices: Sequence[Device]) -> Seen:
    """Read a setting against the devices. None means that the variable is not set."""
    if setting is None:
        return _unset(devices)
    entries = [entry.strip() for entry in setting[:LONGEST].split(",")]
    if entries[0].startswith("MIG-"):
        return _by_instance(entries, devices)
    if entries[0].startswith("GPU-"):
        return _by_uuid(entries, devices)
    return _by_number(entries, devices)


def _unset(devices: Sequence[Device]) -> Seen:
    if any(device.instances is not None for device in devices):
        return Seen(None)  # which of whole cards and instances the runtime takes differs between drivers
    return Seen(len(devices), tuple(range(len(devices))))


def _by_number(entries: list[str], devices: Sequence[Device]) -> Seen:
    if not "".join(entries) or entries[0] in ("-1", "NoDevFiles", "none", "void"):
        return Seen(0, problem="hides-all", entry=entries[0])
    seen: list[int] = []
    problem, wrong = "none", ""
    for entry in entries:
        number = _leading_number(entry)
        if number is None or number < 0 or number >= len(devices):
            if entry.startswith(("GPU-", "MIG-")):
                problem = "mixed"
            elif number is None:
                problem = "not-a-number"
            elif number >= len(devices):
                problem = "missing-index"
            wrong = entry
            break
        if number in seen:
            return Seen(0, problem="duplicate", entry=entry)
        seen.append(number)
    if any(device.instances is not None for device in devices):
        return Seen(None, tuple(seen), problem, wrong)
    return Seen(len(seen), tuple(seen), problem, wrong)


def _leading_number(entry: str) -> int | None:
    """The number that an entry begins with: the runtime reads `1gpu` as 1."""
    found = re.match(r"[+-]?\d{1,9}", entry, re.ASCII)
    return int(found[0]) if found else None


def _by_uuid(entries: list[str], devices: Sequence[Device]) -> Seen:
    seen: list[int] = []
    if not all(device.uuid for device in devices):
        return Seen(None)
    for entry in entries:
        if not entry.startswith("GPU-"):
            return Seen(len(seen), tuple(seen), "mixed", entry)
        named = [index for index, device in enumerate(devices) if device.uuid.lower().startswith(entry.lower())]
        if len(named) != 1:
            return Seen(len(seen), tuple(seen), "ambiguous-uuid" if named else "unknown-uuid", entry)
        if named[0] in seen:
            return Seen(0, problem="duplicate", entry=entry)
        seen.append(named[0])
    if any(devices[index].instances is not None for index in seen):
        return Seen(None, tuple(seen))
    return Seen(len(seen), tuple(seen))


def _by_instance(entries: list[str], devices: Sequence[Device]) -> Seen:
    if not all(device.uuid for device in devices):
        return Seen(None)
    entry = entries[0]
    owners = [index for index, device in enumerate(devices) if _owns(device, entry)]
    if len(owners) != 1:
        return Seen(0, problem="ambiguous-uuid" if owners else "unknown-uuid", entry=entry)
    others = [other for other in entries[1:] if other]
    if any(not other.startswith("MIG-") for other in others):
        return Seen(1, tuple(owners), "mixed", next(other for other in others if not other.startswith("MIG-")))
    if others:
        return Seen(None, tuple(owners), "several-mig", others[0])
    return Seen(1, tuple(owners))


def _owns(device: Device, entry: str) -> bool:
    """Whether a MIG name is one of this device: `MIG-<uuid>`, or the older `MIG-GPU-<uuid>/<instance>/<instance>`."""
    if entry.startswith("MIG-GPU-"):
        card = entry.removeprefix("MIG-").partition("/")[0]
        return bool(device.instances) and device.uuid.lower().startswith(card.lower())
    return any(instance.lower().startswith(entry.lower()) for instance in device.instances or ())
