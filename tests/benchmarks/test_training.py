import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.training import contestants, table_growth, weighting_cost
from tfmtl.objectives.build_weighting import WEIGHTINGS


@pytest.fixture(scope="module")
def examples():
    return contestants.batches(2, 32, 50)


def trained_once(model, data):
    before = [weight.numpy() for weight in model.trainable_weights]
    history = model.fit(data, verbose=0).history
    changed = [
        not np.array_equal(weight, old)
        for weight, old in zip(model.trainable_weights, before, strict=True)
    ]
    assert all(changed)
    return history


def test_contestants_have_the_same_weights_and_all_are_trained(examples):
    own, by_hand = contestants.package(50), contestants.hand_written(50)
    trained_once(own, contestants.dataset(contestants.package_batches(examples)))
    trained_once(by_hand, contestants.dataset(examples))
    # The package's table has a row for padding.
    assert contestants.trained_weights(own) - contestants.DIM == contestants.trained_weights(
        by_hand
    )


def test_rows_are_the_steps_of_one_fit(examples):
    data = contestants.dataset(contestants.package_batches(examples))
    assert data.cardinality() == 2
    features, labels, weights = next(iter(data))
    assert len(features) == 39
    assert labels.keys() == weights.keys() == set(contestants.TASKS)
    assert tf.reduce_all(weights["buy"] == 1)


def test_deep_ctr_must_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepctr.feature_column", None)
    with pytest.raises(ImportError, match=r"pip install --no-deps deepctr==0\.9\.4"):
        contestants.deep_ctr(50)


def test_tables_of_two_sizes_are_compared(monkeypatch):
    monkeypatch.setattr(table_growth, "STEPS", 1)
    found = table_growth.measure(16, 2000, 2)
    assert found["ids"] == {"large": 2000, "small": 20}
    assert found["growth"] > 0
    assert set(found["milliseconds"]) == {"large", "small"}


@pytest.mark.slow
def test_weightings_are_measured_against_equal_weights(monkeypatch):
    chosen = {name: WEIGHTINGS[name] for name in ("static", "pcgrad", "famo")}
    monkeypatch.setattr(weighting_cost, "WEIGHTINGS", chosen)
    monkeypatch.setattr(weighting_cost, "STEPS", 1)
    found = weighting_cost.measure(16, 1)
    assert found["times_static"].keys() == found["milliseconds"].keys() == chosen.keys()
    assert found["times_static"]["static"] == 1
    assert min(found["times_static"].values()) > 0
