"""`DoctorCallback` for transformers' Trainer, and for TRL's: a check when training begins, an eye on what is logged, a diagnosis
of what ends it.

    from diagnose.integrations.transformers import DoctorCallback
    trainer = Trainer(…, callbacks=[DoctorCallback()])
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

from transformers import TrainerCallback

from diagnose import bundle
from diagnose.errors import DoctorError
from diagnose.integrations import excepthook, literals, process
from diagnose.integrations.losses import ORIGIN, Series, generates, number
from diagnose.model import Case, Fact


class DoctorCallback(TrainerCallback):  # type: ignore[misc]
    """Checks settings, model and machine when training begins; watches losses, norms and rates; diagnoses an exception.

    Reports go to standard error, by the first process of each machine; what goes wrong with that never ends a training. `stop_on` is the severity from which a finding at the
    beginning ends the training with a DoctorError: error, warning or never. `watch` looks at what is logged.
    """

    def __init__(self, stop_on: str = "never", watch: bool = True) -> None:
        if stop_on not in ("error", "warning", "never"):
            raise DoctorError(f"stop_on must be error, warning or never, not {stop_on!r}")
        self._stop_on = stop_on
        self._watch = watch
        self._series: Series | None = None
        self._case = Case()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._asked: frozenset[str] = frozenset()
        self._told: set[str] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Look at everything once, and say what is found."""
        if not state.is_local_process_zero:
            return
        try:
            code = self._begin(args, state, given)
        except Exception as error:  # no room for temporary files, say: the training goes on
            self._series = None
            process.show(f"llmdoctor: no check was made: {type(error).__name__}: {error}", sys.stderr)
            return
        if code == 1 and self._stop_on != "never":
            raise DoctorError(f"llmdoctor found something of severity {self._stop_on} or worse; see above")

    def _begin(self, args: Any, state: Any, given: Any) -> int:
        """Look at everything, and say what is found; the exit code of that."""
        self._folder = tempfile.TemporaryDirectory(prefix="llmdoctor-", ignore_cleanup_errors=True)
        self._series = Series(number(getattr(args, "learning_rate", None))) if self._watch else None
        self._asked, self._told = frozenset(), set()
        path = self._collected(args, given.get("model"))
        self._case = _with(self._case, _live(args, state, given))
        excepthook.install(path)
        return self._ask()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
        """Take what is logged; ask the rules where something is odd that was not asked of before."""
        if self._series is None or not isinstance(logs, dict) or "loss" not in logs:
            return
        self._series.add(int(state.global_step), logs)
        odd = self._series.odd()
        if odd - self._asked:
            self._asked |= odd
            self._case = _with(self._case, list(self._series.facts()))
            self._ask()

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Leave the program's exceptions alone again."""
        if self._folder is not None:
            excepthook.uninstall()
            self._folder.cleanup()
            self._folder = None

    def _path(self, name: str) -> str:
        assert self._folder is not None
        return os.path.join(self._folder.name, name)

    def _collected(self, args: Any, model: Any) -> str:
        """Have llmdoctor collect machine, environment, model files and these settings into a case file."""
        path, settings = self._path("case.json"), self._path(f"{type(args).__name__}.py")
        parts = [args, *_adapters(model), *_quantization(model)]
        with open(settings, "w", encoding="utf-8") as file:
            file.write("\n".join(literals.call(item) for item in parts))
        words = ["collect", "--output", path, "--python", sys.executable, "--config", settings, *_model_words(model)]
        process.run(words, "")
        try:
            self._case = bundle.read(path)
        except DoctorError:
            self._case = Case(machine=True)
        return path if os.path.exists(path) else ""

    def _ask(self) -> int:
        """Have the case judged as it is now; what was told before is not told again. The exit code."""
        path = self._path("now.json")
        try:
            bundle.write(self._case, path)
        except DoctorError:
            return 2
        fail_on = self._stop_on if self._stop_on != "never" else "warning"
        code, report = process.run(["check", "--case", path, "--fail-on", fail_on], "")
        if code == 1 and report not in self._told:
            self._told.add(report)
            process.show(f"\n{report}", sys.stderr)
        return code


def _with(case: Case, facts: list[Fact]) -> Case:
    """The case with these facts in the place of older ones of the same name."""
    from msgspec.structs import replace

    new = {fact.name for fact in facts}
    return replace(case, facts=(*facts, *(fact for fact in case.facts if fact.name not in new)), machine=True)


def _live(args: Any, state: Any, given: Any) -> list[Fact]:
    """What only the trainer itself knows."""
    name = type(args).__name__
    told: dict[str, Any] = {"live.trainer": name, "live.generates": generates(args)}
    model = given.get("model")
    if model is not None:
        sizes = [
            (int(getattr(part, "ds_numel", 0) or part.numel()), bool(part.requires_grad)) for part in model.parameters()
        ]
        told["live.parameters"] = sum(size for size, _ in sizes)
        told["live.trainable"] = sum(size for size, trained in sizes if trained)
    steps = getattr(state, "max_steps", 0)
    if isinstance(steps, int) and steps > 0:
        told["tuning.total_steps"] = steps
    data = getattr(given.get("train_dataloader"), "dataset", None)
    if data is not None and hasattr(data, "__len__"):
        told["data.examples"] = len(data)
    return [Fact(key, value, ORIGIN) for key, value in told.items()]


def _adapters(model: Any) -> list[Any]:
    """The configurations of the model's adapters."""
    known = getattr(model, "peft_config", None)
    return list(known.values()) if isinstance(known, dict) else []


def _quantization(model: Any) -> list[Any]:
    known = getattr(getattr(model, "config", None), "quantization_config", None)
    return [known] if known is not None else []


def _model_words(model: Any) -> list[str]:
    """The folder that the model was read from, if it is one."""
    name = getattr(getattr(model, "config", None), "_name_or_path", "")
    return [name] if isinstance(name, str) and name and os.path.isdir(name) else []
