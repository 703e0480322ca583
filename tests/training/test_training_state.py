import math

import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.training import CheckpointError, TrainingState
from tfmtl.training.training_state import restore_checkpoint


def new_model(units=1):
    model = keras.Sequential([keras.layers.Dense(units, use_bias=False)])
    model.compile(optimizer="sgd", loss="mse")
    model.build([None, 2])
    model.optimizer.build(model.trainable_variables)
    return model


def new_state(folder, model=None, *, monitor="val_auc", greater=True, patience=1, **options):
    state = TrainingState(
        folder, monitor=monitor, greater_is_better=greater, patience=patience, **options
    )
    state.set_model(new_model() if model is None else model)
    return state


def run(state, values, start=0):
    """Ends epochs with the given values, the weights of epoch e all being e."""
    state.model.stop_training = False
    for epoch, value in enumerate(values, start):
        state.model.set_weights([tf.fill([2, 1], float(epoch + 1))])
        state.on_epoch_end(epoch, {state.monitor: value})
        if state.model.stop_training:
            return epoch + 1
    return None


def weight(state):
    return float(state.model.get_weights()[0][0, 0])


@pytest.mark.parametrize(
    ("patience", "values", "stopped_after"),
    [
        (0, [0.5, 0.6, 0.6], 3),
        (1, [0.5, 0.4, 0.3, 0.9], 3),
        (2, [0.5, 0.4, 0.3, 0.2, 0.9], 4),
        # The count starts again with every improvement.
        (1, [0.5, 0.4, 0.6, 0.5, 0.5], 5),
        (2, [0.5, 0.4, 0.3], None),
    ],
)
def test_patience(patience, values, stopped_after, tmp_path):
    state = new_state(tmp_path, patience=patience)
    assert run(state, values) == stopped_after
    assert state.exhausted == (stopped_after is not None)


def test_the_best_epoch_is_restored(tmp_path):
    state = new_state(tmp_path, patience=9)
    run(state, [0.5, 0.7, 0.6])
    assert weight(state) == 3
    state.restore("best")
    assert weight(state) == 2
    assert float(state.best_value.numpy()) == pytest.approx(0.7)
    state.restore("last")
    assert weight(state) == 3


def test_a_loss_is_better_when_smaller(tmp_path):
    state = new_state(tmp_path, monitor="val_log_loss", greater=False, patience=9)
    run(state, [0.5, 0.4, 0.6])
    assert int(state.best_epoch.numpy()) == 2
    state.restore("best")
    assert weight(state) == 2


def test_nan_never_improves_but_the_first_epoch_is_kept(tmp_path):
    state = new_state(tmp_path, patience=9)
    run(state, [math.nan])
    assert int(state.best_epoch.numpy()) == 1
    assert state.improves(-5.0)
    run(state, [math.nan, 0.3, math.nan], start=1)
    assert int(state.best_epoch.numpy()) == 3


def test_a_new_process_goes_on_with_counters_and_patience(tmp_path):
    run(new_state(tmp_path, patience=1), [0.5, 0.8, 0.7])
    state = new_state(tmp_path, patience=1)
    state.restore("last")
    assert [int(state.epochs_done.numpy()), int(state.best_epoch.numpy())] == [3, 2]
    assert float(state.best_value.numpy()) == pytest.approx(0.8)
    assert weight(state) == 3
    assert not state.improves(0.75)
    # One epoch without improvement lies behind: the next one is the last.
    assert run(state, [0.75], start=3) == 4
    state.restore("best")
    assert weight(state) == 2


def test_one_checkpoint_of_each_kind_is_kept(tmp_path):
    run(new_state(tmp_path, patience=9), [0.5, 0.6, 0.7])
    state = new_state(tmp_path, patience=9)
    state.restore("last")
    run(state, [0.8, 0.1], start=3)
    for name in ("best", "last"):
        assert len(list((tmp_path / name).glob("*.index"))) == 1


