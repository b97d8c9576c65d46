"""Frames and exceptions are recognised however a stack is printed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.model import Frame, Line
from diagnose.sources.stack import culprit, frame, kind, locate, phase, raised


def lines(text: str) -> list[Line]:
    return [Line(number, body, body) for number, body in enumerate(text.splitlines(), start=1)]


def at(place: str) -> Frame:
    file, _, function = place.rpartition(":")
    return Frame(file, 1, function, file.split("/")[0] if "/" in file else "user", place)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "blank"),
        ("   ", "blank"),
        ("Traceback (most recent call last):", "header"),
        ("RuntimeError                              Traceback (most recent call last)", "header"),
        ("Scheduler hit an exception: Traceback (most recent call last):", "header"),
        ("Exception Group Traceback (most recent call last):", "header"),
        ('  File "/app/a.py", line 3, in go', "frame"),
        ('  File "/app/a.py", line 3', "frame"),
        ("/app/a.py:38 in do_train", "frame"),
        ("File /app/a.py:277, in load(name)", "frame"),
        ("Cell In[3], line 1", "frame"),
        ("Input In [3], in <cell line: 1>()", "frame"),
        ("<ipython-input-5-0123abcd> in <module>", "frame"),
        ("~/lib/a.py in load(self)", "frame"),
        ('  File "<frozen importlib._bootstrap>", line 241, in _call_with_frames_removed', "frame"),
        ("    model = load()", "code"),
        ("           ^^^^^^", "code"),
        ("    ~~~~^^^", "code"),
        ("----> 3 model = load()", "code"),
        ("      2 name = 'x'", "code"),
        ("  [Previous line repeated 990 more times]", "code"),
        ("frame #3: c10::Error::Error() + 0x96 (0x7f in libc10.so)", "code"),
        ("The above exception was the direct cause of the following exception:", "chain"),
        ("During handling of the above exception, another exception occurred:", "chain"),
        ("  +-+---------------- 1 ----------------", "chain"),
        ("    +---------------- 2 ----------------", "chain"),
        ("    +------------------------------------", "blank"),
        ("ValueError: no such model", "exception"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory.", "exception"),
        ("subprocess.TimeoutExpired", "other"),
        ("KeyboardInterrupt", "exception"),
        ("SystemExit: 1", "exception"),
        ("Exception: something broke", "exception"),
        ("Exception in thread Thread-1:", "other"),
        ("Error: of a program, not of Python", "other"),
        ("ExceptionGroup: many (2 sub-exceptions)", "exception"),
        ("Loading weights", "other"),
        ("Error loading weights", "other"),
        ("an Error: in lower case", "other"),
    ],
)
def test_what_a_line_is_in_a_traceback(body: str, expected: str) -> None:
    """Every line of CPython's, Rich's, Jupyter's and C++'s stacks has its kind."""
    assert expected == kind(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('  File "/opt/lib/python3.11/site-packages/vllm/worker/worker.py", line 183, in load_model',
         Frame("/opt/lib/python3.11/site-packages/vllm/worker/worker.py", 183, "load_model", "vllm", "vllm/worker/worker.py:load_model")),
        ('  File "C:\\py\\Lib\\site-packages\\torch\\nn\\modules\\linear.py", line 5, in forward',
         Frame("C:\\py\\Lib\\site-packages\\torch\\nn\\modules\\linear.py", 5, "forward", "torch", "torch/nn/modules/linear.py:forward")),
        ('  File "train.py", line 7, in <module>', Frame("train.py", 7, "<module>", "user", "train.py:<module>")),
        ('  File "broken.py", line 7', Frame("broken.py", 7, "<module>", "user", "broken.py:<module>")),
        ('  File "/usr/lib/python3.10/subprocess.py", line 526, in run', Frame("/usr/lib/python3.10/subprocess.py", 526, "run", "stdlib", "subprocess.py:run")),
        ('  File "/app/a.py", line 3, in Worker.go', Frame("/app/a.py", 3, "Worker.go", "user", "a.py:go")),
        ("/venv/lib/python3.10/site-packages/axolotl/train.py:38 in do_train",
         Frame("/venv/lib/python3.10/site-packages/axolotl/train.py", 38, "do_train", "axolotl", "axolotl/train.py:do_train")),
        ("File /venv/lib/python3.10/site-packages/peft/a.py:277, in load(name)",
         Frame("/venv/lib/python3.10/site-packages/peft/a.py", 277, "load", "peft", "peft/a.py:load")),
        ("~/lib/python3.7/site-packages/peft/x.py in load(self)", Frame("~/lib/python3.7/site-packages/peft/x.py", 0, "load", "peft", "peft/x.py:load")),
        ("Cell In[3], line 1", Frame("cell 3", 0, "<module>", "user", "cell 3:<module>")),
        ("<ipython-input-5-0123abcd> in <module>", Frame("cell 5", 0, "<module>", "user", "cell 5:<module>")),
        ("ValueError: no frame", None),
    ],
)  # fmt: skip
def test_frames_of_every_printer(body: str, expected: Frame | None) -> None:
    """File, line, function, package and the path from the package on."""
    assert expected == frame(body)


@pytest.mark.parametrize(
    ("file", "package", "path"),
    [
        ("/usr/local/lib/python3.12/dist-packages/vllm/v1/engine/core.py", "vllm", "vllm/v1/engine/core.py"),
        ("/usr/lib/python3/dist-packages/yaml.py", "yaml", "yaml.py"),
        ("/workspace/vllm/vllm/engine/llm_engine.py", "vllm", "vllm/engine/llm_engine.py"),
        ("/sgl-workspace/sglang/python/sglang/srt/server.py", "sglang", "sglang/srt/server.py"),
        ("/home/me/LLaMA-Factory/src/llamafactory/train/tuner.py", "llamafactory", "llamafactory/train/tuner.py"),
        ("<frozen importlib._bootstrap>", "stdlib", "<frozen importlib._bootstrap>"),
        ("/usr/lib/python3.10/asyncio/runners.py", "stdlib", "runners.py"),
        ("/home/me/project/train.py", "user", "train.py"),
        ("vllm.py", "user", "vllm.py"),
    ],
)
def test_the_package_of_a_file(file: str, package: str, path: str) -> None:
    """Installed packages, source trees of known projects, the standard library, and scripts."""
    assert (package, path) == locate(file)


CHAINED = """\
Traceback (most recent call last):
  File "/usr/lib/python3.10/site-packages/torch/cuda/__init__.py", line 293, in _lazy_init
    torch._C._cuda_init()
