import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import MacroPredictionTower
from tfmtl.testing import run_layer_test

# User preferences 1 and 3 for two item nodes, item preferences 5 for one user node.
FUSED = tf.constant([[2.0]])
USER_PREFERENCES = tf.math.log1p([[0.0, 1.0, 3.0]])
ITEM_PREFERENCES = tf.math.log1p([[0.0, 5.0]])
ITEM_NODES = tf.constant([[9.0], [3.0], [6.0]])
USER_NODES = tf.constant([[7.0], [-2.0]])
GROUP = tf.constant([2])
INPUTS = [FUSED, USER_PREFERENCES, ITEM_PREFERENCES, ITEM_NODES, USER_NODES, GROUP]
# Counts 2 and 4 of 6: 1/3 * 3 + 2/3 * 6 = 5; all of -2; log(1 + 3).
PARTS = {"fused": 2.0, "user": 5.0, "item": -2.0, "hit": math.log(4)}
KERNEL = {"fused": 1.0, "user": 2.0, "item": 3.0, "hit": 4.0}
WEIGHTS = {
    "hidden/bias": [0.5],
    "activation/alpha": [0.25],
    "moving_mean": [1.0],
    "moving_variance": [4 - 1e-5],
    "logit/kernel": [[-2.0]],
    "logit/bias": [3.0],
    "no_user_preference": [10.0],
    "no_item_preference": [20.0],
    "passed_on/kernel": [[2.0]],
    "information/key": [[0.5]],
    "information/query": [[0.25]],
    "information/value": [[3.0]],
}


def tower(**options):
    layer = MacroPredictionTower(1, node_dim=1, **options)
    layer.build([None, 1])
    read = {"fused": True, "user": layer.preferences, "item": layer.preferences, "hit": layer.hit}
    kernel = [[KERNEL[part]] for part, is_read in read.items() if is_read]
    values = {**WEIGHTS, "hidden/kernel": kernel}
    for weight in layer.weights:
        (value,) = (value for name, value in values.items() if weight.name.endswith(f"{name}:0"))
        weight.assign(value)
    return layer


def expected_hidden(**parts):
    """Dice of W_1 on the given parts, with mean 1, deviation 2 and alpha 1/4."""
    x = 0.5 + sum(KERNEL[part] * value for part, value in parts.items())
    p = 1 / (1 + math.exp(-(x - 1) / 2))
    return x * (p + (1 - p) / 4)


def assert_states(received, hidden):
    logit, state = received
    np.testing.assert_allclose(state, [[hidden]], rtol=1e-5)
    np.testing.assert_allclose(logit, [3 - 2 * hidden], rtol=1e-5)


def test_golden():
    assert_states(tower()(*INPUTS), expected_hidden(**PARTS))


@pytest.mark.parametrize(
    ("options", "left_out"),
    [
        ({"preferences": False}, ("user", "item")),
        ({"hit": False}, ("hit",)),
        ({"preferences": False, "hit": False}, ("user", "item", "hit")),
    ],
)
def test_parts_may_be_left_out(options, left_out):
    parts = {part: value for part, value in PARTS.items() if part not in left_out}
    assert_states(tower(**options)(*INPUTS), expected_hidden(**parts))


def test_temperature_of_preferences():
    # Square roots of 2 and 4 at tau 2.
    shares = np.sqrt([2, 4]) / np.sqrt([2, 4]).sum()
    parts = {**PARTS, "user": shares @ [3, 6]}
    assert_states(tower(tau=2.0)(*INPUTS), expected_hidden(**parts))


@pytest.mark.parametrize(
    ("number", "side", "learned"), [(1, "user", 10.0), (2, "item", 20.0)], ids=["user", "item"]
)
def test_no_preference_is_learned(number, side, learned):
    inputs = list(INPUTS)
    # Padding is no preference either.
    inputs[number] = tf.math.log1p([[8.0] + [0.0] * (inputs[number].shape[1] - 1)])
    parts = {**PARTS, side: learned}
    if side == "user":
        parts["hit"] = 0.0
    assert_states(tower()(*inputs), expected_hidden(**parts))


