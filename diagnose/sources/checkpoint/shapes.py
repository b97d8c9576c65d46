"""Names and shapes of the tensors against config.json: vocabulary, width, heads, layers, experts, and names that a wrapper left.

A shape is compared only where the architecture is known to keep to it (PLAIN), a tensor is not packed, and the config
says the number. What is told are the two numbers (`got`, `wanted`); rules compare them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from diagnose.model import Fact
from diagnose.sources.checkpoint import config as configs
from diagnose.sources.checkpoint.modules import told_names
from diagnose.sources.checkpoint.safetensors import Header, Tensor
from diagnose.sources.settings import words

if TYPE_CHECKING:
    from diagnose.sources.checkpoint.where import Found

PLAIN: frozenset[str] = words(
    """
    llama mistral ministral3 qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 olmo olmo2 olmo3 granite cohere cohere2 stablelm
    starcoder2 glm glm4 helium smollm3 arcee apertus exaone4 seed_oss hunyuan_v1_dense ernie4_5 cwm vaultgemma mixtral
    phimoe qwen2_moe qwen3_moe olmoe granitemoe hunyuan_v1_moe ernie4_5_moe glm4_moe dots1 minimax_m2 gpt_oss
    """
)
"""Model types of transformers whose layers are all alike and whose projections have heads × head_dim rows."""
HEAD_DIM_FROM_WIDTH: frozenset[str] = frozenset(
    [
        "llama",
        "mistral",
        "qwen2",
        "mixtral",
        "qwen2_moe",
        "olmo",
        "olmo2",
        "granite",
        "granitemoe",
        "stablelm",
        "starcoder2",
        "cohere",
        "phi",
        "phi3",
        "phimoe",
    ]
)
"""Those whose config need not say head_dim, since it is then the hidden size divided by the heads."""
UNTIED: frozenset[str] = frozenset(
    [
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "mixtral",
        "qwen2_moe",
        "qwen3_moe",
        "phi",
        "phi3",
        "phimoe",
        "olmo",
        "olmo2",
        "glm",
        "glm4",
    ]
)
"""Those whose output layer is one of its own where config.json says nothing."""

LATENT: frozenset[str] = words("deepseek_v2 deepseek_v3")
"""Those with latent attention whose projection down has kv_lora_rank + qk_rope_head_dim rows."""
OTHER_ROWS: frozenset[str] = words(
    "mllama mllama_text_model moshi cpmant csm csm_depth_decoder_model kyutai_speech_to_text marian molmo2 molmo2_text"
)
"""Those whose embedding has other rows than vocab_size: further marks, several codebooks, a vocabulary for the decoder."""
LEARNT_POSITIONS: frozenset[str] = words("gpt2 gpt_bigcode gpt_neo")
"""Those with an embedding of positions that has a row for each."""

FLOATS = frozenset(("F64", "F32", "F16", "BF16", "F8_E4M3"))
WRAPPERS: tuple[str, ...] = (
    "base_model.model.", "_forward_module.", "module._orig_mod.", "_orig_mod.module.", "_orig_mod.", "module.",
    "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.",
)  # fmt: skip
"""Names that PEFT, Fabric, torch.compile, DDP, DeepSpeed and FSDP put into those of tensors. The longer go first."""

_WORDS = (".layers.", ".h.", ".blocks.", ".layer.")
_WEIGHTS = (".weight", ".bias", ".qweight", ".weight_packed")
_LORA = (".lora_A.", ".lora_B.", ".base_layer.")
_EXPERT = re.compile(r"\bexperts\.(\d{1,6})\.", re.ASCII)
_OTHER = re.compile(
    r"vision|visual|audio|image|mtp|vit\b|clip|siglip|speech|talker|projector|connector|draft|code2wav|eagle|medusa"
)
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "tok_embeddings.weight", "embeddings.weight")  # fmt: skip
_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight", "head.weight")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output_layer|output|head)\.", re.MULTILINE)
_NORMS = ("norm.weight", "final_layernorm.weight", "ln_f.weight", "final_layer_norm.weight")


class Stack(Struct, frozen=True):
    """The layers of the language model: what stands before `layers.N`, and for each number the rest of its tensors' names."""

    prefix: str
    layers: dict[int, list[str]]


