"""Weightings of tasks under the models: what the training step makes of them."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.models.conftest import INPUTS, TASKS, compiled, first_batch, randomize
from tfmtl.models import MMoE, SharedBottom
from tfmtl.objectives import WEIGHTINGS
from tfmtl.schema import Task

GRADIENT = ("cagrad", "grad_norm", "imtl", "mgda", "nash_mtl", "pcgrad")
every = pytest.mark.parametrize("weighting", WEIGHTINGS)
by_gradients = pytest.mark.parametrize("weighting", GRADIENT)


class Watched(keras.optimizers.SGD):
    """Remembers the kinds of gradients that it is given."""

    def apply_gradients(self, grads_and_vars, *args, **kwargs):
        pairs = list(grads_and_vars)
        self.received = {variable.name: type(gradient) for gradient, variable in pairs}
        return super().apply_gradients(pairs, *args, **kwargs)


def gradients_of(model, batch, names, combine):
    """Gradients of a combination of the named tasks' losses by one tape, by variable name."""
    with tf.GradientTape() as tape:
        losses = model.task_losses(model(batch[0], training=True), *batch[1:])
        total = combine([losses[name] for name in names])
    found = tape.gradient(total, model.trainable_variables)
    return {
        variable.name: None if gradient is None else tf.convert_to_tensor(gradient).numpy()
        for variable, gradient in zip(model.trainable_variables, found, strict=True)
    }


def movement(model, batch):
    """What one step of SGD at rate 1 subtracts, by variable name."""
    before = {variable.name: variable.numpy() for variable in model.trainable_variables}
    model.train_step(batch)
    return {v.name: before[v.name] - v.numpy() for v in model.trainable_variables}


def state_of(model):
    return [weight.numpy() for weight in model.weighting.weights]


def trained(model, batches, epochs=1, **options):
    model.fit(batches, epochs=epochs, verbose=0, **options)
    return model.get_weights()


@every
@pytest.mark.parametrize("name", ["mmoe", pytest.param("grec", marks=pytest.mark.slow)])
def test_trains_logs_its_weights_and_learns(name, weighting, build, dataset):
    model = build(name, weighting=weighting)
    before = {variable.name: variable.numpy() for variable in model.trainable_variables}
    compiled(model, keras.optimizers.Adam(0.03))
    history = model.fit(dataset(model), epochs=4, verbose=0).history
    assert all(np.all(np.isfinite(values)) for values in history.values())
    logged = {key: values for key, values in history.items() if key.startswith("weight/")}
    if weighting == "static":
        assert logged == {}
    else:
        assert list(logged) == ["weight/click", "weight/click_x"]
        assert min(map(min, logged.values())) > 0
    if weighting not in ("static", "pcgrad"):
        # PCGrad's are 1 where nothing conflicts.
        assert len(set(logged["weight/click"])) > 1
    assert history["click_loss"][-1] < history["click_loss"][0]
    still = [v.name for v in model.trainable_variables if np.array_equal(v, before[v.name])]
    assert still == []


@pytest.mark.parametrize("weighting", [name for name in GRADIENT if name != "imtl"])
def test_shared_weights_have_the_combination_and_all_others_the_plain_sum(
    weighting, build, dataset
):
    model = build("mmoe", weighting=weighting, l2=0.01)
    randomize(model)
    compiled(model, Watched(1.0))
    batch = first_batch(dataset(model))
    names = list(model.task_names)
    by_task = [gradients_of(model, batch, [name], tf.add_n) for name in names]
    plain = gradients_of(model, batch, names, lambda losses: losses[0] + 0.5 * losses[1])
    penalties = {
        v.name: 0.02 * v.numpy()
        for v in model.trainable_variables
        if v.name.split("/")[-1].startswith("kernel")
    }
    shared = [name for name in plain if "expert" in name]
    gram = np.array(
        [[sum(np.sum(a[key] * b[key]) for key in shared) for a in by_task] for b in by_task]
    )
    losses = model.task_losses(model(batch[0], training=True), *batch[1:])
    weights = model.weighting.task_weights(losses, tf.constant(gram, tf.float32)).numpy()
    assert shared
    received = movement(model, batch)
    for key, moved in received.items():
        expected = plain[key]
        if key in shared:
            expected = sum(w * own[key] for w, own in zip(weights, by_task, strict=True))
        expected = expected + penalties.get(key, 0.0)
        np.testing.assert_allclose(moved, expected, rtol=2e-3, atol=2e-4, err_msg=key)


