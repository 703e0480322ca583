import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.training.small_experiment import DATASET, HYPERPARAMETERS
from tfmtl.evaluation import Comparison, compare, prepared_data_cache, run_task, summarize
from tfmtl.training import ExperimentError, RunFolder, ValidationMetrics, train

ROOT = Path(__file__).parents[2]
BASE = yaml.safe_load(DATASET)
SMALL = {
    "name": "shared_bottom",
    "hyperparameters": yaml.safe_load(HYPERPARAMETERS["shared_bottom"]),
}


def two_models(**changes):
    content = {
        "base": {**BASE, "training": {**BASE["training"], "epochs": 1}},
        "models": {
            "small": {"model": SMALL},
            "fast": {"model": SMALL, "training": {"learning_rate": 0.1}},
        },
        "seeds": [0, 1],
    }
    return Comparison.model_validate({**content, **changes})


def test_base_and_model_are_merged():
    chosen = Comparison(
        base={
            "dataset": {"name": "simulator", "options": {"num_users": 20, "seed": 4}},
            "model": {"name": "mmoe", "hyperparameters": {"num_experts": 2, "dropout": 0.1}},
            "training": {"epochs": 2, "seed": 99},
        },
        models={
            "a": {"model": {"hyperparameters": {"num_experts": 5}}},
            "b": {"dataset": {"options": {"num_users": 30}}, "training": {"epochs": 7}},
        },
        seeds=[3],
    )
    a, b = (chosen.experiment(label, seed=3) for label in "ab")
    assert a.model.hyperparameters == {"num_experts": 5, "dropout": 0.1}
    assert a.dataset.options == {"num_users": 20, "seed": 4}
    assert b.dataset.options == {"num_users": 30, "seed": 4}
    assert [a.training.epochs, b.training.epochs] == [2, 7]
    assert [a.training.seed, b.training.seed] == [3, 3]
    # Merging leaves what was given alone.
    assert chosen.base["training"] == {"epochs": 2, "seed": 99}


def test_datasets_come_between_base_and_model():
    base = {key: value for key, value in BASE.items() if key != "dataset"}
    shop = {"name": "simulator", "options": {"num_users": 20, "num_items": 10, "num_rows": 400}}
    chosen = Comparison(
        base=base,
        datasets={
            "shop": {"dataset": shop, "training": {"batch_size": 7, "epochs": 9}},
            "other": {"dataset": {**shop, "options": {"num_users": 99}}},
        },
        models={"a": {"model": SMALL, "training": {"epochs": 4}}},
    )
    assert chosen.dataset_labels == ("shop", "other")
    assert chosen.experiment("a", 0, "shop").training.batch_size == 7
    assert chosen.experiment("a", 0, "shop").training.epochs == 4
    assert chosen.experiment("a", 0, "other").dataset.options == {"num_users": 99}
    with pytest.raises(ValueError, match=r"'a' on 'bad': dataset: Field required"):
        Comparison(base=base, datasets={"bad": {}}, models={"a": {"model": SMALL}})


