import numpy as np
import pytest
import tensorflow as tf

from tfmtl.objectives import cooperative_loss


def pairs(gate):
    """The sum over n < m of g_n g_m."""
    return sum(gate[n] * gate[m] for n in range(len(gate)) for m in range(n + 1, len(gate)))


@pytest.mark.parametrize("level", ["row", "batch"])
@pytest.mark.parametrize("tasks", [1, 3])
def test_uniform_gates(tasks, level):
    # Four experts: 6 pairs of 1/16.
    gates = [tf.fill([5, 4], 0.25)] * tasks
    assert float(cooperative_loss(gates, level=level)) == pytest.approx(-0.375 * tasks)


def test_one_hot_gates_are_zero():
    assert float(cooperative_loss([tf.one_hot([2, 2, 0], 4)])) == 0


def test_golden():
    # Task 0: rows [.5 .3 .2] -> .15 + .10 + .06 = .31 and [.1 .1 .8] -> .01 + .08 + .08 = .17.
    # Task 1: rows [0 .5 .5] -> .25 and [1 0 0] -> 0. Means .24 and .125.
    gates = [
        tf.constant([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]),
        tf.constant([[0, 0.5, 0.5], [1, 0, 0]]),
    ]
    assert float(cooperative_loss(gates)) == pytest.approx(-0.365)
    # Mean gates [.3 .2 .5] -> .06 + .15 + .10 = .31 and [.5 .25 .25] -> .125 + .125 + .0625.
    assert float(cooperative_loss(gates, level="batch")) == pytest.approx(-0.31 - 0.3125)


def test_batch_level_lets_rows_choose():
    gates = [tf.eye(4)]
    assert float(cooperative_loss(gates)) == 0
    assert float(cooperative_loss(gates, level="batch")) == pytest.approx(-0.375)


def test_equals_the_sum_over_pairs_and_stays_in_its_range():
    rng = np.random.default_rng(0)
    gates = rng.dirichlet([0.5] * 6, size=[2, 50])
    received = float(cooperative_loss([tf.constant(gate) for gate in gates]))
    assert received == pytest.approx(-sum(map(pairs, gates.reshape(-1, 6))) / 50)
    assert -2 * 5 / 12 < received < 0


def test_descent_spreads_the_load():
    scores = tf.Variable([[2.0, 0.0, -1.0]])
    with tf.GradientTape() as tape:
        loss = cooperative_loss([tf.nn.softmax(scores)])
    gradient = tape.gradient(loss, scores)[0].numpy()
    # Against the gradient the largest score falls and the smallest rises.
    assert gradient[0] > 0 > gradient[2]


def test_is_in_full_precision():
    gates = [tf.cast(tf.fill([3, 4], 0.25), tf.float16)]
    assert cooperative_loss(gates).dtype == tf.float32


def test_refuses_no_gates():
    with pytest.raises(ValueError, match="the gate of at least one task; received none"):
        cooperative_loss([])


def test_refuses_another_level():
    with pytest.raises(ValueError, match="expected level 'row' or 'batch'; received 'sample'"):
        cooperative_loss([tf.ones([1, 1])], level="sample")
