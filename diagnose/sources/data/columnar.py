"""Parquet and Arrow files → examples, read by the pyarrow of the environment that trains, in a process of its own.

Nothing of ours is imported there, and nothing of the data is run: the other interpreter writes one JSON object a line.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from diagnose.sources.data.blocks import Block, blocks

SECONDS_STILL = 120.0
"""How long the other process may say nothing."""
PROGRAM = r"""
import json, sys
path, sample = sys.argv[1], int(sys.argv[2])
try:
    import pyarrow as pa
except Exception as error:
    sys.exit("no pyarrow: %s" % error)
def plain(value):
    if isinstance(value, bytes):
        return "<%d bytes>" % len(value)
    return str(value)
def slim(value):
    if isinstance(value, bytes):
        return "<%d bytes>" % len(value)
    if isinstance(value, dict):
        return {str(k): slim(v) for k, v in value.items()}
    if isinstance(value, list):
        return [slim(v) for v in value]
    return value
def parts():
    with open(path, "rb") as file:
        head = file.read(8)
    if head[:4] == b"PAR1":
        import pyarrow.parquet as pq
        whole = pq.ParquetFile(path)
        print(json.dumps({"rows": whole.metadata.num_rows, "columns": whole.schema_arrow.names}))
        yield from whole.iter_batches(batch_size=256, use_threads=False)
        return
    source = pa.memory_map(path)
    if head[:6] == b"ARROW1":
        whole = pa.ipc.open_file(source)
        print(json.dumps({"rows": -1, "columns": whole.schema.names}))
        for number in range(whole.num_record_batches):
            yield whole.get_batch(number)
        return
    whole = pa.ipc.open_stream(source)
    print(json.dumps({"rows": -1, "columns": whole.schema.names}))
    yield from whole
told = 0
out = sys.stdout
try:
    for part in parts():
        for begin in range(0, part.num_rows, 256):
            rows = part.slice(begin, 256).to_pylist()
            out.write("".join(json.dumps(slim(row), default=plain) + "\n" for row in rows))
            told += len(rows)
            if sample and told >= sample:
                sys.exit(0)
except BrokenPipeError:
    pass
except Exception as error:
    out.flush()
    sys.exit("broken: %s: %s" % (type(error).__name__, " ".join(str(error).split())))
"""
SAMPLE_ROWS = 20_000
MOST_TROUBLE = 64 << 10
"""Bytes of what the other process complains of: warnings may come before the reason."""


class NoReaderError(Exception):
    """No interpreter at hand has pyarrow."""


class _Pipe:
    """What the other process writes. Its silence has an end."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def read(self, most: int) -> bytes:
        ready, _, _ = select.select([self._pipe], [], [], SECONDS_STILL)
        if not ready:
            raise ValueError(f"pyarrow said nothing for {SECONDS_STILL:g} s")
        return os.read(self._pipe, most)

    def done(self) -> float:
        return 0.0


def lines(path: str, interpreters: Sequence[str], environ: Mapping[str, str], sample: bool) -> Iterator[Block]:
    """A line that tells the number of rows and the columns, then the rows, a JSON object each, as blocks.

    Raises NoReaderError if no interpreter has pyarrow, and ValueError with the reason if the file cannot be read on.
    """
    for interpreter in interpreters:
        try:
            process = _started(interpreter, path, environ, sample)
        except OSError:
            continue
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            nothing = True
            for block in blocks(_Pipe(process.stdout.fileno())):
                nothing = False
                yield block
            process.stdout.close()
            trouble = process.stderr.read(MOST_TROUBLE).decode("utf-8", "replace").strip()
            code = process.wait()
        if code == 0:
            return
        last = trouble.rpartition("\n")[2]
        if nothing and code > 0 and not last.startswith("broken: "):
            continue  # no pyarrow in it, or no Python
        raise ValueError(last.removeprefix("broken: ")[:300] or f"pyarrow ended with {code}")
    raise NoReaderError


class _Process(subprocess.Popen[bytes]):
    """A process that does not outlive the reading of it."""

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            self.kill()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()


def _started(interpreter: str, path: str, environ: Mapping[str, str], sample: bool) -> _Process:
    command = [interpreter, "-I", "-c", PROGRAM, path, str(SAMPLE_ROWS if sample else 0)]
    kept = {name: environ[name] for name in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR") if name in environ}
    return _Process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**kept, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"},
    )
