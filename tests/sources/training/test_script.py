"""A script's literals are read, what it computes is not, and nothing of it is run."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.sources.training import script
from diagnose.sources.training.script import Script
from tests.sources.training.reading import facts, owners, values


def read(text: str) -> Script:
    return script.read(textwrap.dedent(text).encode(), "train.py")


def told(text: str) -> dict[str, object]:
    return values(read(text).parsed)


def test_arguments_have_the_place_of_their_keyword() -> None:
    """Line and column of the name, not of the call."""
    found = facts(
        read(
            """\
            from trl import SFTConfig
            args = SFTConfig(
                output_dir="out",
                learning_rate=2e-4,
            )
            """
        ).parsed
    )
    rate = found["training.learning_rate"]
    assert (rate.value, rate.line, rate.column, rate.key) == (2e-4, 4, 5, "learning_rate")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("LR = 1e-4\nTrainingArguments('o', learning_rate=LR)", 1e-4),
        ("def f():\n    lr = 1e-4\n    TrainingArguments('o', learning_rate=lr)", 1e-4),
        ("K = dict(learning_rate=1e-4)\nTrainingArguments('o', **K)", 1e-4),
        ("K = {'learning_rate': 1e-4, **{'seed': 1}}\nTrainingArguments('o', **K)", 1e-4),
        ("a = TrainingArguments('o', learning_rate=1)\na.learning_rate = 1e-4", 1e-4),
        ("LR: float = 1e-4\ntransformers.TrainingArguments('o', learning_rate=LR)", 1e-4),
    ],
)
def test_constants_and_literal_mappings_are_followed(text: str, value: float) -> None:
    """A name that is given one literal, once, stands for it."""
    assert told(text)["training.learning_rate"] == value


@pytest.mark.parametrize(
    "text",
    [
        "LR = 1e-4\nLR = 2e-4\nTrainingArguments('o', learning_rate=LR)",
        "LR = 1e-4\nLR *= 2\nTrainingArguments('o', learning_rate=LR)",
        "def f(lr=1e-4):\n    TrainingArguments('o', learning_rate=lr)",
        "lr = 1e-4\ndef f(lr):\n    TrainingArguments('o', learning_rate=lr)",
        "TrainingArguments('o', learning_rate=float('1e-4'))",
        "TrainingArguments('o', learning_rate=1e-4 * 2)",
        "for lr in (1, 2):\n    TrainingArguments('o', learning_rate=lr)",
        "a = TrainingArguments('o', learning_rate=1e-4)\na.learning_rate = other()",
        "class TrainingArguments: pass\nTrainingArguments('o', learning_rate=1e-4)",
    ],
)
def test_what_is_computed_or_changed_is_not_known(text: str) -> None:
    """Nothing is told where the value at that place is not certain."""
    assert "training.learning_rate" not in told(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("from setfit import TrainingArguments\nTrainingArguments(output_dir='o', body_learning_rate=1e-5)", "body_learning_rate"),
        ("from .training_args import TrainingArguments\nTrainingArguments(num_epochs=1)", "num_epochs"),
        ("from .grpo_config import GRPOConfig\nGRPOConfig(max_seq_len=1)", "max_seq_len"),
        ("from swift.tuners import LoraConfig\nLoraConfig(r=8, lora_dtype='bfloat16')", "lora_dtype"),
        ("from unsloth import FastLanguageModel\nfrom trl import SFTConfig\nSFTConfig(max_seq_length=9)", "max_seq_length"),
        ("import unsloth\nfrom trl import GRPOConfig\nGRPOConfig(vllm_sampling_params=f())", "vllm_sampling_params"),
    ],
)  # fmt: skip
def test_classes_of_other_packages_and_what_unsloth_adds_are_not_judged(text: str, key: str) -> None:
    """A class of the same name elsewhere has arguments of its own, and Unsloth gives TRL's classes more."""
    assert owners(read(text).parsed).get(key, "unknown") == "unknown"


def test_of_several_models_in_a_script_none_is_the_one_that_a_collator_is_for() -> None:
    """A tutorial trains a causal model, and then a masked one."""
    one = "from transformers import *\nimport transformers\nAutoModelForCausalLM.from_pretrained('a')\n"
    masks = "transformers.DataCollatorForLanguageModeling(tokenizer=tokenizer)\n"
    assert told(one + masks)["training.collator_masks"] is True
    other = "AutoModelForMaskedLM.from_pretrained('a')\n"
    assert "training.collator_masks" not in told(one + other + masks)


