"""Faults of tokenizer files, special tokens and chat templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models.edits import (
    alter,
    append,
    bring,
    change,
    config,
    cut,
    page,
    pointer,
    remove,
    replace,
    template,
    write,
)  # fmt: skip
from tests.models.faults.fault import Fault

CONFIG = "tokenizer_config.json"
FAST = "tokenizer.json"
GENERATION = "generation_config.json"


def _ids_swapped(value: dict[str, Any]) -> None:
    """The ids of two special tokens change places in tokenizer_config.json."""
    tokens = value["added_tokens_decoder"]
    tokens["301"], tokens["302"] = tokens["302"], tokens["301"]


def _one_more(value: dict[str, Any]) -> None:
    value["added_tokens"].append({**value["added_tokens"][0], "id": 400, "content": "<|new_turn|>"})


def _not_special(value: dict[str, Any]) -> None:
    """The token that ends a turn is no token any more."""
    value["added_tokens"] = [token for token in value["added_tokens"] if token["content"] != "<|im_end|>"]


def _same_id(value: dict[str, Any]) -> None:
    value["added_tokens"][1]["id"] = value["added_tokens"][0]["id"]


def _no_bos(value: dict[str, Any]) -> None:
    value["post_processor"] = None


def _bad_merge(value: dict[str, Any]) -> None:
    value["model"]["merges"].insert(3, ["q", "zzz"])


def _unknown_model(value: dict[str, Any]) -> None:
    value["model"]["type"] = "BytePairs"


def _hole(value: dict[str, Any]) -> None:
    """The ids of the vocabulary have a hole: a token was deleted by hand."""
    vocabulary = value["model"]["vocab"]
    word = next(word for word, number in vocabulary.items() if number == 120)
    del vocabulary[word]


def _in_turn_file(folder: Path) -> None:
    """chat_template.jinja of one release beside another template in tokenizer_config.json."""
    write("chat_template.jinja", "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")(folder)


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}"
STARTS = "{%- if add_generation_prompt -%}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif -%}"
FAULTS: tuple[Fault, ...] = (
    Fault("no-tokenizer-files", "llama", "tokenizer-vocabulary-missing", (remove(FAST, CONFIG, "special_tokens_map.json"),), real="transformers", follows="Couldn't instantiate the backend tokenizer"),
    Fault("tokenizer-json-is-cut-off", "qwen3", "tokenizer-file-broken", (cut(FAST, 0.5), remove("vocab.json", "merges.txt")), real="transformers", follows="json.decoder.JSONDecodeError"),
    Fault("tokenizer-json-is-an-lfs-pointer", "llama", "tokenizer-file-not-fetched", (pointer(FAST),), real="transformers", follows="expected value at line 1 column 1"),
    Fault("tokenizer-json-is-a-web-page", "deepseek", "tokenizer-file-is-web-page", (page(FAST),), real="transformers", follows="json.decoder.JSONDecodeError"),
    Fault("tokenizer-json-is-missing", "llama", "tokenizer-vocabulary-missing", (remove(FAST),), real="transformers", follows="Couldn't instantiate the backend tokenizer"),
    Fault("tokenizer-model-is-an-lfs-pointer", "llama2-chat", "tokenizer-file-not-fetched", (pointer("tokenizer.model"), remove(FAST)), real="transformers", follows="Error parsing line b'version https://git-lfs"),
    Fault("tokenizer-model-is-cut-off", "mistral", "tokenizer-file-broken", (cut("tokenizer.model", 0.5), remove(FAST)), real="transformers", follows="Error parsing line"),
    Fault("tokenizer-config-is-broken", "qwen2", "tokenizer-file-broken", (append(CONFIG, b"}"),), real="transformers", follows="json.decoder.JSONDecodeError"),
    Fault("tokenizer-config-is-missing-for-chat", "qwen2", "tokenizer-config-missing", (remove(CONFIG),), real="transformers", follows="tokenizer.chat_template is not set"),
    Fault("tokenizer-model-type-is-unknown", "llama", "tokenizer-json-not-loadable", (alter(FAST, _unknown_model),), real="transformers", follows="did not match any variant of untagged enum ModelUntagged"),
    Fault("a-merge-of-unknown-tokens", "llama", "tokenizer-json-not-loadable", (alter(FAST, _bad_merge),), real="transformers", follows="out of vocabulary"),
    Fault("vocabulary-has-a-hole", "deepseek", "bytes-missing-in-vocabulary", (alter(FAST, _hole),)),
    Fault("merges-are-missing", "qwen2", "tokenizer-merges-missing", (remove(FAST, "merges.txt"),), real="transformers", follows="must be both be from memory or both filenames"),
    Fault("tokenizer-of-a-larger-model", "llama2-chat", "special-token-outside-embedding", (bring("phi3", FAST, CONFIG, "special_tokens_map.json", "tokenizer.model"),), real="transformers", follows="IndexError: index out of range in self"),
    Fault("tokenizer-of-another-model", "qwen2", "stop-token-begins-a-text", (bring("llama", FAST, CONFIG, "special_tokens_map.json"), remove("vocab.json", "merges.txt"))),
    Fault("fast-tokenizer-of-another-model", "qwen3", "vocab-json-differs", (bring("deepseek", FAST),)),
    Fault("sentencepiece-of-another-model", "mistral", "tokenizer-model-differs", (bring("gemma3", "tokenizer.model"),)),
    Fault("a-token-beyond-the-embedding", "qwen2", "added-token-ids-shifted", (alter(FAST, _one_more),)),
    Fault("two-tokens-with-one-id", "qwen3", "added-token-ids-collide", (alter(FAST, _same_id),)),
    Fault("ids-swapped-in-the-config", "qwen2", "token-has-two-ids", (alter(CONFIG, _ids_swapped),)),
    Fault("end-of-turn-is-no-token", "qwen3-moe", "end-token-not-in-vocabulary", (alter(FAST, _not_special),)),
    Fault("eos-is-not-in-the-vocabulary", "llama", "end-token-not-in-vocabulary", (change(CONFIG, eos_token="<|im_end|>"), change("special_tokens_map.json", eos_token=...))),
    Fault("pad-is-not-in-the-vocabulary", "qwen2", "special-token-not-in-vocabulary", (change(CONFIG, pad_token="[PAD]"), change("special_tokens_map.json", pad_token="[PAD]"))),
    Fault("eos-differs-in-the-special-tokens-map", "qwen2", "end-token-named-differently", (change("special_tokens_map.json", eos_token="<|endoftext|>"),)),
    Fault("generation-does-not-stop-at-the-turn-end", "qwen2", "turn-end-not-in-generation-config", (change(GENERATION, eos_token_id=300), config(eos_token_id=300))),
    Fault("eos-of-generation-is-another-token", "llama2-chat", "stop-token-is-ordinary-text", (change(GENERATION, eos_token_id=13),)),
    Fault("turn-end-of-llama-is-not-eos", "llama", "turn-end-not-in-generation-config", (change(GENERATION, eos_token_id=301), config(eos_token_id=301))),
    Fault("bos-of-the-config-is-another-token", "llama", "special-token-id-differs-in-config", (config(bos_token_id=303), change(GENERATION, bos_token_id=303))),
    Fault("bos-is-not-put-before-a-text", "llama", "bos-not-added-to-prompts", (alter(FAST, _no_bos),)),
    Fault("bos-twice", "llama", "bos-printed-twice", (template(old="{{- bos_token }}", new="{{- bos_token + bos_token }}"),)),
    Fault("tokenizer-class-is-unknown", "qwen2", "tokenizer-class-not-in-transformers", (change(CONFIG, tokenizer_class="Qwen9Tokenizer"),)),
    Fault("model-max-length-is-a-text", "qwen2", "model-max-length-not-a-number", (change(CONFIG, model_max_length="32k"),), real="transformers", follows="not supported between instances of 'int' and 'str'"),
    Fault("padding-side-is-misspelt", "phi3", "padding-side-invalid", (change(CONFIG, padding_side="lefft"),), real="transformers", follows="Padding side should be selected"),
    Fault("template-has-an-open-block", "qwen2", "chat-template-syntax-error", (template(old="{%- endfor -%}\n{%- if add", new="{%- if add"),), real="transformers", follows="Unexpected end of template"),
    Fault("template-has-an-unknown-filter", "gemma3", "chat-template-syntax-error", (template(old="| trim", new="| strip_all"),), real="transformers", follows="No filter named"),
    Fault("template-has-an-unknown-name", "qwen3", "chat-template-fails", (template(old="message.role == 'assistant'", new="is_assistant(message)"),), real="transformers", follows="is undefined"),
    Fault("template-uses-an-unknown-tag", "mistral", "chat-template-syntax-error", (template(old="{%- for turn in turns -%}", new="{%- foreach turn in turns -%}"),), real="transformers", follows="Encountered unknown tag"),
    Fault("template-ignores-the-generation-prompt", "qwen2", "generation-prompt-ignored", (template(old=STARTS, new=""),)),
    Fault("template-always-starts-an-answer", "qwen2", "answer-always-begun", (template(old=STARTS, new="{{- '<|im_start|>assistant\\n' }}"),)),
    Fault("template-forgets-the-system-message", "phi3", "chat-template-drops-system", (template(old="{%- for message in messages -%}", new="{%- for message in messages if message['role'] != 'system' -%}"),)),
    Fault("template-forgets-earlier-turns", "phi3", "chat-template-loses-text", (template(old="in messages -%}", new="in messages[-1:] -%}"),)),
    Fault("template-of-another-model", "llama", "control-tokens-split", (template(whole=(Path(__file__).parent.parent / "templates" / "chatml.jinja").read_text(encoding="utf-8")),)),
    Fault("template-with-a-misspelt-token", "qwen2", "control-token-misspelt", (template(old="<|im_end|>", new="<|im_end>"),)),
    Fault("template-does-not-end", "qwen2", "chat-template-without-end", (template(whole=ENDLESS),)),
    Fault("template-reaches-for-attributes", "qwen2", "chat-template-fails", (template(whole="{{ messages.__class__.__mro__[1].__subclasses__() }}"),), real="transformers", follows="is unsafe"),
    Fault("two-templates-that-differ", "qwen2", "chat-templates-differ", (_in_turn_file,)),
    Fault("template-list-without-a-default", "qwen2", "chat-template-default-missing", (change(CONFIG, chat_template=[{"name": "tool_use", "template": "{{ messages[0].content }}"}]),), real="transformers", follows="multiple chat templates with no default"),
    Fault("template-file-is-an-lfs-pointer", "qwen3-moe", "tokenizer-file-not-fetched", (pointer("chat_template.jinja"),)),
    Fault("template-is-empty", "qwen3-moe", "tokenizer-file-empty", (write("chat_template.jinja", ""),), real="transformers", follows="cannot reshape tensor of 0 elements"),
    Fault("merges-have-a-broken-line", "qwen2", "tokenizer-file-broken", (remove(FAST), append("merges.txt", b"onlyone\n")), real="transformers", follows="Merges text file invalid"),
    Fault("special-tokens-map-is-broken", "qwen2", "tokenizer-spare-file-broken", (cut("special_tokens_map.json", 0.5),)),
    Fault("vocabulary-file-of-another-model", "gpt2", "bytes-missing-in-vocabulary", (bring("qwen3", "vocab.json", "merges.txt"), replace("vocab.json", '"!"', '"!!"'), remove(FAST)), chat=False),
)  # fmt: skip
