import numpy as np
import pytest
import tensorflow as tf

from tfmtl.layers import MacroGraphBottom, MacroRows, MacroWeights, Recording
from tfmtl.testing import assert_experts_differ, run_layer_test

TASKS = ["click", "cart", "buy"]
USERS, ITEMS, USER_NODES, ITEM_NODES, DIM = 7, 9, 4, 5, 3
SIZES = {
    "num_users": USERS,
    "num_items": ITEMS,
    "num_user_nodes": USER_NODES,
    "num_item_nodes": ITEM_NODES,
    "dim": DIM,
}
USER_IDS = tf.constant([1, 6, 0, 1])
ITEM_IDS = tf.constant([8, 8, 2, 5])
EMBEDDINGS = ["per_task", "shared_adapter"]


def macro_rows(rows, recent=2, tasks=3):
    rng = np.random.default_rng(3)

    def strengths(*shape):
        return tf.constant(np.log1p(rng.integers(0, 9, [rows, *shape])), tf.float32)

    def ids(highest, *shape):
        return tf.constant(rng.integers(0, highest + 1, [rows, *shape]), tf.int32)

    users, items = USER_NODES + 1, ITEM_NODES + 1
    return MacroRows(
        user_items=strengths(items),
        user_users=strengths(users),
        item_users=strengths(users),
        item_items=strengths(items),
        user_preferences=strengths(tasks, items),
        item_preferences=strengths(tasks, users),
        recent_items=ids(ITEMS - 1, recent),
        recent_item_behaviors=ids(2**tasks - 1, recent),
        recent_item_scores=strengths(recent),
        recent_users=ids(USERS - 1, recent),
        recent_user_behaviors=ids(2**tasks - 1, recent),
        recent_user_scores=strengths(recent),
        user_group=ids(USER_NODES),
        item_group=ids(ITEM_NODES),
    )


ROWS = macro_rows(len(USER_IDS))


def bottom_of(tasks=TASKS, **options):
    layer = MacroGraphBottom(tasks, **{**SIZES, **options})
    layer.build([None])
    return layer


def weight_of(layer, name):
    (weight,) = (weight for weight in layer.weights if weight.name == f"{name}:0")
    return weight


def expert_outputs(layer):
    users, items = layer.look_up("user", USER_IDS), layer.look_up("item", ITEM_IDS)
    weights = layer.macro_weights(ROWS)
    return [
        layer.experts[task](users[task], items[task], *layer.nodes_of(task), weights)
        for task in layer.task_names
    ]


def test_tasks_have_columns_of_one_table():
    layer = bottom_of()
    table = np.arange(USERS * 3 * DIM).reshape(USERS, 3 * DIM)
    nodes = -np.arange((ITEM_NODES + 1) * 3 * DIM).reshape(ITEM_NODES + 1, 3 * DIM)
    weight_of(layer, "user").assign(table)
    weight_of(layer, "item_nodes").assign(nodes)
    # User 6 is row 6 of 9 numbers: 54 to 62, three for each task.
    users = layer.look_up("user", USER_IDS)
    assert list(users) == TASKS
    assert users["cart"][1].numpy().tolist() == [57, 58, 59]
    assert users["buy"][1].numpy().tolist() == [60, 61, 62]
    # Node 2 starts at 18.
    user_nodes, item_nodes = layer.nodes_of("cart")
    assert user_nodes.shape == (USER_NODES + 1, DIM)
    assert item_nodes[2].numpy().tolist() == [-21, -22, -23]


def test_ids_may_be_lists():
    layer = bottom_of()
    recent = layer.look_up("item", ROWS.recent_items)["buy"]
    assert recent.shape == (4, 2, DIM)
    expected = layer.look_up("item", ROWS.recent_items[3])["buy"]
    np.testing.assert_array_equal(recent[3], expected)


def test_macro_weights_are_of_the_rows_by_temperature():
    weights = bottom_of(tau=2.0).macro_weights(ROWS)
    assert isinstance(weights, MacroWeights)
    for name, received in weights._asdict().items():
        # Square roots of N + 1, without padding.
        roots = np.exp(getattr(ROWS, name).numpy()) ** 0.5
        roots[:, 0] = 0
        expected = roots / roots.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(received, expected, rtol=1e-5, err_msg=name)


