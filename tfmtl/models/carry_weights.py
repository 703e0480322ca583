"""Takes the weights of a trained model over into a model of a grown encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.data.vocabulary import Vocabulary
from tfmtl.layers.feature_embedding import FeatureEmbedding
from tfmtl.layers.interaction_propagation import InteractionPropagation
from tfmtl.layers.node_features import NodeFeatures
from tfmtl.models.multi_task_model import MultiTaskModel

# Rows that are copied at one time, which bounds the memory that a copy of a large table takes.
_BLOCK_ROWS = 2**16
# Moving averages of the weights themselves, which start where the weights do.
_AVERAGES = "_model_variables_moving_average"
_SHARDED = tf.__internal__.distribute.ShardedVariable


def carry_weights(
    trained: MultiTaskModel,
    grown: MultiTaskModel,
    before: FeatureEncoder,
    after: FeatureEncoder,
    *,
    optimizers: tuple[Any, Any] | None = None,
) -> list[str]:
    """Copies every weight of a model into one that is the same but for larger vocabularies.

    A row of a table goes to the row of the same id, wherever that lies now. An id that is new
    starts from the row that it was looked up in until now, as every id out of vocabulary: that of
    missing ids, or that of its bucket. So predictions are those of before, for new ids too, and the
    first gradient tells a new id apart; a random row would be noise in the predictions until then.
    Only in lists whose vocabulary has no buckets is an unknown id left out, as padding is, and a
    new one counted. Weights without rows of a vocabulary are copied as they are.

    What models hold of a graph or of the encoder is no weight and stays that of `grown`: features
    of nodes, degrees, macro neighbourhoods.

    Args:
        trained: The model to copy from, built from the inputs of `before`.
        grown: The model to copy to, with the same tasks and hyper-parameters, built from the inputs
            of `after`.
        before: Encoder of `trained`.
        after: What `before.grow` made of it, or that again, and so on.
        optimizers: Keras optimisers of `trained` and of `grown`, to carry what they keep of each
            weight, and the number of their steps; `None` lets the new one start anew. Slots of new
            ids are those of an id that was never trained.

    Returns:
        Paths of the tables that have more rows now.

    Raises:
        ValueError: If `after` numbers ids in another way than `before`, a model was not built from
            its encoder, or a weight or optimiser of one has no counterpart of its shape in the
            other.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.data import TrainingLog
        >>> from tfmtl.models.registry import build_model
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")])
        >>> nights = ({"user_id": [1, 2], "item_id": [8, 9], "click": [1, 0]},
        ...           {"user_id": [2, 3], "item_id": [8, 7], "click": [0, 1]})
        >>> logs = [TrainingLog(pa.table(night), schema) for night in nights]
        >>> before = FeatureEncoder.fit(logs[0])
        >>> after = before.grow(logs[1])
        >>> models = [build_model("shared_bottom", schema, own, {}) for own in (before, after)]
        >>> carry_weights(*models, before, after)
        ['embedding/table']
    """
    numbers = _numbers(before, after)
    for model, encoder, name in ((trained, before, "trained"), (grown, after, "grown")):
        _check_encoder(model, encoder, name)
        model.build_weights()
    old, new = _weights(trained), _weights(grown)
    if old.keys() != new.keys():
        raise ValueError(
            "expected two models of the same layers; received weights that one of them lacks, "
            f"{sorted(old.keys() ^ new.keys())}: build both with the same hyper-parameters"
        )
    own, others = _embeddings(trained), _embeddings(grown)
    rows = {
        path: _rows_of_embedding(path, own[path], others[path], numbers)
        if path in own
        else _rows_of_weight(path, old[path], new[path], numbers)
        for path in old
    }
    # All is checked by now, so that nothing is left half copied.
    slots = [] if optimizers is None else _slots(*optimizers, trained, grown, old, new)
    for path, kept in rows.items():
        _copy(old[path], new[path], kept, of_new_ids=True)
    for slot in slots:
        _copy(slot.old, slot.new, rows[slot.path], of_new_ids=slot.name == _AVERAGES)
    if optimizers is not None:
        optimizers[1].iterations.assign(optimizers[0].iterations)
    return [path for path in old if old[path].shape[:1] != new[path].shape[:1]]


class _Rows(NamedTuple):
    """Where the rows of a new table come from.

    Attributes:
        sources: Row of the old table for each row of the new one, `int64 [rows]`.
        is_new: Whether a row's id has none of its own there, `bool [rows]`.
        sizes: Rows that the old and the new table have.
    """

    sources: np.ndarray
    is_new: np.ndarray
    sizes: tuple[int, int]


class _Slot(NamedTuple):
    """What two optimisers keep of one weight.

    Attributes:
        path: Path of the weight.
        name: Kind of slot.
        old: The slot in the optimiser of the trained model.
        new: The slot in that of the grown one.
    """

    path: str
    name: str
    old: tf.Variable
    new: tf.Variable


def _numbers(before: FeatureEncoder, after: FeatureEncoder) -> dict[str, _Rows]:
    """What the encoded ids of each vocabulary were before."""
    if before.vocabularies.keys() != after.vocabularies.keys():
        raise ValueError(
            f"expected encoders of the same vocabularies; received {sorted(before.vocabularies)} "
            f"and {sorted(after.vocabularies)}: let before.grow make the second one"
        )
    numbers = {}
    for name, vocabulary in before.vocabularies.items():
        grown = after.vocabularies[name]
        buckets = np.arange(grown.buckets + 1)
        # Of a new id, what it was encoded as when it was out of vocabulary.
        sources = np.concatenate([buckets, vocabulary.encode(grown.values)])
        kept = np.arange(vocabulary.size)
        if grown.buckets != vocabulary.buckets or not np.array_equal(sources[: len(kept)], kept):
            raise ValueError(
                f"expected the ids of vocabulary {name!r} under their old numbers; received "
                f"{grown} with others than {vocabulary}: let before.grow make the second encoder, "
                "because one that is fitted anew numbers all ids anew"
            )
        is_new = np.arange(grown.size) >= vocabulary.size
        numbers[name] = _Rows(sources, is_new, (vocabulary.size, grown.size))
    return numbers


def _check_encoder(model: MultiTaskModel, encoder: FeatureEncoder, name: str) -> None:
    for embedding in _embeddings(model).values():
        for vocabulary, rows in embedding.rows_of_vocabularies.items():
            known = encoder.vocabularies.get(vocabulary, Vocabulary([]))
            if known.size != len(rows):
                raise ValueError(
                    f"model {name!r} has {len(rows)} ids of vocabulary {vocabulary!r}, and its "
                    f"encoder {known.size}: give each model the encoder that it was built from"
                )


def _paths(model: MultiTaskModel) -> dict[int, str]:
    """Object to the shortest way to it over attributes, which names do not depend on."""
    view = tf.train.TrackableView(model)
    paths = {id(model): ""}
    waiting: deque[Any] = deque([model])
    while waiting:
        parent = waiting.popleft()
        for name, child in view.children(parent).items():
            if id(child) not in paths:
                paths[id(child)] = f"{paths[id(parent)]}/{name}".lstrip("/")
                waiting.append(child)
    return paths


def _embeddings(model: MultiTaskModel) -> dict[str, FeatureEmbedding]:
    """The embeddings that have a table, by the table's path."""
    paths = _paths(model)
    return {
        f"{paths[id(layer)]}/table": layer
        for layer in model.submodules
        if isinstance(layer, FeatureEmbedding) and layer.inputs
    }


