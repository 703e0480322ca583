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


def new_state(folder, model=None, *, monitor="val_auc", greater=True, patience=1):
    state = TrainingState(folder, monitor=monitor, greater_is_better=greater, patience=patience)
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
    with pytest.raises(CheckpointError, match=r"no checkpoint under .*last.*without --resume"):
        new_state(tmp_path).restore("last")


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
