"""Masks secrets in any text: tokens, passwords, keys. What diagnosis needs keeps its shape: `hf_***`, `https://***:***@host`.

Secrets are known by their own form (`hf_…`, `sk-…`, a private key), or by the name that stands before them
(`--api-key x`, `"password": "x"`, `HF_TOKEN=x`). Words of tokenizers (`pad_token`, `max_tokens`) are no such names.
All searches are linear in the text. Who and where (users, hosts, addresses) is masked by `identity`, by choice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from diagnose.model import Case, Event, Fact, Frame, Line, Output, Raised, Reading, Step, Unchecked

if TYPE_CHECKING:
    from diagnose.identity import Identity

MASK = "***"
MOST_ROUNDS = 8
"""How often a text is masked again while that still changes it."""
MOST_KNOWN = 64
"""How many secrets found by their name are looked for in the rest of the case."""
LEAST_KNOWN = 10

Change = Callable[[str], str]
Found = Callable[[str], None]


def mask(text: str) -> str:
    """The text without its secrets. Masking a masked text changes nothing."""
    return _masked(text, _nobody)


def case(case: Case, identity: Identity | None = None) -> Case:
    """A case without secrets in any of its texts, and without what `identity` names.

    A secret that was known by its name in one place is masked in all others too. The lines of an event are read
    together, so that a key which is spread over several lines is found.
    """
    known: dict[str, None] = {}

    def remember(secret: str) -> None:
        if len(known) < MOST_KNOWN and len(secret) >= LEAST_KNOWN and _is_random(secret):
            known[secret] = None

    masked = _changed(case, lambda text: _masked(text, remember), lambda fact: _fact(fact, remember))
    if known:
        masked = _changed(masked, lambda text: _without(text, known))
    if identity is not None:
        from diagnose.identity import Aliases

        aliases = Aliases(identity, tuple(texts(masked)))
        aliases.learn_case(masked)
        masked = _changed(masked, aliases.put, aliases.fact)
    return masked


def reading(reading: Reading) -> Reading:
    """What a source yields, without secrets."""
    if isinstance(reading, Fact):
        return _fact(reading, _nobody)
    if isinstance(reading, Output):
        return Output(mask(reading.origin), mask(reading.text))
    if isinstance(reading, Unchecked):
        return Unchecked(mask(reading.what), mask(reading.why))
    return Step(mask(reading.doing))


def texts(case: Case) -> Iterator[str]:
    """All texts of a case."""
    for fact in case.facts:
        yield fact.origin
        if isinstance(fact.value, str):
            yield fact.value
    for item in case.unchecked:
        yield item.what
        yield item.why
    yield from case.origins
    for event in case.events:
        yield event.origin
        yield event.process
        yield event.near
        for line in event.lines:
            yield line.text
        for raised in event.raised:
            yield raised.message
            yield from (frame.file for frame in raised.frames)


def _nobody(secret: str) -> None:
    """For callers that do not ask which secrets were found."""


# -- a case -----------------------------------------------------------------------------------------------------------


def _changed(case: Case, change: Change, change_fact: Callable[[Fact], Fact] | None = None) -> Case:
    """A case with each of its texts changed."""
    of_fact = change_fact or (lambda fact: _each_text_of_fact(fact, change))
    return replace(
        case,
        facts=tuple(of_fact(fact) for fact in case.facts),
        events=tuple(_event(event, change) for event in case.events),
        unchecked=tuple(Unchecked(change(item.what), change(item.why)) for item in case.unchecked),
        origins=tuple(change(origin) for origin in case.origins),
    )


def _each_text_of_fact(fact: Fact, change: Change) -> Fact:
    value = change(fact.value) if isinstance(fact.value, str) else fact.value
    return Fact(change(fact.name), value, change(fact.origin), fact.line, fact.column, change(fact.key))


def _event(event: Event, change: Change) -> Event:
    return replace(
        event,
        origin=change(event.origin),
        lines=_lines(event.lines, change),
        raised=tuple(_raised(item, change) for item in event.raised),
        phase=change(event.phase),
        rank=change(event.rank),
        process=change(event.process),
        host=change(event.host),
        ranks=tuple(change(rank) for rank in event.ranks),
        near=change(event.near),
    )


def _lines(lines: tuple[Line, ...], change: Change) -> tuple[Line, ...]:
    """The lines, read as one text: first without their prefixes, then with them; both say the same in the end."""
    bodies = _together([line.body for line in lines], change)
    heads = [line.text[: -len(line.body)] if _ends_with_body(line) else "" for line in lines]
    heads = _each(heads, change)
    whole = [
        head + body if _ends_with_body(line) else line.text
        for line, head, body in zip(lines, heads, bodies, strict=True)
    ]
    whole = _each(whole, change)  # one by one: the prefix of a line does not continue the one before
    made = []
    for line, head, body, text in zip(lines, heads, bodies, whole, strict=True):
        if _ends_with_body(line) and not text.endswith(body) and text.startswith(head):
            body = text[len(head) :]
        made.append(Line(line.number, text, body, change(line.level)))
    return tuple(made)


def _ends_with_body(line: Line) -> bool:
    return bool(line.body) and line.text.endswith(line.body)


def _together(parts: list[str], change: Change) -> list[str]:
    """Texts of lines, changed as one text if that keeps its lines."""
    changed = change("\n".join(parts)).split("\n")
    if len(changed) != len(parts) or any("\n" in part for part in parts):
        return [change(part) for part in parts]
    return changed


def _each(parts: list[str], change: Change) -> list[str]:
    """Texts of lines, each changed by itself; in one go if that changes nothing, as it seldom does."""
    together = "\n".join(parts)
    return parts if change(together) == together else [change(part) for part in parts]


def _raised(raised: Raised, change: Change) -> Raised:
    frames = tuple(
        Frame(change(item.file), item.line, change(item.function), change(item.package), change(item.place))
        for item in raised.frames
    )
    return Raised(raised.line, change(raised.exception), change(raised.message), frames)


def _fact(fact: Fact, found: Found) -> Fact:
    """A fact without its secret: its name may say that the value is one. Of an environment variable stays `set`."""
    value = fact.value
    if isinstance(value, str):
        value = _masked(value, found)
    last = fact.name.rpartition(".")[2] if "." in fact.name else fact.name
    if not isinstance(value, bool) and last not in ("version", "count"):
        kind = _kind_of_name(f"--{last}" if fact.name.startswith("launch.arg.") else last)
        text = str(value)
        if (kind == "strong" and not _is_harmless(text)) or (kind == "weak" and _is_random(text)):
            found(text)
            value = "set" if fact.name.startswith("env.") else MASK
    return Fact(mask(fact.name), value, _masked(fact.origin, found), fact.line, fact.column, mask(fact.key))


def _without(text: str, known: dict[str, None]) -> str:
    for secret in known:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


# -- a text -----------------------------------------------------------------------------------------------------------


def _masked(text: str, found: Found) -> str:
    for _ in range(MOST_ROUNDS):
        lower = text.lower()
        changed = text
        for look in _LOOKS:
            for needle in look.needles:
                if needle in lower:
                    changed = look.change(changed, found)
                    break
        if changed == text:
            break
        text = changed
    return text


class _Look(Struct, frozen=True):
    """One way to look for secrets: texts (in lower case) without which there is none, and what takes them out."""

    needles: tuple[str, ...]
    change: Callable[[str, Found], str]


class _Form(Struct, frozen=True):
    """Secrets known by their form: texts that such a text holds, in lower case, what each starts with, what follows.

    `sure`: nothing but a secret looks so. Otherwise what follows must look random, and no letter stand before.
    """

    needles: str
    start: str
    rest: str
    sure: bool = True


_FORMS = (
    _Form("hf_oauth_ hf_jwt_ hf_app_", r"hf_", r"(?:oauth_|jwt_|app_)[\w.-]{20,}"),
    _Form("hf_", r"hf_", r"[A-Za-z0-9]{30,}"),
    _Form("hf_", r"hf_", r"[A-Za-z0-9]{17,80}", sure=False),
    _Form("sk-", r"sk-(?:ant|proj|svcacct|admin|or-v1|lf|None)-", r"[\w-]{8,}"),
    _Form("sk-", r"sk-", r"[A-Za-z0-9]{40,}"),
    _Form("sk-", r"sk-", r"(?!learn)[\w-]{20,200}", sure=False),
    _Form("k_live_ k_test_", r"[srp]k_(?:live|test)_", r"[A-Za-z0-9]{10,}"),
    _Form("ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_", r"\w{16,}(?:[.-][\w-]{16,}){0,4}"),
    _Form("github_pat_", r"github_pat_", r"\w{16,}"),
    _Form(
        "glpat- gldt- glrt- glcbt- glptt- glft- glimt- glagent- glsoat- gloas- glffct-",
        r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas|ffct)-",
        r"[\w.-]{16,}",
    ),
    _Form("akia asia abia acca", r"A(?:KIA|SIA|BIA|CCA)", r"[A-Z0-9]{16,}"),
    _Form("aiza", r"AIza", r"[\w-]{30,}"),
    _Form("ya29.", r"ya29\.", r"[\w-]{20,}"),
    _Form("gocspx-", r"GOCSPX-", r"[\w-]{20,}"),
    _Form("xox", r"xox[abeoprs]-", r"[\w-]{10,}"),
    _Form("xapp-", r"xapp-", r"\d-[\w-]{10,}"),
    _Form("nvapi-", r"nvapi-", r"[\w-]{16,}"),
    _Form("wandb_v1_", r"wandb_v1_", r"[\w-]{16,}"),
    _Form("dckr_pat_", r"dckr_pat_", r"[\w-]{16,}"),
    _Form("npm_", r"npm_", r"[A-Za-z0-9]{30,}"),
    _Form("pypi-age", r"pypi-AgE", r"[\w-]{16,}"),
    _Form("r8_ gsk_ fw_ dsk_", r"(?:r8|gsk|fw|dsk)_", r"[A-Za-z0-9]{24,200}", sure=False),
    _Form("xai- csk- pplx- tvly-", r"(?:xai|csk|pplx|tvly)-", r"[\w-]{20,200}", sure=False),
    _Form("pcsk_ jina_ lsv2_ dop_v1_", r"(?:pcsk|jina|lsv2_pt|lsv2_sk|dop_v1)_", r"\w{20,200}", sure=False),
    _Form("hvs. hvb.", r"hv[sb]\.", r"[\w-]{20,}"),
    _Form("sg.", r"SG\.", r"[\w-]{16,100}\.[\w-]{16,}"),
    _Form("ms-", r"ms-", r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    _Form("eyj", r"eyJ", r"[\w-]{8,1000}\.[\w-]{4,}(?:\.[\w-]*)?"),
    _Form("hooks.slack.com", r"hooks\.slack\.com/services/", r"[\w/-]{10,}"),
    _Form("/api/webhooks/", r"discord(?:app)?\.com/api/webhooks/", r"[\w/-]{10,}"),
)
_WORD = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
# What may stand before a secret though it is a letter or digit: the end of an escape (\n, %3D, a colour code).
_ESCAPE_BEFORE = re.compile(r"(?:\\[nrtbf0]|%[0-9A-Fa-f]{2}|\[[0-9;]{0,12}m|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2})$")


def _put(
    pattern: re.Pattern[str], text: str, decide: Callable[[re.Match[str]], tuple[int, int] | None], found: Found
) -> str:
    """Mask what `decide` says of each match: the place of the secret, or None. What it leaves is looked at again."""
    made: list[str] = []
    copied = at = 0
    while match := pattern.search(text, at):
        place = decide(match)
        if place is None:
            at = match.start() + 1
            continue
        start, end = place
        found(text[start:end])
        made += [text[copied:start], MASK]
        copied = at = max(end, match.start() + 1)
    return "".join((*made, text[copied:])) if made else text


def _by_form(form: _Form) -> Callable[[str, Found], str]:
    def change(text: str, found: Found) -> str:
        def decide(match: re.Match[str]) -> tuple[int, int] | None:
            if not form.sure and not (_is_random(match[2]) and _starts_here(text, match.start())):
                return None
            found(match[0])
            rest = _WORD.match(text, match.end())
            return match.start(2), rest.end() if rest else match.end()

        return _put(_compiled(f"({form.start})({form.rest})"), text, decide, found)

    return change


@cache
def _compiled(expression: str) -> re.Pattern[str]:
    """Compiled on first use: most texts hold none of these."""
    return re.compile(expression, re.ASCII)


def _starts_here(text: str, at: int) -> bool:
    """Whether a word starts at a place, or what stands before it is the end of an escape."""
    return at == 0 or not text[at - 1].isalnum() or _ESCAPE_BEFORE.search(text[max(at - 14, 0) : at]) is not None


def _is_random(text: str) -> bool:
    """Whether a text looks made by a machine: letters with digits, or cases mixed; long, or not made of words."""
    letters = sum(char.isalpha() for char in text)
    if len(text) < 8 or not letters or not _TOKEN_LIKE.fullmatch(text) or _PATH_OR_AMOUNT.match(text):
        return False
    digits = sum(char.isdigit() for char in text)
    upper, lower = any(map(str.isupper, text)), any(map(str.islower, text))
    if len(text) >= 40:
        return True
    return bool(digits) or (len(text) >= 12 and upper and lower and _SWITCH.search(text) is not None)


_TOKEN_LIKE = re.compile(r"[\w.~+/=:!@#$%^*-]+")
_PATH_OR_AMOUNT = re.compile(r"[~.]{0,2}/|[A-Za-z]:[\\/]|\w{1,12}://|[\d.,]+[A-Za-z/%]{0,10}$")
_SWITCH = re.compile(r"[a-z][A-Z]")


def _by_url(text: str, found: Found) -> str:
    """`scheme://user:password@host`, and a long token in the place of the user."""

    def put(match: re.Match[str]) -> str:
        if match["password"].strip("*:@"):
            found(match["password"])
        return f"://{MASK}:{MASK}@"

    def user(match: re.Match[str]) -> tuple[int, int] | None:
        return match.span(1) if len(match[1]) >= 16 and _is_random(match[1]) else None

    text = _URL_PASSWORD.sub(put, text)
    text = _URL_SLASHED.sub(put, text)
    return _put(_URL_USER, text, user, found)


_URL_PASSWORD = re.compile(r"""://[^\s/:'"<>\[\]]*:(?P<password>[^\s/'"<>]+)@""")
_URL_SLASHED = re.compile(r"""://[^\s/@:'"<>\[\]]{0,100}:(?!\d{1,5}[/?#])(?P<password>[^\s@'"<>]{1,200})@""")
_URL_USER = re.compile(r"""://([^\s/:@'"<>\[\]*]{16,400})@""")