def test_gates_mix_the_experts_of_all_tasks():
    layer = bottom_of()
    biases = {"click": [1, 2, 5], "cart": [3, 1, 1], "buy": [1, 8, 1]}
    for task, shares in biases.items():
        weight_of(layer, f"{task}_gate/scores/kernel").assign(np.zeros([3 * 10 * DIM, 3]))
        weight_of(layer, f"{task}_gate/scores/bias").assign(np.log(shares))
    first, second, third = expert_outputs(layer)
    states = layer(USER_IDS, ITEM_IDS, ROWS)
    assert list(states) == TASKS
    expected = {
        "click": (first + 2 * second + 5 * third) / 8,
        "cart": (3 * first + second + third) / 5,
        "buy": (first + 8 * second + third) / 10,
    }
    for task, state in states.items():
        np.testing.assert_allclose(state, expected[task], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stop", [False, True])
def test_gates_read_the_outputs_of_all_experts(stop):
    layer = bottom_of(stop_gradient_across_tasks=stop)
    outputs = expert_outputs(layer)
    scores = layer.gates["cart"]
    kernel, bias = scores.get_weights()
    # Scores in the thousands leave one expert to each row.
    scores.set_weights([1e4 * kernel, bias])
    chosen = np.argmax(tf.concat(outputs, axis=1) @ kernel, axis=1)
    expected = np.stack(outputs)[chosen, np.arange(len(chosen))]
    received = layer(USER_IDS, ITEM_IDS, ROWS)["cart"]
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
def test_a_single_task_has_no_gate(embeddings):
    layer = bottom_of(["click"], embeddings=embeddings)
    assert not any("gate" in weight.name for weight in layer.weights)
    (output,) = expert_outputs(layer)
    np.testing.assert_array_equal(layer(USER_IDS, ITEM_IDS, ROWS)["click"], output)


def test_without_gates_tasks_keep_their_experts():
    layer = bottom_of(gated=False)
    assert not any("gate" in weight.name for weight in layer.weights)
    states = layer(USER_IDS, ITEM_IDS, ROWS)
    for task, output in zip(TASKS, expert_outputs(layer), strict=True):
        np.testing.assert_array_equal(states[task], output)


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
def test_without_neighborhoods_gates_mix_embeddings(embeddings):
    layer = bottom_of(embeddings=embeddings, neighborhoods=False)
    assert not any("expert" in weight.name for weight in layer.weights)
    weight_of(layer, "buy_gate/scores/kernel").assign(np.zeros([3 * 2 * DIM, 3]))
    weight_of(layer, "buy_gate/scores/bias").assign(np.log([1, 2, 5]))
    users, items = layer.look_up("user", USER_IDS), layer.look_up("item", ITEM_IDS)
    first, second, third = (tf.concat([users[task], items[task]], axis=1) for task in TASKS)
    received = layer(USER_IDS, ITEM_IDS, ROWS)["buy"]
    np.testing.assert_allclose(received, (first + 2 * second + 5 * third) / 8, atol=1e-6)


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
@pytest.mark.parametrize("stop", [False, True])
def test_a_task_may_train_its_own_expert_alone(embeddings, stop):
    layer = bottom_of(embeddings=embeddings, stop_gradient_across_tasks=stop)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(USER_IDS, ITEM_IDS, ROWS)["cart"] ** 2)
    weights = {weight.name: weight for weight in layer.trainable_weights}
    gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
    reached = {name for name, part in gradients.items() if np.any(tf.convert_to_tensor(part) != 0)}
    own, others = ("cart_expert", "cart_user_adapter"), ("click_expert", "buy_item_adapter")
    assert any(name.startswith(own[0]) for name in reached)
    assert any(name.startswith(others[0]) for name in reached) is not stop
    if embeddings == "shared_adapter":
        assert f"{own[1]}:0" in reached
        assert (f"{others[1]}:0" in reached) is not stop
    assert all(name.startswith("cart") for name in reached if "gate" in name)
    fused = ["user_nodes:0", "item_nodes:0"]
    fused += ["user:0", "item:0"] if embeddings == "per_task" else []
    for name in fused:
        columns = np.any(tf.convert_to_tensor(gradients[name]) != 0, axis=0).reshape(3, DIM)
        assert columns[1].all()
        assert columns[[0, 2]].any() is not np.bool_(stop), name


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_tables_of_ids_have_one_sparse_gradient(embeddings, policy):
    layer = bottom_of(embeddings=embeddings, l2_embedding=0.1, dtype=policy)
    tables = [weight_of(layer, "user"), weight_of(layer, "item")]
    with tf.GradientTape() as tape:
        states = layer(USER_IDS, ITEM_IDS, ROWS)
        parts = [tf.reduce_sum(tf.cast(state, tf.float32)) for state in states.values()]
        loss = tf.add_n([*parts, *layer.losses])
    for gradient, ids in zip(tape.gradient(loss, tables), (USER_IDS, ITEM_IDS), strict=True):
        assert isinstance(gradient, tf.IndexedSlices)
        # A row per id of the batch, whatever the number of tasks.
        np.testing.assert_array_equal(gradient.indices, ids)


def test_a_shared_table_starts_as_that_of_every_task():
    layer = bottom_of(embeddings="shared_adapter")
    table = weight_of(layer, "item")
    assert table.shape == (ITEMS, DIM)
    items = layer.look_up("item", ITEM_IDS)
    for task in TASKS:
        np.testing.assert_allclose(items[task], tf.gather(table, ITEM_IDS), rtol=1e-6)


