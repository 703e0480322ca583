import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import RoutedExperts
from tfmtl.testing import assert_experts_differ, run_layer_test


def routed(experts, tokens=37, k=2, skewed=True, seed=0):
    """Tokens, k distinct experts for each and their weights."""
    rng = np.random.default_rng(seed)
    liking = np.arange(experts) * (0.5 if skewed else 0.0)
    chosen = np.argsort(rng.gumbel(size=[tokens, experts]) + liking)[:, :k]
    return (
        tf.constant(rng.normal(size=[tokens, 6]), tf.float32),
        tf.constant(chosen, tf.int32),
        tf.constant(rng.uniform(0.1, 0.9, size=[tokens, k]), tf.float32),
    )


def naive(layer, inputs, experts, weights, capacity=None):
    """The same by loops over tokens and experts."""
    kernels = layer.trainable_weights
    visited, outputs = dict.fromkeys(range(layer.num_experts), 0), []
    for token, chosen, shares in zip(inputs, experts.numpy(), weights, strict=True):
        total, kept = tf.zeros([kernels[-1].shape[-1]]), False
        for visit, expert in enumerate(chosen):
            visited[int(expert)] += 1
            if capacity is None or visited[int(expert)] <= capacity:
                hidden = tf.nn.leaky_relu(tf.linalg.matvec(kernels[0][expert], token, True), 0.2)
                total += shares[visit] * tf.linalg.matvec(kernels[1][expert], hidden, True)
                kept = True
        if not kept:
            total = shares[0] * token if len(chosen) == 1 else token
        outputs.append(total)
    return tf.stack(outputs)


def with_gradients(function, layer, inputs, weights):
    with tf.GradientTape() as tape:
        tape.watch([inputs, weights])
        outputs = function()
        loss = tf.reduce_sum(outputs * tf.random.stateless_normal(outputs.shape, [1, 2]))
    gradients = tape.gradient(loss, [inputs, weights, *layer.trainable_weights])
    return [outputs, *map(tf.convert_to_tensor, gradients)]


