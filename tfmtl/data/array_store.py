"""Arrays and the JSON document that describes them, on disk with a checksum."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tfmtl.data.arrow_columns import to_ids


def content_digest(document: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of a JSON-able document and named arrays.

    Example:
        >>> content_digest({"a": 1}, {"x": np.zeros(2)}) == content_digest({"a": 1}, {})
        False
    """
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name, array in sorted(_packed(arrays).items()):
        digest.update(f"{name}:{array.dtype.str}:{array.shape}:".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_arrays(
    folder: Path, name: str, document: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Writes `<name>.npz` and `<name>.json`, each aside and then renamed.

    Args:
        folder: Folder to write to; made when missing.
        name: Stem of both files.
        document: JSON-able content.
        arrays: Numeric arrays, or `object [n]` arrays of `str`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    signed = {**document, "sha256": content_digest(document, arrays)}
    packed: dict[str, Any] = _packed(arrays)
    aside = folder / f".{name}.{os.getpid()}"
    try:
        with aside.open("wb") as file:
            np.savez(file, **packed)
        aside.replace(folder / f"{name}.npz")
        aside.write_text(json.dumps(signed, indent=1), encoding="utf-8")
        aside.replace(folder / f"{name}.json")
    finally:
        aside.unlink(missing_ok=True)


def read_arrays(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads what `write_arrays` wrote.

    Returns:
        The document and the arrays.

    Raises:
        ValueError: If a file is missing or broken, or the content does not match its checksum.
    """
    try:
        document = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            arrays = _unpacked({key: file[key] for key in file.files})
        expected = document.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{folder}: cannot read {name}.json and {name}.npz: {error}") from error
    received = content_digest(document, arrays)
    if received != expected:
        raise ValueError(
            f"{folder}: {name}.npz and {name}.json do not belong together or are damaged: "
            f"checksum {received[:12]}, expected {expected[:12]}"
        )
    return document, arrays


def _packed(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Strings as one run of bytes and its ends: NumPy's own string type cuts trailing NULs."""
    packed = {}
    for name, array in arrays.items():
        if array.dtype != object:
            packed[name] = array
            continue
        _, offsets, data = pa.array(array, pa.large_string()).buffers()
        packed[f"{name}/offsets"] = np.frombuffer(offsets, np.int64)[: len(array) + 1]
        ends = packed[f"{name}/offsets"][-1]
        packed[f"{name}/utf8"] = np.frombuffer(data or b"", np.uint8)[:ends]
    return packed


def _unpacked(packed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, array in packed.items():
        if name.endswith("/utf8"):
            continue
        if not name.endswith("/offsets"):
            arrays[name] = array
            continue
        stem = name.removesuffix("/offsets")
        data = packed[f"{stem}/utf8"]
        texts = pa.LargeStringArray.from_buffers(
            len(array) - 1, pa.py_buffer(array), pa.py_buffer(data)
        )
        arrays[stem] = to_ids(texts)
    return arrays