def test_seeds_are_three_by_default():
    chosen = Comparison(base=BASE, models={"a": {"model": {"name": "mmoe"}}})
    assert chosen.seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{base: {}, models: {}}", "models: Dictionary should have at least 1 item"),
        ("{base: {}, models: {a: {}}}", "'a': dataset: Field required; model: Field required"),
        (
            "{base: {dataset: {name: simulator}}, models: {a: {model: {name: mmo}}}}",
            "'a': model: unknown model 'mmo'; expected one of",
        ),
        (
            "{base: {dataset: {name: x}, training:}, models: {a: {model: {name: mmoe}}}, seed: 1}",
            r"seed: unknown field 'seed'; expected some of \['base', 'models', 'datasets', 's",
        ),
        ("{base: {}, models: {a: {}}, seeds: []}", "seeds: .*at least 1 item"),
        (
            "{base: {dataset: {name: x}}, models: {a: {model: {name: mmoe}}}, reference: b}",
            r"expected a reference among the models \['a'\]; received 'b'",
        ),
        ("{", "not YAML"),
    ],
)
def test_a_file_that_is_no_comparison(content, message, tmp_path):
    file = tmp_path / "comparison.yaml"
    file.write_text(content)
    with pytest.raises(ExperimentError, match=message) as caught:
        Comparison.from_yaml(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_an_absent_file(tmp_path):
    with pytest.raises(ExperimentError, match=r"cannot read .*x.yaml: No such file or directory"):
        Comparison.from_yaml(tmp_path / "x.yaml")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A finished comparison of two models and two seeds: its folder and its cells."""
    folder = tmp_path_factory.mktemp("compared")
    return folder, list(compare(two_models(), folder))


def no_training(*_, **__):
    raise AssertionError("a finished cell was trained again")


@pytest.mark.slow
def test_every_model_and_seed_is_a_cell(compared):
    folder, cells = compared
    names = [(cell.label, cell.seed) for cell in cells]
    assert names == [("small", 0), ("small", 1), ("fast", 0), ("fast", 1)]
    for label, seed in names:
        run = RunFolder(folder / label / f"seed-{seed}")
        assert run.metrics.exists()
        assert yaml.safe_load(run.experiment.read_text())["training"]["seed"] == seed
    values = {cell.metrics["test"]["click"].log_loss for cell in cells}
    assert len(values) == 4
    assert all(cell.costs.epochs == 1 and cell.costs.seconds > 0 for cell in cells)


@pytest.mark.slow
def test_finished_cells_are_read(compared, monkeypatch):
    folder, cells = compared
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    before = [(path, path.stat().st_mtime_ns) for path in files]
    monkeypatch.setattr(prepared_data_cache, "prepare_data", no_training)
    for name in ("train", "evaluate_run"):
        monkeypatch.setattr(run_task, name, no_training)
    again = list(compare(two_models(), folder))
    assert [(path, path.stat().st_mtime_ns) for path in files] == before
    for one, other in zip(again, cells, strict=True):
        assert (one.label, one.seed) == (other.label, other.seed)
        assert str(one.metrics) == str(other.metrics)
        assert one.costs == other.costs


@pytest.mark.slow
def test_jobs_give_the_same_cells(compared, tmp_path):
    _, expected = compared
    cells = list(compare(two_models(), tmp_path, jobs=2))
    for one, other in zip(cells, expected, strict=True):
        assert (one.label, one.seed) == (other.label, other.seed)
        for part, tasks in other.metrics.items():
            for task, values in tasks.items():
                received = one.metrics[part][task].log_loss
                assert received == pytest.approx(values.log_loss, rel=1e-4)
    with pytest.raises(ValueError, match="at least one job; received 0"):
        next(compare(two_models(), tmp_path, jobs=0))


@pytest.mark.slow
def test_several_datasets_have_folders_of_their_own(tmp_path):
    options = dict(BASE["dataset"]["options"])
    chosen = two_models(
        models={"small": {"model": SMALL}},
        seeds=[0],
        datasets={
            "one": {"dataset": BASE["dataset"]},
            "two": {"dataset": {"name": "simulator", "options": {**options, "seed": 3}}},
        },
    )
    cells = list(compare(chosen, tmp_path))
    assert [cell.dataset for cell in cells] == ["one", "two"]
    assert RunFolder(tmp_path / "two" / "small" / "seed-0").metrics.exists()
    assert cells[0].metrics["test"]["click"] != cells[1].metrics["test"]["click"]


# Killed in the middle of its second cell.
KILLED = """
import os, signal, sys
from pathlib import Path
import tfmtl
from tests.evaluation.test_comparison import BASE, two_models
from tfmtl.evaluation import compare
from tfmtl.training import ValidationMetrics

score, seen = ValidationMetrics.on_epoch_end, []

def kill(self, epoch, logs=None):
    score(self, epoch, logs)
    seen.append(epoch)
    if len(seen) == 5:
        os.kill(os.getpid(), signal.SIGKILL)

ValidationMetrics.on_epoch_end = kill
list(compare(two_models(base=BASE), Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_a_killed_comparison_ends_with_the_same_table(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed")]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    finished = sorted(path.parent.name for path in (tmp_path / "killed").rglob("metrics.json"))
    assert finished == ["seed-0"]
    tables = [
        summarize(list(compare(two_models(base=BASE), tmp_path / name)))
        for name in ("killed", "whole")
    ]
    for one, other in zip(*tables, strict=True):
        assert (one.label, one.task, one.metric) == (other.label, other.task, other.metric)
        assert one.mean == pytest.approx(other.mean, rel=1e-4, nan_ok=True)
        assert one.deviation == pytest.approx(other.deviation, rel=1e-2, abs=1e-5, nan_ok=True)


@pytest.mark.slow
def test_results_of_another_experiment_are_refused(compared, monkeypatch):
    monkeypatch.setattr(run_task, "train", no_training)
    other = two_models(base={**BASE, "training": {"epochs": 2}})
    with pytest.raises(
        ExperimentError, match=r"small/seed-0 holds the result of another experimen"
    ):
        next(compare(other, compared[0]))


@pytest.mark.slow
def test_an_unfinished_cell_of_another_experiment_is_refused(tmp_path):
    chosen = two_models(seeds=[0])
    train(chosen.experiment("small", 0), tmp_path / "small" / "seed-0")
    other = two_models(seeds=[0], base={**BASE, "training": {"epochs": 2}})
    with pytest.raises(ExperimentError, match=r"training\.epochs \(1 in the run, 2 now\)"):
        next(compare(other, tmp_path))


@pytest.mark.slow
def test_an_interrupted_cell_goes_on(compared, tmp_path, monkeypatch):
    one = two_models(seeds=[0], base=BASE)
    with monkeypatch.context() as patch:

        def end(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

        patch.setattr(ValidationMetrics, "on_epoch_begin", end)
        with pytest.raises(KeyboardInterrupt):
            next(compare(one, tmp_path))
    run = RunFolder(tmp_path / "small" / "seed-0")
    assert not run.metrics.exists()
    assert len(run.history.read_text().splitlines()) == 1 + 2
    starts = []
    original = ValidationMetrics.on_epoch_begin
    monkeypatch.setattr(
        ValidationMetrics,
        "on_epoch_begin",
        lambda self, epoch, logs=None: (starts.append(epoch), original(self, epoch, logs)),
    )
    cell = next(compare(one, tmp_path))
    assert starts == [2]
    assert cell.metrics["test"]["click"].rows == 70
    assert run.metrics.exists()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["first epoch", "checkpoint"])
def test_a_cell_that_cannot_be_resumed_starts_again(damage, tmp_path):
    chosen = two_models(seeds=[0])
    run = RunFolder(tmp_path / "small" / "seed-0")
    if damage == "checkpoint":
        train(chosen.experiment("small", 0), run.path)
        (file,) = (run.checkpoints / "last").glob("*.data-*")
        file.write_bytes(b"")
    else:
        run.path.mkdir(parents=True)
        run.experiment.write_text(chosen.experiment("small", 0).to_yaml())
    cell = next(compare(chosen, tmp_path))
    assert (cell.label, cell.seed) == ("small", 0)
    assert len(run.history.read_text().splitlines()) == 1 + 1
    assert run.metrics.exists()