def test_an_evaluator_evaluates_without_a_data_set() -> None:
    """Sentence Transformers' trainer takes either."""
    assert told("SentenceTransformerTrainer(model=m, train_dataset=d, evaluator=e)")["training.eval_data"] is True


def test_unsloth_leaves_the_other_arguments_of_trl_as_they_are() -> None:
    """Without Unsloth, and for any other argument, the class takes what it takes."""
    text = "from trl import SFTConfig\nSFTConfig(max_seq_length=9, learnig_rate=1)"
    assert set(owners(read(text).parsed).values()) == {"trl.SFTConfig"}
    patched = read("import unsloth\n" + text).parsed
    assert owners(patched) == {"max_seq_length": "unknown", "learnig_rate": "trl.SFTConfig"}
    assert values(patched)["training.max_length"] == 9


def test_a_class_under_another_name_is_known() -> None:
    """By its import, or by what it inherits from; the heir may have arguments of its own."""
    found = read("from transformers import TrainingArguments as TA\nTA('o', seed=3, learning_rte=1)").parsed
    assert owners(found)["learning_rte"] == "transformers.TrainingArguments"
    heir = read("class Mine(TrainingArguments):\n    x: int = 1\nMine('o', seed=3, wholly_mine=1)").parsed
    assert owners(heir)["seed"] == "transformers.TrainingArguments"
    assert owners(heir)["wholly_mine"] == "unknown"


def test_model_adapter_and_quantization_are_read() -> None:
    """The calls that a QLoRA script consists of."""
    found = told(
        """\
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
        from peft import LoraConfig
        NAME = "org/model"
        bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
        model = AutoModelForCausalLM.from_pretrained(NAME, quantization_config=bnb, torch_dtype=torch.float16,
                                                     attn_implementation="sdpa", device_map="auto")
        ref_model = AutoModelForCausalLM.from_pretrained("org/reference")
        tokenizer = AutoTokenizer.from_pretrained("org/other")
        tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"
        model.config.use_cache = False
        peft = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
        """
    )
    assert found["training.model"] == "org/model"
    assert found["training.reference_model"] == "org/reference"
    assert found["training.tokenizer"] == "org/other"
    assert found["training.load_dtype"] == "float16"
    assert found["training.attention"] == "sdpa"
    assert found["training.device_map"] == "auto"
    assert found["training.quantization"] == "4bit"
    assert found["training.quantization_compute"] == "bfloat16"
    assert found["training.lora.rank"] == 8
    assert found["training.pad_is_eos"] is True
    assert found["training.padding_side"] == "left"
    assert found["training.use_cache"] is False


def test_tokens_that_are_added_are_counted() -> None:
    """And that nothing resizes the embeddings is told only where nothing else could do it."""
    alone = told("from transformers import AutoTokenizer\nt.add_tokens(['<a>', '<b>'])")
    assert (alone["training.new_tokens"], alone["training.resize_embeddings"]) == (2, False)
    resized = told("t.add_special_tokens({'pad_token': '<p>'})\nm.resize_token_embeddings(len(t))")
    assert (resized["training.pad_token"], resized["training.resize_embeddings"]) == ("<p>", True)
    assert "training.resize_embeddings" not in told("from mine import prepare\nt.add_tokens(['<a>'])")


def test_what_a_trainer_is_given_is_told() -> None:
    """Data for evaluation, early stopping, who makes batches, where it goes on from."""
    found = told(
        """\
        from transformers import Trainer, DataCollatorForLanguageModeling, EarlyStoppingCallback
        trainer = Trainer(model=m, args=a, train_dataset=d, callbacks=[EarlyStoppingCallback(3)],
                          data_collator=DataCollatorForLanguageModeling(t))
        trainer.train(resume_from_checkpoint=True)
        """
    )
    assert found["training.eval_data"] is False
    assert found["training.early_stopping"] == 3
    assert found["training.collator_masks"] is True
    assert found["training.resume"] == "newest"
    assert told("SFTTrainer(model='org/m', eval_dataset=d)")["training.eval_data"] is True
    assert "training.eval_data" not in told("Trainer(model=m, **more)")


