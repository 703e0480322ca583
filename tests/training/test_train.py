import csv
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from tests.training.interrupted_process import STEPS
from tests.training.small_experiment import experiment
from tfmtl.data import HeldOutLog, InteractionLog, Split, TrainingLog
from tfmtl.datasets import LoadedDataset
from tfmtl.graph import GraphBundle, NeighborSampler
from tfmtl.models import predict_log
from tfmtl.schema import Feature, Schema, Task
from tfmtl.training import (
    CheckpointError,
    ExperimentError,
    RunFolder,
    ValidationMetrics,
    evaluate_log,
    load_run,
    mean_metric,
    prepare_data,
    train,
    whole_graph_states,
)

ROOT = Path(__file__).parents[2]


def history(folder):
    with RunFolder(folder).history.open(newline="") as file:
        return list(csv.DictReader(file))


def epochs(folder):
    return [int(row["epoch"]) for row in history(folder)]


def assert_same_histories(one, other):
    assert epochs(one) == epochs(other)
    for row, expected in zip(history(one), history(other), strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() - {"seconds"}:
            value = row[name]
            assert float(value) == pytest.approx(float(expected[name]), rel=1e-4, nan_ok=True), name


def assert_same_predictions(data, one, other):
    scores, expected = (
        predict_log(model, data.test, node_states=whole_graph_states(model, data.bundle))
        for model in (one, other)
    )
    for task, values in expected.items():
        np.testing.assert_allclose(scores[task], values, rtol=1e-4, err_msg=task)


@pytest.fixture
def interrupt(monkeypatch):
    """Makes training raise KeyboardInterrupt in an epoch, after some of its steps."""

    def at(epoch, step):
        def begin(self, number, logs=None):
            self.current = number

        def batch(self, number, logs=None):
            if (self.current, number) == (epoch, step):
                raise KeyboardInterrupt

        monkeypatch.setattr(ValidationMetrics, "on_epoch_begin", begin)
        monkeypatch.setattr(ValidationMetrics, "on_train_batch_end", batch, raising=False)
        return monkeypatch

    return at


@pytest.fixture
def validation(monkeypatch):
    """Puts given numbers in the place of the validation metric."""

    def values(name, *numbers):
        def end(self, epoch, logs=None):
            logs[f"val_{name}"] = numbers[epoch]
            for other in {"auc", "gauc", "log_loss"} - {name}:
                logs[f"val_{other}"] = 0.5

        monkeypatch.setattr(ValidationMetrics, "on_epoch_end", end)

    return values


@pytest.mark.slow
def test_a_run_leaves_everything_behind(finished, data):
    folder, model = finished
    run = RunFolder(folder)
    assert {path.name for path in folder.iterdir()} == {
        "experiment.yaml",
        "encoder",
        "checkpoints",
        "history.csv",
        "curves.png",
        "tensorboard",
    }
    assert yaml.safe_load(run.experiment.read_text()) == experiment().resolved()
    assert {path.name for path in run.checkpoints.iterdir()} == {"last", "best"}
    assert {path.name for path in run.tensorboard.iterdir()} == {"train", "validation"}
    assert epochs(folder) == [1, 2, 3]
    assert [float(row["lr"]) for row in history(folder)] == pytest.approx([0.01] * 3)
    losses = [float(row["loss"]) for row in history(folder)]
    assert losses[2] < losses[0]
    assert all(float(row["seconds"]) > 0 for row in history(folder))
    # The model that is handed back is that of the best epoch, not of the last.
    best = max(float(row["val_auc"]) for row in history(folder))
    assert mean_metric(evaluate_log(model, data.validation), "auc") == pytest.approx(best, abs=1e-9)


@pytest.mark.slow
def test_a_folder_that_holds_a_run_is_refused(finished, data):
    before = (finished[0] / "history.csv").read_text()
    with pytest.raises(ExperimentError, match=r"already holds a run: resume it, or train into ano"):
        train(experiment(), finished[0], data=data)
    assert (finished[0] / "history.csv").read_text() == before


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        (["learning_rate_decay=0.5"], [0.01, 0.005, 0.0025]),
        (["learning_rate_schedule=linear"], [0.01, 0.01 * 2 / 3, 0.01 / 3]),
        (["learning_rate_schedule=cosine"], [0.01, 0.0075, 0.0025]),
        # A step of the four of an epoch has 1/8 of the rate, the fifth 5/8.
        (["warmup_steps=8"], [0.01 / 8, 0.01 * 5 / 8, 0.01]),
    ],
)
def test_rates_at_the_start_of_each_epoch(settings, rates, data, tmp_path):
    chosen = experiment("shared_bottom", *(f"training.{setting}" for setting in settings))
    train(chosen, tmp_path / "run", data=data)
    assert [float(row["lr"]) for row in history(tmp_path / "run")] == pytest.approx(rates)


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting", ["steps_per_execution=3", "checkpoint_every=1", "clip_norm=1e9"]
)
def test_what_makes_a_run_faster_or_safer_does_not_change_it(setting, finished, data, tmp_path):
    chosen = experiment("shared_bottom", f"training.{setting}")
    model = train(chosen, tmp_path / "run", data=data)
    assert_same_histories(tmp_path / "run", finished[0])
    assert_same_predictions(data, model, finished[1])


