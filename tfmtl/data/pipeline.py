"""Batches for `model.fit` and `model.evaluate`, gathered from columns."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.schema import TIME

Sampler = Callable[[dict[str, tf.Tensor], tf.Tensor], Any]
_GROUPS = ("features", "labels", "weights")
# What only the sampler sees: a model must not learn from the moment itself.
_OF_SAMPLE = "sample"


def training_dataset(
    encoded: EncodedLog,
    *,
    batch_size: int,
    seed: int = 0,
    start_epoch: int = 0,
    sample: Sampler | None = None,
    drop_remainder: bool = True,
) -> tf.data.Dataset:
    """Shuffled batches; every new iterator is the next epoch, in another order.

    The order of epoch e depends on `seed` and e alone, so `start_epoch=e` goes on where an
    interrupted run stopped.

    Args:
        encoded: Encoded training rows.
        batch_size: Rows per batch.
        seed: Seed of the orders and of `sample`, at least 0.
        start_epoch: Epoch of the first iterator.
        sample: Called as `sample(features, seed)` with the batch and an `int64 [2]` seed that
            depends on `seed`, the epoch and the batch's number alone; its result becomes
            `features["graph"]`. Where it has a true attribute `needs_time`, it is given the rows'
            times as well, as `time` in the log's dtype; the batch's features do not have them.
        drop_remainder: Whether the last rows of an epoch that fill no batch are left out.

    Returns:
        Dataset of `(features, labels, sample_weights)`, each a dictionary of tensors with
        leading dimension `batch_size`, of known cardinality.

    Raises:
        TypeError: If the rows are not training rows.
        ValueError: If a number is out of range, there are fewer rows than one batch, or `sample`
            needs times and the log has none.

    Example:
        >>> rows = np.arange(5, dtype=np.int32)
        >>> one = np.ones(5, np.float32)
        >>> log = EncodedLog({"user_id": rows}, {"click": one}, {"click": one}, None, None, True)
        >>> dataset = training_dataset(log, batch_size=5)
        >>> [sorted(x["user_id"].numpy().tolist()) for x, _, _ in dataset]
        [[0, 1, 2, 3, 4]]
    """
    if not encoded.is_training:
        raise TypeError(
            "training_dataset needs encoded training rows; received held-out ones: use "
            "evaluation_dataset, or encode the TrainingLog"
        )
    if seed < 0 or start_epoch < 0:
        raise ValueError(
            f"expected seed >= 0 and start_epoch >= 0; received {seed} and {start_epoch}"
        )
    _check_batch_size(batch_size)
    rows = len(encoded)
    steps = rows // batch_size if drop_remainder else math.ceil(rows / batch_size)
    if steps == 0:
        raise ValueError(
            f"batch_size {batch_size} exceeds the {rows} training rows: lower it, or set "
            "drop_remainder=False"
        )
    epochs = itertools.count(start_epoch)
    lock = threading.Lock()

    # Parallel calls of one epoch wait for its order instead of each drawing it again. Two orders
    # are kept because an epoch's last batches may still be on their way when the next one starts.
    @lru_cache(maxsize=2)
    def order_of(epoch: int) -> np.ndarray:
        order = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
        np.random.default_rng((seed, epoch)).shuffle(order)
        return order

    def batch_rows(epoch: int, step: int) -> np.ndarray:
        with lock:
            order = order_of(epoch)
        return order[step * batch_size : (step + 1) * batch_size]

    def next_epoch() -> np.int64:
        return np.int64(next(epochs))

    def steps_of(epoch: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.range(steps).map(lambda step: (epoch, step))

    places = (
        tf.data.Dataset.range(1)
        .map(lambda _: tf.ensure_shape(tf.numpy_function(next_epoch, [], tf.int64), []))
        .flat_map(steps_of)
    )
    static_size = batch_size if drop_remainder else None
    return _gathered(encoded, places, steps, batch_rows, seed, static_size, sample)


def evaluation_dataset(
    encoded: EncodedLog, *, batch_size: int, sample: Sampler | None = None
) -> tf.data.Dataset:
    """Batches in the order of the log, the same in every iteration.

    Args:
        encoded: Encoded rows, training or held out.
        batch_size: Rows per batch; the last one may have fewer.
        sample: As in `training_dataset`, with a seed that depends on the batch's number alone.

    Returns:
        Dataset of `(features, labels, sample_weights)` of known cardinality.

    Raises:
        ValueError: If `batch_size` is not positive, or `sample` needs times and the log has none.

    Example:
        >>> rows = np.arange(5, dtype=np.int32)
        >>> one = np.ones(5, np.float32)
        >>> held = EncodedLog({"user_id": rows}, {"click": one}, {"click": one}, None, None, False)
        >>> [x["user_id"].numpy().tolist() for x, _, _ in evaluation_dataset(held, batch_size=3)]
        [[0, 1, 2], [3, 4]]
    """
    _check_batch_size(batch_size)
    steps = math.ceil(len(encoded) / batch_size)
    places = tf.data.Dataset.range(steps).map(lambda step: (tf.constant(0, tf.int64), step))

    def batch_rows(epoch: int, step: int) -> np.ndarray:
        return np.arange(step * batch_size, min((step + 1) * batch_size, len(encoded)))

    return _gathered(encoded, places, steps, batch_rows, 0, None, sample)


def _gathered(
    encoded: EncodedLog,
    places: tf.data.Dataset,
    steps: int,
    batch_rows: Callable[[int, int], np.ndarray],
    seed: int,
    static_size: int | None,
    sample: Sampler | None,
) -> tf.data.Dataset:
    columns = [
        (group, name, column)
        for group in _GROUPS
        for name, column in getattr(encoded, group).items()
    ]
    if getattr(sample, "needs_time", False):
        if encoded.times is None:
            raise ValueError(
                "sample needs the rows' times and the log has none: name its time column in the "
                "schema, or sample without a time limit"
            )
        columns.append((_OF_SAMPLE, TIME, encoded.times))
    types = [tf.int64, *(tf.as_dtype(column.dtype) for _, _, column in columns)]

    def gather(epoch: np.int64, step: np.int64) -> list[np.ndarray]:
        rows = batch_rows(int(epoch), int(step)).astype(np.intp)
        # Top bit off: TensorFlow's seeds are signed.
        drawn = np.random.SeedSequence((seed, int(epoch), int(step))).generate_state(2, np.uint64)
        batch_seed = (drawn >> np.uint64(1)).astype(np.int64)
        return [batch_seed, *(column.take(rows, axis=0) for _, _, column in columns)]

    def batch(epoch: tf.Tensor, step: tf.Tensor) -> tuple[dict[str, Any], ...]:
        batch_seed, *values = tf.numpy_function(gather, [epoch, step], types, stateful=False)
        groups: dict[str, dict[str, Any]] = {group: {} for group in (*_GROUPS, _OF_SAMPLE)}
        for (group, name, column), value in zip(columns, values, strict=True):
            groups[group][name] = tf.ensure_shape(value, [static_size, *column.shape[1:]])
        features = groups["features"]
        if sample is not None:
            features["graph"] = sample(
                {**features, **groups[_OF_SAMPLE]}, tf.ensure_shape(batch_seed, [2])
            )
        return features, groups["labels"], groups["weights"]

    return (
        places.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .apply(tf.data.experimental.assert_cardinality(steps))
        .prefetch(tf.data.AUTOTUNE)
    )


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"expected batch_size of at least 1; received {batch_size}")
