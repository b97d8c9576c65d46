"""The command that makes the tables of a training's keys: what it reads out of small sources written here."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support import ROOT

FOLDERS = (ROOT / "dataset" / "training", ROOT / "dataset" / "engines")
NAMES = (
    "source_tree",
    "parsers",
    "history",
    "read_vllm",
    "read_sglang",
    "read_others",
    "schemas",
    "read_code",
    "read_accelerate",
    "read_axolotl",
    "read_deepspeed",
    "read_frameworks",
)


@pytest.fixture(scope="module")
def read() -> dict[str, ModuleType]:
    """The modules of dataset/training, a folder of scripts and no package, with those of dataset/engines that they use."""
    sys.path[:0] = [str(folder) for folder in FOLDERS]
    try:
        found = {}
        for name in (*NAMES, "refresh"):
            path = next(folder / f"{name}.py" for folder in FOLDERS if (folder / f"{name}.py").exists())
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
            found[name] = module
        return found
    finally:
        for folder in FOLDERS:
            sys.path.remove(str(folder))
        for name in (*NAMES, "refresh"):
            sys.modules.pop(name, None)


def schema_of(read: dict[str, ModuleType], texts: dict[str, str], module: str, name: str) -> Any:
    """The schema of a class in some sources."""
    tree = read["source_tree"].Tree(texts)
    found = tree.module(module)
    return read["schemas"].Reader(tree).schema(found, found.classes[name])


DATACLASS = {
    "pkg/words.py": """
from enum import Enum
class ExplicitEnum(str, Enum): ...
class When(ExplicitEnum):
    NO = "no"
    STEPS = "steps"
""",
    "pkg/base.py": """
from dataclasses import dataclass, field
@dataclass
class Base:
    seed: int = 42
    gone: str = "x"
""",
    "pkg/arguments.py": '''
import warnings
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Optional, Union
from .base import Base
from .words import When
@dataclass
class Arguments(Base):
    """Settings."""
    _private: int = 0
    shared: ClassVar[int] = 0
    made: int = field(init=False)
    when: Union[When, str] = field(default="no", metadata={"help": "when"})
    rate: float = field(default=5e-5)
    flag: bool | None = None
    kwargs: Optional[dict] = None
    names: Optional[list[str]] = None
    kind: Literal["a", "b"] = "a"
    backend: str = field(default="x", metadata={"choices": ["x", "y"]})
    old: Optional[str] = field(default=None, metadata={"help": "Deprecated. Use `rate` instead."})
    older: bool = False
    first: int | None = None
    second: int | None = None
    def __post_init__(self):
        self.when = When(self.when)
        if self.older:
            warnings.warn("`--older` is deprecated and will be removed. Use `flag` instead", FutureWarning)
        for old, new in (("first", "second"),):
            if getattr(self, old) is not None:
                warnings.warn(f"`{old}` is deprecated, use `{new}`")
''',
}


def test_a_dataclass_gives_its_keys_types_choices_and_what_it_calls_deprecated(read: dict[str, ModuleType]) -> None:
    """Those of its base too; what is private, no field, or not to be given is no key."""
    schema = schema_of(read, DATACLASS, "pkg.arguments", "Arguments")
    fields = schema.fields
    assert set(fields) == {"seed", "gone", "when", "rate", "flag", "kwargs", "names", "kind", "backend", "old", "older", "first", "second"}  # fmt: skip
    assert {key: fields[key].type for key in ("seed", "rate", "flag", "kwargs", "names", "when")} == {
        "seed": "number", "rate": "number", "flag": "flag?", "kwargs": "mapping?", "names": "list?", "when": "text",
    }  # fmt: skip
    assert (fields["when"].choices, fields["when"].checked) == (("no", "steps"), "always")
    assert (fields["backend"].choices, fields["backend"].checked) == (("x", "y"), "parser")
    assert fields["kind"].choices == ("a", "b")
    assert [(key, field.instead) for key, field in fields.items() if field.deprecated] == [("old", "rate"), ("older", "flag"), ("first", "second")]  # fmt: skip
    assert (fields["seed"].default, fields["rate"].default, fields["flag"].default) == (42, 5e-5, None)


PYDANTIC = {
    "pkg/models.py": """
from typing import Annotated, Literal
from pydantic import BaseModel, BeforeValidator, Field, field_validator
class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    stage: Literal[0, 1] = 0
class Model(BaseModel):
    model_config = {"populate_by_name": True}
    inner: Inner | None = None
    renamed: str = Field(default="a", alias="written")
    size: Annotated[Literal["s", "m"], BeforeValidator(str.lower)] = "s"
    prepared: Literal["x", "y"] = "x"
    plain: Literal["x", "y"] = "x"
    old: int = Field(0, deprecated=True, new_param="plain")
    @field_validator("prepared", mode="before")
    @classmethod
    def prepare(cls, value):
        return value
    @field_validator("plain")
    @classmethod
    @field_validator("max_packed", mode="before")
    def refuse(cls, value):
        if value:
            raise ValueError("`plain` is deprecated")
        return value
