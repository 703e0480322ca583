import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.metrics import (
    StreamingAUC,
    StreamingECE,
    StreamingGAUC,
    StreamingLogLoss,
    auc,
    expected_calibration_error,
    gauc,
    log_loss,
)

METRICS = {
    "auc": lambda: StreamingAUC(cells=64, name="a"),
    "ece": lambda: StreamingECE(bins=3, binning="equal_mass", cells=64, name="b"),
    "ece_width": lambda: StreamingECE(bins=3, binning="equal_width", name="c"),
    "gauc": lambda: StreamingGAUC(capacity=4000, weighting="users", name="d"),
    "log_loss": lambda: StreamingLogLoss(name="e"),
}


def traced(metric):
    """The metric's update inside a graph."""

    @tf.function
    def update(*columns, **named):
        metric.update_state(*columns, **named)

    return update


def stream(metric, *columns, batch=700, **named):
    """Feeds the rows through a traced update, in batches of which the last is shorter."""
    update = traced(metric)
    for start in range(0, len(columns[0]), batch):
        end = start + batch
        update(
            *(tf.constant(column[start:end]) for column in columns),
            **{name: tf.constant(column[start:end]) for name, column in named.items()},
        )
    return float(tf.function(metric.result)())


@pytest.fixture
def smooth(rows):
    """Labels and probabilities without ties, of which some are certain."""
    labels, _, _, weights = rows
    noise = np.random.default_rng(5).normal(size=len(labels))
    probabilities = 1 / (1 + np.exp(2 - labels - noise))
    probabilities[:7] = [0, 0, 1, 1, 1e-9, 1 - 1e-9, 0.5]
    return labels, probabilities.astype(np.float32), weights


@pytest.mark.parametrize("name", METRICS)
def test_no_step_leaves_the_graph(name):
    """A metric that goes through the interpreter holds up every batch, and cannot be exported."""
    metric = METRICS[name]()
    column = tf.TensorSpec([None], tf.float32)
    users = {"groups": tf.TensorSpec([None], tf.int64)} if name == "gauc" else {}
    update = traced(metric).get_concrete_function(column, column, **users)
    result = tf.function(metric.result).get_concrete_function()
    for concrete in (update, result):
        definition = concrete.graph.as_graph_def()
        nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
        assert nodes
        assert not {node.op for node in nodes if "PyFunc" in node.op}


def test_auc_agrees_within_its_bound(smooth):
    labels, probabilities, weights = smooth
    metric = StreamingAUC(dtype="float64")
    value = stream(metric, labels, probabilities, weights)
    difference = abs(value - auc(labels, probabilities, weights))
    assert 0 < difference <= float(metric.error_bound()) < 5e-4
    assert difference < 1e-4


def test_the_bound_of_auc_is_that_of_ties():
    # Two cells, below and above one half: (0.6, 0.9) fall together, and their pair is wrong.
    metric = StreamingAUC(cells=2)
    metric.update_state([0, 1, 0], [0.1, 0.6, 0.9])
    assert float(metric.result()) == 0.75
    assert float(metric.error_bound()) == 0.25
    assert auc([0, 1, 0], [0.1, 0.6, 0.9]) == 0.5


def test_auc_keeps_ties(rows):
    labels, probabilities, _, weights = rows
    value = stream(StreamingAUC(dtype="float64"), labels, probabilities, weights)
    assert value == pytest.approx(auc(labels, probabilities, weights), abs=1e-12)


def test_log_loss_agrees(smooth):
    labels, probabilities, weights = smooth
    value = stream(StreamingLogLoss(dtype="float64"), labels, probabilities, weights)
    assert value == pytest.approx(log_loss(labels, probabilities, weights), abs=1e-12)


