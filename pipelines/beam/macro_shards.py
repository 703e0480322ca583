"""A macro graph on disk between jobs: groups as arrays, tables as Parquet shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.utils.shared import Shared

from tfmtl.graph.macro_groups import Groups
from tfmtl.pipelines.beam.adjacency_shards import read_document, shard_pattern, written_whole

MACRO = "macro.json"
GROUPS = "groups.json"
SIDES = ("user", "item")
_ROWS_AT_ONCE = 4096
Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class GroupsOfBothSides:
    """Macro nodes and activity weights of all users and items.

    Args:
        user: Those of the users.
        item: Those of the items.

    Example:
        >>> groups = Groups(np.zeros(1, np.int32), np.zeros(1, np.float32), 1)
        >>> GroupsOfBothSides(groups, groups).user.count
        1
    """

    user: Groups
    item: Groups


def write_groups(groups: Groups, folder: str, side: str) -> None:
    """Writes the groups of one side as `.npy` arrays.

    Args:
        groups: The groups.
        folder: Folder of the macro graph.
        side: `user` or `item`.
    """
    arrays = {"groups": groups.numbers, "weights": groups.weights, "centers": groups.centers}
    for name, values in arrays.items():
        if values is not None:
            with written_whole(folder, f"{side}_{name}.npy") as file:
                np.lib.format.write_array(file, values)


def read_groups(folder: str) -> GroupsOfBothSides:
    """Reads the groups of both sides, without their centres.

    Args:
        folder: Folder that the macro job wrote.

    Raises:
        FileNotFoundError: If nodes have not been grouped.
    """
    counts = read_document(folder, GROUPS)["counts"]
    return GroupsOfBothSides(
        *(
            Groups(_array(folder, side, "groups"), _array(folder, side, "weights"), counts[side])
            for side in SIDES
        )
    )


def read_centers(folder: str, side: str) -> np.ndarray:
    """Reads the centres of one side's macro nodes, `float32 [G, k]`.

    Args:
        folder: Folder that the macro job wrote.
        side: `user` or `item`.
    """
    return _array(folder, side, "centers")


class SharedGroups:
    """The groups of a folder, read once per process and not before they are asked for.

    Args:
        folder: Folder that the macro job wrote.

    Example:
        >>> SharedGroups("nowhere").read()
        Traceback (most recent call last):
        FileNotFoundError: nowhere/groups.json is missing: a job writes it last; run the job of \
this folder to its end
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._shared = Shared()

    def read(self) -> GroupsOfBothSides:
        """The groups."""
        return self._shared.acquire(lambda: read_groups(self._folder))


def macro_row_schema(width: int, recent: int, num_tasks: int) -> pa.Schema:
    """Columns of a shard: a row per user, or item, that has edges.

    Args:
        width: Numbers in a node's row of the macro tables.
        recent: Latest neighbours L.
        num_tasks: Number of tasks, whose behaviours are bits.

    Example:
        >>> macro_row_schema(8, 3, 2).field("behaviors").type
        FixedSizeListType(fixed_size_list<item: uint8>[3])
    """
    behaviors = pa.from_numpy_dtype(np.min_scalar_type(2**num_tasks - 1))
    return pa.schema(
        {
            "row": pa.int32(),
            "macro": pa.list_(pa.float16(), width),
            "recent": pa.list_(pa.int32(), recent),
            "behaviors": pa.list_(behaviors, recent),
        }
    )


def macro_row_table(rows: Rows, schema: pa.Schema) -> pa.Table:
    """Rows of a shard.

    Args:
        rows: Nodes `int32 [n]`, their rows `float16 [n, W]`, latest neighbours `int32 [n, L]` and
            behaviours `[n, L]`.
        schema: What `macro_row_schema` gave.
    """
    nodes, *tables = rows
    columns = [pa.array(nodes)]
    columns += [
        pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), table.shape[1])
        for table in tables
    ]
    return pa.table(columns, schema=schema)


def read_macro_rows(folder: str, side: str) -> Iterator[Rows]:
    """Reads the tables of one side, some thousand rows at a time and in no order.

    Args:
        folder: Folder that the macro job wrote.
        side: `user` or `item`.

    Yields:
        What `macro_row_table` was given.

    Raises:
        FileNotFoundError: If there are no shards.
    """
    pattern = shard_pattern(folder, f"{side}_rows")
    paths = sorted(found.path for found in FileSystems.match([pattern])[0].metadata_list)
    if not paths:
        raise FileNotFoundError(f"no shards {pattern}; run the macro job of this folder again")
    for path in paths:
        with FileSystems.open(path) as file:
            for batch in pq.ParquetFile(pa.PythonFile(file)).iter_batches(_ROWS_AT_ONCE):
                nodes = batch["row"].to_numpy()
                macro, recent, behaviors = (
                    batch[name].flatten().to_numpy().reshape(len(nodes), -1)
                    for name in ("macro", "recent", "behaviors")
                )
                yield nodes, macro, recent, behaviors


def _array(folder: str, side: str, name: str) -> np.ndarray:
    with FileSystems.open(FileSystems.join(folder, f"{side}_{name}.npy")) as file:
        return np.asarray(np.lib.format.read_array(file))
