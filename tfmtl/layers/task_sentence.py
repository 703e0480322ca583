"""One vector for the main task and the auxiliary tasks of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.utils.register_keras_serializable(package="tfmtl")
class TaskSentence(keras.layers.Layer):
    """Embeds a sentence of task tokens: first the main task, then the auxiliary ones.

        x_task = [ Emb_0(main) ‖ Emb_1(auxiliary_1) ‖ ... ‖ Emb_{J-1}(auxiliary_{J-1}) ]

    Every position has a table of its own, so that the same token may mean another thing in another
    place. One more task costs one row per position in which it appears. A token outside its table
    is a vector of zeros, on every device: an unknown task gets what all tasks share.

    Shapes: B rows, J positions, D width of the sentence.

    Args:
        num_tokens_per_position: Rows of each position's table; their number is J.
        dim: Width D. Tables are D / J wide; where J does not divide D they are rounded up and a
            linear map without bias takes the concatenation to D.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `int [B, J]`. Output shape: `float [B, D]`.

    Raises:
        ValueError: If there is no position, a table has no row, `dim` is not positive, or the
            inputs have another number of positions.

    References:
        GRec (CIKM 2023), task tokens of the released code.

    Deviations:
        The linear map where J does not divide D, and the zeros of unknown tokens, are forms of our
        own. Tables start from N(0, 1), so that a sentence is as large as the tokens beside it from
        the first step; from the usual uniform start within 0.05 it would hardly steer anything.

    Example:
        >>> import tensorflow as tf
        >>> sentence = TaskSentence([3, 5], dim=8)  # three main tasks, five auxiliary ones
        >>> sentence(tf.constant([[0, 4], [2, 4]])).shape
        TensorShape([2, 8])
    """

    def __init__(self, num_tokens_per_position: Sequence[int], dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_tokens_per_position = [int(tokens) for tokens in num_tokens_per_position]
        self.dim = int(dim)
        if not self.num_tokens_per_position or min(self.num_tokens_per_position) < 1:
            raise ValueError(
                "expected at least one position with at least one token each; received "
                f"num_tokens_per_position={list(num_tokens_per_position)}: give the number of main "
                "tasks first, then that of each auxiliary position"
            )
        if self.dim < 1:
            raise ValueError(
                f"expected a positive dim; received {dim}: give the width of the model's tokens"
            )

    def build(self, input_shape: Any) -> None:
        """Creates one table per position, and the map to `dim` where one is needed."""
        positions = len(self.num_tokens_per_position)
        received = tf.TensorShape(input_shape)[-1]
        if received != positions:
            raise ValueError(
                f"expected task sentences of {positions} tokens, as num_tokens_per_position has; "
                f"received {received}: give one column per position"
            )
        width = -(-self.dim // positions)
        self._tables = [
            self.add_weight(
                name=f"table_{position}",
                shape=(tokens, width),
                initializer=keras.initializers.RandomNormal(stddev=1.0),
            )
            for position, tokens in enumerate(self.num_tokens_per_position)
        ]
        self._projection = None
        if width * positions != self.dim:
            self._projection = keras.layers.Dense(
                self.dim, use_bias=False, dtype=self.dtype_policy, name="projection"
            )
            with tf.name_scope(self._projection.name):
                self._projection.build([None, width * positions])
        super().build(input_shape)

    @property
    def tables(self) -> list[tf.Variable]:
        """The table of each position, `[tokens, ceil(D / J)]`."""
        return self._tables

    def call(self, tasks: tf.Tensor) -> tf.Tensor:
        """Maps tokens `int [B, J]` to sentences `[B, D]`."""
        sentence = tf.concat(
            [self._embed(tasks, position) for position in range(len(self._tables))], axis=-1
        )
        return sentence if self._projection is None else self._projection(sentence)

    def embed_main(self, tasks: tf.Tensor) -> tf.Tensor:
        """Maps tokens `int [B, J]` to the embedding of the main task alone, `[B, ceil(D / J)]`."""
        return tf.cast(self._embed(tasks, 0), self.compute_dtype)

    def _embed(self, tasks: tf.Tensor, position: int) -> tf.Tensor:
        tokens, last = tasks[:, position], self.num_tokens_per_position[position] - 1
        # A gather out of range stops on a CPU and gives zeros on a GPU.
        inside = tf.clip_by_value(tokens, 0, last)
        known = tf.cast(tokens == inside, self.compute_dtype)
        rows = tf.gather(self._tables[position], inside)
        return tf.cast(rows, self.compute_dtype) * known[:, tf.newaxis]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_tokens_per_position": self.num_tokens_per_position,
            "dim": self.dim,
        }
