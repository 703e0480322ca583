"""Sends each token to the few experts that suit it."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras as keras

from tfmtl.layers.random_generator import random_generator


class Routing(NamedTuple):
    """Where a router sends N tokens.

    Shapes: N tokens, k experts for each, E experts in all.

    Args:
        experts: Chosen experts `int32 [N, k]`, the most probable one first.
        weights: What each chosen expert counts, `float32 [N, k]`.
        probabilities: The router's distribution `float32 [N, E]`.
        load: Share of the choices that each expert received, `float32 [E]`; sums to 1.
        balance_loss: L_bal, a `float32` scalar: 1 at perfect balance, E when one expert takes all.
        z_loss: L_z, a `float32` scalar.

    Example:
        >>> import tensorflow as tf
        >>> routing = TopKRouter(4, k=2)(tf.zeros([3, 8]))
        >>> routing.experts.numpy().tolist(), float(routing.balance_loss)
        ([[0, 1], [0, 1], [0, 1]], 1.0)
    """

    experts: Any
    weights: Any
    probabilities: Any
    load: Any
    balance_loss: Any
    z_loss: Any

    @classmethod
    def from_logits(cls, logits: tf.Tensor, *, k: int, renormalize: bool) -> Routing:
        """Sends tokens to the k experts of the highest logits, see `TopKRouter`.

        Args:
            logits: Scores of the experts, `float32 [..., E]`.
            k: Experts chosen for each token, from 1 to E.
            renormalize: Whether the weights of the k are scaled to sum to 1; they are their
                probabilities otherwise.

        Returns:
            The routing, with the leading dimensions of the logits.
        """
        num_experts = logits.shape[-1]
        probabilities = tf.nn.softmax(logits)
        weights, experts = tf.math.top_k(probabilities, k)
        if renormalize:
            weights /= tf.reduce_sum(weights, axis=-1, keepdims=True)

        flat = tf.reshape(experts, [-1])
        counts = tf.math.unsorted_segment_sum(tf.ones_like(flat, tf.float32), flat, num_experts)
        load = tf.math.divide_no_nan(counts, tf.reduce_sum(counts))
        rows = tf.reshape(probabilities, [-1, num_experts])
        # An empty batch has no mean: its losses are 0.
        number = tf.maximum(tf.cast(tf.shape(rows)[0], tf.float32), 1.0)
        means = tf.reduce_sum(rows, axis=0) / number
        return cls(
            experts,
            weights,
            probabilities,
            load,
            balance_loss=num_experts * tf.reduce_sum(load * means),
            z_loss=tf.reduce_sum(tf.square(tf.reduce_logsumexp(logits, axis=-1))) / number,
        )


@keras.utils.register_keras_serializable(package="tfmtl")
class TopKRouter(keras.layers.Layer):
    """Chooses the k most probable of E experts for each token.

        p = softmax( (r ⊙ U(1 - ε, 1 + ε)) W_r + b_r )
        L_bal = E sum_e f_e P_e,   L_z = mean_n logsumexp(logits_n)^2

    with f_e the share of all choices that expert e received and P_e the mean of its probability,
    both over the whole batch: L_bal pulls probability away from crowded experts, L_z keeps the
    logits small. All of it is in float32 under any policy, since rounding moves tokens to other
    experts. Among equally probable experts the one with the lowest index is chosen. The losses of
    an empty batch are 0.

    Shapes: N tokens (any leading dimensions), R width of the router's state, E experts.

    Args:
        num_experts: Number of experts E.
        k: Experts chosen for each token.
        jitter: Half-width ε of the noise that multiplies the state, in training only.
        renormalize: Whether the weights of the k chosen experts are scaled to sum to 1; they are
            their probabilities otherwise. With `k=1` the weight is then always 1, and only the
            losses train the router.
        **kwargs: Passed to `keras.layers.Layer`.

    Input shape: `float [..., R]`. Output: `Routing`, with the leading dimensions of the input.

    Raises:
        ValueError: If `k` is not from 1 to `num_experts`, or `jitter` is not from 0 to below 1.

    References:
        GRec (CIKM 2023), routers of the released code; Switch Transformer (JMLR 2022), equations 4
        to 6; ST-MoE (2022), equation 5.

    Deviations:
        GRec's released code jitters at inference too, feeds logits instead of probabilities to
        L_bal, and takes its means over the tokens of one sample. That is near E however well the
        batch is balanced, once all tokens of a sample share an expert.

    Example:
        >>> import tensorflow as tf
        >>> routing = TopKRouter(8, k=2)(tf.random.normal([5, 16]))
        >>> routing.experts.shape, routing.probabilities.shape
        (TensorShape([5, 2]), TensorShape([5, 8]))
    """

    def __init__(
        self,
        num_experts: int,
        *,
        k: int = 1,
        jitter: float = 0.1,
        renormalize: bool = False,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.num_experts = int(num_experts)
        self.k = int(k)
        self.jitter = float(jitter)
        self.renormalize = bool(renormalize)
        if not 1 <= self.k <= self.num_experts:
            raise ValueError(
                f"expected k from 1 to num_experts={num_experts}; received {k}: choose fewer "
                "experts for each token, or have more of them"
            )
        if not 0 <= self.jitter < 1:
            raise ValueError(
                f"expected a jitter from 0 to below 1; received {jitter}: take 0 for none"
            )

    def build(self, input_shape: Any) -> None:
        """Creates W_r and b_r, and seeds the jitter."""
        width = int(tf.TensorShape(input_shape)[-1])
        self._kernel = self.add_weight(
            name="kernel", shape=(width, self.num_experts), initializer="glorot_uniform"
        )
        self._bias = self.add_weight(name="bias", shape=(self.num_experts,), initializer="zeros")
        if self.jitter:
            self._generator = random_generator()
        super().build(input_shape)

    def call(self, states: tf.Tensor, training: bool | None = None) -> Routing:
        """Routes by the states `[..., R]`."""
        states = tf.cast(states, tf.float32)
        if training and self.jitter:
            states *= self._generator.uniform(
                tf.shape(states), 1 - self.jitter, 1 + self.jitter, dtype=tf.float32
            )
        # A product of matrices, since a batched one has gradients as large as batch times kernel.
        rows = tf.reshape(states, [-1, states.shape[-1]])
        logits = tf.matmul(rows, tf.cast(self._kernel, tf.float32))
        logits = tf.reshape(logits, tf.concat([tf.shape(states)[:-1], [self.num_experts]], axis=0))
        logits = tf.ensure_shape(logits, [*states.shape[:-1], self.num_experts])
        logits += tf.cast(self._bias, tf.float32)
        return Routing.from_logits(logits, k=self.k, renormalize=self.renormalize)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_experts": self.num_experts,
            "k": self.k,
            "jitter": self.jitter,
            "renormalize": self.renormalize,
        }
