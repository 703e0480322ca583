import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.graph import CSR
from tfmtl.layers import AttentionConvolution, Edges
from tfmtl.testing import run_layer_test

LN3 = math.log(3)
# One target of interest, one without neighbours, one with a single neighbour.
TARGETS = tf.constant([[1.0, 2.0], [9.0, 9.0], [-4.0, 5.0]])
SOURCES = tf.constant([[1.0, 4.0], [0.0, 8.0]])
EDGES = Edges(tf.constant([0, 1, 1]), tf.constant([0, 0, 2]))
VALUE = [[4.0, 0.0], [1.0, -2.0]]


def convolution(weights, **options):
    layer = AttentionConvolution(**options)
    layer.build([None, 2])
    layer.set_weights([np.array(weight, np.float32) for weight in weights])
    return layer


def dot(behavior=(), **options):
    # Target 0: q = [1, 2] Q = [sqrt(2) ln 3, 5 - 5] = [sqrt(2) ln 3, 0].
    query = [[math.sqrt(2) * LN3, 5.0], [0.0, -2.5]]
    # Keys: k = h K = [h_0, 7 h_0 - h_1], so q.k / sqrt(2) = ln 3 h_0.
    key = [[1.0, 7.0], [0.0, -1.0]]
    return convolution([query, key, VALUE, *behavior], **options)


def random_edges(seed, **features):
    rng = np.random.default_rng(seed)
    target = np.sort(rng.integers(0, 6, 20)).astype(np.int32)
    target = target[target != 3]
    columns = {
        "behavior": rng.integers(0, 4, len(target)).astype(np.int32),
        "weight": rng.uniform(0.5, 3, len(target)).astype(np.float32),
    }
    source = rng.integers(0, 5, len(target)).astype(np.int32)
    return Edges(source, target, **{name: columns[name] for name in features})


def test_dot_attention():
    # Scores of target 0: ln 3 * 1 and ln 3 * 0, so weights 3/4 and 1/4.
    # Neighbourhood: 3/4 [1, 4] + 1/4 [0, 8] = [3/4, 5]; times W: [3 + 5, -10].
    # Target 2 has one neighbour: [0, 8] W = [8, -16]. LeakyReLU multiplies negatives by 0.2.
    expected = [[8, -2], [0, 0], [8, -3.2]]
    np.testing.assert_allclose(dot()(TARGETS, SOURCES, EDGES), expected, rtol=1e-6)


def test_additive_attention():
    # With A = atanh(1/2): q = [1, 2] Q = [3A - 2A, 4 - 4] = [A, 0].
    # Keys: [1, 4] K = [A/2 - A/2, 0] = 0 and [0, 8] K = [-A, 0].
    # Scores with v = [2 ln 3, 5]: 2 ln 3 tanh(A) = ln 3, and 2 ln 3 tanh(0) = 0: as with `dot`.
    a = math.atanh(0.5)
    query, key = [[3 * a, 4.0], [-a, -2.0]], [[a / 2, 0.0], [-a / 8, 0.0]]
    layer = convolution([query, key, VALUE, [2 * LN3, 5.0]], attention="additive")
    np.testing.assert_allclose(
        layer(TARGETS, SOURCES, EDGES), [[8, -2], [0, 0], [8, -3.2]], rtol=1e-5
    )


def test_behaviors_are_added_to_the_neighbor_in_score_and_message():
    # Edge 0 has behaviour 1: [1, 4] + [-1, 2] = [0, 6]; edge 1 behaviour 2: [0, 8] + [1, -3] =
    # [1, 5]. Scores 0 and ln 3, weights 1/4 and 3/4: [3/4, 6/4 + 15/4] = [3/4, 21/4], times W
    # [3 + 21/4, -21/2]. Target 2 sees behaviour 0: [0, 8] + [0, 1] = [0, 9], times W [9, -18].
    table = [[0.0, 1.0], [-1.0, 2.0], [1.0, -3.0]]
    edges = EDGES._replace(behavior=tf.constant([1, 2, 0]))
    layer = dot([table], num_behaviors=3)
    np.testing.assert_allclose(
        layer(TARGETS, SOURCES, edges), [[8.25, -2.1], [0, 0], [9, -3.6]], rtol=1e-5
    )


