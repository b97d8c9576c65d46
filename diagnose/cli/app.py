"""The Typer app. Each command imports what it needs when it runs, so that start-up stays quick."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Optional

import typer

from diagnose import __version__
from diagnose.cli.options import (
    BaselineOption,
    ConfigOption,
    DataOption,
    DeepOption,
    FailOnOption,
    FileOption,
    FormatOption,
    ForOption,
    Kept,
    MachineOption,
    ModelArgument,
    ModelOption,
    OnlineOption,
    OutputOption,
    PlanFormat,
    PythonOption,
    RulesOption,
    SampleOption,
    UpdateOption,
    value,
)

app = typer.Typer(
    name="llmdoctor",
    help="Why an open-source LLM will not load, run, train or answer properly, and what to do about it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
rules_app = typer.Typer(help="List, check and start rules.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(rules_app, name="rules")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmdoctor {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def diagnose(
    logs: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="LOG",
            help="Log files, folders of logs, .gz or .zst, or '-' for standard input.",
            show_default=False,
        ),
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="The log is of this machine: join what `check` finds on it.")
    ] = False,
    case: Annotated[
        str,
        typer.Option(
            "--case", metavar="FILE", help="Join the facts of a case file that `collect` wrote.", show_default=False
        ),
    ] = "",
    python: PythonOption = "",
    model: ModelOption = "",
    format: FormatOption = None,
    output: OutputOption = None,
    fail_on: FailOnOption = None,
    rules: RulesOption = None,
) -> None:
    """Name the cause behind a crash log, and the fix."""
    from diagnose.cli.diagnose import run
    from diagnose.cli.report import Wanted

    machine = None
    if here or case or python or model:
        from diagnose.cli.check import Target

        machine = Target(python=python, case=case, model=model, machine=here or bool(python) or not model)
    wanted = Wanted(value(format), tuple(output or ()), value(fail_on))
    raise typer.Exit(run(logs or [], wanted, rules or [], machine))


@app.command(options_metavar="[OPTIONS]", epilog="After -- stands a launch command: llmdoctor check -- vllm serve …")
def check(
    context: typer.Context,
    what: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="[MODEL|FILE]...",
            help="A model (folder, .gguf or .safetensors file, Hub id in the local cache); or files, sorted by their content: "
            "manifests, training data, configurations of trainings, each judged by itself.",
            show_default=False,
        ),
    ] = None,
    file: FileOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    sample: SampleOption = False,
    python: PythonOption = "",
    wanted: ForOption = "",
    deep: DeepOption = False,
    online: OnlineOption = False,
    no_machine: MachineOption = False,
    case: Annotated[
        str,
        typer.Option("--case", metavar="FILE", help="Judge a case file instead of this machine.", show_default=False),
    ] = "",
    format: FormatOption = None,
    output: OutputOption = None,
    fail_on: FailOnOption = None,
    baseline: BaselineOption = "",
    update_baseline: UpdateOption = False,
    rules: RulesOption = None,
) -> None:
    """See whether model, launch command, training settings and data, GPUs, machine and packages fit."""
    from diagnose.cli.check import Target, run
    from diagnose.cli.paths import named
    from diagnose.cli.report import Wanted

    found = named(what or [])
    target = Target(
        python=python,
        wanted=wanted,
        deep=deep,
        case=case,
        model=found.model,
        command=context.obj or (),
        files=(*(file or ()), *found.files),
        configs=tuple(config or ()),
        data=(*(data or ()), *found.data),
        sample=sample,
        online=online,
        machine=not no_machine,
    )
    report = Wanted(value(format), tuple(output or ()), value(fail_on), baseline, update_baseline)
    raise typer.Exit(run(target, report, rules or [], found.configs))


@app.command(epilog="After -- stands a launch command, as for check.")
def collect(
    context: typer.Context,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The case file to write; '-' for standard output.")
    ],
    model: ModelArgument = "",
    file: FileOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
    sample: SampleOption = False,
    python: PythonOption = "",
    wanted: ForOption = "",
    deep: DeepOption = False,
    online: OnlineOption = False,
    no_machine: MachineOption = False,
    keep: Annotated[
        Optional[list[Kept]],
        typer.Option(
            "--keep",
            help="What need not be masked: user names, host names, addresses, serial numbers. Secrets always are.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write what `check` reads to a file, without secrets, to send to somebody."""
    from diagnose.cli.check import Target
    from diagnose.cli.check import collect as run

    target = Target(
        python=python,
        wanted=wanted,
        deep=deep,
        model=model,
        command=context.obj or (),
        files=tuple(file or ()),
        configs=tuple(config or ()),
        data=tuple(data or ()),
        sample=sample,
        online=online,
        machine=not no_machine,
    )
    raise typer.Exit(run(target, output, [item.value for item in keep or []]))


