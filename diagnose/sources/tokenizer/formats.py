"""Which way of calling tools and of thinking a chat template speaks, told by the marks in its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_TOOLS: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]] = (
    ("openai", ("<|channel|>", "<|message|>", "<|call|>"), ()),
    ("deepseek_v32", ("｜DSML｜",), ()),
    ("deepseek_v31", ("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"), ("```json", "function<｜tool▁sep｜>")),
    ("deepseek_v3", ("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"), ()),
    ("kimi_k2", ("<|tool_calls_section_begin|>",), ()),
    ("minimax_m2", ("<minimax:tool_call>",), ()),
    ("minimax_m3", ("]~b]", "<tool_call>"), ()),
    ("seed_oss", ("<seed:tool_call>",), ()),
    ("step3", ("<steptml:",), ()),
    ("longcat", ("<longcat_tool_call>",), ()),
    ("glm45", ("<arg_key>", "<arg_value>"), ()),
    ("qwen3_coder", ("<tool_call>", "<function=", "<parameter="), ()),
    ("functiongemma", ("<start_function_call>",), ()),
    ("gemma4", ("<|tool_call>",), ()),
    ("mistral", ("[TOOL_CALLS]",), ()),
    ("llama4_pythonic", ("func_name1(params_name1=", "<|header_start|>"), ()),
    ("pythonic", ("func_name1(params_name1=",), ()),
    ("lfm2", ("<|tool_call_start|>",), ()),
    ("lfm2", ("<|tool_list_start|>",), ()),
    ("olmo3", ("<function_calls>",), ()),
    ("cohere_command3", ("<|START_ACTION|>",), ()),
    ("internlm", ("<|action_start|>",), ()),
    ("granite", ("<|tool_call|>",), ("<|/tool|>",)),
    ("phi4_mini_json", ("<|/tool|>",), ()),
    ("llama3_json", ("<|python_tag|>",), ("<function=",)),
    ("llama3_json", ("Environment: ipython", '"parameters": dictionary'), ()),
    ("jamba", ("<tool_calls>", "<tool_definitions>"), ()),
    ("hermes", ("<tool_call>", "</tool_call>"), ("<tool_calls>",)),
)
"""A name that vLLM gives the format's parser, the marks that must all be there, those that must not. First match wins."""

_THINKS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("openai_gptoss", ("<|channel|>", "analysis")),
    ("mistral", ("[THINK]",)),
    ("seed_oss", ("<seed:think>",)),
    ("kimi_k2", ("◁think▷",)),
    ("granite", ("Here is my thought process",)),
    ("cohere_command3", ("<|START_THINKING|>",)),
    ("think", ("</think>",)),
)
"""As above, for reasoning; `think` stands for the tags <think> … </think>, which several parsers read."""

_PARSERS: Mapping[str, tuple[str, ...]] = {
    "qwen3_coder": ("qwen3_coder", "qwen3_xml", "step3p5", "mimo", "nemotron_v3", "qwen"),
    "hermes": ("hermes", "qwen3_json", "qwen", "qwen25", "xlam", "granite4", "longcat", "mimo"),
    "llama3_json": ("llama3_json", "llama4_json", "llama3"),
    "pythonic": ("pythonic", "llama4_pythonic", "olmo3"),
    "llama4_pythonic": ("llama4_pythonic", "pythonic"),
    "deepseek_v3": ("deepseek_v3", "deepseekv3"),
    "deepseek_v31": ("deepseek_v31", "deepseekv31"),
    "deepseek_v32": ("deepseek_v32", "deepseekv32", "deepseek_v4", "deepseek_v41"),
    "glm45": ("glm45", "glm47", "glm"),
    "openai": ("openai", "gpt-oss"),
    "minimax_m2": ("minimax_m2", "minimax-m2"),
    "mistral": ("mistral",),
    "kimi_k2": ("kimi_k2",),
    "seed_oss": ("seed_oss",),
    "internlm": ("internlm",),
    "jamba": ("jamba",),
    "phi4_mini_json": ("phi4_mini_json",),
}
"""Parsers, of vLLM and of SGLang, that read a format; of a format that is not here nothing is told."""
GENERIC = ("hf", "beam", "auto")
"""Parsers that find out the format by themselves."""


def tool_format(template: str) -> str:
    """The format of tool calls, or none if the template has no marks of a known one."""
    for name, wanted, unwanted in _TOOLS:
        if all(mark in template for mark in wanted) and not any(mark in template for mark in unwanted):
            return name
    return "unknown" if "tool_calls" in template or "tools" in template else "none"


def reasoning_format(template: str) -> str:
    """The format of thoughts, or none."""
    return next((name for name, marks in _THINKS if all(mark in template for mark in marks)), "none")


def fits(parser: str, format_: str) -> bool | None:
    """Whether a tool parser reads a format; None if that is not known."""
    if format_ not in _PARSERS or parser in GENERIC:
        return None
    if parser in _PARSERS[format_]:
        return True
    return False if any(parser in readers for readers in _PARSERS.values()) else None
