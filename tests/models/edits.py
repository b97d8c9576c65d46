"""Edits as a hand, a broken download or a careless script makes them: each is a function of the model's folder."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

Edit = Callable[[Path], None]
Change = Callable[[dict[str, Any]], None]

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size {size}\n"
)
PAGE = (
    "<!doctype html>\n<html><head><title>Sign in</title></head>\n"
    "<body><h1>401 Unauthorized</h1><p>This page needs a login.</p></body></html>\n"
)


def change(file: str, **keys: Any) -> Edit:
    """Give keys of a JSON file other values; `a__b` is key b of the object a. `...` takes a key out."""

    def edit(folder: Path) -> None:
        path = folder / file
        value = json.loads(path.read_text(encoding="utf-8"))
        for name, new in keys.items():
            _set(value, name.split("__"), new)
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    return edit


def _set(value: Any, steps: list[str], new: Any) -> None:
    for step in steps[:-1]:
        value = value[int(step) if isinstance(value, list) else step]
    if new is ...:
        del value[steps[-1]]
    else:
        value[int(steps[-1]) if isinstance(value, list) else steps[-1]] = new


def alter(file: str, by: Change) -> Edit:
    """Change what a JSON file holds by a function."""

    def edit(folder: Path) -> None:
        path = folder / file
        value = json.loads(path.read_text(encoding="utf-8"))
        by(value)
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    return edit


def config(**keys: Any) -> Edit:
    """Change keys of config.json."""
    return change("config.json", **keys)


def replace(file: str, old: str, new: str) -> Edit:
    """Put another text in place of one that has to be there."""

    def edit(folder: Path) -> None:
        path = folder / file
        text = path.read_bytes()
        assert old.encode() in text, (file, old)
        path.write_bytes(text.replace(old.encode(), new.encode()))

    return edit


def write(file: str, text: str | bytes) -> Edit:
    """Write a file anew."""

    def edit(folder: Path) -> None:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())

    return edit


def append(file: str, data: bytes) -> Edit:
    """Put bytes behind a file's end."""

    def edit(folder: Path) -> None:
        with (folder / file).open("ab") as stream:
            stream.write(data)

    return edit


def cut(file: str, keep: float | int) -> Edit:
    """Keep only the start of a file: a share of it, or so many bytes."""

    def edit(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])

    return edit


def pointer(file: str) -> Edit:
    """Put the pointer of Git LFS in a file's place, as a clone without LFS leaves it."""
    return lambda folder: write(file, POINTER.format(size=(folder / file).stat().st_size))(folder)


def page(file: str) -> Edit:
    """Put an error page of a web server in a file's place."""
    return write(file, PAGE)


def remove(*files: str) -> Edit:
    """Take files away."""

    def edit(folder: Path) -> None:
        for file in files:
            (folder / file).unlink()

    return edit


def rename(file: str, new: str) -> Edit:
    """Give a file another name."""
    return lambda folder: (folder / file).rename(folder / new) and None


def copy(file: str, new: str) -> Edit:
    """Copy a file within the folder."""
    return lambda folder: shutil.copy(folder / file, folder / new) and None


def bring(other: str, *files: str) -> Edit:
    """Copy files of another model of the set into this folder."""

    def edit(folder: Path) -> None:
        for file in files:
            shutil.copy(Path(__file__).parent / "folders" / other / file, folder / file)

    return edit


def template(**texts: str) -> Edit:
    """Change the chat template in tokenizer_config.json: `old` becomes `new`, or the whole becomes `whole`."""

    def by(value: dict[str, Any]) -> None:
        if "whole" in texts:
            value["chat_template"] = texts["whole"]
            return
        assert texts["old"] in value["chat_template"], texts["old"]
        value["chat_template"] = value["chat_template"].replace(texts["old"], texts["new"])

    return alter("tokenizer_config.json", by)


def header(file: str, by: Change) -> Edit:
    """Change the header of a safetensors file by a function; the tensors' bytes stay as they are."""

    def edit(folder: Path) -> None:
        data = (folder / file).read_bytes()
        size = int.from_bytes(data[:8], "little")
        value = json.loads(data[8 : 8 + size])
        by(value)
        text = json.dumps(value, separators=(",", ":")).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return edit


def without_tensors(file: str, *ends: str) -> Edit:
    """Write a safetensors file without the tensors whose names end so."""

    def edit(folder: Path) -> None:
        data = (folder / file).read_bytes()
        size = int.from_bytes(data[:8], "little")
        value = json.loads(data[8 : 8 + size])
        kept, body = {}, b""
        for name, entry in value.items():
            if name == "__metadata__":
                kept[name] = entry
            elif not name.endswith(ends):
                begin, end = entry["data_offsets"]
                kept[name] = {**entry, "data_offsets": [len(body), len(body) + end - begin]}
                body += data[8 + size + begin : 8 + size + end]
        assert len(kept) < len(value), ends
        text = json.dumps(kept, separators=(",", ":")).encode()
        (folder / file).write_bytes(struct.pack("<Q", len(text)) + text + body)

    return edit


def names(old: str, new: str, keep: str = "__metadata__") -> Change:
    """Rename the tensors of a header: `old` at the start of a name becomes `new`."""

    def by(value: dict[str, Any]) -> None:
        for name in [name for name in value if name.startswith(old) and name != keep]:
            value[new + name.removeprefix(old)] = value.pop(name)

    return by


def patch(file: str, old: bytes, new: bytes, count: int = -1) -> Edit:
    """Put bytes in the place of others of the same length."""

    def edit(folder: Path) -> None:
        data = (folder / file).read_bytes()
        assert old in data, old
        assert len(old) == len(new), (old, new)
        (folder / file).write_bytes(data.replace(old, new, count))

    return edit


def at(file: str, offset: int, data: bytes) -> Edit:
    """Overwrite bytes at a place."""

    def edit(folder: Path) -> None:
        whole = bytearray((folder / file).read_bytes())
        whole[offset : offset + len(data)] = data
        (folder / file).write_bytes(whole)

    return edit


def gguf_value(file: str, key: str, value: bytes) -> Edit:
    """Overwrite the value of a GGUF key whose type has a fixed size (or the first bytes of a text, behind its length)."""

    def edit(folder: Path) -> None:
        data = (folder / file).read_bytes()
        mark = struct.pack("<Q", len(key)) + key.encode()
        place = data.index(mark) + len(mark)
        kind = int.from_bytes(data[place : place + 4], "little")
        at(file, place + 4 + (8 if kind == 8 else 0), value)(folder)

    return edit


def tensor_info(file: str, name: str, dimensions: int, by: bytes, field: str) -> Edit:
    """Overwrite a field of a tensor's entry in a GGUF file: its first dimension (`shape`), its type (`type`) or place (`offset`)."""

    def edit(folder: Path) -> None:
        data = (folder / file).read_bytes()
        mark = struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", dimensions)
        place = data.index(mark) + len(mark)
        skip = {"shape": 0, "type": 8 * dimensions, "offset": 8 * dimensions + 4}[field]
        at(file, place + skip, by)(folder)

    return edit
