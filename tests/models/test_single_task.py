import numpy as np
import pytest
import tensorflow as tf

from tests.models.conftest import as_tensors, embedded_rows, network, randomize
from tfmtl.testing import assert_experts_differ


def test_golden(build, log):
    model = build("single_task")
    randomize(model)
    logits = model(as_tensors(log.features))
    for task in model.task_names:
        row = embedded_rows(model.embeddings[task].get_weights()[0], log.features)
        expected = network(row, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


def test_tasks_share_no_weight(build, log):
    model = build("single_task")
    gradients = {}
    for task in model.task_names:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(as_tensors(log.features))[task])
        received = tape.gradient(loss, model.trainable_weights)
        gradients[task] = {number for number, one in enumerate(received) if one is not None}
    assert gradients["click"]
    assert gradients["click"].isdisjoint(gradients["click_x"])
    # Nothing else is there to train.
    assert set.union(*gradients.values()) == set(range(len(model.trainable_weights)))


def test_tasks_differ_at_the_start(build):
    model = build("single_task")
    for number in (0, 2):
        assert_experts_differ(
            [model.towers[task].get_weights()[number] for task in model.task_names]
        )
    assert_experts_differ([model.embeddings[task].get_weights()[0] for task in model.task_names])


def test_number_of_weights(build):
    # Per task: 33 rows of the table (1 + 12 + 9 + 5 + 6) of width 4; x has 4 * 4 + 3 = 19 columns,
    # so [19, 6] + 6 and [6, 1] + 1.
    assert sum(
        weight.shape.num_elements() for weight in build("single_task").trainable_weights
    ) == (2 * (33 * 4 + 19 * 6 + 6 + 6 + 1))


def test_training_one_task_leaves_the_other(build, log):
    """The result of a task is the one it would have on its own."""
    model = build("single_task")
    features = as_tensors(log.features)
    before = model(features)["click_x"].numpy()
    model.compile(optimizer="adam")
    weights = {"click": log.weights["click"], "click_x": np.zeros(11, np.float32)}
    batch = tf.data.Dataset.from_tensors((log.features, log.labels, weights))
    model.fit(batch, epochs=3, verbose=0)
    np.testing.assert_array_equal(model(features)["click_x"], before)
    assert model.evaluate(batch, return_dict=True, verbose=0)["click_x_loss"] == pytest.approx(0)
