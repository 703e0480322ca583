"""Batches for `model.fit` and `model.evaluate`, gathered from columns."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.data.python_function import python_function
from tfmtl.schema import TIME

Sampler = Callable[[dict[str, tf.Tensor], tf.Tensor], Any]
_GROUPS = ("features", "labels", "weights")
# What only the sampler sees: a model must not learn from the moment itself.
_OF_SAMPLE = "sample"


class TrainingBatches(NamedTuple):
    """The batches of all epochs.

    Attributes:
        batch: Maps an epoch and a step of it, `int64` scalars counted from 0, to the batch.
        steps: Steps of an epoch.
        replica_batch: Maps an epoch, a step and the number of a replica to the replica's batch.
    """

    batch: Callable[[tf.Tensor, tf.Tensor], tuple[Any, ...]]
    steps: int
    replica_batch: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[Any, ...]]


def training_batches(
    encoded: EncodedLog,
    *,
    batch_size: int,
    seed: int = 0,
    sample: Sampler | None = None,
    drop_remainder: bool = True,
    replicas: int = 1,
) -> TrainingBatches:
    """Any batch of any epoch of `training_dataset`, by its place.

    A batch is a function of its place alone, so that processes over copies of one log may share out
    an epoch's steps, or the rows of each step.

    Args:
        encoded: Encoded training rows.
        batch_size: Rows per batch.
        seed: Seed of the orders and of `sample`, at least 0.
        sample: As in `training_dataset`.
        drop_remainder: Whether the last rows of an epoch that fill no batch are left out.
        replicas: Equal parts, side by side, that `replica_batch` cuts the rows of a step into.

    Returns:
        `(batch, steps, replica_batch)`, usable eagerly and inside `tf.data` and `tf.function`.

    Raises:
        TypeError: If the rows are not training rows.
        ValueError: If a number is out of range, there are fewer rows than one batch takes, the
            replicas cannot have equal parts, or `sample` needs times and the log has none.

    Example:
        >>> rows = np.arange(6, dtype=np.int32)
        >>> one = np.ones(6, np.float32)
        >>> log = EncodedLog({"user_id": rows}, {"click": one}, {"click": one}, None, None, True)
        >>> batches = training_batches(log, batch_size=4, replicas=2)
        >>> epoch, step = tf.constant(5, tf.int64), tf.constant(0, tf.int64)
        >>> whole = batches.batch(epoch, step)[0]["user_id"]
        >>> parts = [batches.replica_batch(epoch, step, number)[0]["user_id"]
        ...          for number in tf.range(2, dtype=tf.int64)]
        >>> batches.steps, bool(tf.reduce_all(whole == tf.concat(parts, axis=0)))
        (1, True)
    """
    if not encoded.is_training:
        raise TypeError(
            "training batches need encoded training rows; received held-out ones: use "
            "evaluation_dataset, or encode the TrainingLog"
        )
    if seed < 0:
        raise ValueError(f"expected seed >= 0; received {seed}")
    _check_batch_size(batch_size)
    if replicas < 1 or batch_size % replicas or (replicas > 1 and not drop_remainder):
        raise ValueError(
            f"expected a batch_size that {replicas} replicas can share out in equal parts, the "
            f"remainder dropped; received batch_size {batch_size} and "
            f"drop_remainder={drop_remainder}: set it to a multiple of {replicas}, such as "
            f"{math.ceil(batch_size / max(replicas, 1)) * replicas}"
        )
    rows = len(encoded)
    steps = rows // batch_size if drop_remainder else math.ceil(rows / batch_size)
    if steps == 0:
        raise ValueError(
            f"batch_size {batch_size} exceeds the {rows} training rows: lower it, or set "
            "drop_remainder=False"
        )
    lock = threading.Lock()

    # Parallel calls of one epoch wait for its order instead of each drawing it again. Two orders
    # are kept because an epoch's last batches may still be on their way when the next one starts.
    @lru_cache(maxsize=2)
    def order_of(epoch: int) -> np.ndarray:
        order = np.arange(rows, dtype=np.int32 if rows < 2**31 else np.int64)
        np.random.default_rng((seed, epoch)).shuffle(order)
        return order

    def rows_of(epoch: int, first: int, last: int) -> np.ndarray:
        with lock:
            order = order_of(epoch)
        return order[first:last]

    def batch_rows(epoch: int, step: int) -> np.ndarray:
        return rows_of(epoch, step * batch_size, (step + 1) * batch_size)

    def replica_rows(epoch: int, step: int, replica: int) -> np.ndarray:
        size = batch_size // replicas
        first = step * batch_size + replica * size
        return rows_of(epoch, first, first + size)

    def batch_of(rows: Callable[..., np.ndarray], size: int) -> Callable[..., tuple[Any, ...]]:
        return _gatherer(encoded, rows, seed, size if drop_remainder else None, sample)

    return TrainingBatches(
        batch_of(batch_rows, batch_size), steps, batch_of(replica_rows, batch_size // replicas)
    )


def training_dataset(
    encoded: EncodedLog,
    *,
    batch_size: int,
    seed: int = 0,
    start_epoch: int = 0,
    start_step: int = 0,
    accumulate: int = 1,
    sample: Sampler | None = None,
    drop_remainder: bool = True,
    replicas: int = 1,
    own_replicas: Sequence[int] | None = None,
) -> tf.data.Dataset:
    """Shuffled batches; every new iterator is the next epoch, in another order.

    The order of epoch e depends on `seed` and e alone, so `start_epoch=e, start_step=s` goes on
    where a run stopped that had made s steps of epoch e.

    Args:
        encoded: Encoded training rows.
        batch_size: Rows per batch.
        seed: Seed of the orders and of `sample`, at least 0.
        start_epoch: Epoch of the first iterator.
        start_step: Steps that the first iterator leaves out; later ones yield all.
        accumulate: Batches per step, for an optimiser that sums their gradients. Numbers of batches
            stay, so that a step of n batches sees the rows and samples of n steps of one.
        sample: Called as `sample(features, seed)` with the batch and an `int64 [2]` seed that
            depends on `seed`, the epoch and the batch's number alone; its result becomes
            `features["graph"]`. Where it has a true attribute `needs_time`, it is given the rows'
            times as well, as `time` in the log's dtype; the batch's features do not have them.
        drop_remainder: Whether the last rows of an epoch that fill no batch are left out; batches
            that fill no step of several always are.
        replicas: Equal parts that the rows of a batch are cut into.
        own_replicas: Numbers of the parts to yield, one after another, in place of whole batches;
            None for whole batches.

    Returns:
        Dataset of `(features, labels, sample_weights)`, each a dictionary of tensors with
        leading dimension `batch_size`; with `accumulate` over 1, of tuples of so many of them. Its
        cardinality is known unless `start_step` makes the first iterator shorter than the rest:
        `fit` then needs `steps_per_epoch`, or would take the first epoch's length for that of all.

    Raises:
        TypeError: If the rows are not training rows.
        ValueError: If a number is out of range, there are fewer rows than one step takes, batches
            of unequal size or parts of batches are to be accumulated, the parts cannot be equal, or
            `sample` needs times and the log has none.

    Example:
        >>> rows = np.arange(5, dtype=np.int32)
        >>> one = np.ones(5, np.float32)
        >>> log = EncodedLog({"user_id": rows}, {"click": one}, {"click": one}, None, None, True)
        >>> dataset = training_dataset(log, batch_size=5)
        >>> [sorted(x["user_id"].numpy().tolist()) for x, _, _ in dataset]
        [[0, 1, 2, 3, 4]]
    """
    if seed < 0 or start_epoch < 0:
        raise ValueError(
            f"expected seed >= 0 and start_epoch >= 0; received {seed} and {start_epoch}"
        )
    if accumulate < 1 or (accumulate > 1 and not drop_remainder):
        raise ValueError(
            "expected accumulate of at least 1, and of 1 where the remainder is kept; received "
            f"{accumulate} and drop_remainder={drop_remainder}: drop the remainder, as gradients "
            "of a smaller batch cannot be summed with those of the others"
        )
    whole = training_batches(
        encoded,
        batch_size=batch_size,
        seed=seed,
        sample=sample,
        drop_remainder=drop_remainder,
        replicas=replicas,
    )
    steps = whole.steps // accumulate
    if steps == 0:
        raise ValueError(
            f"{accumulate} times batch_size {batch_size} exceeds the {len(encoded)} training rows: "
            "lower it, or accumulate fewer"
        )
    if not 0 <= start_step < steps:
        raise ValueError(
            f"expected start_step of at least 0 and below the {steps} steps of an epoch; received "
            f"{start_step}"
        )
    epochs = itertools.count(start_epoch)

    def next_epoch() -> np.int64:
        return np.int64(next(epochs))

    def steps_of(epoch: tf.Tensor) -> tf.data.Dataset:
        first = tf.where(epoch == start_epoch, tf.constant(start_step, tf.int64), 0)
        return tf.data.Dataset.range(first, steps).map(lambda step: (epoch, step))

    places = (
        tf.data.Dataset.range(1)
        .map(lambda _: tf.ensure_shape(tf.numpy_function(next_epoch, [], tf.int64), []))
        .flat_map(steps_of)
    )

    def batches_of(epoch: tf.Tensor, step: tf.Tensor) -> tuple[Any, ...]:
        if accumulate == 1:
            return whole.batch(epoch, step)
        return tuple(whole.batch(epoch, step * accumulate + number) for number in range(accumulate))

    if own_replicas is None:
        return _prefetched(places, batches_of, None if start_step else steps)
    if accumulate > 1:
        raise ValueError(
            f"expected accumulate of 1 for parts of batches; received {accumulate}: accumulate the "
            "batches of all replicas"
        )
    numbers = tf.constant(list(own_replicas), tf.int64)
    parts = places.flat_map(
        lambda epoch, step: tf.data.Dataset.from_tensor_slices(numbers).map(
            lambda number: (epoch, step, number)
        )
    )
    return _prefetched(
        parts, whole.replica_batch, None if start_step else steps * len(own_replicas)
    )


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

    return _prefetched(places, _gatherer(encoded, batch_rows, 0, None, sample), steps)


def _gatherer(
    encoded: EncodedLog,
    batch_rows: Callable[..., np.ndarray],
    seed: int,
    static_size: int | None,
    sample: Sampler | None,
) -> Callable[..., tuple[Any, ...]]:
    """Maps the place of a batch, such as its epoch and its number there, to the batch."""
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

    def gather(*place: np.int64) -> list[np.ndarray]:
        numbers = tuple(int(number) for number in place)
        rows = batch_rows(*numbers).astype(np.intp)
        # Top bit off: TensorFlow's seeds are signed.
        drawn = np.random.SeedSequence((seed, *numbers)).generate_state(2, np.uint64)
        batch_seed = (drawn >> np.uint64(1)).astype(np.int64)
        return [batch_seed, *(column.take(rows, axis=0) for _, _, column in columns)]

    def batch(*place: tf.Tensor) -> tuple[dict[str, Any], ...]:
        batch_seed, *values = python_function(gather, place, types)
        groups: dict[str, dict[str, Any]] = {group: {} for group in (*_GROUPS, _OF_SAMPLE)}
        for (group, name, column), value in zip(columns, values, strict=True):
            groups[group][name] = tf.ensure_shape(value, [static_size, *column.shape[1:]])
        features = groups["features"]
        if sample is not None:
            features["graph"] = sample(
                {**features, **groups[_OF_SAMPLE]}, tf.ensure_shape(batch_seed, [2])
            )
        return features, groups["labels"], groups["weights"]

    return batch


def _prefetched(
    places: tf.data.Dataset, batch: Callable[..., tuple[Any, ...]], steps: int | None
) -> tf.data.Dataset:
    dataset = places.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    if steps is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
    return dataset.prefetch(tf.data.AUTOTUNE)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"expected batch_size of at least 1; received {batch_size}")
