import sys

import pytest

from tfmtl.evaluation import TuningConfig
from tfmtl.evaluation.trial_proposals import trial_proposals

SPACE = {
    "training.learning_rate": {"kind": "float", "low": 1e-4, "high": 1e-1, "sampling": "log"},
    "model.units": {"kind": "choice", "values": [[4], [8], [8, 4]]},
}
UNTUNED = {"training.learning_rate": 0.01, "model.units": [8]}
ORACLES = ["random", "bayesian", "grid"]


def score(values):
    """Higher the higher the learning rate; it fails with `[8, 4]`."""
    values = {**UNTUNED, **values}
    return None if values["model.units"] == [8, 4] else values["training.learning_rate"]


def drawn(tuning, number, untuned=UNTUNED, score=score, greater_is_better=True):
    """The first proposals, as many as there are if fewer."""
    proposals = trial_proposals(tuning, untuned, greater_is_better=greater_is_better)
    found = [next(proposals)]
    while len(found) < number:
        try:
            found.append(proposals.send(score(found[-1])))
        except StopIteration:
            break
    return found


@pytest.mark.parametrize("oracle", ORACLES)
def test_proposals_begin_untuned_differ_and_lie_in_the_space(oracle):
    tuning = TuningConfig(oracle=oracle, space=SPACE)
    found = drawn(tuning, 6)
    assert found[0] == {}
    assert len({str({**UNTUNED, **values}) for values in found}) == 6
    for values in found[1:]:
        assert list(values) == list(SPACE)
        assert all(tuning.space[path].contains(value) for path, value in values.items())


@pytest.mark.parametrize("oracle", ORACLES)
def test_proposals_can_be_repeated_and_extended(oracle):
    longer = drawn(TuningConfig(trials=6, oracle=oracle, space=SPACE), 6)
    assert drawn(TuningConfig(trials=4, oracle=oracle, space=SPACE), 4) == longer[:4]


@pytest.mark.parametrize("oracle", ["random", "bayesian"])
def test_the_seed_makes_the_proposals(oracle):
    found = [drawn(TuningConfig(oracle=oracle, seed=seed, space=SPACE), 4) for seed in (0, 1)]
    rates = [{one["training.learning_rate"] for one in each[1:]} for each in found]
    assert not rates[0] & rates[1]


def test_only_the_bayesian_oracle_asks_for_scores():
    for oracle, alike in (("random", True), ("grid", True), ("bayesian", False)):
        tuning = TuningConfig(oracle=oracle, space=SPACE)
        up, down = drawn(tuning, 6), drawn(tuning, 6, greater_is_better=False)
        assert (up == down) == alike


def test_the_bayesian_oracle_goes_where_scores_are_better():
    space = {"training.learning_rate": SPACE["training.learning_rate"]}
    untuned = {"training.learning_rate": 0.001}

    def loss(values):
        return -(values.get("training.learning_rate", 0.001) ** 0.5)

    found = drawn(TuningConfig(oracle="bayesian", space=space), 8, untuned, loss, False)
    # The initial points and then the optimum, which is at a bound.
    assert 0.1 in [values["training.learning_rate"] for values in found[2:]]


def test_a_grid_starts_at_the_untuned_setting_and_ends():
    space = {
        "a.b": {"kind": "choice", "values": [1, 2]},
        "a.c": {"kind": "int", "low": 1, "high": 3},
    }
    found = drawn(TuningConfig(oracle="grid", space=space), 99, {"a.b": 2, "a.c": 1}, len)
    combinations = [{"a.b": b, "a.c": c} for b in (2, 1) for c in (1, 2, 3)]
    assert found == [{}, *combinations[1:]]


@pytest.mark.parametrize("oracle", ORACLES)
def test_an_exhausted_space_ends(oracle):
    space = {"a.b": {"kind": "choice", "values": [1, 2, 3]}}
    found = drawn(TuningConfig(oracle=oracle, space=space), 99, {"a.b": 1}, len)
    assert found[0] == {}
    assert sorted(values["a.b"] for values in found[1:]) == [2, 3]


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("untuned", [None, 0.5])
def test_an_untuned_value_outside_the_space_is_tried_all_the_same(oracle, untuned):
    space = {"a.b": {"kind": "float", "low": 1.0, "high": 2.0}}
    found = drawn(TuningConfig(oracle=oracle, space=space), 4, {"a.b": untuned}, len)
    assert found[0] == {}
    assert all(1 <= values["a.b"] <= 2 for values in found[1:])


@pytest.mark.parametrize("oracle", ORACLES)
def test_failures_do_not_end_the_proposals(oracle):
    found = drawn(TuningConfig(oracle=oracle, space=SPACE), 6, score=lambda values: None)
    assert len(found) == 6


@pytest.mark.parametrize("missing", ["keras_tuner", "sklearn"])
def test_what_is_missing_is_named_with_the_remedy(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"needs keras-tuner and .*{missing}.*tfmtl\[tuning\]"):
        drawn(TuningConfig(space=SPACE), 2)
