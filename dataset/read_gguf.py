"""Makes dataset/gguf.json out of the source of llama.cpp: `python dataset/read_gguf.py FOLDER DATE COMMIT`.

A maintainer's tool, not a part of the command. FOLDER is a checkout, or the copy in the sdist of llama-cpp-python
(vendor/llama.cpp); DATE (2026-10-01) and COMMIT say of when it is.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from datetime import datetime, timezone
from pathlib import Path

TABLE = Path(__file__).with_name("gguf.json")


def architectures(source: str) -> list[str]:
    """The names in LLM_ARCH_NAMES, in the order of the source."""
    table = source[source.index("LLM_ARCH_NAMES") :]
    names = re.findall(r'\bLLM_ARCH_\w+,\s*"([^"]+)"', table[: table.index("};")])
    return [name for name in names if not name.startswith("(")]


def compared(source: str, variable: str) -> list[str]:
    """The texts that a variable is compared with."""
    return sorted(set(re.findall(rf'\b{variable} == "([^"]+)"', source)))


def listed(names: list[str]) -> str:
    """A list of texts in lines of a readable length."""
    lines = textwrap.wrap(json.dumps(names)[1:-1], 110, break_on_hyphens=False)
    return "[\n" + "\n".join(f"    {line}" for line in lines) + "\n  ]"


def main(folder: str, date: str, commit: str) -> None:
    """Write the table."""
    here = Path(folder) / "src"
    arch = (here / "llama-arch.cpp").read_text(encoding="utf-8")
    vocab = (here / "llama-vocab.cpp").read_text(encoding="utf-8")
    head = {
        "table": "What llama.cpp knows of GGUF files: model architectures, tokenizers, pre-tokenizers",
        "read": datetime.now(timezone.utc).date().isoformat(),
        "source": f"llama.cpp of {date} (commit {commit[:12]}): src/llama-arch.cpp, src/llama-vocab.cpp",
        "date": date[:7],
    }
    names = {
        "architectures": architectures(arch),
        "tokenizers": compared(vocab, "tokenizer_model"),
        "pre_tokenizers": compared(vocab, "tokenizer_pre"),
    }
    rows = [f'  "{key}": {json.dumps(value)}' for key, value in head.items()]
    rows += [f'  "{key}": {listed(value)}' for key, value in names.items()]
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:4])
