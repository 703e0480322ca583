from itertools import chain

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from tfmtl.data import EncodedLog, evaluation_dataset, training_dataset
from tfmtl.data.pipeline import training_batches


def encoded_log(n=20, is_training=True):
    rows = np.arange(n)
    return EncodedLog(
        features={
            "row": rows.astype(np.int32),
            "genre": np.stack([rows, -rows], axis=1).astype(np.int32),
            "statistics": np.stack([rows + 0.5] * 3, axis=1).astype(np.float32),
        },
        labels={"click": (rows % 2).astype(np.float32), "like": (rows % 3 == 0).astype(np.float32)},
        weights={"click": np.ones(n, np.float32), "like": (rows % 2).astype(np.float32)},
        times=None,
        groups=None,
        is_training=is_training,
    )


def sample(features, seed):
    return {"seed": seed, "first": features["row"][0]}


def epoch_of(dataset):
    return [features["row"].numpy().tolist() for features, _, _ in dataset]


def seeds_of(dataset):
    return np.array([features["graph"]["seed"].numpy() for features, _, _ in dataset])


def test_columns_of_a_batch_belong_to_the_same_rows():
    for features, labels, weights in training_dataset(encoded_log(), batch_size=6):
        rows = features["row"].numpy()
        assert rows.shape == (6,)
        assert_array_equal(features["genre"], np.stack([rows, -rows], axis=1))
        assert_array_equal(features["statistics"], np.stack([rows + 0.5] * 3, axis=1))
        assert_array_equal(labels["click"], rows % 2)
        assert_array_equal(labels["like"], rows % 3 == 0)
        assert_array_equal(weights["click"], np.ones(6))
        assert_array_equal(weights["like"], rows % 2)


def test_shapes_and_cardinality_are_static():
    dataset = training_dataset(encoded_log(), batch_size=6)
    assert dataset.cardinality() == 3
    features, labels, weights = dataset.element_spec
    assert features == {
        "row": tf.TensorSpec([6], tf.int32),
        "genre": tf.TensorSpec([6, 2], tf.int32),
        "statistics": tf.TensorSpec([6, 3], tf.float32),
    }
    assert (
        labels
        == weights
        == {
            "click": tf.TensorSpec([6], tf.float32),
            "like": tf.TensorSpec([6], tf.float32),
        }
    )
    evaluation = evaluation_dataset(encoded_log(), batch_size=6)
    assert evaluation.cardinality() == 4
    assert evaluation.element_spec[0]["genre"] == tf.TensorSpec([None, 2], tf.int32)


def test_epochs_differ_in_order_and_cover_the_same_rows():
    dataset = training_dataset(encoded_log(), batch_size=6, drop_remainder=False)
    assert dataset.cardinality() == 4
    first, second = epoch_of(dataset), epoch_of(dataset)
    assert [len(batch) for batch in first] == [6, 6, 6, 2]
    assert first != second
    assert sorted(list(chain(*first))) == sorted(list(chain(*second))) == list(range(20))
    assert list(chain(*first)) != list(range(20))


def test_the_remainder_is_dropped_from_each_epochs_own_order():
    dataset = training_dataset(encoded_log(), batch_size=6)
    first, second = list(chain(*epoch_of(dataset))), list(chain(*epoch_of(dataset)))
    assert len(set(first)) == len(set(second)) == 18
    assert set(first) != set(second)


def test_orders_are_a_function_of_seed_and_epoch():
    def epochs(**options):
        dataset = training_dataset(encoded_log(), batch_size=6, sample=sample, **options)
        seeds = [], []
        rows = []
        for _ in range(2):
            batches = list(dataset)
            rows.append([features["row"].numpy().tolist() for features, _, _ in batches])
            seeds[0].extend(
                features["graph"]["seed"].numpy().tolist() for features, _, _ in batches
            )
        return rows, seeds[0]

    rows, seeds = epochs(seed=4)
    assert epochs(seed=4) == (rows, seeds)
    other_rows, other_seeds = epochs(seed=5)
    assert other_rows[0] != rows[0]
    assert not {tuple(s) for s in seeds} & {tuple(s) for s in other_seeds}
    later_rows, later_seeds = epochs(seed=4, start_epoch=1)
    assert later_rows[0] == rows[1]
    assert later_seeds[:3] == seeds[3:]


