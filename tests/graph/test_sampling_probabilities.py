"""How often the neighbour sampler draws each neighbour.

Users with equal rows draw independently of each other, so one batch is one experiment per user.
"""

import numpy as np
import pytest
from scipy import stats

from tfmtl.graph import CSR, GraphBundle, NeighborSampler

TRIALS = 20_000
# Chance that a right sampler fails a test. Seeds are fixed: a test that passes, passes always.
LEVEL = 1e-3


def equal_rows(degree, weight=None, times=None):
    """Users 1 to TRIALS, each linked with items 1 to `degree`."""
    users = np.repeat(np.arange(1, TRIALS + 1), degree)
    items = np.tile(np.arange(1, degree + 1), TRIALS)
    data = {"behavior": np.zeros(users.size, np.uint8)}
    if weight is not None:
        data["weight"] = np.tile(np.asarray(weight, np.float32), TRIALS)
    if times is not None:
        data["time"] = np.tile(np.asarray(times), TRIALS)
    order = "column" if times is None else "time"
    item_user = CSR.from_edges(users, items, TRIALS + 1, degree + 1, data, order=order)
    nobody = CSR.from_edges(users[:0], users[:0], degree + 1, TRIALS + 1)
    none = {name: values[:0] for name, values in data.items()}
    user_item = CSR(nobody.indptr, nobody.indices, TRIALS + 1, none, order)
    return GraphBundle({"item_user": item_user, "user_item": user_item}, TRIALS + 1, degree + 1)


def drawn_items(bundle, fan_out, *, seed=0, own=0, times=None, **options):
    """`bool [TRIALS, degree + 1]`: which items each user drew; no item is drawn twice."""
    sampler = NeighborSampler(bundle, fan_outs=(fan_out,), channels=("interaction",), **options)
    users = np.arange(1, TRIALS + 1)
    graph = sampler.sample(users, np.full(TRIALS, own), seed, times)
    # Numbers of nodes follow the order of the batch.
    drawn = np.zeros((TRIALS, bundle.num_items), int)
    items = graph.ids["item"][graph.sources["item_user"]]
    np.add.at(drawn, (graph.ids["user"][graph.targets["item_user"]] - 1, items), 1)
    assert drawn.max() <= 1
    return drawn.astype(bool)


def least_p_value(drawn, probability):
    """Least p-value of the items' counts, corrected for their number."""
    tests = [
        stats.binomtest(int(count), TRIALS, chance).pvalue
        for count, chance in zip(drawn.sum(axis=0), probability, strict=True)
    ]
    return min(tests) * len(tests)


def uniform_p_value(drawn):
    """p-value of a chi-square test that all items are alike.

    The items of one draw depend on each other, so each user lends one of its items, at random.
    """
    keys = np.where(drawn, np.random.default_rng(1).random(drawn.shape), -1)
    return stats.chisquare(np.bincount(keys.argmax(axis=1), minlength=drawn.shape[1])).pvalue


@pytest.mark.parametrize("degree", [1, 4, 5])
def test_all_neighbours_are_drawn_up_to_the_fan_out(degree):
    drawn = drawn_items(equal_rows(degree), 5)
    assert drawn[:, 1:].all()
    assert not drawn[:, 0].any()


@pytest.mark.parametrize("degree", [6, 7, 9, 10, 11, 300])
def test_inclusion_is_uniform_above_the_fan_out(degree):
    drawn = drawn_items(equal_rows(degree), 5)[:, 1:]
    assert np.all(drawn.sum(axis=1) == 5)
    assert uniform_p_value(drawn) > LEVEL
    assert least_p_value(drawn, np.full(degree, 5 / degree)) > LEVEL


@pytest.mark.parametrize("degree", [6, 7, 12])
def test_inclusion_is_uniform_beside_an_own_edge(degree):
    drawn = drawn_items(equal_rows(degree), 5, own=3)
    assert not drawn[:, 3].any()
    free = np.delete(drawn, [0, 3], axis=1)
    assert np.all(free.sum(axis=1) == 5)
    assert least_p_value(free, np.full(degree - 1, 5 / (degree - 1))) > LEVEL


