"""A progress bar for `fit`."""

from __future__ import annotations

import time
from typing import Any

import tf_keras as keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

_SECONDS_BETWEEN_LOSSES = 0.1


class ProgressBar(keras.callbacks.Callback):
    """Shows one bar per epoch with the running loss, then a line with the validation metrics.

    Args:
        label: Shown in front of the bar, e.g. the model's name.
        first_step: Steps that the first epoch has behind it.
        console: Where to draw; standard error by default.

    Example:
        >>> ProgressBar("mmoe").label
        'mmoe'
    """

    def __init__(self, label: str, *, first_step: int = 0, console: Console | None = None):
        super().__init__()
        # Else Keras would wait for every step, to give out its logs as numbers.
        self._supports_tf_logs = True
        self.label = label
        self.first_step = first_step
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=self._console,
            transient=True,
        )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the epoch's bar."""
        # Of an epoch that was interrupted, `fit` is given the rest alone.
        self._first_step, self.first_step = self.first_step, 0
        steps = self.params.get("steps")
        self._steps = None if steps is None else self._first_step + steps
        self._read, self._status = 0.0, ""
        self._bar = self._progress.add_task(
            f"{self.label}, epoch {epoch + 1}",
            total=self._steps,
            completed=self._first_step,
            status="",
        )
        self._progress.start()

    def close(self) -> None:
        """Removes the bar of an epoch that did not end."""
        self._progress.stop()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advances the bar."""
        completed = self._first_step + batch + 1
        now = time.perf_counter()
        # To read the loss is to wait for the step.
        if now - self._read >= _SECONDS_BETWEEN_LOSSES or completed == self._steps:
            self._read = now
            # Where workers make the steps, there is none yet.
            self._status = f"loss {float(logs['loss']):.4f}" if logs else ""
        self._progress.update(self._bar, completed=completed, status=self._status)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Replaces the bar by a summary line."""
        self._progress.stop()
        self._progress.remove_task(self._bar)
        logs = logs or {}
        metrics = ", ".join(
            f"{name[4:]} {logs[name]:.4f}"
            for name in ("val_auc", "val_gauc", "val_log_loss")
            if name in logs
        )
        self._console.print(
            f"{self.label}: epoch {epoch + 1}, loss {logs.get('loss', 0.0):.4f}; "
            f"validation mean over tasks: {metrics}",
            highlight=False,
            soft_wrap=True,
        )