def test_results_do_not_depend_on_parallelism():
    def run(threads):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        dataset = training_dataset(encoded_log(200), batch_size=7, seed=2, sample=sample)
        dataset = dataset.with_options(options)
        epochs = [list(dataset) for _ in range(2)]
        return [
            (f["row"].numpy().tolist(), f["graph"]["seed"].numpy().tolist())
            for epoch in epochs
            for f, _, _ in epoch
        ]

    assert run(1) == run(8)


def test_an_iterator_that_is_not_read_is_no_epoch():
    dataset = training_dataset(encoded_log(), batch_size=6, seed=1)
    iter(dataset)
    assert epoch_of(dataset) == epoch_of(training_dataset(encoded_log(), batch_size=6, seed=1))


def test_epochs_go_on_while_an_earlier_one_is_being_read():
    reference = training_dataset(encoded_log(), batch_size=6, seed=3)
    expected = [epoch_of(reference) for _ in range(4)]
    dataset = training_dataset(encoded_log(), batch_size=6, seed=3)
    readers = [iter(dataset) for _ in range(4)]
    steps = [[next(reader) for reader in readers] for _ in range(3)]
    received = [
        [batch[0]["row"].numpy().tolist() for batch in reader]
        for reader in zip(*steps, strict=True)
    ]
    assert received == expected


def test_repeat_goes_from_epoch_to_epoch():
    one = training_dataset(encoded_log(), batch_size=6, seed=1)
    repeated = training_dataset(encoded_log(), batch_size=6, seed=1).repeat(2)
    assert epoch_of(repeated) == epoch_of(one) + epoch_of(one)


def numbered(dataset):
    """Rows and seed of every batch."""
    return [
        (features["row"].numpy().tolist(), features["graph"]["seed"].numpy().tolist())
        for features, _, _ in dataset
    ]


@pytest.mark.parametrize("start", [0, 1, 3])
def test_the_first_iterator_yields_the_rest_of_its_epoch(start):
    whole = training_dataset(encoded_log(), batch_size=5, seed=2, sample=sample)
    epochs = [numbered(whole) for _ in range(4)]
    rest = training_dataset(
        encoded_log(), batch_size=5, seed=2, sample=sample, start_epoch=1, start_step=start
    )
    assert [numbered(rest) for _ in range(3)] == [epochs[1][start:], epochs[2], epochs[3]]


def test_a_shortened_first_epoch_makes_the_cardinality_unknown():
    shortened = training_dataset(encoded_log(), batch_size=5, start_step=1)
    assert shortened.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert training_dataset(encoded_log(), batch_size=5, start_step=0).cardinality() == 4


def test_accumulated_batches_are_those_of_as_many_steps():
    options = {"batch_size": 3, "seed": 2, "sample": sample, "start_epoch": 1}
    single = training_dataset(encoded_log(), **options)
    first, second = numbered(single), numbered(single)
    # Of the seven batches of 23 rows, two steps of three leave the last one out.
    assert training_dataset(encoded_log(23), **options, accumulate=3).cardinality() == 2
    dataset = training_dataset(encoded_log(), **options, accumulate=2, start_step=1)
    steps = list(dataset)
    assert [len(step) for step in steps] == [2, 2]
    assert [batch for step in steps for batch in numbered(step)] == first[2:6]
    assert [batch for step in dataset for batch in numbered(step)] == second[:6]
    features, labels, weights = dataset.element_spec[1]
    assert features["genre"] == tf.TensorSpec([3, 2], tf.int32)
    assert labels["click"] == weights["click"] == tf.TensorSpec([3], tf.float32)


def test_sample_sees_the_batch_and_a_seed_of_its_own():
    dataset = training_dataset(encoded_log(), batch_size=6, sample=sample)
    assert dataset.element_spec[0]["graph"]["seed"] == tf.TensorSpec([2], tf.int64)
    batches = list(dataset)
    for features, _, _ in batches:
        assert features["graph"]["first"] == features["row"][0]
    seeds = np.array([features["graph"]["seed"].numpy() for features, _, _ in batches])
    assert (seeds >= 0).all()
    assert len(np.unique(seeds)) == 6


def test_evaluation_keeps_the_order_and_the_last_rows():
    dataset = evaluation_dataset(encoded_log(is_training=False), batch_size=8, sample=sample)
    expected = [list(range(8)), list(range(8, 16)), list(range(16, 20))]
    assert epoch_of(dataset) == expected
    assert epoch_of(dataset) == expected
    seeds = seeds_of(dataset)
    assert len(np.unique(seeds)) == 6
    assert_array_equal(seeds, seeds_of(dataset))


