"""A folder with one checkpoint, the newest."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import tensorflow as tf

_NAME = "ckpt"
_MEGABYTE = 2**20


class CheckpointFolder:
    """Keeps the newest checkpoint of some objects; at every moment the folder holds a whole one.

    A checkpoint is written beside the one before it, under a number of its own, and then takes its
    place. What an interrupted or failed write leaves behind is removed with the next one.

    Args:
        checkpoint: The objects.
        folder: The folder; made with the first checkpoint.
        size: Bytes that a checkpoint takes, about; told when the disk is full.

    Example:
        >>> import tempfile
        >>> number = tf.Variable(1)
        >>> path = Path(tempfile.mkdtemp())
        >>> folder = CheckpointFolder(tf.train.Checkpoint(number=number), path, size=4)
        >>> folder.latest is None
        True
        >>> folder.save()
        >>> Path(folder.latest).name
        'ckpt-1'
    """

    def __init__(self, checkpoint: tf.train.Checkpoint, folder: Path, *, size: int):
        self.path = Path(folder)
        self.size = size
        self._manager = tf.train.CheckpointManager(
            checkpoint, str(self.path), 1, checkpoint_name=_NAME
        )

    @property
    def latest(self) -> str | None:
        """Path of the checkpoint, as `tf.train.Checkpoint.restore` takes it; None before any."""
        state = tf.train.get_checkpoint_state(str(self.path))
        return None if state is None else state.model_checkpoint_path

    def save(self) -> None:
        """Replaces the checkpoint by one of the objects as they are.

        Raises:
            OSError: If it cannot be written; the one before it is then still there.
        """
        before = self.latest
        # Not the number of saves, which a resumed run restores: it would write over files that the
        # folder's state names.
        number = int(before.rpartition("-")[2]) + 1 if before else 1
        self._remove_remains(before)
        try:
            self._manager.save(checkpoint_number=number)
        except (OSError, tf.errors.OpError) as error:
            self._remove_remains(before)
            # Without the names of TensorFlow's operations.
            reason = re.sub(r"\{\{.*?\}\}|\[Op:\w*\]", "", str(error)).strip().splitlines()[0]
            free = shutil.disk_usage(_existing(self.path)).free
            kept = "the checkpoint before it is kept" if before else "there is none before it"
            raise OSError(
                f"cannot write the checkpoint {self.path / f'{_NAME}-{number}'}: {reason}; it "
                f"takes about {_megabytes(self.size)} MB and {_megabytes(free)} MB are free: make "
                f"room and resume the run ({kept})"
            ) from error

    def _remove_remains(self, kept: str | None) -> None:
        """Removes all but the checkpoint that the folder's state names, and that state."""
        if not self.path.exists():
            return
        stem = Path(kept).name if kept else None
        for path in self.path.iterdir():
            is_kept = stem is not None and path.name.startswith((f"{stem}.index", f"{stem}.data-"))
            if is_kept or (path.name == "checkpoint" and kept is not None):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def _megabytes(size: int) -> str:
    return f"{size / _MEGABYTE:,.1f}"