def _by_proxy(text: str, found: Found) -> str:
    def put(match: re.Match[str]) -> str:
        found(match[2])
        return f"{match[1]}{MASK}:{MASK}@"

    return _PROXY.sub(put, text)


_PROXY = re.compile(r"""(?i)(proxy(?:\\?["'])?\s{0,4}[=:]\s{0,4}(?:\\?["'])?)[^\s:@/'"]{1,100}:([^\s@/'"]{1,200})@""")


def _by_query(text: str, found: Found) -> str:
    """Signed links: the parameters that open them."""

    def decide(match: re.Match[str]) -> tuple[int, int] | None:
        return match.span(match.lastindex or 1)

    return _put(_QUERY_KEY, _put(_QUERY, text, decide, found), decide, found)


_QUERY_KEY = re.compile(r"(?i)[?&]key=([\w-]{20,})(?![\w%-])", re.ASCII)
_QUERY = re.compile(
    r"""(?i)([?&;]|\\u0026|%26|%3F)(X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|(?:AWS|Google)AccessKeyId|GoogleAccessId"""
    r"""|Signature|Key-Pair-Id|Policy|sig|skoid|sktid|(?:access_|auth_|id_|refresh_|api_|x-)?token|(?:api_?|access_?)key|jwt|password|passwd|secret|client_secret|hdnts|__token__)=([^\s&"'<>\\;)*]+)"""
)


