"""Masks who and where: users, hosts, addresses and serial numbers become `user1`, `host2`, `ip1`, the same everywhere.

First all texts are read for names that stand where only such names stand (`/home/NAME`, `NAME:12:34 [0] NCCL`); then
each of them is replaced wherever it occurs as a word, so that who belongs to what can still be seen. Names that are
also words of the trade (a user called `vllm`) are replaced only where they were recognised. Versions that look like
addresses (12.8.4.1) stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from diagnose.facts import describe
from diagnose.model import Case, Fact


class Identity(Struct, frozen=True):
    """What is masked besides secrets. `names` of users and hosts that are known beforehand are masked everywhere."""

    users: bool = True
    hosts: bool = True
    addresses: bool = True
    serials: bool = True
    user_names: tuple[str, ...] = ()
    host_names: tuple[str, ...] = ()


def of_this_machine(users: bool = True, hosts: bool = True, addresses: bool = True, serials: bool = True) -> Identity:
    """What to mask, with the names of this machine and of the user who runs us."""
    import getpass
    import socket

    try:
        user: tuple[str, ...] = (getpass.getuser(),)
    except (OSError, KeyError, ImportError):  # a user id without a name, as in containers
        user = ()
    host = socket.gethostname()
    return Identity(users, hosts, addresses, serials, user, (host,) if host else ())


MOST_NAMES = 5000
"""How many names are told apart; a text with more of them is made to hurt."""
MOST_ALIKE = 200
"""How many names may begin with the same word."""

_PUBLIC_USERS = frozenset(
    ["root", "user", "users", "ubuntu", "ec2-user", "centos", "debian", "admin", "azureuser", "jovyan", "vscode", "runner", "nobody", "app", "default",
     "public", "shared", "all", "linuxbrew", "conda", "builder", "jenkins", "circleci", "node", "guest", "home", "opc", "core", "fedora", "rocky",
     "almalinux", "vagrant", "runpod", "workspace", "git", "oauth2", "gitlab-ci-token", "x-access-token", "__token__"]
)  # fmt: skip
_PUBLIC_HOSTS = frozenset(
    ["localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "host", "hostname", "none", "null", "unknown", "server", "auto",
     "static", "env"]
)  # fmt: skip
# Words that a replacement everywhere would take from what is diagnosed.
_TRADE = frozenset(
    ["vllm", "sglang", "torch", "transformers", "cuda", "cudnn", "nccl", "python", "python3", "pip", "conda", "model", "models", "data", "dataset",
     "datasets", "test", "tests", "dev", "train", "training", "trainer", "infer", "inference", "serve", "server", "serving", "api", "worker",
     "workers", "gpu", "gpus", "cpu", "node", "nodes", "host", "hosts", "head", "master", "rank", "ray", "triton", "peft", "trl", "deepspeed",
     "accelerate", "tokenizer", "tokenizers", "llama", "qwen", "mistral", "gemma", "hub", "cache", "tmp", "temp", "lib", "lib64", "bin", "opt", "usr",
     "var", "etc", "home", "work", "workspace", "project", "projects", "code", "src", "user", "users", "app", "main", "base", "env", "venv", "bash",
     "linux", "ubuntu", "docker", "root", "kernel", "systemd", "error", "warning", "info", "debug", "name", "file", "line", "module", "import",
     "value", "none", "true", "false", "with", "from", "for", "not", "the", "and", "engine", "core", "llm", "llms", "chat", "bot", "agent", "hf",
     "huggingface", "nvidia", "amd", "intel", "lora", "adapter", "checkpoint", "checkpoints", "output", "outputs", "log", "logs", "run", "runs",
     "eval", "job", "jobs", "desktop", "documents", "downloads", "init", "step", "steps", "loss", "batch", "layer", "layers", "weight", "weights",
     "bias", "attention", "token", "tokens", "input", "inputs", "prompt", "prompts", "text", "image", "images", "audio", "video", "vision", "float",
     "half", "mask", "query", "size", "shape", "device", "devices", "tensor", "tensors", "dtype", "config", "configs", "load", "save", "quant",
     "fast", "slow", "auto", "eager", "flash", "paged", "block", "blocks", "page", "beam", "stop", "start", "total", "free", "used", "memory", "pool",
     "stream", "event", "time", "date", "version", "build", "release", "stable", "nightly", "local", "remote", "public", "private", "secret", "hash",
     "path", "folder", "index", "example", "session", "process", "thread", "task", "tasks", "expert", "experts", "decode", "prefill", "backend",
     "frontend", "client", "connection", "socket", "port", "request", "response", "email", "mail", "admin", "support"]
)  # fmt: skip

_USER = re.compile(
    r"""(?:/(?:home\d?|Users|homes)/
      | (?<![A-Za-z0-9])[A-Za-z]:(?:\\{1,4}|/)Users(?:\\{1,4}|/)
      | (?<![A-Za-z0-9_])(?:USER|LOGNAME|USERNAME|SUDO_USER)["']?\s?[=:]\s?["']?
      )(?P<name>[^\s/\\:"'<>|*?$\{\},;()=]{1,64})""",
    re.VERBOSE,
)
_EMAIL = re.compile(
    r"(?<![\w.+-])(?P<name>[A-Za-z0-9][\w.+-]{0,63})@(?P<host>(?:[A-Za-z0-9-]{1,63}\.){1,5}(?:com|org|net|edu|gov|io|ai|dev|de|cn|uk|fr|jp|kr|in|ch|eu|us|ca|au|nl|se|it|es|ru|local|internal|corp|lan))(?![\w.-]{0,80}[/@])\b"
)
_PROMPT = re.compile(
    r"(?<![\w.+/-])(?P<name>[a-z_][a-z0-9_-]{0,31})@(?P<host>[A-Za-z0-9][\w-]{0,62}(?:\.[\w-]{1,63}){0,5})(?=:[~/][^\s]{0,200}[$#]|[ ]~?\]?[$#]|:~)"
)

_HOST_NAME = r"[A-Za-z0-9](?:[\w-]{0,62})(?:\.[A-Za-z0-9_][\w-]{0,62}){0,7}"
_HOST = re.compile(
    rf"""(?:
        (?:^|(?<=[\s\]]))(?P<nccl>{_HOST_NAME}):\d{{1,8}}:\d{{1,8}}[ ]\[\w{{1,4}}\][ ](?:NCCL|\w+\.cc|\w+/|[a-z])
      | (?<![a-z])(?:https?|tcp|udp|grpcs?|wss?|rediss?|ftp|ssh|git|postgres(?:ql)?|mysql|mongodb|amqps?|nats|socks5h?|s3|gs|git\+https?|git\+ssh)://(?:[^\s/@]{{1,100}}@)?(?P<url>{_HOST_NAME})(?=[:/\s"',)?]|$)
      | (?<![A-Za-z0-9])(?:HOSTNAME|MASTER_ADDR|HEAD_NODE|SLURMD_NODENAME|SLURM_LAUNCH_NODE_IPADDR|(?i:master[_-]addr|rdzv[_-]endpoint|hostname|nodename|node_name|dist[_-]init[_-]addr|head[_-]node|node[_-]ip))["']?(?:\s?[=:]\s?|[ ])["']?(?P<named>{_HOST_NAME})
      | (?i:\bhosts?|\bnode)(?:[=]|:[ ])["']?(?P<host>{_HOST_NAME})
      | (?i:\bon[ ](?:host|node)[ ])["']?(?P<on>{_HOST_NAME})
      | [A-Z][a-z]{{2}}[ ]{{1,2}}\d{{1,2}}[ ]\d\d:\d\d:\d\d[ ](?P<syslog>{_HOST_NAME})[ ][\w./@-]{{1,64}}(?:\[\d+\])?:
      )""",
    re.VERBOSE | re.MULTILINE,
)
_WELL_KNOWN = (
    "huggingface.co", "hf.co", "hf-mirror.com", "github.com", "github.io", "githubusercontent.com", "githubassets.com", "gitlab.com", "ghcr.io", "pypi.org",
    "pythonhosted.org", "python.org", "pytorch.org", "nvidia.com", "nvcr.io", "nvidia.cn", "modelscope.cn", "docker.io", "docker.com", "quay.io", "anaconda.org",
    "anaconda.com", "wandb.ai", "openai.com", "anthropic.com", "googleapis.com", "google.com", "kaggle.com", "microsoft.com", "aka.ms", "vllm.ai", "ray.io",
    "sglang.ai", "lmsys.org", "tsinghua.edu.cn", "aliyun.com", "ustc.edu.cn", "readthedocs.io", "readthedocs.org", "arxiv.org", "pydantic.dev", "gnu.org",
    "kernel.org", "ubuntu.com", "debian.org", "intel.com", "amd.com", "apple.com", "stackoverflow.com", "w3.org", "apache.org", "json-schema.org", "mozilla.org",
    "deepspeed.ai", "lightning.ai", "tensorflow.org", "jax.dev", "numpy.org", "scipy.org", "conda.io", "astral.sh", "rust-lang.org", "crates.io", "cloudfront.net",
    "example.com", "example.org", "unsloth.ai", "ollama.com", "medium.com", "wikipedia.org", "discord.gg", "slack.com", "uvicorn.org", "starlette.io", "fastapi.tiangolo.com",
    "hiascend.com", "huawei.com", "paddlepaddle.org.cn", "baidu.com", "openmmlab.com", "fb.me", "fbaipublicfiles.com", "facebook.com", "meta.com", "mistral.ai", "deepseek.com",
)  # fmt: skip

_QUAD = re.compile(r"(?<![\w.+-])(?P<ip>\d{1,3}(?:\.\d{1,3}){3})(?![\w-]|\.\w)")
_QUAD_ADDRESS_BEFORE = re.compile(
    r"(?i)(?://|@|\bip[s]?\d?\b|addr|\bhost|\bnode|\bpeer|\bserver|\bclient|\bfrom\b|\bto\b|connect|listen|\btcp\b|\binet\b|\bmaster|\bbind|\brdzv|\bgateway|\bproxy|\bdns\b|nameserver|\bremote|\blocal\b|<)[^\n]{0,30}$"
)
_QUAD_VERSION_BEFORE = re.compile(
    r"(?i)(?:[=~<>!]=\s?|[<>]\s?|\bv|\bversions?\b[^\n]{0,20}|nvidia-[\w-]+\W{0,40}|cu(?:blas|dnn|fft|rand|solver|sparse|da|file|pti|sparselt)[\w-]*\W{0,40}|tensorrt\S{0,20}\W{0,12}|"
    r"driver[^\n]{0,12}|firmware[^\n]{0,20}|\bbios\b[^\n]{0,20}|\bnccl\W{0,3}|requires\s|^[a-z][\w.-]{1,60}\s{2,60}|\bbuild\b\W{0,6}|release\W{0,3}|torch\w{0,10}\W{0,4}|\.so\.)$"
)
_IPV6 = re.compile(
    r"(?<![\w:.])(?P<ip>(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}|(?:::ffff:)(?:\d{1,3}\.){3}\d{1,3})(?![\w:])(?:%[\w.-]{1,16})?"
)
_MAC = re.compile(r"(?<![\w:-])(?:[0-9a-fA-F]{2}([:-]))(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}(?![\w:-])")
_UUID = re.compile(
    r"\b(?P<kind>GPU|MIG)-(?P<id>(?:GPU-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){0,3}(?:-[0-9a-f]{12})?(?:/\d{1,2}/\d{1,2})?)(?![0-9a-zA-Z])"
)
_SERIAL = re.compile(
    r"(?i)\b(?:serial(?:[ _]?(?:number|no\.?|num))?|board[ _]serial)\b[\"']?\s{0,40}[:=]\s{0,4}[\"']?(?P<id>[A-Za-z0-9][\w-]{5,40})"
)
_MACHINE = re.compile(
    r"(?i)\b(?:machine|boot|product|system)[ _-]?(?:id|uuid)\b[\"']?\s{0,40}[:=]\s{0,4}[\"']?(?P<id>[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})(?![0-9a-zA-Z])"
)

_ALIAS = re.compile(r"(?:GPU-|MIG-)?(?:user|host|ip|mac|uuid|serial)\d{1,6}")
_WORDS = re.compile(r"[^\W_]+")


class Aliases:
    """The names in some texts and what stands for each. `learn_case` what its parts name, then `put` all texts through."""

    def __init__(self, identity: Identity, texts: Sequence[str]) -> None:
        self.identity = identity
        self._alias: dict[str, str] = {}
        self._local: dict[str, str] = {}
        self._numbered: dict[tuple[str, str], str] = {}
        self._next: dict[str, int] = {}
        self._by_word: dict[str, list[str]] = {}
        for text in texts:
            self._reserve(text)
        for name in identity.user_names if identity.users else ():
            self._user(name)
        for name in identity.host_names if identity.hosts else ():
            self._host(name)
        for text in texts:
            self._learn(text)

    # -- learning -----------------------------------------------------------------------------------------------------

    def _reserve(self, text: str) -> None:
        """The numbers in a text that was masked before are taken."""
        for found in _ALIASES_IN.finditer(text):
            self._next[found[1]] = max(self._next.get(found[1], 0), int(found[2]))

    def _learn(self, text: str) -> None:
        lower = text.lower()
        at = (*_PROMPT.finditer(text), *_EMAIL.finditer(text)) if "@" in text else ()
        if self.identity.users:
            if _holds(lower, _USER_WORDS):
                for found in _USER.finditer(text):
                    if not _in_url(found):
                        self._user(found["name"])
            for found in at:
                self._user(found["name"])
        if self.identity.hosts and _holds(lower, _HOST_WORDS):
            for found in _HOST.finditer(text):
                part = found.lastgroup or "url"
                if part not in ("host", "on") or _NODE_LIKE.search(found[part]):
                    self._host(found[part], url=part == "url")
        if self.identity.hosts:
            for found in at:
                self._host(found["host"], url=True)
        if self.identity.serials and _holds(lower, _SERIAL_WORDS):
            for pattern in (_SERIAL, _MACHINE):
                for found in pattern.finditer(text):
                    if any(map(str.isdigit, found["id"])):
                        self._name("serial", found["id"])

    def learn_case(self, case: Case) -> None:
        """Take up what the parts of a case name by their place: the host of an event, the serial number of a GPU."""
        for event in case.events:
            if self.identity.hosts and event.host:
                self._host(event.host)
        for fact in case.facts:
            last = fact.name.rpartition(".")[2]
            if not isinstance(fact.value, str) or not fact.value:
                continue
            if self.identity.users and last in _USER_FACTS:
                self._user(fact.value)
            elif self.identity.hosts and (last in _HOST_FACTS or fact.name in _HOST_FACTS):
                self._host(fact.value)
            elif self.identity.serials and last in _SERIAL_FACTS:
                self._name("serial", fact.value)

    def _user(self, name: str) -> None:
        name = name.strip().rstrip(".")
        if len(name) >= 2 and name[0] != "." and name.lower() not in _PUBLIC_USERS and not name.isdigit():
            self._name("user", name)

    def _host(self, name: str, url: bool = False) -> None:
        name = name.rstrip(".")
        lower = name.lower()
        if (
            len(name) < 2
            or lower in _PUBLIC_HOSTS
            or lower.isdigit()
            or _looks_like_quad(name)
            or lower.startswith(("localhost.", "127.", "0x"))
            or any(lower == known or lower.endswith(f".{known}") for known in _WELL_KNOWN)
        ):
            return
        short, dot, _ = name.partition(".")
        known = self._alias.get(short, "")
        if dot and known.startswith("host"):
            if name not in self._alias:
                self._alias[name] = known
                self._index(name)
            return
        self._name("host", name)
        plain = len(short) > 2 and short.lower() not in _TRADE and not short.isdigit()
        if dot and not url and plain and short not in self._alias and name in self._alias:
            self._alias[short] = self._alias[name]
            self._index(short)

    def _name(self, kind: str, name: str) -> None:
        """Give a name its alias, to be put wherever the name occurs; or, for a word of the trade, where it was found."""
        if name in self._alias or name in self._local or _ALIAS.fullmatch(name) or len(self._numbered) >= MOST_NAMES:
            return
        if name.lower() in _TRADE or (len(name) < 4 and not any(map(str.isdigit, name))):
            self._local[name] = self._numbering(kind, name)
        else:
            self._alias[name] = self._numbering(kind, name)
            self._index(name)

    def _numbering(self, kind: str, name: str) -> str:
        """The alias of a name: the next number of its kind. All beyond MOST_NAMES share one."""
        known = self._numbered.get((kind, name))
        if known is None:
            if len(self._numbered) >= MOST_NAMES:
                return f"{kind}0"
            self._next[kind] = self._next.get(kind, 0) + 1
            known = self._numbered[kind, name] = f"{kind}{self._next[kind]}"
        return known

    def _index(self, name: str) -> None:
        first = _WORDS.search(name)
        if first and len(self._by_word) < MOST_NAMES:
            known = self._by_word.setdefault(first[0], [])
            if len(known) < MOST_ALIKE:
                known.append(name)
                known.sort(key=len, reverse=True)

    # -- putting ------------------------------------------------------------------------------------------------------

    def put(self, text: str) -> str:
        """A text with the aliases in the place of the names."""
        if self._by_word:
            text = self._put_names(text)
        if self.identity.users and self._local:
            text = _USER.sub(self._put_local, text)
        if self.identity.serials and ("GPU-" in text or "MIG-" in text):
            text = _UUID.sub(self._put_uuid, text)
        if self.identity.addresses:
            if text.count(":") >= 5 or text.count("-") >= 5:
                text = _MAC.sub(lambda found: self._numbering("mac", found[0].lower().replace("-", ":")), text)
            if text.count(".") >= 3:
                text = _QUAD.sub(self._put_quad, text)
            if text.count(":") >= 2:
                text = _IPV6.sub(self._put_ipv6, text)
        return text

    def fact(self, fact: Fact) -> Fact:
        """A fact with the aliases in its value and origin; a version is left as it is."""
        value = fact.value
        if isinstance(value, str) and not self._is_version(fact.name, value):
            known = self._alias.get(value) or self._local.get(value)
            named = fact.name.rpartition(".")[2] in _USER_FACTS | _HOST_FACTS | _SERIAL_FACTS
            value = known if named and known else self.put(value)
        return Fact(fact.name, value, self.put(fact.origin), fact.line, fact.column, fact.key)

    def _is_version(self, name: str, value: str) -> bool:
        """Whether a fact's value is a version: by the catalogue, or four numbers in a fact that names no address."""
        if name.endswith("version"):
            return True
        if not _FOUR_NUMBERS.fullmatch(value):
            return False
        kind = describe(name)
        if kind is not None and (kind.type == "version" or kind.area == "network"):
            return kind.type == "version"
        return _ADDRESS_FACT.search(name) is None

    def _put_local(self, found: re.Match[str]) -> str:
        alias = "" if _in_url(found) else self._local.get(found["name"])
        return found[0][: found.start("name") - found.start()] + alias if alias else found[0]

    def _put_uuid(self, found: re.Match[str]) -> str:
        head = found["id"].removeprefix("GPU-")[:8]
        return f"{found['kind']}-{self._numbering('uuid', head)}"

    def _put_quad(self, found: re.Match[str]) -> str:
        before = found.string[max(found.start() - 80, 0) : found.start()]
        before = before[before.rfind("\n") + 1 :]
        return (
            self._numbering("ip", found["ip"])
            if _is_address(found["ip"], before, found.string[found.end() : found.end() + 4])
            else found[0]
        )

    def _put_ipv6(self, found: re.Match[str]) -> str:
        import ipaddress

        try:
            address = ipaddress.ip_address(found["ip"])
        except ValueError:
            return found[0]
        groups = [group for group in found["ip"].split(":") if group]
        if address.is_loopback or address.is_unspecified or (len(groups) < 3 and len(groups[0]) < 4):
            return found[0]
        return self._numbering("ip", found["ip"].lower()) + found[0][len(found["ip"]) :]

    def _put_names(self, text: str) -> str:
        made: list[str] = []
        copied = 0
        for place in _WORDS.finditer(text):
            if place.start() < copied:
                continue
            for name in self._by_word.get(place[0], ()):
                start = place.start() - (len(name) - len(name.lstrip("_.-+")))
                end = start + len(name)
                if start >= copied and text.startswith(name, start) and not (end < len(text) and text[end].isalnum()):
                    made += [text[copied:start], self._alias[name]]
                    copied = end
                    break
        return "".join((*made, text[copied:])) if made else text


_USER_FACTS = frozenset(["user", "USER", "LOGNAME", "username", "owner"])
_HOST_FACTS = frozenset(["host.name", "hostname", "fqdn", "HOSTNAME", "MASTER_ADDR"])
_SERIAL_FACTS = frozenset(["serial", "machine_id", "board_serial"])
_ADDRESS_FACT = re.compile(r"(?i)addr|\bip|host|env\.|launch\.arg\.")
_FOUR_NUMBERS = re.compile(r"\d+(?:\.\d+){3}")
_NODE_LIKE = re.compile(r"[\d.-]")
_ALIASES_IN = re.compile(r"(?<![^\W_])(user|host|ip|mac|uuid|serial)(\d{1,6})(?![^\W_])")


def _in_url(found: re.Match[str]) -> bool:
    """Whether a match stands in an address of the web: `https://host/home/page` names no user."""
    before = found.string[max(found.start() - 100, 0) : found.start()]
    scheme = before.rfind("://")
    return scheme >= 0 and not before[:scheme].endswith("file") and re.search(r"\s", before[scheme:]) is None


# In lower case, what a text holds in which something of the kind could be found.
_USER_WORDS = ("/home", "users", "user", "logname")
_HOST_WORDS = ("://", " [", "host", "addr", "node", "endpoint", ":")
_SERIAL_WORDS = ("serial", "id", "uuid")


def _holds(lower: str, words: tuple[str, ...]) -> bool:
    return any(word in lower for word in words)


def _looks_like_quad(name: str) -> bool:
    return re.fullmatch(r"[\d.]+", name) is not None


def _is_address(quad: str, before: str, behind: str) -> bool:
    """Whether four numbers are an address, and none that is the same everywhere; versions of libraries have four too."""
    parts = [int(part) for part in quad.split(".")]
    if (
        max(parts) > 255
        or parts[0] in (0, 127, 255)
        or any(len(part) > 1 and part[0] == "0" for part in quad.split("."))
    ):
        return False
    if re.match(r":\d{2,5}|/\d{1,2}\b|<\d", behind):
        return True
    if parts[:2] in ([192, 168], [169, 254]) or (parts[0] == 172 and 16 <= parts[1] < 32):
        return _PINNED.search(before) is None
    if _QUAD_VERSION_BEFORE.search(before):
        return False
    if _QUAD_ADDRESS_BEFORE.search(before):
        return True
    return parts[0] == 10 or parts[0] > 13


_PINNED = re.compile(r"[=~<>!]=\s?$")
