import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras

from tests.models.conftest import INPUTS, TASKS, compiled, first_batch, randomize
from tfmtl.models import MultiTaskModel, SharedBottom
from tfmtl.schema import Task
from tfmtl.testing import assert_gradients_reach_every_weight

REGULARIZED = ("kernel", "recurrent_kernel", "query", "key", "value")


def cross_entropy(labels, probabilities, weights):
    """Weighted mean over the defined rows, and the sum of their weights."""
    defined = weights > 0
    y, p, w = (np.asarray(part, np.float64)[defined] for part in (labels, probabilities, weights))
    if not len(y):
        return 0.0, 0.0
    losses = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    return (w * losses).sum() / w.sum(), w.sum()


def penalty(model, l2):
    return l2 * sum(
        np.square(weight.numpy()).sum()
        for weight in model.trainable_weights
        if weight.name.split("/")[-1].startswith(REGULARIZED)
    )


def loop(model, batches, combine, l2):
    """What fit and evaluate should report, by a loop over the batches in NumPy."""
    rows, sums, task_sums, task_rows = 0, 0.0, dict.fromkeys(model.task_names, 0.0), {}
    for features, labels, weights in batches:
        probabilities = model.probabilities(features)
        losses = {}
        for name in model.task_names:
            losses[name], defined = cross_entropy(
                labels[name].numpy(), probabilities[name].numpy(), weights[name].numpy()
            )
            task_sums[name] += losses[name] * defined
            task_rows[name] = task_rows.get(name, 0) + defined
        size = len(labels["click"])
        rows, sums = rows + size, sums + size * combine(losses)
    expected = {f"{name}_loss": task_sums[name] / task_rows[name] for name in model.task_names}
    regularization = penalty(model, l2)
    return {
        **expected,
        "loss": sums / rows,
        "regularization_loss": regularization,
        "total_loss": sums / rows + regularization,
    }


def is_softmax(operation):
    return operation.type in ("Softmax", "LogSoftmax")


def without_cooperation(name):
    # The rest of the regularisation is the same for all batches.
    return {"cooperative_weight": 0.0} if name == "mogenet" else {}


def static(losses):
    return losses["click"] + 0.5 * losses["click_x"]


def uncertain(losses):
    """s is [0.5, -1]; a task without rows in the batch adds nothing."""
    return sum(
        np.exp(-s) * losses[name] + s
        for name, s in (("click", 0.5), ("click_x", -1.0))
        if losses[name] > 0
    )


@pytest.mark.parametrize(
    ("name", "weighting", "combine"),
    [
        ("single_task", "static", static),
        ("shared_bottom", "uncertainty", uncertain),
        ("mmoe", "static", static),
        ("mogenet", "uncertainty", uncertain),
    ],
)
def test_fit_evaluate_and_a_loop_report_the_same(name, build, dataset, weighting, combine):
    model = build(name, l2=0.01, weighting=weighting, **without_cooperation(name))
    randomize(model)
    if weighting == "uncertainty":
        model.weighting.set_weights([np.array([0.5, -1.0])])
    batches = dataset(model)
    sizes = [len(labels["click"]) for _, labels, _ in batches]
    defined = [int(sum(weights["click_x"])) for _, _, weights in batches]
    assert (sizes, defined) == ([4, 4, 3], [3, 0, 2])

    compiled(model, keras.optimizers.SGD(0.0))
    fitted = {key: values[0] for key, values in model.fit(batches, verbose=0).history.items()}
    evaluated = model.evaluate(batches, return_dict=True, verbose=0)
    expected = loop(model, batches, combine, 0.01)
    weights = {key: fitted.pop(key) for key in list(fitted) if key.startswith("weight/")}
    # exp(-s), in the batches in which the task is defined.
    assert weights == pytest.approx(
        {"weight/click": np.exp(-0.5), "weight/click_x": np.exp(1.0)}
        if weighting == "uncertainty"
        else {}
    )
    assert fitted == pytest.approx(expected, rel=1e-5)
    assert evaluated == pytest.approx(expected, rel=1e-5)