def _by_header(text: str, found: Found) -> str:
    """`Bearer x` and `Basic x` wherever they stand."""

    def decide(match: re.Match[str]) -> tuple[int, int] | None:
        word = match[2]
        if match[1].lower() == "basic" and not (len(word) >= 8 and (_is_random(word) or word.endswith("="))):
            return None
        if word.lower().rstrip(".,:;") in _BEARER_WORDS or _ASSIGNMENT.match(text, match.start(2)):
            return None
        return match.span(2)

    return _put(_SCHEME, text, decide, found)


_SCHEME = re.compile(
    r"""\b(Bearer|bearer|BEARER|Basic)(?:\s{1,4}|%20|\+)(?:\\?["'<])?(?!\*\*\*)([A-Za-z0-9_.~+/-]+={0,2})"""
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]{1,30}=[\"']")
_BEARER_WORDS = frozenset(
    ["a", "an", "and", "are", "as", "auth", "authentication", "authorization", "authorisation", "credential", "credentials", "error", "for", "format",
     "from", "given", "header", "headers", "if", "in", "invalid", "is", "key", "keys", "missing", "must", "not", "of", "or", "provided", "realm",
     "required", "scheme", "schema", "security", "set", "string", "the", "to", "token", "tokens", "type", "used", "value", "via", "was", "were",
     "with"]
)  # fmt: skip


