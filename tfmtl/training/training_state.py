"""Checkpoints, the best epoch and early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.training.checkpoint_folder import CheckpointFolder
from tfmtl.training.weight_average import WeightAverage


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
    """Saves a run as it goes, remembers the best epoch, and stops when it stays the best.

    `last/` holds all that the run's future depends on: model, optimiser, finished epochs and steps,
    means of the losses so far, best-so-far. It is saved after every epoch and, where asked for,
    within: an interrupted run goes on from there. `best/` holds the same after the best epoch.

    Args:
        folder: Where the checkpoints go.
        monitor: Key of the epoch's logs that selects the best epoch.
        greater_is_better: Whether a larger value is better.
        patience: Epochs in a row without improvement that are put up with; one more ends training.
        every_steps: Steps after which `last/` is saved within an epoch; None for no number.
        every_minutes: Minutes after which it is; None for no time.
        average: The average that stands in for the weights when an epoch ends: `best/` is saved
            with it, and training goes on with the weights.
        check: Called before `last/` is replaced; what it raises keeps what is there.

    Example:
        >>> import tempfile
        >>> state = TrainingState(
        ...     Path(tempfile.mkdtemp()), monitor="val_gauc", greater_is_better=True, patience=2)
        >>> state.improves(0.61), state.improves(float("nan"))
        (True, False)
    """

    def __init__(
        self,
        folder: Path,
        *,
        monitor: str,
        greater_is_better: bool,
        patience: int,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        average: WeightAverage | None = None,
        check: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        # Else Keras would wait for every step, to give out its logs as numbers.
        self._supports_tf_logs = True
        self.folder = Path(folder)
        self.monitor = monitor
        self.greater_is_better = greater_is_better
        self.patience = patience
        self.every_steps = every_steps or math.inf
        self.every_seconds = (every_minutes or math.inf) * 60
        self.average = average
        self._check = check
        worst = -math.inf if greater_is_better else math.inf
        self.epochs_done = tf.Variable(0, dtype=tf.int64, trainable=False)
        # Of the epoch that has begun, and how long they took.
        self.steps_done = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.seconds = tf.Variable(0, dtype=tf.float64, trainable=False)
        self.best_epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best_value = tf.Variable(worst, dtype=tf.float64, trainable=False)
        self._means: list[tuple[tf.Variable, np.ndarray]] = []

    def set_model(self, model: keras.Model) -> None:
        """Binds the checkpoints to a compiled model whose weights exist."""
        if self.model is model:
            return
        super().set_model(model)
        averages = [] if self.average is None else self.average.averages
        self._checkpoint = tf.train.Checkpoint(
            model=model,
            optimizer=model.optimizer,
            averages=averages,
            epochs_done=self.epochs_done,
            steps_done=self.steps_done,
            seconds=self.seconds,
            best_epoch=self.best_epoch,
            best_value=self.best_value,
        )
        variables = [*model.variables, *model.optimizer.variables, *averages]
        size = sum(math.prod(variable.shape) * variable.dtype.size for variable in variables)
        self._folders = {
            name: CheckpointFolder(self._checkpoint, self.folder / name, size=size)
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
        path = self._folders[name].latest
        if path is None:
            raise CheckpointError(
                f"no checkpoint under {self.folder / name}: the run was interrupted before its "
                "first one, start it again"
            )
        restore_checkpoint(self._checkpoint, path)
        # `fit` sets them to 0 when it begins an epoch.
        metrics = self.model.metrics if int(self.steps_done) else []
        self._means = [
            (variable, variable.numpy()) for metric in metrics for variable in metric.variables
        ]

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return int(self.epochs_done.numpy() - self.best_epoch.numpy()) > self.patience

    def elapsed(self) -> float:
        """Seconds that the epoch has taken, before and after an interruption."""
        return time.perf_counter() - self._begun

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes up the means of an epoch that was interrupted."""
        del epoch, logs
        for variable, value in self._means:
            variable.assign(value)
        self._means = []
        now = time.perf_counter()
        self._begun = now - float(self.seconds)
        self._first_step = self._saved_step = int(self.steps_done)
        self._saved_time = now

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the run when it is time to."""
        del logs
        is_last = batch + 1 == self.params["steps"]
        step = self._first_step + batch + 1
        late = time.perf_counter() - self._saved_time >= self.every_seconds
        # A call of several steps may pass the one at which to save.
        if not is_last and (
            late or step // self.every_steps > self._saved_step // self.every_steps
        ):
            self.steps_done.assign(step)
            self.seconds.assign(self.elapsed())
            self._save_last()
            self._saved_step = step
            self._saved_time = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the epoch and decides whether to go on."""
        value = float((logs or {}).get(self.monitor, math.nan))
        self.epochs_done.assign(epoch + 1)
        self.steps_done.assign(0)
        self.seconds.assign(0)
        if self.improves(value) or epoch == 0:
            if not math.isnan(value):
                self.best_value.assign(value)
            self.best_epoch.assign(epoch + 1)
            self._folders["best"].save()
        if self.average is not None:
            self.average.swap()
        self._save_last()
        if self.exhausted:
            self.model.stop_training = True

    def _save_last(self) -> None:
        self._check()
        self._folders["last"].save()
