import csv
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.doc_blocks import blocks
from tests.evaluation.test_comparison import BASE, SMALL, two_models
from tfmtl.evaluation import (
    Comparison,
    compare,
    prepared_data_cache,
    run_metrics,
    run_task,
    write_report,
)
from tfmtl.evaluation.run_task import RunTask
from tfmtl.training import ExperimentError, RunFolder, ValidationMetrics, prepare_data
from tfmtl.training.yaml_document import parse_yaml, validated

ROOT = Path(__file__).parents[2]
RATE = "training.learning_rate"
UNITS = "model.hyperparameters.bottom_units"
SPACE = {
    RATE: {"kind": "float", "low": 0.001, "high": 0.1, "sampling": "log"},
    UNITS: {"kind": "choice", "values": [[4], [8]]},
}


def tuned_models(space=SPACE, own=None, trials=3, **changes):
    """Two models of one seed and one epoch; `fast` has what is given of its own.

    Its learning rate is too high, and outside the space.
    """
    fast = {"model": SMALL, "training": {"learning_rate": 3.0}}
    return two_models(
        **{
            "models": {
                "small": {"model": SMALL},
                "fast": fast if own is None else {**fast, "tuning": own},
            },
            "seeds": [1],
            "tuning": {"trials": trials, "space": space, "metric": "log_loss"},
            **changes,
        }
    )


def trials_of(folder, label):
    """Trials as `tuning.yaml` holds them, without their time."""
    content = yaml.safe_load((folder / label / "tuning.yaml").read_text())
    return [{**one, "seconds": None} for one in content["trials"]]


