"""Assembles sampled subgraphs into `tfgnn.GraphTensor`s of one fixed structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_gnn as tfgnn

from tfmtl.graph.sampled_subgraph import SampledSubgraph
from tfmtl.graph.topology import EDGE_SETS, FEATURE_DTYPES, NODE_SETS

_READOUT = "_readout"
_HOPS = "_hops"


def graph_tensor_spec(edge_sets: Sequence[str]) -> tfgnn.GraphTensorSpec:
    """The type of the graphs that a sampler emits: fixed structure, every size open.

    A `tf.function` that is called with graphs outside of `model.fit` traces once if this is its
    input signature; without it, once per size.

    Args:
        edge_sets: Names among `EDGE_SETS`.

    Returns:
        Spec of a scalar `GraphTensor` of one component. Node sets `user` and `item` with the
        features `id` and `hop`, `int32 [N]`, and for every edge set that ends there, by its name,
        the first edge and the number of edges of each node, `int32 [N, 2]`. The edge sets, with
        `behavior int32` or `weight float32`. An auxiliary node set `_hops` with a node per hop and
        a feature per edge set, how many leading nodes of its target set hold all that its channel
        found by then. And TF-GNN's structured readout, keys `user` and `item`.

    Example:
        >>> spec = graph_tensor_spec(["user_user"])
        >>> sorted(spec.edge_sets_spec)
        ['_readout/item', '_readout/user', 'user_user']
    """
    one, column = tf.TensorSpec([1], tf.int32), tf.TensorSpec([None], tf.int32)

    def edge_set(source: str, target: str, features: dict[str, Any]) -> tfgnn.EdgeSetSpec:
        return tfgnn.EdgeSetSpec.from_field_specs(
            features_spec=features,
            sizes_spec=one,
            adjacency_spec=tfgnn.AdjacencySpec.from_incident_node_sets(source, target, column),
        )

    span = tf.TensorSpec([None, 2], tf.int32)
    nodes = {
        node_set: tfgnn.NodeSetSpec.from_field_specs(
            features_spec={"id": column, "hop": column}
            | {name: span for name in edge_sets if EDGE_SETS[name][1] == node_set},
            sizes_spec=one,
        )
        for node_set in NODE_SETS
    }
    nodes[_HOPS] = tfgnn.NodeSetSpec.from_field_specs(
        features_spec={name: column for name in edge_sets}, sizes_spec=one
    )
    nodes[_READOUT] = tfgnn.NodeSetSpec.from_field_specs(sizes_spec=one)
    edges = {f"{_READOUT}/{name}": edge_set(name, _READOUT, {}) for name in NODE_SETS}
    for name in edge_sets:
        source, target, feature = EDGE_SETS[name]
        features = {feature: tf.TensorSpec([None], tf.as_dtype(FEATURE_DTYPES[feature]))}
        edges[name] = edge_set(source, target, features)
    return tfgnn.GraphTensorSpec.from_piece_specs(
        context_spec=tfgnn.ContextSpec.from_field_specs(sizes_spec=one),
        node_sets_spec=nodes,
        edge_sets_spec=edges,
    )


def to_graph_tensor(subgraph: SampledSubgraph) -> tfgnn.GraphTensor:
    """Assembles a sampled subgraph into a `GraphTensor`.

    Args:
        subgraph: Arrays or tensors.

    Returns:
        A scalar `GraphTensor` of one component, compatible with `graph_tensor_spec`.

    Example:
        >>> import numpy as np
        >>> one, zero = np.array([7], np.int32), np.array([0], np.int32)
        >>> nodes, first = {"user": one, "item": one}, {"user": zero, "item": zero}
        >>> edges = [{"user_user": end} for end in (zero, zero, zero / 1, np.array([[0, 1]]), one)]
        >>> graph = to_graph_tensor(SampledSubgraph(nodes, first, first, *edges))
        >>> tfgnn.structured_readout(graph, "user", feature_name="id").numpy().tolist()
        [7]
    """
    rows = tf.shape(subgraph.readout["user"])

    def edge_set(
        source: tuple[str, Any], target: tuple[str, Any], features: dict[str, Any]
    ) -> tfgnn.EdgeSet:
        return tfgnn.EdgeSet.from_fields(
            features=features,
            sizes=tf.shape(source[1]),
            adjacency=tfgnn.Adjacency.from_indices(source, target),
        )

    nodes = {
        node_set: tfgnn.NodeSet.from_fields(
            features={"id": subgraph.ids[node_set], "hop": subgraph.hops[node_set]}
            | {
                name: spans
                for name, spans in subgraph.spans.items()
                if EDGE_SETS[name][1] == node_set
            },
            sizes=tf.shape(subgraph.ids[node_set]),
        )
        for node_set in NODE_SETS
    }
    nodes[_HOPS] = tfgnn.NodeSet.from_fields(
        features=dict(subgraph.within),
        sizes=tf.shape(subgraph.within[subgraph.edge_sets[0]]),
    )
    nodes[_READOUT] = tfgnn.NodeSet.from_fields(sizes=rows)
    edges = {
        f"{_READOUT}/{name}": edge_set(
            (name, tf.convert_to_tensor(subgraph.readout[name])), (_READOUT, tf.range(rows[0])), {}
        )
        for name in NODE_SETS
    }
    for name in subgraph.edge_sets:
        source, target, feature = EDGE_SETS[name]
        edges[name] = edge_set(
            (source, tf.convert_to_tensor(subgraph.sources[name])),
            (target, tf.convert_to_tensor(subgraph.targets[name])),
            {feature: subgraph.features[name]},
        )
    return tfgnn.GraphTensor.from_pieces(
        context=tfgnn.Context.from_fields(sizes=tf.ones([1], tf.int32)),
        node_sets=nodes,
        edge_sets=edges,
    )