def facts(
    headers: Sequence[tuple[str, Header]], config: Mapping[str, Any] | None, found: Found, whole: bool
) -> Iterator[Fact]:
    """`shape.*` and what the names tell. `whole`: no file is missing or broken, so that what is not there is missing."""
    tensors = {tensor.name: tensor for _, header in headers for tensor in header.tensors}
    folder = found.origin("")[:-1] or found.path
    if found.kind == "adapter" or not tensors:
        return
    yield from _names(tensors, config, folder)
    names = told_names(tensors)
    if names:
        yield Fact("weights.modules", names, folder)
    if config is None or config.get("is_encoder_decoder") is True:
        return
    stack = language_stack(tensors)
    if stack is None:
        return
    text = configs.text_part(config)
    yield from _Comparison(tensors, stack, config, text.value, found.origin("config.json"), folder, found.names).facts(
        whole
    )


def _names(tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None, origin: str) -> Iterator[Fact]:
    """What a wrapper or an adapter left in the names."""
    every = "\n" + "\n".join(tensors)
    for wrapper in WRAPPERS:
        inner = wrapper[0] == "_"
        if (wrapper if inner else "\n" + wrapper) not in every:
            continue
        having = [name for name in tensors if (wrapper in name if inner else name.startswith(wrapper))]
        if inner or len(having) * 10 > len(tensors) * 9:
            yield Fact("weights.wrapper", wrapper, origin)
            yield Fact("weights.wrapper_example", having[0][:300], origin)
            break
    # some models bring adapters for pictures and speech of their own, and say so in their config
    if config is not None and any(key.lower().endswith("lora") for key in config):
        return
    lora: list[str] = []
    if any(mark in every for mark in _LORA):
        lora = [name for name in tensors if any(mark in name for mark in _LORA)]
    yield Fact("weights.lora_tensors", len(lora), origin)
    if lora:
        yield Fact("weights.lora_example", lora[0][:300], origin)
        yield Fact("weights.lora_only", all(".lora_" in name for name in tensors), origin)


def language_stack(tensors: Mapping[str, Tensor]) -> Stack | None:
    """The language model's layers; of several stacks that could be it the one with the most bytes, None if there is none."""
    stacks: dict[str, dict[int, list[str]]] = {}
    weight: Counter[str] = Counter()
    plain: dict[
        str, dict[int, list[str]]
    ] = {}  # what stands before the first `layers.`, once it is known to hold no other
    for name, tensor in tensors.items():
        front, _, behind = name.partition("layers.")
        known = plain.get(front)
        digits, _, rest = behind.partition(".")
        if known is not None and rest and len(digits) <= 6 and digits.isdecimal() and digits.isascii():
            known.setdefault(int(digits), []).append(rest)
            weight[front] += tensor.end - tensor.start
            continue
        told = in_layer(name)
        if told is not None:
            prefix, number, rest = told
            stacks.setdefault(prefix, {}).setdefault(number, []).append(rest)
            weight[prefix] += tensor.end - tensor.start
            if prefix == front:
                plain[front] = stacks[prefix]
    mine = [prefix for prefix in stacks if not _OTHER.search(prefix)]
    if not mine:
        return None
    prefix = max(mine, key=lambda one: (weight[one], one))
    return Stack(prefix, stacks[prefix])


def in_layer(name: str) -> tuple[str, int, str] | None:
    """A tensor's name as what stands before `layers.N`, N, and what stands behind; None if it is in no layer."""
    text = "." + name
    places = [(at, word) for word in _WORDS if (at := text.find(word)) >= 0]
    if not places:
        return None
    at, word = min(places)
    number, _, rest = text[at + len(word) :].partition(".")
    if not (number.isascii() and number.isdigit() and len(number) <= 6 and rest):
        return None
    return text[1 : at + 1], int(number), rest


