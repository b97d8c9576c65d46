"""A training script → the literal settings in it: arguments of the classes that configure a training, and a few calls beside them.

The script is parsed and never run. What it computes, reads or is given stays unknown.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping

from msgspec import Struct, structs

from diagnose.model import Fact
from diagnose.sources.training import classes, fsdp, literals, parsers, peft, quantization, trainer, trl
from diagnose.sources.training.classes import Reads
from diagnose.sources.training.given import COMPUTED, UNKNOWN, Meaning, Setting, by_table, number, plain, settings, told
from diagnose.sources.training.imports import Imports
from diagnose.sources.training.literals import Call, Text
from diagnose.sources.training.named import is_data_file
from diagnose.sources.training.parsed import Parsed, Reference, joined
from diagnose.sources.yamlfile import Node

_OF_UNSLOTH = ("max_seq_length", "vllm_sampling_params", "context_parallel_size", "context_parallel_backend",
               "context_parallel_rotate_method")  # fmt: skip
"""Arguments that importing Unsloth gives TRL's classes (unsloth 2026.10: models/rl.py), beside those with its name."""
_RESIZE = ("resize_token_embeddings", "setup_chat_format", "clone_chat_template", "smart_tokenizer_and_embedding_resize",
           "add_new_tokens")  # fmt: skip
_NOT_MODELS = ("Tokenizer", "Processor", "Config", "FeatureExtractor", "Peft", "Scheduler", "Pipeline")
_BUILDERS = ("json", "csv", "parquet", "text", "arrow")
_MODEL: Mapping[str, Meaning] = {
    "dtype": ("training.load_dtype", "text"),
    "torch_dtype": ("training.load_dtype", "text"),
    "attn_implementation": ("training.attention", "text"),
    "use_cache": ("training.use_cache", "flag"),
    "device_map": ("training.device_map", "text"),
    "max_seq_length": ("training.max_length", "number"),
}
_TRAINER: Mapping[str, Meaning] = {
    "max_seq_length": ("training.max_length", "number"),
    "packing": ("training.packing", "flag"),
    "dataset_num_proc": ("training.preprocessing_workers", "number"),
    "beta": ("training.beta", "number"),
    "max_prompt_length": ("training.prompt_length", "number"),
    "max_length": ("training.max_length", "number"),
}
"""What trainers themselves took before their configurations did."""
_ACCELERATOR: Mapping[str, Meaning] = {
    "gradient_accumulation_steps": ("training.accumulation", "number"),
    "cpu": ("training.on_cpu", "flag"),
}
_ZERO: Mapping[str, Meaning] = {
    "zero_stage": ("zero.stage", "number"),
    "gradient_accumulation_steps": ("zero.accumulation", "text"),
    "gradient_clipping": ("zero.clipping", "text"),
    "offload_optimizer_device": ("zero.offload_optimizer", "text"),
    "offload_param_device": ("zero.offload_param", "text"),
}


class Script(Struct, frozen=True):
    """What a script tells.

    `parser` are the classes that it has its arguments parsed into, as owners (`trl.SFTConfig`); `fields` the names of those
    that it defines or adds itself; `closed`: no other argument is taken. `problem` says why it cannot be read, and `line` where.
    """

    parsed: Parsed = Parsed()
    parser: tuple[str, ...] = ()
    fields: frozenset[str] = frozenset()
    closed: bool = False
    problem: str = ""
    line: int = 0


def read(data: bytes, file: str) -> Script:
    """Read a script's text. Nothing is raised."""
    text = literals.parse(data)
    if text.problem:
        return Script(problem=text.problem, line=text.line)
    return _Reader(text, file).read()