def test_reports_start_afresh_in_every_epoch(build, dataset):
    model = build("mmoe")
    compiled(model, keras.optimizers.SGD(0.0))
    history = model.fit(dataset(model), epochs=2, verbose=0).history
    for values in history.values():
        assert values[0] == pytest.approx(values[1])


def test_gradients_reach_every_weight(name, build, dataset):
    model = build(name, weighting="static")
    features, _, _ = first_batch(dataset(model))
    assert_gradients_reach_every_weight(model, features)


def test_training_moves_every_weight_and_lowers_the_loss(name, build, dataset):
    model = build(name, weighting="uncertainty")
    before = [weight.numpy() for weight in model.trainable_weights]
    compiled(model, keras.optimizers.Adam(0.03))
    losses = model.fit(dataset(model), epochs=15, verbose=0).history["click_loss"]
    assert losses[-1] < 0.8 * losses[0]
    still = [
        weight.name
        for weight, old in zip(model.trainable_weights, before, strict=True)
        if np.array_equal(weight.numpy(), old)
    ]
    assert still == []


def test_a_masked_task_moves_nothing(name, build, dataset):
    """Where click_x is undefined its labels are not looked at and its own weights stay."""
    model = build(name, weighting="uncertainty")
    features, labels, weights = first_batch(dataset(model))
    by_label = []
    for junk in (float("nan"), 1.0):
        batch = (
            features,
            {**labels, "click_x": tf.fill([4], junk)},
            {**weights, "click_x": tf.zeros([4])},
        )
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, training=True)
        gradients = tape.gradient(
            loss, model.trainable_weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        by_label.append([loss.numpy(), *(tf.convert_to_tensor(g).numpy() for g in gradients)])
    for one, other in zip(*by_label, strict=True):
        assert np.all(np.isfinite(one))
        np.testing.assert_array_equal(one, other)
    # In training as above: `Dice` takes other statistics elsewhere.
    click = model.task_losses(model(features, training=True), labels, weights)["click"]
    assert by_label[0][0] == pytest.approx(float(click))
    gradients = {
        id(weight): gradient
        for weight, gradient in zip(model.trainable_weights, by_label[0][1:], strict=True)
    }
    if name == "grec":
        # No weight is a task's own but its row of the table of words.
        of_click, of_click_x = gradients[id(model.sentence.tables[0])]
        assert np.any(of_click)
        assert not np.any(of_click_x)
    else:
        own = {
            id(weight)
            for weight in (
                *model.towers["click_x"].trainable_weights,
                *(model.gates["click_x"].trainable_weights if hasattr(model, "gates") else ()),
            )
        }
        moved = {key for key, gradient in gradients.items() if np.any(gradient)}
        assert own
        assert not own & moved
        assert moved
    uncertainty = gradients[id(model.weighting.log_variance)]
    assert uncertainty[0] != 0
    assert uncertainty[1] == 0


def test_outputs_are_named_by_task_and_are_logits_in_full_precision(name, build, dataset):
    model = build(name)
    features, _, _ = first_batch(dataset(model))
    logits = model(features)
    assert list(logits) == ["click", "click_x"]
    assert {(v.dtype, tuple(v.shape)) for v in logits.values()} == {(tf.float32, (4,))}


def test_predict_returns_probabilities_by_task(name, build, dataset):
    model = build(name)
    batches = dataset(model)
    model.compile()
    predicted = model.predict(batches, verbose=0)
    assert sorted(predicted) == ["click", "click_x"]
    for task in predicted:
        logits = np.concatenate([model(features)[task] for features, _, _ in batches])
        np.testing.assert_allclose(predicted[task], 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_tasks_with_a_common_prefix_do_not_share(name, build, dataset):
    """Moving what is called click_x moves click_x alone."""
    model = build(name)
    features, _, _ = first_batch(dataset(model))
    before = model(features)
    if name == "grec":
        table = model.sentence.tables[0]
        table.scatter_nd_add([[1]], tf.ones_like(table)[:1])
    else:
        for weight in model.towers["click_x"].trainable_weights:
            weight.assign_add(tf.ones_like(weight))
    after = model(features)
    np.testing.assert_array_equal(before["click"], after["click"])
    assert np.all(np.asarray(before["click_x"]) != np.asarray(after["click_x"]))


def test_metrics_of_compile(build, dataset, log):
    model = build("mmoe")
    model.compile(
        optimizer=keras.optimizers.SGD(0.0),
        weighted_metrics={
            task: [keras.metrics.BinaryAccuracy(name="accuracy"), keras.metrics.AUC(name="auc")]
            for task in ("click_x", "click")
        },
    )
    batches = dataset(model)
    fitted = model.fit(batches, verbose=0).history
    evaluated = model.evaluate(batches, return_dict=True, verbose=0)
    predicted = model.predict(batches, verbose=0)
    for task in ("click", "click_x"):
        defined = log.weights[task] > 0
        hits = (predicted[task] > 0.5) == log.labels[task]
        assert fitted[f"{task}_accuracy"][0] == pytest.approx(hits[defined].mean())
        assert evaluated[f"{task}_accuracy"] == pytest.approx(hits[defined].mean())
        assert 0 <= evaluated[f"{task}_auc"] <= 1


def test_labels_of_other_tasks_are_passed_over(build, dataset):
    features, labels, weights = first_batch(dataset(build("shared_bottom")))
    model = SharedBottom(TASKS[:1], INPUTS)
    name = TASKS[0].name
    model.compile(keras.optimizers.SGD(0.0), weighted_metrics={name: [keras.metrics.AUC()]})
    model.build_weights()
    batches = tf.data.Dataset.from_tensors((features, labels, weights))
    own = tf.data.Dataset.from_tensors((features, {name: labels[name]}, {name: weights[name]}))
    received, expected = (
        model.evaluate(part, return_dict=True, verbose=0) for part in (batches, own)
    )
    assert received == expected
    assert any("auc" in key for key in received)


def test_unweighted_metrics_of_compile(build, dataset):
    model = build("shared_bottom")
    compiled(model, "sgd", metrics={"click": keras.metrics.AUC(name="auc")})
    assert "click_auc" in model.fit(dataset(model), verbose=0).history


@pytest.mark.parametrize("name", ["mmoe", pytest.param("mogenet", marks=pytest.mark.slow)])
def test_batches_of_all_sizes_share_one_trace(name, build, dataset):
    model = build(name)
    traces = []
    original = model.loss_inputs

    def counted(features, training=None):
        traces.append(training)
        return original(features, training=training)

    model.loss_inputs = counted
    compiled(model, "sgd")
    for batch_size in (4, 3, 5):
        model.fit(dataset(model, batch_size), verbose=0)
        model.evaluate(dataset(model, batch_size), verbose=0)
    assert traces == [True, False]


def test_checkpoint_is_restored_before_the_first_batch(name, build, dataset, tmp_path):
    model = build(name, weighting="uncertainty")
    randomize(model)
    batches = dataset(model)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))

    other = build(name, weighting="uncertainty")
    other.build_weights()
    assert any(
        not np.array_equal(*pair)
        for pair in zip(model.get_weights(), other.get_weights(), strict=True)
    )
    names = [weight.name for weight in other.weights]
    tf.train.Checkpoint(model=other).read(path).assert_existing_objects_matched()
    features, _, _ = first_batch(batches)
    for task, logits in model(features).items():
        np.testing.assert_array_equal(logits, other(features)[task])
    assert [weight.name for weight in other.weights] == names, "a batch made more weights"
    np.testing.assert_array_equal(*(m.weighting.log_variance.numpy() for m in (model, other)))


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_weights_go_through_one_file(name, build, tmp_path, suffix):
    first, second = build(name), build(name)
    first.build_weights()
    second.build_weights()
    first.save_weights(tmp_path / f"model{suffix}")
    second.load_weights(tmp_path / f"model{suffix}")
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["shared_bottom", pytest.param("mogenet", marks=pytest.mark.slow)])
def test_loss_scale_is_applied_and_removed(name, build, dataset, half_precision):
    """A loss of 1e-7 trains under mixed precision as it does in full precision."""
    tasks = [Task(name=task.name, weight=1e-7) for task in TASKS]
    options = {"tasks": tasks, "weighting": "static", "l2": 0.0, **without_cooperation(name)}
    half = build(name, **options)
    half.build_weights()
    start = half.get_weights()
    batches = dataset(half).take(1)

    def moved(model, optimizer):
        model.set_weights(start)
        compiled(model, optimizer)
        model.fit(batches, verbose=0)
        return {
            weight.name: weight.numpy() - old
            for weight, old in zip(model.weights, start, strict=True)
            if any(weight is trainable for trainable in model.trainable_weights)
        }

    scaled = moved(half, keras.optimizers.SGD(1e7))
    assert isinstance(half.optimizer, keras.mixed_precision.LossScaleOptimizer)
    unscaled = moved(
        half,
        keras.mixed_precision.LossScaleOptimizer(
            keras.optimizers.SGD(1e7), dynamic=False, initial_scale=1.0
        ),
    )
    keras.mixed_precision.set_global_policy("float32")
    single = build(name, **options)
    single.build_weights()
    reference = moved(single, keras.optimizers.SGD(1e7))
    lost = 0
    pairs = zip(scaled.values(), unscaled.values(), reference.items(), strict=True)
    for received, without, (key, expected) in pairs:
        largest = np.abs(expected).max()
        # Gradients below 1e-4 of the loss are beyond half precision at any scale.
        np.testing.assert_allclose(received, expected, atol=0.03 * largest + 1e-4, err_msg=key)
        lost += np.abs(without - expected).max() > 0.5 * largest + 1e-4
    # Without a scale such gradients vanish in half precision: the test can fail.
    assert lost