def test_golden():
    layer = RoutedExperts(2, [2, 1])
    layer.build([None, 2])
    layer.set_weights(
        [
            np.array([[[1, 0], [2, -1]], [[0, 3], [1, 1]]], np.float32),
            np.array([[[1], [10]], [[-2], [1]]], np.float32),
        ]
    )
    # x = [1, 3]. Expert 0: [1 + 6, -3], leaky [7, -0.6], 7 - 6 = 1.
    # Expert 1: [3, 3 + 3] = [3, 6], -6 + 6 = 0; x = [-1, 1]: [1, -2], leaky [1, -0.4], -2.4.
    # Both for the first token, 0.25 * 1 + 0.5 * 0; expert 1 then 0 for the second, where expert 0
    # gives [1, -1], leaky [1, -0.2], 1 - 2 = -1: 0.5 * -2.4 + 0.1 * -1 = -1.3.
    received = layer(
        tf.constant([[1.0, 3.0], [-1.0, 1.0]]),
        tf.constant([[0, 1], [1, 0]]),
        tf.constant([[0.25, 0.5], [0.5, 0.1]]),
    )
    np.testing.assert_allclose(received, [[0.25], [-1.3]], rtol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("capacity_factor", [None, 0.5, 1.0])
@pytest.mark.parametrize("dispatch", ["split", "blocks"])
def test_equals_a_loop_in_outputs_and_gradients(k, capacity_factor, dispatch):
    layer = RoutedExperts(5, [4, 6], capacity_factor=capacity_factor, dispatch=dispatch)
    inputs, experts, weights = routed(5, k=k)
    layer.build(inputs.shape)
    # 37 k visits of 5 experts: ceil(3.7 k) and ceil(7.4 k).
    capacity = None if capacity_factor is None else int(np.ceil(37 * k * capacity_factor / 5))
    received = with_gradients(lambda: layer(inputs, experts, weights), layer, inputs, weights)
    expected = with_gradients(
        lambda: naive(layer, inputs, experts, weights, capacity), layer, inputs, weights
    )
    for left, right in zip(received, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6 * max(1, np.abs(right).max()))
    assert (float(layer.dropped_share(experts)) > 0) == (capacity is not None)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("capacity_factor", [None, 0.5])
@pytest.mark.parametrize("dispatch", ["split", "blocks"])
def test_tokens_of_a_decision_stay_together(k, capacity_factor, dispatch):
    layer = RoutedExperts(5, [4, 6], capacity_factor=capacity_factor, dispatch=dispatch)
    _, experts, weights = routed(5, k=k)
    inputs = tf.random.stateless_normal([37, 3, 6], [3, 4])
    layer.build(inputs.shape)
    capacity = None if capacity_factor is None else int(np.ceil(37 * k * capacity_factor / 5))

    def of_each_token():
        tokens = [naive(layer, inputs[:, place], experts, weights, capacity) for place in range(3)]
        return tf.stack(tokens, axis=1)

    received = with_gradients(lambda: layer(inputs, experts, weights), layer, inputs, weights)
    expected = with_gradients(of_each_token, layer, inputs, weights)
    for left, right in zip(received, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6 * max(1, np.abs(right).max()))


@pytest.mark.parametrize("tokens", [1, 3, 150])
@pytest.mark.parametrize("experts", [2, 64])
@pytest.mark.parametrize("dispatch", ["split", "blocks"])
def test_nothing_is_dropped_when_one_expert_takes_all(tokens, experts, dispatch):
    layer = RoutedExperts(experts, [4, 6], dispatch=dispatch)
    inputs, _, weights = routed(experts, tokens=tokens, k=1)
    layer.build(inputs.shape)
    chosen = tf.fill([tokens, 1], experts - 1)
    expected = naive(layer, inputs, chosen, weights)
    np.testing.assert_allclose(layer(inputs, chosen, weights), expected, atol=1e-5)
    assert float(layer.dropped_share(chosen)) == 0


def test_dropped_tokens_pass():
    # Capacity ceil(0.5 * 4 / 2) = 1: expert 1 keeps the first of its three tokens.
    layer = RoutedExperts(2, [3, 2], capacity_factor=0.5)
    inputs = tf.constant([[1.0, 2.0], [3.0, -4.0], [5.0, 6.0], [-7.0, 8.0]])
    experts = tf.constant([[1], [1], [0], [1]])
    received = layer(inputs, experts, tf.constant([[0.9], [0.5], [0.8], [0.25]])).numpy()
    np.testing.assert_allclose(received[[1, 3]], [[1.5, -2], [-1.75, 2]])
    assert float(layer.dropped_share(experts)) == 0.5


def test_a_bias_belongs_to_its_expert():
    layer = RoutedExperts(3, [2], use_bias=True)
    layer.build([None, 1])
    layer.set_weights([np.zeros([3, 1, 2]), np.array([[1, 2], [3, 4], [5, 6]])])
    received = layer(tf.ones([2, 1]), tf.constant([[2], [0]]), tf.constant([[1.0], [10.0]]))
    np.testing.assert_array_equal(received, [[5, 6], [10, 20]])


def products(experts, **options):
    """Multiplications in the matrix products of a traced call on 1024 tokens."""
    layer = RoutedExperts(experts, [16, 16], dispatch="blocks", **options)
    layer.build([None, 16])
    traced = tf.function(layer).get_concrete_function(
        tf.TensorSpec([1024, 16]),
        tf.TensorSpec([1024, 1], tf.int32),
        tf.TensorSpec([1024, 1]),
    )
    total = 0
    for operation in traced.graph.get_operations():
        if "MatMul" in operation.type:
            left, right = operation.inputs
            total += int(np.prod(left.shape)) * int(right.shape[-1])
    return total


@pytest.mark.parametrize("options", [{}, {"capacity_factor": 1.0}])
def test_products_do_not_grow_with_the_experts(options):
    dense = 2 * 1024 * 16 * 16
    for experts in (4, 16, 64, 512):
        assert dense <= products(experts, **options) <= 1.5 * dense


@pytest.mark.parametrize("capacity_factor", [None, 0.7])
@pytest.mark.parametrize("tokens", [9, 300])
def test_xla_and_batches_of_unknown_size(capacity_factor, tokens):
    layer = RoutedExperts(4, [5, 6], capacity_factor=capacity_factor)
    arguments = routed(4, tokens=tokens)
    expected = layer(*arguments)
    specs = [tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in arguments]
    for compiled in (
        tf.function(layer, jit_compile=True),
        tf.function(layer, input_signature=specs),
    ):
        np.testing.assert_allclose(compiled(*arguments), expected, atol=1e-5)


@pytest.mark.parametrize("dispatch", ["split", "blocks"])
@pytest.mark.parametrize("capacity_factor", [None, 1.0])
def test_an_empty_batch(capacity_factor, dispatch):
    layer = RoutedExperts(4, [5, 6], capacity_factor=capacity_factor, dispatch=dispatch)
    inputs, experts, weights = (part[:0] for part in routed(4))
    assert layer(inputs, experts, weights).shape == [0, 6]
    assert float(layer.dropped_share(experts)) == 0


def test_kernels_are_not_copied_on_a_cpu_and_shapes_do_not_vary_under_xla():
    layer = RoutedExperts(4, [5, 6])
    arguments = routed(4)
    layer(*arguments)

    def operations(**options):
        traced = tf.function(layer, **options).get_concrete_function(*arguments)
        return {operation.type for operation in traced.graph.get_operations()}

    assert "SplitV" in operations()
    compiled = operations(jit_compile=True)
    assert "SplitV" not in compiled
    assert "BatchMatMulV2" in compiled


def test_initial_deviation_does_not_depend_on_the_number_of_experts():
    for experts in (2, 32):
        layer = RoutedExperts(experts, [64, 64])
        layer.build([None, 64])
        for kernel in layer.get_weights():
            # Glorot: sqrt(2 / (64 + 64)) = 0.125.
            assert kernel.std() == pytest.approx(0.125, rel=0.03)
            assert_experts_differ(kernel)


@pytest.mark.parametrize("options", [{}, {"capacity_factor": 0.8, "use_bias": True}])
def test_as_a_layer(options):
    inputs, experts, weights = routed(3, tokens=10)
    outputs = run_layer_test(lambda: RoutedExperts(3, [4, 6], **options), inputs, experts, weights)
    assert outputs.shape == (10, 6)


@pytest.mark.parametrize(("experts", "units"), [(0, [2]), (2, []), (2, [2, 0])])
def test_refuses_empty_experts(experts, units):
    with pytest.raises(ValueError, match=f"received num_experts={experts}, units="):
        RoutedExperts(experts, units)


def test_refuses_an_unknown_dispatch():
    with pytest.raises(ValueError, match="'auto', 'split' or 'blocks'; received 'loop': take"):
        RoutedExperts(2, [2], dispatch="loop")


def test_refuses_a_capacity_of_zero():
    with pytest.raises(ValueError, match="expected a positive capacity_factor; received 0: take"):
        RoutedExperts(2, [2], capacity_factor=0)


def test_refuses_a_capacity_where_dropped_tokens_cannot_pass():
    with pytest.raises(ValueError, match=r"expected units that end with 3.*received \[4, 2\]"):
        RoutedExperts(2, [4, 2], capacity_factor=1.0).build([None, 3])
