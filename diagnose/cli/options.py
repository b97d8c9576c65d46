"""What the commands of the app share: how a diagnosis is written, and the options that say what is looked at."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Optional

import typer


class Format(str, Enum):
    """How a diagnosis is written."""

    text = "text"
    json = "json"
    markdown = "markdown"
    sarif = "sarif"
    junit = "junit"
    github = "github"
    gitlab = "gitlab"


class PlanFormat(str, Enum):
    """How a plan is written."""

    text = "text"
    json = "json"
    markdown = "markdown"


class FailOn(str, Enum):
    """From which severity on the exit code is 1."""

    error = "error"
    warning = "warning"
    note = "note"
    never = "never"


class Kept(str, Enum):
    """What identifies a person or machine and can stay readable in a case file."""

    users = "users"
    hosts = "hosts"
    addresses = "addresses"
    serials = "serials"


RulesOption = Annotated[
    Optional[list[str]],
    typer.Option("--rules", metavar="DIR", help="A folder with rules of your own; may be given several times."),
]


PythonOption = Annotated[
    str,
    typer.Option(
        "--python",
        metavar="PATH",
        help="The interpreter (or environment folder) to look at; else $VIRTUAL_ENV, $CONDA_PREFIX, the python on the path.",
        show_default=False,
    ),
]
ForOption = Annotated[
    str,
    typer.Option(
        "--for",
        metavar="NAME",
        help="What will be used: vllm, sglang, transformers, llama-cpp, trl, deepspeed …, or a model type such as qwen3.",
        show_default=False,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model's folder, a .gguf or .safetensors file, or a Hub id that is in the local cache.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", metavar="MODEL", help="A model's folder, file or Hub id.", show_default=False)
]
FileOption = Annotated[
    Optional[list[str]],
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="A docker compose file or Kubernetes manifest that starts an engine; may be given several times.",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Optional[list[str]],
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings of a training: TrainingArguments or TRL, PEFT, accelerate, DeepSpeed, Axolotl, LLaMA-Factory, torchtune, or a Python script; may be given several times.",
        show_default=False,
    ),
]
DataOption = Annotated[
    Optional[list[str]],
    typer.Option(
        "--data",
        metavar="FILE",
        help="Training data: JSONL, JSON, CSV, Parquet, Arrow; may be given several times.",
        show_default=False,
    ),
]
SampleOption = Annotated[bool, typer.Option("--sample", help="Read only a part of the training data.")]
OnlineOption = Annotated[bool, typer.Option("--online", help="Also ask the model hub about the model.")]
MachineOption = Annotated[bool, typer.Option("--no-machine", help="Only what is named: it is for another machine.")]
DeepOption = Annotated[
    bool, typer.Option("--deep", help="Also import and try things inside that interpreter, in child processes.")
]
FormatOption = Annotated[
    Optional[Format],
    typer.Option(
        "--format", help="How to write the report; else by the name of --output, else text.", show_default=False
    ),
]
OutputOption = Annotated[
    Optional[list[str]],
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write it to a file, in --format or as its name tells (.sarif, .xml, .json, .md); the text goes to standard "
        "output. May be given several times.",
        show_default=False,
    ),
]
FailOnOption = Annotated[
    Optional[FailOn],
    typer.Option(help="From which severity on the exit code is 1; error unless set.", show_default=False),
]
BaselineOption = Annotated[
    str,
    typer.Option("--baseline", metavar="FILE", help="Findings that are known and do not count.", show_default=False),
]
UpdateOption = Annotated[
    bool, typer.Option("--update-baseline", help="Write what is found to the baseline: from now on only more counts.")
]


def value(chosen: Format | FailOn | None) -> str:
    """What was chosen, empty if nothing was."""
    return chosen.value if chosen else ""