RuntimeError: no GPU is there

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "train.py", line 12, in <module>
    main()
    ^^^^^^
  File "/usr/lib/python3.10/site-packages/vllm/worker.py", line 3, in load_model
    raise ValueError("x")
vllm.errors.StartError: cannot start
"""


def test_all_exceptions_of_a_chain_with_their_frames() -> None:
    """Each exception of a chain has its own frames, message and line."""
    assert [
        (item.line, item.exception, item.message, [f.place for f in item.frames]) for item in raised(lines(CHAINED))
    ] == [
        (4, "RuntimeError", "no GPU is there", ["torch/cuda/__init__.py:_lazy_init"]),
        (14, "StartError", "cannot start", ["train.py:<module>", "vllm/worker.py:load_model"]),
    ]


@pytest.mark.parametrize(
    ("text", "exception", "message"),
    [
        ("ValueError: no frames at all", "ValueError", "no frames at all"),
        ("ValueError", "ValueError", ""),
        ("ValueError:no space", "ValueError", "no space"),
        ('Traceback (most recent call last):\n  File "a.py", line 1, in f\nmy.pkg.Odd: what', "Odd", "what"),
        ('  File "a.py", line 1, in f\n    go()\nAssertionError', "AssertionError", ""),
    ],
)
def test_an_exception_of_a_truncated_traceback(text: str, exception: str, message: str) -> None:
    """A header is not needed; a class of any name counts behind frames."""
    assert [(exception, message)] == [(item.exception, item.message) for item in raised(lines(text))]


@pytest.mark.parametrize(
    "text", ["Loading: 3 of 5", 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    go()', ""]
)
def test_no_exception_where_none_is_printed(text: str) -> None:
    """Ordinary lines, and a traceback cut before its end, tell none."""
    assert raised(lines(text)) == ()


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["train.py:<module>", "vllm/__init__.py:<module>"], "import"),
        (["serve.py:<module>", "vllm/worker/worker.py:load_model"], "load"),
        (["a.py:<module>", "transformers/modeling_utils.py:from_pretrained"], "load"),
        (
            [
                "a.py:<module>",
                "transformers/modeling_utils.py:from_pretrained",
                "huggingface_hub/file_download.py:hf_hub_download",
            ],
            "download",
        ),
        (["a.py:<module>", "vllm/worker/model_runner.py:execute_model"], "serve"),
        (["a.py:<module>", "transformers/trainer.py:train", "transformers/trainer.py:training_step"], "train"),
        (["setup.py:<module>", "torch/utils/cpp_extension.py:build_extensions"], "build"),
        (["a.py:<module>"], ""),
        ([], ""),
    ],
)
def test_the_phase(places: list[str], expected: str) -> None:
    """What the stack was doing when it broke."""
    assert expected == phase([at(place) for place in places])


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["a.py:main", "vllm/worker.py:load", "torch/nn/modules/linear.py:forward"], "vllm/worker.py:load"),
        (["a.py:main", "torch/nn/modules/linear.py:forward"], "a.py:main"),
        (["torch/a.py:f", "torch/b.py:g"], "torch/b.py:g"),
    ],
)
def test_the_frame_to_look_at(places: list[str], expected: str) -> None:
    """The innermost frame that is no support library; the innermost of all if there is none."""
    found = culprit([at(place) for place in places])
    assert found is not None
    assert expected == found.place


def test_no_frame_to_look_at_without_frames() -> None:
    """An exception without a stack has no culprit."""
    assert culprit([]) is None


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(CHAINED.splitlines()) | st.text(max_size=40), max_size=30))
def test_any_lines_can_be_read(bodies: list[str]) -> None:
    """No order of lines stops the reader; what is raised stands on one of the lines."""
    given_lines = [Line(number, body, body) for number, body in enumerate(bodies, start=1)]
    for item in raised(given_lines):
        assert item.exception in bodies[item.line - 1]
    for body in bodies:
        assert (frame(body) is not None) == (kind(body) == "frame") or kind(body) in ("header", "chain", "blank")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("I get `ValueError: the blue one is odd` when I start it", "ValueError"),
        ("it ends with blue.errors.RedError: no more reds", "RedError"),
        ("[core.py:1] Task failed: TypeError: x is not y", "TypeError"),
    ],
)
def test_an_exception_within_a_sentence_is_read(body: str, name: str) -> None:
    """A sentence or log message that quotes an exception tells its class and message."""
    assert [name] == [item.exception for item in raised([Line(1, body, body)])]


def test_a_word_that_ends_like_an_exception_is_none() -> None:
    """A class without a message, or a mention of errors, is no exception."""
    assert () == raised([Line(1, "see ValueError in the docs", "see ValueError in the docs")])
