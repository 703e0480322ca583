import math

import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import TaskSentenceMoE
from tfmtl.testing import run_layer_test

ROUTINGS = ("task_sentence", "token", "gated_sentence", "sentence", "task")
RNG = np.random.default_rng(7)
TOKENS = tf.constant(RNG.normal(size=[6, 3, 4]), tf.float32)
TASKS = tf.constant(RNG.normal(size=[6, 5]), tf.float32)


def built(**options):
    layer = TaskSentenceMoE(4, **options)
    layer.build((TOKENS.shape, TASKS.shape))
    return layer


def by_name(layer):
    return {weight.name.removesuffix(":0"): weight for weight in layer.weights}


def leaky(values):
    return np.where(values > 0, values, 0.2 * values)


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def test_golden():
    layer = TaskSentenceMoE(2)
    layer.build(([None, 1, 2], [None, 1]))
    weights = by_name(layer)
    weights["norm/scale"].assign([1, 2])
    # s = [ln 3] and W_r = [0, 1]: odds 1 : 3, expert 1 with 0.75.
    weights["router/kernel"].assign([[0, 1]])
    weights["experts/kernel_0"].assign([[[9, 9], [9, 9]], [[5, -5], [1, 0]]])
    weights["experts/kernel_1"].assign([[[9, 9], [9, 9]], [[1, 0], [1, 2]]])
    # x = [1, 7], mean square 25: normed [0.2, 1.4], scaled [0.2, 2.8]. Expert 1: [1 + 2.8, -1],
    # leaky [3.8, -0.2]; [3.8 - 0.2, -0.4] = [3.6, -0.4]; times 0.75: [2.7, -0.3].
    received = layer((tf.constant([[[1.0, 7.0]]]), tf.constant([[math.log(3)]])))
    np.testing.assert_allclose(received, [[[3.7, 6.7]]], rtol=1e-5)


def naive(layer, tokens, tasks, capacity_factor):
    """The same by loops over rows, tokens and experts, one token per expert at a time."""
    weights = by_name(layer)
    scale = tf.math.rsqrt(tf.reduce_mean(tokens**2, axis=-1, keepdims=True) + 1e-6)
    normed = tokens * scale * weights["norm/scale"]
    by_token, k = layer.routing == "token", layer.k
    capacity = math.inf
    if capacity_factor is not None:
        decisions = len(tokens) * (tokens.shape[1] if by_token else 1)
        capacity = math.ceil(capacity_factor * decisions * k / 4)
    visited, rows = [0] * 4, []
    for row in range(len(tokens)):
        outputs = []
        for place in range(tokens.shape[1]):
            if by_token:
                state = normed[row, place]
            elif layer.routing == "sentence":
                state = tf.reduce_mean(normed[row], axis=0)
            elif layer.routing == "gated_sentence":
                gate = tf.linalg.matvec(weights["gate/kernel"], tasks[row], transpose_a=True)
                state = tf.reshape(normed[row], [-1]) * gate
            else:
                state = tasks[row]
            logits = tf.linalg.matvec(weights["router/kernel"], state, transpose_a=True)
            probabilities = tf.nn.softmax(logits + weights["router/bias"])
            if by_token or place == 0:
                favoured = np.argsort(-probabilities.numpy(), kind="stable")[:k]
                for expert in favoured:
                    visited[expert] += 1
                kept = [expert for expert in favoured if visited[expert] <= capacity]
            total = tf.zeros([4])
            for expert in kept:
                kernels = [weights[f"experts/kernel_{number}"][expert] for number in (0, 1)]
                hidden = tf.linalg.matvec(kernels[0], normed[row, place], transpose_a=True)
                hidden = tf.linalg.matvec(kernels[1], tf.nn.leaky_relu(hidden), transpose_a=True)
                total += probabilities[expert] * hidden
            if not kept:
                total = normed[row, place] * (probabilities[favoured[0]] if k == 1 else 1.0)
            outputs.append(tokens[row, place] + total)
        rows.append(tf.stack(outputs))
    return tf.stack(rows)


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("capacity_factor", [None, 0.5])
def test_equals_a_loop_in_outputs_and_gradients(routing, k, capacity_factor):
    tokens, tasks = TOKENS[:4, :2], TASKS[:4]
    layers = []
    for dispatch in ("split", "blocks"):
        layer = TaskSentenceMoE(
            4, routing=routing, k=k, capacity_factor=capacity_factor, dispatch=dispatch
        )
        layer.build((tokens.shape, tasks.shape))
        layer.set_weights(layers[0].get_weights() if layers else layer.get_weights())
        layers.append(layer)
    # Weights of the outputs, so that no gradient is 0 by symmetry.
    shares = tf.constant(RNG.normal(size=tokens.shape), tf.float32)

    def with_gradients(layer, function):
        with tf.GradientTape() as tape:
            tape.watch([tokens, tasks])
            outputs = function()
            loss = tf.reduce_sum(outputs * shares)
        watched = [tokens, tasks, *layer.trainable_weights]
        gradients = tape.gradient(loss, watched, unconnected_gradients="zero")
        return [outputs, *map(tf.convert_to_tensor, gradients)]

    expected = with_gradients(layers[0], lambda: naive(layers[0], tokens, tasks, capacity_factor))
    assert all(np.abs(expected[number]).max() > 0.1 for number in (0, 1))
    for layer in layers:
        received = with_gradients(layer, lambda layer=layer: layer((tokens, tasks)))
        for left, right in zip(received, expected, strict=True):
            np.testing.assert_allclose(left, right, atol=1e-6 * max(1, np.abs(right).max()))


