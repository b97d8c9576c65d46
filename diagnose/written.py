"""Writing a file whole or not at all: what stood there before is still there if there is no room."""

from __future__ import annotations

import errno
import os
import stat


def whole(path: str, data: bytes, private: bool = False) -> None:
    """Put a plain file in the place of another, or of none. Raises OSError, and then leaves nothing behind.

    The file that is replaced has to be one that may be written, and its mode is kept. With `private` the owner alone may
    read the new one.
    """
    import tempfile

    before = os.stat(path) if os.path.lexists(path) else None
    if before is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    handle, beside = tempfile.mkstemp(prefix=".llmdoctor-", dir=os.path.dirname(path) or ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not private:
            os.chmod(beside, stat.S_IMODE(before.st_mode) if before is not None else 0o666 & ~_umask())
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def _umask() -> int:
    """What new files are not allowed. It can only be read by setting it."""
    known = os.umask(0o077)
    os.umask(known)
    return known
