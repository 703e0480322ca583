import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tfmtl.export import NodeStatesError, read_node_states, write_node_states
from tfmtl.layers import NodeStates


@pytest.fixture(scope="module")
def states(shop_data):
    rng = np.random.default_rng(0)
    sizes = {side: shop_data.encoder.vocabularies[f"{side}_id"].size for side in ("user", "item")}
    keys = ("interaction/user", "user_similarity/user", "interaction/item")
    return NodeStates(
        {key: rng.normal(size=(sizes[key.split("/")[1]], 3)).astype(np.float32) for key in keys}
    )


@pytest.mark.parametrize("shard_rows", [1, 7, 10**6])
def test_shards_hold_every_node_once_in_the_order_of_encoded_ids(
    states, shop_data, tmp_path, shard_rows
):
    write_node_states(states, shop_data.encoder, tmp_path / "states", shard_rows=shard_rows)
    again = read_node_states(tmp_path / "states")
    assert list(again.tables) == list(states.tables)
    for key, table in states.tables.items():
        np.testing.assert_array_equal(again.tables[key], table)
    for side in ("user", "item"):
        shards = [pq.read_table(path) for path in sorted((tmp_path / "states").glob(f"{side}-*"))]
        assert all(0 < shard.num_rows <= shard_rows for shard in shards)
        ids = [raw for shard in shards for raw in shard[f"{side}_id"].to_pylist()]
        assert ids == [None, *shop_data.encoder.vocabularies[f"{side}_id"].values.tolist()]


def test_an_earlier_folder_is_replaced_and_other_folders_are_left_alone(
    states, shop_data, tmp_path
):
    for shard_rows in (1, 100):
        write_node_states(states, shop_data.encoder, tmp_path / "states", shard_rows=shard_rows)
    manifest = json.loads((tmp_path / "states" / "manifest.json").read_text())
    assert {path.name for path in (tmp_path / "states").glob("*.parquet")} == {*manifest["shards"]}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(FileExistsError, match=r"holds no manifest\.json"):
        write_node_states(states, shop_data.encoder, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_refuses_what_does_not_fit(states, shop_data, tmp_path):
    with pytest.raises(ValueError, match="shard_rows of at least 1; received 0"):
        write_node_states(states, shop_data.encoder, tmp_path / "states", shard_rows=0)
    short = NodeStates({"interaction/user": np.zeros((2, 3), np.float32)})
    with pytest.raises(ValueError, match=r"nodes for interaction/user.*; received 2: use the enco"):
        write_node_states(short, shop_data.encoder, tmp_path / "states")
    assert not (tmp_path / "states").exists()


def test_names_what_is_missing_damaged_or_of_another_version(states, shop_data, tmp_path):
    folder = tmp_path / "states"
    with pytest.raises(NodeStatesError, match="holds no node states"):
        read_node_states(folder)
    write_node_states(states, shop_data.encoder, folder)
    shard = folder / "item-00000-of-00001.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-9])
    with pytest.raises(NodeStatesError, match=r"shard item-0.* does not match its checksum"):
        read_node_states(folder)
    shard.unlink()
    with pytest.raises(NodeStatesError, match=r"shard item-0.* is missing; write the states again"):
        read_node_states(folder)
    manifest = json.loads((folder / "manifest.json").read_text()) | {"format_version": 9}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(NodeStatesError, match=r"of version 1; received .* version 9"):
        read_node_states(folder)
