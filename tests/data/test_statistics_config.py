import pytest
from pydantic import ValidationError

from tfmtl.data import StatisticsConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entities": []}, "at least 1 item"),
        ({"entities": ["a", "b", "a"]}, r"expected distinct entities; repeated: \['a'\]"),
        ({"entities": ["a"], "prior": 0}, "greater than 0"),
        ({"entities": ["a"], "granularity": -1}, "greater than or equal to 0"),
        ({"entities": ["a"], "folds": 1}, "greater than or equal to 2"),
        ({"entities": ["a"], "counting": "future"}, "'causal' or 'out_of_fold'"),
        (
            {"entities": ["a"], "counting": "out_of_fold", "granularity": 7},
            "granularity 7 has no meaning out of fold",
        ),
        ({"entities": ["a"], "period": 1}, "Extra inputs are not permitted"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        StatisticsConfig(**options)