@pytest.mark.parametrize(("group", "hit"), [(1, math.log(2)), (0, 0.0)])
def test_hit_is_the_preference_for_the_item_s_own_node(group, hit):
    inputs = [*INPUTS[:5], tf.constant([group])]
    assert_states(tower()(*inputs), expected_hidden(**{**PARTS, "hit": hit}))


def test_transfer_weighs_the_previous_state():
    own = expected_hidden(**PARTS)
    # p = 2 * 5.75: scores x^2 / 8 of both states, values 3 x.
    scores = np.array([11.5, own]) ** 2 / 8
    weights = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    assert 0.01 < weights[0] < 0.99
    received = tower(transfer=True)(*INPUTS, tf.constant([[5.75]]))
    assert_states(received, 3 * (weights @ [11.5, own]))


def test_previous_state_is_passed_over_without_transfer():
    assert_states(tower()(*INPUTS, tf.constant([[4.0]])), expected_hidden(**PARTS))


def test_transfer_needs_a_previous_state():
    layer = tower(transfer=True, name="buy_tower")
    with pytest.raises(ValueError, match=r"'buy_tower', which has transfer=True; received None: "):
        layer(*INPUTS)


def test_nodes_of_another_width():
    with pytest.raises(ValueError, match=r"of width 10; received \(3, 1\): set node_dim to the"):
        MacroPredictionTower(4)(*INPUTS)


@pytest.mark.parametrize("options", [{"units": 0}, {"node_dim": 0}, {"tau": 0.0}])
def test_refuses_numbers_out_of_range(options):
    with pytest.raises(ValueError, match="expected positive units, node_dim and tau; received uni"):
        MacroPredictionTower(**options)


def test_logit_is_in_full_precision_under_a_half_policy():
    logit, hidden = tower(dtype="mixed_float16")(*INPUTS)
    assert (logit.dtype, hidden.dtype) == (tf.float32, tf.float16)
    np.testing.assert_allclose(logit, 3 - 2 * tf.cast(hidden[:, 0], tf.float32), rtol=1e-6)


def test_drops_hidden_activations_in_training_only():
    layer = MacroPredictionTower(100, node_dim=1, dropout=0.5)
    inputs = [tf.repeat(part, 4, axis=0) for part in INPUTS[:3]]
    inputs[0] = tf.constant([[1.0], [2.0], [-3.0], [5.0]])
    inputs += [ITEM_NODES, USER_NODES, tf.constant([1, 2, 0, 1])]
    share = np.mean(layer(*inputs, training=True)[1] == 0)
    # Four hundred draws: four deviations are 0.1.
    assert abs(share - 0.5) < 0.1
    assert (layer(*inputs)[1].numpy() != 0).all()


def batch(rows=6, width=5, dim=3, units=4):
    rng = np.random.default_rng(3)
    users, items = (np.log1p(rng.integers(0, 9, [rows, nodes + 1])) for nodes in (4, 7))
    # Neither the first user nor the last item has a preference.
    items[0], users[-1] = 0, 0
    parts = [rng.normal(size=[rows, width]), items, users]
    parts += [rng.normal(size=[8, dim]), rng.normal(size=[5, dim])]
    floats = [tf.constant(part, tf.float32) for part in parts]
    previous = tf.constant(rng.normal(size=[rows, units]), tf.float32)
    return [*floats, tf.constant(rng.integers(0, 8, rows)), previous]


@pytest.mark.parametrize("transfer", [False, True])
def test_as_a_layer(transfer):
    inputs = batch() if transfer else [*batch()[:-1], None]
    logit, hidden = run_layer_test(
        lambda: MacroPredictionTower(4, node_dim=3, transfer=transfer, dropout=0.1, l2=0.1),
        *inputs,
    )
    assert (logit.shape, hidden.shape) == ((6,), (6, 4))


def test_as_a_layer_of_the_fused_state_alone():
    logit, _ = run_layer_test(
        lambda: MacroPredictionTower(4, preferences=False, hit=False), batch()[0], *[None] * 6
    )
    assert logit.shape == (6,)


def test_xla():
    layer = MacroPredictionTower(4, node_dim=3, transfer=True)
    expected = layer(*batch())
    received = tf.function(layer, jit_compile=True)(*batch())
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
