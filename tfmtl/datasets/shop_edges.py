"""Positive pairs of a shop with times, in the form that Taobao and IJCAI-15 share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfmtl.data.interaction_log import InteractionLog
from tfmtl.datasets.arrow_files import read_table
from tfmtl.datasets.data_home import data_home, find_folder
from tfmtl.datasets.dataset_error import DatasetError
from tfmtl.datasets.negative_sampling import sample_negatives
from tfmtl.schema import Schema

_EDGES, _HELD_OUT = "edges_train.parquet", "test_target_edges.parquet"
_PAIR = ("user", "item")
_EDGE_COLUMNS = (*_PAIR, "ts", "behavior")


@dataclass(frozen=True, eq=False)
class ShopEdges:
    """Pairs of a user and an item, each with at least one behaviour, and no pair without.

    A pair has one row, at the time of its latest behaviour: cut by time, all of its behaviours then
    fall into one part, and no pair of a later part is an edge of an earlier one.

    Args:
        schema: Tasks are the behaviours; the ids are `user_id` and `item_id`, the time is `time`.
        pairs: `user_id`, `item_id`, `time` in seconds and a 0/1 column per task, in time order.
        known: `user_id` and `item_id` of every pair that must not become a negative: those of
            `pairs`, those of behaviours without a task, and those held out by the release.

    Example:
        >>> from tfmtl.schema import Task
        >>> schema = Schema(tasks=[Task(name="fav"), Task(name="buy", order=1)], time="time")
        >>> pairs = {"user_id": [7, 8], "item_id": [1, 2], "time": [10, 20]}
        >>> edges = ShopEdges(schema, pa.table({**pairs, "fav": [1, 0], "buy": [1, 1]}),
        ...                   pa.table({"user_id": [7, 8], "item_id": [1, 2]}))
        >>> log = edges.with_negatives(training_before=15, ratio=1, seed=0)
        >>> log.user_ids, log.item_ids, log.labels("buy")
        (array([7, 8, 8]), array([1, 2, 1]), array([1., 1., 0.], dtype=float32))
    """

    schema: Schema
    pairs: pa.Table
    known: pa.Table

    @staticmethod
    def find(name: str, data_dir: str | Path | None) -> Path:
        """Finds the folder of a release; they cannot be downloaded.

        Args:
            name: Name of the dataset, and of its folder.
            data_dir: Data home with that folder, or the folder itself.

        Returns:
            The folder.

        Raises:
            DatasetError: If there is no copy; the message says what to put where.
        """
        home = data_home(data_dir)
        found = find_folder(home, (name,), ((_EDGES,), (_HELD_OUT,)))
        if found is None:
            raise DatasetError(
                f"no complete copy of {name} under {home}: expected {name}/{_EDGES} with the "
                f"columns {list(_EDGE_COLUMNS)}, one row per pair and behaviour, and "
                f"{name}/{_HELD_OUT} with {list(_PAIR)}, made from the matrices of the SSLRec "
                "release"
            )
        return found

    @classmethod
    def read(cls, folder: Path, schema: Schema, first: int, until: int) -> ShopEdges:
        """Reads the two files of a release.

        Args:
            folder: Folder of the files.
            schema: Behaviours to keep as tasks.
            first: Second in which the log begins.
            until: Second before which it ends. Releases share their file names; their times tell
                them apart.

        Returns:
            The pairs.

        Raises:
            DatasetError: If a column or a behaviour is missing, or times are outside the log.
        """
        path = folder / _EDGES
        edges = read_table(path, needed=_EDGE_COLUMNS)
        held_out = read_table(folder / _HELD_OUT, needed=_PAIR)
        behaviors = edges["behavior"].unique().to_pylist()
        if missing := [name for name in schema.task_names if name not in behaviors]:
            raise DatasetError(
                f"{path}: expected the behaviours {missing} in the column 'behavior'; received "
                f"{behaviors}: replace the file"
            )
        times = pc.min_max(edges["ts"]).as_py()
        if times["min"] < first or times["max"] >= until:
            raise DatasetError(
                f"{path}: expected times from {first} until before {until}; received "
                f"{times['min']} to {times['max']}: give the folder of this log, with times in "
                "seconds"
            )
        columns = {name: pc.equal(edges["behavior"], name) for name in schema.task_names}
        columns = {name: column.cast(pa.int8()) for name, column in columns.items()}
        columns["time"] = edges["ts"].cast(pa.int64())
        ids = {f"{name}_id": edges[name].cast(pa.int64()) for name in _PAIR}
        kept = pc.is_in(edges["behavior"], value_set=pa.array(schema.task_names))
        pairs = pa.table({**ids, **columns}).filter(kept).group_by(list(ids))
        pairs = pairs.aggregate([(name, "max") for name in columns])
        pairs = pairs.select([*ids, *(f"{name}_max" for name in ("time", *schema.task_names))])
        pairs = pairs.rename_columns([*ids, "time", *schema.task_names])
        # The last two keys make the order, and with it the draws, independent of the grouping.
        pairs = pairs.sort_by([(name, "ascending") for name in ("time", *ids)])
        held_out_ids = {f"{name}_id": held_out[name].cast(pa.int64()) for name in _PAIR}
        known = pa.concat_tables([pa.table(ids), pa.table(held_out_ids)])
        return cls(schema, pairs, known)

    def newest_from(self, share: float, before: int | None = None) -> int:
        """The time from which on the newest pairs lie.

        Args:
            share: Share of the pairs; pairs at the same time stay together, so it may come out
                larger.
            before: Counts only the pairs before this time; `None` counts all.

        Returns:
            The time, in seconds.

        Raises:
            DatasetError: If there are no pairs to count.
        """
        times = self.pairs["time"].to_numpy()
        if before is not None:
            times = times[times < before]
        if len(times) == 0:
            raise DatasetError(
                f"expected pairs before {before} to cut by time; received none: check the log's "
                "times"
            )
        return int(times[-max(1, round(share * len(times)))])

    def with_negatives(self, *, training_before: int, ratio: int, seed: int) -> InteractionLog:
        """The pairs, and negatives that take over the user and the time of theirs.

        Args:
            training_before: Items are drawn by their number of pairs before this time.
            ratio: Negatives per pair, at least 1.
            seed: Seed of the draws, at least 0.

        Returns:
            Log in time order, each pair followed by its negatives, whose labels are all 0.

        Raises:
            DatasetError: If a number is too small or no pair lies before `training_before`.
        """
        pairs = self.pairs
        training = pairs.filter(pc.less(pairs["time"], training_before))
        owners, items = sample_negatives(
            pairs["user_id"].to_numpy(),
            training["item_id"].to_numpy(),
            known_users=self.known["user_id"].to_numpy(),
            known_items=self.known["item_id"].to_numpy(),
            ratio=ratio,
            seed=seed,
        )
        undone = pa.array(np.zeros(len(owners), np.int8))
        negatives = pa.table(
            {
                "user_id": pairs["user_id"].take(owners),
                "item_id": items,
                "time": pairs["time"].take(owners),
                **dict.fromkeys(self.schema.task_names, undone),
            }
        )
        order = np.argsort(np.concatenate([np.arange(len(pairs)), owners]), kind="stable")
        rows = pa.concat_tables([pairs, negatives], promote_options="permissive")
        return InteractionLog(rows.take(order), self.schema)
