"""Files of the user's own that Python would import in place of an installed package or the standard library.

A script's folder, and the working directory under `python -m`, stand before everything else on sys.path.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from diagnose.sources.distributions import Distribution
from diagnose.sources.files import names_in
from diagnose.sources.interpreter import Interpreter

# Modules of the standard library that torch, transformers and their like import; what nobody imports hides nothing.
_STANDARD = frozenset(["abc", "argparse", "array", "ast", "asyncio", "base64", "bisect", "calendar", "cmath", "code", "codeop", "collections", "concurrent", "configparser", "contextlib", "contextvars", "copy", "copyreg", "csv", "ctypes", "dataclasses", "datetime", "decimal", "difflib", "dis", "email", "enum", "errno", "fcntl", "filecmp", "fileinput", "fnmatch", "fractions", "functools", "gc", "getpass", "gettext", "glob", "gzip", "hashlib", "heapq", "hmac", "html", "http", "importlib", "inspect", "io", "ipaddress", "itertools", "json", "keyword", "linecache", "locale", "logging", "lzma", "math", "mimetypes", "multiprocessing", "numbers", "opcode", "operator", "optparse", "pathlib", "pdb", "pickle", "pickletools", "pkgutil", "platform", "pprint", "profile", "queue", "random", "re", "reprlib", "resource", "sched", "secrets", "select", "selectors", "shelve", "shlex", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl", "statistics", "string", "struct", "subprocess", "symtable", "sysconfig", "tarfile", "tempfile", "textwrap", "threading", "timeit", "token", "tokenize", "traceback", "types", "typing", "unicodedata", "unittest", "urllib", "uuid", "warnings", "weakref", "xml", "xmlrpc", "zipfile", "zipimport", "zlib", "zoneinfo"])  # fmt: skip
# Already imported, or frozen into the interpreter, before a file of the user could be looked at.
_BEFORE = frozenset(["abc", "codecs", "genericpath", "importlib", "io", "itertools", "os", "posixpath", "site", "stat", "sys", "time", "zipimport"])  # fmt: skip

# Import names of the packages of this field, by distribution.
_PACKAGES: dict[str, str] = {
    "torch": "torch", "torchvision": "torchvision", "torchaudio": "torchaudio", "triton": "triton",
    "transformers": "transformers", "tokenizers": "tokenizers", "huggingface_hub": "huggingface-hub",
    "safetensors": "safetensors", "accelerate": "accelerate", "peft": "peft", "trl": "trl", "datasets": "datasets",
    "evaluate": "evaluate", "bitsandbytes": "bitsandbytes", "auto_gptq": "auto-gptq", "gptqmodel": "gptqmodel",
    "awq": "autoawq", "optimum": "optimum", "flash_attn": "flash-attn", "flashinfer": "flashinfer-python",
    "xformers": "xformers", "vllm": "vllm", "sglang": "sglang", "sgl_kernel": "sgl-kernel", "lmdeploy": "lmdeploy",
    "deepspeed": "deepspeed", "ray": "ray", "numpy": "numpy", "scipy": "scipy", "pandas": "pandas",
    "pyarrow": "pyarrow", "openai": "openai", "anthropic": "anthropic", "langchain": "langchain",
    "llama_cpp": "llama-cpp-python", "sentencepiece": "sentencepiece", "tiktoken": "tiktoken", "einops": "einops",
    "unsloth": "unsloth", "diffusers": "diffusers", "sentence_transformers": "sentence-transformers", "gguf": "gguf",
    "fastapi": "fastapi", "uvicorn": "uvicorn", "pydantic": "pydantic", "requests": "requests", "httpx": "httpx",
    "aiohttp": "aiohttp", "yaml": "pyyaml", "tqdm": "tqdm", "jinja2": "jinja2", "packaging": "packaging",
    "regex": "regex", "gradio": "gradio", "streamlit": "streamlit", "wandb": "wandb", "litellm": "litellm",
    "ollama": "ollama", "modelscope": "modelscope", "axolotl": "axolotl", "llamafactory": "llamafactory",
    "xgrammar": "xgrammar", "outlines": "outlines", "filelock": "filelock", "typing_extensions": "typing-extensions",
}  # fmt: skip


class Shadow(Struct, frozen=True):
    """A file or folder that hides a module: the module, the path, `file` or `package`, and what it hides.

    `hides` is the hidden package with its version, or `the standard library`; `checkout` says that it is the source
    tree of that very package.
    """

    module: str
    path: str
    kind: str
    hides: str
    standard: bool
    checkout: bool = False


def find_shadows(
    folders: Iterable[str], installed: Mapping[str, Distribution], interpreter: Interpreter, sites: Iterable[str]
) -> Iterator[Shadow]:
    """What in these folders hides an installed package, or a module of the standard library. Each path once.

    A folder without `__init__.py` hides nothing that is installed. An installation in place (editable) of the very
    same files is no trouble either.
    """
    own = {os.path.realpath(site) for site in (*sites, interpreter.library)}
    seen: set[str] = set()
    for folder in folders:
        real = os.path.realpath(folder)
        if real in own or real in seen or (interpreter.library and real.startswith(interpreter.library + os.sep)):
            continue
        seen.add(real)
        for name in names_in(folder) or ():
            module, kind = _module(folder, name)
            shadow = _shadow(module, kind, os.path.join(folder, name), installed, interpreter) if module else None
            if shadow is not None:
                yield shadow


def _module(folder: str, name: str) -> tuple[str, str]:
    """(module that importing from this folder would find here, `file` or `package`); empty if none."""
    if name.endswith(".py"):
        return name[:-3], "file"
    if (name in _PACKAGES or name in _STANDARD) and os.path.isfile(os.path.join(folder, name, "__init__.py")):
        return name, "package"
    return "", ""


def _shadow(
    module: str, kind: str, path: str, installed: Mapping[str, Distribution], interpreter: Interpreter
) -> Shadow | None:
    if module in _PACKAGES:
        dist = installed.get(_PACKAGES[module])
        if dist is None or _is_its_own(dist, path):
            return None
        return Shadow(module, path, kind, f"{dist.name} {dist.version}", False, _is_checkout(module, path, kind))
    if module in _STANDARD - _BEFORE and _in_library(module, interpreter):
        return Shadow(module, path, kind, "the standard library", True)
    return None


def _is_its_own(dist: Distribution, path: str) -> bool:
    """Whether the installed distribution is this very file: installed in place."""
    real = os.path.realpath(path)
    places = [dist.site, *([dist.editable, os.path.join(dist.editable, "src")] if dist.editable else [])]
    return (
        any(real.startswith(os.path.realpath(place) + os.sep) for place in places)
        if dist.editable
        else (os.path.dirname(real) == os.path.realpath(dist.site))
    )


def _is_checkout(module: str, path: str, kind: str) -> bool:
    """Whether it is a clone of the package's sources: a package beside the files that build it."""
    folder = os.path.dirname(path)
    return kind == "package" and any(
        os.path.isfile(os.path.join(folder, name)) for name in ("pyproject.toml", "setup.py")
    )


def _in_library(module: str, interpreter: Interpreter) -> bool:
    """Whether the target's standard library has the module as a file: one built into the interpreter cannot be hidden."""
    library = interpreter.library
    if not library:
        return False
    if os.path.isfile(os.path.join(library, module + ".py")) or os.path.isfile(
        os.path.join(library, module, "__init__.py")
    ):
        return True
    return any(name.startswith(module + ".") for name in names_in(os.path.join(library, "lib-dynload")) or ())