def no_run(*_, **__):
    raise AssertionError("a finished run was run again")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A finished comparison with tuning: its folder and its cells."""
    folder = tmp_path_factory.mktemp("tuned")
    return folder, list(compare(tuned_models(), folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"space": {"training.rate": SPACE[RATE]}}, r"'small' cannot have 'training.rate' set to "),
        (
            {"space": {"model.hyperparameters.heads": {"kind": "int", "low": 1, "high": 2}}},
            r"'small' cannot have 'model.hyperparameters.heads' set to 1: model: model "
            r"'shared_bottom' has no hyper-parameters \['heads'\].*models.small.tuning.exclude",
        ),
        ({"space": {RATE: {"kind": "choice", "values": [0.1, -1]}}}, "set to -1: .*greater than 0"),
        ({"space": {"training.seed.x": SPACE[RATE]}}, "'training.seed.x' cannot be tuned: all tri"),
        ({"space": {"dataset.options.seed": SPACE[RATE]}}, "'dataset.options.seed' cannot be tun"),
        ({"space": {"model.name": SPACE[UNITS]}}, "'model.name' cannot be tuned"),
        ({"space": {"training": SPACE[UNITS]}}, "expected section.field, .*; received 'training'"),
        ({"space": {RATE: {"kind": "real"}}}, rf"{RATE}: expected a kind among \['float', 'int', "),
        ({"space": {RATE: 0.1}}, rf"{RATE}: expected a kind among .*; received 0.1"),
        ({"space": {RATE: {"kind": "int", "low": 1}}}, f"{RATE}: high: Field required"),
        ({"space": [RATE]}, "expected dotted names of fields; received"),
        ({"space": {}}, "'small': tuning.space is empty"),
        ({}, "'small': tuning.space is empty"),
        ({"space": SPACE, "trials": 0}, "tuning.trials: .*greater than or equal to 1; received 0"),
        ({"space": SPACE, "oracle": "anneal"}, "tuning.oracle: .*'grid'; received 'anneal'"),
        ({"space": SPACE, "metric": "ece"}, "tuning.metric: .*; received 'ece'"),
        ({"space": SPACE, "budget": 3}, r"budget: unknown field 'budget'; expected some of \['tr"),
    ],
)
def test_a_tuning_that_cannot_be_used(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        validated(Comparison, {**two_models().model_dump(), "tuning": content})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"exclude": ["a.b"]}, rf"'fast': tuning: tuning.exclude names \['a.b'\].*\['{RATE}', "),
        ({"exclude": [RATE, UNITS]}, "'fast': tuning.space is empty"),
        ({"space": {"training.rate": SPACE[RATE]}}, "'fast' cannot have 'training.rate' set to"),
        ({"trials": 9}, r"'fast': tuning: trials: unknown field 'trials'; expected some of \['sp"),
    ],
)
def test_a_space_of_its_own_that_cannot_be_used(own, message):
    with pytest.raises(ValueError, match=message):
        tuned_models(own=own)


def test_a_space_of_its_own_without_a_tuning():
    with pytest.raises(ValueError, match="'fast': tuning: the model has 'tuning' and the compar"):
        tuned_models(own={"exclude": []}, tuning=None)


def test_a_model_adds_to_the_space_and_leaves_out():
    own = {"space": {"training.batch_size": {"kind": "int", "low": 32, "high": 64}}}
    chosen = tuned_models(own={**own, "exclude": [UNITS]})
    assert list(chosen.tuning_of("small").space) == [RATE, UNITS]
    assert list(chosen.tuning_of("fast").space) == [RATE, "training.batch_size"]
    assert chosen.tuning_of("fast").trials == chosen.tuning_of("small").trials == 3
    # The model's experiment does not see it.
    assert chosen.experiment("fast", 1).training.batch_size == BASE["training"]["batch_size"]


def test_the_comparison_of_the_readme_is_one():
    (text,) = (
        block.text
        for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"))
        if block.language == "yaml" and "tuning:" in block.text
    )
    chosen = validated(Comparison, parse_yaml(text))
    experts = "model.hyperparameters.num_experts"
    assert [experts in chosen.tuning_of(label).space for label in chosen.models] == [0, 1, 0]


def test_without_keras_tuner_nothing_is_run(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "keras_tuner", None)
    with pytest.raises(ImportError, match=r"install tfmtl\[tuning\], or leave 'tuning' out"):
        next(compare(tuned_models(), tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_model_has_the_same_budget_and_begins_untuned(tuned):
    folder, cells = tuned
    assert [(cell.label, cell.seed) for cell in cells] == [("small", 1), ("fast", 1)]
    for cell in cells:
        runs = sorted((folder / cell.label / "tuning").iterdir())
        assert [run.name for run in runs] == ["trial-1", "trial-2", "trial-3"]
        assert len(cell.tuning.trials) == 3
        experiments = [yaml.safe_load(RunFolder(run).experiment.read_text()) for run in runs]
        # All with the seed of the tuning, which is not the cell's.
        assert {one["training"]["seed"] for one in experiments} == {0}
        untuned = tuned_models().experiment(cell.label, 0).resolved()
        assert experiments[0] == untuned
        assert all(one != untuned for one in experiments[1:])
    small, fast = (cell.tuning.trials for cell in cells)
    assert (small[0].values[RATE], fast[0].values[RATE]) == (0.01, 3.0)
    space = tuned_models().tuning.space
    for one in (*small[1:], *fast[1:]):
        assert all(space[path].contains(value) for path, value in one.values.items())


@pytest.mark.slow
def test_the_best_trial_on_validation_rows_gives_its_values_to_the_cells(tuned):
    folder, cells = tuned
    for cell in cells:
        scores = []
        for run in sorted((folder / cell.label / "tuning").iterdir()):
            metrics = json.loads((run / "metrics.json").read_text())
            assert set(metrics) == {"costs", "validation"}
            tasks = metrics["validation"].values()
            scores.append(sum(task["log_loss"] for task in tasks) / len(tasks))
        assert [one.score for one in cell.tuning.trials] == pytest.approx(scores)
        assert cell.tuning.best == scores.index(min(scores))
        experiment = yaml.safe_load((folder / cell.label / "seed-1/experiment.yaml").read_text())
        values = cell.tuning.trials[cell.tuning.best].values
        assert experiment["training"]["learning_rate"] == values[RATE]
        assert experiment["model"]["hyperparameters"]["bottom_units"] == values[UNITS]
    assert cells[1].tuning.best > 0


@pytest.mark.slow
def test_trials_do_not_see_the_test_rows(tmp_path, monkeypatch):
    def without_test_rows(experiment, **options):
        return dataclasses.replace(prepare_data(experiment, **options), test=None)

    monkeypatch.setattr(prepared_data_cache, "prepare_data", without_test_rows)
    with pytest.raises(TypeError, match="'NoneType'"):
        next(compare(tuned_models(trials=2), tmp_path))
    # All trials went well, and it is the first cell that could not be scored.
    assert [one["failure"] for one in trials_of(tmp_path, "small")] == [None, None]
    assert RunFolder(tmp_path / "small" / "seed-1").has_finished_epoch


@pytest.mark.slow
def test_what_was_found_is_written_beside_the_cells(tuned):
    folder, cells = tuned
    for cell in cells:
        content = yaml.safe_load((folder / cell.label / "tuning.yaml").read_text())
        assert content["chosen"] == cell.tuning.chosen
        assert content["best_trial"] == cell.tuning.best + 1
        assert content["metric"] == "log_loss"
        with (folder / cell.label / "tuning.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["trial"] for row in rows] == ["1", "2", "3"]
        assert [float(row["log_loss"]) for row in rows] == [one.score for one in cell.tuning.trials]
        assert [float(row[RATE]) for row in rows] == [
            one.values[RATE] for one in cell.tuning.trials
        ]


@pytest.mark.slow
def test_a_finished_tuning_is_read_without_keras_tuner(tuned, monkeypatch):
    folder, cells = tuned
    monkeypatch.setattr(RunTask, "run", no_run)
    monkeypatch.setitem(sys.modules, "keras_tuner", None)
    again = list(compare(tuned_models(), folder))
    assert [cell.tuning for cell in again] == [cell.tuning for cell in cells]
    text = write_report(again, folder / "report").read_text(encoding="utf-8")
    seconds = f"{cells[1].tuning.seconds:.1f}"
    assert f"| fast | 3 | 0 | {seconds} | log_loss | " in text


@pytest.mark.slow
def test_trials_without_their_summary_are_read(tuned, monkeypatch, tmp_path):
    folder, cells = tuned
    (folder / "small" / "tuning.yaml").rename(tmp_path / "tuning.yaml")
    monkeypatch.setattr(RunTask, "run", no_run)
    again = list(compare(tuned_models(), folder))
    assert [cell.tuning for cell in again] == [cell.tuning for cell in cells]
    assert (folder / "small" / "tuning.yaml").read_text() == (tmp_path / "tuning.yaml").read_text()


@pytest.mark.slow
def test_jobs_find_the_same(tuned, tmp_path):
    folder, cells = tuned
    found = list(compare(tuned_models(), tmp_path, jobs=2))
    assert [(cell.label, cell.seed) for cell in found] == [("small", 1), ("fast", 1)]
    for one, other in zip(found, cells, strict=True):
        assert one.tuning.chosen == other.tuning.chosen
        received = [trial["score"] for trial in trials_of(tmp_path, one.label)]
        assert received == pytest.approx(
            [trial["score"] for trial in trials_of(folder, one.label)], rel=1e-4
        )
    assert (tmp_path / "small" / "tuning.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"space": {**SPACE, RATE: {**SPACE[RATE], "high": 0.05}}},
        {"tuning": {"trials": 3, "space": SPACE, "seed": 1}},
        {"base": {**BASE, "training": {**BASE["training"], "epochs": 2}}},
    ],
    ids=["space", "seed", "base"],
)
def test_another_tuning_is_refused(changes, tuned, monkeypatch):
    monkeypatch.setattr(RunTask, "run", no_run)
    message = r"small/tuning/trial-\d holds the result of another experiment: delete it or"
    with pytest.raises(ExperimentError, match=message):
        next(compare(tuned_models(**changes), tuned[0]))


@pytest.mark.slow
def test_more_trials_are_added_to_those_before(tuned, tmp_path):
    folder, cells = tuned
    shutil.copytree(folder / "small" / "tuning", tmp_path / "small" / "tuning")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("trial.json")}
    chosen = tuned_models(trials=4, models={"small": {"model": SMALL}})
    (cell,) = compare(chosen, tmp_path)
    assert cell.tuning.trials[:3] == cells[0].tuning.trials
    assert len(cell.tuning.trials) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_cells_from_before_the_tuning_are_refused(tmp_path, monkeypatch):
    list(compare(two_models(models={"small": {"model": SMALL}}, seeds=[1]), tmp_path))
    monkeypatch.setattr(RunTask, "run", no_run)
    chosen = tuned_models(models={"small": {"model": SMALL}})
    with pytest.raises(ExperimentError, match="small/seed-1 holds a result from before the tuning"):
        next(compare(chosen, tmp_path))


@pytest.mark.slow
def test_a_failed_trial_is_the_worst_and_reported(tmp_path):
    optimizers = {"training.optimizer": {"kind": "choice", "values": ["adam", "adamm", "sgd"]}}
    diverging = {RATE: {"kind": "choice", "values": [0.01, 1e30]}}
    chosen = two_models(
        models={
            "small": {"model": SMALL, "tuning": {"space": optimizers}},
            "fast": {"model": SMALL, "tuning": {"space": diverging}},
        },
        seeds=[0],
        tuning={"trials": 3, "oracle": "grid"},
    )
    cells = list(compare(chosen, tmp_path))
    misspelt, diverged = (cell.tuning.trials[1] for cell in cells)
    assert misspelt.values == {"training.optimizer": "adamm"}
    assert misspelt.score is None
    assert misspelt.failure.startswith("ValueError: Unknown optimizer: 'adamm'")
    assert diverged.score is None
    what = (
        "NonFiniteLossError: the loss of tasks 'click', 'like', 'purchase' is not finite at batch "
    )
    assert diverged.failure.startswith(what)
    assert [len(cell.tuning.trials) for cell in cells] == [3, 2]
    assert all(cell.tuning.best != 1 for cell in cells)
    text = write_report(cells, tmp_path).read_text(encoding="utf-8")
    assert "- small, trial 2: ValueError: Unknown optimizer: 'adamm'" in text
    assert "| fast | 2 | 1 | " in text


@pytest.mark.slow
def test_when_every_trial_fails(tmp_path):
    training = {**BASE["training"], "optimizer": "adamm"}
    chosen = tuned_models(base={**BASE, "training": training}, trials=2)
    message = "cannot tune small: all 2 trials failed, the untuned one with: .*'adamm'"
    with pytest.raises(ExperimentError, match=message):
        next(compare(chosen, tmp_path))


@pytest.mark.slow
def test_errors_that_are_not_the_settings_end_the_comparison(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(run_task, "train", full)
    with pytest.raises(OSError, match="no space left"):
        next(compare(tuned_models(), tmp_path))
    assert not list(tmp_path.rglob("trial.json"))


@pytest.mark.slow
def test_an_undefined_score_is_a_failure(tmp_path, monkeypatch):
    score = run_metrics.evaluate_log

    def undefined(*arguments, **options):
        metrics = score(*arguments, **options)
        return {
            task: dataclasses.replace(values, log_loss=float("inf"))
            for task, values in metrics.items()
        }

    monkeypatch.setattr(run_metrics, "evaluate_log", undefined)
    tuning = {"trials": 2, "space": SPACE, "metric": "log_loss"}
    with pytest.raises(ExperimentError, match="the untuned one with: log_loss is inf on the valid"):
        next(compare(tuned_models(tuning=tuning), tmp_path))


# Killed in the middle of its third trial.
KILLED = """
import os, signal, sys
from pathlib import Path
import tfmtl
from tests.evaluation.test_tuned_comparison import bayesian
from tfmtl.evaluation import compare
from tfmtl.training import ValidationMetrics