@pytest.mark.slow
def test_a_compiled_run_equals_one_that_is_not(data, tmp_path):
    # XLA draws other random numbers for dropout.
    models = []
    for setting in ("false", "true"):
        chosen = experiment(
            "mmoe", f"training.jit_compile={setting}", "model.hyperparameters.dropout=0"
        )
        models.append(train(chosen, tmp_path / setting, data=data))
    assert models[1].jit_compile
    assert_same_histories(tmp_path / "true", tmp_path / "false")
    assert_same_predictions(data, *models)


@pytest.mark.slow
@pytest.mark.parametrize("bound", [0.01, 0.02])
def test_a_clipped_gradient_makes_a_step_as_long_as_its_bound(bound, data, monkeypatch, tmp_path):
    before = []

    def note(self, logs=None):
        before.extend(weight.numpy() for weight in self.model.trainable_weights)

    monkeypatch.setattr(ValidationMetrics, "on_train_begin", note)
    options = ("optimizer=sgd", "epochs=1", f"clip_norm={bound}", "batch_size=500")
    chosen = experiment("shared_bottom", *(f"training.{option}" for option in options))
    assert len(data.train) // 500 == 1
    model = train(chosen, tmp_path, data=data)
    changes = [
        weight.numpy() - old for weight, old in zip(model.trainable_weights, before, strict=True)
    ]
    # One step of plain gradient descent at the rate 0.01. Keras takes the norm of a table's
    # gradient before it sums those of a row that the batch looks up more than once.
    length = np.sqrt(sum(np.sum(change**2) for change in changes))
    assert length == pytest.approx(0.01 * bound, rel=0.05)


@pytest.mark.slow
def test_a_finished_run_resumes_to_its_best_epoch(finished, data):
    folder, model = finished
    before = (folder / "history.csv").read_text()
    assert_same_predictions(data, train(experiment(), folder, data=data, resume=True), model)
    assert (folder / "history.csv").read_text() == before


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(finished, data, interrupt, tmp_path):
    folder = tmp_path / "run"
    with interrupt(1, 2).context(), pytest.raises(KeyboardInterrupt):
        train(experiment(), folder, data=data)
    assert epochs(folder) == [1]
    assert not RunFolder(folder).curves.exists()
    assert load_run(folder).experiment.resolved() == experiment().resolved()
    # Killed between the line and the checkpoint of an epoch, a run has a line too many.
    rows = (folder / "history.csv").read_text().splitlines()
    surplus = rows[1].replace("1,", "2,", 1)
    (folder / "history.csv").write_text("\n".join([*rows, surplus]) + "\n")
    interrupt(99, 0)
    model = train(experiment(), folder, data=data, resume=True)
    assert_same_histories(folder, finished[0])
    assert_same_predictions(data, model, finished[1])
    assert RunFolder(folder).curves.exists()


