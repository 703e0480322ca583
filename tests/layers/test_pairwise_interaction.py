import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import PairwiseInteraction
from tfmtl.testing import run_layer_test

USERS = [tf.constant([[1.0, 2.0]]), tf.constant([[-3.0, 5.0]])]
ITEMS = [tf.constant([[7.0, 11.0]]), tf.constant([[0.5, -1.0]]), tf.constant([[4.0, 6.0]])]


# Pairs in the order u0 i0, u0 i1, u0 i2, u1 i0, u1 i1, u1 i2.
@pytest.mark.parametrize(
    ("kappa", "expected"),
    [
        ("product", [[7, 22], [0.5, -2], [4, 12], [-21, 55], [-1.5, -5], [-12, 30]]),
        ("add", [[8, 13], [1.5, 1], [5, 8], [4, 16], [-2.5, 4], [1, 11]]),
        (
            "concat",
            [
                [1, 2, 7, 11],
                [1, 2, 0.5, -1],
                [1, 2, 4, 6],
                [-3, 5, 7, 11],
                [-3, 5, 0.5, -1],
                [-3, 5, 4, 6],
            ],
        ),
    ],
)
def test_golden(kappa, expected):
    np.testing.assert_allclose(PairwiseInteraction(kappa=kappa)(USERS, ITEMS), [expected])


@pytest.mark.parametrize("sequence", [list, tuple])
def test_mlp(sequence):
    layer = PairwiseInteraction(kappa="mlp")
    users, items = sequence(USERS[:1]), sequence(ITEMS[:2])
    layer(users, items)
    layer.set_weights(
        [np.array([[1, 0], [2, 0], [0, 3], [-1, 1]], np.float32), np.array([0.5, 0], np.float32)]
    )
    # [1 2 | 7 11]: [1 + 4 - 11 + 0.5, 21 + 11] = [-5.5, 32], leaky [-1.1, 32].
    # [1 2 | 0.5 -1]: [1 + 4 + 1 + 0.5, 1.5 - 1] = [6.5, 0.5].
    np.testing.assert_allclose(layer(users, items), [[[-1.1, 32], [6.5, 0.5]]], rtol=1e-6)


def test_normalized_states_have_a_root_mean_square_of_one():
    # [3, 4] has a mean square of 25 / 2: over sqrt(12.5), [0.6, 0.8] sqrt(2). [0, 2] becomes
    # [0, sqrt(2)], and a state of zeros stays zero.
    layer = PairwiseInteraction(normalize=True)
    pairs = layer([tf.constant([[3.0, 4.0]])], [tf.constant([[0.0, 2.0]]), tf.zeros([1, 2])])
    np.testing.assert_allclose(pairs, [[[0, 1.6], [0, 0]]], atol=1e-6)


def test_small_half_precision_states_can_be_normalized():
    small = tf.constant([[3e-3, 4e-3]])
    layer = PairwiseInteraction(normalize=True, dtype="mixed_float16")
    # Mean square 1.25e-5, with 1e-6 added: [9, 16] / 13.5.
    np.testing.assert_allclose(layer([small], [small]), [[[9 / 13.5, 16 / 13.5]]], rtol=5e-3)


def test_is_not_symmetric_in_its_arguments():
    layer = PairwiseInteraction(kappa="concat")
    assert not np.array_equal(layer(USERS[:1], ITEMS[:1]), layer(ITEMS[:1], USERS[:1]))


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kappa", ["product", "add", "concat", "mlp"])
def test_as_a_layer(kappa, normalize):
    rng = np.random.default_rng(1)
    users, items = (
        tuple(tf.constant(rng.normal(size=[5, 3]), tf.float32) for _ in range(number))
        for number in (2, 3)
    )
    outputs = run_layer_test(
        lambda: PairwiseInteraction(kappa=kappa, normalize=normalize, l2=0.1), users, items
    )
    assert outputs.shape == (5, 6, 6 if kappa == "concat" else 3)


def test_takes_full_precision_items_under_a_half_policy():
    assert PairwiseInteraction(dtype="mixed_float16")(USERS, ITEMS).dtype == tf.float16


def test_refuses_an_unknown_kappa():
    with pytest.raises(ValueError, match="concat, add or mlp; received 'max'"):
        PairwiseInteraction(kappa="max")