score, seen = ValidationMetrics.on_epoch_end, []

def kill(self, epoch, logs=None):
    score(self, epoch, logs)
    seen.append(epoch)
    if len(seen) == 8:
        os.kill(os.getpid(), signal.SIGKILL)

ValidationMetrics.on_epoch_end = kill
list(compare(bayesian(), Path(sys.argv[1])))
"""


def bayesian():
    """Trials of three epochs, of which the oracle chooses by the scores from the third on."""
    values = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]
    return two_models(
        base=BASE,
        models={"small": {"model": SMALL}},
        seeds=[0],
        tuning={
            "trials": 4,
            "oracle": "bayesian",
            "space": {RATE: {"kind": "choice", "values": values}},
        },
    )


@pytest.mark.slow
def test_a_killed_tuning_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    finished = sorted((tmp_path / "killed").rglob("trial.json"))
    assert [path.parent.name for path in finished] == ["trial-1", "trial-2"]
    before = [(path, path.stat().st_mtime_ns) for path in finished]
    epochs = []
    score = ValidationMetrics.on_epoch_end

    def count(self, epoch, logs=None):
        epochs.append(epoch)
        score(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(ValidationMetrics, "on_epoch_end", count)
        (killed,) = compare(bayesian(), tmp_path / "killed")
    # The third trial's epochs from the last finished one on, one more trial, and the cell.
    assert epochs[0] in (1, 2)
    assert epochs[epochs.index(2) + 1 :] == [0, 1, 2] * 2
    assert [(path, path.stat().st_mtime_ns) for path in finished] == before
    (whole,) = compare(bayesian(), tmp_path / "whole")
    assert [one.values for one in killed.tuning.trials] == [
        one.values for one in whole.tuning.trials
    ]
    assert [one.score for one in killed.tuning.trials] == pytest.approx(
        [one.score for one in whole.tuning.trials], rel=1e-4
    )
    assert killed.tuning.chosen == whole.tuning.chosen
    for task, values in whole.metrics["test"].items():
        assert killed.metrics["test"][task].log_loss == pytest.approx(values.log_loss, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tuning.yaml", "tuning/trial-1/trial.json"])
def test_a_damaged_file_is_named(tuned, tmp_path, name):
    folder, _ = tuned
    chosen = tuned_models(models={"small": {"model": SMALL}})
    place = tmp_path / "small"
    shutil.copytree(folder / "small", place)
    (place / "tuning.yaml").unlink()
    (place / name).write_text("{")
    with pytest.raises(ValueError, match=rf"{name} is not .*: delete it and"):
        next(compare(chosen, tmp_path))
