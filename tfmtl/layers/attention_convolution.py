"""Graph convolution with attention whose cost and storage are linear in the edges."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse
import tensorflow as tf
import tensorflow_gnn as tfgnn
import tf_keras as keras

from tfmtl.graph.csr import CSR
from tfmtl.graph.topology import EDGE_SETS

Attention = Literal["dot", "additive"]


class Edges(NamedTuple):
    """Edges of one edge set, along which messages flow from source to target.

    Args:
        source: `int32 [E]`, row of the sending node.
        target: `int32 [E]`, row of the receiving node, ascending.
        behavior: `int32 [E]`, bit mask of the behaviours on the edge, or None.
        weight: `float32 [E]`, positive similarity, or None.
        span: `int32 [T, 2]`, first edge and number of edges of every target, or None: then they are
            looked up in `target`, which under XLA costs T E.

    Example:
        >>> store = CSR.from_edges(np.array([2, 0]), np.array([1, 3]), num_rows=3, num_columns=4)
        >>> Edges.from_csr(store).target.tolist()
        [0, 2]
    """

    source: Any
    target: Any
    behavior: Any = None
    weight: Any = None
    span: Any = None

    @classmethod
    def from_csr(cls, csr: CSR) -> Edges:
        """All edges of a stored edge set, as NumPy arrays sorted by target."""
        target = np.repeat(np.arange(len(csr.indptr) - 1, dtype=np.int32), np.diff(csr.indptr))
        behavior = csr.data.get("behavior")
        if behavior is not None:
            # Stores hold behaviours in fewer bits than TensorFlow takes for an index.
            behavior = behavior.astype(np.int32, copy=False)
        return cls(csr.indices, target, behavior, csr.data.get("weight"))

    @classmethod
    def from_graph(cls, graph: tfgnn.GraphTensor, name: str) -> Edges:
        """The edges of edge set `name` of a sampled graph."""
        edge_set = graph.edge_sets[name]
        return cls(
            edge_set.adjacency.source,
            edge_set.adjacency.target,
            edge_set.features.get("behavior"),
            edge_set.features.get("weight"),
            graph.node_sets[EDGE_SETS[name][1]][name],
        )

    def to_first(self, targets: Any, *, by_span: bool = False) -> Edges:
        """The edges of the first `targets` nodes of a sampled graph.

        Args:
            targets: Number of nodes.
            by_span: Whether edges will be found by their span, as `in_rows` does: then nothing but
                the spans is cut.
        """
        assert self.span is not None
        span = self.span[:targets]
        if by_span:
            return self._replace(span=span)
        kept = tf.searchsorted(self.target, [targets], side="left")[0]
        kept_parts = (None if part is None else part[:kept] for part in self[:-1])
        return Edges(*kept_parts)._replace(span=span)

    def in_rows(self, targets: tf.Tensor, width: int) -> tuple[Edges, tf.Tensor]:
        """The edges of all targets in rows, one row per target.

        Args:
            targets: Number of targets T.
            width: Width of a row; an error where a target has more neighbours.

        Returns:
            Edges with parts `[T, width]`, and `bool [T, width]`: which of them there are.
        """
        if self.span is None:
            bounds = tf.searchsorted(self.target, tf.range(targets + 1))
            first, degree = bounds[:-1], bounds[1:] - bounds[:-1]
        else:
            first, degree = tf.unstack(self.span, num=2, axis=1)
        order = tf.range(width)
        place, present = first[:, tf.newaxis] + order, order < degree[:, tf.newaxis]
        tf.debugging.assert_less_equal(
            tf.reduce_max(degree),
            width,
            "a target has more neighbours than max_neighbors: raise it to the largest fan-out of "
            "the sampler, or set it to None",
        )
        num_edges = tf.shape(self.target)[0]

        def laid_out(values: tf.Tensor) -> tf.Tensor:
            # An edge beyond the last stands in for those that are not there.
            padded = tf.concat([values, tf.zeros([1], values.dtype)], axis=0)
            return tf.gather(padded, tf.where(present, place, num_edges))

        rows = self._replace(
            source=laid_out(self.source),
            behavior=None if self.behavior is None else laid_out(self.behavior),
            weight=None if self.weight is None else laid_out(self.weight),
        )
        return rows, present


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
        max_neighbors: Most neighbours that a target of a sampled sub-graph has, such as the
            largest fan-out. Neighbours are then laid out in rows of this width, so that scores
            and messages are matrix products without temporaries per edge. None takes any number.
        l2: Penalty on the squared kernels.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: target states `[T, d]`, source states `[S, d]`, `Edges`.
    Output shape: `float [T, d]`.

    Raises:
        ValueError: If `attention` is unknown or `max_neighbors` is not positive.
        tf.errors.InvalidArgumentError: If a target has more than `max_neighbors` neighbours.

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
        max_neighbors: int | None = None,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if max_neighbors is not None and max_neighbors < 1:
            raise ValueError(
                f"expected max_neighbors of at least 1, or None; received {max_neighbors}"
            )
        if attention not in ("dot", "additive"):
            raise ValueError(f"expected attention 'dot' or 'additive'; received {attention!r}")
        self.attention = attention
        self.num_behaviors = int(num_behaviors)
        self.use_edge_weight = bool(use_edge_weight)
        self.max_neighbors = max_neighbors
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
                place = edges.target * self.num_behaviors + edges.behavior
                scores += tf.gather(tf.reshape(self._behavior_scores(target_part), [-1]), place)
            scores = tf.cast(scores, tf.float32)
        else:
            if self.num_behaviors:
                edge_source_part += self._behavior_keys(edges.behavior, edge_source_part.dtype)
            scores = self._additive_scores(edge_target_part, edge_source_part)
        return self._with_edge_weight(scores, edges)

    def _behavior_scores(self, target_part: tf.Tensor) -> tf.Tensor:
        """What every behaviour adds to `dot` scores of every target, `[T, behaviours]`."""
        behavior = tf.cast(self._behavior, target_part.dtype)
        return tf.matmul(target_part, behavior, transpose_b=True)

    def _behavior_keys(self, behavior: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        return tf.gather(tf.cast(tf.matmul(self._behavior, self._key), dtype), behavior)

    def _additive_scores(self, target_part: tf.Tensor, source_part: tf.Tensor) -> tf.Tensor:
        hidden = tf.cast(tf.tanh(target_part + source_part), tf.float32)
        return tf.tensordot(hidden, self._score, 1)

    def _with_edge_weight(self, scores: tf.Tensor, edges: Edges) -> tf.Tensor:
        if not self.use_edge_weight or edges.weight is None:
            return scores
        return scores + tf.math.log(tf.cast(edges.weight, tf.float32))

    def _message(self, neighborhood: tf.Tensor) -> tf.Tensor:
        return tf.nn.leaky_relu(tf.matmul(neighborhood, tf.cast(self._value, neighborhood.dtype)))

    def call(self, target_states: tf.Tensor, source_states: tf.Tensor, edges: Edges) -> tf.Tensor:
        """Messages `[T, d]` of all targets, for the edges of a sampled sub-graph."""
        # A functional model read back from disk passes a plain tuple.
        edges = Edges(*edges)
        # Keras casts the first argument alone to the layer's dtype.
        source_states = tf.cast(source_states, target_states.dtype)
        parts = self._factors(target_states, source_states)
        if self.max_neighbors is None:
            return self._message(self._over_segments(*parts, source_states, edges))
        return self._message(self._over_rows(*parts, source_states, edges))

    def _over_segments(
        self,
        target_part: tf.Tensor,
        source_part: tf.Tensor,
        source_states: tf.Tensor,
        edges: Edges,
    ) -> tf.Tensor:
        """Sums `[T, d]` over edges in a list, any number per target."""
        targets = tf.shape(target_part)[0]
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
        return self._with_behaviors(neighborhood, weights, edges.target, edges.behavior)

    def _over_rows(
        self,
        target_part: tf.Tensor,
        source_part: tf.Tensor,
        source_states: tf.Tensor,
        edges: Edges,
    ) -> tf.Tensor:
        """Sums `[T, d]` over edges in rows `[T, max_neighbors]`, one row per target."""
        assert self.max_neighbors is not None
        targets = tf.shape(target_part)[0]
        rows, present = edges.in_rows(targets, self.max_neighbors)
        row_source_part = tf.gather(source_part, rows.source)
        if self.attention == "dot":
            scores = tf.linalg.matvec(row_source_part, target_part)
            if self.num_behaviors:
                scores += tf.gather(self._behavior_scores(target_part), rows.behavior, batch_dims=1)
            scores = tf.cast(scores, tf.float32)
        else:
            if self.num_behaviors:
                row_source_part += self._behavior_keys(rows.behavior, row_source_part.dtype)
            scores = self._additive_scores(target_part[:, tf.newaxis], row_source_part)
        scores = self._with_edge_weight(scores, rows)
        weights = tf.nn.softmax(tf.where(present, scores, scores.dtype.min))
        weights = tf.cast(tf.where(present, weights, 0.0), source_states.dtype)
        row_states = (
            row_source_part
            if source_part is source_states
            else tf.gather(source_states, rows.source)
        )
        neighborhood = tf.linalg.matvec(row_states, weights, transpose_a=True)
        target = tf.repeat(tf.range(targets), self.max_neighbors)
        return self._with_behaviors(
            neighborhood,
            tf.reshape(weights, [-1]),
            target,
            None if rows.behavior is None else tf.reshape(rows.behavior, [-1]),
        )

    def _with_behaviors(
        self,
        neighborhood: tf.Tensor,
        weights: tf.Tensor,
        target: tf.Tensor,
        behavior: tf.Tensor | None,
    ) -> tf.Tensor:
        """Adds the behaviours' vectors to sums `[T, d]`, weighted as their edges are."""
        if not self.num_behaviors:
            return neighborhood
        share = tf.math.unsorted_segment_sum(
            weights,
            target * self.num_behaviors + behavior,
            tf.shape(neighborhood)[0] * self.num_behaviors,
        )
        share = tf.reshape(share, [-1, self.num_behaviors])
        return neighborhood + tf.matmul(share, tf.cast(self._behavior, share.dtype))

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
                *(
                    None if part is None else part[start : start + block_edges]
                    for part in edges[:-1]
                )
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
            "max_neighbors": self.max_neighbors,
            "l2": self.l2,
        }