def test_an_overflow_skips_the_step_and_lowers_the_scale(build, dataset, half_precision):
    model = build("mmoe")
    start = [weight.numpy() for weight in model.trainable_weights]
    model.compile(
        optimizer=keras.mixed_precision.LossScaleOptimizer(
            keras.optimizers.SGD(0.1), initial_scale=2.0**40
        )
    )
    model.fit(dataset(model).take(1), verbose=0)
    for old, weight in zip(start, model.trainable_weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())
    assert float(model.optimizer.loss_scale) == 2.0**39


def test_losses_are_in_full_precision_under_a_half_policy(name, build, dataset, half_precision):
    # The layers of grec have no penalty of their own.
    penalties = {"l2_embedding": 0.01} if name == "grec" else {"l2": 0.01}
    model = build(name, **penalties, weighting="uncertainty")
    loss = model.compute_loss(first_batch(dataset(model)))
    assert loss.dtype == tf.float32
    assert all(weight.dtype == tf.float32 for weight in model.trainable_weights)


@pytest.mark.parametrize(
    "name",
    [
        "omoe",
        "mmoe",
        "cgc",
        "ple",
        "stem",
        "home",
        "grec",
        "aitm",
        "macgnn",
        "mgoe",
        pytest.param("mogenet", marks=pytest.mark.slow),
    ],
)
def test_every_softmax_is_in_full_precision_under_a_half_policy(
    name, build, dataset, half_precision
):
    """A router in half precision rounds small shares to 0, and what has none never learns."""
    model = build(name)
    features, _, _ = first_batch(dataset(model))
    graph = tf.function(model).get_concrete_function(features, training=True).graph
    dtypes = [
        operation.get_attr("T") for operation in graph.get_operations() if is_softmax(operation)
    ]
    assert dtypes
    assert set(dtypes) == {tf.float32}