def test_edge_weight_multiplies_the_exponential():
    # exp(score) times weight: 3 * 2 and 1 * 3, so 2/3 and 1/3.
    # 2/3 [1, 4] + 1/3 [0, 8] = [2/3, 16/3]; times W: [8/3 + 16/3, -32/3].
    edges = EDGES._replace(weight=tf.constant([2.0, 3.0, 7.0]))
    layer = dot(use_edge_weight=True)
    np.testing.assert_allclose(
        layer(TARGETS, SOURCES, edges), [[8, -32 / 15], [0, 0], [8, -3.2]], rtol=1e-5
    )
    # The option decides: without it weights on the edges are not looked at.
    np.testing.assert_allclose(dot()(TARGETS, SOURCES, edges)[0], [8, -2], rtol=1e-6)


@pytest.mark.parametrize("max_neighbors", [None, 8])
@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_shares_are_among_neighbors_and_messages_are_theirs(attention, max_neighbors):
    """A softmax over an axis of length one gives shares of 1; a value may come from the query."""
    rng = np.random.default_rng(6)
    edges = Edges(tf.constant([0, 1, 2, 3]), tf.constant([0, 0, 0, 1]))
    sources = tf.constant(rng.normal(size=[4, 3]), tf.float32)
    layer = AttentionConvolution(attention=attention, max_neighbors=max_neighbors)
    layer.build([None, 3])
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.get_weights()])
    targets, others = (tf.constant(rng.normal(size=[2, 3]), tf.float32) for _ in range(2))
    one, other = layer(targets, sources, edges), layer(others, sources, edges)
    # Three neighbours are weighed by the target's state; a single one is not.
    assert np.abs(one[0] - other[0]).max() > 1e-2
    np.testing.assert_allclose(one[1], other[1], rtol=1e-5)
    # Neighbours that are all alike are what is received, whatever their shares: these sum to 1.
    alike = layer(targets, tf.repeat(sources[:1], 4, axis=0), edges)
    np.testing.assert_allclose(alike[0], alike[1], rtol=1e-5)
    # Of neighbours without a state nothing is received.
    assert not np.any(layer(targets, tf.zeros_like(sources), edges))


def test_large_scores_do_not_overflow():
    layer = dot()
    layer.set_weights([1e3 * layer.get_weights()[0], *layer.get_weights()[1:]])
    # 1000 ln 3 against 0: all weight on [1, 4], times W [8, -8].
    np.testing.assert_allclose(layer(TARGETS, SOURCES, EDGES)[0], [8, -1.6], rtol=1e-6)


def test_order_of_the_edges_of_a_target_does_not_matter():
    swapped = Edges(tf.constant([1, 0, 1]), EDGES.target)
    np.testing.assert_allclose(
        dot()(TARGETS, SOURCES, swapped), dot()(TARGETS, SOURCES, EDGES), rtol=1e-6
    )


@pytest.mark.parametrize("max_neighbors", [None, 2])
def test_without_edges_all_messages_are_zero(max_neighbors):
    none = Edges(tf.zeros([0], tf.int32), tf.zeros([0], tf.int32))
    layer = dot(max_neighbors=max_neighbors)
    assert not np.any(layer(TARGETS, SOURCES, none))
    empty = Edges(np.zeros(0, np.int32), np.zeros(0, np.int32))
    assert not np.any(layer.full_graph(TARGETS.numpy(), SOURCES.numpy(), empty))


def as_tensors(edges):
    return Edges(*(None if part is None else tf.constant(part) for part in edges))


@pytest.mark.parametrize("attention", ["dot", "additive"])
@pytest.mark.parametrize("block_edges", [1, 3, 1000])
def test_full_graph_equals_call(attention, block_edges):
    rng = np.random.default_rng(2)
    edges = random_edges(8, behavior=True, weight=True)
    layer = AttentionConvolution(attention=attention, num_behaviors=4, use_edge_weight=True)
    targets, sources = (rng.normal(size=[n, 3]).astype(np.float32) for n in (6, 5))
    sampled = layer(tf.constant(targets), tf.constant(sources), as_tensors(edges))
    full = layer.full_graph(targets, sources, edges, block_edges=block_edges)
    assert full.dtype == np.float32
    assert not full[3].any()
    np.testing.assert_allclose(full, sampled, atol=1e-6)


