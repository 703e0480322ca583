import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.conftest import (
    as_tensors,
    compiled,
    embedded_rows,
    first_batch,
    network,
    randomize,
)
from tfmtl.testing import assert_experts_differ

DRAWN = {"stochastic": True}


def levels(model, row):
    """The towers' inputs `[B, K, H]`, one connection at a time."""
    inputs = [row] * 3
    for subnetworks, routing in zip(model.subnetworks, model.routings, strict=True):
        weights = subnetworks.get_weights()
        outputs = [
            network(inputs[i], [weight[i] for weight in weights], last_linear=False)
            for i in range(3)
        ]
        kernel, log_alpha = routing.get_weights()
        gates = np.clip(1.2 / (1 + np.exp(-log_alpha)) - 0.1, 0, 1)
        inputs = [
            sum(gates[i, j] * (outputs[i] @ kernel[i, j]) for i in range(3))
            for j in range(gates.shape[1])
        ]
    return inputs


@pytest.mark.parametrize("level_units", [((6, 4),), ((6,), (5, 4)), ((6,), (5,), (4,))])
def test_golden(build, log, level_units):
    model = build("snr_trans", level_units=level_units, **DRAWN)
    randomize(model)
    logits = model(as_tensors(log.features))
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    for task, inputs in zip(model.task_names, levels(model, row), strict=True):
        expected = network(inputs, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


def test_sub_networks_and_matrices_differ_at_the_start(build):
    model = build("snr_trans", level_units=((8,), (8,)))
    for subnetworks, routing in zip(model.subnetworks, model.routings, strict=True):
        assert_experts_differ(subnetworks.kernels[0].numpy())
        assert_experts_differ(routing.kernel.numpy().reshape(-1, 8, 8))


def test_a_task_hears_only_sub_networks_that_are_connected(build, log):
    model = build("snr_trans", level_units=((6, 4),))
    randomize(model)
    # click is fed by sub-network 0 alone, click_x by 1 and 2.
    model.routings[0].log_alpha.assign([[9, -9], [-9, 9], [-9, 9]])
    features = as_tensors(log.features)
    before = model(features)
    kernel = model.subnetworks[0].kernels[1]
    kernel.assign(kernel * np.reshape([-2, 1, 1], [3, 1, 1]))
    after = model(features)
    assert np.any(before["click"] != after["click"])
    np.testing.assert_array_equal(before["click_x"], after["click_x"])


def test_without_connections_rows_are_alike(build, log):
    model = build("snr_trans")
    randomize(model)
    model.routings[-1].log_alpha.assign(tf.fill([3, 2], -9.0))
    for logits in model(as_tensors(log.features)).values():
        assert np.ptp(logits) == 0


def test_one_open_sub_network_is_a_shared_bottom(build, log):
    model = build("snr_trans", num_subnetworks=1, level_units=((6, 4),))
    randomize(model)
    model.routings[0].log_alpha.assign([[9, 9]])
    # Unit matrices hand the sub-network's output to both towers.
    model.routings[0].kernel.assign(np.broadcast_to(np.eye(4), [1, 2, 4, 4]))
    row = embedded_rows(model.embedding.get_weights()[0], log.features)
    weights = [weight[0] for weight in model.subnetworks[0].get_weights()]
    shared = network(row, weights, last_linear=False)
    logits = model(as_tensors(log.features))
    for task in model.task_names:
        expected = network(shared, model.towers[task].get_weights())[:, 0]
        np.testing.assert_allclose(logits[task], expected, rtol=1e-4, atol=1e-4)


def test_draws_gates_in_training_only(build, log):
    model = build("snr_trans", **DRAWN)
    features = as_tensors(log.features)
    for task in model.task_names:
        training = [model(features, training=True)[task].numpy() for _ in range(2)]
        inference = [model(features, training=False)[task].numpy() for _ in range(2)]
        assert not np.array_equal(*training)
        np.testing.assert_array_equal(*inference)


def test_penalty_on_connections_is_reported(build, dataset):
    model = build("snr_trans", l0=0.01, l2=0.1, weighting="uncertainty", **DRAWN)
    randomize(model)
    compiled(model, keras.optimizers.SGD(0.0))
    squares = sum(
        np.square(weight.numpy()).sum()
        for weight in model.trainable_weights
        if "kernel" in weight.name
    )
    connections = sum(
        (1 / (1 + np.exp(-routing.log_alpha.numpy() - 2 / 3 * np.log(11)))).sum()
        for routing in model.routings
    )
    expected = pytest.approx(0.1 * squares + 0.01 * connections, rel=1e-5)
    batches = dataset(model)
    assert model.fit(batches, verbose=0).history["regularization_loss"] == [expected]
    evaluated = model.evaluate(batches, return_dict=True, verbose=0)
    assert evaluated["regularization_loss"] == expected
    assert evaluated["total_loss"] == pytest.approx(
        evaluated["loss"] + evaluated["regularization_loss"], rel=1e-5
    )


def test_penalty_closes_connections(build, dataset):
    opened = []
    for l0 in (0.0, 0.5):
        model = build("snr_trans", l0=l0, **DRAWN)
        compiled(model, keras.optimizers.Adam(0.1))
        model.fit(dataset(model), epochs=30, verbose=0)
        opened.append(sum(np.count_nonzero(routing.gates()) for routing in model.routings))
    assert opened[1] == 0
    assert opened[0] > 0


def test_learns_with_drawn_gates(build, dataset):
    model = build("snr_trans", l0=1e-4, **DRAWN)
    before = [weight.numpy() for weight in model.trainable_weights]
    compiled(model, keras.optimizers.Adam(0.03))
    batches = dataset(model)
    start = model.evaluate(batches, return_dict=True, verbose=0)["click_loss"]
    model.fit(batches, epochs=40, verbose=0)
    assert model.evaluate(batches, return_dict=True, verbose=0)["click_loss"] < 0.7 * start
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert not np.array_equal(weight.numpy(), old), weight.name


def test_trains_under_half_precision(build, dataset, half_precision):
    model = build("snr_trans", l0=1e-4, **DRAWN)
    assert model.routings[0].log_alpha.dtype == tf.float32
    compiled(model, keras.optimizers.Adam(0.01))
    history = model.fit(dataset(model), epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["total_loss"]))