class _Comparison(Struct, frozen=True):
    """The tensors and what the config says of them."""

    tensors: Mapping[str, Tensor]
    stack: Stack
    config: Mapping[str, Any]
    text: Mapping[str, Any]
    origin: str
    folder: str
    beside: tuple[str, ...]

    @property
    def kind(self) -> str:
        """model_type of the language model's part."""
        return str(self.text.get("model_type") or self.config.get("model_type") or "")

    def facts(self, whole: bool) -> Iterator[Fact]:
        """All comparisons that can be made."""
        plain = self.kind in PLAIN
        yield Fact("shape.compared", plain, self.origin)
        yield from self._vocabulary()
        if whole:
            yield from self._layers(plain)
        yield from self._positions()
        yield from self._latent()
        if not plain:
            return
        yield from self._width()
        yield from self._projections()
        yield from self._experts()
        if whole:
            yield from self._head()
            # some models keep it outside of what holds the layers (language_model.model.encoder.layers)
            there = any("embed_tokens." in name and not _OTHER.search(name) for name in self.tensors)
            yield Fact("shape.embedding_missing", self._embedding() is None and not there, self.folder)
            yield from self._incomplete()

    def _pair(self, what: str, setting: str, got: int, wanted: int | None, tensor: str = "") -> Iterator[Fact]:
        if wanted is None or wanted <= 0:
            return
        yield Fact(f"shape.{what}.got", got, self.folder)
        yield Fact(f"shape.{what}.wanted", wanted, self.origin)
        yield Fact(f"shape.{what}.setting", setting, self.origin)
        if tensor:
            yield Fact(f"shape.{what}.tensor", tensor[:300], self.folder)
            yield Fact(f"shape.{what}.shape", " x ".join(map(str, self.tensors[tensor].shape)), self.folder)

    def _matrix(self, names: Sequence[str]) -> Tensor | None:
        """The first of these that is there as a plain matrix of floats."""
        for name in names:
            tensor = self.tensors.get(name)
            if tensor is not None and len(tensor.shape) == 2 and tensor.dtype in FLOATS:
                return tensor
        return None

    def _embedding(self) -> Tensor | None:
        return self._matrix([self.stack.prefix + name for name in _EMBEDDINGS])

    def _vocabulary(self) -> Iterator[Fact]:
        if self.kind in OTHER_ROWS:
            return
        vocabulary = configs.number(self.text, "vocab_size")
        embedding = self._embedding()
        if embedding is not None:
            yield from self._pair("vocab", "vocab_size", embedding.shape[0], vocabulary, embedding.name)
        head = self._output()
        if head is not None:
            yield from self._pair("head", "vocab_size", head.shape[0], vocabulary, head.name)

    def _output(self) -> Tensor | None:
        outer = self.stack.prefix.removesuffix("model.")
        return self._matrix(
            [*_HEADS, *(outer + name for name in _HEADS), *(self.stack.prefix + name for name in _HEADS)]
        )

    def _positions(self) -> Iterator[Fact]:
        positions = self._matrix([self.stack.prefix + "wpe.weight"])
        if positions is not None and self.kind in LEARNT_POSITIONS:
            wanted = configs.number(self.text, "n_positions") or configs.number(self.text, "max_position_embeddings")
            yield from self._pair("positions", "n_positions", positions.shape[0], wanted, positions.name)

    def _latent(self) -> Iterator[Fact]:
        rank, rope = configs.number(self.text, "kv_lora_rank"), configs.number(self.text, "qk_rope_head_dim")
        down = self._layer_matrix("self_attn.kv_a_proj_with_mqa.weight")
        if self.kind in LATENT and down is not None and rank and rope:
            yield from self._pair("latent", "kv_lora_rank + qk_rope_head_dim", down.shape[0], rank + rope, down.name)

    def _layers(self, plain: bool) -> Iterator[Fact]:
        wanted = configs.number(self.text, "layers")
        if wanted is None or not 0 < wanted < 10_000:
            return
        there = self.stack.layers
        missing = [number for number in range(wanted) if number not in there]
        yield from self._pair("layers", "num_hidden_layers", wanted - len(missing), wanted)
        if missing:
            yield Fact("shape.layers.missing", ", ".join(map(str, missing[:20])), self.folder)
        # further layers predict tokens ahead (MTP) in many families: only where all layers are alike are they too many
        extra = [number for number in there if number >= wanted]
        if plain and not any("nextn" in key or "mtp" in key for key in (*self.text, *self.config)):
            yield Fact("shape.layers.extra", len(extra), self.folder)

    def _width(self) -> Iterator[Fact]:
        wanted = configs.number(self.text, "hidden_size")
        norm = next((self.tensors[name] for end in _NORMS if (name := self.stack.prefix + end) in self.tensors), None)
        embedding = self._embedding()
        if norm is None or embedding is None or norm.shape != (embedding.shape[1],):
            return
        yield from self._pair("hidden", "hidden_size", embedding.shape[1], wanted, embedding.name)

    def _layer_matrix(self, *rests: str) -> Tensor | None:
        """A matrix of the lowest layer that has it."""
        for number in sorted(self.stack.layers)[:64]:
            base = self._base(number)
            tensor = self._matrix([base + rest for rest in rests])
            if tensor is not None:
                return tensor
        return None

    def _base(self, number: int) -> str:
        for word in ("layers", "h", "blocks", "layer"):
            base = f"{self.stack.prefix}{word}.{number}."
            if base + self.stack.layers[number][0] in self.tensors:
                return base
        return self.stack.prefix

    def _head_dim(self) -> int | None:
        told = configs.number(self.text, "head_dim")
        if told or self.kind not in HEAD_DIM_FROM_WIDTH:
            return told
        return configs.head_dim(self.text)

    def _projections(self) -> Iterator[Fact]:
        size, heads, kv_heads = self._head_dim(), configs.number(self.text, "heads"), configs.kv_heads(self.text)
        hidden = configs.number(self.text, "hidden_size")
        query = self._layer_matrix("self_attn.q_proj.weight")
        if query is not None and size and heads and query.shape[1] == hidden:
            yield from self._pair("heads", "num_attention_heads x head_dim", query.shape[0], heads * size, query.name)
        key = self._layer_matrix("self_attn.k_proj.weight")
        if key is not None and size and kv_heads and key.shape[1] == hidden:
            yield from self._pair("kv_heads", "num_key_value_heads x head_dim", key.shape[0], kv_heads * size, key.name)
        gate = self._layer_matrix("mlp.gate_proj.weight")
        if gate is not None and gate.shape[1] == hidden:
            inner = configs.number(self.text, "intermediate_size")
            yield from self._pair("intermediate", "intermediate_size", gate.shape[0], inner, gate.name)

    def _experts(self) -> Iterator[Fact]:
        wanted = configs.number(self.text, "experts")
        if not wanted:
            return
        counts = Counter(
            len(set(told)) for rests in self.stack.layers.values() if (told := _EXPERT.findall("\n".join(rests)))
        )
        if len(counts) == 1:
            yield from self._pair("experts", "number of experts", next(iter(counts)), wanted)

    def _head(self) -> Iterator[Fact]:
        """Whether an output layer is missing that the config says is not the embedding."""
        architectures = self.config.get("architectures")
        name = architectures[0] if isinstance(architectures, list) and architectures else ""
        tied = self.config.get("tie_word_embeddings", self.text.get("tie_word_embeddings"))
        if tied is None and self.kind in UNTIED:
            tied = False
        embeds = any(name in self.beside for name in ("modules.json", "config_sentence_transformers.json", "1_Pooling"))
        if tied is not False or embeds or not str(name).endswith("ForCausalLM"):
            return
        there = _HEAD.search("\n".join(self.tensors)) is not None
        yield Fact("shape.head_missing", not there, self.folder)

    def _incomplete(self) -> Iterator[Fact]:
        """A layer that lacks a tensor which others have, and has nothing else in its place."""
        # scales of quantization are left out: a layer that is not quantized lacks them by right
        layers = {
            n: frozenset(one for one in rests if one.endswith(_WEIGHTS)) for n, rests in self.stack.layers.items()
        }
        kinds = Counter(layers.values())
        yield Fact("shape.layers.alike", len(kinds) == 1, self.folder)
        fullest = max(kinds, key=len)
        less = [number for number, rests in sorted(layers.items()) if fullest > rests]
        if len(less) > kinds[fullest]:
            return
        lacking = [f"{self._base(number)}{rest}" for number in less for rest in sorted(fullest - layers[number])]
        yield Fact("shape.lacking", len(lacking), self.folder)
        if lacking:
            yield Fact("shape.lacking_example", lacking[0][:300], self.folder)