def _weights(model: MultiTaskModel) -> dict[str, Any]:
    """The weights that are carried, by path."""
    paths, embeddings = _paths(model), _embeddings(model)
    weights = {path: layer.table for path, layer in embeddings.items()}
    passed = {id(weight) for layer in embeddings.values() for weight in layer.weights}
    passed |= {id(number) for metric in model.metrics for number in metric.variables}
    for layer in model.submodules:
        if isinstance(layer, NodeFeatures | InteractionPropagation):
            passed |= {id(weight) for weight in layer.non_trainable_weights}
    for weight in model.weights:
        if id(weight) not in passed:
            weights[paths.get(id(weight), weight.name)] = weight
    return weights


def _rows_of_embedding(
    path: str, old: FeatureEmbedding, new: FeatureEmbedding, numbers: Mapping[str, _Rows]
) -> _Rows:
    """Rows of a fused table, where each vocabulary has moved by the growth of those before it."""
    before, after = old.rows_of_vocabularies, new.rows_of_vocabularies
    if list(before) != list(after) or old.dim != new.dim:
        raise ValueError(
            f"expected tables {path!r} of the same vocabularies and width; received "
            f"{list(before)} of width {old.dim} and {list(after)} of width {new.dim}: build both "
            "models with the same inputs and embedding_dim"
        )
    # Row 0, of padding, stays.
    sources, is_new = np.zeros(new.num_rows, np.int64), np.zeros(new.num_rows, bool)
    for name, places in after.items():
        own = slice(places.start, places.stop)
        sources[own] = before[name].start + numbers[name].sources
        is_new[own] = numbers[name].is_new
    return _Rows(sources, is_new, (old.num_rows, new.num_rows))