@pytest.mark.parametrize("spans", [False, True])
@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_neighbors_in_rows_give_the_same_messages_and_gradients(attention, spans):
    rng = np.random.default_rng(3)
    edges = as_tensors(random_edges(8, behavior=True, weight=True))
    if spans:
        bounds = np.searchsorted(edges.target, np.arange(7)).astype(np.int32)
        edges = edges._replace(span=tf.stack([bounds[:-1], np.diff(bounds)], axis=1))
    targets, sources = (tf.constant(rng.normal(size=[n, 3]), tf.float32) for n in (6, 5))
    options = {"attention": attention, "num_behaviors": 4, "use_edge_weight": True}
    listed, rows = (AttentionConvolution(**options, max_neighbors=most) for most in (None, 8))
    results = []
    for layer in (listed, rows):
        layer.build([None, 3])
        layer.set_weights(listed.get_weights())
        with tf.GradientTape() as tape:
            tape.watch([targets, sources])
            messages = layer(targets, sources, edges)
            loss = tf.reduce_sum(messages**3)
        variables = [targets, sources, *layer.trainable_variables]
        gradients = map(tf.convert_to_tensor, tape.gradient(loss, variables))
        results.append([messages, *gradients])
    for expected, actual in zip(*results, strict=True):
        assert np.any(expected)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_more_neighbors_than_a_row_holds_are_refused():
    layer = dot(max_neighbors=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="raise it to the largest fan-out"):
        layer(TARGETS, SOURCES, EDGES)
    with pytest.raises(ValueError, match="at least 1, or None; received 0"):
        AttentionConvolution(max_neighbors=0)


def test_edges_of_a_store_are_sorted_by_receiver():
    store = CSR.from_edges(
        np.array([2, 0, 2]), np.array([1, 3, 0]), 3, 4, {"weight": np.array([5.0, 6.0, 7.0])}
    )
    edges = Edges.from_csr(store)
    assert edges.source.tolist() == [3, 0, 1]
    assert edges.target.tolist() == [0, 2, 2]
    assert edges.weight.tolist() == [6.0, 7.0, 5.0]
    assert edges.behavior is None


@pytest.mark.parametrize("max_neighbors", [None, 8])
@pytest.mark.parametrize("attention", ["dot", "additive"])
def test_as_a_layer(attention, max_neighbors):
    rng = np.random.default_rng(5)
    edges = as_tensors(random_edges(8, behavior=True, weight=True))
    targets, sources = (tf.constant(rng.normal(size=[n, 4]), tf.float32) for n in (6, 5))
    run_layer_test(
        lambda: AttentionConvolution(
            attention=attention,
            num_behaviors=4,
            use_edge_weight=True,
            max_neighbors=max_neighbors,
            l2=0.1,
        ),
        targets,
        sources,
        edges,
    )


def test_takes_full_precision_sources_under_a_half_policy():
    layer = AttentionConvolution(attention="additive", dtype="mixed_float16")
    assert layer(TARGETS, SOURCES, EDGES).dtype == tf.float16


def test_penalty_is_on_the_three_matrices():
    layer = dot([[[1.0, 1.0]]], l2=0.5, num_behaviors=1)
    # |Q|^2 = 2 ln^2 3 + 25 + 6.25, |K|^2 = 1 + 49 + 1, |W|^2 = 16 + 1 + 4; not the behaviours.
    expected = 0.5 * (2 * LN3**2 + 31.25 + 51 + 21)
    assert float(tf.add_n(layer.losses)) == pytest.approx(expected)


def test_refuses_an_unknown_attention():
    with pytest.raises(ValueError, match="expected attention 'dot' or 'additive'; received 'gat'"):
        AttentionConvolution(attention="gat")


def test_is_registered():
    assert keras.utils.get_registered_name(AttentionConvolution) == "tfmtl>AttentionConvolution"