class _Reader:
    """One script, call by call in their order."""

    def __init__(self, text: Text, file: str) -> None:
        self._text = text
        self._file = file
        self._imports = Imports(text)
        self._parts: list[Parsed] = []
        self._model = False
        self._kinds: set[str] = set()
        self._told: set[str] = set()
        self._trained: Call | None = None
        self._datasets = 0
        self._tokens: list[tuple[str, Setting]] = []
        self._configured: list[tuple[Call, Node, bool]] = []

    def read(self) -> Script:
        for call in self._text.calls:
            self._call(call)
        for item in self._text.assigned:
            node = literals.literal(item.value, item.scope)
            self._assigned(item.name, literals.dotted(item.value), node, item.value)
        self._vocabulary()
        self._computed()
        self._collated()
        parser, fields, closed = parsers.arguments(self._text.calls, self._imports)
        if self._trained is not None and not parser and not fields and self._is_full():
            self._tell("training.method", "full", self._trained.name, self._trained.node)
        return Script(joined(self._parts), parser, fields, closed)

    def _collated(self) -> None:
        """With models of several classes in one script it is not known whose batches a collator makes."""
        if len(self._kinds) > 1:
            self._parts = [
                Parsed(part.settings, tuple(f for f in part.facts if f.name != "training.collator_masks"), part.refers)
                for part in self._parts
            ]

    # --- calls

    def _call(self, call: Call) -> None:
        owner, itself = self._imports.owner(call.name, call.before)
        if owner:
            self._configuration(call, owner, itself)
            return
        home, package, _ = self._imports.home(call.name, call.before)
        handler = _BY_NAME.get(call.name) or _BY_NAME.get(home)
        if handler is not None:
            handler(self, call, package)
        elif home.endswith("Trainer"):
            self._trainer(call)

    def _configuration(self, call: Call, owner: str, itself: bool) -> None:
        """The arguments of a class that configures a training, an adapter or quantization."""
        first = "output_dir" if owner.endswith("TrainingArguments") else ""
        node = self._changed(literals.arguments(call, first), call)
        reads = Reads(owner, {} if itself else None, itself)
        self._open(call, node, owner, itself)
        if owner.startswith("peft."):
            self._configure("adapter", peft.inside(node, self._file, "", owner))
        elif owner.startswith("trl."):
            self._configured += [(call, node, itself)] if owner in classes.trainers() else []
            self._configure("trainer" if owner in classes.trainers() else owner, trl.read(node, self._file, reads))
        elif owner in (classes.TRAINER, classes.SEQ2SEQ):
            self._configured.append((call, node, itself))
            self._configure("trainer", trainer.read(node, self._file, reads))
        else:
            self._configure("quantization", quantization.inside(node, self._file, "", owner))

    def _configure(self, what: str, parsed: Parsed) -> None:
        """One of the things that a training has one of: of several in a script the first tells what holds, none a mixture."""
        first = what not in self._told
        self._told.add(what)
        self._parts.append(Parsed(self._patched(parsed.settings), parsed.facts if first else (), parsed.refers))

    def _patched(self, items: tuple[Setting, ...]) -> tuple[Setting, ...]:
        """Settings of which those that only Unsloth's form of TRL's classes has are nobody's that is known here."""
        if "unsloth" not in self._imports.packages:
            return items
        return tuple(
            structs.replace(item, owner=UNKNOWN)
            if item.owner.startswith("trl.") and (item.key in _OF_UNSLOTH or item.key.startswith("unsloth_"))
            else item
            for item in items
        )

    def _computed(self) -> None:
        """Which arguments of the trainer are computed, where all that are given are seen: the others have their defaults."""
        if len(self._configured) != 1:
            return
        call, node, itself = self._configured[0]
        if not itself or not literals.is_whole(call) or len(call.node.args) > 1:
            return
        names = [keyword.arg for keyword in call.node.keywords if keyword.arg]
        for item in self._text.assigned if call.target else ():
            head, _, key = item.name.rpartition(".")
            names += [key] if head == call.target else []
        computed = sorted({name for name in names if name not in node.value})
        self._tell("training.arguments_computed", ",".join(computed) or "none", call.name, call.node)

    def _open(self, call: Call, node: Node, owner: str, itself: bool) -> None:
        """The arguments whose values are computed: their names may be wrong all the same."""
        fields = classes.fields(owner)
        items = tuple(
            Setting(
                owner if itself or keyword.arg in fields else UNKNOWN,
                keyword.arg,
                COMPUTED,
                self._file,
                keyword.lineno,
                keyword.col_offset + 1,
            )
            for keyword in call.node.keywords
            if keyword.arg is not None and keyword.arg not in node.value
        )
        self._parts.append(Parsed(self._patched(items)))

    def _changed(self, node: Node, call: Call) -> Node:
        """The arguments with what is assigned to them afterwards: `args.learning_rate = 1e-4`; what is computed is taken away."""
        for item in self._text.assigned if call.target else ():
            head, _, key = item.name.rpartition(".")
            if head != call.target or item.value.lineno < call.node.lineno:
                continue
            value = literals.literal(item.value, item.scope)
            node.value.pop(key, None)
            if value is not None:
                node.value[key] = value
                node.keys[key] = (item.value.lineno, max(1, item.value.col_offset - len(key) - 2))
        return node

    def _free(self, node: Node) -> tuple[Setting, ...]:
        return tuple(settings(node, UNKNOWN, self._file))

    def _by_table(self, node: Node, table: Mapping[str, Meaning], owner: str = UNKNOWN) -> dict[str, Setting]:
        items = tuple(settings(node, owner, self._file))
        known = {item.key: item for item in items}
        self._parts.append(Parsed(items, tuple(by_table(known, table))))
        return known

    def _tell(self, name: str, value: str | int | float | bool, key: str, at: ast.AST) -> None:
        """A fact of something that is no argument."""
        line, column = getattr(at, "lineno", 0), getattr(at, "col_offset", -1) + 1
        self._parts.append(Parsed((), (Fact(name, value, self._file, line, column, key),)))

    def loaded(self, call: Call, package: str) -> None:
        """`X.from_pretrained("id", …)`: a model, a tokenizer, or an adapter for a model."""
        kind = call.before.rpartition(".")[2]
        node = literals.arguments(call, "pretrained_model_name_or_path")
        named = node.get("pretrained_model_name_or_path") or node.get("model_name") or node.get("model_id")
        path = named.value if isinstance(named.value, str) else ""
        if kind.startswith(("Peft", "AutoPeft")) and "PeftModel" in kind:
            second = call.node.args[1] if len(call.node.args) > 1 else None
            adapter = literals.literal(second, call.scope) if second is not None else node.get("model_id")
            if adapter is not None and isinstance(adapter.value, str) and not kind.startswith("AutoPeft"):
                self._tell("training.adapter", adapter.value, "from_pretrained", call.node)
        elif "Tokenizer" in kind:
            if path:
                self._tell("training.tokenizer", path, "from_pretrained", call.node)
        elif not any(word in kind for word in _NOT_MODELS) and kind[:1].isupper():
            self._load_model(call, kind, node, path)

    def _load_model(self, call: Call, kind: str, node: Node, path: str) -> None:
        """The first model that is loaded is the one that is trained, unless its name says that it is another."""
        target = call.target.rpartition(".")[2].lower()
        if any(word in target for word in ("ref", "reward", "teacher", "judge")):
            if path:
                self._tell("training.reference_model", path, "from_pretrained", call.node)
            return
        self._kinds.add(kind)
        if self._model:
            return
        self._model = True
        if path:
            self._tell("training.model", path, "from_pretrained", call.node)
        self._tell("training.model_class", kind, "from_pretrained", call.node)
        known = self._by_table(node, _MODEL)
        flash = known.get("use_flash_attention_2")
        if flash is not None and flash.value is True:
            self._parts.append(Parsed((), (told("training.attention", "flash_attention_2", flash),)))
        if "quantization_config" not in known:
            self._parts.append(Parsed((), tuple(quantization.facts(known))))

    def adapted(self, call: Call, package: str) -> None:
        """Unsloth's `FastLanguageModel.get_peft_model(model, r=16, …)`; PEFT's own takes a LoraConfig, which is read by itself."""
        node = literals.arguments(call)
        if "r" in node.keys:
            items = self._free(node)
            self._parts.append(Parsed(items, tuple(peft.facts({item.key: item for item in items}))))

    def dataset(self, call: Call, package: str) -> None:
        """`load_dataset("id")`, or of a builder the files that it is given."""
        node = literals.arguments(call, "path")
        path, files = node.get("path"), node.get("data_files")
        split = node.get("split").word().lower()
        rows: list[tuple[Node, str, str]] = []
        if isinstance(path.value, str) and path.value not in _BUILDERS:
            rows.append((path, "path", split))
        elif isinstance(files.value, dict):
            rows += [(value, "data_files", key) for key, value in files.items()]
        elif files:
            rows += [(value, "data_files", split) for value in files.list() or [files]]
        for value, key, role in rows[:16]:
            if isinstance(value.value, str) and value.value:
                self._dataset(node, key, value, role)

    def _dataset(self, node: Node, key: str, value: Node, role: str) -> None:
        line, column = node.keys.get(key, (value.line, value.column))
        item = Setting(UNKNOWN, key, value.value, self._file, line, column, value.text, True)
        evaluates = any(word in role for word in ("test", "valid", "eval", "dev"))
        name = f"training.dataset.{self._datasets}"
        self._datasets += 1
        facts = (
            told(f"{name}.path", str(value.value), item),
            told(f"{name}.role", "eval" if evaluates else "train", item),
        )
        refers = (Reference(str(value.value), "data", item),) if is_data_file(str(value.value)) else ()
        self._parts.append(Parsed((item,), facts, refers))

    def _trainer(self, call: Call) -> None:
        """A trainer's own arguments: the model by its id, whether there is data for evaluation."""
        self._trained = self._trained or call
        node = literals.arguments(call, "model")
        home, package, itself = self._imports.home(call.name, call.before)
        plain_class = itself and package in ("trl", "transformers") and "unsloth" not in self._imports.packages
        owner = f"{package}.{home}" if plain_class else UNKNOWN  # Unsloth has the trainers take more than they do
        known = self._by_table(node, _TRAINER, owner)
        self._open(call, node, owner, True)
        model = known.get("model")
        if model is not None and isinstance(model.value, str) and not self._model:
            self._model = True
            self._parts.append(Parsed((), (told("training.model", model.value, model),)))
        given = [kw for kw in call.node.keywords if kw.arg in ("eval_dataset", "eval_datasets", "evaluator")]
        none = bool(given) and isinstance(given[0].value, ast.Constant) and given[0].value.value is None
        if given and isinstance(given[0].value, (ast.IfExp, ast.BoolOp)):
            return
        if given and not none:
            self._tell("training.eval_data", True, "eval_dataset", given[0])
        elif none or (literals.is_whole(call) and call.node.keywords and len(call.node.args) < 4):
            self._tell("training.eval_data", False, "eval_dataset", given[0] if given else call.node)

    def stopping(self, call: Call, package: str) -> None:
        """EarlyStoppingCallback: one evaluation without progress is enough unless told otherwise, in every release."""
        node = literals.arguments(call, "early_stopping_patience")
        patience = number(node.get("early_stopping_patience").value)
        if patience is not None:
            self._tell("training.early_stopping", patience, "early_stopping_patience", call.node)
        elif not call.node.args and not any(key.arg == "early_stopping_patience" for key in call.node.keywords):
            self._tell("training.early_stopping", 1, "EarlyStoppingCallback", call.node)

    def collator(self, call: Call, package: str) -> None:
        """Who makes batches, and whether words are masked for BERT's sake: transformers' collator does it unless told not to."""
        home = self._imports.home(call.name, call.before)[0]
        self._tell("training.collator", home, home, call.node)
        node = literals.arguments(call)
        if home == "DataCollatorForLanguageModeling" and package == "transformers":
            mlm = node.get("mlm")
            told_so = any(keyword.arg == "mlm" for keyword in call.node.keywords) or len(call.node.args) > 1
            if isinstance(mlm.value, bool) or (not told_so and literals.is_whole(call)):
                self._tell("training.collator_masks", mlm.value is not False, "mlm", call.node)
        if home == "DataCollatorForCompletionOnlyLM":
            self._tell("training.loss_on", "completion", home, call.node)
        multiple = number(node.get("pad_to_multiple_of").value)
        if multiple is not None:
            self._tell("training.pad_to_multiple_of", multiple, "pad_to_multiple_of", call.node)

    def tokens(self, call: Call, package: str) -> None:
        """`tokenizer.add_tokens([…])` and `add_special_tokens({…})`."""
        if not call.node.args:
            return
        value = literals.literal(call.node.args[0], call.scope)
        if value is None:
            return
        item = Setting(UNKNOWN, call.name, plain(value), self._file, call.node.lineno, call.node.col_offset + 1)
        for name, inner in value.items() or [("", value)]:
            for token in inner.list() or [inner]:
                if isinstance(token.value, str) and token.value:
                    self._tokens.append((token.value, item))
            if name == "pad_token" and isinstance(inner.value, str):
                self._parts.append(Parsed((), (told("training.pad_token", inner.value, item),)))

    def _vocabulary(self) -> None:
        """`training.new_tokens` and whether anything resizes the embeddings, where the script is seen whole."""
        resized = next((call for call in self._text.calls if call.name in _RESIZE), None)
        if resized is not None:
            self._tell("training.resize_embeddings", True, resized.name, resized.node)
        if not self._tokens:
            return
        names = list(dict.fromkeys(token for token, _ in self._tokens))
        item = self._tokens[0][1]
        facts = [
            told("training.new_tokens", len(names), item),
            told("training.new_tokens_listed", ",".join(names[:20]), item),
        ]
        if resized is None and self._imports.is_self_contained():
            facts.append(told("training.resize_embeddings", False, item))
        self._parts.append(Parsed((), tuple(facts)))

    def _is_full(self) -> bool:
        """Whether all weights are trained: nothing of PEFT's stands in a script that imports nothing else that could do it."""
        adapters = {"peft", "unsloth"} & self._imports.packages or "adapter" in self._told
        named = any(keyword.arg == "peft_config" for call in self._text.calls for keyword in call.node.keywords)
        others = any(call.name in ("get_peft_model", "add_adapter", "requires_grad_") for call in self._text.calls)
        frozen = any(item.name.endswith(".requires_grad") for item in self._text.assigned)
        return self._imports.is_self_contained() and not (adapters or named or others or frozen)

    def checkpointed(self, call: Call, package: str) -> None:
        """`model.gradient_checkpointing_enable(…)`."""
        self._tell("training.gradient_checkpointing", True, call.name, call.node)
        reentrant = literals.arguments(call, "gradient_checkpointing_kwargs").get(
            "gradient_checkpointing_kwargs", "use_reentrant"
        )
        if isinstance(reentrant.value, bool):
            self._tell("training.reentrant", reentrant.value, "use_reentrant", call.node)

    def trained(self, call: Call, package: str) -> None:
        """`trainer.train(resume_from_checkpoint=…)`."""
        resume = literals.arguments(call, "resume_from_checkpoint").get("resume_from_checkpoint")
        if resume.value is True or (isinstance(resume.value, str) and resume.value):
            value = "newest" if resume.value is True else str(resume.value)
            self._tell("training.resume", value, "resume_from_checkpoint", call.node)

    def accelerator(self, call: Call, package: str) -> None:
        """`Accelerator(mixed_precision="bf16", …)`."""
        known = self._by_table(literals.arguments(call), _ACCELERATOR)
        precision = known.get("mixed_precision")
        if precision is not None and precision.value in ("bf16", "fp16", "fp8", "no"):
            value = "fp32" if precision.value == "no" else str(precision.value)
            self._parts.append(Parsed((), (told("training.precision", value, precision),)))

    def zero(self, call: Call, package: str) -> None:
        """`DeepSpeedPlugin(zero_stage=3, …)`."""
        self._by_table(literals.arguments(call), _ZERO)

    def sharded(self, call: Call, package: str) -> None:
        """`FullyShardedDataParallelPlugin(…)`."""
        items = self._free(literals.arguments(call))
        self._parts.append(Parsed(items, tuple(fsdp.meaning(items, "accelerate"))))

    # --- assignments

    def _assigned(self, name: str, right: str, node: Node | None, at: ast.AST) -> None:
        last = name.rpartition(".")[2]
        if last in ("pad_token", "pad_token_id"):
            eos = right.rpartition(".")[2] in ("eos_token", "eos_token_id")
            if eos:
                self._tell("training.pad_is_eos", True, name, at)
            elif node is not None and isinstance(node.value, str):
                self._tell("training.pad_token", node.value, name, at)
        elif last == "padding_side" and node is not None and isinstance(node.value, str):
            self._tell("training.padding_side", node.value, name, at)
        elif name.endswith("config.use_cache") and node is not None and isinstance(node.value, bool):
            self._tell("training.use_cache", node.value, name, at)


_BY_NAME: Mapping[str, Callable[[_Reader, Call, str], None]] = {
    "from_pretrained": _Reader.loaded,
    "get_peft_model": _Reader.adapted,
    "load_dataset": _Reader.dataset,
    "EarlyStoppingCallback": _Reader.stopping,
    "DataCollatorForLanguageModeling": _Reader.collator,
    "DataCollatorForCompletionOnlyLM": _Reader.collator,
    "DataCollatorForSeq2Seq": _Reader.collator,
    "DataCollatorWithPadding": _Reader.collator,
    "DataCollatorWithFlattening": _Reader.collator,
    "add_tokens": _Reader.tokens,
    "add_special_tokens": _Reader.tokens,
    "gradient_checkpointing_enable": _Reader.checkpointed,
    "train": _Reader.trained,
    "Accelerator": _Reader.accelerator,
    "DeepSpeedPlugin": _Reader.zero,
    "FullyShardedDataParallelPlugin": _Reader.sharded,
}
