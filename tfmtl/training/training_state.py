"""Checkpoints, the best epoch and early stopping."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras


class CheckpointError(ValueError):
    """A run folder has no checkpoint that fits."""


def restore_checkpoint(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Restores every variable of a checkpoint's objects.

    Args:
        checkpoint: The objects, with all their variables made.
        path: A checkpoint; it may hold more than the objects.

    Raises:
        CheckpointError: If files are missing or damaged, or hold other variables.

    Example:
        >>> restore_checkpoint(tf.train.Checkpoint(), "no/such/checkpoint")
        Traceback (most recent call last):
        ...
        tfmtl.training.training_state.CheckpointError: cannot restore no/such/checkpoint: ...
    """
    try:
        status = checkpoint.restore(path)
        status.assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, AssertionError, ValueError, IndexError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"cannot restore {path}: {reason}; the files are damaged or of another model: "
            "train into another folder"
        ) from error


class TrainingState(keras.callbacks.Callback):
    """Saves every epoch, remembers the best one, and stops when it stays the best.

    `last/` holds model, optimiser, epoch and best-so-far after the last finished epoch; `best/`
    the same after the best one. An interrupted run goes on from `last/`.

    Args:
        folder: Where the checkpoints go.
        monitor: Key of the epoch's logs that selects the best epoch.
        greater_is_better: Whether a larger value is better.
        patience: Epochs in a row without improvement that are put up with; one more ends training.

    Example:
        >>> import tempfile
        >>> state = TrainingState(
        ...     Path(tempfile.mkdtemp()), monitor="val_gauc", greater_is_better=True, patience=2)
        >>> state.improves(0.61), state.improves(float("nan"))
        (True, False)
    """

    def __init__(self, folder: Path, *, monitor: str, greater_is_better: bool, patience: int):
        super().__init__()
        self.folder = Path(folder)
        self.monitor = monitor
        self.greater_is_better = greater_is_better
        self.patience = patience
        worst = -math.inf if greater_is_better else math.inf
        self.epochs_done = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best_epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best_value = tf.Variable(worst, dtype=tf.float64, trainable=False)

    def set_model(self, model: keras.Model) -> None:
        """Binds the checkpoints to a compiled model whose weights exist."""
        super().set_model(model)
        self._checkpoint = tf.train.Checkpoint(
            model=model,
            optimizer=model.optimizer,
            epochs_done=self.epochs_done,
            best_epoch=self.best_epoch,
            best_value=self.best_value,
        )
        self._managers = {
            name: tf.train.CheckpointManager(self._checkpoint, str(self.folder / name), 1)
            for name in ("last", "best")
        }

    def improves(self, value: float) -> bool:
        """Whether `value` beats the best so far; NaN never does."""
        best = float(self.best_value.numpy())
        return value > best if self.greater_is_better else value < best

    def restore(self, name: str) -> None:
        """Restores `last` or `best` into the bound model.

        Raises:
            CheckpointError: If there is no such checkpoint, or it is damaged or another model's.
        """
        path = self._managers[name].latest_checkpoint
        if path is None:
            raise CheckpointError(
                f"no checkpoint under {self.folder / name}: the run was interrupted before its "
                "first epoch ended, start it again without --resume"
            )
        restore_checkpoint(self._checkpoint, path)

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return int(self.epochs_done.numpy() - self.best_epoch.numpy()) > self.patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the epoch and decides whether to go on."""
        value = float((logs or {}).get(self.monitor, math.nan))
        self.epochs_done.assign(epoch + 1)
        if self.improves(value) or epoch == 0:
            if not math.isnan(value):
                self.best_value.assign(value)
            self.best_epoch.assign(epoch + 1)
            self._managers["best"].save()
        self._managers["last"].save()
        if self.exhausted:
            self.model.stop_training = True
