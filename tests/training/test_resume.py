"""A run that is stopped anywhere, and started again, ends as if nothing had stopped it."""

import csv
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.training.small_experiment import experiment
from tfmtl.training import RunFolder, TrainingState, load_run, prepare_data, train
from tfmtl.training.checkpoint_folder import CheckpointFolder

ROOT = Path(__file__).parents[2]
# Of the four steps of an epoch.
OFTEN = "training.checkpoint_every=2"


def variables(folder, kind):
    """Everything that a checkpoint holds, but how long the epoch took."""
    reader = tf.train.load_checkpoint(str(RunFolder(folder).checkpoints / kind))
    names = reader.get_variable_to_shape_map().keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name) for name in names if not name.startswith("seconds")}


def history(folder):
    with RunFolder(folder).history.open(newline="") as file:
        return [{**row, "seconds": None} for row in csv.DictReader(file)]


def assert_same_runs(one, other):
    """Bit for bit."""
    assert history(one) == history(other)
    for kind in ("last", "best"):
        received, expected = variables(one, kind), variables(other, kind)
        assert received.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(received[name], value, err_msg=f"{kind}: {name}")


def killed(folder, model, moment, epoch, steps, *overrides):
    """Runs until the moment; gives the signal that ended the process."""
    module = "tests.training.killed_process"
    arguments = [str(folder), model, moment, str(epoch), str(steps), *overrides]
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode < 0, process.stderr[-3000:]
    return signal.Signals(-process.returncode)