def chosen(layer, tokens, tasks):
    """The one expert that each token visits, where expert e multiplies positive tokens by e + 1."""
    weights = by_name(layer)
    weights["experts/kernel_0"].assign(tf.repeat(tf.eye(4)[tf.newaxis], 4, axis=0))
    weights["experts/kernel_1"].assign(
        tf.reshape(tf.range(1.0, 5.0), [4, 1, 1]) * tf.eye(4)[tf.newaxis]
    )
    added = layer((tokens, tasks)) - tokens
    normed = tokens / tf.sqrt(tf.reduce_mean(tokens**2, axis=-1, keepdims=True))
    return np.rint((added / normed)[..., 0]).astype(int) - 1


@pytest.mark.parametrize("routing", ["task_sentence", "task"])
def test_rows_of_one_sentence_share_the_expert_and_so_do_their_tokens(routing):
    layer = built(routing=routing)
    # Sentence 0 favours expert 1, sentence 1 expert 2 and sentence 2 expert 0.
    by_name(layer)["router/kernel"].assign(50 * np.eye(5)[:, [2, 0, 1, 3]])
    sentences = tf.constant(np.eye(5)[[0, 1, 0, 2, 1, 0]], tf.float32)
    expected = np.repeat([[1], [2], [1], [0], [2], [1]], 3, axis=1)
    np.testing.assert_array_equal(chosen(layer, tf.abs(TOKENS), sentences), expected)


def test_token_routing_separates_tokens_of_a_row():
    layer = built(routing="token")
    # The largest feature names the expert.
    by_name(layer)["router/kernel"].assign(50 * np.eye(4))
    tokens = tf.constant([[[1.0, 3, 1, 1], [1, 1, 1, 2], [1, 1, 2, 1]]])
    np.testing.assert_array_equal(chosen(layer, tokens, TASKS[:1]), [[1, 3, 2]])


@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_jitter_is_the_router_s(jitter):
    layer = built(jitter=jitter, k=4)
    first, second = (layer((TOKENS, TASKS), training=True).numpy() for _ in range(2))
    assert (first != second).any() == (jitter > 0)


def test_adds_both_losses_with_their_weights():
    layer = built(balance_weight=10.0, z_weight=100.0)
    by_name(layer)["router/kernel"].assign(tf.zeros([5, 4]))
    layer((TOKENS, TASKS))
    # Zero logits: all tokens go to expert 0 with probability 1/4, so L_bal = 4 * 1 / 4 = 1, and
    # L_z = (ln 4)^2.
    assert float(sum(layer.losses)) == pytest.approx(10 + 100 * math.log(4) ** 2)


def test_losses_tell_balance_from_collapse():
    layer = built(balance_weight=1.0, z_weight=0.0)
    by_name(layer)["router/kernel"].assign(50 * np.eye(5, 4))
    layer((TOKENS[:4], tf.eye(5)[:4]))
    assert float(sum(layer.losses)) == pytest.approx(1)
    layer((TOKENS[:4], tf.repeat(tf.eye(5)[1:2], 4, axis=0)))
    assert float(sum(layer.losses)) == pytest.approx(4)


