import json

import numpy as np
import pytest

from tfmtl.graph import BundleError
from tfmtl.graph.array_manifest import check_arrays, check_entries, read_manifest, write_manifest

BOX = {"kind": "test.box", "version": 3}


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.int32).reshape(2, 3))
    write_manifest(tmp_path, ["x.npy"], {"seed": 7}, **BOX)
    return tmp_path


def read(folder, **options):
    return read_manifest(folder, noun="box", **{**BOX, **options})


def test_says_what_the_arrays_are(folder):
    manifest = read(folder, needed=["seed"])
    assert manifest["seed"] == 7
    assert (manifest["format"], manifest["format_version"]) == ("test.box", 3)
    described = manifest["arrays"]["x.npy"]
    assert (described["dtype"], described["shape"]) == ("int32", [2, 3])
    assert described["bytes"] == (folder / "x.npy").stat().st_size
    check_arrays(folder, manifest["arrays"], verify=True)


def test_refuses_another_manifest(folder, tmp_path):
    with pytest.raises(BundleError, match=r"lacks \['colour', 'size'\]"):
        read(folder, needed=["seed", "size", "colour"])
    with pytest.raises(BundleError, match="expected format version 4; received 3: build the graph"):
        read(folder, version=4)
    with pytest.raises(BundleError, match="does not describe a box"):
        read(folder, kind="test.bag")
    for text, match in (("[]", "does not describe a box"), ("{", "is not JSON")):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(BundleError, match=match):
            read(folder)
    with pytest.raises(BundleError, match=r"is no box: manifest\.json is missing"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("entry", "value", "match"),
    [
        ("bytes", 5, r"array x\.npy has \d+ bytes, the manifest says 5; the copy is incomplete"),
        ("shape", [3, 2], r"is int32 \[2, 3\], the manifest says int32 \[3, 2\]"),
        ("dtype", "int64", r"the manifest says int64 \[2, 3\]"),
    ],
)
def test_refuses_an_array_that_differs(folder, entry, value, match):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["arrays"]["x.npy"][entry] = value
    with pytest.raises(BundleError, match=match):
        check_arrays(folder, manifest["arrays"])


def test_entries_are_compared():
    check_entries({"seed": 1, "more": 2}, {"seed": 1}, "box")
    with pytest.raises(BundleError, match="the box was built with seed 1, now it is 2; build the"):
        check_entries({"seed": 1}, {"seed": 2}, "box")
    with pytest.raises(BundleError, match="the box's manifest has no entry 'colour' to check"):
        check_entries({"seed": 1}, {"colour": 2}, "box")
