import numpy as np
import pytest

from benchmarks import gradient_boosted_trees
from benchmarks.gradient_boosted_trees import PRIOR, boosted_trees, graph_score, target_encoding
from tfmtl.training import Experiment, prepare_data

USERS = np.array([1, 1, 2, 2, 3, 3, 1, 2])
ITEMS = np.array([1, 2, 1, 3, 2, 3, 3, 2])
LABEL = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0])
FOLD = np.array([0, 1, 2, 3, 4, 0, 1, 2])


def encode(label=LABEL, weight=None, history=None):
    codes = {"train": USERS, "validation": np.array([1, 0])}
    weight = np.ones(len(label)) if weight is None else weight
    return target_encoding(codes, label * weight, weight, history, FOLD, 4)


def score(label=LABEL, history=None):
    pairs = {"train": (USERS, ITEMS), "test": (np.array([1, 3]), np.array([1, 1]))}
    return graph_score(pairs, label, history, FOLD, (4, 4), seed=0)


def test_rates_of_held_out_rows_are_those_of_all_training_rows():
    # User 1 has two positives among three rows, the log five among eight.
    rate = 5 / 8
    expected = [[(2 + PRIOR * rate) / (3 + PRIOR), np.log(4)], [rate, 0]]
    np.testing.assert_allclose(encode()["validation"], expected)


def test_rates_of_training_rows_are_those_of_the_other_folds():
    # Row 1 is in fold 1 with row 6, so user 1 is left with row 0; six rows, four of them positive.
    rate = 4 / 6
    np.testing.assert_allclose(encode()["train"][1], [(1 + PRIOR * rate) / (1 + PRIOR), np.log(2)])


def test_history_counts_and_undefined_rows_do_not():
    weight = np.ones(8)
    weight[0] = 0
    history = np.array([1, 1, 2]), np.array([1.0, 1.0, 0.0])
    # User 1: one positive of two rows, and two of two before; in all six of ten.
    rate = 6 / 10
    expected = [(3 + PRIOR * rate) / (4 + PRIOR), np.log(5)]
    np.testing.assert_allclose(encode(weight=weight, history=history)["validation"][0], expected)


@pytest.mark.parametrize("row", range(len(LABEL)))
def test_no_rate_knows_its_own_label(row):
    other = LABEL.copy()
    other[row] = 1 - other[row]
    before, after = (encode(label)["train"] for label in (LABEL, other))
    np.testing.assert_array_equal(before[row], after[row])
    assert not np.allclose(before, after)


def test_no_graph_score_knows_its_own_label(monkeypatch):
    monkeypatch.setattr(gradient_boosted_trees, "RANK", 3)
    rng = np.random.default_rng(4)
    pairs = {"train": (rng.integers(1, 13, 90), rng.integers(1, 11, 90))}
    label, folds = rng.integers(0, 2, 90).astype(float), rng.integers(0, 5, 90)
    other = label.copy()
    other[7] = 1 - other[7]
    before, after = (
        graph_score(pairs, one, None, folds, (13, 11), seed=0)["train"] for one in (label, other)
    )
    assert before[7] != 0
    np.testing.assert_array_equal(before[7], after[7])
    assert not np.allclose(before, after)


def test_graph_scores_are_the_low_rank_matrix():
    # At full rank the decomposition gives back the normalised matrix of positive pairs: users 1, 2
    # and 3 have 2, 2 and 1 of them, items 1 and 3 have 2 and 3. Rank 3 of 4 is full here.
    np.testing.assert_allclose(score()["test"][:, 0], [1 / np.sqrt(2 * 2), 0], atol=1e-9)


def test_history_is_part_of_the_graph():
    history = np.array([3]), np.array([1]), np.array([1.0])
    # User 3 has now two positive pairs, item 1 three.
    assert score(history=history)["test"][1, 0] == pytest.approx(1 / np.sqrt(2 * 3))


@pytest.mark.slow
def test_trees_learn_on_a_simulated_log():
    experiment = Experiment.from_yaml(
        "{dataset: {name: simulator, options: {num_users: 100, num_items: 80, num_rows: 6000}}, "
        "model: {name: mmoe}}"
    )
    data = prepare_data(experiment)
    cell = boosted_trees(data, 0)
    assert set(cell.metrics["test"]) == set(data.loaded.log.schema.task_names)
    assert cell.metrics["test"]["click"].auc > 0.55
    again = boosted_trees(data, 0)
    assert again.metrics["test"]["click"].auc == cell.metrics["test"]["click"].auc
