import pytest

import tfmtl
from tests.public_api import GOLDEN, current
from tests.rooms import RANKS, public_names, public_rooms, room


def test_public_names_are_those_of_the_golden_list():
    golden = GOLDEN.read_text(encoding="utf-8").splitlines()
    names = current()
    added, removed = sorted(set(names) - set(golden)), sorted(set(golden) - set(names))
    assert names == golden, (
        f"public names changed: added {added}, removed {removed}; "
        "if that is meant, run `python -m tests.public_api` and add a line to CHANGELOG.md"
    )


def test_every_room_has_a_rank():
    assert set(public_rooms()) <= set(RANKS)


def test_rooms_load_as_attributes_of_the_package():
    for name in tfmtl.__all__:
        assert getattr(tfmtl, name) is room(name)
    with pytest.raises(AttributeError, match="module 'tfmtl' has no attribute 'rooms'"):
        _ = tfmtl.rooms


@pytest.mark.parametrize("name", public_rooms())
def test_all_is_sorted_and_resolves(name):
    module = room(name)
    assert (module.__doc__ or "").strip(), f"tfmtl.{name} has no docstring"
    names = public_names(module)
    # The linter's order: constants, then classes, then functions.
    assert len(set(names)) == len(names)
    for public in names:
        assert getattr(module, public, None) is not None, f"tfmtl.{name}.{public} does not exist"
