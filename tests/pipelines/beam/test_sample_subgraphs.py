import pytest

from tfmtl.pipelines.beam import SampleSubgraphs


def test_one_sequence_is_for_all_edge_sets():
    sample = SampleSubgraphs((4, 2), "artifacts", channels=["interaction"])
    assert sample.fan_outs == {"item_user": (4, 2), "user_item": (4, 2)}


@pytest.mark.parametrize(
    ("fan_outs", "message"),
    [
        ((), "expected one positive fan-out per hop"),
        ((3, 0), "expected one positive fan-out per hop"),
        ({"item_user": (3,), "user_item": (3, 3)}, "as many for every edge set"),
        ({"item_user": (3,)}, r"expected fan_outs for the edge sets \['item_user', 'user_item'\]"),
    ],
)
def test_bad_fan_outs(fan_outs, message):
    with pytest.raises(ValueError, match=message):
        SampleSubgraphs(fan_outs, "artifacts", channels=["interaction"])


def test_bad_channel():
    with pytest.raises(ValueError, match=r"unknown channels \['friends'\]"):
        SampleSubgraphs((3,), "artifacts", channels=["friends"])
