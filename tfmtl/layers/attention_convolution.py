"""Graph convolution with attention whose cost and storage are linear in the edges."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse
import tensorflow as tf
import tf_keras as keras

from tfmtl.graph.csr import CSR

Attention = Literal["dot", "additive"]


class Edges(NamedTuple):
    """Edges of one edge set, along which messages flow from source to target.

    Args:
        source: `int32 [E]`, row of the sending node.
        target: `int32 [E]`, row of the receiving node, ascending.
        behavior: `int32 [E]`, bit mask of the behaviours on the edge, or None.
        weight: `float32 [E]`, positive similarity, or None.

    Example:
        >>> store = CSR.from_edges(np.array([2, 0]), np.array([1, 3]), num_rows=3, num_columns=4)
        >>> Edges.from_csr(store).target.tolist()
        [0, 2]
    """

    source: Any
    target: Any
    behavior: Any = None
    weight: Any = None

    @classmethod
    def from_csr(cls, csr: CSR) -> Edges:
        """All edges of a stored edge set, as NumPy arrays sorted by target."""
        target = np.repeat(np.arange(len(csr.indptr) - 1, dtype=np.int32), np.diff(csr.indptr))
        return cls(csr.indices, target, csr.data.get("behavior"), csr.data.get("weight"))


@keras.utils.register_keras_serializable(package="tfmtl")
class AttentionConvolution(keras.layers.Layer):
    """Message m of every target node from its neighbours.

        m_u = LeakyReLU( W sum_{j in N(u)} a_{u<-j} h_j ),   a = softmax_{j in N(u)} score(u, j)

    with `score = (W_q h_u).(W_k h_j) / sqrt(d)` (`dot`) or `v^T tanh(W_q h_u + W_k h_j)`
    (`additive`). All three matrices act on nodes, never on edges. A node without neighbours
    receives zeros.

    Shapes: T target nodes, S source nodes, E edges, d state width.

    Args:
        attention: `dot` (Transformer) or `additive` (GeniePath's breadth score).
        num_behaviors: Behaviour combinations on the edges (2 to the number of tasks); each gets a
            vector added to the neighbour's state, in the score and in the message. 0 ignores them.
        use_edge_weight: Adds log(weight) of the edge to the score.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: target states `[T, d]`, source states `[S, d]`, `Edges`.
    Output shape: `float [T, d]`.

    References:
        MoGENet equations 1 and 2; GeniePath (AAAI 2019) for linear storage.

    Deviations:
        The paper cites the Transformer for its attention and prints no formula: single head, no
        value matrix besides W. `num_behaviors` and `use_edge_weight` are additions.

    Example:
        >>> import tensorflow as tf
        >>> edges = Edges(tf.constant([0, 1]), tf.constant([1, 1]))
        >>> message = AttentionConvolution()(tf.ones([2, 4]), tf.ones([2, 4]), edges)
        >>> float(tf.reduce_sum(tf.abs(message[0])))  # the first target has no neighbour
        0.0
    """

    def __init__(
        self,
        *,
        attention: Attention = "dot",
        num_behaviors: int = 0,
        use_edge_weight: bool = False,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if attention not in ("dot", "additive"):
            raise ValueError(f"expected attention 'dot' or 'additive'; received {attention!r}")
        self.attention = attention
        self.num_behaviors = int(num_behaviors)
        self.use_edge_weight = bool(use_edge_weight)
        self.l2 = float(l2)

    def build(self, input_shape: Any) -> None:
        """Creates the matrices for target states of `input_shape` `[T, d]`."""
        dim = int(tf.TensorShape(input_shape)[-1])
        regularizer = keras.regularizers.L2(self.l2) if self.l2 else None

        def matrix(name: str) -> tf.Variable:
            return self.add_weight(
                name=name, shape=(dim, dim), initializer="glorot_uniform", regularizer=regularizer
            )

        self._query, self._key, self._value = matrix("query"), matrix("key"), matrix("value")
        if self.attention == "additive":
            self._score = self.add_weight(
                name="score",
                shape=(dim,),
                initializer=keras.initializers.RandomNormal(stddev=dim**-0.5),
                # Scores are made in float32 under any policy.
                experimental_autocast=False,
            )
        if self.num_behaviors:
            self._behavior = self.add_weight(
                name="behavior",
                shape=(self.num_behaviors, dim),
                initializer=keras.initializers.RandomNormal(stddev=dim**-0.5 / 2),
            )
        super().build(input_shape)

    def _factors(
        self, target_states: tf.Tensor, source_states: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What a score is made from: a part of the targets `[T, d]` and of the sources `[S, d]`.

        (W_q h_u).(W_k h_j) is (W_k^T W_q h_u).h_j: with both matrices on the targets' side, `dot`
        reads a neighbour's state once, for its score and for its message.
        """
        query = tf.matmul(target_states, tf.cast(self._query, target_states.dtype))
        key = tf.cast(self._key, source_states.dtype)
        if self.attention == "dot":
            scale = int(query.shape[-1]) ** -0.5
            return tf.matmul(query, key, transpose_b=True) * scale, source_states
        return query, tf.matmul(source_states, key)

    def _scores(
        self, target_part: tf.Tensor, edge_source_part: tf.Tensor, edges: Edges
    ) -> tf.Tensor:
        """Unnormalised attention `float32 [E]` from the targets' part and every edge's source's."""
        edge_target_part = tf.gather(target_part, edges.target)
        if self.attention == "dot":
            scores = tf.reduce_sum(edge_target_part * edge_source_part, axis=-1)
            if self.num_behaviors:
                behavior = tf.cast(self._behavior, target_part.dtype)
                of_behavior = tf.matmul(target_part, behavior, transpose_b=True)
                place = edges.target * self.num_behaviors + edges.behavior
                scores += tf.gather(tf.reshape(of_behavior, [-1]), place)
            scores = tf.cast(scores, tf.float32)
        else:
            if self.num_behaviors:
                behavior = tf.matmul(self._behavior, self._key)
                behavior = tf.cast(behavior, edge_source_part.dtype)
                edge_source_part += tf.gather(behavior, edges.behavior)
            hidden = tf.cast(tf.tanh(edge_target_part + edge_source_part), tf.float32)
            scores = tf.linalg.matvec(hidden, self._score)
        if self.use_edge_weight and edges.weight is not None:
            scores += tf.math.log(tf.cast(edges.weight, tf.float32))
        return scores

    def _message(self, neighborhood: tf.Tensor) -> tf.Tensor:
        return tf.nn.leaky_relu(tf.matmul(neighborhood, tf.cast(self._value, neighborhood.dtype)))

    def call(self, target_states: tf.Tensor, source_states: tf.Tensor, edges: Edges) -> tf.Tensor:
        """Messages `[T, d]` of all targets, for the edges of a sampled sub-graph."""
        # A functional model read back from disk passes a plain tuple.
        edges = Edges(*edges)
        # Keras casts the first argument alone to the layer's dtype.
        source_states = tf.cast(source_states, target_states.dtype)
        targets = tf.shape(target_states)[0]
        target_part, source_part = self._factors(target_states, source_states)
        edge_source_part = tf.gather(source_part, edges.source)
        scores = self._scores(target_part, edge_source_part, edges)
        # The largest score only steadies the exponential: its gradient cancels.
        largest = tf.math.unsorted_segment_max(tf.stop_gradient(scores), edges.target, targets)
        exponential = tf.exp(scores - tf.gather(largest, edges.target))
        total = tf.math.unsorted_segment_sum(exponential, edges.target, targets)
        weights = exponential / tf.gather(total, edges.target)
        weights = tf.cast(weights, source_states.dtype)
        edge_states = (
            edge_source_part
            if source_part is source_states
            else tf.gather(source_states, edges.source)
        )
        neighborhood = tf.math.unsorted_segment_sum(
            weights[:, tf.newaxis] * edge_states, edges.target, targets
        )
        if self.num_behaviors:
            share = tf.math.unsorted_segment_sum(
                weights,
                edges.target * self.num_behaviors + edges.behavior,
                targets * self.num_behaviors,
            )
            share = tf.reshape(share, [-1, self.num_behaviors])
            neighborhood += tf.matmul(share, tf.cast(self._behavior, share.dtype))
        return self._message(neighborhood)

    def full_graph(
        self,
        target_states: np.ndarray,
        source_states: np.ndarray,
        edges: Edges,
        *,
        block_edges: int = 2**16,
    ) -> np.ndarray:
        """Messages of all targets over a whole graph, keeping one scalar per edge.

        Scores are made in blocks of edges, normalised per target, and applied as a sparse matrix:
        storage O(E) + O((T + S) d).

        Args:
            target_states: `float32 [T, d]`.
            source_states: `float32 [S, d]`.
            edges: NumPy edges sorted by target, as a CSR store holds them.
            block_edges: Edges whose endpoint vectors exist at one time.

        Returns:
            `float32 [T, d]`, equal to `call` on the same edges.
        """
        num_targets, num_edges = len(target_states), len(edges.target)
        target_part, source_part = self._factors(
            tf.convert_to_tensor(target_states), tf.convert_to_tensor(source_states)
        )
        weights = np.empty(num_edges, np.float32)
        for start in range(0, num_edges, block_edges):
            block = Edges(
                *(None if part is None else part[start : start + block_edges] for part in edges)
            )
            edge_source_part = tf.gather(source_part, block.source)
            scores = self._scores(target_part, edge_source_part, block)
            weights[start : start + block_edges] = scores.numpy()
        if num_edges:
            target = np.asarray(edges.target)
            first = np.flatnonzero(np.r_[True, target[1:] != target[:-1]])
            runs = np.diff(np.r_[first, num_edges])
            weights = np.exp(weights - np.repeat(np.maximum.reduceat(weights, first), runs))
            weights /= np.repeat(np.add.reduceat(weights, first), runs)
        adjacency = scipy.sparse.csr_matrix(
            (weights, (edges.target, edges.source)), shape=(num_targets, len(source_states))
        )
        neighborhood = adjacency @ np.asarray(source_states, np.float32)
        if self.num_behaviors:
            share = scipy.sparse.csr_matrix(
                (weights, (edges.target, edges.behavior)),
                shape=(num_targets, self.num_behaviors),
            )
            neighborhood = neighborhood + share @ self._behavior.numpy()
        return self._message(tf.convert_to_tensor(neighborhood, tf.float32)).numpy()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "attention": self.attention,
            "num_behaviors": self.num_behaviors,
            "use_edge_weight": self.use_edge_weight,
            "l2": self.l2,
        }
