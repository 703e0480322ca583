import numpy as np
import pytest
import tensorflow as tf

from tfmtl.objectives import balanced_loss

LOSSES = {"click": tf.constant(0.5), "like": tf.constant(2.0), "buy": tf.constant(5.0)}
ONES = {"click": 1.0, "like": 1.0, "buy": 1.0}


def rows(click, like, buy):
    return {"click": tf.constant(click), "like": tf.constant(like), "buy": tf.constant(buy)}


def test_golden():
    present = rows([1.0, 1, 1], [0.0, 0, 0.5], [0.0, 0, 0])
    received = balanced_loss(LOSSES, present, {"click": 1.0, "like": 3.0, "buy": 7.0})
    # Click and like are there, buy is not: (1 * 0.5 + 3 * 2) / (1 + 3).
    assert float(received) == pytest.approx(1.625)


def test_a_rare_task_counts_as_much_as_a_frequent_one():
    """The released form: samples scaled by lambda_t / n_t, over the sum of those scales."""
    random = np.random.default_rng(2)
    mask = np.stack([np.ones(40), np.arange(40) % 2, np.arange(40) == 17]).astype(np.float32)
    samples = random.exponential(size=[3, 40]).astype(np.float32)
    rates = {"click": 1.0, "like": 0.5, "buy": 2.0}
    scales = mask * np.array(list(rates.values()))[:, np.newaxis] / mask.sum(1, keepdims=True)
    expected = (scales * samples).sum() / scales.sum()

    means = (mask * samples).sum(axis=1) / mask.sum(axis=1)
    received = balanced_loss(
        dict(zip(rates, map(tf.constant, means), strict=True)),
        dict(zip(rates, map(tf.constant, mask), strict=True)),
        rates,
    )
    assert float(received) == pytest.approx(expected, rel=1e-6)


def test_keeps_its_size_however_many_tasks_there_are():
    alike = {name: tf.constant(0.7) for name in ONES}
    every, one = [1.0, 1.0], [0.0, 0.0]
    assert float(balanced_loss(alike, rows(every, every, every), ONES)) == pytest.approx(0.7)
    assert float(balanced_loss(alike, rows(one, every, one), ONES)) == pytest.approx(0.7)


def test_absent_tasks_have_no_gradient_and_others_share_it():
    losses = {name: tf.Variable(value) for name, value in LOSSES.items()}
    with tf.GradientTape() as tape:
        loss = balanced_loss(losses, rows([1.0], [0.0], [2.0]), {**ONES, "buy": 3.0})
    gradients = tape.gradient(loss, losses)
    assert {name: float(value) for name, value in gradients.items()} == {
        "click": 0.25,
        "like": 0.0,
        "buy": 0.75,
    }


def test_a_batch_without_any_task_is_zero_with_zero_gradients():
    losses = {name: tf.Variable(value) for name, value in LOSSES.items()}
    with tf.GradientTape() as tape:
        loss = balanced_loss(losses, rows([0.0], [0.0], [0.0]), ONES)
    assert float(loss) == 0
    assert all(float(value) == 0 for value in tape.gradient(loss, losses).values())