def test_adapters_are_of_one_side_and_task():
    layer = bottom_of(embeddings="shared_adapter")
    adapter = np.array([[0, 2, 0], [0, 0, 3], [5, 0, 0]])
    weight_of(layer, "cart_item_adapter").assign(adapter)
    weight_of(layer, "item").assign(np.tile([1.0, 10.0, 100.0], [ITEMS, 1]))
    items = layer.look_up("item", ITEM_IDS)
    np.testing.assert_allclose(items["cart"][0], [500, 2, 30])
    np.testing.assert_allclose(items["buy"][0], [1, 10, 100])


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
def test_penalty_is_the_mean_over_rows(embeddings):
    layer = bottom_of(embeddings=embeddings, l2_embedding=0.5)
    columns = DIM if embeddings == "shared_adapter" else 3 * DIM
    weight_of(layer, "user").assign(np.tile(np.arange(USERS)[:, None], [1, columns]))
    weight_of(layer, "item").assign(np.tile(np.arange(ITEMS)[:, None], [1, columns]))
    layer(USER_IDS, ITEM_IDS, ROWS)
    # Users 1, 6, 0, 1 and items 8, 8, 2, 5: (38 + 157) / 4 rows, for each column, halved.
    assert float(tf.add_n(layer.losses)) == pytest.approx(columns * 195 / 8)


def test_kernels_have_a_penalty():
    layer = bottom_of(["click", "buy"], l2=0.5)
    penalized = [weight for weight in layer.weights if weight.name.startswith(("click", "buy"))]
    kernels = [weight for weight in penalized if not weight.name.endswith("bias:0")]
    # Three matrices for each of two aggregators, and a gate, for each of two tasks.
    assert len(kernels) == 14
    expected = 0.5 * sum(float(tf.reduce_sum(kernel**2)) for kernel in kernels)
    assert float(tf.add_n(layer.losses)) == pytest.approx(expected, rel=1e-5)


def test_experts_start_apart():
    layer = bottom_of(dim=16)
    for number in range(6):
        assert_experts_differ([layer.experts[task].get_weights()[number] for task in TASKS])


def test_options_reach_the_experts():
    layer = bottom_of(attention="released", mask_padding=False)
    expert = layer.experts["buy"]
    assert (expert.attention, expert.mask_padding) == ("released", False)
    weights = layer.macro_weights(ROWS)
    assert float(tf.reduce_min(weights.user_items[:, 0])) > 0


def test_gates_show_the_tasks_whose_experts_they_weigh():
    layer = bottom_of(name="bottom")
    with Recording() as recording:
        layer(USER_IDS, ITEM_IDS, ROWS)
    assert [(gate.name, gate.experts) for gate in recording.gates] == [
        (f"bottom/{task}_gate", tuple(TASKS)) for task in TASKS
    ]


def test_nodes_of_an_unknown_task():
    layer = bottom_of()
    with pytest.raises(ValueError, match=r"among \['click', 'cart', 'buy'\]; received 'like'"):
        layer.nodes_of("like")


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
def test_xla(embeddings):
    layer = bottom_of(embeddings=embeddings)
    expected = layer(USER_IDS, ITEM_IDS, ROWS)
    received = tf.function(layer, jit_compile=True)(USER_IDS, ITEM_IDS, ROWS)
    for task in TASKS:
        np.testing.assert_allclose(received[task], expected[task], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("embeddings", EMBEDDINGS)
@pytest.mark.parametrize("attention", ["neighbor", "released"])
def test_as_a_layer(embeddings, attention):
    def factory():
        return MacroGraphBottom(
            TASKS, **SIZES, embeddings=embeddings, attention=attention, l2=0.1, l2_embedding=0.1
        )

    outputs = run_layer_test(factory, USER_IDS, ITEM_IDS, ROWS, formats=())
    assert {task: state.shape for task, state in outputs.items()} == {
        task: (4, 10 * DIM) for task in TASKS
    }


@pytest.mark.parametrize(
    ("options", "width", "unused"),
    [({"gated": False}, 10, []), ({"neighborhoods": False}, 2, ["nodes"])],
    ids=["gates", "neighborhoods"],
)
def test_as_a_layer_without_a_part(options, width, unused):
    outputs = run_layer_test(
        lambda: MacroGraphBottom(TASKS, **SIZES, **options),
        USER_IDS,
        ITEM_IDS,
        ROWS,
        formats=(),
        unused=unused,
    )
    assert {task: state.shape for task, state in outputs.items()} == {
        task: (4, width * DIM) for task in TASKS
    }


@pytest.mark.parametrize("tasks", [[], ["click", "click"]])
def test_refuses_tasks_without_a_name_of_their_own(tasks):
    with pytest.raises(ValueError, match="expected tasks of different names; received"):
        MacroGraphBottom(tasks, **SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_refuses_empty_tables(name):
    with pytest.raises(ValueError, match=f"expected positive numbers; received .*'{name}': 0"):
        MacroGraphBottom(TASKS, **{**SIZES, name: 0})


def test_refuses_unknown_embeddings():
    with pytest.raises(ValueError, match="'per_task' or 'shared_adapter'; received 'none'"):
        MacroGraphBottom(TASKS, **SIZES, embeddings="none")


def test_refuses_unknown_attention():
    with pytest.raises(
        ValueError, match="expected attention 'neighbor' or 'released'; received 'd"
    ):
        bottom_of(attention="dot")
