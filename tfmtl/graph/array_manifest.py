"""Folders of arrays with a manifest that says what they are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl.data.file_digest import file_sha256
from tfmtl.graph.bundle_error import BundleError

MANIFEST = "manifest.json"


def write_manifest(
    folder: Path, arrays: Iterable[str], content: dict[str, Any], *, kind: str, version: int
) -> None:
    """Describes the arrays of a folder in `manifest.json`.

    Args:
        folder: The folder.
        arrays: Names of its `.npy` files, relative to the folder.
        content: What else the manifest says.
        kind: Name of the format.
        version: Version of the format.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     np.save(Path(name) / "x.npy", np.zeros(2))
        ...     write_manifest(Path(name), ["x.npy"], {}, kind="box", version=1)
        ...     manifest = read_manifest(Path(name), kind="box", version=1, noun="box")
        >>> manifest["arrays"]["x.npy"]["shape"]
        [2]
    """
    described = {}
    for name in arrays:
        path = folder / name
        values = np.load(path, mmap_mode="r")
        described[name] = {
            "dtype": str(values.dtype),
            "shape": list(values.shape),
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
    manifest = content | {"format": kind, "format_version": version, "arrays": described}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def read_manifest(
    folder: Path, *, kind: str, version: int, noun: str, needed: Iterable[str] = ()
) -> dict[str, Any]:
    """Reads a manifest and checks format, version and entries.

    Args:
        folder: The folder.
        kind: Expected name of the format.
        version: Expected version.
        noun: What the folder should be, for the errors, e.g. `graph bundle`.
        needed: Entries that the manifest must have beside `arrays`.

    Returns:
        The manifest.

    Raises:
        BundleError: If the manifest is missing, damaged or of another format or version.

    Example:
        >>> read_manifest(Path("no/such"), kind="box", version=1, noun="box")
        Traceback (most recent call last):
        ...
        tfmtl.graph.bundle_error.BundleError: no/such is no box: manifest.json is missing
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BundleError(f"{folder} is no {noun}: {MANIFEST} is missing")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != kind:
        raise BundleError(f"{path} does not describe a {noun}")
    if manifest.get("format_version") != version:
        raise BundleError(
            f"{folder}: expected format version {version}; received "
            f"{manifest.get('format_version')}: build the graph again with this version"
        )
    absent = {"arrays", *needed} - manifest.keys()
    if absent:
        raise BundleError(f"{path} lacks {sorted(absent)}")
    return manifest


def check_arrays(folder: Path, arrays: dict[str, Any], *, verify: bool = False) -> None:
    """Compares the arrays of a folder with its manifest: presence, size and header.

    Args:
        folder: The folder.
        arrays: The manifest's entry `arrays`.
        verify: Also read every array through and compare checksums.

    Raises:
        BundleError: Names the first array that is missing or differs.

    Example:
        >>> check_arrays(Path("."), {})
    """
    for name, expected in arrays.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{folder}: array {name} is missing; build the graph again")
        if path.stat().st_size != expected["bytes"]:
            raise BundleError(
                f"{folder}: array {name} has {path.stat().st_size} bytes, the manifest says "
                f"{expected['bytes']}; the copy is incomplete or was changed"
            )
        if verify and file_sha256(path) != expected["sha256"]:
            raise BundleError(f"{folder}: array {name} does not match its checksum; it was changed")
        try:
            values = np.load(path, mmap_mode="r")
        except ValueError as error:
            raise BundleError(f"{folder}: array {name} is not readable: {error}") from error
        if [str(values.dtype), list(values.shape)] != [expected["dtype"], expected["shape"]]:
            raise BundleError(
                f"{folder}: array {name} is {values.dtype} {list(values.shape)}, the manifest "
                f"says {expected['dtype']} {expected['shape']}"
            )


def check_entries(manifest: dict[str, Any], expected: dict[str, Any], noun: str) -> None:
    """Checks that a graph was made from what it is about to be used with.

    Args:
        manifest: The graph's manifest.
        expected: Expected entries by name.
        noun: What the graph is called in the errors, e.g. `graph`.

    Raises:
        BundleError: Names the first entry that differs, with both values.

    Example:
        >>> check_entries({"seed": 1}, {"seed": 1}, "graph")
    """
    for name, value in expected.items():
        if name not in manifest:
            raise BundleError(f"the {noun}'s manifest has no entry {name!r} to check")
        if manifest[name] != value:
            raise BundleError(
                f"the {noun} was built with {name} {manifest[name]!r}, now it is "
                f"{value!r}; build the graph again"
            )
