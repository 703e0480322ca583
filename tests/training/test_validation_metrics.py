import math

import numpy as np
import pytest

from tests.training.small_experiment import experiment
from tfmtl.metrics import TaskMetrics, task_metrics
from tfmtl.models import build_model, predict_log
from tfmtl.training import ValidationMetrics, evaluate_log, mean_metric, whole_graph_states


def build(data, name):
    chosen = experiment(name).model
    model = build_model(name, data.encoder.schema, data.encoder, chosen.hyperparameters)
    model.build_weights()
    return model


def metrics(**values):
    everything = dict(auc=0.5, gauc=0.5, log_loss=1.0, ece=0.1, rows=4, positives=1, users_kept=2)
    return TaskMetrics(**{**everything, **values})


@pytest.mark.parametrize("name", ["mmoe", pytest.param("mogenet", marks=pytest.mark.slow)])
def test_logs_hold_the_metrics_of_the_predictions(name, data, graph_data):
    chosen = graph_data if name == "mogenet" else data
    model = build(chosen, name)
    callback = ValidationMetrics(chosen.validation, bundle=chosen.bundle, batch_size=11)
    callback.set_model(model)
    logs = {"loss": 0.25}
    callback.on_epoch_end(0, logs)
    states = whole_graph_states(model, chosen.bundle)
    scores = predict_log(model, chosen.validation, node_states=states)
    log = chosen.validation
    expected = {
        task: task_metrics(log.labels[task], scores[task], log.weights[task], log.groups)
        for task in ("click", "like", "purchase")
    }
    for task, values in expected.items():
        assert values.rows == np.count_nonzero(log.weights[task])
        for metric in ("auc", "gauc", "log_loss", "ece"):
            # The size of the batches moves the last bits of a score, and so may order a tie.
            assert logs[f"val_{task}_{metric}"] == pytest.approx(
                getattr(values, metric), abs=1e-2 if "auc" in metric else 1e-5, nan_ok=True
            )
    assert logs["val_log_loss"] == pytest.approx(
        sum(logs[f"val_{task}_log_loss"] for task in expected) / 3
    )
    assert logs["loss"] == 0.25
    assert len(logs) == 1 + 3 * 4 + 4


def test_evaluate_log_is_task_metrics_of_the_predictions(data):
    model = build(data, "mmoe")
    scores = predict_log(model, data.test)
    log = data.test
    assert evaluate_log(model, log) == {
        task: task_metrics(log.labels[task], scores[task], log.weights[task], log.groups)
        for task in ("click", "like", "purchase")
    }


def test_the_mean_leaves_out_tasks_without_the_metric():
    three = {"a": metrics(auc=0.5), "b": metrics(auc=math.nan), "c": metrics(auc=0.75)}
    assert mean_metric(three, "auc") == 0.625
    assert math.isnan(mean_metric({"b": metrics(auc=math.nan)}, "auc"))


def test_a_graph_model_needs_its_graph(graph_data):
    with pytest.raises(ValueError, match="MoGENet uses a graph and received none: build one from"):
        whole_graph_states(build(graph_data, "mogenet"), None)
