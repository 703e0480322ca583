"""What layers show of themselves to whoever calls a model under a recording."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass

import tensorflow as tf

_UNDER_WAY: ContextVar[Recording | None] = ContextVar("recording", default=None)


@dataclass(frozen=True)
class RecordedGate:
    """Weights that one gate gave to the experts that it sees.

    Args:
        name: Names of the model and of the layers around the gate, then its own, such as
            `"model/level/gate"`.
        experts: Names of the E experts. Gates whose names differ in the last part alone see
            experts of one bank, of which equal names are equal experts.
        weights: `float32 [B, E]`, rows sum to 1.

    Example:
        >>> RecordedGate("mmoe/click_gate", ("0", "1"), tf.fill([3, 2], 0.5)).experts
        ('0', '1')
    """

    name: str
    experts: tuple[str, ...]
    weights: tf.Tensor


class Recording:
    """Collects gates and the shared representation of the batches that a model is called on.

    Inside the `with` block layers hand over tensors that they make anyway, so that outputs and
    graphs are those of a call without it. What is called in a `tf.function` hands over tensors of
    its graph while it is traced, and nothing afterwards. A recording belongs to its thread; of
    nested ones the inner one records.

    Args:
        tape: A tape that watches the shared representation from where it is made, so that it
            gives gradients with respect to it.

    Example:
        >>> from tfmtl.layers import Gate
        >>> with Recording() as recording:
        ...     _ = Gate(2, name="gate")(tf.zeros([1, 3]))
        >>> [(gate.name, gate.weights.numpy().tolist()) for gate in recording.gates]
        [('gate', [[0.5, 0.5]])]
    """

    def __init__(self, tape: tf.GradientTape | None = None):
        self.gates: list[RecordedGate] = []
        self.shared: list[tf.Tensor] = []
        self._tape = tape
        self._before: list[Token] = []

    @staticmethod
    def show_gate(experts: Sequence[str], weights: tf.Tensor) -> None:
        """Hands over the weights `[B, E]` of the gate whose call this is.

        Weights of a single expert, of which there is no choice, are passed over.
        """
        recording = _UNDER_WAY.get()
        if recording is not None and len(experts) > 1:
            name = tf.get_current_name_scope()
            recording.gates.append(RecordedGate(name, tuple(experts), weights))

    @staticmethod
    def show_shared(representation: tf.Tensor) -> None:
        """Hands over what all tasks read of a batch's rows, `[B, D]`."""
        recording = _UNDER_WAY.get()
        if recording is not None:
            if recording._tape is not None:
                recording._tape.watch(representation)
            recording.shared.append(representation)

    def __enter__(self) -> Recording:
        self._before.append(_UNDER_WAY.set(self))
        return self

    def __exit__(self, *error: object) -> None:
        _UNDER_WAY.reset(self._before.pop())