def test_bfloat16_trains_without_a_scale(build, dataset):
    """It has the exponents of full precision: a loss of 1e-7 needs no scale."""
    tasks = [Task(name=task.name, weight=1e-7) for task in TASKS]
    moved = {}
    start = None
    for policy in ("float32", "mixed_bfloat16"):
        keras.mixed_precision.set_global_policy(policy)
        try:
            model = build("mmoe", tasks=tasks)
            start = model.get_weights() if start is None else start
            model.set_weights(start)
            compiled(model, keras.optimizers.SGD(1e7))
            model.fit(dataset(model).take(1), verbose=0)
            assert not isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
        finally:
            keras.mixed_precision.set_global_policy("float32")
        moved[policy] = [new - old for new, old in zip(model.get_weights(), start, strict=True)]
    for full, half in zip(*moved.values(), strict=True):
        assert np.abs(half - full).max() <= 0.05 * np.abs(full).max()


def test_the_end_of_a_dataset_of_unknown_size_counts_for_nothing(build, dataset):
    model = build("mmoe", l2=0.01)
    expected = penalty(model, 0.01)
    # Static shapes and one batch: its penalty is that of the first weights.
    batches = dataset(model).take(2).unbatch().batch(8, drop_remainder=True)
    assert batches.cardinality() == tf.data.UNKNOWN_CARDINALITY
    compiled(model, keras.optimizers.SGD(10.0))
    history = model.fit(batches, verbose=0).history
    assert history["regularization_loss"][0] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["single_task", "shared_bottom", "mmoe", "macgnn", "mgoe"])
