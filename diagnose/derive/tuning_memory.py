"""Settings of a training, its model and the GPUs → whether the memory suffices, as facts under `tuning.memory`.

Two kinds: what is sure, since it counts weights, gradients and optimizer states alone, in the smallest types that the
settings leave open and shared among all that could share them; and what is likely, with activations reckoned as a plan does.
Nothing is told where a setting changes the sums in a way that is not followed here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from msgspec import Struct
from msgspec.structs import replace

from diagnose.cards import Card
from diagnose.derive import fit_memory, processes
from diagnose.derive.known import Known, Told
from diagnose.derive.tuning_lora import ADAPTERS
from diagnose.memory import estimates, tuning
from diagnose.plan.structs import Value, Weights, model_of

LIKELY = Fraction(9, 10)
"""What part of a reckoned total has to be beyond a card before it is told: activations are estimates."""
FRAMEWORKS = ("trl", "trainer", "axolotl", "llamafactory")
_GENERATING = ("grpo", "rloo", "ppo", "online_dpo", "gkd")
_PAIRED = ("dpo", "ipo", "simpo", "orpo", "cpo", "reward", "kto")
_REFERENCED = ("dpo", "ipo", "kto")
_UNFOLLOWED = (
    "use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_lomo", "relora", "lisa_n_layers", "unfrozen_parameters",
    "tensor_parallel_size", "context_parallel_size", "sequence_parallel_degree", "pipeline_parallel_size", "parallelism_config",
    "cp_size", "tp_size", "sp_size", "activation_offloading", "layer_offloading", "precompute_ref_log_probs", "mixture_of_depths",
    "use_unsloth", "tensor_model_parallel_size", "pipeline_model_parallel_size", "expert_model_parallel_size", "use_mca", "sequence_parallel", "use_kt", "spectrum_path", "expert_parallel_size", "virtual_pipeline_parallel_size", "optimizer_in_bwd",
)  # fmt: skip
"""Settings, the last part of their names, that change what lies on a card in ways that the sums here do not follow."""
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_DEFAULT_BATCH = {"trl": 8, "trainer": 8, "llamafactory": 8, "axolotl": 1}
_CHECKPOINTING = {"trl": True, "trainer": False, "llamafactory": True, "axolotl": False}


_ASKED = {
    "training.batch": ("per_device_train_batch_size", "micro_batch_size"),
    "training.gradient_checkpointing": (
        "gradient_checkpointing",
        "activation_checkpointing",
        "disable_gradient_checkpointing",
    ),
}
"""Facts whose default counts → the settings that would tell them: one that is a placeholder, or computed, leaves it open."""


class Setup(Struct, frozen=True):
    """A training as far as its memory goes. `value`: bytes of a weight, 0 where that is not told; `zero` 3 also for FSDP.

    `shared` is how many cards a sharded state lies on, `spread` how many one copy of the model may be laid out over.
    """

    model: Weights
    method: str
    optimizer: str
    zero: int
    fsdp: bool
    shared: int
    spread: int
    value: int
    quantization: str = ""
    double: bool = True
    offload_states: bool = False
    offload_weights: bool = False
    rank: int = 16
    targets: str = ""
    batch: int = 0
    length: int = 0
    checkpointing: bool = True
    paired: bool = False
    reference: bool = False
    logits: bool = False


class Held(Struct, frozen=True):
    """Bytes on one card."""

    weights: int = 0
    adapter: int = 0
    gradients: int = 0
    optimizer: int = 0
    reference: int = 0
    activations: int = 0
    logits: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return (
            self.weights + self.adapter + self.gradients + self.optimizer + self.reference + self.activations + self.logits
            + self.other
        )  # fmt: skip


def complete(known: Known) -> Told:
    """`tuning.memory.*`: nothing unless the model's sizes, the GPUs of this machine and the framework are known."""
    told = {name: value for name in known.names() if (value := known.value(name)) is not None}
    setup = setup_of(known, told)
    if setup is None:
        return
    yield from _main_memory(setup, known)
    there = fit_memory.cards_of(told)
    if not there or known.yes("training.on_cpu"):
        return
    card = there[0]
    sure = surely(setup)
    yield "tuning.memory.card", card.memory
    yield "tuning.memory.card_name", card.name
    yield "tuning.memory.cards", len(there)
    yield "tuning.memory.states", sure.total
    for name in ("weights", "gradients", "optimizer"):
        yield f"tuning.memory.{name}", getattr(sure, name) + (sure.adapter if name == "weights" else 0)
    over = sure.total > card.memory
    launched = _is_launch_known(known)
    yield "tuning.memory.weights_over", launched and sure.weights > card.memory
    yield "tuning.memory.states_over", launched and over and sure.weights <= card.memory
    yield "tuning.memory.over_unless_offloaded", not launched and over
    share = known.value("training.vllm_share")
    asleep = known.has_setting("vllm_enable_sleep_mode", "enable_sleep_mode")
    if known.text("training.vllm") == "colocate" and isinstance(share, float) and 0 < share <= 1 and not asleep:
        yield "tuning.memory.vllm_over", not over and sure.total > card.memory * (1 - share)
        yield "tuning.memory.vllm", int(card.memory * share)
    if over:
        yield from _instead(setup, there, known)
    elif whole := likely_setup(setup, known, len(there)):
        yield from _likely(whole, there, known)


