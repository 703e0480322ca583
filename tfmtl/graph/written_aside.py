"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_aside(folder: Path, marker: str) -> Iterator[Path]:
    """Gives a temporary folder that takes the place of `folder` when the block ends well.

    Args:
        folder: Where the folder shall be. One that is there and holds `marker`, or is empty, is
            replaced.
        marker: Name of the file by which a folder is known to be one of ours.

    Yields:
        The temporary folder, in the same parent; removed if the block fails.

    Raises:
        FileExistsError: If something else is there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     with written_aside(Path(parent) / "box", "label.txt") as box:
        ...         _ = (box / "label.txt").write_text("full")
        ...     sorted(path.name for path in Path(parent).iterdir())
        ['box']
    """
    if folder.exists() and not (
        folder.is_dir() and ((folder / marker).is_file() or not any(folder.iterdir()))
    ):
        raise FileExistsError(
            f"{folder} exists and holds no {marker}; choose another folder or remove it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    suffix = uuid.uuid4().hex
    aside = folder.with_name(f".{folder.name}.{suffix}.new")
    old = folder.with_name(f".{folder.name}.{suffix}.old")
    aside.mkdir()
    try:
        yield aside
        if folder.exists():
            folder.rename(old)
        try:
            aside.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
