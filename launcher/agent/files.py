"""Files that only we may read, and that a reader never sees half-written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def open_private(path: Path) -> BinaryIO:
    """Open for appending, without a buffer; made with mode 0600 if need be. Raises OSError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab", 0)


def write(file: BinaryIO, content: bytes) -> None:
    """Write all of it: without a buffer, a nearly full disk takes a part. Raises OSError."""
    while content:
        content = content[file.write(content) :]


def replace(path: Path, content: bytes) -> None:
    """Put the whole content in place, or nothing. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    with open_private(temporary) as file:
        write(file, content)
        os.fsync(file.fileno())
    temporary.replace(path)