class OnHang(str, Enum):
    """What becomes of a command that hangs."""

    leave = "leave"
    end = "end"


@app.command(
    options_metavar="[OPTIONS] -- COMMAND…",
    context_settings={"allow_extra_args": True},  # told in a sentence of our own
    epilog="llmdoctor run -- torchrun --nproc_per_node 8 train.py …",
)
def run(
    context: typer.Context,
    hang: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Look where all processes stand after so long without output and progress: 20m, 90s, 2h.",
            show_default=False,
        ),
    ] = "",
    on_hang: Annotated[
        OnHang, typer.Option(help="Leave a command that hangs as it is, or end it with exit code 124.")
    ] = OnHang.leave,
    grace: Annotated[
        str, typer.Option(metavar="TIME", help="How long it has between SIGTERM and SIGKILL where we end it.")
    ] = "30s",
    report: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Write case file, report, output and memory curve there; of a good run too.",
            show_default=False,
        ),
    ] = "",
    config: ConfigOption = None,
    model: ModelOption = "",
    python: PythonOption = "",
    rules: RulesOption = None,
) -> None:
    """Run a command as ever; if it dies or hangs, tell why. Its exit code is kept."""
    from diagnose.cli.run import Wish
    from diagnose.cli.run import run as start

    wish = Wish(hang, on_hang.value, grace, report, python, model, tuple(config or ()), tuple(rules or ()))
    raise typer.Exit(start(context.obj or (), wish, tuple(context.args)))


class Engine(str, Enum):
    """What a model is planned to be served with."""

    vllm = "vllm"
    sglang = "sglang"
    llama_cpp = "llama-cpp"
    ollama = "ollama"
    transformers = "transformers"


class Tune(str, Enum):
    """How a model is planned to be fine-tuned."""

    full = "full"
    lora = "lora"
    qlora = "qlora"