""",
}


def test_a_pydantic_model_gives_its_aliases_inner_models_and_what_it_does_with_others(
    read: dict[str, ModuleType],
) -> None:
    """Values that a validator changes first are not held to the choices."""
    model = schema_of(read, PYDANTIC, "pkg.models", "Model")
    assert {"written", "renamed"} <= set(model.fields)
    assert (model.fields["inner"].schema, model.fields["inner"].type) == ("Inner", "mapping?")
    assert [key for key, field in model.fields.items() if field.choices] == ["plain"]
    assert (model.fields["old"].deprecated, model.fields["old"].instead) == (True, "plain")
    assert (model.fields["plain"].deprecated, model.fields["plain"].refused) == (True, True)
    assert schema_of(read, PYDANTIC, "pkg.models", "Inner").unknown == "refuses"


def test_the_parameters_of_a_class_are_keys_where_it_has_no_fields(read: dict[str, ModuleType]) -> None:
    """As quantization configs are written; with `**kwargs` others are passed over."""
    text = """
from enum import Enum
class BitsConfig:
    def __init__(self, load_in_4bit=False, kind: str = "fp4", **kwargs): ...
class StrictConfig:
    def __init__(self, bits: int): ...
"""
    found = read["read_frameworks"].transformers(
        read["source_tree"].Tree({"transformers/utils/quantization_config.py": text})
    )
    assert set(found["BitsConfig"].fields) == {"load_in_4bit", "kind"}
    assert (found["BitsConfig"].unknown, found["StrictConfig"].unknown) == ("ignores", "refuses")


def test_deepspeeds_keys_are_those_that_its_code_reads(read: dict[str, ModuleType]) -> None:
    """Through constants that come by `import *`; blocks that are models bring their own keys, removed ones are refused."""
    texts = {
        "deepspeed/runtime/constants.py": 'ZERO_STEPS = "steps_per_print"\nTRAIN_BATCH_SIZE = "train_batch_size"\nSOMETHING = "of_a_block"\nOPTIMIZER = "optimizer"\nTYPE = "type"\nOPTIMIZER_PARAMS = "params"\n',
        "deepspeed/runtime/config.py": '''
from .constants import *
from .zero.config import get_zero_config
_REMOVED_TOP_LEVEL_CONFIG_KEYS = {"amp": "gone"}
def get_batch(param_dict):
    return get_scalar_param(param_dict, TRAIN_BATCH_SIZE, None)
def get_steps(param_dict):
    if ZERO_STEPS in param_dict:
        return param_dict[ZERO_STEPS]
def get_block(param_dict):
    return param_dict.get("flops", {})
''',
        "deepspeed/runtime/zero/config.py": '''
from deepspeed.runtime.config_utils import DeepSpeedConfigModel
class DeepSpeedZeroConfig(DeepSpeedConfigModel):
    stage: int = 0
    cpu_offload: bool = Field(None, json_schema_extra={"deprecated": True, "new_param": "offload_optimizer"})
''',
        "deepspeed/runtime/config_utils.py": '''
class DeepSpeedConfigModel(BaseModel):
    model_config = ConfigDict(extra="forbid")
''',
    }  # fmt: skip
    found = read["read_frameworks"].deepspeed(read["source_tree"].Tree(texts))
    top = found["deepspeed"].fields
    assert {"train_batch_size", "steps_per_print", "flops", "amp", "zero_optimization", "optimizer"} <= set(top)
    assert (top["of_a_block"].loose, top["flops"].loose) == (True, False)
    assert top["amp"].refused
    assert (found["deepspeed"].unknown, found["DeepSpeedZeroConfig"].unknown) == ("ignores", "refuses")
    assert found["DeepSpeedZeroConfig"].fields["cpu_offload"].instead == "offload_optimizer"
    assert set(found["Optimizer"].fields) == {"type", "params"}


def test_accelerates_mappings_know_what_its_launcher_names(read: dict[str, ModuleType]) -> None:
    """And its YAML the fields of ClusterConfig, with old keys that are converted; a comment names nothing."""
    texts = {
        "accelerate/commands/config/config_args.py": '''
class BaseConfig:
    compute_environment: str
    def process_config(config_dict):
        if "fp16" in config_dict:
            del config_dict["fp16"]
class ClusterConfig(BaseConfig):
    num_processes: int = -1
    fsdp_config: dict = None
''',
        "accelerate/commands/launch.py": 'parser.add_argument("--fsdp_version")\n# args.fsdp_x is made of it\nparser.add_argument("--zero_stage")\n',
        "accelerate/utils/launch.py": 'env["A"] = args.fsdp_offload_params\n',
    }  # fmt: skip
    found = read["read_frameworks"].accelerate(read["source_tree"].Tree(texts))
    assert set(found["accelerate"].fields) == {"compute_environment", "num_processes", "fsdp_config", "fp16"}
    assert set(found["fsdp_config"].fields) == {"fsdp_version", "fsdp_offload_params"}
    assert set(found["deepspeed_config"].fields) == {"zero_stage"}
    assert (found["accelerate"].unknown, found["fsdp_config"].unknown) == ("refuses", "ignores")


def test_llamafactorys_classes_are_one_and_inherit_the_trainers(read: dict[str, ModuleType]) -> None:
    """What it asserts of a value is a choice."""
    texts = {
        "llamafactory/hparams/model_args.py": '@dataclass\nclass ModelArguments:\n    model: str = "x"\n',
        "llamafactory/hparams/training_args.py": """