def test_nothing_to_restore(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint under .*last: .* start it again$"):
        new_state(tmp_path).restore("last")


def begun(state, steps):
    state.set_params({"steps": steps})
    state.on_epoch_begin(0)
    return state


def saved_steps(tmp_path):
    """Where a new process would go on."""
    state = new_state(tmp_path)
    state.restore("last")
    return int(state.epochs_done), int(state.steps_done)


@pytest.mark.parametrize(
    ("every", "batches", "saved"),
    [
        # The numbers of the last steps of calls, and the steps after which a checkpoint is due.
        (2, range(6), [2, 4]),
        (1, range(3), [1, 2]),
        (4, range(6), [4]),
        (6, range(6), []),
        # Calls of three steps end after steps 3, 6 and 8: those passed 2, 4 or 6, and the last.
        (2, [2, 5, 7], [3, 6]),
        (5, [2, 5, 7], [6]),
    ],
)
def test_steps_after_which_the_run_is_saved(every, batches, saved, tmp_path):
    state = begun(new_state(tmp_path, every_steps=every), steps=batches[-1] + 1)
    received = []
    for batch in batches:
        before = int(state.steps_done)
        state.on_train_batch_end(batch)
        if int(state.steps_done) != before:
            assert saved_steps(tmp_path) == (0, batch + 1)
            received.append(batch + 1)
    assert received == saved


def test_numbers_of_steps_go_on_after_an_interruption(tmp_path):
    state = begun(new_state(tmp_path, every_steps=2), steps=7)
    for batch in range(5):
        state.on_train_batch_end(batch)
    assert saved_steps(tmp_path) == (0, 4)
    state = new_state(tmp_path, every_steps=2)
    state.restore("last")
    begun(state, steps=3)
    state.on_train_batch_end(0)
    assert saved_steps(tmp_path) == (0, 4)
    state.on_train_batch_end(1)
    assert saved_steps(tmp_path) == (0, 6)
    state.on_train_batch_end(2)
    state.on_epoch_end(0, {"val_auc": 0.5})
    assert saved_steps(tmp_path) == (1, 0)


def test_minutes_after_which_the_run_is_saved(monkeypatch, tmp_path):
    now = [100.0]
    monkeypatch.setattr("tfmtl.training.training_state.time.perf_counter", lambda: now[0])
    state = begun(new_state(tmp_path, every_minutes=2), steps=9)
    saved = []
    for batch in range(6):
        now[0] += 50
        before = int(state.steps_done)
        state.on_train_batch_end(batch)
        if int(state.steps_done) != before:
            saved.append(batch + 1)
            # The seconds of the epoch go on from here, whatever the clock says.
            assert float(state.seconds) == 50 * (batch + 1)
    # 150 s after the start, and as long after that.
    assert saved == [3, 6]
    now[0] = 5.0
    state = new_state(tmp_path, every_minutes=2)
    state.restore("last")
    begun(state, steps=3)
    now[0] = 7.0
    assert state.elapsed() == 302


def test_means_of_an_epoch_are_taken_up_after_its_beginning(tmp_path):
    def averaging(*values):
        model = new_model()
        model.average = keras.metrics.Mean(name="average")
        model.average.update_state(list(values))
        return model

    state = begun(new_state(tmp_path, averaging(2.0, 4.0), every_steps=1), steps=4)
    state.on_train_batch_end(0)
    model = averaging(9.0)
    state = new_state(tmp_path, model)
    state.restore("last")
    model.reset_metrics()
    begun(state, steps=3)
    assert float(model.average.result()) == 3
    model.average.update_state([6.0])
    assert float(model.average.result()) == 4
    # Once: the next epoch begins at 0.
    model.reset_metrics()
    state.on_epoch_begin(1)
    assert float(model.average.result()) == 0


def test_what_the_check_refuses_is_not_saved(tmp_path):
    class SpoiltError(Exception):
        pass

    def check():
        if weight(state) > 1:
            raise SpoiltError

    state = begun(new_state(tmp_path, every_steps=1, check=check), steps=9)
    state.model.set_weights([tf.ones([2, 1])])
    state.on_train_batch_end(0)
    state.model.set_weights([tf.fill([2, 1], 2.0)])
    with pytest.raises(SpoiltError):
        state.on_train_batch_end(1)
    assert saved_steps(tmp_path) == (0, 1)


@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_a_damaged_checkpoint_is_named(damage, tmp_path):
    run(new_state(tmp_path), [0.5])
    (file,) = (tmp_path / "last").glob("*.data-*")
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:10])
    else:
        file.unlink()
    message = r"cannot restore .*last/ckpt-\d+: .*damaged or of another model: train into another"
    with pytest.raises(CheckpointError, match=message) as caught:
        new_state(tmp_path).restore("last")
    assert "\n" not in str(caught.value)


def test_another_model_is_refused(tmp_path):
    run(new_state(tmp_path), [0.5])
    with pytest.raises(CheckpointError, match="damaged or of another model"):
        new_state(tmp_path, new_model(units=3)).restore("last")
    other = tf.train.Checkpoint(other=tf.Variable(1.0))
    path = tf.train.latest_checkpoint(str(tmp_path / "last"))
    with pytest.raises(CheckpointError, match="damaged or of another model"):
        restore_checkpoint(other, path)