def test_reports_losses_loads_and_what_is_dropped():
    layer = built(k=2, capacity_factor=0.5, name="moe")
    by_name(layer)["router/kernel"].assign(tf.zeros([5, 4]))
    layer((TOKENS, TASKS))
    values = {metric.name: float(metric.result()) for metric in layer.metrics}
    # All rows choose experts 0 and 1, which keep ceil(0.5 * 12 / 4) = 2 of 6 visits each.
    assert values == pytest.approx(
        {
            "moe_balance_loss": 1,
            "moe_z_loss": math.log(4) ** 2,
            "moe_smallest_expert_load": 0,
            "moe_largest_expert_load": 0.5,
            "moe_dropped_share": 2 / 3,
        }
    )


def test_an_empty_batch_adds_no_nan():
    layer = built(capacity_factor=1.0)
    assert layer((TOKENS[:0], TASKS[:0])).shape == [0, 3, 4]
    assert [float(loss) for loss in layer.losses] == [0]
    assert all(np.isfinite(metric.result()) for metric in layer.metrics)


def test_full_experts_pass_tokens_and_leave_no_nan():
    # Capacity ceil(0.01 * 6 / 4) = 1 of 6 decisions, one for each row.
    layer = built(capacity_factor=0.01)
    by_name(layer)["router/kernel"].assign(tf.zeros([5, 4]))
    outputs = layer((TOKENS, TASKS)).numpy()
    normed = TOKENS / tf.sqrt(tf.reduce_mean(TOKENS**2, axis=-1, keepdims=True) + 1e-6)
    # Expert 0 works on the first row; 1/4 of each token of the others is added to it.
    expected = (TOKENS + normed / 4).numpy()
    np.testing.assert_allclose(outputs[1:], expected[1:], rtol=1e-5)


def test_a_row_of_zeros_leaves_no_nan():
    with tf.GradientTape() as tape:
        tokens = tf.zeros([2, 3, 4])
        tape.watch(tokens)
        outputs = built()((tokens, TASKS[:2]))
    np.testing.assert_array_equal(outputs, np.zeros([2, 3, 4]))
    assert np.isfinite(tape.gradient(outputs, tokens)).all()


def test_dropout_spares_the_residual():
    layer = built(dropout=0.999999, jitter=0.0)
    np.testing.assert_array_equal(layer((TOKENS, TASKS), training=True), TOKENS)


def test_xla():
    layer = built(k=2)
    compiled = tf.function(lambda tokens, tasks: layer((tokens, tasks)), jit_compile=True)
    np.testing.assert_allclose(compiled(TOKENS, TASKS), layer((TOKENS, TASKS)), atol=1e-5)


@pytest.mark.parametrize("routing", ROUTINGS)
def test_as_a_layer(routing):
    run_layer_test(lambda: TaskSentenceMoE(4, routing=routing, k=4), (TOKENS, TASKS))


def test_refuses_an_unknown_routing():
    with pytest.raises(ValueError, match=r"expected a routing of \['task_sentence'.*'words'"):
        TaskSentenceMoE(4, routing="words")


def test_refuses_a_hidden_width_of_zero():
    with pytest.raises(ValueError, match=r"received num_experts=4, units=\[0, 4\]: give the width"):
        built(hidden=0)


def test_hidden_width_of_the_experts():
    assert by_name(built(hidden=7))["experts/kernel_0"].shape == [4, 4, 7]


@pytest.mark.parametrize("routing", ["task_sentence", "task"])
@pytest.mark.parametrize("k", [1, 2])
def test_chosen_experts_answer_as_the_bank(routing, k):
    layer = built(routing=routing, k=k)
    tasks = tf.repeat(TASKS[:1], 6, axis=0)
    chosen = layer.choose(TASKS[:1])
    assert [variable.shape[0] for variable in chosen.variables] == [k] * 3
    np.testing.assert_allclose(layer.call_with(TOKENS, chosen), layer((TOKENS, tasks)), atol=1e-6)


def test_experts_cannot_be_chosen_ahead_of_tokens():
    with pytest.raises(ValueError, match=r"expected routing 'task_sentence'.*received 'token'"):
        built(routing="token").choose(TASKS[:1])