@pytest.fixture
def stop(monkeypatch):
    """Makes training raise KeyboardInterrupt once, after some steps of an epoch."""

    def at(epoch, steps):
        plain = TrainingState.on_train_batch_end

        def batch_end(self, batch, logs=None):
            if (int(self.epochs_done), self._first_step + batch + 1) == (epoch, steps):
                monkeypatch.setattr(TrainingState, "on_train_batch_end", plain)
                raise KeyboardInterrupt
            plain(self, batch, logs)

        monkeypatch.setattr(TrainingState, "on_train_batch_end", batch_end)

    return at


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """Folder of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(experiment("shared_bottom", OFTEN), folder, data=data)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mmoe", "mogenet", "mgoe"])
def test_a_process_killed_within_an_epoch(model, tmp_path):
    assert killed(tmp_path / "run", model, "step", 1, 3, OFTEN) == signal.SIGKILL
    assert [row["epoch"] for row in history(tmp_path / "run")] == ["1"]
    assert variables(tmp_path / "run", "last")["steps_done/.ATTRIBUTES/VARIABLE_VALUE"] == 2
    chosen = experiment(model, OFTEN)
    data = prepare_data(chosen)
    assert len(data.train) // 128 == 4
    train(chosen, tmp_path / "run", data=data, resume=True)
    train(chosen, tmp_path / "whole", data=data)
    assert_same_runs(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "position"),
    [
        ([("step", 1, 3)], (1, 2)),
        # Before the first checkpoint, and twice in the epoch after.
        ([("step", 0, 1), ("step", 1, 1), ("step", 1, 3)], (1, 2)),
        ([("save", 1, 2)], (1, 0)),
        ([("unrecorded", 1, 2)], (1, 0)),
        # The first checkpoint of all.
        ([("save", 0, 2)], None),
        ([("save", 2, 0)], (1, 2)),
        ([("best", 0, 0)], (0, 2)),
    ],
)
def test_a_process_killed_at_any_moment(kills, position, whole, data, tmp_path):
    folder = tmp_path / "run"
    for moment, epoch, steps in kills:
        expected = signal.SIGXFSZ if moment == "save" else signal.SIGKILL
        assert killed(folder, "shared_bottom", moment, epoch, steps, OFTEN) == expected
    if position is None:
        assert not RunFolder(folder).has_checkpoint
    else:
        last = variables(folder, "last")
        names = [f"{name}_done/.ATTRIBUTES/VARIABLE_VALUE" for name in ("epochs", "steps")]
        assert tuple(last[name] for name in names) == position
    train(experiment("shared_bottom", OFTEN), folder, data=data, resume=True)
    assert_same_runs(folder, whole)
    # Nothing of what was broken off is left.
    for kind in ("last", "best"):
        files = {path.name.partition(".")[0] for path in (folder / "checkpoints" / kind).iterdir()}
        assert len(files - {"checkpoint"}) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "overrides"),
    [
        ("shared_bottom", ["ema_momentum=0.9", "optimizer=sgd"]),
        ("shared_bottom", ["precision=float16"]),
        ("shared_bottom", ["learning_rate_schedule=cosine", "warmup_steps=7"]),
        # The middle of the second call of an epoch of 4 steps is not where a call begins.
        ("shared_bottom", ["steps_per_execution=3", "checkpoint_every=3"]),
        ("mmoe", ["telemetry=true", "clip_norm=0.1"]),
    ],
)
def test_options_outlast_an_interruption(model, overrides, data, stop, tmp_path):
    chosen = experiment(model, OFTEN, *(f"training.{override}" for override in overrides))
    train(chosen, tmp_path / "whole", data=data)
    # After three steps there is a call's end with any of the options.
    for epoch in (0, 2):
        stop(epoch, 3)
        with pytest.raises(KeyboardInterrupt):
            train(chosen, tmp_path / "run", data=data, resume=True)
    train(chosen, tmp_path / "run", data=data, resume=True)
    assert_same_runs(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["uncertainty", "dwa", "grad_norm", "famo"])
def test_what_weightings_have_learned_outlasts_an_interruption(weighting, data, stop, tmp_path):
    chosen = experiment("mmoe", OFTEN, f"model.hyperparameters.weighting={weighting}")
    train(chosen, tmp_path / "whole", data=data)
    stop(1, 3)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "run", data=data, resume=True)
    train(chosen, tmp_path / "run", data=data, resume=True)
    assert_same_runs(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_patience_outlasts_an_interruption_within_an_epoch(data, stop, monkeypatch, tmp_path):
    values = [0.5, 0.8, 0.7, 0.75, 0.9]
    plain = TrainingState.on_epoch_end
    monkeypatch.setattr(
        TrainingState,
        "on_epoch_end",
        lambda self, epoch, logs: plain(self, epoch, {**logs, "val_auc": values[epoch]}),
    )
    chosen = experiment("shared_bottom", OFTEN, "training.patience=1", "training.epochs=5")
    stop(3, 3)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "run", data=data)
    # The best epoch is the second; the third and the one interrupted use up the patience.
    model = train(chosen, tmp_path / "run", data=data, resume=True)
    assert [row["epoch"] for row in history(tmp_path / "run")] == ["1", "2", "3", "4"]
    assert int(model.optimizer.iterations) == 2 * 4
    before = variables(tmp_path / "run", "last")
    train(chosen, tmp_path / "run", data=data, resume=True)
    assert len(history(tmp_path / "run")) == 4
    assert before.keys() == variables(tmp_path / "run", "last").keys()


@pytest.mark.slow
def test_minutes_make_checkpoints_too(data, stop, tmp_path):
    chosen = experiment("shared_bottom", "training.checkpoint_minutes=1e-9")
    stop(0, 3)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path, data=data)
    assert variables(tmp_path, "last")["steps_done/.ATTRIBUTES/VARIABLE_VALUE"] == 2


@pytest.mark.slow
def test_the_seconds_of_an_epoch_are_those_of_all_its_parts(data, stop, tmp_path):
    chosen = experiment("shared_bottom", OFTEN, "training.epochs=1")
    stop(0, 3)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path, data=data)
    reader = tf.train.load_checkpoint(str(RunFolder(tmp_path).checkpoints / "last"))
    before = reader.get_tensor("seconds/.ATTRIBUTES/VARIABLE_VALUE")
    train(chosen, tmp_path, data=data, resume=True)
    with RunFolder(tmp_path).history.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < before < float(row["seconds"])


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before(data, whole, monkeypatch, tmp_path):
    saves = []
    plain = tf.train.CheckpointManager.save

    def save(self, *args, **options):
        saves.append(self.directory)
        if len(saves) == 4:
            raise tf.errors.ResourceExhaustedError(None, None, "x.tempstate; No space left on dev")
        return plain(self, *args, **options)

    monkeypatch.setattr(tf.train.CheckpointManager, "save", save)
    # Step 2 of epoch 1, its end as the best and as the last; step 2 of epoch 2.
    chosen = experiment("shared_bottom", OFTEN)
    message = r"cannot write the checkpoint .*last/ckpt-3: .*No space left.* MB are free: make room"
    with pytest.raises(OSError, match=message):
        train(chosen, tmp_path / "run", data=data)
    assert variables(tmp_path / "run", "last")["epochs_done/.ATTRIBUTES/VARIABLE_VALUE"] == 1
    assert load_run(tmp_path / "run").experiment.resolved() == chosen.resolved()
    train(chosen, tmp_path / "run", data=data, resume=True)
    assert_same_runs(tmp_path / "run", whole)


@pytest.mark.slow
def test_checkpoints_of_a_folder_without_experiment_are_not_deleted(data, whole, tmp_path):
    run = RunFolder(tmp_path / "run")
    state = tf.train.Checkpoint(one=tf.Variable(1.0))
    CheckpointFolder(state, run.checkpoints / "last", size=4).save()
    with pytest.raises(ValueError, match=r"has checkpoints and no experiment\.yaml: put it back"):
        train(experiment("shared_bottom"), run.path, data=data, resume=True)
    assert run.has_checkpoint