@pytest.mark.slow
def test_a_killed_process_is_resumed(graph_data, tmp_path):
    module = "tests.training.interrupted_process"
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(tmp_path / "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline().strip() == "stuck"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(graph_data.train) // 128 > STEPS
    assert epochs(tmp_path / "run") == [1]
    chosen = experiment("mogenet")
    bundle = GraphBundle.load(tmp_path / "run" / "graph")
    data = prepare_data(chosen, bundle=bundle)
    resumed = train(chosen, tmp_path / "run", data=data, resume=True)
    whole = train(chosen, tmp_path / "whole", data=graph_data)
    assert_same_histories(tmp_path / "run", tmp_path / "whole")
    assert_same_predictions(graph_data, resumed, whole)
    run = load_run(tmp_path / "run")
    assert set(run.bundle.edge_sets) == set(graph_data.bundle.edge_sets)
    assert_same_predictions(graph_data, run.model, whole)


@pytest.mark.slow
def test_patience_and_best_value_outlast_an_interruption(data, interrupt, validation, tmp_path):
    chosen = experiment("shared_bottom", "training.patience=1", "training.epochs=9")
    validation("auc", 0.5, 0.8, 0.7, 0.75, 0.9)
    with interrupt(3, 0).context(), pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path, data=data)
    validation("auc", 0.5, 0.8, 0.7, 0.75, 0.9)
    interrupt(99, 0)
    model = train(chosen, tmp_path, data=data, resume=True)
    # The best epoch is the second; the third and fourth use up the patience.
    assert epochs(tmp_path) == [1, 2, 3, 4]
    assert_same_predictions(data, model, load_run(tmp_path).model)
    # A run that has stopped early stays stopped.
    train(chosen, tmp_path, data=data, resume=True)
    assert epochs(tmp_path) == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_log_loss_is_best_when_smallest(data, validation, finished, tmp_path):
    chosen = experiment("shared_bottom", "training.monitor=log_loss", "training.patience=0")
    validation("log_loss", 0.6, 0.7, 0.1)
    model = train(chosen, tmp_path, data=data)
    assert epochs(tmp_path) == [1, 2]
    # The weights are those of the first epoch, which the undisturbed run has passed as well.
    state = [float(row["loss"]) for row in history(tmp_path)]
    assert state == pytest.approx([float(row["loss"]) for row in history(finished[0])[:2]])
    assert int(model.optimizer.iterations) == len(data.train) // 128


@pytest.mark.slow
@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_a_checkpoint_starts_again(
    resume, finished, data, interrupt, caplog, tmp_path
):
    with interrupt(0, 2).context(), pytest.raises(KeyboardInterrupt):
        train(experiment(), tmp_path, data=data)
    # What was killed between the best and the last checkpoint of its first epoch.
    best = RunFolder(tmp_path).checkpoints / "best"
    shutil.copytree(RunFolder(finished[0]).checkpoints / "best", best)
    stray = best / "stray"
    stray.touch()
    interrupt(99, 0)
    train(experiment(), tmp_path, data=data, resume=resume)
    assert_same_histories(tmp_path, finished[0])
    assert not stray.exists()
    said = [record.getMessage() for record in caplog.records if "tfmtl" in record.name]
    assert (
        said
        == [f"no checkpoint to resume under {tmp_path}: the run starts at its beginning"][
            : int(resume)
        ]
    )


@pytest.mark.slow
def test_the_test_part_has_no_say_in_training(finished, data, tmp_path):
    """An epoch chosen on the test rows makes their metrics those of a training set."""

    class Sealed:
        def __getattribute__(self, name):
            raise AssertionError(f"training looked at {name} of the test part")

    model = train(experiment(), tmp_path / "run", data=replace(data, test=Sealed()))
    assert_same_histories(tmp_path / "run", finished[0])
    assert_same_predictions(data, model, finished[1])


@pytest.mark.slow
def test_a_run_that_left_nothing_starts_by_resuming(finished, data, tmp_path):
    train(experiment(), tmp_path / "run", data=data, resume=True)
    assert_same_histories(tmp_path / "run", finished[0])


