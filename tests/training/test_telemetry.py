import csv
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.training.small_experiment import experiment
from tfmtl.data import EncodedLog, InputSpec
from tfmtl.layers import Gate
from tfmtl.models import MultiTaskModel
from tfmtl.schema import Task
from tfmtl.training import RunFolder, Telemetry, ValidationMetrics, train

PRICE = InputSpec("price", "numeric", side="context", vocabulary_size=0, width=1)
TASKS = [Task(name="a"), Task(name="b")]
# Experts of one bank that gates see in part.
EXPERTS = {"a_gate": ("x", "y", "z"), "b_gate": ("y", "z")}


class Gated(MultiTaskModel):
    """A logit per task that is the price, beside gates of which nothing depends."""

    def __init__(self, scores):
        super().__init__(TASKS, [PRICE])
        self.gates = {
            name: Gate(len(scores[name][0]), expert_names=EXPERTS[name], name=name)
            for name in scores
        }
        self.build_weights()
        for name, (kernel, bias) in scores.items():
            self.gates[name].set_weights([np.array([kernel]), np.array(bias)])

    def call(self, features, training=None):
        row = self.feature_input(features)
        for gate in self.gates.values():
            gate(row)
        return {name: row[:, 0] for name in self.task_names}


def log_of(prices, labels=None, weights=None):
    ones = {name: np.ones(len(prices), np.float32) for name in ("a", "b")}
    features = {"price": np.array(prices, np.float32)}
    labels, weights = (
        {**ones, **{name: np.array(own, np.float32) for name, own in (given or {}).items()}}
        for given in (labels, weights)
    )
    return EncodedLog(features, labels, weights, None, None, False)


def observed(model, log, **options):
    telemetry = Telemetry(log, **options)
    telemetry.set_model(model)
    return telemetry.observe()


def history(folder):
    with RunFolder(folder).history.open(newline="") as file:
        return list(csv.DictReader(file))


