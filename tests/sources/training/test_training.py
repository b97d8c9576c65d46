"""Files, commands and scripts of one training come together: references, precedence, numbering, and what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.model import Unchecked
from diagnose.sources import launch, training
from tests.sources.training.reading import command, named, owner_of, read

SFT = "model_name_or_path: org/m\noutput_dir: out\npacking: true\nlearning_rate: 2.0e-5\nlora_r: 8\n"


def test_files_that_settings_name_are_read(tmp_path: Path) -> None:
    """From the working folder, or else from the folder of the file that names them."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "t.yaml").write_text("output_dir: o\nnum_train_epochs: 1\ndeepspeed: ds.json\n")
    (tmp_path / "conf" / "ds.json").write_text('{"zero_optimization": {"stage": 3}}')
    found = read(tmp_path, "conf/t.yaml")
    assert found["zero.stage"].value == 3
    assert found["training.file.1.kind"].value == "deepspeed"
    named = found["training.file.1.named_by"]
    assert (named.value, named.origin, named.line) == ("deepspeed", "conf/t.yaml", 3)


def test_a_file_that_is_named_and_not_there_is_told_at_the_setting(tmp_path: Path) -> None:
    """That is a fact; what the user named himself is bad input."""
    (tmp_path / "t.yaml").write_text("output_dir: o\nnum_train_epochs: 1\ndeepspeed: ds.json\n")
    problem = read(tmp_path, "t.yaml")["training.file.1.problem"]
    assert (problem.value, problem.origin, problem.line, problem.key) == ("missing", "t.yaml", 3, "deepspeed")
    readings = list(training.read(["no.yaml"], {}, str(tmp_path)))
    assert [item.what for item in readings if isinstance(item, Unchecked)] == ["training configuration"]


@pytest.mark.parametrize("starter", [("torchrun", "-m"), ("python", "-m"), ("deepspeed", "--module")])
def test_a_module_that_is_not_here_may_be_one_that_is_installed(tmp_path: Path, starter: tuple[str, ...]) -> None:
    """`-m a.b` is looked for where Python's packages are too; only a script has to lie where it is named."""
    found = command(tmp_path, *starter, "pack.sft", "--learning_rate", "1e-5")
    assert "training.file.0.problem" not in found
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "sft.py").write_text(
        "from transformers import TrainingArguments\nTrainingArguments('o', bf16=True)\n"
    )
    assert command(tmp_path, *starter, "pack.sft", "--x", "1")["training.script"].value == "pack/sft.py"
    assert command(tmp_path, "python", "sft.py", "--x", "1")["training.file.0.problem"].value == "missing"


def test_files_that_name_each_other_end(tmp_path: Path) -> None:
    """Each file is read once."""
    (tmp_path / "a.yaml").write_text("output_dir: o\nnum_train_epochs: 1\ndeepspeed: a.yaml\n")
    assert "training.file.1.path" not in read(tmp_path, "a.yaml", "./a.yaml")


def test_the_trainer_s_word_goes_before_the_launcher_s(tmp_path: Path) -> None:
    """Settings are numbered over all files; of two that say a thing the one counts that the framework takes."""
    (tmp_path / "acc.yaml").write_text("distributed_type: MULTI_GPU\nnum_processes: 2\nmixed_precision: fp16\n")
    (tmp_path / "t.yaml").write_text("output_dir: o\nnum_train_epochs: 1\nbf16: true\n")
    found = read(tmp_path, "acc.yaml", "t.yaml")
    assert found["training.precision"].value == "bf16"
    numbers = {int(name.split(".")[2]) for name in found if name.startswith("training.given.")}
    assert numbers == set(range(len(numbers)))


def test_lora_on_four_bits_is_qlora(tmp_path: Path) -> None:
    """Wherever each is set."""
    (tmp_path / "l.yaml").write_text("peft_type: LORA\nr: 8\n")
    (tmp_path / "q.yaml").write_text("load_in_4bit: true\n")
    assert read(tmp_path, "l.yaml", "q.yaml")["training.method"].value == "qlora"


def test_a_placeholder_is_told_and_no_value(tmp_path: Path) -> None:
    """Nothing is known of a value that somebody has yet to fill in."""
    (tmp_path / "t.yaml").write_text("output_dir: ${OUT}\nnum_train_epochs: 1\n")
    found = read(tmp_path, "t.yaml")
    assert found["training.file.0.placeholder"].key == "output_dir"
    assert "training.output" not in found


