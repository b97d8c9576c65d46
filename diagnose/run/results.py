"""Whether the files that a command writes its results to change: new ones, other sizes."""

from __future__ import annotations

import os
from collections.abc import Sequence

MOST_FILES = 2000
DEPTH = 2
"""How deep below a folder of results files are looked at: output/checkpoint-500/global_step500."""
_ASIDE = frozenset({"wandb", "mlruns", "tensorboard", ".git", "__pycache__", "logs"})
"""Folders in which loggers write on by themselves while the training stands still."""
_ASIDE_FILES = (".log", ".lock", ".tmp", ".wandb", ".pid")


def files_in(folders: Sequence[str]) -> dict[str, tuple[int, float]]:
    """The files below some folders with size and time, without those that loggers write."""
    found: dict[str, tuple[int, float]] = {}
    waiting = [(folder, 0) for folder in folders]
    while waiting and len(found) < MOST_FILES:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if len(found) >= MOST_FILES:
                        break
                    if entry.is_dir(follow_symlinks=False):
                        if depth < DEPTH and entry.name not in _ASIDE:
                            waiting.append((entry.path, depth + 1))
                    elif not entry.name.endswith(_ASIDE_FILES) and "tfevents" not in entry.name:
                        told = entry.stat(follow_symlinks=False)
                        found[entry.path] = (told.st_size, told.st_mtime)
        except OSError:
            continue
    return found
