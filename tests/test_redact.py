"""Secrets are masked in every text and place; the words of diagnosis stay."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.model import Case, Event, Fact, Frame, Line, Output, Raised, Step, Unchecked
from diagnose.redact import case, mask, reading
from tests.support import ROOT

QUARTER = 1 << 18
"""Bytes: so many that work which grows with their square would not end."""


def made_up(alphabet: str, size: int, seed: int) -> str:
    """A secret of a form, the same on each run: real-looking secrets in the source would alarm their scanners."""
    return "".join(random.Random(seed).choices(alphabet, k=size))


LOWER, UPPER, DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
ALNUM = LOWER + UPPER + DIGITS
HEX = "0123456789abcdef"
WORDY = ALNUM + "_-"

# kind: (what stands before the secret and belongs to it, the secret itself, the text with {} for both)
FORMS: dict[str, tuple[str, str]] = {
    "hugging face": ("hf_", made_up(LOWER + UPPER, 34, 1)),
    "hugging face oauth": ("hf_oauth_", made_up(WORDY, 60, 2)),
    "openai": ("sk-", made_up(ALNUM, 48, 3)),
    "openai project": ("sk-proj-", made_up(WORDY, 100, 4)),
    "anthropic": ("sk-ant-api03-", made_up(WORDY, 90, 5)),
    "openrouter": ("sk-or-v1-", made_up(HEX, 64, 6)),
    "github": ("ghp_", made_up(ALNUM, 36, 7)),
    "github oauth": ("gho_", made_up(ALNUM, 36, 8)),
    "github server": ("ghs_", made_up(ALNUM, 36, 9)),
    "github fine-grained": ("github_pat_", made_up(ALNUM, 22, 10) + "_" + made_up(ALNUM, 59, 11)),
    "gitlab": ("glpat-", made_up(WORDY, 20, 12)),
    "aws key id": ("AKIA", made_up(UPPER + DIGITS, 16, 13)),
    "aws temporary key id": ("ASIA", made_up(UPPER + DIGITS, 16, 14)),
    "google": ("AIza", made_up(WORDY, 35, 15)),
    "slack": ("xoxb-", made_up(DIGITS, 12, 16) + "-" + made_up(ALNUM, 24, 17)),
    "nvidia": ("nvapi-", made_up(WORDY, 64, 18)),
    "wandb, new": ("wandb_v1_", made_up(WORDY, 77, 19)),
    "docker": ("dckr_pat_", made_up(WORDY, 27, 20)),
    "npm": ("npm_", made_up(ALNUM, 36, 21)),
    "pypi": ("pypi-AgE", made_up(WORDY, 120, 22)),
    "replicate": ("r8_", made_up(ALNUM, 37, 23)),
    "groq": ("gsk_", made_up(ALNUM, 52, 24)),
    "jwt": ("eyJ", made_up(ALNUM, 30, 25) + "." + made_up(WORDY, 60, 26) + "." + made_up(WORDY, 43, 27)),
}
KEY = made_up(ALNUM, 24, 28)
AWS = made_up(ALNUM + "/+", 39, 29) + "9"
HEX40 = made_up(HEX, 40, 30)
CONTEXTS: dict[str, tuple[str, str]] = {
    "option": ("--api-key {}", KEY),
    "option with =": ("vllm serve m --api-key={} --port 1", KEY),
    "option that is called token": ("hf upload --token {} x", "my-first-token"),
    "hf-token": ("--hf-token {} --model m", KEY),
    "password option": ("--password {}", "hunter2!"),
    "list of arguments": ("['vllm', 'serve', 'm', '--api-key', '{}', '--port', '1']", KEY),
    "JSON list of arguments": ('["serve","--api-key","{}"]', KEY),
    "continued line": ("--api-key \\\n  {}", KEY),
    "keyword": ("LLM(model='m', api_key='{}', x=1)", "short"),
    "dict": ("{{'api_key': '{}', 'model': 'm'}}", "short"),
    "JSON": ('{{"hf_token": "{}", "n": 1}}', "a b c"),
    "JSON token": ('{{"token": "{}", "n": 1}}', KEY),
    "pretty JSON": ('"password":\n    "{}"', "hunter2"),
    "JSON within JSON": ('"{{\\"api_key\\": \\"{}\\"}}"', KEY),
    "YAML": ("hub_token: {}", KEY),
    "YAML of several words": ("password: {}", "correct horse battery"),
    "INI": ("  secret = {}", "two words"),
    "environment": ("HF_TOKEN={} python x.py", "not-even-random"),
    "environment of wandb": ("export WANDB_API_KEY={}", HEX40),
    "environment, unknown name": ("MY_OWN_TOKEN={}", KEY),
    "camel case": ('{{"clientSecret": "{}"}}', "short"),
    "several": ("api_key=x9x9x9x9,password={},model=m", "hunter2hunter2"),
    "bearer": ("Authorization: Bearer {}", "abc.def-123"),
    "bearer alone": ("sent Bearer {} to it", KEY),
    "basic": ("Authorization: Basic {}", "dXNlcjpwYXNzd29yZA=="),
    "header in a dict": ("{{'authorization': 'Bearer {}'}}", KEY),
    "header in a tuple": ("(b'authorization', b'Bearer {}')", KEY),
    "header of curl": ('curl -H "Authorization: Bearer {}" https://h/v1', "abc123"),
    "api key header": ("x-api-key: {}", "short"),
    "cookie": ("Cookie: session={}; other", "s3ss"),
    "digest": ('Authorization: Digest username="bob", response="{}"', HEX40),
    "url": ("https://bob:{}@host/simple", "pa:ss@word"),
    "pip url": ("pip install --extra-index-url https://__token__:{}@pkgs.corp/simple torch", "tok"),
    "git url": ("git+https://oauth2:{}@github.com/a/b.git@v1", "tok"),
    "database": ("postgresql+psycopg2://u:{}@db:5432/x", "p/w"),
    "redis": ("redis://:{}@cache:6379/0", "pw"),
    "user of an url": ("https://{}@github.com/a/b", HEX40),
    "proxy": ("https_proxy=bob:{}@proxy:3128", "pw"),
    "signed link": ("https://b.s3.amazonaws.com/x?X-Amz-Expires=60&X-Amz-Signature={}&x=1", HEX40 + HEX40[:24]),
    "session of a signed link": ("https://b/x?X-Amz-Security-Token={}&x=1", "IQoJb3JpZ2luX2VjE%2Fab"),
    "link of a CDN": ("https://cdn/x?Expires=1&Policy=a&Signature={}~__&Key-Pair-Id=K", KEY),
    "link of Azure": ("https://a.blob.core.windows.net/x?sv=1&sig={}", "a%2Fb%3D"),
    "notebook": ("http://localhost:8888/tree?token={}", HEX40 + HEX40[:8]),
    "aws secret": ("aws_secret_access_key = {}", AWS),
    "aws secret beside its id": ("AKIA" + made_up(UPPER + DIGITS, 16, 31) + " {}", AWS),
    "aws session": ("AWS_SESSION_TOKEN={}", "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUC"),
    "wandb login": ("wandb login {}", HEX40),
    "netrc": ("machine api.wandb.ai login user password {}", HEX40),
    "openai's answer": ("Incorrect API key provided: {}. You can find your API key at", "abcdefgh"),
    "curl user": ("curl -s -u bob:{} https://h/", "pw"),
    "colour before it": ("\x1b[31m{}", "sk-" + made_up(ALNUM, 30, 32)),
    "escape before it": ("'a\\n{}'", "sk-" + made_up(ALNUM, 30, 33)),
}  # fmt: skip
PEM = "\n".join(
    ["-----BEGIN RSA PRIVATE KEY-----", *(made_up(ALNUM + "+/", 64, seed) for seed in range(40, 44)), "c2hvcnQ=", "-----END RSA PRIVATE KEY-----"]
)  # fmt: skip
PLANTED = {
    **{kind: (start + secret, secret) for kind, (start, secret) in FORMS.items()},
    **{kind: (text.format(secret), secret) for kind, (text, secret) in CONTEXTS.items()},
}


@pytest.mark.parametrize("kind", sorted(PLANTED))
def test_secrets_are_masked(kind: str) -> None:
    """A secret of each kind is gone from a text, and a mask stands in its place."""
    text, secret = PLANTED[kind]
    masked = mask(f"before it {text} after it")
    assert (secret in masked, "***" in masked, masked.startswith("before it ")) == (False, True, True)
    assert mask(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        (f"token {FORMS['hugging face'][0]}{FORMS['hugging face'][1]}", "token hf_***"),
        ("https://bob:pw@host:8080/simple", "https://***:***@host:8080/simple"),
        ("Authorization: Bearer abcdefgh1", "Authorization: Bearer ***"),
        ("{'api_key': 'abc', 'model': 'm'}", "{'api_key': '***', 'model': 'm'}"),
        ("api_key=abc, model='m')", "api_key=***, model='m')"),
        ("(api_key=abc)", "(api_key=***)"),
        ("api_key=abc,model=m", "api_key=***,model=m"),
        ("--api-key abc --port 1", "--api-key *** --port 1"),
        ("--api-key=abc --port 1", "--api-key=*** --port 1"),
        ("HF_TOKEN=abc PASSWORD=def python x.py", "HF_TOKEN=*** PASSWORD=*** python x.py"),
        ("https://c/x?Expires=17&Signature=ab~&Key-Pair-Id=K1&Policy=cd", "https://c/x?Expires=17&Signature=***&Key-Pair-Id=***&Policy=***"),
        (PEM + "\nbehind", "-----BEGIN RSA PRIVATE KEY-----\n***\n***\n***\n***\n***\n-----END RSA PRIVATE KEY-----\nbehind"),
        (PEM.replace("\n", "\\n"), "-----BEGIN RSA PRIVATE KEY-----\\n***\\n***\\n***\\n***\\n***\\n-----END RSA PRIVATE KEY-----"),
    ],
)  # fmt: skip
def test_masked_text_keeps_its_shape(text: str, shape: str) -> None:
    """What stands around a secret stays, so that the line can still be diagnosed."""
    assert mask(text) == shape


NEAR_MISSES = [
    "/etc/passwd: a text file, not a Python interpreter", "cat: /run/secrets/token: Permission denied",
    "sk-learn", "sk-learn==1.5.2", "pip install scikit-learn sk-learn-contrib", "task-0123456789abcdef0123456789abcdef", "risk-averse-model-with-long-name-1",
    "disk-usage-of-the-cache-folder-12345678", "hf_transfer", "hf_hub_download(repo_id='a/b')", "HF_HOME=/data/hf", "HF_HUB_ENABLE_HF_TRANSFER=1", "hf_xet==1.1.5",
    "hf_overrides={'max_position_embeddings': 8192}", "hf_quantizer", "hf_qwen2vl", "--tokenizer x", "--tokenizer-mode auto", "--tokenizer=mistral", "max_tokens=4096",
    "max_new_tokens: 512", "pad_token='<|endoftext|>'", "pad_token: <pad>", "eos_token_id=151645", "eos_token='<|im_end|>'", "bos_token: '<s>'", "unk_token=None",
    '"pad_token": "[PAD]"', '"image_token": "<image>"', "image_token='IMG_CONTEXT_1'", "DEFAULT_IMAGE_TOKEN = '<image>'", "IGNORE_TOKEN_ID = -100", "cls_token='[CLS]'",
    "--token-classifier x", "token usage: 0.00, #running-req: 0", "token usage: 0.95", "tokens/s: 12.5", "ms per token: 12.345ms", "time per output token: 0.0251s",
    "AutoModelForTokenClassification", "TokenizersBackend", "KeyError: 'model.layers.0.self_attn.q_proj.weight'", "unexpected key(s): lm_head.weight",
    "Missing key(s) in state_dict: \"a\"", "key: model.embed_tokens.weight", "num_key_value_heads=8", "key_cache.shape", "Unexpected token 'I', \"Internal S\"... is not valid JSON",
    '{"token": "Hello", "logprob": -0.1, "bytes": [72]}', '{"token": " the", "logprob": -1}', "token=5", "token: 151645", "token='▁Hello'", "prompt_token_ids=[1, 2]",
    "use_auth_token=True", "use_auth_token=None", "api_key=None", "token=None, revision='main'", "api_key='EMPTY'", "api_key=os.environ['OPENAI_API_KEY']", "HF_TOKEN=$HF_TOKEN",
    "HF_TOKEN=${HF_TOKEN}", "--api-key --port 8000", "export HF_TOKEN=<your token>", "def __init__(self, api_key: str | None = None)", "token: Optional[str] = None",
    "env.HF_TOKEN set", "The api_key client option must be set either by passing api_key to the client", "Incorrect API key provided: EMPTY. You can find",
    "Bearer token required", "missing Bearer authentication", 'WWW-Authenticate: Bearer realm="https://huggingface.co/token"', "Basic usage of the model", "no basic math",
    "commit 0123456789abcdef0123456789abcdef01234567", "/snapshots/0123456789abcdef0123456789abcdef01234567/config.json", "wandb: git commit 0123456789abcdef0123456789abcdef01234567",
    "sha256:" + "ab" * 32, "ab12" * 16, "image vllm/vllm-openai:v0.11.0@sha256:" + "cd" * 32, "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "/home/bob/.cache/huggingface/token", "File \"/usr/lib/python3.12/site-packages/huggingface_hub/utils/_auth.py\", line 3, in get_token", "PWD=/home/bob/x", "OLDPWD=/tmp",
    "http://localhost:8000/v1", "http://host:8000/a@b", "tcp://10.0.0.5:29500", "git+ssh://git@github.com/a/b@v1", "https://github.com/a/b.git@main", "pip install 'torch@https://x/y'",
    "password authentication failed for user", "Password:", "forward_pass: 1.25s", "passes: 3", "bypass=True", "secrets: 3", "author: bob", "authors=2",
    "nvidia-cublas-cu12 12.8.4.1", "torch==2.8.0+cu128", "libcublas.so.12.8.4.1", "driver 535.104.05", "tokenizer.json: 17.1MB", "llama_token_to_piece", "special token '<|eot_id|>' was",
    "add_bos_token=False", "n_tokens = 512", "decoder_start_token_id=0", "stop_token: <|eot|>", "draft_token=3", "per_token_logps", "cookiecutter", "keyboard: us",
    "llm_engine.py:1 token:", "secret sauce", "GET /metadata?key=mooncake%2Fram%2F10.0.0.6_58f3", "RuntimeError: Expected key.size(1) == value.size(1)", "monkey: wrench",
    "model_key='a1b2c3d4e5'", "passkey retrieval: 98.0", "asia-east1", "token = decode_utf8(ids)", "next = token=tokenizer2.decode9(x)", "ms-swift", "gl-matrix", "SGLANG.", "xoxo-hugs", "msg.sg.content",
]  # fmt: skip


@pytest.mark.parametrize("text", NEAR_MISSES)
def test_words_of_diagnosis_stay(text: str) -> None:
    """Tokenizers, hashes, paths, versions and code that only names a secret are left alone."""
    assert mask(text) == text


def test_the_logs_of_all_rules_stay() -> None:
    """No example log of a bundled rule loses anything: what rules look for is no secret."""
    changed = []
    for path in sorted((ROOT / "rules").rglob("*.yaml")):
        examples = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)["examples"]
        for example in (*examples["positive"], *examples["negative"]):
            text = example if isinstance(example, str) else example.get("log", "")
            changed += [path.stem] if mask(text) != text else []
    assert changed == []


arbitrary = st.text(max_size=60)
separator = st.sampled_from([" ", "\n", "\t", '"', "'", "(", "[", ", ", "\n  ", " - "])


closing = st.sampled_from([" ", "\n", "\t", '"', "'", ")", ", ", " - ", "\r\n"])


@given(kind=st.sampled_from(sorted(PLANTED)), before=arbitrary, left=separator, right=closing, after=arbitrary)
@settings(deadline=None, max_examples=400)
def test_no_text_around_a_secret_keeps_it(kind: str, before: str, left: str, right: str, after: str) -> None:
    """Whatever stands around it."""
    text, secret = PLANTED[kind]
    if len(secret) >= 8:
        assert secret not in mask(before + left + text + right + after)


@given(kind=st.sampled_from(sorted(FORMS)), before=arbitrary, after=arbitrary)
@settings(deadline=None, max_examples=300)
def test_no_text_glued_to_a_secret_keeps_it(kind: str, before: str, after: str) -> None:
    """A secret with a sure form is found within a word too."""
    start, secret = FORMS[kind]
    if kind not in ("replicate", "groq"):
        assert secret not in mask(before + start + secret + after)


pieces = st.sampled_from(
    ["api_key", "token", "=", ":", " ", '"', "'", "\\", "://", "@", "password", "hf_", "sk-", "Bearer ", "Authorization", "***", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "\n", "&sig=", "--", ",", "wandb ", HEX40, KEY, AWS, "AKIA", "eyJ", ".", "a", "1"]
)  # fmt: skip


@given(text=st.one_of(st.text(max_size=200), st.lists(pieces, max_size=14).map("".join)))
@settings(deadline=None, max_examples=500)
def test_masking_twice_is_masking_once(text: str) -> None:
    """Masked text is a fixed point, and has as many lines as before."""
    masked = mask(text)
    assert mask(masked) == masked
    assert masked.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "unit",
    ["a", "=", "token=", "api_key=", "api_key:'", 'token:"', "token=a,", "pwd=/", "://", "://a:", "://a:b@", "hf_", "sk-", "sk-aaaaaaaaaaaaaaaaaaaaaaaaa", "eyJa.", "eyJaaaaaaaaa",
     "Bearer ", "Basic ", "Authorization: ", "Authorization: Bearer a", "proxy=", "proxy=a:", "curl -u a:", "login a password ", "wandb " + "a" * 40, "a" * 64 + "\n", "Aa1" * 21 + "b\n",
     "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----\n", "AAAA\n", "\\", "\\\"", "'", '"', "?key=", "&sig=", "-", "--token ", "--api-key ", "AKIA", "xoxb-", "a.b-", "SG.aaaaaaaaaaaaaaaa", "key", "api key ",
     "password: ", "\\n", "'token','", "a=b,", "x(", "token:x(", "[31m", "%3D", "é", "ſ", "K"],
)  # fmt: skip
def test_much_of_the_same(unit: str) -> None:
    """Masking takes time in proportion to the text, whatever it repeats."""
    text = "private key aws wandb " + unit * (QUARTER // len(unit))
    assert mask(text).count("\n") == text.count("\n")


# -- cases ------------------------------------------------------------------------------------------------------------


def with_it_everywhere(text: str) -> Case:
    """A case with a text in each place that a text can have."""
    names = (
        "os.name",
        "torch.version",
        "gpu.0.name",
        "launch.arg.model",
        "env.HF_HOME",
        "env.HTTPS_PROXY",
        "python.path",
    )
    rows = text.split("\n")
    frame = Frame(text, 1, text, text, text)
    event = Event(
        origin=text,
        line=1,
        end_line=len(rows),
        lines=tuple(Line(number, f"[rank0]: {row}", row, "error") for number, row in enumerate(rows, start=1)),
        raised=(Raised(1, text, text, (frame,)),),
        phase=text,
        rank=text,
        process=text,
        host=text,
        ranks=(text,),
        near=f"above\n{text}\nbelow",
    )
    facts = tuple(Fact(name, text, text) for name in names)
    return Case(facts, (event,), (Unchecked(text, text),), (text,), 1, True)


@pytest.mark.parametrize("kind", sorted(PLANTED))
def test_no_place_of_a_case_keeps_a_secret(kind: str) -> None:
    """A secret of each kind, in each place that a fact or an event can have."""
    text, secret = PLANTED[kind]
    masked = case(with_it_everywhere(text))
    shown = repr(masked)
    assert (secret in shown, repr(secret)[1:-1] in shown) == (False, False)
    assert case(masked) == masked


def test_a_private_key_over_several_lines() -> None:
    """Each line of a key is masked, with a rank before it too, and where only a part of it was kept."""
    rows = PEM.split("\n")
    for part in (rows, rows[:-1], rows[1:], rows[2:4]):
        shown = repr(case(with_it_everywhere("\n".join(part))))
        assert [row for row in rows[1:-2] if row in shown] == []


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("env.HF_TOKEN", "abc", "set"),
        ("env.WANDB_API_KEY", "abc", "set"),
        ("env.OPENAI_API_KEY", "abc", "set"),
        ("env.HF_TOKEN", "set", "set"),
        ("env.SOME_TOKEN", KEY, "set"),
        ("env.HTTPS_PROXY", "http://bob:pw@proxy:1", "http://***:***@proxy:1"),
        ("env.HF_HOME", "/data/hf", "/data/hf"),
        ("env.TOKENIZERS_PARALLELISM", "false", "false"),
        ("launch.arg.api_key", "abc", "***"),
        ("launch.arg.api_key", 12345, "***"),
        ("launch.arg.hf_token", "abc def", "***"),
        ("launch.arg.token", "abc", "***"),
        ("launch.arg.hf_token", "true", "true"),
        ("launch.arg.hf_token", True, True),
        ("launch.arg.pad_token", "<pad>", "<pad>"),
        ("launch.arg.max_tokens", 12, 12),
        ("launch.arg.tokenizer", "a/b", "a/b"),
        ("launch.arg.ssl_keyfile", "/etc/k.pem", "/etc/k.pem"),
        ("tokenizers.version", "0.22.1", "0.22.1"),
        ("secret.version", "0.22.1", "0.22.1"),
    ],
)
def test_the_name_of_a_fact_tells_that_it_is_a_secret(name: str, value: str | int, kept: str | int) -> None:
    """Of a variable stays that it is set, of an argument a mask; other facts stay."""
    assert reading(Fact(name, value, "x")) == Fact(name, kept, "x")


@pytest.mark.parametrize("kind", sorted(PLANTED))
def test_readings_are_masked(kind: str) -> None:
    """What sources yield: facts, outputs, what was not checked, what comes next."""
    text, secret = PLANTED[kind]
    yielded = [Fact("os.name", text, text), Output(text, f"x\n{text}\n"), Unchecked(text, text), Step(text)]
    assert [item for item in yielded if secret in repr(reading(item))] == []


def test_a_secret_known_in_one_place_is_masked_in_all() -> None:
    """Where its name stands before it once, the value is known; elsewhere nothing tells that it is one."""
    event = Event("x", 1, 1, (Line(1, f"got {KEY} from it", f"got {KEY} from it"),), near=f"request {KEY}")
    masked = case(Case((Fact("launch.arg.api_key", KEY, "argv"),), (event,)))
    assert KEY not in repr(masked)


def test_lines_and_bodies_say_the_same() -> None:
    """The text of a line still ends with its body: rules match either."""
    rows = [f"api_key={KEY}", "--api-key \\", f"   {KEY}", "plain", f"hf_{made_up(LOWER + UPPER, 34, 50)}"]
    lines = tuple(Line(number, f"[rank{number}]: {row}", row) for number, row in enumerate(rows))
    masked = case(Case(events=(Event("x", 1, 5, lines),))).events[0].lines
    assert all(line.text == f"[rank{line.number}]: {line.body}" for line in masked)
    assert KEY not in repr(masked)


@given(kind=st.sampled_from(sorted(PLANTED)), before=arbitrary, after=arbitrary)
@settings(deadline=None, max_examples=100)
def test_any_case_around_a_secret(kind: str, before: str, after: str) -> None:
    """Other text in the same places does not keep it."""
    text, secret = PLANTED[kind]
    if len(secret) >= 8:
        assert secret not in repr(case(with_it_everywhere(f"{before}\n{text}\n{after}")))


def test_the_examples_of_documentation_stay() -> None:
    """The bundled example log is read as it is."""
    text = Path(ROOT / "docs" / "examples" / "kv-cache.log").read_text(encoding="utf-8")
    assert mask(text) == text