@app.command()
def plan(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model's folder, a .gguf file, or a Hub id that is in the cache.")
    ],
    gpu: Annotated[
        str,
        typer.Option(
            help="H100-80GB, RTX4090, 24GB, 2xA100-40GB …; else the GPUs of this machine.",
            metavar="NAME",
            show_default=False,
        ),
    ] = "",
    gpus: Annotated[int, typer.Option(help="How many of them.", metavar="N", show_default=False)] = 0,
    context: Annotated[
        int, typer.Option(help="Tokens of one sequence, with its answer.", metavar="N", show_default=False)
    ] = 0,
    concurrency: Annotated[int, typer.Option(help="Sequences at the same time.", metavar="N", show_default=False)] = 0,
    engine: Annotated[
        Engine, typer.Option("--for", help="What will serve it; a .gguf file is planned for llama.cpp.")
    ] = Engine.vllm,
    kv_cache_dtype: Annotated[
        str, typer.Option(help="auto, fp8, int8, q8_0 …", metavar="TYPE", show_default=False)
    ] = "",
    quantization: Annotated[
        str,
        typer.Option(
            help="Weights in another precision than the files': fp8, int8, int4, nf4.",
            metavar="TYPE",
            show_default=False,
        ),
    ] = "",
    tensor_parallel_size: Annotated[int, typer.Option(metavar="N", show_default=False, help="Else chosen.")] = 0,
    pipeline_parallel_size: Annotated[int, typer.Option(metavar="N", show_default=False, help="Else chosen.")] = 0,
    gpu_memory_utilization: Annotated[
        float,
        typer.Option(
            help="The share of a GPU's memory that the engine may take; SGLang's mem-fraction-static.",
            metavar="SHARE",
            show_default=False,
        ),
    ] = 0.0,
    max_num_batched_tokens: Annotated[
        int, typer.Option(help="Tokens of one step.", metavar="N", show_default=False)
    ] = 0,
    max_num_seqs: Annotated[int, typer.Option(help="Sequences of one step.", metavar="N", show_default=False)] = 0,
    enforce_eager: Annotated[bool, typer.Option("--enforce-eager", help="Without CUDA graphs.")] = False,
    tune: Annotated[
        Optional[Tune], typer.Option(help="Plan a fine-tuning rather than serving.", show_default=False)
    ] = None,
    rank: Annotated[int, typer.Option(help="Rank of the LoRA adapters.", metavar="N")] = 16,
    targets: Annotated[
        str, typer.Option(help="Modules that get adapters, as PEFT names them.", metavar="NAMES")
    ] = "all-linear",
    batch: Annotated[int, typer.Option(help="Sequences per GPU and step.", metavar="N")] = 1,
    accumulation: Annotated[
        int, typer.Option(help="Steps whose gradients are summed up.", metavar="N", show_default=False)
    ] = 0,
    optimizer: Annotated[str, typer.Option(help="adamw, adamw-8bit, adafactor, sgd …", metavar="NAME")] = "adamw",
    zero: Annotated[
        int, typer.Option(help="ZeRO stage 0 to 3 (FSDP: 3); else chosen.", metavar="STAGE", show_default=False)
    ] = -1,
    no_checkpointing: Annotated[
        bool, typer.Option("--no-checkpointing", help="Without gradient checkpointing.")
    ] = False,
    format: Annotated[PlanFormat, typer.Option("--format", help="How to write the plan.")] = PlanFormat.text,
) -> None:
    """See what fits on which GPUs, and with which flags."""
    from diagnose.cli.plan import run
    from diagnose.plan.structs import Wish

    wish = Wish(
        engine=engine.value,
        context=context,
        concurrency=concurrency,
        cache_dtype=kv_cache_dtype,
        quantization=quantization,
        tensor_parallel=tensor_parallel_size,
        pipeline_parallel=pipeline_parallel_size,
        utilization=gpu_memory_utilization,
        batched_tokens=max_num_batched_tokens,
        sequences=max_num_seqs,
        eager=enforce_eager,
        tune=tune.value if tune else "",
        rank=rank,
        targets=targets,
        batch=batch,
        accumulation=accumulation,
        optimizer=optimizer,
        zero=zero,
        checkpointing=not no_checkpointing,
    )
    raise typer.Exit(run(model, wish, gpu, gpus, format.value))


@app.command()
def explain(
    rule: Annotated[str, typer.Argument(help="The id of a rule, as a report names it.")], rules: RulesOption = None
) -> None:
    """Show a rule's page: what, why, fix, how often in the study, references."""
    from diagnose.cli.explain import run

    raise typer.Exit(run(rule, rules or []))


@rules_app.command("list")
def list_rules(
    family: Annotated[Optional[str], typer.Option(help="Only the rules of one family (folder).")] = None,
    rules: RulesOption = None,
) -> None:
    """List all rules, by family."""
    from diagnose.cli.rules import list_rules as run

    raise typer.Exit(run(family, rules or []))


@rules_app.command("facts")
def list_facts(
    part: Annotated[
        str, typer.Argument(metavar="WORD", help="Only facts with this in their name or meaning.", show_default=False)
    ] = "",
) -> None:
    """List the facts that a rule may ask for."""
    from diagnose.cli.rules import list_facts as run

    raise typer.Exit(run(part))


@rules_app.command("lint")
def lint(
    paths: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="PATH", help="Rule files or folders; without one, the bundled rules.", show_default=False
        ),
    ] = None,
) -> None:
    """Check rule files: every mistake with file and line, and their examples."""
    from diagnose.cli.rules import lint as run

    raise typer.Exit(run(paths or []))


@rules_app.command("new")
def new(
    rule: Annotated[str, typer.Argument(metavar="ID", help="kebab-case; names the trouble, not the cure.")],
    family: Annotated[str, typer.Option(help="The folder (family) below --into.")] = "",
    into: Annotated[str, typer.Option(metavar="DIR", help="Where rules lie.")] = "rules",
) -> None:
    """Write a rule file to start from."""
    from diagnose.cli.rules import new as run

    raise typer.Exit(run(rule, family, into))
