"""The walk of the neighbour sampler as a program of TF-GNN's Beam sampler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_gnn as tfgnn
import tf_keras as keras
from tensorflow_gnn.experimental import sampler

from tfmtl.graph.topology import CHANNELS, EDGE_SETS, NODE_SETS


@keras.utils.register_keras_serializable(package="tfmtl")
class _Distinct(keras.layers.Layer):
    """Each id of a row once: a node that two edges reach is looked up once."""

    def call(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        return sampler.ragged_unique(ids)


def _edge_sampler(name: str, feature: str, size: int) -> sampler.UniformEdgesSampler:
    dtypes = {"behavior": tf.int64, "weight": tf.float32}
    # Beam's executor replaces this table by the edges it is fed under the layer's name.
    placeholder = sampler.InMemIntegerKeyToBytesAccessor(keys_to_values={0: b""})
    edges = sampler.KeyToTfExampleAccessor(
        placeholder,
        features_spec={
            tfgnn.TARGET_NAME: tf.TensorSpec([None], tf.int64),
            feature: tf.TensorSpec([None], dtypes[feature]),
        },
    )
    return sampler.UniformEdgesSampler(edges, sample_size=size, name=name)


def sampling_program(
    fan_outs: Mapping[str, Sequence[int]], channels: Sequence[str], *, spare: int
) -> tuple[Any, sampler.Artifacts, dict[str, str]]:
    """Says how TF-GNN's Beam sampler walks from the users and items of a batch.

    In each channel the walk starts at the batch's users and items and takes one hop per fan-out, as
    in `tfmtl.graph.NeighborSampler`. Ids are `int64`.

    Args:
        fan_outs: Edge set to neighbours per hop, as many hops for each.
        channels: Channels to walk.
        spare: Neighbours drawn beyond the fan-out.

    Returns:
        The program and its artifacts, as `sampler.create_program` returns them, and the edge set of
        each layer that is to be fed with edges.

    Example:
        >>> _, _, layers = sampling_program({"user_user": (2, 2)}, ["user_similarity"], spare=0)
        >>> layers
        {'user_user_0': 'user_user', 'user_user_1': 'user_user'}
    """
    ids = tf.RaggedTensorSpec([None, None], tf.int64, ragged_rank=1)
    reached = {EDGE_SETS[name][1] for name in fan_outs}
    inputs = {name: keras.Input(type_spec=ids, name=name) for name in NODE_SETS if name in reached}
    outputs: dict[str, tf.RaggedTensor] = {}
    layers: dict[str, str] = {}
    num_hops = len(next(iter(fan_outs.values())))
    for channel in channels:
        frontier = dict(inputs)
        for hop in range(num_hops):
            following = {}
            for edge_set in CHANNELS[channel]:
                source, target, feature = EDGE_SETS[edge_set]
                layer = f"{edge_set}_{hop}"
                size = fan_outs[edge_set][hop] + spare
                drawn = _edge_sampler(layer, feature, size)(frontier[target])
                outputs |= {f"{layer}/{name}": values for name, values in drawn.items()}
                layers[layer] = edge_set
                if hop + 1 < num_hops:
                    following[source] = _Distinct(name=f"{layer}_distinct")(
                        drawn[tfgnn.TARGET_NAME]
                    )
            frontier = following
    program, artifacts = sampler.create_program(keras.Model(inputs, outputs))
    # The executor looks for a layer called "sink"; Keras calls only the first one of a process so.
    (root,) = (
        stage.layer_id
        for stage in program.eval_dag.stages
        if program.layers[stage.layer_id].type == "Sink"
    )
    if root != "sink":
        program.layers["sink"].CopyFrom(program.layers[root])
    return program, artifacts, layers