def test_impartial_losses_scale_what_is_not_shared(build, dataset):
    model = build("mmoe", weighting="imtl")
    compiled(model, keras.optimizers.SGD(1.0))
    model.weighting.log_scale.assign([np.log(3.0), np.log(2.0)])
    batch = first_batch(dataset(model))
    # exp(s) p L: 3 times the first, 2 * 0.5 times the second.
    plain = gradients_of(model, batch, model.task_names, lambda losses: 3 * losses[0] + losses[1])
    received = movement(model, batch)
    for key, moved in received.items():
        if "tower" in key or "gate" in key:
            np.testing.assert_allclose(moved, plain[key], rtol=1e-3, atol=1e-5, err_msg=key)


@every
@pytest.mark.parametrize("name", ["mmoe", "grec"])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_tables_have_sparse_gradients_up_to_the_optimiser(name, weighting, policy, build, dataset):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = build(name, weighting=weighting, l2_embedding=0.01)
        optimizer = Watched(0.1)
        compiled(model, optimizer)
        model.train_step(first_batch(dataset(model)))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert len(optimizer.received) == len(model.trainable_variables)
    sparse = {key for key, kind in optimizer.received.items() if kind is tf.IndexedSlices}
    tables = [model.embedding.table, *(model.sentence.tables if name == "grec" else ())]
    assert sparse == {table.name for table in tables}


@pytest.mark.slow
def test_tables_of_every_model_are_left_to_the_plain_sum(name, build, dataset):
    model = build(name, weighting="mgda")
    batch = first_batch(dataset(model))
    compiled(model, Watched(0.1))
    with tf.GradientTape() as tape:
        total = model.compute_loss(batch, training=True)
    found = tape.gradient(total, model.trainable_variables)
    sparse = {
        variable.name
        for variable, gradient in zip(model.trainable_variables, found, strict=True)
        if isinstance(gradient, tf.IndexedSlices)
    }
    if name in ("single_task", "light_gcn", "pogcn", "esmm", "escm2"):
        with pytest.raises(ValueError, match="has no dense weights that two tasks share"):
            model.train_step(batch)
        return
    model.train_step(batch)
    received = model.optimizer.received
    assert {key for key, kind in received.items() if kind is tf.IndexedSlices} == sparse


@every
def test_a_batch_without_a_task_leaves_it_alone(weighting, build, dataset):
    model = build("mmoe", weighting=weighting)
    compiled(model, keras.optimizers.SGD(0.1))
    batches = dataset(model)
    # Of the three batches the second has no row of click_x.
    trained(model, batches.take(1))
    own = [weight.numpy() for weight in model.towers["click_x"].weights]
    state = state_of(model)
    history = model.fit(batches.skip(1).take(1), verbose=0).history
    for old, weight in zip(own, model.towers["click_x"].weights, strict=True):
        np.testing.assert_array_equal(old, weight)
    for old, new in zip(state, state_of(model), strict=True):
        # PCGrad counts steps.
        if new.ndim:
            np.testing.assert_array_equal(old[..., 1], new[..., 1])
    assert all(np.all(np.isfinite(value)) for value in model.get_weights())
    assert history.get("weight/click_x", [0.0]) == [0.0]
    assert history.get("weight/click", [1.0])[0] > 0