# --- what is to be trained


def _is_launch_known(known: Known) -> bool:
    """Whether it is told how states are shared: else a launcher's configuration, not seen here, may offload them."""
    names = (
        "zero.stage",
        "fsdp.strategy",
        "fsdp.version",
        "launch.program",
        "training.processes",
        "training.deepspeed",
    )
    return any(known.text(name) for name in names)


def setup_of(known: Known, told: dict[str, Value]) -> Setup | None:
    """The training as far as it is known; None where its sums are not followed."""
    method, framework = known.text("training.method"), known.text("training.framework")
    if framework not in FRAMEWORKS or method not in ("full", *ADAPTERS) or known.has_setting(*_UNFOLLOWED):
        return None
    model = model_of(told)
    base = known.text("model.quantization")
    if (
        not model.parameters
        or not model.weights
        or model.kind == "gguf"
        or (method == "full" and base not in ("", "none"))
    ):
        return None
    if base == "mxfp4" or (known.text("zero.stage") == "" and known.text("training.deepspeed")):
        return None
    zero, fsdp = _stage(known)
    if zero < 0:
        return None
    cards = max(1, len(fit_memory.cards_of(told)))
    world = _world(known)
    asked = known.text("training.quantization")
    return Setup(
        model=model,
        method=method,
        optimizer=optimizer_of(known.text("training.optimizer"), known.text("zero.optimizer")),
        zero=zero,
        fsdp=fsdp,
        shared=max(world, cards),
        spread=1 if world > 1 or zero else cards,
        value=_value(known),
        quantization=asked if asked not in ("", "none") else base if base != "none" else "",
        double=known.value("training.quantization_double") is True,
        offload_states=known.text("zero.offload_optimizer") in ("cpu", "nvme") or known.yes("fsdp.offload"),
        offload_weights=known.text("zero.offload_param") in ("cpu", "nvme") or known.yes("fsdp.offload"),
        rank=known.whole("training.lora.rank") or 0,
        targets=known.text("training.lora.targets"),
    )


def _world(known: Known) -> int:
    """Processes of the whole training; 0 where they are not known."""
    return known.whole("tuning.world") or processes.world(known) or 0


