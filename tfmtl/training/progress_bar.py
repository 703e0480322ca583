"""A progress bar for `fit`."""

from __future__ import annotations

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


class ProgressBar(keras.callbacks.Callback):
    """Shows one bar per epoch with the running loss, then a line with the validation metrics.

    Args:
        label: Shown in front of the bar, e.g. the model's name.
        console: Where to draw; standard error by default.

    Example:
        >>> ProgressBar("mmoe").label
        'mmoe'
    """

    def __init__(self, label: str, *, console: Console | None = None):
        super().__init__()
        self.label = label
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
        self._bar = self._progress.add_task(
            f"{self.label}, epoch {epoch + 1}", total=self.params.get("steps"), status=""
        )
        self._progress.start()

    def close(self) -> None:
        """Removes the bar of an epoch that did not end."""
        self._progress.stop()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advances the bar."""
        self._progress.update(
            self._bar, completed=batch + 1, status=f"loss {(logs or {}).get('loss', 0.0):.4f}"
        )

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
