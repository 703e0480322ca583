"""Routed experts against fewer of them, and against a bank that evaluates all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras

from benchmarks.side_by_side import milliseconds, ratio, side_by_side
from tfmtl.layers import PerExpertInitializer, RMSNorm, TaskSentenceMoE

TOKENS, DIM = 5, 128
FEW, SOME, MANY = 4, 8, 64


class _DenseBank(keras.layers.Layer):
    """The same feed-forward layer as it is written without routing: every expert on every token."""

    def __init__(self, num_experts: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_experts = num_experts

    def build(self, input_shape: Any) -> None:
        tokens, tasks = (tf.TensorShape(shape) for shape in input_shape)
        width = int(tokens[-1])
        self.norm = RMSNorm()
        self.gate = keras.layers.Dense(self.num_experts)
        self.norm.build([None, width])
        self.gate.build([None, int(tasks[-1])])
        self.kernels = [
            self.add_weight(
                name=f"kernel_{number}",
                shape=(self.num_experts, width, width),
                initializer=PerExpertInitializer("glorot_uniform"),
            )
            for number in range(2)
        ]
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        del training
        tokens, tasks = inputs
        weights = tf.nn.softmax(self.gate(tasks))
        hidden = tf.reshape(self.norm(tokens), [-1, DIM])
        hidden = tf.nn.leaky_relu(tf.einsum("nd,edh->neh", hidden, self.kernels[0]), 0.2)
        hidden = tf.einsum("neh,eho->neo", hidden, self.kernels[1])
        hidden = tf.reshape(hidden, [-1, TOKENS, self.num_experts, DIM])
        return tokens + tf.einsum("be,bleo->blo", weights, hidden)


def measure(rows: int, routing: str, rounds: int) -> dict[str, Any]:
    """Growths and shares of one batch size and routing.

    Every row has a sentence of its own, so that the untrained router spreads them over all experts.
    A step is forward, backward and an update by Adam.

    Args:
        rows: Rows B of a batch, of 5 tokens of width 128 each.
        routing: How experts are chosen, see `TaskSentenceMoE`.
        rounds: Rounds that are timed.
    """
    tokens = tf.random.stateless_normal([rows, TOKENS, DIM], [1, 2])
    tasks = tf.random.stateless_normal([rows, DIM], [3, 4])
    functions: dict[str, Callable[[], object]] = {}
    for name, layer in {
        **{f"routed_{count}": TaskSentenceMoE(count, routing=routing) for count in (4, 8, 64)},
        f"dense_{SOME}": _DenseBank(SOME),
    }.items():
        forward, step = _functions(layer, tokens, tasks)
        functions |= {f"{name}_forward": forward, f"{name}_step": step}
    times = side_by_side(functions, rounds=rounds)
    parts = ("forward", "step")
    return {
        "rows": rows,
        "routing": routing,
        "milliseconds": milliseconds(times),
        "expert_growth": {
            part: ratio(times, f"routed_{MANY}_{part}", f"routed_{FEW}_{part}") for part in parts
        },
        "sparse_vs_dense": {
            part: ratio(times, f"routed_{SOME}_{part}", f"dense_{SOME}_{part}") for part in parts
        },
    }


def _functions(
    layer: keras.layers.Layer, tokens: tf.Tensor, tasks: tf.Tensor
) -> tuple[Callable[[], object], Callable[[], object]]:
    layer.build((tokens.shape, tasks.shape))
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(layer.trainable_variables)

    @tf.function
    def forward() -> tf.Tensor:
        return tf.reduce_sum(layer((tokens, tasks), training=False))

    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(tokens)
            loss = tf.reduce_mean(tf.square(layer((tokens, tasks), training=True) - 1.0))
            loss += tf.add_n(layer.losses) if layer.losses else 0.0
        upstream, *gradients = tape.gradient(loss, [tokens, *layer.trainable_variables])
        optimizer.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))
        return loss + 0.0 * tf.reduce_sum(upstream)

    return lambda: forward().numpy(), lambda: step().numpy()
