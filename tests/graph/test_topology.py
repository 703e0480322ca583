import pytest

from tfmtl.graph import CHANNELS, EDGE_SETS, edge_sets_of


def test_channels_cover_the_edge_sets():
    assert edge_sets_of(tuple(CHANNELS)) == tuple(EDGE_SETS)


@pytest.mark.parametrize(
    ("channels", "match"),
    [
        (("interaction", "macro"), r"unknown channels \['macro'\]; expected names among"),
        ((), "expected one or more distinct channels"),
        (("interaction", "interaction"), "expected one or more distinct channels"),
        ("interaction", "received the string 'interaction'"),
    ],
)
def test_refuses_unusable_channels(channels, match):
    with pytest.raises(ValueError, match=match):
        edge_sets_of(channels)