def test_compiles_with_xla(name, build, dataset):
    # XLA wants batches of known size.
    batches = dataset(build(name)).take(2).unbatch().batch(4, drop_remainder=True)
    histories = []
    for jit_compile in (False, True):
        model = build(name, l2=0.01)
        randomize(model)
        compiled(model, keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        histories.append(model.fit(batches, epochs=2, verbose=0).history)
    for key, values in histories[0].items():
        assert histories[1][key] == pytest.approx(values, rel=1e-4), key


def test_dropout_is_active_in_training_only(name, build, dataset):
    model = build(name, dropout=0.5, **({"tower_units": (8,)} if name == "mogenet" else {}))
    features, _, _ = first_batch(dataset(model))
    for task in model.task_names:
        training = [model(features, training=True)[task].numpy() for _ in range(2)]
        inference = [model(features, training=False)[task].numpy() for _ in range(2)]
        assert not np.array_equal(*training)
        np.testing.assert_array_equal(*inference)


def test_peers_report_the_last_batch():
    """The fault of `tfrs.Model` that the base class is there for: losses 1, 1 and 7 have mean 3."""

    class Peer(tfrs.Model):
        def compute_loss(self, inputs, training=False):
            return tf.reduce_mean(inputs)

    class Ours(MultiTaskModel):
        def call(self, features, training=None):
            return {"click": features["price"]}

        def task_losses(self, logits, labels, sample_weights):
            return {"click": tf.reduce_mean(logits["click"])}

    values = tf.data.Dataset.from_tensor_slices([[1.0], [1.0], [7.0]])
    peer = Peer()
    peer.compile()
    assert peer.evaluate(values, return_dict=True, verbose=0)["loss"] == 7
    ours = Ours([Task(name="click")], INPUTS)
    ours.compile()
    batches = values.map(lambda v: ({"price": v}, {"click": v}, {"click": tf.ones_like(v)}))
    assert ours.evaluate(batches, return_dict=True, verbose=0)["loss"] == 3


def test_names_a_missing_feature(build, dataset):
    model = build("mmoe")
    features, _, _ = first_batch(dataset(model))
    del features["age"]
    with pytest.raises(ValueError, match=r"the batch lacks the features \['age'\]"):
        model(features)


@pytest.mark.parametrize("taken", ["total", "regularization"])
def test_refuses_a_task_whose_loss_has_the_name_of_another(taken):
    with pytest.raises(ValueError, match=rf"the losses of tasks \['{taken}'\] would be reported"):
        SharedBottom([Task(name="click"), Task(name=taken)], INPUTS)


@pytest.mark.parametrize("bad", ["long view", "_click", "", "gefällt"])
def test_refuses_a_task_that_cannot_name_an_output(bad):
    with pytest.raises(ValueError, match=rf"received \['{bad}'\]: rename the tasks and set column"):
        SharedBottom([Task(name=bad)], INPUTS)


@pytest.mark.parametrize("good", ["a/b", "watch-time", "5star"])
def test_other_task_names_train(good):
    model = SharedBottom([Task(name=good)], INPUTS[-2:-1])
    model.build_weights()
    compiled(model, "sgd")
    one = tf.ones([2])
    batch = tf.data.Dataset.from_tensors(({"price": one}, {good: one}, {good: one}))
    assert f"{good}_loss" in model.fit(batch, verbose=0).history
