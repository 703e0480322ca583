"""Sub-graphs of batches of rows, drawn by TF-GNN's Beam sampler."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_gnn as tfgnn
from apache_beam.io.filesystems import FileSystems
from tensorflow_gnn.experimental.sampler import save_model

# Importing the samplers registers them with the executor.
from tensorflow_gnn.experimental.sampler.beam import accessors as _accessors  # noqa: F401
from tensorflow_gnn.experimental.sampler.beam import edge_samplers as _edge_samplers  # noqa: F401
from tensorflow_gnn.experimental.sampler.beam import executor_lib

from tfmtl.graph import CHANNELS, CSR, GraphBundle, NeighborSampler, edge_sets_of, to_graph_tensor
from tfmtl.graph.topology import EDGE_SETS, NODE_SETS
from tfmtl.pipelines.beam.adjacency_block import AdjacencyBlock
from tfmtl.pipelines.beam.sampling_program import sampling_program
from tfmtl.schema import ITEM_ID, USER_ID

_ID_COLUMNS = {"user": f"rows/features/{USER_ID}", "item": f"rows/features/{ITEM_ID}"}
_DTYPES = {"behavior": np.int32, "weight": np.float32}


def _keyed(serialized: bytes) -> tuple[bytes, tf.train.Example]:
    example = tf.train.Example.FromString(serialized)
    return b"%d" % _values(example, "rows/number")[0], example


def _values(example: tf.train.Example, name: str) -> np.ndarray:
    feature = example.features.feature[name]
    kind = feature.WhichOneof("kind")
    return np.array(getattr(feature, kind).value) if kind else np.zeros(0, np.int64)


def _seeds(
    keyed: tuple[bytes, tf.train.Example], node_set: str
) -> tuple[bytes, list[list[np.ndarray]]]:
    """Distinct ids of a batch, as the values and row lengths of a ragged tensor."""
    number, example = keyed
    ids = np.unique(_values(example, _ID_COLUMNS[node_set])).astype(np.int64)
    return number, [[ids, np.array([ids.size], np.int64)]]


def _edge_examples(block: AdjacencyBlock, feature: str) -> Iterator[tf.train.Example]:
    """Edges as TF-GNN's sampler takes them: from the node that is expanded to its neighbour."""
    for receiver, source, value in zip(
        block.receivers.tolist(), block.indices.tolist(), block.values.tolist(), strict=True
    ):
        example = tf.train.Example()
        fields = example.features.feature
        fields[tfgnn.SOURCE_NAME].int64_list.value.append(receiver)
        fields[tfgnn.TARGET_NAME].int64_list.value.append(source)
        if feature == "weight":
            fields[feature].float_list.value.append(value)
        else:
            fields[feature].int64_list.value.append(value)
        yield example