def _by_wandb(text: str, found: Found) -> str:
    """40 hexadecimal digits are a key of Weights & Biases where its name stands before, and a git hash elsewhere."""

    def decide(match: re.Match[str]) -> tuple[int, int] | None:
        before = text[max(match.start() - 160, 0) : match.start()].lower()
        at = before.rfind("wandb")
        return None if at < 0 or _HASH_BEFORE.search(before[at:][-40:]) else match.span()

    return _put(_HEX40, text, decide, found)


_HEX40 = re.compile(r"(?<![0-9a-zA-Z])[0-9a-f]{40}(?![0-9a-zA-Z])")
_HASH_BEFORE = re.compile(r"commit|revision|sha|\brev\b|\bref\b|hash|git|tree/|blob/|@")


def _by_aws(text: str, found: Found) -> str:
    """A secret access key has no form of its own: 40 characters, near the name of its key."""

    def decide(match: re.Match[str]) -> tuple[int, int] | None:
        return match.span() if _is_mixed(match[0]) else None

    return _put(_AWS_SECRET, text, decide, found)


def _is_mixed(text: str) -> bool:
    """Whether a text has capitals, small letters and digits: no hash, no word."""
    return any(map(str.isupper, text)) and any(map(str.islower, text)) and any(map(str.isdigit, text))