def _rows_of_weight(
    path: str, old: tf.Variable, new: tf.Variable, numbers: Mapping[str, _Rows]
) -> _Rows | None:
    """Rows of another weight: as they are (`None`), or those of the vocabulary that it has."""
    if old.shape == new.shape:
        return None
    sizes = (*old.shape[:1], *new.shape[:1])
    fitting = {name: own for name, own in numbers.items() if own.sizes == sizes}
    if not fitting or old.shape[1:] != new.shape[1:]:
        grown = {name: own.sizes for name, own in numbers.items() if own.sizes[0] != own.sizes[1]}
        raise ValueError(
            f"weight {path!r} has shape {tuple(old.shape)} in the trained model and "
            f"{tuple(new.shape)} in the grown one, which no vocabulary explains; rows of those "
            f"that grew are {grown}: build both models with the same hyper-parameters"
        )
    first, *rest = fitting.values()
    if any(not np.array_equal(own.sources, first.sources) for own in rest):
        raise ValueError(
            f"weight {path!r} of {old.shape[0]} rows may be one of several vocabularies, "
            f"{sorted(fitting)}, whose new ids had other buckets: leave oov_buckets out of one"
        )
    return first


def _slots(
    trained_optimizer: Any,
    grown_optimizer: Any,
    trained: MultiTaskModel,
    grown: MultiTaskModel,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
) -> list[_Slot]:
    """What both optimisers keep of the weights."""
    if type(trained_optimizer) is not type(grown_optimizer):
        raise ValueError(
            "expected two optimisers of one kind; received "
            f"{type(trained_optimizer).__name__} and {type(grown_optimizer).__name__}: let the "
            "new one start anew, or choose the old kind"
        )
    if not hasattr(trained_optimizer, "_index_dict"):
        raise ValueError(
            f"the optimiser of the trained model, {type(trained_optimizer).__name__}, has no slots "
            "yet: restore it, or leave optimizers out; give the inner one of an optimiser that "
            "wraps another"
        )
    grown_optimizer.build(grown.trainable_variables)
    found = []
    for path, one in old.items():
        other = new[path]
        if isinstance(one, _SHARDED) or isinstance(other, _SHARDED):
            raise ValueError(
                f"table {path!r} is split over parameter servers, and so are its slots: carry "
                "optimisers in one process, or leave optimizers out"
            )
        own, others = _slots_of(trained_optimizer, one), _slots_of(grown_optimizer, other)
        if own.keys() != others.keys():
            raise ValueError(
                f"expected the same slots of {path!r} in both optimisers; received {sorted(own)} "
                f"and {sorted(others)}: give both the same options"
            )
        found += [_Slot(path, name, own[name], others[name]) for name in own]
    return found


def _slots_of(optimizer: Any, weight: tf.Variable) -> dict[str, tf.Variable]:
    # Keras keeps one list per kind of slot, in the order of the weights it was built for.
    index = optimizer._index_dict.get(optimizer._var_key(weight))
    if index is None:
        return {}
    count = len(optimizer._index_dict)
    return {
        name: slots[index]
        for name, slots in vars(optimizer).items()
        if isinstance(slots, list)
        and name != "_variables"
        and len(slots) == count
        and isinstance(slots[index], tf.Variable)
    }


def _copy(old: Any, new: Any, rows: _Rows | None, of_new_ids: bool) -> None:
    """Copies the rows of a table, with or without those of new ids, or a whole weight."""
    if rows is None:
        new.assign(old)
        return
    targets = np.flatnonzero(~rows.is_new | of_new_ids)
    for first in range(0, len(targets), _BLOCK_ROWS):
        block = targets[first : first + _BLOCK_ROWS]
        look_up = tf.nn.embedding_lookup if isinstance(old, _SHARDED) else tf.gather
        values = look_up(old, tf.constant(rows.sources[block], tf.int32))
        new.scatter_update(tf.IndexedSlices(values, tf.constant(block, tf.int32)))