@pytest.mark.parametrize("prefix", [1, 5, 6, 8, 40])
def test_inclusion_is_uniform_in_what_came_before(prefix):
    # Item j is met at time 10 j: before 10 (prefix + 1) lie the items 1 to `prefix`.
    bundle = equal_rows(50, times=10 * np.arange(1, 51))
    times = np.full(TRIALS, 10 * (prefix + 1))
    drawn = drawn_items(bundle, 5, times=times, time_limit=True)
    assert not drawn[:, prefix + 1 :].any()
    before = drawn[:, 1 : prefix + 1]
    assert np.all(before.sum(axis=1) == min(5, prefix))
    if prefix > 5:
        assert least_p_value(before, np.full(prefix, 5 / prefix)) > LEVEL


# Three points each 25 apart (W = 75): 40 takes one or two of them, 26 always one.
HEAVY = (1, 40, 2, 26, 2, 4)
MILD = (4, 1, 7, 3, 2, 6, 5, 9, 8, 5)


@pytest.mark.parametrize(("weight", "fan_out"), [(HEAVY, 3), (MILD, 3), (MILD, 9), (MILD, 1)])
def test_weighted_inclusion_is_proportional_up_to_one(weight, fan_out):
    weight = np.array(weight)
    drawn = drawn_items(equal_rows(weight.size, weight), fan_out, weighted=["item_user"])[:, 1:]
    expected = np.minimum(1, fan_out * weight / weight.sum())
    assert drawn.sum(axis=1).max() <= fan_out
    assert drawn[:, expected == 1].all()
    # A draw has fan_out items, less what a heavy neighbour takes more than once.
    assert drawn.sum(axis=1).mean() == pytest.approx(expected.sum(), rel=0.01)
    assert least_p_value(drawn, expected) > LEVEL


@pytest.mark.parametrize("own", [1, 4, 10])
def test_weighted_inclusion_beside_an_own_edge(own):
    weight = np.array(MILD)
    bundle = equal_rows(weight.size, weight)
    drawn = drawn_items(bundle, 3, own=own, weighted=["item_user"])
    assert not drawn[:, own].any()
    free = np.delete(weight, own - 1)
    expected = np.minimum(1, 3 * free / free.sum())
    assert least_p_value(np.delete(drawn, [0, own], axis=1), expected) > LEVEL


def test_weighted_draws_take_all_neighbours_up_to_the_fan_out():
    drawn = drawn_items(equal_rows(6, HEAVY), 6, weighted=["item_user"])
    assert drawn[:, 1:].all()
    beside = drawn_items(equal_rows(6, HEAVY), 5, own=2, weighted=["item_user"])
    assert np.delete(beside, [0, 2], axis=1).all()
    assert not beside[:, 2].any()


def test_weighted_inclusion_in_what_came_before():
    weight = np.array(MILD)
    bundle = equal_rows(weight.size, weight, times=np.arange(1, 11))
    times = np.full(TRIALS, 7)
    drawn = drawn_items(bundle, 2, times=times, time_limit=True, weighted=["item_user"])
    assert not drawn[:, 7:].any()
    assert least_p_value(drawn[:, 1:7], 2 * weight[:6] / weight[:6].sum()) > LEVEL


def test_the_tests_have_power():
    """A sampler that favours the first neighbours by a tenth would fail."""
    rng = np.random.default_rng(0)
    degree, chance = 10, np.where(np.arange(10) < 5, 1.1, 0.9) / 10
    keys = rng.random((TRIALS, degree)) ** (1 / chance)
    drawn = keys >= np.sort(keys, axis=1)[:, [-5]]
    assert uniform_p_value(drawn) < LEVEL
    assert least_p_value(drawn, np.full(degree, 0.5)) < LEVEL
