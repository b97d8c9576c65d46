"""Which class reads a tokenizer, whose code that is, and which packages it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from diagnose.model import Fact, Reading
from diagnose.sources.tokenizer import files
from diagnose.sources.tokenizer.files import Files
from diagnose.sources.tokenizer.vocabulary import Vocabulary

SINCE: Mapping[str, str] = {"TokenizersBackend": "5.0.0", "SentencePieceBackend": "5.0.0", "PythonBackend": "5.0.0", "MistralCommonBackend": "5.0.0"}  # fmt: skip
"""Classes and the first release of transformers that has them: those that 4.x cannot know under any other name."""
_CLASS_NAMES = """Albert Barthez Bartpho BertGeneration BertJapanese Bert Bertweet BigBird BioGpt BlenderbotSmall Blenderbot Bloom ByT5 CLIP
    CTRL Camembert Canine Clvp CodeGen CodeLlama Cohere ConvBert CpmAnt Cpm Deberta DebertaV2 Dia DistilBert Esm FNet FSMT
    Flaubert Funnel GPT2 GPTNeoXJapanese GPTNeoX GPTSw3 Gemma Herbert LayoutLMv2 LayoutLMv3 LayoutXLM Llama Luke M2M100 MBart50
    MBart MLuke MPNet Marian MarkupLM Mgpstr MyT5 Nllb Nougat OpenAIGPT PLBart Pegasus Perceiver Phobert ProphetNet Qwen2
    Qwen3_5 Reformer RemBert RoCBert RoFormer Roberta SeamlessM4T Siglip2 Siglip Speech2Text SpeechT5 Splinter T5 Tapas Udop
    Vits Wav2Vec2CTC Wav2Vec2PhonemeCTC Whisper XGLM XLMRoberta XLM XLNet PreTrained
Bart DPRContextEncoder DPRQuestionEncoder DPRReader Electra ErnieM Esmc FastSpeech2Conformer GPTSanJapanese Jukebox LED Lasr LayoutLM
Longformer Lxmert MT5 MobileBert Mvp Parakeet ParakeetCTC Pop2Piano Rag Realm RetriBert Speech2Text2 SqueezeBert Tapex Tipsv2
TransfoXL VideoPrism XLMProphetNet Wav2Vec2"""
CLASSES = frozenset(_CLASS_NAMES.split())
"""Tokenizer classes of transformers without the ending Tokenizer; read in the sources of 4.35 to 5.24."""
_POOLING = ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling")
_TUNED = re.compile(r"[-_. ](?:instruct|chat|it|sft|dpo|rlhf|thinking|assistant|coder-instruct)(?:$|[-_. ])", re.I)
_BASE = re.compile(r"[-_. ](?:base|pt|pretrain(?:ed)?)(?:$|[-_. ])", re.I)
_MOST_ABSURD = 1 << 40


def facts(known: Files, vocabulary: Vocabulary, name: str) -> Iterator[Reading]:
    """The facts. `name` is the model's, as its folder or id is called."""
    config = known.tokenizer_config
    yield Fact("tokenizer.config_missing", "tokenizer_config.json" not in known.states, known.head or "model folder")
    origin = known.origin("tokenizer_config.json")
    class_name = config.get("tokenizer_class")
    if isinstance(class_name, str) and class_name:
        yield Fact("tokenizer.class", class_name[:100], origin)
        known_class = class_name in SINCE or class_name.removesuffix("Fast").removesuffix("Tokenizer") in CLASSES
        yield Fact("tokenizer.class_known", known_class, origin)
        if class_name in SINCE:
            yield Fact("tokenizer.class_since", SINCE[class_name], origin)
    yield from _remote_code(known, origin)
    yield from _settings(config, origin)
    yield from _packages(known, vocabulary)
    here = known.head or "model folder"
    pooling = bool(known.names.intersection(_POOLING))
    yield Fact("tokenizer.pooling", pooling, here)
    yield Fact("template.model_tuned", "embedding" if pooling else tuned_for_chat(name, known.generation), here)


def _remote_code(known: Files, origin: str) -> Iterator[Reading]:
    """Code of the model's own, and the file of it that is not there."""
    wanted = known.tokenizer_config.get("auto_map")
    if isinstance(wanted, dict):
        wanted = wanted.get("AutoTokenizer")
    class_name = str(known.tokenizer_config.get("tokenizer_class")).removesuffix("Fast").removesuffix("Tokenizer")
    names = [name for name in (wanted if isinstance(wanted, list) else [wanted]) if isinstance(name, str)]
    if known.tokenizer_config:
        yield Fact("tokenizer.remote_code", bool(names), origin)
    for name in names:
        module = name.partition(".")[0] + ".py"
        if "--" not in name and module not in known.names and class_name not in CLASSES:
            yield Fact("tokenizer.remote_code_missing", module[:200], origin)
            return


def _settings(config: Mapping[str, Any], origin: str) -> Iterator[Reading]:
    length = config.get("model_max_length")
    if isinstance(length, int) and not isinstance(length, bool) and 0 < length < _MOST_ABSURD:
        yield Fact("tokenizer.model_max_length", length, origin)
    elif length is not None and not isinstance(length, (int, float)):
        yield Fact("tokenizer.model_max_length_text", str(length)[:60], origin)
    extra = config.get("extra_special_tokens")
    if isinstance(extra, (list, dict)) and extra:
        yield Fact("tokenizer.extra_special_tokens", "list" if isinstance(extra, list) else "names", origin)
    for key in ("add_bos_token", "add_eos_token", "clean_up_tokenization_spaces", "legacy", "do_lower_case"):
        if isinstance(config.get(key), bool):
            yield Fact(f"tokenizer.{key}", config[key], origin)
    side = config.get("padding_side")
    if side in ("left", "right"):
        yield Fact("tokenizer.padding_side", side, origin)
    elif isinstance(side, str):
        yield Fact("tokenizer.padding_side", side[:50], origin)


def _packages(known: Files, vocabulary: Vocabulary) -> Iterator[Reading]:
    """What must be installed beside transformers to read the vocabulary, where there is no tokenizer.json."""
    if vocabulary.kind == "sentencepiece":
        yield Fact("tokenizer.needs_sentencepiece", True, vocabulary.origin)
    elif vocabulary.kind in ("tiktoken", "tekken"):
        yield Fact(f"tokenizer.needs_{'tiktoken' if vocabulary.kind == 'tiktoken' else 'mistral_common'}", True, vocabulary.origin)  # fmt: skip
    present = [name for name in known.states if name in files.VOCABULARIES or name.endswith(".tiktoken")]
    yield Fact("tokenizer.files", ", ".join(sorted(known.states)) or "none", known.head or "model folder")
    yield Fact("tokenizer.vocabulary_files", len(present), known.head or "model folder")


def tuned_for_chat(name: str, generation: Mapping[str, Any]) -> str:
    """yes, no, or unknown if neither its name nor its generation settings tell whether a model was tuned for chats.

    Sampling settings are written for chat models; base models are published with greedy decoding or without any.
    """
    if _BASE.search(name):
        return "no"
    if _TUNED.search(name) or generation.get("do_sample") is True:
        return "yes"
    return "no" if generation.get("do_sample") is False else "unknown"
