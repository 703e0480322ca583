import pytest

from tfmtl.graph import MacroConfig


def test_goes_through_json():
    config = MacroConfig(behaviors=("click",), activity="value", user_threshold=4, beta=-1)
    assert MacroConfig.model_validate_json(config.model_dump_json()) == config


def test_a_value_may_be_large_and_a_quantile_is_below_one():
    assert MacroConfig(activity="value", item_threshold=12).item_threshold == 12
    with pytest.raises(ValueError, match="below 1 as item_threshold; received 12"):
        MacroConfig(item_threshold=12)
    with pytest.raises(ValueError, match=r"user_threshold; received 1\.0: lower it, or set"):
        MacroConfig(user_threshold=1)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"user_nodes": 0}, "greater than or equal to 1"),
        ({"item_nodes": 70_000}, "less than or equal to 65000"),
        ({"folds": 1}, "greater than or equal to 2"),
        ({"beta": float("inf")}, "finite number"),
        ({"user_threshold": -0.1}, "greater than or equal to 0"),
        ({"counting": "future"}, "'out_of_fold' or 'history'"),
        ({"clusters": 3}, "Extra inputs are not permitted"),
    ],
)
def test_refuses_bad_values(options, match):
    with pytest.raises(ValueError, match=match):
        MacroConfig(**options)
