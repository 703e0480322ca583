from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.training.small_experiment import experiment
from tfmtl.data import training_dataset
from tfmtl.training import NonFiniteLossError, RunFolder, train
from tfmtl.training.finite_losses import FiniteLosses

OFTEN = "training.checkpoint_every=1"
BATCH = 128


def spoiled(data, group, name, value):
    """The data with a bad value in a row of the third batch of the second epoch."""
    rows = len(data.train)
    order = np.arange(rows, dtype=np.int32)
    np.random.default_rng((0, 1)).shuffle(order)
    candidates = order[2 * BATCH : 3 * BATCH]
    # One on which all tasks are defined.
    defined = np.all(list(data.train.weights.values()), axis=0)
    # A row that the first epoch leaves out, as it fills no batch.
    first = np.arange(rows, dtype=np.int32)
    np.random.default_rng((0, 0)).shuffle(first)
    left_out = set(first[rows // BATCH * BATCH :])
    row = next(row for row in candidates if row in left_out and defined[row])
    columns = dict(getattr(data.train, group))
    columns[name] = columns[name].copy()
    columns[name][row] = value
    return replace(data, train=replace(data.train, **{group: columns}))


def position(folder):
    reader = tf.train.load_checkpoint(str(RunFolder(folder).checkpoints / "last"))
    return tuple(
        int(reader.get_tensor(f"{name}_done/.ATTRIBUTES/VARIABLE_VALUE"))
        for name in ("epochs", "steps")
    )


def test_the_row_is_where_the_tests_think(data):
    bad = spoiled(data, "labels", "click", np.nan)
    dataset = training_dataset(bad.train, batch_size=BATCH)
    found = [
        (epoch, step)
        for epoch in range(2)
        for step, (_, labels, _) in enumerate(dataset)
        if np.isnan(labels["click"]).any()
    ]
    assert found == [(1, 2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [[], ["training.jit_compile=true"], ["training.steps_per_execution=4"]],
)
def test_a_bad_label_is_named_with_task_epoch_and_batch(overrides, data, tmp_path):
    bad = spoiled(data, "labels", "like", np.nan)
    message = (
        r"^the loss of task 'like' is not finite at batch 3 of epoch 2, which has values that are "
        r"not finite in label 'like'; the last checkpoint is from before it: correct the data, or "
        r"lower training.learning_rate or set training.clip_norm"
    )
    with pytest.raises(NonFiniteLossError, match=message):
        train(experiment("mmoe", OFTEN, *overrides), tmp_path, data=bad)
    assert position(tmp_path) == ((1, 0) if "steps" in str(overrides) else (1, 2))
    # With the data as it was, the run goes on as if there had been no such row.
    model = train(experiment("mmoe", OFTEN, *overrides), tmp_path, data=data, resume=True)
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


@pytest.mark.slow
def test_a_bad_feature_is_named_with_all_tasks_that_it_spoils(data, tmp_path):
    name = next(name for name, column in data.train.features.items() if column.dtype == np.float32)
    bad = spoiled(data, "features", name, np.inf)
    tasks = ", ".join(f"'{task}'" for task in data.train.labels)
    message = f"^the loss of tasks {tasks} is not finite at batch 3 .* in feature '{name}'; the"
    with pytest.raises(NonFiniteLossError, match=message):
        train(experiment("shared_bottom"), tmp_path, data=bad)
    # No step was saved in between: the last epoch is what there is.
    assert position(tmp_path) == (1, 0)


@pytest.fixture
def watched():
    model = keras.Sequential([keras.layers.Dense(2, name="one"), keras.layers.Dense(1, name="two")])
    model.build([None, 3])
    model.compile(loss="mse")
    losses = FiniteLosses()
    losses.set_model(model)
    losses.on_epoch_begin(4)
    return losses


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(value, watched):
    watched.check()
    kernel = watched.model.layers[1].kernel
    kernel.assign([[1.0], [value]])
    message = r"weights \['two/kernel:0'\] are not finite after 0 steps of epoch 5, at finite loss"
    with pytest.raises(NonFiniteLossError, match=message):
        watched.check()


def test_large_weights_are_finite(watched):
    """A sum of them is not."""
    watched.model.layers[0].kernel.assign(np.full([3, 2], 3e38))
    watched.check()


@pytest.mark.slow
def test_a_long_epoch_does_not_go_on_to_its_end(data, monkeypatch, tmp_path):
    monkeypatch.setattr("tfmtl.training.finite_losses._LOOK_EVERY", 2)
    steps = []
    plain = FiniteLosses.on_train_batch_end

    def noted(self, batch, logs=None):
        steps.append(batch)
        plain(self, batch, logs)

    monkeypatch.setattr(FiniteLosses, "on_train_batch_end", noted)
    bad = spoiled(data, "labels", "like", np.inf)
    with pytest.raises(NonFiniteLossError, match="not finite at batch 3 of epoch 2, which"):
        train(experiment("shared_bottom"), tmp_path, data=bad)
    assert steps == [0, 1, 2, 3, 0, 1, 2]


@pytest.mark.slow
def test_a_run_without_fault_is_left_alone(data, finished, tmp_path):
    model = train(experiment(), tmp_path / "run", data=data)
    assert "train_step" not in vars(model)
