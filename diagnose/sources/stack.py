"""Stack frames and exceptions in the lines of one event: CPython's, Rich's, Jupyter's and faulthandler's ways to print.

It reads and names; whether a frame is to blame is for the rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from diagnose.model import Frame, Line, Raised
from diagnose.pattern import regex

_FRAME = re.compile(
    r"""^\s*(?:
      File[ ]"(?P<file>[^"]{1,500})",[ ]line[ ](?P<line>\d{1,9})(?:,?[ ]in[ ](?P<function>.{1,200}))?
    | File[ ](?P<jfile>[^\s"][^"]{0,400}?):(?P<jline>\d{1,9})(?:,[ ]in[ ](?P<jfunction>[\w.<>]{1,200}))?.*
    | (?P<rfile>(?:/|~|[A-Za-z]:[\\/])[^:"]{1,400}\.py):(?P<rline>\d{1,9})[ ]in[ ](?P<rfunction>\S{1,200}).*
    | (?P<ofile>(?:/|~|[A-Za-z]:[\\/])[^:"]{1,400}\.py)[ ]in[ ](?P<ofunction>[\w.<>]{1,200})\(.*
    | (?:Cell|Input)[ ]In[ ]?\[(?P<cell>\d{1,6})\].*
    | <ipython-input-(?P<ocell>\d{1,6})-[0-9a-f]{1,40}>[ ]in[ ].*
    )$""",
    re.VERBOSE,
)
_HEADER = "Traceback (most recent call last)"
_CHAINS = (
    "During handling of the above exception, another exception occurred",
    "The above exception was the direct cause of the following exception",
)
_BRANCH = re.compile(r"^\s*\+(?:-\+)?-{10,} (?:\d+|\.\.\.) -{10,}$")
_BRANCHES_END = re.compile(r"^\s*\+-{20,}$")
_EXCEPTION = re.compile(r"^(?P<name>[A-Za-z_][\w.]{0,200})(?::[ ]?(?P<message>.*))?$")
_NAMED = re.compile(
    r"^(?P<name>(?:[A-Za-z_]\w{0,60}\.){0,8}(?:[A-Z]\w{0,80}(?:Error|Exception|Exit|Interrupt|Timeout|Failed|Died)|Exception|(?:Base)?ExceptionGroup))(?::[ ]?(?P<message>.*))?$"
)
_WITHIN = re.compile(
    r"(?:^|[\s`\"'(*:>])(?P<name>(?:[A-Za-z_]\w{0,60}\.){0,8}[A-Z]\w{0,80}(?:Error|Exception)): (?P<message>[^`\s][^`]{1,500})"
)
_CLASS = re.compile(r"(?:^|[._])_?[A-Z]\w*$|error$")
_CODE = re.compile(
    r"^(?:\s{2,}\S|-+>\s*\[?\d+[\]\s]|\s*\^+\s*$|\t|\s*~+\^|\s*\[Previous line repeated|frame #\d+:|\s*\.\.\.)"
)

_INSTALLED = re.compile(r"(?:site|dist)-packages/(?P<rest>.+)$")
_STDLIB = re.compile(
    r"(?:/lib(?:64)?/python\d(?:\.\d+)?/|\\[Ll]ib\\|^<frozen |/Python\.framework/Versions/[\d.]+/lib/python)"
)
_PROJECTS = ("vllm", "sglang", "sgl_kernel", "transformers", "trl", "peft", "accelerate", "deepspeed", "torch", "llamafactory", "axolotl",
             "unsloth", "lmdeploy", "flash_attn", "flashinfer", "xformers", "bitsandbytes", "auto_gptq", "gptqmodel", "awq", "ray",
             "megatron", "verl", "llama_cpp", "modelscope", "swift", "fastchat", "optimum", "diffusers", "datasets", "gguf")  # fmt: skip
_SUPPORT = frozenset(
    [
        "stdlib",
        "torch",
        "triton",
        "_distutils_hack",
        "contextlib",
        "asyncio",
        "concurrent",
        "uvloop",
        "uvicorn",
        "starlette",
        "fastapi",
        "anyio",
        "httpx",
        "httpcore",
        "aiohttp",
        "requests",
        "urllib3",
        "numpy",
        "tqdm",
        "click",
        "typer",
        "decorator",
        "tenacity",
        "joblib",
        "multiprocess",
        "dill",
        "cloudpickle",
        "fire",
        "hydra",
        "pluggy",
        "pip",
        "setuptools",
        "torchvision",
        "torchaudio",
        "einops",
        "nest_asyncio",
        "IPython",
        "ipykernel",
        "gradio",
        "pydantic",
        "pydantic_core",
        "functools",
        "zmq",
        "msgspec",
        "cupy",
        "pandas",
        "PIL",
    ]
)

_PHASES: tuple[tuple[str, str], ...] = (
    ("build", r"(?:setup\.py:|setuptools/|cpp_extension\.py:(?:_run_ninja|_jit_compile|_write_ninja|build_extensions)|pip/_internal|build_backend|/pip/)"),
    ("download", r"(?:huggingface_hub/(?:file_download|_snapshot_download|hf_api)|modelscope/hub|download_weights|snapshot_download)"),
    ("load", r"(?m)(?::(?:load_model|load_weights|_load_weights|load_weights_and_postprocess|from_pretrained|_from_pretrained|_load_pretrained_model|get_config|get_tokenizer|initialize_model|_initialize_model|create_weights|get_model|_load_state_dict_into_\w+|init_tokenizer|create_engine_config|create_model_config|__post_init__|from_engine_args|load_state_dict|resolve_model_cls|inspect_model_cls|initialize_dummy_weights|verify_\w+|_verify_\w+|convert|write_tensors|set_vocab|process_weights_after_loading|maybe_remap_kv_scale_name)$|configuration_\w+\.py:)"),
    ("train", r"(?m)(?:trainer\w*\.py:(?:train|_inner_training_loop|training_step|compute_loss|_maybe_log_save_evaluate)|:(?:training_step|backward|train_step|optimizer_step)$|deepspeed/runtime/engine\.py)"),
    ("serve", r"(?m)(?::(?:execute_model|generate|forward|step|step_async|run_engine_loop|event_loop_\w+|forward_batch_\w+|run_busy_loop|create_chat_completion|chat_completion\w*|create_completion|process_input_requests|sample|forward_extend|forward_decode|engine_step|run_batch|v1_\w+completions|generate_request|add_request|get_next_batch_to_run|process_batch_result\w*|handle_loop|_run_output_handler|chat|encode|embed)$)"),
)  # fmt: skip


def kind(body: str) -> str:
    """What a line (without prefixes) is in a traceback: header, frame, code, chain, blank, exception, or other."""
    if not body.strip() or _BRANCHES_END.match(body):
        return "blank"
    if _HEADER in body:
        return "header"
    if body.lstrip().startswith(_CHAINS) or _BRANCH.match(body):
        return "chain"
    if _FRAME.match(body):
        return "frame"
    if _CODE.match(body):
        return "code"
    if _NAMED.match(body):
        return "exception"
    return "other"


def frame(body: str) -> Frame | None:
    """The frame that a line prints, or None."""
    found = _FRAME.match(body)
    if not found:
        return None
    part = found.groupdict()
    cell = part["cell"] or part["ocell"]
    if cell:
        return Frame(f"cell {cell}", 0, "<module>", "user", f"cell {cell}:<module>")
    file = part["file"] or part["jfile"] or part["rfile"] or part["ofile"] or ""
    number = int(part["line"] or part["jline"] or part["rline"] or 0)
    function = (part["function"] or part["jfunction"] or part["rfunction"] or part["ofunction"] or "<module>").strip()
    package, path = locate(file)
    return Frame(file, number, function, package, f"{path}:{function.rsplit('.', 1)[-1]}")


@lru_cache(maxsize=2048)
def locate(file: str) -> tuple[str, str]:
    """The top package that a source file belongs to, and its path from that package on."""
    path = file.replace("\\", "/")
    installed = _INSTALLED.search(path)
    if installed:
        rest = installed["rest"]
        return rest.split("/")[0].removesuffix(".py"), rest
    if _STDLIB.search(file) or path.startswith("<frozen"):
        return "stdlib", path.rsplit("/", 1)[-1]
    parts = path.split("/")
    for index, part in enumerate(parts[:-1]):
        if part in _PROJECTS:
            last = max(i for i, other in enumerate(parts[:-1]) if other == part and i <= index + 3)
            return part, "/".join(parts[last:])
    return "user", parts[-1]


def raised(lines: Sequence[Line]) -> tuple[Raised, ...]:
    """The exceptions in the lines of an event, in the order printed, each with its frames (outermost first)."""
    found: list[Raised] = []
    frames: list[Frame] = []
    inside = False
    for line in lines:
        what = kind(line.body)
        if what == "header":
            inside, frames = True, []
        elif what == "frame":
            made = frame(line.body)
            if made:
                frames.append(made)
            inside = True
        elif what in ("exception", "other") and (inside or what == "exception"):
            name = (_EXCEPTION if inside and frames else _NAMED).match(line.body)
            if name and _CLASS.search(name["name"]):
                found.append(
                    Raised(line.number, name["name"].rsplit(".", 1)[-1], (name["message"] or "").strip(), tuple(frames))
                )
                inside, frames = False, []
    return tuple(found) or _within(lines)


def _within(lines: Sequence[Line]) -> tuple[Raised, ...]:
    """The exception that a sentence or a log message holds: "I get `ValueError: x is odd` when …"."""
    for line in lines:
        found = _WITHIN.search(line.body[:4096])
        if found:
            return (Raised(line.number, found["name"].rsplit(".", 1)[-1], found["message"].strip()),)
    return ()


def phase(frames: Sequence[Frame]) -> str:
    """What the stack was doing: build, import, download, load, train, serve, or nothing known."""
    places = "\n".join(f.place for f in frames)
    if (
        frames
        and frames[-1].function == "<module>"
        and len(frames) > 1
        and frames[-1].package not in ("user", "stdlib")
    ):
        return "import"
    for name, pattern in _PHASES:
        if regex(pattern).search(places):
            return name
    return ""


def culprit(frames: Sequence[Frame]) -> Frame | None:
    """The innermost frame that is neither torch, the standard library nor a plain support library; else the innermost."""
    for candidate in reversed(frames):
        if candidate.package not in _SUPPORT:
            return candidate
    return frames[-1] if frames else None
