"""The whole way on a simulated log, command by command."""

import csv
import json
import signal
import sys
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
import yaml

from tests.cli.command_line import done, process, refused, tfmtl
from tests.training.small_experiment import DATASET, experiment, text
from tfmtl.evaluation import read_metrics
from tfmtl.export import raw_request, read_node_states
from tfmtl.graph import GraphBundle, MacroGraph
from tfmtl.models import predict_log
from tfmtl.training import ValidationMetrics, load_run, prepare_data, whole_graph_states

TASKS = ["click", "like", "purchase"]
TWO_EPOCHS = ("--set", "training.epochs=2")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an experiment in it."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "experiment.yaml").write_text(text("mogenet"))
    return folder


@pytest.fixture(scope="module")
def built(place):
    """What `build-graph` said; the bundle is in `graph`."""
    return done("build-graph", place / "experiment.yaml", "--output", place / "graph")


@pytest.fixture(scope="module")
def trained(place, built):
    """What an interrupted `train` and its `--resume` said; the run is in `run`."""
    arguments = ("train", place / "experiment.yaml", "--output", place / "run", *TWO_EPOCHS)

    def stop(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ValidationMetrics, "on_epoch_begin", stop)
        interrupted = tfmtl(*arguments, "--graph", place / "graph")
    return interrupted, done(*arguments, "--resume")


@pytest.fixture(scope="module")
def evaluated(place, trained):
    return done("evaluate", place / "run")


@pytest.fixture(scope="module")
def exported(place, trained):
    """What two exports said; the versions are in `served`."""
    return [done("export", place / "run", "--output", place / "served") for _ in range(2)]


@contextmanager
def serving(folder, name):
    """Runs `tfmtl serve`; gives its process and its first line."""
    ports = ("--port", 0, "--rest-port", 0)
    with process("serve", folder, "--name", name, *ports) as server:
        try:
            yield server, server.stdout.readline()
        finally:
            server.send_signal(signal.SIGKILL)