@pytest.mark.parametrize("weighting", [w for w in WEIGHTINGS if w not in ("uncertainty", "imtl")])
def test_one_task_is_trained_as_by_static_weights(weighting, build, dataset):
    expected, received = (
        build("shared_bottom", seed=1, tasks=TASKS[:1], weighting=name, l2=0.01)
        for name in ("static", weighting)
    )
    for model in (expected, received):
        compiled(model, keras.optimizers.SGD(0.5))
        trained(model, dataset(model), epochs=3)
    pairs = zip(expected.trainable_variables, received.trainable_variables, strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@by_gradients
@pytest.mark.parametrize("name", ["single_task", "light_gcn"])
def test_refuses_a_model_whose_tasks_share_tables_alone(name, weighting, build, dataset):
    model = build(name, weighting=weighting)
    compiled(model)
    with pytest.raises(
        ValueError, match=rf"{type(model).__name__} has no dense weights that two tasks share, on "
    ) as raised:
        model.fit(dataset(model), verbose=0)
    assert "choose a weighting of losses, such as 'uncertainty'" in str(raised.value)


@by_gradients
def test_half_precision_gives_the_weights_and_the_step_of_full(
    weighting, build, dataset, half_precision
):
    """Losses of 1e-7, whose gradients vanish without a scale."""
    tasks = [Task(name=task.name, weight=1e-7) for task in TASKS]
    options = {"tasks": tasks, "weighting": weighting}
    half = build("mmoe", seed=1, **options)
    compiled(half, keras.optimizers.SGD(1e5))
    assert isinstance(half.optimizer, keras.mixed_precision.LossScaleOptimizer)
    keras.mixed_precision.set_global_policy("float32")
    full = build("mmoe", seed=1, **options)
    compiled(full, keras.optimizers.SGD(1e5))
    start = full.get_weights()
    half.set_weights(start)
    batches = dataset(full).take(1)
    logs = [model.fit(batches, verbose=0).history for model in (half, full)]
    for task in ("click", "click_x"):
        received, expected = (log[f"weight/{task}"][0] for log in logs)
        assert received == pytest.approx(expected, rel=0.05)
    for old, one, other in zip(start, half.get_weights(), full.get_weights(), strict=True):
        largest = np.abs(other - old).max()
        np.testing.assert_allclose(one - old, other - old, atol=0.06 * largest + 1e-5)


@every
def test_an_overflow_skips_the_step_and_keeps_the_state(weighting, build, dataset, half_precision):
    model = build("mmoe", weighting=weighting)
    start = [variable.numpy() for variable in model.trainable_variables]
    optimizer = keras.mixed_precision.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=2.0**40
    )
    compiled(model, optimizer)
    history = model.fit(dataset(model).take(1), verbose=0).history
    for old, variable in zip(start, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    assert float(optimizer.loss_scale) == 2.0**39
    assert all(np.all(np.isfinite(values)) for values in history.values())
    assert all(np.all(np.isfinite(value)) for value in state_of(model))


@every
def test_a_run_from_a_checkpoint_is_the_one_without_interruption(
    weighting, build, dataset, tmp_path
):
    def fresh(seed):
        model = build("mmoe", seed=seed, weighting=weighting)
        return compiled(model, keras.optimizers.Adam(0.03))

    whole = fresh(1)
    batches = dataset(whole)
    trained(whole, batches, epochs=3)
    path = tf.train.Checkpoint(model=whole, optimizer=whole.optimizer).write(str(tmp_path / "c"))
    resumed = fresh(2)
    status = tf.train.Checkpoint(model=resumed, optimizer=resumed.optimizer).read(path)
    status.assert_existing_objects_matched()
    for one, other in zip(*(trained(m, batches) for m in (whole, resumed)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_fit_ends_the_epochs_of_a_weighting_ahead_of_other_callbacks(build, dataset):
    model = build("mmoe", weighting="dwa")
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((self.model.weighting.history.numpy()[0], logs))

    compiled(model, keras.optimizers.Adam(0.05))
    for callbacks in ([Look()], Look(), keras.callbacks.CallbackList([Look()], model=model)):
        history = model.fit(dataset(model), verbose=0, callbacks=callbacks).history
        # Mean over batches: the second has no row of click_x.
        last, logs = seen[-1]
        assert last[1] == pytest.approx(logs["click_x_loss"], rel=0.2)
        assert model.weighting.sums.numpy().tolist() == [[0, 0], [0, 0]]
    assert len(seen) == 3
    # From the third epoch on there are two before it.
    assert history["weight/click"][0] != 1
    assert history["weight/click"][0] + 2 * history["weight/click_x"][0] == pytest.approx(2.0)


def test_what_famo_looks_at_after_a_step_is_not_reported(build, dataset):
    batches = dataset(build("mmoe"))
    reported = []
    for weighting in ("static", "famo"):
        model = build("mmoe", seed=1, weighting=weighting)
        compiled(model, keras.optimizers.SGD(1.0), weighted_metrics={"click": ["AUC"]})
        reported.append(model.fit(batches.take(1), verbose=0).history)
    for key in ("click_loss", "click_x_loss", "regularization_loss", "click_auc"):
        assert reported[0][key] == reported[1][key]


def test_famo_sees_what_the_step_did(build, dataset):
    model = build("mmoe", weighting="famo")
    batch = first_batch(dataset(model))
    compiled(model, keras.optimizers.SGD(0.0))
    model.train_step(batch)
    # The losses are those of before.
    np.testing.assert_allclose(model.weighting.moments.numpy()[:2], 0.0, atol=1e-12)
    compiled(model, keras.optimizers.SGD(0.5))
    model.train_step(batch)
    assert np.all(np.abs(model.weighting.moments.numpy()[0]) > 1e-6)


def test_the_reported_loss_of_gradient_methods_is_the_plain_sum(build, dataset):
    model = build("mmoe", weighting="mgda")
    compiled(model, keras.optimizers.SGD(0.1))
    batches = dataset(model).take(1)
    for report in (
        {key: values[0] for key, values in model.fit(batches, verbose=0).history.items()},
        model.evaluate(batches, verbose=0, return_dict=True),
    ):
        expected = report["click_loss"] + 0.5 * report["click_x_loss"]
        assert report["loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_are_not_reported_by_evaluation(build, dataset):
    model = build("mmoe", weighting="uncertainty")
    compiled(model)
    batches = dataset(model)
    history = model.fit(batches, validation_data=batches, verbose=0).history
    assert {"weight/click", "val_click_loss"} < set(history)
    assert not [key for key in history if key.startswith("val_weight")]


@by_gradients
def test_rows_that_name_their_tasks_are_balanced_too(weighting, build, dataset):
    model = build("grec", weighting=weighting, tasks_per_row=1)
    compiled(model, keras.optimizers.SGD(0.1))
    features, labels, _ = first_batch(dataset(model))
    only = tf.constant([1.0, 0, 0, 1])
    batch = features, labels, {"click": only, "click_x": 1 - only}
    history = model.fit(tf.data.Dataset.from_tensors(batch), verbose=0).history
    assert all(np.all(np.isfinite(values)) for values in history.values())


def test_a_task_that_is_added_starts_with_a_fresh_state(build, dataset):
    model = build("grec", weighting="grad_norm")
    compiled(model, keras.optimizers.SGD(0.1))
    trained(model, dataset(model))
    grown = model.add_task(Task(name="buy"))
    old, new = model.weighting, grown.weighting
    assert new.loss_weights.numpy().tolist() == [*old.loss_weights.numpy(), 1.0]
    assert new.first_losses.numpy().tolist() == [*old.first_losses.numpy(), 0.0]


def test_grec_takes_balanced_by_name_and_as_a_dict(build):
    assert build("grec").balanced
    assert build("grec", weighting={"name": "balanced"}).balanced
    assert not build("grec", weighting={"name": "famo"}).balanced


def test_options_come_from_a_dict():
    model = MMoE(TASKS, INPUTS, weighting={"name": "grad_norm", "alpha": 0.25})
    assert model.weighting.alpha == 0.25
    assert model.weighting.weights_by_task == {"click": 1.0, "click_x": 0.5}


@pytest.mark.slow
@every
def test_compiles_with_xla(weighting, build, dataset):
    batches = dataset(build("mmoe")).take(2).unbatch().batch(4, drop_remainder=True)
    histories = []
    for jit_compile in (False, True):
        model = build("mmoe", seed=1, weighting=weighting, l2=0.01)
        compiled(model, keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        histories.append(model.fit(batches, epochs=3, verbose=0).history)
    for key, values in histories[0].items():
        assert histories[1][key] == pytest.approx(values, rel=1e-3), key


@every
def test_batches_of_all_sizes_share_one_trace(weighting, build, dataset):
    model = build("shared_bottom", weighting=weighting)
    traces = []
    original = model.loss_inputs

    def counted(features, training=None):
        traces.append(training)
        return original(features, training=training)

    model.loss_inputs = counted
    compiled(model)
    for batch_size in (4, 3, 5):
        model.fit(dataset(model, batch_size), verbose=0)
    # FAMO evaluates twice in a step.
    assert traces == [True] * (2 if weighting == "famo" else 1)


def test_the_end_of_a_dataset_of_unknown_size_is_no_step(build, dataset):
    model = build("mmoe", weighting="pcgrad")
    batches = dataset(model).take(2).unbatch().batch(8, drop_remainder=True)
    assert batches.cardinality() == tf.data.UNKNOWN_CARDINALITY
    compiled(model)
    model.fit(batches, verbose=0)
    assert int(model.weighting.steps) == 1


@every
def test_weights_need_not_be_made_ahead_of_the_first_batch(weighting, dataset):
    model = SharedBottom(TASKS, INPUTS, weighting=weighting)
    model.compile("sgd")
    assert np.isfinite(model.fit(dataset(model), verbose=0).history["loss"][0])


def test_refuses_another_weighting():
    with pytest.raises(ValueError, match="'static' or 'uncertainty'; received 'gradnorm'"):
        MMoE(TASKS, INPUTS, weighting="gradnorm")