def _stage(known: Known) -> tuple[int, bool]:
    """The stage of ZeRO, or what FSDP does in its terms, and whether it is FSDP; below 0 where that is not known."""
    strategy = known.text("fsdp.strategy").upper()
    if strategy or known.text("fsdp.version") or known.text("training.fsdp") not in ("", "false", "False", "none"):
        named = {"FULL_SHARD": 3, "SHARD_GRAD_OP": 2, "NO_SHARD": 0, "1": 3, "2": 2, "3": 0, "HYBRID_SHARD": 3, "4": 3}
        if strategy in named:
            return named[strategy], True
        return (3, True) if not strategy and known.text("fsdp.version") == "2" else (-1, True)
    stage = known.whole("zero.stage")
    return (stage if stage is None or 0 <= stage <= 3 else -1) or 0, False


def optimizer_of(name: str, of_deepspeed: str = "") -> str:
    """The optimizer by its states: a name of memory.tuning.OPTIMIZERS; empty for one that is not known."""
    word = (of_deepspeed or name or "adamw").lower().replace("-", "_")
    if re.search(r"lomo|galore|apollo|lion|mini|4bit|fp8|paged|came|mega", word):
        return ""  # paged states leave the card where it is full
    if word.startswith(("adamw", "fused_adam", "adam", "stable_adamw", "onebitadam")):
        return "adamw_8bit" if re.search(r"8bit|bnb_8", word) else "adamw"
    if word.startswith("adafactor"):
        return "adafactor"
    return "sgd" if word == "sgd" else ""


def _value(known: Known) -> int:
    """Bytes of a weight as it is loaded, where a setting says so; 0 where the framework decides."""
    asked = known.text("training.load_dtype").removeprefix("torch.")
    if asked == "auto":
        asked = known.text("model.dtype")
    return _BYTES.get(asked, 0)


# --- what is sure


def surely(setup: Setup) -> Held:
    """Weights, gradients and optimizer states, at the least."""
    if setup.method != "full":
        frozen = 0 if setup.offload_weights else frozen_weights(setup, sure=True)
        return Held(weights=_part(frozen, setup.shared if setup.zero >= 3 else setup.spread))
    count, value = setup.model.parameters, setup.value or 2
    state = _states(setup.optimizer)
    if setup.zero and not setup.fsdp:
        return _partitioned(setup, 2, 2, state + 4 if setup.optimizer else Fraction(4))
    each = Fraction(value, 4)
    kept = state * each if setup.optimizer == "adamw" else state
    if setup.zero:
        return _partitioned(setup, value, value, kept)
    return Held(
        weights=_part(value * count, setup.spread),
        gradients=_part(value * count, setup.spread) if setup.optimizer else 0,
        optimizer=_part(int(kept * count), setup.spread),
    )


def _states(optimizer: str) -> Fraction:
    return tuning.OPTIMIZERS.get(optimizer, Fraction(0)) if optimizer else Fraction(0)


def _partitioned(setup: Setup, weight: int, gradient: int, state: Fraction) -> Held:
    """Full tuning whose states are split: from stage 1 on the optimizer's, from 2 the gradients, from 3 the weights."""
    count, parts = setup.model.parameters, setup.shared
    on_card = not setup.offload_states
    return Held(
        weights=0 if setup.offload_weights else _part(weight * count, parts if setup.zero >= 3 else 1),
        gradients=_part(gradient * count, parts if setup.zero >= 2 else 1) if on_card else 0,
        optimizer=_part(int(state * count), parts) if on_card else 0,
    )


def frozen_weights(setup: Setup, sure: bool) -> int:
    """The base below an adapter, as it is loaded; what is left open is taken for 16 bits where it has to be sure."""
    model = setup.model
    embedding = 2 if sure else 4
    if setup.quantization in ("4bit", "8bit"):
        linear = max(0, model.parameters - model.embeddings)
        bits = (
            Fraction(8)
            if setup.quantization == "8bit"
            else tuning.NF4_BITS
            if setup.double or sure
            else tuning.NF4_BITS_SINGLE
        )
        return int(linear * bits / 8) + embedding * min(model.parameters, model.embeddings)
    if model.quantization:
        return model.weights
    return model.parameters * (setup.value or 2)


