import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import MacroGraphExpert, MacroWeights
from tfmtl.testing import assert_experts_differ, run_layer_test

ROWS, DIM, USER_NODES, ITEM_NODES = 3, 2, 4, 5


@pytest.fixture
def inputs():
    rng = np.random.default_rng(3)
    rows, users, items = [ROWS, DIM], [USER_NODES + 1, DIM], [ITEM_NODES + 1, DIM]
    shapes = [rows, rows, users, items]
    embeddings = [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]
    weights = []
    for nodes in (ITEM_NODES, USER_NODES, USER_NODES, ITEM_NODES):
        drawn = np.hstack([np.zeros([ROWS, 1]), rng.dirichlet(np.ones(nodes), ROWS)])
        weights.append(tf.constant(drawn, tf.float32))
    return [*embeddings, MacroWeights(*weights)]


def expected_aggregate(kernels, nodes, target, weights):
    """One row and one neighbour at a time, as the equations have it; node 0 is padding."""
    query, key, value = kernels
    rows = []
    for q, alpha in zip(target, weights, strict=True):
        scores = [x @ query @ (q @ key) / np.sqrt(2 * DIM) for x in nodes[1:]]
        beta = np.exp(scores) / np.exp(scores).sum()
        parts = zip(alpha[1:], beta, nodes[1:], strict=True)
        rows.append(sum(a * len(scores) * b * (x @ value) for a, b, x in parts))
    return np.stack(rows)


def test_every_neighborhood_meets_its_target_by_its_weights(inputs):
    layer = MacroGraphExpert()
    layer.build([None, DIM])
    user, item, user_nodes, item_nodes = (part.numpy() for part in inputs[:4])
    weights = MacroWeights(*(part.numpy() for part in inputs[4]))
    of_users = layer.user_aggregator.get_weights()
    of_items = layer.item_aggregator.get_weights()
    expected = [
        user,
        expected_aggregate(of_items, item_nodes, item, weights.user_items),
        expected_aggregate(of_users, user_nodes, user, weights.user_users),
        item,
        expected_aggregate(of_users, user_nodes, user, weights.item_users),
        expected_aggregate(of_items, item_nodes, item, weights.item_items),
    ]
    received = layer(*inputs)
    assert received.shape == (ROWS, 10 * DIM)
    np.testing.assert_allclose(received, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-5)


def test_released_attention_is_one_matrix_per_side(inputs):
    layer = MacroGraphExpert(attention="released", name="expert")
    layer.build([None, DIM])
    names = [weight.name for weight in layer.weights]
    assert names == ["user_aggregator/value:0", "item_aggregator/value:0"]
    user, item, user_nodes, item_nodes, weights = inputs
    users, items = layer.get_weights()
    received = layer(user, item, user_nodes, item_nodes, weights)
    first = slice(DIM, 3 * DIM)
    np.testing.assert_allclose(
        received[:, first], weights.user_items @ item_nodes @ items, rtol=1e-4, atol=1e-5
    )
    third = slice(6 * DIM, 8 * DIM)
    np.testing.assert_allclose(
        received[:, third], weights.item_users @ user_nodes @ users, rtol=1e-4, atol=1e-5
    )


def test_padding_may_take_part(inputs):
    inputs[4] = MacroWeights(*(part + 0.1 for part in inputs[4]))
    masked, whole = MacroGraphExpert(), MacroGraphExpert(mask_padding=False)
    masked(*inputs)
    whole(*inputs)
    whole.set_weights(masked.get_weights())
    assert np.abs(whole(*inputs) - masked(*inputs)).max() > 1e-3


def test_aggregators_start_apart():
    layer = MacroGraphExpert()
    layer.build([None, 16])
    assert_experts_differ(
        [layer.user_aggregator.get_weights()[2], layer.item_aggregator.get_weights()[2]]
    )


@pytest.mark.parametrize("attention", ["neighbor", "released"])
def test_as_a_layer(inputs, attention):
    def factory():
        return MacroGraphExpert(attention=attention, l2=0.1)

    assert run_layer_test(factory, *inputs, formats=()).shape == (ROWS, 10 * DIM)