@pytest.mark.parametrize("text", ["output_dir: ${paths.out}\nnum_train_epochs: 1\n", "mine: ${X}\nother: 1\n"])
def test_what_a_program_of_ones_own_may_fill_in_is_no_placeholder(tmp_path: Path, text: str) -> None:
    """Hydra's interpolation names another key; of a file of unknown kind nobody knows who reads it."""
    (tmp_path / "t.yaml").write_text(text)
    assert "training.file.0.placeholder" not in read(tmp_path, "t.yaml")


def test_a_file_of_another_kind_than_wanted_is_told(tmp_path: Path) -> None:
    """accelerate's YAML where DeepSpeed's JSON is wanted."""
    (tmp_path / "t.yaml").write_text("output_dir: o\nnum_train_epochs: 1\ndeepspeed: a.yaml\n")
    (tmp_path / "a.yaml").write_text("distributed_type: DEEPSPEED\nnum_processes: 2\n")
    assert read(tmp_path, "t.yaml")["training.file.1.looks_like"].value == "accelerate"


@pytest.mark.parametrize(
    "words",
    [
        ("python", "train.py", "--learning_rate", "1e-3"),
        ("torchrun", "--nproc_per_node", "2", "train.py", "--learning-rate=1e-3"),
        ("accelerate", "launch", "train.py", "--learning_rate", "1e-3"),
        ("deepspeed", "train.py", "--learning_rate", "1e-3"),
        ("env", "A=1", "nohup", "python", "-u", "train.py", "--learning_rate", "1e-3"),
        ("bash", "-c", "cd x && python train.py --learning_rate 1e-3"),
        ("python -m pip list\nCUDA_VISIBLE_DEVICES=0 python train.py \\\n  --learning_rate 1e-3",),
    ],
)
def test_a_script_s_arguments_are_settings(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Through whatever starts it; they go before the script's own literals."""
    (tmp_path / "train.py").write_text("from trl import SFTConfig\nSFTConfig('o', learning_rate=1, packing=True)\n")
    found = command(tmp_path, *words)
    assert found["training.command_kind"].value == "script"
    rate = found["training.learning_rate"]
    assert (rate.value, rate.origin) == (1e-3, "command line")
    assert found["training.script"].value == "train.py"
    assert found["training.packing"].origin == "train.py"


def test_the_arguments_of_trl_go_over_its_configuration(tmp_path: Path) -> None:
    """Each value has the place where it was given."""
    (tmp_path / "sft.yaml").write_text(SFT)
    found = command(
        tmp_path, "trl", "sft", "--config", "sft.yaml", "--learning_rate", "1e-4", "--num_processes", "2", "--foo", "1"
    )
    rate = found["training.learning_rate"]
    assert (rate.value, rate.origin, rate.key) == (1e-4, "command line", "--learning_rate")
    assert found["training.output"].origin == "sft.yaml"
    assert found["training.lora.unused"].key == "lora_r"
    assert owner_of(found, "num_processes") == "unknown", "accelerate's own option"
    assert owner_of(found, "foo") == "trl.SFTConfig"


def test_keys_are_the_class_s_where_the_script_tells_its_parser(tmp_path: Path) -> None:
    """A script's own arguments are nobody's."""
    (tmp_path / "hf.py").write_text(
        "@dataclass\nclass Mine:\n    my_flag: int = 1\nHfArgumentParser((Mine, TrainingArguments))\n"
    )
    found = command(tmp_path, "python", "hf.py", "--my_flag", "2", "--nothing_like_it", "3", "--bf16")
    assert owner_of(found, "my_flag") == "unknown"
    assert owner_of(found, "nothing_like_it") == owner_of(found, "bf16") == "transformers.TrainingArguments"
    assert found["training.bf16"].value is True


def test_arguments_of_a_script_that_is_not_known_are_nobody_s(tmp_path: Path) -> None:
    """They are understood by their names, and no class is held to them."""
    (tmp_path / "own.py").write_text("import argparse\n")
    found = command(tmp_path, "python", "own.py", "--learning_rate", "3e-4", "--evaluation_strategy", "steps")
    assert owner_of(found, "evaluation_strategy") == "unknown"
    assert found["training.learning_rate"].value == 3e-4


@pytest.mark.parametrize(
    ("words", "kind", "name", "value"),
    [
        (("axolotl", "train", "ax.yaml", "--learning-rate", "1e-5"), "axolotl", "training.learning_rate", 1e-5),
        (("accelerate", "launch", "-m", "axolotl.cli.train", "ax.yaml"), "axolotl", "training.learning_rate", 0.1),
        (
            ("llamafactory-cli", "train", "lf.yaml", "learning_rate=1e-5"),
            "llamafactory",
            "training.learning_rate",
            1e-5,
        ),
        (("python", "-m", "trl.scripts.sft", "--config", "sft.yaml"), "trl", "training.learning_rate", 2e-5),
    ],
)
def test_each_framework_s_command_is_known(
    tmp_path: Path, words: tuple[str, ...], kind: str, name: str, value: float
) -> None:
    """With its configuration, and what is given beside that."""
    (tmp_path / "sft.yaml").write_text(SFT)
    (tmp_path / "ax.yaml").write_text("base_model: org/m\nadapter: lora\nlearning_rate: 0.1\nmicro_batch_size: 1\ndatasets: [{path: d, type: alpaca}]\n")  # fmt: skip
    (tmp_path / "lf.yaml").write_text("model_name_or_path: org/m\nstage: sft\nfinetuning_type: lora\ntemplate: qwen\nlearning_rate: 0.1\n")  # fmt: skip
    found = command(tmp_path, *words)
    assert found["training.command_kind"].value == kind
    assert found[name].value == value


def test_words_with_several_values_and_json_are_taken_apart(tmp_path: Path) -> None:
    """`--lora_target_modules q v`, and a mapping in quotes."""
    found = command(tmp_path, "python", "x.py", "--lora_target_modules", "q", "v", "--model_init_kwargs", '{"dtype": "bfloat16"}', "--no_dataloader_pin_memory")  # fmt: skip
    assert found["training.lora.targets"].value == "q,v"
    assert found["training.load_dtype"].value == "bfloat16"
    assert found["training.pin_memory"].value is False


def test_a_secret_on_the_command_line_is_not_told(tmp_path: Path) -> None:
    """Only that it is set."""
    found = command(tmp_path, "python", "x.py", "--hub_token", "hf_abcdefghijklmnopqrst")
    assert all("abcdefghijklmnop" not in str(fact.value) for fact in found.values())
    assert found["training.hub_token"].value is True


def test_a_script_that_is_not_there_is_told(tmp_path: Path) -> None:
    """At the command."""
    found = command(tmp_path, "python", "gone.py", "--x", "1")
    assert (found["training.file.0.problem"].value, found["training.file.0.by"].value) == ("missing", "command")


def test_what_is_no_training_is_not_made_one(tmp_path: Path) -> None:
    """`trl env`, `python -c`, and other programs."""
    for words in (("trl", "env"), ("python", "-c", "1"), ("make", "all"), ("python", "-m", "http server")):
        assert "training.command" not in command(tmp_path, *words)


@pytest.mark.parametrize("words", [("bash", "run.sh"), ("bash", "-x", "run.sh"), ("./run.sh",), ("sbatch", "run.sh")])
def test_a_shell_script_s_training_has_its_places_there(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The last training in it, with the line of each argument."""
    (tmp_path / "run.sh").write_text(
        "#!/bin/bash\npython prepare.py\nLR=1e-4\npython train.py \\\n  --learning_rate $LR\n"
    )
    rate = command(tmp_path, *words)["training.learning_rate"]
    assert (rate.value, rate.origin.removeprefix("./"), rate.line) == (1e-4, "run.sh", 5)


_WORDS = st.sampled_from(
    ["python", "trl", "sft", "axolotl", "train", "tune", "run", "llamafactory-cli", "torchrun", "accelerate", "launch", "bash", "-c",
     "-m", "--config", "x.yaml", "x.py", "a=1", "a.b.c=[1,2]", "--bf16", "--learning_rate", "1e-5", "--lora_target_modules", "{", '{"a": [1]}',
     "[", "--", "--no_x", "--=", "=", "", "--nproc_per_node", "2", "recipe", "--fsdp", "full_shard", "--deepspeed", "{}", "\u2014x", "$X", "'"]
)  # fmt: skip


@given(st.lists(_WORDS, max_size=10))
def test_no_command_raises(words: list[str]) -> None:
    """Whatever words stand in it, it is read or passed over."""
    command(Path("/nowhere"), *words)


def test_files_in_a_container_are_not_looked_for(tmp_path: Path) -> None:
    """The arguments are settings all the same."""
    launched = named(list(launch.read(["docker", "run", "--gpus", "all", "pytorch/pytorch", "python", "train.py", "--bf16"], [], {}, str(tmp_path))))  # fmt: skip
    readings = list(training.read([], {}, str(tmp_path), launched))
    assert [item.what for item in readings if isinstance(item, Unchecked)] == ["the training's settings"]
    assert named(readings)["training.bf16"].value is True
    assert "training.file.0.path" not in named(readings)