def test_equal_seeds_train_equal_models(build, dataset):
    weights = []
    for _ in range(2):
        model = build("snr_trans", seed=4, **DRAWN)
        compiled(model, keras.optimizers.SGD(0.1))
        model.fit(dataset(model), epochs=2, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_masked_task_moves_no_connection_of_its_own(build, dataset):
    model = build("snr_trans", **DRAWN)
    features, labels, weights = first_batch(dataset(model))
    with tf.GradientTape() as tape:
        loss = model.compute_loss((features, labels, {**weights, "click_x": tf.zeros([4])}))
    kernel, log_alpha = tape.gradient(loss, model.routings[-1].trainable_weights)
    for gradient in (kernel, log_alpha):
        assert np.any(gradient[:, 0] != 0)
        assert np.all(gradient[:, 1] == 0)


def test_number_of_weights(build):
    # Table 33 * 4; 3 sub-networks of [19, 6] + 6, 9 connections of [6, 6] + 1; 3 sub-networks of
    # [6, 4] + 4, 6 connections of [4, 4] + 1; per task a tower [4, 4] + 4 and [4, 1] + 1.
    weights = build("snr_trans").trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        33 * 4
        + 3 * (19 * 6 + 6)
        + 9 * (6 * 6 + 1)
        + 3 * (6 * 4 + 4)
        + 6 * (4 * 4 + 1)
        + 2 * (4 * 4 + 4 + 4 + 1)
    )


@pytest.mark.parametrize("level_units", [(), ((6,), ()), (64, 32)])
def test_refuses_levels_without_sub_networks(build, level_units):
    with pytest.raises(ValueError, match=r"such as \[\[64, 32\]\]; received \["):
        build("snr_trans", level_units=level_units)
