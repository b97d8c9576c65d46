"""What the names in a script are at home: classes and functions of libraries, by its imports and by what its own classes inherit."""

from __future__ import annotations

import sys

from diagnose.sources.settings import words
from diagnose.sources.training import classes, literals, quantization
from diagnose.sources.training.literals import Text

_LIBRARIES = words(
    """
    torch transformers trl peft datasets accelerate deepspeed bitsandbytes numpy pandas tqdm wandb
    huggingface_hub evaluate sklearn tokenizers safetensors einops scipy matplotlib yaml dotenv tensorboard rich
    fire click typer absl pydantic unsloth sentencepiece liger_kernel mlflow trackio psutil requests nltk
    """
)
"""Libraries of which none changes a model's vocabulary behind one's back."""


class Imports:
    """The names of one script. `packages` are those that it imports from."""

    def __init__(self, text: Text) -> None:
        self._imported = text.imported
        self.defined = {node.name: node for node in text.classes}
        self.packages = {path.partition(".")[0] for path in text.imported.values()}

    def home(self, name: str, before: str = "") -> tuple[str, str, bool]:
        """The name that a called thing has at home, its package (empty: not told), and whether it is that and no heir."""
        if not before and name in self.defined:
            bases = [literals.dotted(base) for base in self.defined[name].bases]
            base = bases[0] if bases and bases[0].rpartition(".")[2] != name else ""
            if not base or base.rpartition(".")[2] in self.defined:
                return "", "", False
            home, package, _ = self.home(base.rpartition(".")[2], base.rpartition(".")[0])
            return home, package, False
        path = self._imported.get(before.partition(".")[0] if before else name, "")
        whole = path if not before else f"{path or before}.{name}"
        package = whole.partition(".")[0] or "."  # a module beside the script, where the import is relative
        return whole.rpartition(".")[2] or name, package if path or before else "", True

    def owner(self, name: str, before: str = "") -> tuple[str, bool]:
        """The owner of a class's arguments, empty for one that configures no training; and whether it is no heir of it."""
        home, package, itself = self.home(name, before)
        if home in ("TrainingArguments", "Seq2SeqTrainingArguments"):
            return f"transformers.{home}", itself and package in ("transformers", "")
        if home in ("UnslothTrainingArguments", "SentenceTransformerTrainingArguments"):
            return classes.TRAINER, False
        if f"trl.{home}" in classes.trainers() and package in ("trl", "unsloth", ""):
            return f"trl.{home}", itself
        if package == "trl" and home in ("ModelConfig", "ScriptArguments", "DatasetMixtureConfig"):
            return f"trl.{home}", itself
        if (home == "LoraConfig" and package in ("peft", "")) or (package == "peft" and home.endswith("Config")):
            return f"peft.{home}", itself
        known = home in quantization.CLASSES.values() and package in ("transformers", "")
        return (f"transformers.{home}", itself) if known else ("", itself)

    def is_self_contained(self) -> bool:
        """Whether the script imports nothing but well-known libraries, so that all that happens to the model stands in it."""
        return all(top in _LIBRARIES or top in sys.stdlib_module_names for top in self.packages)