def test_held_out_rows_are_not_trained_on():
    with pytest.raises(TypeError, match="received held-out ones: use evaluation_dataset"):
        training_dataset(encoded_log(is_training=False), batch_size=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "expected batch_size of at least 1; received 0"),
        ({"batch_size": 2, "seed": -1}, "expected seed >= 0 and start_epoch >= 0; received -1 and"),
        ({"batch_size": 2, "start_epoch": -2}, "received 0 and -2"),
        ({"batch_size": 21}, r"^batch_size 21 exceeds the 20 training rows: lower it, or set drop"),
        ({"batch_size": 5, "start_step": 4}, "below the 4 steps of an epoch; received 4"),
        ({"batch_size": 5, "start_step": -1}, "at least 0 and below the 4 steps .* received -1"),
        ({"batch_size": 5, "accumulate": 0}, "accumulate of at least 1.*received 0 and drop"),
        (
            {"batch_size": 5, "accumulate": 5},
            "^5 times batch_size 5 exceeds the 20 .* or accumulate f",
        ),
        (
            {"batch_size": 5, "accumulate": 2, "drop_remainder": False},
            "of 1 where the remainder is kept; received 2 and drop_remainder=False: drop the rem",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        training_dataset(encoded_log(), **options)


def test_evaluation_refuses_an_empty_batch():
    with pytest.raises(ValueError, match="expected batch_size of at least 1; received -1"):
        evaluation_dataset(encoded_log(), batch_size=-1)


def test_any_batch_of_any_epoch_is_made_by_its_place():
    batches = training_batches(encoded_log(), batch_size=6, seed=3, sample=sample)
    assert batches.steps == 3
    dataset = training_dataset(encoded_log(), batch_size=6, seed=3, start_epoch=2, sample=sample)
    traced = tf.function(batches.batch)
    for step, (features, labels, weights) in enumerate(dataset):
        place = tf.constant(2, tf.int64), tf.constant(step, tf.int64)
        received = traced(*place)
        for parts, expected in zip(received, (features, labels, weights), strict=True):
            tf.nest.map_structure(assert_array_equal, parts, expected)


def test_replicas_share_out_the_rows_of_every_step():
    batches = list(training_dataset(encoded_log(), batch_size=6, seed=3))
    options = {"batch_size": 6, "seed": 3, "replicas": 3}
    # Two input pipelines, of which the first feeds two replicas and the second one.
    first = training_dataset(encoded_log(), **options, own_replicas=[0, 1])
    second = training_dataset(encoded_log(), **options, own_replicas=[2])
    assert (first.cardinality(), second.cardinality()) == (6, 3)
    assert first.element_spec[0]["genre"] == tf.TensorSpec([2, 2], tf.int32)
    first, second = epoch_of(first), epoch_of(second)
    for step, (features, _, _) in enumerate(batches):
        parts = first[2 * step] + first[2 * step + 1] + second[step]
        assert parts == features["row"].numpy().tolist()


def test_replicas_draw_samples_of_their_own():
    def seeds(own):
        return seeds_of(
            training_dataset(
                encoded_log(), batch_size=6, sample=sample, replicas=2, own_replicas=own
            )
        )

    both = seeds([0, 1])
    assert len(np.unique(both)) == 2 * 2 * 3
    assert_array_equal(both[0::2], seeds([0]))
    assert_array_equal(both[1::2], seeds([1]))


def test_parts_of_batches_go_on_from_epoch_to_epoch_and_from_a_step():
    options = {"batch_size": 6, "seed": 1, "replicas": 2, "own_replicas": [1]}
    dataset = training_dataset(encoded_log(), **options, start_step=2).repeat()
    # One step is left of the first epoch.
    expected = [
        features["row"].numpy()[3:].tolist()
        for epoch, steps in ((0, [2]), (1, [0, 1, 2]))
        for step, (features, _, _) in enumerate(
            training_dataset(encoded_log(), batch_size=6, seed=1, start_epoch=epoch)
        )
        if step in steps
    ]
    assert epoch_of(dataset.take(4)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"batch_size": 5, "replicas": 2},
            "that 2 replicas can share out in equal parts, .* received batch_size 5 and .*: set it "
            "to a multiple of 2, such as 6",
        ),
        ({"batch_size": 4, "replicas": 2, "drop_remainder": False}, "drop_remainder=False"),
        (
            {"batch_size": 4, "replicas": 2, "own_replicas": [0], "accumulate": 2},
            "accumulate of 1 for parts of batches; received 2",
        ),
    ],
)
def test_parts_that_cannot_be_equal_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        training_dataset(encoded_log(), **options)