def test_ece_of_equal_width_agrees(smooth):
    labels, probabilities, weights = smooth
    metric = StreamingECE(bins=7, binning="equal_width", dtype="float64")
    value = stream(metric, labels, probabilities, weights)
    exact = expected_calibration_error(
        labels, probabilities, weights, bins=7, binning="equal_width"
    )
    assert value == pytest.approx(exact, abs=1e-12)
    assert float(metric.error_bound()) == 0


@pytest.mark.parametrize(
    ("cells", "least_difference", "largest_bound"),
    [(50, 1e-3, 1.0), (1024, 1e-9, 0.15), (16384, 0.0, 0.015)],
)
def test_ece_of_equal_mass_agrees_within_its_bound(smooth, cells, least_difference, largest_bound):
    labels, probabilities, weights = smooth
    metric = StreamingECE(cells=cells, dtype="float64")
    value = stream(metric, labels, probabilities, weights)
    difference = abs(value - expected_calibration_error(labels, probabilities, weights))
    assert least_difference <= difference <= float(metric.error_bound()) < largest_bound


@pytest.mark.parametrize("weighting", ["impressions", "users"])
def test_gauc_agrees(rows, weighting):
    labels, probabilities, users, weights = rows
    metric = StreamingGAUC(capacity=3000, weighting=weighting, dtype="float64")
    value = stream(metric, labels, probabilities, weights, groups=users)
    exact = gauc(labels, probabilities, users, weights=weights, weighting=weighting)
    assert value == pytest.approx(exact.value, abs=1e-12)


def test_gauc_takes_users_as_second_label_column(rows):
    labels, probabilities, users, _ = rows
    users = users + 2**40
    both = np.stack([labels.astype(np.int64), users], axis=1)
    value = stream(StreamingGAUC(capacity=3000, dtype="float64"), both, probabilities)
    assert value == pytest.approx(gauc(labels, probabilities, users).value, abs=1e-12)


