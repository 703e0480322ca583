import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.objectives import joint_logits, masked_binary_cross_entropy

LN3 = math.log(3)


def loss_and_gradients(logits, label):
    steps = [tf.constant([logit]) for logit in logits]
    with tf.GradientTape() as tape:
        tape.watch(steps)
        loss = masked_binary_cross_entropy(
            tf.constant([label]), joint_logits(steps), tf.constant([1.0])
        )
    return float(loss), [float(gradient[0]) for gradient in tape.gradient(loss, steps)]


def exact(logits, label):
    """The same in the closed form, whose products are far from 0 and 1 for moderate logits."""
    steps = 1 / (1 + np.exp(-np.array(logits, np.float64)))
    joint = steps.prod()
    if label:
        return -np.log(joint), -(1 - steps)
    return -np.log1p(-joint), joint / (1 - joint) * (1 - steps)


def test_golden():
    # 3/4 * 1/2 * 1/4 = 3/32, whose odds are 3 to 29.
    joint = joint_logits([tf.constant([LN3]), tf.constant([0.0]), tf.constant([-LN3])])
    assert float(joint[0]) == pytest.approx(math.log(3 / 29), rel=1e-6)


def test_one_behaviour_keeps_its_logit():
    logits = tf.constant([-300.0, 0.1, 300.0])
    np.testing.assert_array_equal(joint_logits([logits]), logits)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("logits", [(1.0, -2.0), (-0.5, 3.0, 0.25), (2.0, 2.0, -1.0, 0.0)])
def test_loss_and_gradient_equal_the_closed_form(logits, label):
    loss, gradients = loss_and_gradients(logits, label)
    expected_loss, expected_gradients = exact(logits, label)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    np.testing.assert_allclose(gradients, expected_gradients, rtol=1e-5)


def test_gradient_equals_finite_differences():
    logits, step = (1.5, -0.75, 0.5), 1e-2
    _, gradients = loss_and_gradients(logits, 0.0)
    for number, gradient in enumerate(gradients):
        moved = [
            loss_and_gradients(
                [x + sign * step * (n == number) for n, x in enumerate(logits)], 0.0
            )[0]
            for sign in (1, -1)
        ]
        assert gradient == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-2)


# Losses of a positive and of a negative joint label, and the latter's gradients, by hand. At
# 80, 80 the failures are e^-80 each: 1 - P = 2 e^-80, of which each step has one half.
CONFIDENT = {
    (80.0, 80.0): (0.0, 80 - math.log(2), (0.5, 0.5)),
    (-80.0, 80.0): (80.0, 0.0, (0.0, 0.0)),
    (80.0, -80.0): (80.0, 0.0, (0.0, 0.0)),
    (-80.0, -80.0): (160.0, 0.0, (0.0, 0.0)),
    (80.0, 0.0): (math.log(2), math.log(2), (0.0, 0.5)),
    (1000.0, 1000.0): (0.0, 1000 - math.log(2), (0.5, 0.5)),
    (1000.0, -1000.0): (1000.0, 0.0, (0.0, 0.0)),
    (300.0, 299.0): (
        0.0,
        300 - math.log1p(math.e),
        (1 / (1 + math.e), math.e / (1 + math.e)),
    ),
}


@pytest.mark.parametrize("logits", sorted(CONFIDENT))
def test_confident_logits(logits):
    positive, negative, gradients = CONFIDENT[logits]
    loss, received = loss_and_gradients(logits, 1.0)
    assert loss == pytest.approx(positive, rel=1e-6, abs=1e-30)
    assert np.all(np.isfinite(received))
    expected = [-1 / (1 + math.exp(min(x, 700))) for x in logits]
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-30)
    loss, received = loss_and_gradients(logits, 0.0)
    assert loss == pytest.approx(negative, rel=1e-6, abs=1e-30)
    np.testing.assert_allclose(received, gradients, rtol=1e-5, atol=1e-30)


def test_the_naive_form_is_infinite_there():
    """What the sum of first failures is for: with log(1 - exp(log P)) these rows teach nothing."""
    log_joint = 2 * tf.math.log_sigmoid(tf.constant(200.0))
    assert float(tf.math.log(-tf.math.expm1(log_joint))) == -math.inf


def test_the_order_of_the_chain_is_nothing_to_the_joint():
    logits = [tf.constant([x]) for x in (3.0, -1.0, 0.5)]
    received = [float(joint_logits(order)[0]) for order in itertools.permutations(logits)]
    assert received == pytest.approx([received[0]] * 6, rel=1e-6)


def test_is_in_full_precision():
    halves = [tf.constant([9.0], tf.float16)] * 2
    joint = joint_logits(halves)
    assert joint.dtype == tf.float32
    # Odds of (1 - q)^2 to 2 q - q^2 with q = sigmoid(-9).
    q = 1 / (1 + math.exp(9))
    assert float(joint[0]) == pytest.approx(math.log((1 - q) ** 2 / (2 * q - q**2)), rel=1e-5)


def test_refuses_no_logits():
    with pytest.raises(ValueError, match="at least one behaviour; received none"):
        joint_logits([])
