import json
import math

import numpy as np
import pytest

from tests.training.small_experiment import experiment
from tfmtl.evaluation import RunCosts, evaluate_run, read_costs, read_metrics
from tfmtl.training import RunFolder, evaluate_log, prepare_data


def test_metrics_are_those_of_the_log_and_are_read_back(model, data, tmp_path):
    metrics = evaluate_run(model, data, tmp_path / "new" / "run")
    assert metrics == {
        "validation": evaluate_log(model, data.validation),
        "test": evaluate_log(model, data.test),
    }
    path = RunFolder(tmp_path / "new" / "run").metrics
    for part, tasks in read_metrics(path).items():
        for task, values in tasks.items():
            for name, value in vars(metrics[part][task]).items():
                received = getattr(values, name)
                assert received == value or (math.isnan(received) and math.isnan(value)), name
    assert [path.name for path in path.parent.iterdir()] == ["metrics.json"]
    weights = sum(np.prod(weight.shape) for weight in model.trainable_weights)
    assert read_costs(path) == RunCosts(weights, epochs=0, seconds=0.0)


def test_parts_scored_before_are_kept(model, data, tmp_path):
    path = RunFolder(tmp_path).metrics
    evaluate_run(model, data, tmp_path, parts=["validation"])
    validation = json.loads(path.read_text())["validation"]
    evaluate_run(model, data, tmp_path, parts=["test"])
    content = json.loads(path.read_text())
    assert list(content) == ["costs", "validation", "test"]
    assert str(content["validation"]) == str(validation)


def test_costs_are_those_of_the_history(model, data, tmp_path):
    RunFolder(tmp_path).history.write_text("epoch,loss,seconds\n1,0.5,2.5\n2,0.4,1.5\n")
    evaluate_run(model, data, tmp_path)
    costs = read_costs(RunFolder(tmp_path).metrics)
    assert (costs.epochs, costs.seconds) == (2, 4.0)


def test_a_file_without_costs(tmp_path):
    (tmp_path / "metrics.json").write_text('{"test": {}}')
    assert read_costs(tmp_path / "metrics.json") is None
    (tmp_path / "metrics.json").write_text('{"costs": {"parameters": 1}}')
    with pytest.raises(ValueError, match="is not a metrics file: delete it and evaluate again"):
        read_costs(tmp_path / "metrics.json")


def test_a_failure_leaves_the_earlier_file(model, data, tmp_path, monkeypatch):
    evaluate_run(model, data, tmp_path)
    before = RunFolder(tmp_path).metrics.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("tfmtl.evaluation.run_metrics.json.dumps", fail)
    with pytest.raises(OSError, match="disk full"):
        evaluate_run(model, data, tmp_path)
    assert RunFolder(tmp_path).metrics.read_bytes() == before


def test_unknown_parts(model, data, tmp_path):
    with pytest.raises(ValueError, match=r"expected parts among .*; received \['test', 'train'\]"):
        evaluate_run(model, data, tmp_path, parts=["test", "train"])
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_scored_on_other_data(model, data, tmp_path):
    data.encoder.save(RunFolder(tmp_path).encoder)
    evaluate_run(model, data, tmp_path, parts=["test"])
    other = prepare_data(experiment("shared_bottom", "dataset.options.seed=5"))
    with pytest.raises(ValueError, match=r"the data changed since the run under .* was trained"):
        evaluate_run(model, other, tmp_path, parts=["test"])


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"",
        b"[]",
        b"{}",
        b'{"test": 3}',
        b'{"test": {"click": {"auc": 1}}}',
        b'{"test": {"click": 4}}',
        b"\xff\x00",
    ],
)
def test_a_damaged_file_is_named(content, tmp_path):
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"metrics.json is not a metrics file: delete it and eval"):
        read_metrics(tmp_path / "metrics.json")