def cells(outcome):
    """Body of a printed table."""
    lines = [line for line in outcome.out.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_build_graph_prints_sizes(place, built):
    bundle = GraphBundle.load(place / "graph")
    assert cells(built) == [
        [name, f"{csr.num_rows:,}", f"{csr.num_edges:,}"] for name, csr in bundle.edge_sets.items()
    ]
    assert all(csr.num_edges for csr in bundle.edge_sets.values())


def test_training_that_is_interrupted_is_resumed(place, trained):
    interrupted, resumed = trained
    assert interrupted.status != 0
    assert "Traceback" not in interrupted.err
    assert "epoch 1, loss" in interrupted.err
    assert "epoch 1, loss" not in resumed.err
    assert "mogenet: epoch 2, loss" in resumed.err
    with (place / "run" / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert yaml.safe_load((place / "run" / "experiment.yaml").read_text()) == (
        experiment("mogenet", "training.epochs=2").resolved()
    )


def test_training_prints_validation_metrics(place, trained):
    table = cells(trained[1])
    assert [row[0] for row in table] == TASKS
    assert {row[1] for row in table} == {"mogenet"}
    with (place / "run" / "history.csv").open() as file:
        losses = [float(row["val_click_log_loss"]) for row in csv.DictReader(file)]
    assert float(table[0][4]) in [pytest.approx(loss, abs=1e-4) for loss in losses]


def test_a_run_is_not_overwritten(place, trained):
    line = refused(
        "train", place / "experiment.yaml", "--output", place / "run", "--graph", place / "graph"
    )
    assert "already holds a run: resume it, or train into another folder" in line
    other = refused("train", place / "experiment.yaml", "--output", place / "run", "--resume")
    assert "is another experiment, it differs in training." in other


def test_evaluate_prints_and_keeps_test_metrics(place, evaluated):
    metrics = read_metrics(place / "run" / "metrics.json")
    table = cells(evaluated)
    assert [row[0] for row in table] == TASKS
    for row in table:
        values = metrics["test"][row[0]]
        numbers = [values.auc, values.gauc, values.log_loss, values.ece]
        assert row[2:6] == [f"{number:.4f}" for number in numbers]
        assert row[6:] == [str(values.rows), str(values.positives)]


def test_evaluate_another_part(place, evaluated):
    before = read_metrics(place / "run" / "metrics.json")
    outcome = done("evaluate", place / "run", "--part", "validation")
    assert "validation" in outcome.out
    after = read_metrics(place / "run" / "metrics.json")
    assert list(after) == ["validation", "test"]
    assert str(after["test"]) == str(before["test"])
    line = refused("evaluate", place / "run", "--part", "train")
    assert "expected parts among ('validation', 'test'); received ['train']" in line


def test_export_numbers_the_versions(place, exported):
    assert [outcome.out.strip() for outcome in exported] == [
        str(place / "served" / version) for version in ("1", "2")
    ]


def test_export_states_writes_every_node(place, exported):
    done("export-states", place / "run", "--output", place / "states")
    run = load_run(place / "run")
    expected = whole_graph_states(run.model, run.bundle)
    received = read_node_states(place / "states")
    assert list(received.tables) == list(expected.tables)
    for key, table in expected.tables.items():
        np.testing.assert_array_equal(received.tables[key], table)


def write_jsonl(path, request):
    columns = {name: values.tolist() for name, values in request.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def test_serve_answers_predict_as_the_live_model(place, exported):
    run = load_run(place / "run")
    data = prepare_data(run.experiment, bundle=run.bundle)
    states = whole_graph_states(run.model, run.bundle)
    live = predict_log(run.model, data.test, node_states=states)
    test = data.loaded.split.test
    write_jsonl(place / "rows.jsonl", raw_request(run.encoder, test))
    by_id = raw_request(run.encoder, test, "by_id")
    with (place / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(by_id)
        writer.writerows(zip(*by_id.values(), strict=True))
    with serving(place / "served", "ranker") as (server, line):
        assert line.startswith("serving ranker: gRPC 127.0.0.1:")
        address = line.split("gRPC ")[1].split(",")[0]
        url = line.split("REST ")[1].strip()
        options = ("--address", address, "--name", "ranker")
        for rows in (
            done("predict", place / "rows.jsonl", *options),
            done("predict", place / "rows.csv", *options, "--signature", "by_id"),
        ):
            answers = [json.loads(answer) for answer in rows.out.splitlines()]
            assert len(answers) == len(test)
            for task in TASKS:
                received = [answer[task] for answer in answers]
                np.testing.assert_allclose(received, live[task], rtol=0, atol=1e-6)
        wrong = refused("predict", place / "rows.csv", "--address", address, "--name", "other")
        assert "NOT_FOUND" in wrong
        assert "'other' is not served here; expected 'ranker'" in wrong
        lacking = refused("predict", place / "rows.csv", *options)
        assert "INVALID_ARGUMENT" in lacking
        assert "age_group" in lacking
        row = {name: values[0].item() for name, values in by_id.items()}
        request = {"signature_name": "by_id", "instances": [row]}
        answer = httpx.post(f"{url}:predict", json=request).json()["predictions"][0]
        assert answer["click"] == pytest.approx(live["click"][0], abs=1e-6)
        status = httpx.get(url).json()["model_version_status"][0]
        assert [status["version"], status["state"]] == ["2", "AVAILABLE"]
        server.terminate()
        assert server.wait() == 0


def test_compare_prints_the_table_and_keeps_finished_cells(place):
    base = yaml.safe_load(DATASET)
    base["training"]["epochs"] = 1
    small = {"name": "shared_bottom", "hyperparameters": {"bottom_units": [4], "tower_units": []}}
    comparison = {"base": base, "models": {"Shared": {"model": small}}, "seeds": [0, 1]}
    (place / "comparison.yaml").write_text(yaml.safe_dump(comparison))
    arguments = ("compare", place / "comparison.yaml", "--output", place / "compared")
    first = done(*arguments)
    assert "over 2 seeds" in first.out
    assert "| auc | click | like | purchase |" in first.out
    assert "| Shared | 0." in first.out
    assert "shared_bottom: epoch 1" in first.err
    again = done(*arguments)
    assert again.out == first.out
    assert again.err == ""
    assert (place / "compared" / "results.csv").exists()


def test_compare_tunes_every_model_with_the_same_budget(place, monkeypatch):
    base = yaml.safe_load(DATASET)
    base["training"]["epochs"] = 1
    small = {"name": "shared_bottom", "hyperparameters": {"bottom_units": [4], "tower_units": []}}
    comparison = {
        "base": base,
        "models": {"Shared": {"model": small}},
        "seeds": [0],
        "tuning": {
            "trials": 2,
            "space": {"training.learning_rate": {"kind": "choice", "values": [0.01, 0.02]}},
        },
    }
    (place / "tuned.yaml").write_text(yaml.safe_dump(comparison))
    arguments = ("compare", place / "tuned.yaml", "--output", place / "tuned")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "keras_tuner", None)
        assert "install tfmtl[tuning]" in refused(*arguments)
    first = done(*arguments)
    assert "Shared, trial 1 of 2: untuned" in first.err
    assert "Shared, trial 2 of 2: training.learning_rate 0.02" in first.err
    assert "| Shared | 2 | 0 | " in first.out
    again = done(*arguments)
    assert again.out == first.out
    assert again.err == ""


def test_a_macro_graph_is_rebuilt_and_served(tmp_path):
    (tmp_path / "experiment.yaml").write_text(text("mgoe"))
    run = tmp_path / "run"
    done("train", tmp_path / "experiment.yaml", "--output", run, "--set", "training.epochs=1")
    done("rebuild-macro-graph", run, "--output", tmp_path / "macro", "--regroup")
    newer = ("--set", "dataset.options.num_rows=900")
    done("rebuild-macro-graph", run, "--output", tmp_path / "newer", *newer)
    own, same, other = (
        MacroGraph.load(folder)
        for folder in (run / "macro_graph", tmp_path / "macro", tmp_path / "newer")
    )
    np.testing.assert_array_equal(same.user_rows, own.user_rows)
    np.testing.assert_array_equal(
        other.user_groups[0][own.user_groups[0] > 0], own.user_groups[0][own.user_groups[0] > 0]
    )
    assert np.any(other.user_rows != own.user_rows)
    served = tmp_path / "served"
    for version, folder in enumerate((tmp_path / "macro", tmp_path / "newer"), start=1):
        said = done("export", run, "--output", served, "--macro-graph", folder)
        assert said.out.strip() == str(served / str(version))
