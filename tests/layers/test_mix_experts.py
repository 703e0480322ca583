import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.layers import Experts, Gate
from tfmtl.layers.mix_experts import mix_experts


class Mixing(keras.layers.Layer):
    """Mixes where it is called, as the models do: metrics belong to a call."""

    def call(self, inputs, bank, gates, context=None):
        return list(mix_experts(self, bank, inputs, gates, context=context))


def parts(k, implementation="auto"):
    """Experts that give 1, 10 and 100 times x, and a gate of 1/8, 5/8 and 2/8 for x = 1."""
    bank, gate = Experts(3, [1], implementation=implementation), Gate(3, k=k)
    for layer in (bank, gate):
        layer.build([None, 1])
    bank.set_weights([np.array([[[1]], [[10]], [[100]]]), np.zeros([3, 1])])
    gate.set_weights([np.array([[0, math.log(5), math.log(2)]]), np.zeros(3)])
    return bank, gate


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        # All: 1/8 + 50/8 + 200/8, and the context 0/8 + 35/8 + 2/8.
        (None, [251 / 8, 37 / 8]),
        (3, [251 / 8, 37 / 8]),
        # The best two, 5/7 and 2/7: 50/7 + 200/7, and 35/7 + 2/7.
        (2, [250 / 7, 37 / 7]),
        # The best one counts its probability: 50/8, and 35/8.
        (1, [50 / 8, 35 / 8]),
    ],
)
@pytest.mark.parametrize("implementation", ["loop", "batched"])
def test_golden(k, expected, implementation):
    bank, gate = parts(k, implementation)
    context = tf.constant([[[0.0], [7.0], [1.0]]])
    [(distribution, mixed)] = Mixing()(tf.ones([1, 1]), bank, [gate], context)
    np.testing.assert_allclose(distribution, [[1 / 8, 5 / 8, 2 / 8]], rtol=1e-5)
    np.testing.assert_allclose(mixed, [expected], rtol=1e-5)


def test_each_gate_chooses_for_itself():
    bank, first = parts(1)
    _, second = parts(1)
    second.set_weights([np.array([[math.log(2), 0, 0]]), np.zeros(3)])
    mixtures = Mixing()(tf.ones([1, 1]), bank, [first, second])
    # Expert 1 with 5/8, and expert 0 with 2/4.
    assert [mixed.numpy().item() for _, mixed in mixtures] == pytest.approx([50 / 8, 2 / 4])


def test_dense_experts_are_made_in_the_order_of_their_use():
    """Weights of what reads a mixture come before those of the next gate, whatever the seed."""
    bank, gates = Experts(2, [4]), [Gate(2), Gate(2)]
    built = []
    for _ in mix_experts(keras.layers.Layer(), bank, tf.ones([1, 3]), gates):
        built.append([gate.built for gate in gates])
    assert built == [[True, False], [True, True]]
