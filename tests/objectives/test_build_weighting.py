import pytest

from tfmtl.objectives import WEIGHTINGS, build_weighting
from tfmtl.schema import Task

TASKS = [Task(name="like", weight=0.5), Task(name="click", weight=2.0)]


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_by_name(name):
    weighting = build_weighting(name, TASKS)
    assert type(weighting) is WEIGHTINGS[name]
    assert weighting.name == "weighting"
    expected = {"like": 1.0, "click": 1.0} if name == "uncertainty" else {"like": 0.5, "click": 2.0}
    assert weighting.weights_by_task == expected


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("uncertainty", "limit", 2.0),
        ("dwa", "temperature", 3.0),
        ("grad_norm", "alpha", 0.5),
        ("pcgrad", "seed", 7),
        ("cagrad", "c", 0.2),
        ("mgda", "normalization", "norm"),
        ("imtl", "kind", "loss"),
        ("famo", "decay", 0.0),
    ],
)
def test_with_options(name, option, value):
    weighting = build_weighting({"name": name, option: value}, TASKS)
    assert getattr(weighting, option) == value


@pytest.mark.parametrize("weighting", ["gradnorm", {"alpha": 1.5}, {"name": "gradnorm"}])
def test_an_unknown_name_is_answered_with_those_that_exist(weighting):
    with pytest.raises(ValueError, match=r"'cagrad', 'dwa', .*'static' or 'uncertainty'; received"):
        build_weighting(weighting, TASKS)


def test_an_unknown_option_is_answered_with_those_that_exist():
    with pytest.raises(
        ValueError,
        match=r"'grad_norm' has no options \['beta'\]; expected some of \['alpha', 'learning_rate'",
    ):
        build_weighting({"name": "grad_norm", "beta": 1}, TASKS)


def test_the_dict_is_left_as_it_is():
    given = {"name": "cagrad", "c": 0.2}
    build_weighting(given, TASKS)
    assert given == {"name": "cagrad", "c": 0.2}
