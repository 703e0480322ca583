"""Symmetrically normalised propagation over the interaction graph, from samples of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse
import tensorflow as tf
import tensorflow_gnn as tfgnn
import tf_keras as keras

from tfmtl.graph.topology import CHANNELS, EDGE_SETS, NODE_SETS
from tfmtl.layers.attention_convolution import Edges
from tfmtl.layers.bi_interaction import BiInteraction
from tfmtl.layers.dropout import Dropout

Update = Literal["sum", "bi_interaction"]
Readout = Literal["mean", "concat"]


@keras.utils.register_keras_serializable(package="tfmtl")
class InteractionPropagation(keras.layers.Layer):
    """L hops of sums over neighbours, and a readout of the states of all hops.

        m_u^l = sum_{i in N(u)} w_ui / sqrt(D_u D_i) h_i^l        D_u = sum_{i in N(u)} w_ui
        h_u^{l+1} = m_u^l                              (`sum`)
        h_u^{l+1} = BiInteraction^l(h_u^l, m_u^l)      (`bi_interaction`)

    and the same with users and items exchanged. The readout is the mean of h^0 to h^L, or all of
    them side by side. An edge weighs 1, or, with `behavior_ranks` r,

        w_ui = (sum_t r_t [behaviour t is on the edge])^level        0 without any behaviour

    **Degrees.** D are those of the whole graph, which a sample does not show: `adapt` stores them,
    with the number n_u of neighbours, in weights that are not trained. Call it before training; a
    checkpoint brings them back. Until then all outputs of `call` are NaN.

    **Samples.** Where k of the n_u neighbours are drawn, their sum is scaled by n_u / k. As each is
    drawn with probability k / n_u, m is unbiased; with `sum` so are all states of up to two hops.
    From the third hop on a path may pass a node twice and then sees the same draw twice, and
    `bi_interaction` is not linear: there the expectation is near, not equal. A row's own edge,
    where it is masked, is stood in for by the other neighbours.

    A sampler with a time limit does not go with this layer: degrees would tell a row of what came
    after it.

    Shapes: U user nodes, I item nodes, B rows, d state width.

    Args:
        dim: Width d of the states.
        num_users: Users of the whole graph, the unknown one included.
        num_items: Items of the whole graph, the unknown one included.
        num_layers: Number of hops L.
        update: `sum` (LightGCN) or `bi_interaction` (NGCF).
        readout: `mean` (LightGCN) or `concat` (NGCF).
        behavior_ranks: r, a number per task in the order of the behaviour bits; empty for w = 1.
        level: Exponent of an edge's rank.
        max_neighbors: Most neighbours that a target of a sampled sub-graph has, such as the
            largest fan-out. Neighbours are then laid out in rows of this width. None takes any
            number.
        dropout: Share of the messages along edges dropped in training, drawn anew for each hop.
        l2: Penalty on the squared kernels of `bi_interaction`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments: a `tfgnn.GraphTensor` as `NeighborSampler` makes it, and the initial states
    `{"user": [U, d], "item": [I, d]}`.
    Output: dict with the readouts `"interaction/user"` and `"interaction/item"`, `[B, d]` for
    `mean`, `[B, (L + 1) d]` for `concat`.

    Raises:
        ValueError: If an option is unknown or out of range, edges lack behaviours to rank, or
            `adapt` meets another graph than the layer is for.
        tf.errors.InvalidArgumentError: If a target has more than `max_neighbors` neighbours.

    References:
        He et al., LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation
        (SIGIR 2020), equations 3 and 4; Wang et al., Neural Graph Collaborative Filtering (SIGIR
        2019), equations 3 to 9.

    Deviations:
        The papers propagate over the whole graph in every step.

    Example:
        >>> layer = InteractionPropagation(8, num_users=3, num_items=4, readout="concat")
        >>> layer.state_dim  # h^0, h^1 and h^2
        24
    """

    def __init__(
        self,
        dim: int,
        num_users: int,
        num_items: int,
        *,
        num_layers: int = 2,
        update: Update = "sum",
        readout: Readout = "mean",
        behavior_ranks: Sequence[float] = (),
        level: float = 1.0,
        max_neighbors: int | None = None,
        dropout: float = 0.0,
        l2: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if num_layers < 1 or dim < 1:
            raise ValueError(
                "expected a positive dim and at least one layer; "
                f"received dim={dim}, num_layers={num_layers}"
            )
        if update not in get_args(Update) or readout not in get_args(Readout):
            raise ValueError(
                f"expected an update among {list(get_args(Update))} and a readout among "
                f"{list(get_args(Readout))}; received {update!r} and {readout!r}"
            )
        if level < 0:
            raise ValueError(
                f"expected a level of at least 0, which weighs all edges alike; received {level}"
            )
        if max_neighbors is not None and max_neighbors < 1:
            raise ValueError(
                f"expected max_neighbors of at least 1, or None; received {max_neighbors}"
            )
        self.dim = int(dim)
        self.num_users = int(num_users)
        self.num_items = int(num_items)
        self.num_layers = int(num_layers)
        self.update = update
        self.readout = readout
        self.behavior_ranks = [float(rank) for rank in behavior_ranks]
        self.level = float(level)
        self.max_neighbors = max_neighbors
        self.dropout = float(dropout)
        self.l2 = float(l2)

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels that the layer walks: the interaction graph."""
        return ("interaction",)

    @property
    def state_dim(self) -> int:
        """Width of a readout."""
        return self.dim * (self.num_layers + 1 if self.readout == "concat" else 1)

    def build(self, input_shape: Any) -> None:
        """Creates the degrees and every hop's weights."""
        if self.built:
            # By `adapt`, whose degrees would be lost.
            return
        sizes = {"user": self.num_users, "item": self.num_items}
        # Number of neighbours and sum of weights of every node.
        self._degrees = {
            side: self.add_weight(
                name=f"{side}_degrees",
                shape=(size, 2),
                initializer=keras.initializers.Constant(-1.0),
                trainable=False,
                # Half precision ends at 65504.
                experimental_autocast=False,
            )
            for side, size in sizes.items()
        }
        self._steps = []
        for number in range(self.num_layers if self.update == "bi_interaction" else 0):
            step = BiInteraction(
                l2=self.l2, dtype=self.dtype_policy, name=f"bi_interaction_{number}"
            )
            with tf.name_scope(step.name):
                step.build([None, self.dim])
            self._steps.append(step)
        self._drop = Dropout(self.dropout, dtype="float32")
        super().build(input_shape)

    def outputs_of(self, node_set: str) -> tuple[str, ...]:
        """Keys of the outputs that describe `node_set`."""
        return (f"interaction/{node_set}",)

    def adapt(self, edge_sets: Mapping[str, Edges]) -> None:
        """Stores the degrees of the whole graph.

        Args:
            edge_sets: NumPy edges of `item_user` and `user_item`.
        """
        if not self.built:
            self.build(None)
        sizes = {"user": self.num_users, "item": self.num_items}
        for side, degrees in self._degrees_in(edge_sets, sizes).items():
            self._degrees[side].assign(degrees)

    @property
    def is_adapted(self) -> tf.Tensor:
        """Whether degrees are stored, `bool []`."""
        return self._degrees["user"][0, 0] >= 0

    def call(
        self,
        graph: tfgnn.GraphTensor,
        states: Mapping[str, tf.Tensor],
        training: bool | None = None,
    ) -> dict[str, tf.Tensor]:
        """Readout of the batch's users and items."""
        within = graph.node_sets["_hops"]
        edge_sets = {name: Edges.from_graph(graph, name) for name in CHANNELS["interaction"]}
        degrees, rows, current = {}, {}, {}
        for side in NODE_SETS:
            degrees[side] = tf.gather(self._degrees[side], graph.node_sets[side]["id"])
            rows[side] = graph.edge_sets[f"_readout/{side}"].adjacency.source
            current[side] = tf.cast(states[side], self.compute_dtype)
        hops = [{side: tf.gather(current[side], rows[side]) for side in NODE_SETS}]
        for layer in range(self.num_layers):
            following = {}
            for name, edges in edge_sets.items():
                sender, side, _ = EDGE_SETS[name]
                active = within[name][self.num_layers - 1 - layer]
                prefix = edges.to_first(active, by_span=self.max_neighbors is not None)
                if layer:
                    # Prefixes may hold nodes that the channel finds later or not at all. Their
                    # edges then reach nodes without a state by now; no readout needs them.
                    last = tf.shape(current[sender])[0] - 1
                    prefix = prefix._replace(source=tf.minimum(prefix.source, last))
                message = self._message(
                    prefix, degrees[side][:active], current[sender], degrees[sender], training
                )
                following[side] = self._following(layer, current[side][:active], message)
            current = following
            hops.append({side: tf.gather(current[side], rows[side]) for side in NODE_SETS})
        return {
            f"interaction/{side}": self._read([hop[side] for hop in hops]) for side in NODE_SETS
        }

    def _message(
        self,
        edges: Edges,
        target_degrees: tf.Tensor,
        source_states: tf.Tensor,
        source_degrees: tf.Tensor,
        training: bool | None,
    ) -> tf.Tensor:
        """Estimated sums m `[T, d]` over all neighbours from those that were drawn."""
        targets = tf.shape(target_degrees)[0]
        number, total = tf.unstack(target_degrees, num=2, axis=1)
        drawn = tf.cast(edges.span[:, 1], tf.float32)
        target_part = tf.math.divide_no_nan(number, drawn * tf.sqrt(total))
        source_part = _inverse_root(source_degrees[:, 1])
        if self.max_neighbors is None:
            coefficients = tf.gather(target_part, edges.target) * self._weights_of(edges)
            coefficients *= tf.gather(source_part, edges.source)
            coefficients = tf.cast(self._dropped(coefficients, training), source_states.dtype)
            parts = coefficients[:, tf.newaxis] * tf.gather(source_states, edges.source)
            return tf.math.unsorted_segment_sum(parts, edges.target, targets)
        placed, present = edges.in_rows(targets, self.max_neighbors)
        coefficients = target_part[:, tf.newaxis] * self._weights_of(placed)
        coefficients *= tf.gather(source_part, placed.source)
        coefficients = self._dropped(tf.where(present, coefficients, 0.0), training)
        return tf.linalg.matvec(
            tf.gather(source_states, placed.source),
            tf.cast(coefficients, source_states.dtype),
            transpose_a=True,
        )

    def _dropped(self, coefficients: tf.Tensor, training: bool | None) -> tf.Tensor:
        return self._drop(coefficients, training=training) if self.dropout else coefficients

    def _weights_of(self, edges: Edges) -> tf.Tensor:
        """Weights w of edges, `float32` of the shape of `source`."""
        if not self.behavior_ranks:
            return tf.ones(tf.shape(edges.source))
        if edges.behavior is None:
            raise ValueError(
                "expected edges with behaviours to rank them by; received none: build the graph "
                "with build_graph_bundle, or leave behavior_ranks out"
            )
        bits = tf.cast(edges.behavior, tf.int32)
        rank = tf.zeros(tf.shape(bits))
        for task, value in enumerate(self.behavior_ranks):
            rank += value * tf.cast(tf.bitwise.right_shift(bits, task) & 1, tf.float32)
        return tf.where(rank > 0, rank**self.level, 0.0)

    def _following(self, layer: int, states: tf.Tensor, message: tf.Tensor) -> tf.Tensor:
        return self._steps[layer](states, message) if self._steps else message

    def _read(self, hops: Sequence[Any]) -> Any:
        """The readout of states `[N, d]` of all hops, tensors or NumPy arrays."""
        if self.readout == "mean":
            return sum(hops[1:], start=hops[0]) / len(hops)
        concat = np.concatenate if isinstance(hops[0], np.ndarray) else tf.concat
        return concat(hops, axis=1)

    def _degrees_in(
        self, edge_sets: Mapping[str, Edges], sizes: Mapping[str, int]
    ) -> dict[str, np.ndarray]:
        """Number of neighbours and sum of weights of all nodes, `float32 [N, 2]` per side."""
        degrees = {}
        for name in CHANNELS["interaction"]:
            side = EDGE_SETS[name][1]
            target = np.asarray(edge_sets[name].target)
            if target.size and target.max() >= sizes[side]:
                raise ValueError(
                    f"expected {side}s in [0, {sizes[side]}) in edge set {name!r}; received "
                    f"{target.max()}: use the graph of the encoder that the model was built from"
                )
            parts = [None, self._weights_of(edge_sets[name]).numpy()]
            degrees[side] = np.stack(
                [np.bincount(target, part, minlength=sizes[side]) for part in parts], axis=1
            ).astype(np.float32)
        return degrees

    def full_graph(
        self, edge_sets: Mapping[str, Edges], states: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Readout of all nodes over the whole graph, by the degrees of that graph.

        Args:
            edge_sets: NumPy edges per edge set name, sorted by target.
            states: Initial states `{"user": float32 [U, d], "item": float32 [I, d]}`.

        Returns:
            `float32` tables per output key: what `call` returns for a sub-graph sampled with every
            neighbour, after `adapt` to the same edges.
        """
        degrees = self._degrees_in(edge_sets, {side: len(table) for side, table in states.items()})
        parts = {side: _inverse_root(table[:, 1]).numpy() for side, table in degrees.items()}
        adjacencies = {}
        for name in CHANNELS["interaction"]:
            sender, side, _ = EDGE_SETS[name]
            edges = edge_sets[name]
            weights = self._weights_of(edges).numpy()
            weights *= parts[side][edges.target] * parts[sender][edges.source]
            adjacencies[name] = scipy.sparse.csr_matrix(
                (weights, (edges.target, edges.source)),
                shape=(len(parts[side]), len(parts[sender])),
            )
        current = dict(states)
        hops = [current]
        for layer in range(self.num_layers):
            following = {}
            for name, adjacency in adjacencies.items():
                sender, side, _ = EDGE_SETS[name]
                message = adjacency @ np.asarray(current[sender], np.float32)
                following[side] = self._full_following(layer, current[side], message)
            current = following
            hops.append(current)
        return {
            f"interaction/{side}": self._read([hop[side] for hop in hops]) for side in NODE_SETS
        }

    def _full_following(self, layer: int, states: np.ndarray, message: np.ndarray) -> np.ndarray:
        if not self._steps:
            return message
        # Not __call__, which would cast: states are float32 under any policy.
        pair = (tf.convert_to_tensor(part) for part in (states, message))
        return self._steps[layer].call(*pair).numpy()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "dim": self.dim,
            "num_users": self.num_users,
            "num_items": self.num_items,
            "num_layers": self.num_layers,
            "update": self.update,
            "readout": self.readout,
            "behavior_ranks": self.behavior_ranks,
            "level": self.level,
            "max_neighbors": self.max_neighbors,
            "dropout": self.dropout,
            "l2": self.l2,
        }


def _inverse_root(values: tf.Tensor) -> tf.Tensor:
    """1 / sqrt(values), 0 where a value is 0."""
    return tf.math.divide_no_nan(1.0, tf.sqrt(values))