_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+_.-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+_.-])")


def _by_login(text: str, found: Found) -> str:
    """`login name password x` (a .netrc), and `curl -u name:x`."""

    def decide(match: re.Match[str]) -> tuple[int, int] | None:
        return match.span(1) if match[1].strip("*") else None

    return _put(_CURL, _put(_NETRC, text, decide, found), decide, found)


_NETRC = re.compile(r"\blogin\s{1,8}\S{1,100}\s{1,40}password\s{1,8}(\S+)")
_CURL = re.compile(
    r"""\bcurl\b[^\n]{0,400}?\s(?:-u|--user|--proxy-user|-U)[ =]{0,2}["']?[^\s:"'@/]{1,100}:([^\s"']+)"""
)


def _by_block(text: str, found: Found) -> str:
    """Private keys: each line of one becomes a mask, so that the text keeps its lines. Either end may be missing."""
    made: list[str] = []
    copied = 0
    for match in _BLOCK_EDGE.finditer(text):
        if match[1] == "BEGIN":
            end = _closed(text, match.end())
            body = text[match.end() : end]
            made += [text[copied : match.end()], _KEY_WORDS.sub(_key_word, body)]
            copied = end
        elif match.start() > copied:
            start = _opened(text, copied, match.start())
            made += [text[copied:start], _KEY_WORDS.sub(_key_word, text[start : match.start()])]
            copied = match.start()
    return "".join((*made, text[copied:])) if made else text


def _key_word(word: re.Match[str]) -> str:
    return word["escape"] or MASK


def _closed(text: str, at: int) -> int:
    """Where a private key that begins at a place ends: at the next mark, or with its last line of Base64."""
    mark = text.find("-----", at)
    if mark >= 0 and text.startswith("-----END", mark):
        return mark
    open_ended = _BASE64_LINES.match(text, at, mark if mark >= 0 else len(text))
    return open_ended.end() if open_ended else at


def _opened(text: str, least: int, at: int) -> int:
    """Where the lines of Base64 above the end of a private key begin."""
    while at > least:
        line = text.rfind("\n", least, at - 1) + 1 or least
        if not _BASE64_LINE.fullmatch(text, line, at):
            break
        at = line
    return at


