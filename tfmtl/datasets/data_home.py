"""Where datasets live on disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

DATA_HOME_VARIABLE = "TFMTL_DATA_HOME"


def data_home(data_dir: str | Path | None = None) -> Path:
    """The folder that holds one folder per dataset.

    Args:
        data_dir: Wins over everything else when given (`--data-dir` on the command line).

    Returns:
        `data_dir`, else the environment variable `TFMTL_DATA_HOME`, else `~/.cache/tfmtl`.

    Example:
        >>> data_home("/data").as_posix()
        '/data'
    """
    chosen = data_dir or os.environ.get(DATA_HOME_VARIABLE) or Path.home() / ".cache" / "tfmtl"
    return Path(chosen).expanduser()


def find_folder(
    home: Path, folder_names: Sequence[str], required: Sequence[Sequence[str]]
) -> Path | None:
    """The first complete copy of a dataset in `home`.

    Args:
        home: The data home, or the dataset's own folder.
        folder_names: Names a copy may have, looked up in this order before `home` itself.
        required: For each needed file, the glob patterns that may stand for it.

    Returns:
        The folder in which every needed file matches, or `None`.
    """
    for folder in (*(home / name for name in folder_names), home):
        if all(any(any(folder.glob(pattern)) for pattern in one_of) for one_of in required):
            return folder
    return None


@contextmanager
def writing_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block ends without an error.

    A reader therefore sees the whole folder or none. Where `target` exists, because another
    process was faster or a file of it was lost, the files replace those in it one by one.

    Args:
        target: The folder to create; its parent is created when needed.

    Yields:
        An empty folder beside `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield draft
        draft.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            for path in draft.iterdir():
                path.replace(target / path.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