from transformers import Seq2SeqTrainingArguments
@dataclass
class TrainingArguments(Seq2SeqTrainingArguments):
    kind: str = "lora"
    def __post_init__(self):
        assert self.kind in ["lora", "full"], "Invalid"
""",
    }
    found = read["read_frameworks"].llamafactory(read["source_tree"].Tree(texts))["llamafactory"]
    assert (set(found.fields), found.base) == ({"model", "kind"}, "transformers.Seq2SeqTrainingArguments")
    assert found.fields["kind"].choices == ("lora", "full")


def test_releases_become_spans(read: dict[str, ModuleType]) -> None:
    """Of keys, types, choices and marks; a table is text with a key a line, and reads back."""
    field, schema, release = read["schemas"].Field, read["schemas"].Schema, read["refresh"].Release
    table = read["refresh"].document(
        "trl",
        "x",
        [
            release("1.0", "2024-01-01", {"A": schema("A", {"old": field("old"), "k": field("k", "number")})}),
            release("1.1", "2024-02-01", {"A": schema("A", {"k": field("k", "number?", deprecated=True), "c": field("c", "text", ("x",), "always")})}),
            release("1.2", "2024-03-01", {"A": schema("A", {"k": field("k", "number?"), "c": field("c", "text", ("x", "y"), "always")}, unknown="ignores")}),
        ],
    )  # fmt: skip
    keys = table["classes"]["A"]["keys"]
    assert keys["old"] == {"in": ":1.0"}
    assert keys["k"] == {"type": "number?", "was": {"number": ":1.0"}, "deprecated": "1.1:1.1"}
    assert keys["c"] == {"in": "1.1:", "type": "text", "choices": {"x": "", "y": "1.2:"}}
    assert table["classes"]["A"]["unknown"] == {"refuses": ":1.1", "ignores": "1.2:"}
    assert json.loads(read["refresh"].text_of(table)) == table


AXOLOTL = {
    "axolotl/utils/schemas/config.py": """
from pydantic import BaseModel
from .parts import LoraConfig, DeprecatedParameters
class AxolotlInputConfig(LoraConfig, DeprecatedParameters):
    base_model: str
    inner: LoraConfig | None = None
    def check(cls, data):
        return data.get("read_by_a_validator")
""",
    "axolotl/utils/schemas/parts.py": """
from pydantic import BaseModel
class LoraConfig(BaseModel):
    lora_r: int | None = None
class DeprecatedParameters(BaseModel):
    max_packed: int | None = None
    noisy: bool | None = None
    @field_validator("max_packed", mode="before")
    def refuse(cls, value):
        raise DeprecationWarning("`max_packed` is gone, use `pack_length` instead")
    @field_validator("noisy")
    def warn(cls, value):
        LOG.warning("noisy is deprecated")
""",
    "axolotl/integrations/kernels/args.py": """
from pydantic import BaseModel
class KernelArgs(BaseModel):
    use_kernels: bool | None = None
""",
    "axolotl/train.py": "def train(cfg):\n    return cfg.read_by_code\n",
}


def test_axolotls_keys_are_those_of_its_models_plugins_and_code(read: dict[str, ModuleType]) -> None:
    """Old ones are refused where their validator raises, with what it tells to use; others are warned of."""
    found = read["read_axolotl"].axolotl(read["source_tree"].Tree(AXOLOTL))
    fields = found["axolotl"].fields
    assert {"base_model", "lora_r", "read_by_a_validator", "use_kernels", "read_by_code"} <= set(fields)
    assert fields["read_by_code"].loose
    old = {key: (field.refused, field.instead) for key, field in fields.items() if field.deprecated}
    assert old == {"max_packed": (True, "pack_length"), "noisy": (False, "")}
    assert set(found["LoraConfig"].fields) == {"lora_r"}


def test_check_says_what_would_change_and_writes_nothing(
    read: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends with 1; an index that does not answer ends with 2."""
    refresh = read["refresh"]
    monkeypatch.setattr(refresh, "FOLDER", tmp_path)
    monkeypatch.setattr(refresh.index, "page_of", lambda name: {"files": []})
    assert refresh.main(["peft", "--check"]) == 1
    assert capsys.readouterr().out == "peft.json: 0 releases, would change\n"
    assert not list(tmp_path.iterdir())
    assert refresh.main(["peft"]) == 0
    assert refresh.main(["peft", "--check"]) == 0

    def silent(name: str) -> None:
        raise refresh.index.RefreshError("timed out")

    monkeypatch.setattr(refresh.index, "page_of", silent)
    assert refresh.main(["peft"]) == 2
    assert capsys.readouterr().err == "peft: timed out\n"
