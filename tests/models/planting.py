"""Plants a fault: copies of the healthy folders, edited."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.models.faults.fault import Fault

FOLDERS = Path(__file__).parent / "folders"


def plant(fault: Fault, world: Path) -> Path:
    """Copy what the fault is about below `world` and edit it; the path of what is judged."""
    world.mkdir(parents=True, exist_ok=True)
    for name in (fault.model, *fault.also):
        if name:
            shutil.copytree(FOLDERS / name, world / name)
    folder = world / fault.model if fault.model else world
    for edit in fault.edits:
        edit(folder)
    return world / fault.target if fault.target else folder