class _AssembleSubgraph(beam.DoFn):
    """Makes the sub-graph of a batch of the edges that were drawn for it."""

    def __init__(
        self,
        fan_outs: Mapping[str, tuple[int, ...]],
        channels: tuple[str, ...],
        mask_own_edges: bool,
    ) -> None:
        self._fan_outs = dict(fan_outs)
        self._channels = channels
        self._mask_own_edges = mask_own_edges

    def process(self, joined: tuple[bytes, Mapping[str, Any]]) -> Iterator[bytes]:
        number, parts = joined
        (rows,), (drawn,) = parts["rows"], parts["drawn"]
        edges = {name: self._drawn_edges(drawn, name) for name in self._fan_outs}
        columns = {name: _values(rows, column) for name, column in _ID_COLUMNS.items()}
        # The drawn graph has its own dense ids, in the order of the encoded ones; 0 stays 0.
        known = {}
        for node_set in NODE_SETS:
            seen = [np.zeros(1, np.int64), columns[node_set]]
            for name, (receivers, sources, _) in edges.items():
                source, target, _ = EDGE_SETS[name]
                seen += [sources] if source == node_set else []
                seen += [receivers] if target == node_set else []
            known[node_set] = np.unique(np.concatenate(seen))
        stores = {}
        for name, (receivers, sources, values) in edges.items():
            source, target, feature = EDGE_SETS[name]
            stores[name] = CSR.from_edges(
                np.searchsorted(known[target], receivers).astype(np.int32),
                np.searchsorted(known[source], sources).astype(np.int32),
                known[target].size,
                known[source].size,
                {feature: values},
            )
        sampler = NeighborSampler(
            GraphBundle(stores, known["user"].size, known["item"].size),
            fan_outs=self._fan_outs,
            channels=self._channels,
            mask_own_edges=self._mask_own_edges,
        )
        users, items = (np.searchsorted(known[name], columns[name]) for name in NODE_SETS)
        sample = sampler.sample(users, items, seed=int(number))
        ids = {name: known[name][sample.ids[name]].astype(np.int32) for name in NODE_SETS}
        example = tfgnn.write_example(to_graph_tensor(dataclasses.replace(sample, ids=ids)))
        example.MergeFrom(rows)
        yield example.SerializeToString(deterministic=True)

    def _drawn_edges(
        self, drawn: tf.train.Example, edge_set: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distinct edges over all hops."""
        feature = EDGE_SETS[edge_set][2]
        receivers, sources, values = (
            np.concatenate(
                [
                    _values(drawn, f"{edge_set}_{hop}/{name}")
                    for hop in range(len(self._fan_outs[edge_set]))
                ]
            )
            for name in (tfgnn.SOURCE_NAME, tfgnn.TARGET_NAME, feature)
        )
        _, first = np.unique(np.stack([receivers, sources]), axis=1, return_index=True)
        return receivers[first], sources[first], values[first].astype(_DTYPES[feature])


class SampleSubgraphs(beam.PTransform):
    """Draws the sub-graphs of batches of rows with TF-GNN's Beam sampler.

    The graph stays in the shuffle: edges are joined with the nodes that ask for them, hop by
    hop, so no worker holds it. TF-GNN's `UniformEdgesSampler` draws each node's neighbours, and
    `tfmtl.graph.NeighborSampler` then walks the drawn edges: nodes of a batch once, its own edges
    masked, nodes by hop, edges by target, as in training from a bundle. With masking one neighbour
    beyond the fan-out is drawn, which takes the place of the row's own edge where that was among
    them: every other neighbour then is in the sub-graph with the same probability,
    fan_out / (degree - 1) at the first hop.

    * TF-GNN's draws have no seed: another run draws other neighbours.
    * A user or item that has several of its own neighbours in one batch may get fewer than
      `fan_out` others.
    * Draws are uniform; weights and limits of time are for the sampler that reads a bundle.

    Args:
        fan_outs: Neighbours drawn per hop: one sequence for all edge sets, or a mapping.
        artifacts: Folder for the program's small TensorFlow models, on a file system that the
            workers reach.
        channels: What to walk, of `tfmtl.graph.CHANNELS`.
        mask_own_edges: Whether rows are kept from seeing the edges between the batch's users and
            items that are its rows.

    Input: a dictionary: `rows`, serialised records of `write_row_batches`, and the
    `AdjacencyBlock`s of each edge set of the channels by its name.
    Output: serialised `tf.train.Example`s: the record's columns, and a `GraphTensor` of the type
    `tfmtl.graph.graph_tensor_spec`.

    Raises:
        ValueError: If a channel or fan-out is not usable.

    Example:
        >>> SampleSubgraphs((3,), "artifacts", channels=["user_similarity"]).fan_outs
        {'user_user': (3,)}
    """

    def __init__(
        self,
        fan_outs: Sequence[int] | Mapping[str, Sequence[int]],
        artifacts: str,
        *,
        channels: Sequence[str] = tuple(CHANNELS),
        mask_own_edges: bool = True,
    ) -> None:
        super().__init__()
        names = edge_sets_of(channels)
        if not isinstance(fan_outs, Mapping):
            fan_outs = {name: fan_outs for name in names}
        if set(fan_outs) != set(names):
            raise ValueError(
                f"expected fan_outs for the edge sets {list(names)} of channels {list(channels)}; "
                f"received {list(fan_outs)}"
            )
        self.fan_outs = {name: tuple(int(size) for size in fan_outs[name]) for name in names}
        sizes = list(self.fan_outs.values())
        if not sizes[0] or len({len(hops) for hops in sizes}) > 1 or min(map(min, sizes)) < 1:
            raise ValueError(
                "expected one positive fan-out per hop, as many for every edge set; received "
                f"{self.fan_outs}"
            )
        self._channels = tuple(channels)
        self._mask_own_edges = mask_own_edges
        self._artifacts = artifacts

    def expand(self, inputs: dict[str, beam.PCollection]) -> beam.PCollection:
        """Applies the transform.

        Args:
            inputs: `rows` and the edge sets.
        """
        program, artifacts, layers = sampling_program(
            self.fan_outs, self._channels, spare=int(self._mask_own_edges)
        )
        for name, model in artifacts.models.items():
            save_model(model, FileSystems.join(self._artifacts, name))
        rows = inputs["rows"] | "KeyRows" >> beam.Map(_keyed)
        reached = {EDGE_SETS[name][1] for name in self.fan_outs}
        seeds = {
            name: rows | f"Seeds {name}" >> beam.Map(_seeds, name)
            for name in NODE_SETS
            if name in reached
        }
        edges = {
            name: inputs[name]
            | f"Edges {name}" >> beam.FlatMap(_edge_examples, feature=EDGE_SETS[name][2])
            for name in self.fan_outs
        }
        drawn = executor_lib.execute(
            program,
            seeds,
            feeds={layer: edges[name] for layer, name in layers.items()},
            artifacts_path=self._artifacts,
        )
        return (
            {"rows": rows, "drawn": drawn}
            | "JoinRows" >> beam.CoGroupByKey()
            | "AssembleSubgraph"
            >> beam.ParDo(_AssembleSubgraph(self.fan_outs, self._channels, self._mask_own_edges))
        )
