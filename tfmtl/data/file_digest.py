"""Checksums of files of any size."""

from __future__ import annotations

import hashlib
from pathlib import Path

_CHUNK = 1 << 24


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read piece by piece.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as empty:
        ...     file_sha256(Path(empty.name))[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