def test_gauc_refuses_more_rows_than_it_holds():
    metric = StreamingGAUC(capacity=3)
    metric.update_state([1, 0], [0.5, 0.2], groups=[1, 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="has room for 3 rows; raise capacity"):
        metric.update_state([1, 0], [0.5, 0.2], groups=[1, 1])
    update = traced(metric)
    with pytest.raises(tf.errors.InvalidArgumentError, match="has room for 3 rows; raise capacity"):
        update(tf.constant([1, 0]), tf.constant([0.5, 0.2]), groups=tf.constant([1, 1]))


def test_gauc_refuses_labels_without_users():
    with pytest.raises(ValueError, match=r"received labels \(2,\) without groups"):
        StreamingGAUC().update_state(tf.constant([1.0, 0.0]), tf.constant([0.5, 0.2]))
    with pytest.raises(ValueError, match="expected users as integers; received float32"):
        StreamingGAUC().update_state([[1.0, 7.0], [0.0, 7.0]], [0.5, 0.2])


def test_gauc_merges_rows():
    first, second = StreamingGAUC(capacity=4), StreamingGAUC(capacity=4)
    first.update_state([1, 0], [0.5, 0.2], groups=[1, 2])
    second.update_state([1, 0], [0.1, 0.6], groups=[2, 1])
    first.merge_state([second])
    # User 1: 0.5 against 0.6; user 2: 0.1 against 0.2.
    assert float(first.result()) == 0.0
    assert np.isnan(second.result())


def test_gauc_refuses_replicas(monkeypatch):
    class Strategy:
        num_replicas_in_sync = 2

    monkeypatch.setattr(tf.distribute, "get_strategy", Strategy)
    with pytest.raises(ValueError, match="received a strategy with 2"):
        StreamingGAUC()


@pytest.mark.parametrize("name", METRICS)
def test_is_nan_before_rows_and_after_reset(name):
    metric = METRICS[name]()
    assert np.isnan(metric.result())
    labels = tf.constant([[1, 7], [0, 7]]) if name == "gauc" else tf.constant([1, 0])
    metric.update_state(labels, [0.5, 0.2])
    value = float(metric.result())
    metric.reset_state()
    assert np.isnan(metric.result())
    metric.update_state(labels, [0.5, 0.2])
    assert float(metric.result()) == value


@pytest.mark.parametrize("name", METRICS)
def test_config_is_complete(name):
    metric = METRICS[name]()
    config = json.loads(json.dumps(keras.metrics.serialize(metric)))
    again = keras.metrics.deserialize(config)
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()
    assert keras.utils.get_registered_name(type(metric)) == f"tfmtl>{type(metric).__name__}"


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("graph", [False, True])
def test_refuses_values_out_of_range(name, graph):
    metric = METRICS[name]()
    users = {"groups": tf.constant([1, 1])} if name == "gauc" else {}
    update = traced(metric) if graph else metric.update_state
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected labels 0 and 1"):
        update(tf.constant([1.0, 2.0]), tf.constant([0.5, 0.2]), **users)
    for wrong in (float("nan"), 1.5):
        with pytest.raises(tf.errors.InvalidArgumentError, match="probabilities between 0 and 1"):
            update(tf.constant([1.0, 0.0]), tf.constant([0.5, wrong]), **users)
    assert np.isnan(metric.result())


@pytest.mark.parametrize("name", METRICS)
def test_rows_of_weight_0_may_hold_anything(name):
    metric = METRICS[name]()
    nan = float("nan")
    users = {"groups": [1, 1, 1]} if name == "gauc" else {}
    metric.update_state([1.0, 0.0, nan], [0.75, 0.25, nan], [1.0, 1.0, 0.0], **users)
    expected = {"log_loss": -np.log(0.75), "ece": 0.25, "ece_width": 0.25}.get(name, 1.0)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StreamingAUC(cells=1), "at least 2 cells; received cells=1"),
        (lambda: StreamingECE(bins=0), "at least 1 bin; received bins=0"),
        (lambda: StreamingECE(binning="logit"), "received 'logit'"),
        (lambda: StreamingECE(bins=20, cells=10), "as many cells as bins, 20; received 10"),
        (lambda: StreamingGAUC(capacity=0), "at least 1 row; received 0"),
        (lambda: StreamingGAUC(weighting="rows"), "'impressions' or 'users'; received 'rows'"),
    ],
)
def test_refuses_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_all_work_in_compile(rows):
    labels, _, users, weights = rows
    inputs = np.random.default_rng(1).normal(size=(len(labels), 2)).astype(np.float32)
    both = np.stack([labels.astype(np.int64), users], axis=1)

    def loss(y_true, y_pred):
        return keras.losses.binary_crossentropy(tf.cast(y_true[:, :1], tf.float32), y_pred)

    model = keras.Sequential([keras.layers.Dense(1, activation="sigmoid")])
    model.compile(loss=loss, metrics=[StreamingGAUC(capacity=3000)])
    logs = model.evaluate(inputs, both, batch_size=512, verbose=0, return_dict=True)
    probabilities = model.predict(inputs, verbose=0)[:, 0]
    assert logs["gauc"] == pytest.approx(gauc(labels, probabilities, users).value, abs=1e-6)

    streaming = StreamingAUC()
    model.compile(
        loss="binary_crossentropy",
        weighted_metrics=[streaming, StreamingLogLoss(), StreamingECE()],
    )
    model.fit(inputs, labels, batch_size=512, epochs=2, sample_weight=weights, verbose=0)
    logs = model.evaluate(
        inputs, labels, batch_size=512, sample_weight=weights, verbose=0, return_dict=True
    )
    counted = (labels, model.predict(inputs, verbose=0)[:, 0], weights)
    assert logs["auc"] == pytest.approx(auc(*counted), abs=float(streaming.error_bound()))
    assert logs["log_loss"] == pytest.approx(log_loss(*counted), abs=1e-6)
    assert logs["ece"] == pytest.approx(expected_calibration_error(*counted), abs=1e-2)
