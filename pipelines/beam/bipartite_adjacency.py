"""The interaction graph of a log that no single machine reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import get_args

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.utils.shared import Shared

from tfmtl.data import FeatureEncoder, TrainingLog
from tfmtl.graph.interaction_graph import Edges
from tfmtl.graph.interaction_stores import MAX_TASKS
from tfmtl.pipelines.beam.adjacency_block import AdjacencyBlock
from tfmtl.pipelines.beam.combine_pairs import CombinePairs
from tfmtl.pipelines.beam.load_encoder import load_encoder
from tfmtl.pipelines.beam.row_counts import RowCounts
from tfmtl.schema import ITEM_ID, USER_ID, Schema

_COUNTS, _TIMES = "counts", "times"
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def graph_columns(schema: Schema) -> list[str]:
    """Columns of a log that its graph is made from: ids, time and tasks.

    Args:
        schema: Schema of the log.

    Raises:
        ValueError: If the schema has no ids.

    Example:
        >>> from tfmtl.schema import Task
        >>> graph_columns(Schema(tasks=[Task(name="click")], time="ts"))
        ['user_id', 'item_id', 'ts', 'click']
    """
    if schema.user is None or schema.item is None:
        raise ValueError("a graph needs user and item columns; the schema names none")
    times = [] if schema.time is None else [schema.time]
    return list(
        dict.fromkeys([schema.user, schema.item, *times, *(task.source for task in schema.tasks)])
    )


class _EncodeRows(beam.DoFn):
    """Tables of rows to arrays of edges."""

    def __init__(
        self,
        encoder_folder: str,
        edges: Edges,
        behaviors: tuple[str, ...],
        before: float | None,
        latest_times: bool,
    ) -> None:
        self._folder = encoder_folder
        self._before = before
        self._latest_times = latest_times
        self._edges = edges
        self._behaviors = behaviors
        self._shared = Shared()

    def setup(self) -> None:
        self._encoder: FeatureEncoder = self._shared.acquire(lambda: load_encoder(self._folder))
        # Features are not read: only the columns of ids, time and tasks are in the tables.
        self._schema = self._encoder.schema.model_copy(update={"features": ()})

    def process(self, table: pa.Table) -> Iterator[Pairs | beam.pvalue.TaggedOutput]:
        if table.num_rows == 0:
            return
        log = TrainingLog(table, self._schema)
        times = log.times
        if self._before is not None:
            assert times is not None
            early = times < self._before
            if not early.any():
                return
            log, times = log.select(early), times[early]
        vocabularies = self._encoder.vocabularies
        users = vocabularies[USER_ID].encode(log.entity_ids("user"))
        items = vocabularies[ITEM_ID].encode(log.entity_ids("item"))
        bits = np.zeros(len(log), np.int32)
        for position, task in enumerate(self._schema.task_names):
            if task in self._behaviors:
                bits |= (log.labels(task) == 1).astype(np.int32) << position
        known = (users > 0) & (items > 0)
        kept = known & (bits != 0) if self._edges == "positive" else known
        counts = RowCounts(
            rows=len(log),
            unknown=int(np.count_nonzero(~known)),
            edges=int(np.count_nonzero(kept)),
            first=None if times is None else times.min().item(),
            last=None if times is None else times.max().item(),
        )
        yield beam.pvalue.TaggedOutput(_COUNTS, counts)
        yield users[kept], items[kept], bits[kept]
        if self._latest_times:
            assert times is not None
            yield beam.pvalue.TaggedOutput(_TIMES, (users[kept], items[kept], times[kept]))


def _merged(counts: Iterable[RowCounts]) -> RowCounts:
    total = RowCounts()
    for part in counts:
        total = total.merged(part)
    return total


def _transposed(block: AdjacencyBlock) -> Pairs:
    return block.indices, block.receivers, block.values


class BipartiteAdjacency(beam.PTransform):
    """Links users and items that met, as `tfmtl.graph.build_interaction_graph` does.

    Ids come from the encoder's vocabularies, which every worker loads once. Rows of one pair are
    merged and their behaviours or-ed before they are shuffled and after; rows with an unknown user
    or item make no edge.

    Args:
        encoder_folder: Where `FeatureEncoder.save` wrote, on a file system the workers reach.
        edges: `positive`, or `all` to keep rows without any positive behaviour as well.
        behaviors: Tasks whose positives count; all tasks when left out.
        before: Rows of this time or later are left out; in the unit of the log.
        latest_times: Whether to give the time of each pair's latest row as well.
        block_rows: Users, or items, per key of the shuffle; a worker holds the edges of one block.

    Input: `pa.Table`s of training rows with the columns `graph_columns(encoder.schema)`.
    Output: a dictionary: `item_user` and `user_item`, each a collection of `AdjacencyBlock`s with
    behaviours `int32`, and `counts`, one `RowCounts`. With `latest_times` also `item_user_time` and
    `user_item_time`, blocks of the same edges with times `int64` or `float64`.

    Raises:
        FeatureEncoderError: If there is no encoder in the folder.
        ValueError: If a behaviour or `edges` is unknown, the schema has no ids or too many tasks,
            or `before` or `latest_times` is given for a log without times.

    Example:
        >>> import tempfile
        >>> from tfmtl.schema import Task
        >>> rows = {"user_id": [7, 7, 9], "item_id": [3, 5, 5], "click": [1, 0, 1]}
        >>> train = TrainingLog(pa.table(rows), Schema(tasks=[Task(name="click")]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     FeatureEncoder.fit(train).save(folder)
        ...     with beam.Pipeline() as pipeline:
        ...         graph = pipeline | beam.Create([train.rows]) | BipartiteAdjacency(folder)
        ...         _ = graph["item_user"] | beam.Map(lambda block: print(block.indices.tolist()))
        [1, 2]
    """

    def __init__(
        self,
        encoder_folder: str,
        *,
        edges: Edges = "positive",
        behaviors: tuple[str, ...] | None = None,
        before: float | None = None,
        latest_times: bool = False,
        block_rows: int = 1024,
    ) -> None:
        super().__init__()
        if edges not in get_args(Edges):
            raise ValueError(f"expected edges='positive' or 'all'; received {edges!r}")
        if block_rows < 1:
            raise ValueError(f"expected block_rows of at least 1; received {block_rows}")
        encoder = load_encoder(encoder_folder)
        graph_columns(encoder.schema)
        tasks = encoder.schema.task_names
        if len(tasks) > MAX_TASKS:
            raise ValueError(
                f"a graph records at most {MAX_TASKS} tasks; the schema has {len(tasks)}"
            )
        if before is not None and encoder.schema.time is None:
            raise ValueError(f"received before={before}, but the encoder's schema names no time")
        if latest_times and encoder.schema.time is None:
            raise ValueError(
                "received latest_times=True, but the encoder's schema names no time: leave it out"
            )
        recorded = tasks if behaviors is None else tuple(behaviors)
        if not recorded or not set(recorded) <= set(tasks):
            raise ValueError(
                f"expected behaviors among the tasks {list(tasks)}; received {list(recorded)}"
            )
        self._num_users = encoder.vocabularies[USER_ID].size
        self._num_items = encoder.vocabularies[ITEM_ID].size
        self._block_rows = block_rows
        self._latest_times = latest_times
        self._encode = _EncodeRows(encoder_folder, edges, recorded, before, latest_times)

    def expand(self, tables: beam.PCollection) -> dict[str, beam.PCollection]:
        """Applies the transform.

        Args:
            tables: Tables of training rows.
        """
        edges, counts, times = tables | "EncodeRows" >> beam.ParDo(self._encode).with_outputs(
            _COUNTS, _TIMES, main="edges"
        )
        num_users, num_items = self._num_users, self._num_items
        item_user = edges | "MergeByUser" >> CombinePairs(
            num_items, self._block_rows, np.bitwise_or
        )
        user_item = (
            item_user
            | "Transpose" >> beam.Map(_transposed)
            | "MergeByItem" >> CombinePairs(num_users, self._block_rows, np.bitwise_or)
        )
        graph = {
            "item_user": item_user,
            "user_item": user_item,
            "counts": counts | "CountRows" >> beam.CombineGlobally(_merged),
        }
        if self._latest_times:
            graph["item_user_time"] = times | "LatestByUser" >> CombinePairs(
                num_items, self._block_rows, np.maximum
            )
            graph["user_item_time"] = (
                graph["item_user_time"]
                | "TransposeTimes" >> beam.Map(_transposed)
                | "LatestByItem" >> CombinePairs(num_users, self._block_rows, np.maximum)
            )
        return graph