_BLOCK_EDGE = re.compile(r"-----(BEGIN|END)[ A-Z0-9]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_WORDS = re.compile(r"""(?P<escape>\\[nr])|(?:[^\s"',|>\\]|\\(?![nr]))+""")
_BASE64_LINES = re.compile(
    r"""(?:(?:\\[nr]|[\s"',|>])*(?:(?:Proc-Type|DEK-Info|Version|Comment):[^\n]{0,80}|[A-Za-z0-9+/=]{16,}))*(?:(?:\\[nr]|[\s"',|>])*[A-Za-z0-9+/=]+$)?"""
)
_BASE64_LINE = re.compile(
    r"\s*(?:[A-Za-z0-9+/=]{1,80}|[A-Za-z0-9+/=]{1,80}(?:\\n[A-Za-z0-9+/=]{1,80})*(?:\\n)?|\*+)\s*"
)


def _by_key_lines(text: str, found: Found) -> str:
    """A line that is all Base64, as the inner lines of a private key are."""

    def decide(match: re.Match[str]) -> tuple[int, int] | None:
        return match.span(1) if _is_mixed(match[1]) else None

    return _put(_KEY_LINE, text, decide, found)


_KEY_LINE = re.compile(r"(?m)^[ \t]{0,20}([A-Za-z0-9+/]{64}|[A-Za-z0-9+/]{70}|[A-Za-z0-9+/]{76})$")


# -- names that say that a secret follows -----------------------------------------------------------------------------

_NAME = re.compile(
    r"""(?i)(?P<core>api[ ]key(?:[ ]provided)?|key|token|secret|password|passwd|passphrase|pwd|pass|credentials?|authorization|cookie|auth|sessionid)"""
    r"""(?P<tail>(?:\\{0,7}["'])?\]?[ \t]{0,8}(?:=>|:=|[=:]|%3[dD])[ \t]{0,8}(?:\r?\n[ \t]{0,40}(?=\\{0,7}["']))?"""
    r"""|["']?,?[ \t\x00]{1,8}(?:\\\r?\n[ \t]{0,40})?"""
    r"""|["'],\s{0,80})""",
    re.ASCII,
)
_LONGEST_NAME = 64

_STRONG = re.compile(
    r"""(?:(?:api|access|secret|private|master|encryption|signing|licen[cs]e|subscription|account|shared|shared_?access|auth|openai|anthropic|hf|wandb|ngc|nvidia|deploy|ssh|service|admin|storage|function|host|app|application|client|consumer)[_.-]?key
    |api[ ]key(?:[ ]provided)?
    |secret
    |password | passwd | passphrase
    |(?:db|sql|mysql|pg|postgres|redis|mongo|smtp|ftp|user|admin|root|proxy|http|https|login|auth|rabbitmq|rabbit|ldap|ssh|sudo|key|keystore|cert|ssl|tls|http_basic|basic)[_.-]?pass
    |(?<![a-z])(?:db|sql|user|admin|root|login)?[_.-]?pwd
    |credentials?
    |authorization | cookie | sessionid
    )$""",
    re.VERBOSE,
)
_STRONG_TOKEN = re.compile(
    r"""(?:hf|hub|hugging_?face(?:_?hub)?(?:_?api)?|hub_?api|use_?auth|api|access|auth|bearer|refresh|session|security|secret|github|gitlab|gh|git|private|personal|personal_?access|deploy|job|jwt|oauth2?|csrf|xsrf|registry|pypi|vault|slack|discord|telegram|ngc|nvidia|openai|anthropic|wandb|comet|neptune(?:_?api)?|clearml|replicate|modelscope(?:_?sdk|_?api)?|kaggle|jupyter|notebook|k8s|kube|service_?account|sas|docker|npm|sudo|admin|login|amz_?security|x_?auth|sdk|dashboard|grafana|sentry|azure|aws|gcp|google)[_.-]?token$""",
    re.VERBOSE,
)
# Words of tokenizers, templates and counters before `token`: what they name is never a credential.
_TOKENIZER = re.compile(
    r"(?:pad|padding|bos|eos|eot|eom|unk|unknown|sep|cls|mask|image|img|video|vision|audio|speech|start|begin|end|stop|special|first|last|next|prev|previous|"
    r"per|max|min|num|new|total|prompt|output|input|completion|think|thinking|reasoning|tool|call|response|boi|eoi|boa|eoa|bot|user|assistant|system|placeholder|"
    r"prefix|suffix|middle|fim|context|word|cur|current|sampled|draft|accepted|target|bad|stop|decoder|boundary|separator|newline|whitespace|reserved|ignore|turn|of|s|a|the|"
    r"invalid|missing|added|single|each|one|any|every|expected|unexpected|single|by|language|task|timestamps?|non_speech|role|header|patch|grid|frame|latent|expert|text|bpe|byte|sub|piece)[_.-]?token$"
)


def _kind_of_name(name: str) -> str:
    """Whether what a name names is a secret: `strong` (any value), `weak` (if it looks like one), or no (empty).

    An option that is `--token` alone is strong.
    """
    lower = _snake(name).lower()
    bare = lower.lstrip("-").replace("-", "_")
    if _STRONG.search(bare):
        return "strong"
    if not bare.endswith("token"):
        return "strong" if bare == "auth" and lower.startswith("--") else ""
    if bare == "token":
        return "strong" if lower.startswith("--") else "weak"
    if _STRONG_TOKEN.search(bare):
        return "strong"
    return "" if _TOKENIZER.search(bare) else "weak"


def _snake(name: str) -> str:
    """`apiKey` as `api_Key`."""
    return _SWITCH.sub(lambda found: f"{found[0][0]}_{found[0][1]}", name)


_HEADERS = re.compile(
    r"(?i)(?:authorization|cookie|(?:x-)?(?:goog-)?api-key|x-auth-token|private-token|x-amz-security-token|subscription-key)$"
)
_PLACEHOLDER = re.compile(r"<[A-Za-z][\w .:|/-]{0,60}>")
_LAST_HEADER = ("authorization", "cookie")
_SCHEMES = re.compile(r"(?i)(?:Bearer|Basic|Token|ApiKey|Api-Key|Digest|Negotiate|AWS4-HMAC-SHA256)[ \t]{1,4}(?=\S)")

_QUOTED_VALUE = re.compile(
    r"""(?:[A-Za-z]\w{0,30}\()?[bBuUrR]{0,2}(?:"(?P<double>(?:[^"\\\n]+|\\[^\n])*)|'(?P<single>(?:[^'\\\n]+|\\[^\n])*)|\\{1,7}["'](?P<escaped>[^"'\n]*))"""
)
_BARE_VALUE = re.compile(r"""(?:[^\s"'`,;&\x00]|[,;&](?![\s"'`\x00]|$|[\w.-]{1,40}[=:]))+""")
_SHORT_VALUE = re.compile(r"[\w.~+/:!@#$%^*-]{1,300}")
_REST_OF_LINE = re.compile(r"[^\r\n]+")
_TO_QUOTE = re.compile(r"""[^\r\n"'\\]+""")
_LINE_START = re.compile(r"""(?:^|[\n\r])[\s>#*-]{0,40}["']?$""")

_HARMLESS = re.compile(
    r"""(?i:
      \s* | \*+ | x{3,} | \.{2,} | none | null | nil | true | false | yes | no | empty | set | unset | not[ ]set | str | string | bytes | bool | int | any
    | redacted | masked | hidden | required | optional | missing | invalid | unknown | undefined
    )
    | (?:typing\.)?(?:Optional|Union|Any|List|Dict|SecretStr|Literal|Callable)\b.{0,80}
    | (?:str|bytes|bool|None)\s?\|.{0,40}
    | <[\w\ .:|/-]{0,60}> | \[[A-Z_0-9 ]{1,30}\]
    | \$\{?[A-Z][A-Z0-9_]{0,60}(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASS|PWD)\}? | \$\{[A-Za-z_][A-Za-z0-9_]{0,60}\}? | \$\{\{.{0,80}
    | (?:os\.(?:environ|getenv)|self\.[a-z_]|args\.[a-z_]|getpass\.|cls\.[a-z_]|kwargs[.\[]|config\.[a-z_]|settings\.[a-z_]).{0,80}
    """,
    re.VERBOSE,
)


def _is_harmless(value: str) -> bool:
    """Whether a value says that there is no secret, or only where it would come from."""
    return _HARMLESS.fullmatch(value) is not None


class _Value(Struct, frozen=True):
    """Where the value after a name stands."""

    start: int
    end: int
    quoted: bool


def _by_name(text: str, found: Found) -> str:
    """Masks the value behind each name that says that a secret follows."""
    made: list[str] = []
    copied = at = 0
    while match := _NAME.search(text, at):
        at = match.end("core")
        value = _secret_behind(text, match)
        if value is None:
            continue
        found(text[value.start : value.end])
        made += [text[copied : value.start], MASK]
        copied = at = value.end
    return "".join((*made, text[copied:])) if made else text


def _secret_behind(text: str, match: re.Match[str]) -> _Value | None:
    """The value to mask behind a name, or None if the name is none of a secret, or there is no secret."""
    start = match.start("core")
    first = _name_start(text, start)
    name = text[first : match.end("core")]
    kind = _kind_of_name(name)
    if not kind:
        return None
    tail = match["tail"]
    header = _HEADERS.search(name) is not None
    assigned = any(mark in tail for mark in "=:") or "%3" in tail
    if not assigned and not name.startswith("-") and not (header and "," in tail and tail[0] in "\"'"):
        return None
    if not assigned and text.startswith("-", match.end()):
        return None  # a flag without a value: the next option follows
    if _PLACEHOLDER.match(text, match.end()):
        return None
    if text.startswith("/", match.end()) and name.lower().endswith("pwd"):
        return None  # the working directory
    if text[first - 1 : first] == "/" and tail.startswith(":"):
        return None  # a path, and what is said of it: /etc/passwd: permission denied
    if kind == "weak" and not _is_random(_short(text, match.end())):
        return None
    value = _value_at(text, match.end())
    if value is None:
        return None
    if header:
        return _header_value(text, value, name)
    told = text[value.start : value.end]
    if _is_harmless(told) or (not value.quoted and told == name):
        return None
    if not value.quoted and _takes_line(text, match, first, name):
        rest = _REST_OF_LINE.match(text, value.start)
        return _Value(value.start, rest.end() if rest else value.end, False)
    return value


def _takes_line(text: str, match: re.Match[str], first: int, name: str) -> bool:
    """Whether `password: two words` stands alone on its line, as in YAML and INI files: then all of it is the value."""
    alone = _LINE_START.search(text, max(first - 44, 0), first) is not None
    return alone and match["tail"][-1] in " \t" and _PASSWORD.search(name) is not None


_PASSWORD = re.compile(r"(?i)(?:password|passwd|passphrase|secret)$")


def _name_start(text: str, at: int) -> int:
    """Where the name begins that ends at a place."""
    least = max(at - _LONGEST_NAME, 0)
    while at > least and (text[at - 1].isalnum() or text[at - 1] in "_.-"):
        at -= 1
    return at


def _short(text: str, at: int) -> str:
    """The beginning of a value, enough to see whether it looks like a secret."""
    quoted = _QUOTED_VALUE.match(text, at, at + 400)
    if quoted:
        return next(value for value in quoted.groups() if value is not None).rstrip("\\")
    short = _SHORT_VALUE.match(text, at)
    if short is None or text.startswith("(", short.end()):
        return ""  # a call: code, no value
    return short[0].rstrip(".")


def _value_at(text: str, at: int) -> _Value | None:
    quoted = _QUOTED_VALUE.match(text, at)
    if quoted:
        group = next(name for name in ("double", "single", "escaped") if quoted[name] is not None)
        start, end = quoted.span(group)
        if group == "escaped":
            end = start + len(quoted[group].rstrip("\\"))
        return _Value(start, end, True) if end > start else None
    bare = _BARE_VALUE.match(text, at)
    if not bare:
        return None
    value = bare[0].rstrip(")]}.")
    return _Value(at, at + len(value), False) if value else None


def _header_value(text: str, value: _Value, name: str) -> _Value | None:
    """The value of an HTTP header: what follows its scheme, up to the end of the line or quote."""
    start, end = value.start, value.end
    scheme = _SCHEMES.match(text, start, start + 60)
    start = scheme.end() if scheme else start
    if not value.quoted:
        rest = _TO_QUOTE
        if scheme:
            rest = _REST_OF_LINE if scheme[0].lower().startswith(("digest", "aws4")) else _BARE_VALUE
        if scheme or name.lower().endswith(_LAST_HEADER):
            found = rest.match(text, start)
            end = found.end() if found else end
    if start >= end or _is_harmless(text[start:end]):
        return None
    return _Value(start, end, value.quoted)


_LOOKS = (
    _Look(("private key",), _by_block),
    _Look(("+", "/", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"), _by_key_lines),
    _Look(("://",), _by_url),
    _Look(("proxy",), _by_proxy),
    _Look(("akia", "asia", "aws", "secret"), _by_aws),
    *(_Look(tuple(form.needles.split()), _by_form(form)) for form in _FORMS),
    _Look(("=",), _by_query),
    _Look(("bearer", "basic"), _by_header),
    _Look(("wandb",), _by_wandb),
    _Look(("login", "curl"), _by_login),
    _Look(("key", "token", "secret", "passw", "passphrase", "pwd", "pass", "credential", "authorization", "cookie", "auth", "sessionid"), _by_name),
)  # fmt: skip