def test_data_files_are_referred_to() -> None:
    """Those of a builder, each with its role; a data set of the Hub is no file."""
    found = read("load_dataset('json', data_files={'train': 'a.jsonl', 'test': 'b.jsonl'})\nload_dataset('org/d')")
    assert [item.path for item in found.parsed.refers] == ["a.jsonl", "b.jsonl"]
    assert values(found.parsed)["training.dataset.1.role"] == "eval"
    assert values(found.parsed)["training.dataset.2.path"] == "org/d"


def test_what_the_arguments_are_parsed_into_is_told() -> None:
    """Classes of a parser, the fields of the script's own, and whether that is all."""
    found = read(
        """\
        @dataclass
        class Mine:
            my_flag: int = 3
        parser = HfArgumentParser((Mine, TrainingArguments))
        """
    )
    assert found.parser == ("transformers.TrainingArguments",)
    assert found.fields == {"my_flag"}
    assert found.closed
    assert not read("parser = HfArgumentParser((Other, TrainingArguments))").closed
    assert read("p.add_argument('--batch-size', type=int)").fields == {"batch_size"}


def test_a_syntax_error_has_its_line() -> None:
    """The script is told to be none, with the place."""
    found = read("a = 1\ndef f(:\n")
    assert found.line == 2
    assert "not Python" in found.problem


def test_nothing_is_run(tmp_path: object) -> None:
    """A script that would end the process is read like any other."""
    assert told("import os\nos._exit(3)\nTrainingArguments('o', seed=1)")["training.seed"] == 1


@pytest.mark.parametrize(
    "text", ["x = " + "1+" * 20_000 + "1", "(" * 500, "x\0y", "\ufeffa = 1", "a" * 100_000, "f(" * 90 + ")" * 90]
)
def test_odd_scripts_are_bounded(text: str) -> None:
    """Deep, broken and long texts end with an answer."""
    read(text)


@given(st.text(alphabet="abfLR=1()[]{}:,.'\"*\n +-#", max_size=80))
def test_no_text_raises(text: str) -> None:
    """Whatever stands in a script."""
    script.read(text.encode(), "x.py")


@given(st.binary(max_size=80))
def test_no_bytes_raise(data: bytes) -> None:
    """Also what is no text."""
    script.read(data, "x.py")


def test_arguments_of_a_trainer_are_the_trainer_s() -> None:
    """By their names, also where their values are computed; Unsloth's trainers take more than TRL's do."""
    text = "from trl import SFTTrainer\nSFTTrainer(m, tokenizer=t, packing=True)\n"
    assert owners(read(text).parsed)["tokenizer"] == owners(read(text).parsed)["packing"] == "trl.SFTTrainer"
    assert owners(read("from unsloth import FastLanguageModel\n" + text).parsed)["tokenizer"] == "unknown"


def test_computed_arguments_have_their_names() -> None:
    """A misspelt name is one whatever its value."""
    found = {item.key: item for item in read("SFTConfig('o', learning_rte=args.lr)").parsed.settings}
    assert found["learning_rte"].owner == "trl.SFTConfig"
    assert found["learning_rte"].line == 1


def test_of_two_configurations_none_is_made_a_mixture() -> None:
    """A script that trains in two ways tells what holds for the first; the names of both are looked at."""
    found = read(
        "SFTConfig('o', packing=True, learning_rate=1e-4)\nDPOConfig('o', beta=0.1, learning_rate=1e-6, seed=1)"
    )
    assert values(found.parsed)["training.learning_rate"] == 1e-4
    assert not {"training.beta", "training.seed"} & set(values(found.parsed))
    assert owners(found.parsed)["beta"] == "trl.DPOConfig"


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("from trl import SFTTrainer\nSFTTrainer('m', train_dataset=d)", "full"),
        ("from trl import SFTTrainer\nSFTTrainer('m', peft_config=make())", None),
        ("from trl import SFTTrainer\nfrom mine import model\nSFTTrainer(model)", None),
        ("from trl import SFTTrainer\nimport peft\nSFTTrainer('m')", None),
        ("from trl import SFTTrainer\nfor p in m.parameters():\n    p.requires_grad = False\nSFTTrainer(m)", None),
        ("from trl import SFTTrainer\nSFTTrainer('m', peft_config=LoraConfig(r=8))", "lora"),
    ],
)
def test_all_weights_are_trained_only_where_the_script_is_seen_whole(text: str, method: str | None) -> None:
    """Nothing that it imports may make an adapter, and nothing is frozen."""
    assert told(text).get("training.method") == method