def test_load_and_entropy_are_means_over_the_rows():
    model = Gated({"a_gate": ([math.log(2), 0, 0], [0, 0, 0]), "b_gate": ([0, 0], [50, 0])})
    # The first gate weighs experts alike at price 0 and as 1/2, 1/4, 1/4 at price 1.
    values = observed(model, log_of([0, 1, 1]), batch_size=2)
    start = "telemetry/gate/a_gate"
    assert values[f"{start}/load_x"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    for expert in ("y", "z"):
        assert values[f"{start}/load_{expert}"] == pytest.approx((1 / 3 + 1 / 4 + 1 / 4) / 3)
    entropy = (1 + 2 * 1.5 * math.log(2) / math.log(3)) / 3
    assert values[f"{start}/entropy"] == pytest.approx(entropy)
    # The second picks one: the other's weight is below what float32 adds to 1.
    start = "telemetry/gate/b_gate"
    assert values[f"{start}/load_y"] == pytest.approx(1)
    assert values[f"{start}/load_z"] == pytest.approx(0, abs=1e-6)
    assert values[f"{start}/entropy"] == pytest.approx(0, abs=1e-6)
    assert "telemetry/gate/b_gate/load_x" not in values


@pytest.mark.parametrize(
    ("a_gate", "b_gate", "dead"),
    [
        ([1, 1, 1], [1, 1], 0),
        # x, which the first gate alone sees, is below 1 % of 1/3, and then above it.
        ([0.0033, 0.4, 0.5967], [1, 1], 1),
        ([0.0034, 0.4, 0.5966], [1, 1], 0),
        # z is passed over by the first gate; to the second one it is worth 1/2, or nothing too.
        ([0.5, 0.5, 1e-9], [0.5, 0.5], 0),
        ([0.5, 0.5, 1e-9], [1, 1e-9], 1),
        # y is passed over by both.
        ([0.5, 1e-9, 0.5], [1e-9, 1], 1),
        # 1.8 % of 1/2 from the second gate are 0.9 % over both.
        ([0.5, 0.5, 1e-9], [0.991, 0.009], 1),
    ],
)
def test_dead_experts_are_those_that_all_gates_pass_over(a_gate, b_gate, dead):
    gates = {"a_gate": a_gate, "b_gate": b_gate}
    model = Gated({name: ([0] * len(own), np.log(own)) for name, own in gates.items()})
    assert observed(model, log_of([0.0, 1.0]))["telemetry/dead_experts"] == dead


@pytest.mark.parametrize(
    ("labels", "weights", "cosine"),
    [
        ({"a": [1, 0, 1, 1], "b": [1, 0, 1, 1]}, {}, 1),
        ({"a": [1, 0, 1, 1], "b": [0, 1, 0, 0]}, {}, -1),
        # Three rows agree and one does not.
        ({"a": [1, 0, 1, 1], "b": [1, 0, 1, 0]}, {}, 1 / 2),
        ({"a": [1, 0, 1, 1], "b": [1, 0, 0, 0]}, {}, 0),
        # One row of four, which agrees: 1 / (sqrt(4) sqrt(1)).
        ({"a": [1, 0, 1, 1], "b": [0, 0, 1, 0]}, {"b": [0, 0, 1, 0]}, 1 / 2),
        ({"a": [1, 0, 1, 1], "b": [1, 0, 1, 1]}, {"a": [1, 1, 0, 0], "b": [0, 0, 1, 1]}, 0),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_gradients_of_labels_that_agree_point_the_same_way(labels, weights, cosine, batch_size):
    # At price 0 a row's gradient is 1/2 - label.
    values = observed(Gated({}), log_of([0] * 4, labels, weights), batch_size=batch_size)
    assert values == {
        "telemetry/gradient_norm/a": pytest.approx(0.5),
        "telemetry/gradient_norm/b": pytest.approx(0.5),
        "telemetry/gradient_cosine/a/b": pytest.approx(cosine, abs=1e-6),
    }


def test_of_many_rows_some_at_equal_distances_are_observed():
    gate = {"a_gate": ([math.log(2), 0, 0], [0, 0, 0])}
    rows = [0, 9, 1, 9, 0]
    some = observed(Gated(gate), log_of(rows), max_rows=3)
    assert some == observed(Gated(gate), log_of([0, 1, 0]))
    everything = observed(Gated(gate), log_of(rows), max_rows=5)
    assert everything == observed(Gated(gate), log_of(rows))
    assert everything != some
    with pytest.raises(ValueError, match="max_rows of at least 1; received 0"):
        Telemetry(log_of(rows), max_rows=0)


def tensors(folder):
    reader = tf.train.load_checkpoint(str(RunFolder(folder).checkpoints / "last"))
    names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name) for name in names}


def assert_same_tensors(one, other):
    assert one.keys() == other.keys()
    for name, value in other.items():
        np.testing.assert_array_equal(one[name], value, err_msg=name)


@pytest.fixture(scope="module", params=["mmoe", "mogenet"])
def runs(request, data, graph_data, tmp_path_factory):
    """Runs with dropout, without telemetry and with it: their folders."""
    folder = tmp_path_factory.mktemp("runs")
    own = graph_data if request.param == "mogenet" else data
    for flag in ("false", "true"):
        train(chosen(request.param, flag), folder / flag, data=own)
    return folder / "false", folder / "true"


def chosen(name, flag):
    dropout = "model.hyperparameters.dropout=0.2"
    return experiment(name, f"training.telemetry={flag}", dropout)


@pytest.mark.slow
def test_training_is_the_same_to_the_bit(runs):
    without, with_telemetry = runs
    assert_same_tensors(tensors(with_telemetry), tensors(without))
    for row, expected in zip(history(with_telemetry), history(without), strict=True):
        own = {name: value for name, value in row.items() if not name.startswith("telemetry/")}
        assert own.keys() == expected.keys()
        for name in own.keys() - {"seconds"}:
            assert own[name] == expected[name], name
        assert len(row) > len(own)
    assert not RunFolder(without).telemetry.exists()
    assert RunFolder(with_telemetry).telemetry.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_history_and_tensorboard_have_every_epoch(runs):
    _, folder = runs
    rows = history(folder)
    names = [name for name in rows[0] if name.startswith("telemetry/")]
    assert {
        "telemetry/gate/click_gate/entropy",
        "telemetry/gate/purchase_gate/load_1",
        "telemetry/dead_experts",
        "telemetry/gradient_norm/like",
        "telemetry/gradient_cosine/click/purchase",
    } <= set(names)
    events = EventAccumulator(
        str(RunFolder(folder).tensorboard / "train"), size_guidance={"tensors": 0}
    )
    events.Reload()
    for name in names:
        written = events.Tensors(f"epoch_{name}")
        assert [event.step for event in written] == [0, 1, 2]
        values = [tf.make_ndarray(event.tensor_proto) for event in written]
        np.testing.assert_allclose(values, [float(row[name]) for row in rows], rtol=1e-6)
    # The gate learns, so its numbers move.
    entropies = {row["telemetry/gate/click_gate/entropy"] for row in rows}
    assert len(entropies) == 3


@pytest.mark.slow
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(data, tmp_path, monkeypatch):
    def begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt

    observing = experiment("mmoe", "training.telemetry=true")
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    with monkeypatch.context() as patch:
        patch.setattr(ValidationMetrics, "on_epoch_begin", begin)
        with pytest.raises(KeyboardInterrupt):
            train(observing, cut, data=data)
    assert len(history(cut)) == 2
    train(observing, cut, data=data, resume=True)
    train(observing, whole, data=data)
    for row, expected in zip(history(cut), history(whole), strict=True):
        assert row.keys() == expected.keys()
        for key in row.keys() - {"seconds"}:
            assert float(row[key]) == pytest.approx(float(expected[key]), rel=1e-4, nan_ok=True), (
                key
            )
