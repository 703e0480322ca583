import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tests.training.small_experiment import experiment
from tfmtl.models import predict_log
from tfmtl.training import (
    TrainingState,
    ValidationMetrics,
    WeightAverage,
    evaluate_log,
    load_run,
    mean_metric,
    train,
)


class Followed(keras.callbacks.Callback):
    """Keeps the weights after every step."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_train_begin(self, logs=None):
        self.on_train_batch_end(0)

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append([weight.numpy() for weight in self.model.trainable_weights])


def recursion(weights, momentum):
    """a_0 = w_0, a_t = m a_{t-1} + (1 - m) w_t."""
    averages = weights[0]
    for step in weights[1:]:
        averages = [
            momentum * average + (1 - momentum) * weight
            for average, weight in zip(averages, step, strict=True)
        ]
    return averages


@pytest.mark.parametrize("jit_compile", [False, True])
def test_averages_follow_the_recursion(jit_compile):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])
    model.build([None, 2])
    model.compile(keras.optimizers.Adam(0.1), loss="mse", jit_compile=jit_compile)
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=[12, 2]), rng.normal(size=[12, 1])
    average, followed = WeightAverage(0.7), Followed()
    # `fit` binds the callbacks before the first step; the second call goes on from there.
    for _ in range(2):
        model.fit(x, y, batch_size=4, callbacks=[average, followed], verbose=0)
        average.swap()
    steps = [*followed.weights[:4], *followed.weights[5:]]
    assert len(steps) == 1 + 6
    for received, expected in zip(average.averages, recursion(steps, 0.7), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-7)
    for weight, expected in zip(model.trainable_weights, steps[-1], strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_swapping_twice_changes_nothing():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.build([None, 2])
    model.compile(loss="mse")
    average = WeightAverage(0.5)
    average.set_model(model)
    average.averages[0].assign([[5.0], [6.0]])
    before = model.weights[0].numpy()
    average.swap()
    np.testing.assert_array_equal(model.weights[0], [[5.0], [6.0]])
    np.testing.assert_array_equal(average.averages[0], before)
    average.swap()
    np.testing.assert_array_equal(model.weights[0], before)


@pytest.mark.parametrize("momentum", [0, 1, -0.5])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=f"momentum between 0 and 1; received {momentum}"):
        WeightAverage(momentum)


@pytest.mark.slow
def test_averages_are_validated_selected_and_left_behind(data, monkeypatch, tmp_path):
    seen = {}

    def note(name, owner, method):
        plain = getattr(owner, method)

        def noted(self, *args, **options):
            weights = [weight.numpy() for weight in self.model.trainable_weights]
            seen.setdefault(name, []).append(weights)
            return plain(self, *args, **options)

        monkeypatch.setattr(owner, method, noted)

    note("trained", TrainingState, "on_train_batch_end")
    note("validated", ValidationMetrics, "on_epoch_end")
    note("last", TrainingState, "_save_last")
    # Of two epochs of four steps the second is better, whatever the metrics are.
    chosen = experiment("shared_bottom", "training.ema_momentum=0.5", "training.epochs=2")
    plain = ValidationMetrics.on_epoch_end

    def second_is_best(self, epoch, logs=None):
        plain(self, epoch, logs)
        logs["val_auc"] = float(epoch)

    monkeypatch.setattr(ValidationMetrics, "on_epoch_end", second_is_best)
    model = train(chosen, tmp_path, data=data)
    for epoch in (0, 1):
        last_step = seen["trained"][4 * epoch + 3]
        for weight, expected in zip(seen["last"][epoch], last_step, strict=True):
            np.testing.assert_array_equal(weight, expected)
    # From the first epoch's averages on, those of its end are what was validated.
    steps = [seen["validated"][0], *seen["trained"][4:]]
    for weight, received, expected in zip(
        model.trainable_weights, seen["validated"][1], recursion(steps, 0.5), strict=True
    ):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(weight, received)
    run = load_run(tmp_path)
    assert mean_metric(evaluate_log(run.model, data.validation), "log_loss") == pytest.approx(
        float(last_value(tmp_path, "val_log_loss")), abs=1e-9
    )
    scores, expected = predict_log(run.model, data.test), predict_log(model, data.test)
    np.testing.assert_array_equal(scores["click"], expected["click"])


def last_value(folder, name):
    first, *_, last = (folder / "history.csv").read_text().splitlines()
    return dict(zip(first.split(","), last.split(","), strict=True))[name]


def test_tables_and_lists_of_averages_are_in_checkpoints(tmp_path):
    model = keras.Sequential([keras.layers.Embedding(4, 2)])
    model.build([None])
    model.compile(loss="mse")
    average = WeightAverage(0.5)
    average.set_model(model)
    average.averages[0].assign(tf.ones([4, 2]))
    path = tf.train.Checkpoint(averages=average.averages).write(str(tmp_path / "one"))
    average.averages[0].assign(tf.zeros([4, 2]))
    tf.train.Checkpoint(averages=average.averages).read(path).assert_consumed()
    np.testing.assert_array_equal(average.averages[0], np.ones([4, 2]))