def _part(total: int, parts: int) -> int:
    return -(-total // max(1, parts))


# --- what is likely


def likely_setup(setup: Setup, known: Known, cards: int) -> Setup | None:
    """The same with batch, length and the framework's own choices; None where one of them is not known."""
    framework, task = known.text("training.framework"), known.text("training.task")
    world = _world(known)
    length = known.whole("training.max_length") or 0
    longest = known.whole("data.longest") or known.whole("data.tokens_longest") or 0
    if longest and not known.yes("training.packing"):
        length = min(length, longest)
    if task in _GENERATING or not task or not length or (not setup.zero and not world and cards > 1):
        return None
    if (
        setup.offload_weights
        or not setup.model.widths.layers
        or not setup.model.widths.hidden
        or known.yes("model.multimodal")
    ):
        return None
    if any(known.value(name) is None and known.has_setting(*keys) for name, keys in _ASKED.items()):
        return None
    checkpointing = known.value("training.gradient_checkpointing")
    if checkpointing is None:
        checkpointing = _CHECKPOINTING[framework]
    if known.yes("fsdp.checkpointing"):
        checkpointing = True
    return replace(
        setup,
        spread=1 if not setup.zero and world > 1 else setup.spread,
        value=setup.value or _default_value(known),
        batch=min(known.whole("training.batch") or _DEFAULT_BATCH[framework], 1 << 16),
        length=min(length, 1 << 24),
        checkpointing=checkpointing is True,
        paired=task in _PAIRED,
        reference=task in _REFERENCED and setup.method == "full",
        logits=_keeps_logits(known),
    )


def _default_value(known: Known) -> int:
    """Bytes of a weight where no setting tells: what the framework loads in, 2 where it may be either."""
    framework = known.text("training.framework")
    if framework == "llamafactory" and known.text("training.method") == "full" and not known.whole("zero.stage"):
        return 2 if known.has_setting("pure_bf16") else 4
    release = known.text("trl.version").partition(".")[0]
    return 4 if framework == "trl" and release.isdigit() and int(release) >= 1 else 2


def _keeps_logits(known: Known) -> bool:
    """Whether all logits of a batch are there at once: not with Liger, a fused loss, or TRL's own (1.16)."""
    if known.yes("training.liger") or known.has_setting(
        "plugins", "use_liger_kernel", "enable_liger_kernel", "cut_cross_entropy"
    ):
        return False
    if known.text("training.framework") == "trl":
        return known.older("trl", (1, 0))
    return True


def reckoned(setup: Setup) -> Held:
    """All that one card holds, as a plan reckons it."""
    model, widths = setup.model, setup.model.widths
    sequences = setup.batch * (2 if setup.paired else 1)
    base = _held_states(setup)
    kept = tuning.activations(widths, sequences, setup.length, setup.checkpointing)
    if setup.method != "full" and not setup.checkpointing:
        kept //= 2  # below frozen matrices nothing has to be kept for their own gradients
    loss = tuning.loss(widths, sequences, setup.length) if setup.logits else 0
    gathered = 4 * model.parameters // max(1, widths.layers) if setup.zero >= 3 else 0
    reference = 0
    if setup.reference:
        reference = _part(model.parameters * (setup.value or 2), setup.shared if setup.zero >= 3 else setup.spread)
    parts = base.total + kept + loss + reference
    other = gathered + estimates.runtime(setup.shared if setup.zero else 1) + int(parts * tuning.GAPS)
    return replace(base, reference=reference, activations=kept, logits=loss, other=other)


def _held_states(setup: Setup) -> Held:
    if setup.method == "full":
        if setup.fsdp and setup.zero:
            return _partitioned(setup, 4, 4, _states(setup.optimizer))
        return surely(setup)
    base = _part(frozen_weights(setup, sure=False), setup.shared if setup.zero >= 3 else setup.spread)
    targets = tuning.targets_of(setup.targets)
    trained = tuning.adapter_parameters(setup.model.widths, setup.rank or 8, targets) or 0
    own = tuning.adapter_states(trained, setup.optimizer or "sgd", setup.zero, setup.shared)
    return Held(weights=base, adapter=own.weights, gradients=own.gradients, optimizer=own.optimizer)


def _likely(setup: Setup, there: Sequence[Card], known: Known) -> Told:
    card = there[0]
    held = reckoned(setup)
    over = held.total * LIKELY > card.offered
    yield "tuning.memory.total", held.total
    yield "tuning.memory.offered", card.offered
    yield "tuning.memory.activations", held.activations
    if held.logits:
        yield "tuning.memory.logits", held.logits
    if held.reference:
        yield "tuning.memory.reference", held.reference
    yield "tuning.memory.batch", setup.batch
    yield "tuning.memory.length", setup.length
    yield "tuning.memory.likely_over", over
    if over:
        yield from _smaller(setup, card)
        yield from _instead(setup, there, known)


def _fits(setup: Setup, card: Card) -> bool:
    return reckoned(setup).total <= card.offered


def _smaller(setup: Setup, card: Card) -> Told:
    """What would fit with the same weights: a smaller batch, activations made anew, shorter examples."""
    batches = [count for count in (32, 16, 8, 4, 2, 1) if count < setup.batch]
    batch = next((count for count in batches if _fits(replace(setup, batch=count), card)), 0)
    yield "tuning.memory.fits_batch", batch
    if not setup.checkpointing:
        yield "tuning.memory.fits_checkpointing", _fits(replace(setup, checkpointing=True), card)
    one = replace(setup, batch=1, checkpointing=True)
    lengths = [length for length in (65536, 32768, 16384, 8192, 4096, 2048, 1024, 512) if length < setup.length]
    yield (
        "tuning.memory.fits_length",
        next((length for length in lengths if _fits(replace(one, length=length), card)), 0),
    )


def _instead(setup: Setup, there: Sequence[Card], known: Known) -> Told:
    """What would fit of other ways to train: states shared among the cards, an adapter, a quantized base."""
    card = there[0]
    least = replace(
        setup, batch=setup.batch or 1, length=min(setup.length or 1024, 2048), checkpointing=True, reference=False
    )
    if setup.method == "full":
        if setup.zero < 3 and setup.shared > 1:
            yield "tuning.memory.fits_sharded", _fits(replace(least, zero=3, fsdp=False, spread=1, batch=1), card)
        lora = replace(
            least, method="lora", rank=16, targets="all-linear", optimizer="adamw", zero=0, spread=1, batch=1, value=2
        )
        yield "tuning.memory.fits_lora", _fits(lora, card)
        yield "tuning.memory.fits_qlora", _fits(replace(lora, quantization="4bit"), card)
    elif setup.quantization != "4bit" and not setup.model.quantization:
        small = replace(least, method="qlora", quantization="4bit", zero=0, spread=1, batch=1)
        yield "tuning.memory.fits_qlora", _fits(small, card)


# --- main memory


def _main_memory(setup: Setup, known: Known) -> Told:
    """What ZeRO's offloading keeps in main memory: float32 weights and the optimizer's states of this machine's share."""
    usable = known.value("memory.usable")
    if known.text("zero.offload_optimizer") != "cpu" or setup.method != "full" or setup.optimizer not in ("adamw", ""):
        return
    nodes = known.whole("training.nodes") or known.whole("deploy.nodes") or 0
    world, local = _world(known), known.whole("gpu.count") or 0
    machines = max(nodes, -(-world // local) if world and local else 1, 1)
    needed = 12 * setup.model.parameters // machines
    if known.text("zero.offload_param") == "cpu":
        needed += 2 * setup.model.parameters // machines
    yield "tuning.memory.host", needed
    if isinstance(usable, int) and not isinstance(usable, bool) and not known.elsewhere:
        yield "tuning.memory.host_over", needed > usable
