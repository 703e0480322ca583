import pytest

from tfmtl.evaluation import Choice, FloatRange, IntRange
from tfmtl.training.yaml_document import validated

LOG = {"kind": "float", "low": 1e-4, "high": 1e-2, "sampling": "log"}


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (FloatRange(**LOG), [1e-4, 0.001, 1e-2], [0.0, 0.011, None, True, "0.001"]),
        (IntRange(kind="int", low=1, high=4), [1, 4], [0, 5, None, True]),
        (Choice(kind="choice", values=[None, [8], [8, 4]]), [None, [8, 4]], [[4], 8]),
    ],
)
def test_what_a_dimension_contains(dimension, inside, outside):
    assert all(dimension.contains(value) for value in inside)
    assert not any(dimension.contains(value) for value in outside)


def test_proposals_are_rounded_and_stay_within_the_bounds():
    learning_rate = FloatRange(**LOG)
    assert learning_rate.decode(0.0012345678) == 0.001235
    assert learning_rate.decode(0.010000000000000002) == 0.01
    assert FloatRange(kind="float", low=0.12344, high=1.0).decode(0.123441) == 0.12344
    # KerasTuner's logarithmic whole numbers reach one beyond the bound.
    assert IntRange(kind="int", low=2, high=8, sampling="log").decode(9) == 8


def test_choices_are_known_by_their_place():
    units = Choice(kind="choice", values=[[8], [8, 4], None])
    assert [units.encode(value) for value in units.values] == [0, 1, 2]
    assert [units.decode(place) for place in range(3)] == [[8], [8, 4], None]


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (FloatRange, {**LOG, "low": 0}, "sampling 'log' needs a positive low; received 0.0: use"),
        (FloatRange, {**LOG, "high": 1e-4}, "expected low below high; received 0.0001 and 0.0001"),
        (FloatRange, {**LOG, "lwo": 1}, r"lwo: unknown field 'lwo'; expected some of \['low', "),
        (FloatRange, {**LOG, "sampling": "ln"}, "sampling: .*'linear' or 'log'; received 'ln'"),
        (IntRange, {"kind": "int", "low": 1.5, "high": 3}, "low: .*integer.*; received 1.5"),
        (IntRange, {"kind": "int", "low": 1}, "high: Field required"),
        (Choice, {"kind": "choice", "values": []}, "values: .*at least 1 item"),
        (Choice, {"kind": "choice", "values": [1, 2, 1]}, "every value once; received 1 again"),
    ],
)
def test_a_dimension_that_is_none(kind, content, message):
    with pytest.raises(ValueError, match=message):
        validated(kind, content)
