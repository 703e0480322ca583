"""A loss that is not a number ends training before it is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from tfmtl.training.step_hook import after_each_step

_LOOK_EVERY = 100
_NONE_YET = -1


class NonFiniteLossError(RuntimeError):
    """A loss, or a weight after a step, is NaN or infinite."""


class FiniteLosses(keras.callbacks.Callback):
    """Stops training at a loss that is NaN or infinite, and names task, epoch and batch.

    The step itself notes, in its graph, the first batch at which a reported loss is not finite; the
    host looks at the note every 100 steps, at the end of an epoch and whenever `check` is called,
    which is before every checkpoint. So a step waits for nobody, and the last checkpoint is from
    before the batch. `check` looks at the weights as well: a gradient may be NaN where the loss is
    not.

    Args:
        first_step: Steps that the first epoch has behind it.
        batch: Gives the `(features, labels, sample_weights)` of an epoch and step, both counted
            from 0, so that the error can name columns with values that are not finite.

    Raises:
        NonFiniteLossError: From `fit`, in the cases above.

    Example:
        >>> FiniteLosses(first_step=3).first_step
        3
    """

    def __init__(
        self, *, first_step: int = 0, batch: Callable[[int, int], tuple[Any, ...]] | None = None
    ):
        super().__init__()
        # Else Keras would wait for every step, to give out its logs as numbers.
        self._supports_tf_logs = True
        self.first_step = first_step
        self._batch = batch

    def set_model(self, model: keras.Model) -> None:
        """Adds the note to the steps of a compiled model."""
        if self.model is model:
            return
        super().set_model(model)
        self._names = [
            metric.name for metric in model.metrics if metric.name.rpartition("_")[2] == "loss"
        ]
        # Under several replicas the reported losses are the same in all.
        options = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self._step = tf.Variable(0, dtype=tf.int64, **options)
        self._noted_step = tf.Variable(_NONE_YET, dtype=tf.int64, **options)
        self._noted = tf.Variable(tf.zeros([len(self._names)], tf.bool), **options)
        after_each_step(model, self._note)

    def _note(self, logs: Mapping[str, tf.Tensor]) -> None:
        # Means over the epoch so far: from the first such batch on they are not finite either.
        means = tf.stack([tf.cast(logs[name], tf.float32) for name in self._names])
        is_bad = tf.logical_not(tf.math.is_finite(means))
        is_first = tf.logical_and(self._noted_step < 0, tf.reduce_any(is_bad))
        self._noted_step.assign(tf.where(is_first, self._step, self._noted_step))
        self._noted.assign(tf.where(is_first, is_bad, self._noted))
        self._step.assign_add(1)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts steps from the epoch's first one."""
        self._epoch = epoch
        self._step.assign(self.first_step)
        self.first_step = 0
        self._looked = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks now and then."""
        if batch - self._looked >= _LOOK_EVERY:
            self._looked = batch
            self._check_losses()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks before the epoch is scored and saved."""
        self.check()

    def check(self) -> None:
        """Raises `NonFiniteLossError` if a loss or a weight is not finite by now."""
        self._check_losses()
        bad = [weight.name for weight in self.model.weights if not _is_finite(weight)]
        if bad:
            raise NonFiniteLossError(
                f"weights {bad[:3]}{' and others' if len(bad) > 3 else ''} are not finite after "
                f"{int(self._step.numpy())} steps of epoch {self._epoch + 1}, at finite losses: a "
                f"gradient overflowed; {_REMEDY}"
            )

    def _check_losses(self) -> None:
        step = int(self._noted_step.numpy())
        if step == _NONE_YET:
            return
        bad = [
            name for name, is_bad in zip(self._names, self._noted.numpy(), strict=True) if is_bad
        ]
        tasks = [name for name in self.model.task_names if f"{name}_loss" in bad]
        what = f"the loss of {_listed('task', tasks)}" if tasks else f"{bad[0]!r}"
        raise NonFiniteLossError(
            f"{what} is not finite at batch {step + 1} of epoch {self._epoch + 1}"
            f"{self._columns(step)}; {_REMEDY}"
        )

    def _columns(self, step: int) -> str:
        """What of the batch itself is not finite, in words."""
        if self._batch is None:
            return ""
        features, labels, sample_weights = self._batch(self._epoch, step)
        found = [
            f"{kind} {name!r}"
            for kind, columns in (
                ("feature", features),
                ("label", labels),
                ("weight", sample_weights),
            )
            for name, values in columns.items()
            if tf.is_tensor(values) and not _is_finite(values)
        ]
        if not found:
            return ", all of whose values are finite"
        return f", which has values that are not finite in {', '.join(found)}"


_REMEDY = (
    "the last checkpoint is from before it: correct the data, or lower training.learning_rate or "
    "set training.clip_norm and train into another folder"
)


def _listed(noun: str, names: list[str]) -> str:
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"


def _is_finite(values: Any) -> bool:
    return not values.dtype.is_floating or bool(tf.reduce_all(tf.math.is_finite(values)))