@pytest.mark.slow
def test_another_experiment_is_not_resumed(finished, data):
    chosen = experiment(
        "shared_bottom",
        "training.epochs=4",
        "statistics.prior=2",
        "graph.fan_out=[2]",
        "dataset.options.seed=5",
    )
    message = (
        r"is another experiment, it differs in dataset\.options\.seed \(None in the run, 5 now\), "
        r"statistics\.prior \(.* in the run, 2\.0 now\), graph\.fan_out \(\[3\] in the run, \[2\] "
        r"now\), training\.epochs \(3 in the run, 4 now\): resume it with"
    )
    with pytest.raises(ExperimentError, match=message):
        train(chosen, finished[0], data=data, resume=True)


@pytest.mark.slow
def test_another_experiment_is_not_resumed_before_its_first_checkpoint(data, interrupt, tmp_path):
    with interrupt(0, 0).context(), pytest.raises(KeyboardInterrupt):
        train(experiment(), tmp_path, data=data)
    interrupt(99, 0)
    with pytest.raises(ExperimentError, match=r"differs in model\.name \('shared_bottom' in the r"):
        train(experiment("mmoe"), tmp_path, data=data, resume=True)


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused(finished, data, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    chosen = experiment("shared_bottom", "model.hyperparameters.bottom_units=[5]")
    RunFolder(tmp_path / "run").experiment.write_text(chosen.to_yaml())
    with pytest.raises(CheckpointError, match=r"cannot restore .*last/ckpt-3.*of another model"):
        train(chosen, tmp_path / "run", data=data, resume=True)


@pytest.mark.slow
def test_a_run_is_not_resumed_on_other_data(finished):
    other = prepare_data(experiment("shared_bottom", "dataset.options.seed=3"))
    with pytest.raises(
        ExperimentError, match=r"the data changed since the run under .* began: res"
    ):
        train(experiment(), finished[0], data=other, resume=True)


def test_a_log_without_users_cannot_be_selected_by_gauc(data, tmp_path):
    schema = Schema(
        user=None, item=None, tasks=[Task(name="rich")], features=[Feature(name="age", column="a")]
    )
    rows = pa.table({"a": [1, 2, 3, 4], "rich": [0, 1, 0, 1]})
    parts = [kind(rows, schema) for kind in (TrainingLog, HeldOutLog, HeldOutLog)]
    loaded = LoadedDataset("x", InteractionLog(rows, schema), None, Split(*parts), "", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfmtl.training.prepared_data.load", lambda *_, **__: loaded)
        chosen = experiment("shared_bottom", "statistics=null", "training.monitor=gauc")
        with pytest.raises(
            ExperimentError, match="'gauc', which needs users, and the log has none"
        ):
            train(chosen, tmp_path)


def test_an_unknown_optimizer_is_named_and_leaves_the_folder_free(data, tmp_path):
    with pytest.raises(ValueError, match="Unknown optimizer: 'adan'"):
        train(experiment("shared_bottom", "training.optimizer=adan"), tmp_path, data=data)
    assert not RunFolder(tmp_path).has_finished_epoch


@pytest.mark.slow
def test_knobs_of_the_sampler_reach_it(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        sys.modules["tfmtl.training.graph_sampler"],
        "NeighborSampler",
        lambda *args, **options: made.append(NeighborSampler(*args, **options)) or made[-1],
    )
    knobs = {
        "weighted": "[user_user]",
        "time_limit": "true",
        "time_granularity": "3600",
        "buckets": "2",
    }
    chosen = experiment(
        "mogenet", "training.epochs=1", *(f"graph.{name}={knobs[name]}" for name in knobs)
    )
    train(chosen, tmp_path / "run")
    assert [sampler.buckets is None for sampler in made] == [True, False]
    for sampler in made:
        assert sampler.weighted == ("user_user",)
        assert sampler.time_limit
        assert sampler.time_granularity == 3600
    assert 1 <= len(made[1].buckets.rungs) <= 2
    assert np.isfinite(float(history(tmp_path / "run")[0]["loss"]))
