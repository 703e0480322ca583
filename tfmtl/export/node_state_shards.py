"""Graph states of all users and items on disk, in shards of rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import track

from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.data.file_digest import file_sha256
from tfmtl.graph.written_aside import written_aside
from tfmtl.layers.node_states import NodeStates
from tfmtl.schema import ITEM_ID, USER_ID

FORMAT = "tfmtl.node_states"
FORMAT_VERSION = 1
_MANIFEST = "manifest.json"
_ID_COLUMNS = {"user": USER_ID, "item": ITEM_ID}


class NodeStatesError(ValueError):
    """Node states on disk are missing, damaged, or of another version."""


def write_node_states(
    states: NodeStates,
    encoder: FeatureEncoder,
    folder: Path | str,
    *,
    shard_rows: int = 2**18,
    progress: bool = False,
) -> None:
    """Writes the states as Parquet shards, for retrieval indexes and jobs outside of the model.

    Shards are named `user-00000-of-00002.parquet` and `item-...`. Row r of the shards of a side,
    one after the other, is the node of encoded id r: its raw id (null for row 0, the unknown id),
    and a column per channel with its state, a list of d `float32`. `manifest.json` has the rows and
    the SHA-256 of every shard. The folder is written aside and renamed.

    Args:
        states: What `MoGENet.compute_node_states` returned.
        encoder: The model's encoder, which knows the raw ids.
        folder: Folder to write; an earlier one is replaced as a whole.
        shard_rows: Most rows of a shard.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If `shard_rows` is not positive, or the states are not those of the encoder's
            ids.
        FileExistsError: If `folder` holds something else.

    Example:
        >>> import tempfile
        >>> from tfmtl.data import TrainingLog
        >>> from tfmtl.schema import Schema, Task
        >>> rows = pa.table({"user_id": [7, 9], "item_id": [1, 2], "click": [1, 0]})
        >>> encoder = FeatureEncoder.fit(TrainingLog(rows, Schema(tasks=[Task(name="click")])))
        >>> states = NodeStates({"interaction/user": np.eye(3, dtype=np.float32)})
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     write_node_states(states, encoder, Path(parent) / "states")
        ...     shard = pq.read_table(Path(parent) / "states" / "user-00000-of-00001.parquet")
        ...     again = read_node_states(Path(parent) / "states")
        >>> shard["user_id"].to_pylist(), shard["interaction"][2].as_py()
        ([None, 7, 9], [0.0, 0.0, 1.0])
        >>> again({"user_id": [1]})["states"]["interaction/user"].numpy().tolist()
        [[0.0, 1.0, 0.0]]
    """
    if shard_rows < 1:
        raise ValueError(f"expected shard_rows of at least 1; received {shard_rows}")
    tables: dict[str, dict[str, np.ndarray]] = {}
    for key, table in states.tables.items():
        channel, _, side = key.rpartition("/")
        tables.setdefault(side, {})[channel] = table.numpy()
    ids = {side: encoder.vocabularies[_ID_COLUMNS[side]].values for side in tables}
    for side, channels in tables.items():
        for channel, table in channels.items():
            if len(table) != len(ids[side]) + 1:
                raise ValueError(
                    f"expected states of {len(ids[side]) + 1} nodes for {channel}/{side}, one per "
                    f"id of the encoder and the unknown one; received {len(table)}: use the "
                    "encoder that the model was trained with"
                )
    pieces = [
        (side, number, -(-(len(ids[side]) + 1) // shard_rows))
        for side in tables
        for number in range(-(-(len(ids[side]) + 1) // shard_rows))
    ]
    with written_aside(Path(folder), _MANIFEST) as aside:
        shards = {}
        for side, number, total in track(pieces, "Node states", disable=not progress):
            rows = slice(number * shard_rows, (number + 1) * shard_rows)
            name = f"{side}-{number:05}-of-{total:05}.parquet"
            shard = _shard(_ID_COLUMNS[side], ids[side], tables[side], rows)
            pq.write_table(shard, aside / name, compression="zstd")
            shards[name] = {"rows": shard.num_rows, "sha256": file_sha256(aside / name)}
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "encoder_fingerprint": encoder.fingerprint(),
            "states": list(states.tables),
            "shards": shards,
        }
        (aside / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def read_node_states(folder: Path | str) -> NodeStates:
    """Reads what `write_node_states` wrote.

    Args:
        folder: The folder.

    Returns:
        The states, by encoded id.

    Raises:
        NodeStatesError: Names what is missing, damaged or of another version.

    Example:
        >>> try:
        ...     read_node_states("elsewhere")
        ... except NodeStatesError as error:
        ...     print(str(error).partition(":")[0])
        elsewhere holds no node states
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    parts: dict[str, list[np.ndarray]] = {key: [] for key in manifest["states"]}
    for name, expected in manifest["shards"].items():
        path = folder / name
        if not path.is_file():
            raise NodeStatesError(f"{folder}: shard {name} is missing; write the states again")
        if file_sha256(path) != expected["sha256"]:
            raise NodeStatesError(
                f"{folder}: shard {name} does not match its checksum; the copy is incomplete or "
                "was changed"
            )
        shard = pq.read_table(path)
        side = name.partition("-")[0]
        for key in parts:
            channel, _, own_side = key.rpartition("/")
            if own_side == side:
                values = shard[channel].combine_chunks()
                parts[key].append(values.flatten().to_numpy().reshape(shard.num_rows, -1))
    return NodeStates({key: np.concatenate(own) for key, own in parts.items()})


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"], manifest["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NodeStatesError(f"{folder} holds no node states: {_MANIFEST}: {error}") from error
    if version != (FORMAT, FORMAT_VERSION):
        raise NodeStatesError(
            f"{folder}: expected {FORMAT} of version {FORMAT_VERSION}; received {version[0]} of "
            f"version {version[1]}: write the states again with this version of tfmtl"
        )
    return manifest


def _shard(
    id_column: str, ids: np.ndarray, channels: Mapping[str, np.ndarray], rows: slice
) -> pa.Table:
    # Row 0 is the unknown id.
    known = ids[max(rows.start - 1, 0) : rows.stop - 1]
    values = ([None] if rows.start == 0 else []) + known.tolist()
    columns = {id_column: pa.array(values, pa.int64() if ids.dtype == np.int64 else pa.string())}
    for channel, table in channels.items():
        part = np.ascontiguousarray(table[rows])
        columns[channel] = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), part.shape[1])
    return pa.table(columns)
