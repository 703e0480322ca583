"""From stores of edges to a macro graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfmtl.graph.array_manifest import MANIFEST
from tfmtl.graph.csr import CSR
from tfmtl.graph.filled_array import FilledArray
from tfmtl.graph.macro_config import MacroConfig
from tfmtl.graph.macro_graph import MacroGraph
from tfmtl.graph.macro_groups import Groups, PreviousGroups, group_nodes
from tfmtl.graph.macro_tables import MacroSide, MacroTables
from tfmtl.graph.recent_neighbors import recent_neighbors
from tfmtl.graph.written_aside import written_aside

Stores = tuple[CSR, CSR]


def macro_graph_of_stores(
    whole: Stores,
    scores: np.ndarray,
    config: MacroConfig,
    *,
    partial: Iterable[Callable[[], Stores]] = (),
    item_categories: np.ndarray | None = None,
    previous: PreviousGroups | None = None,
    manifest: dict[str, Any] | None = None,
    folder: Path | None = None,
    progress: bool = False,
) -> MacroGraph:
    """Groups nodes and tabulates their macro neighbourhoods, without a log.

    The centres of groups come from the whole graph; in each version of the tables nodes join the
    nearest centre by the rows of that version. A macro node that a row's own edge helped to choose
    would tell of it: items that one user liked are close to one another. Time is linear in the
    edges; memory beside the stores is 6 bytes per edge and direction and a sketch of `sketch_dim`
    numbers per node of one side, and, without a folder, the tables.

    Args:
        whole: Edges grouped by user and by item, with `behavior`, each pair once, and with `time`
            where it is known.
        scores: Merged score per combination of behaviours, `float32 [2^T]`.
        config: Settings.
        partial: Makes the stores of each version after the first, of some of the rows.
        item_categories: Macro item node of each item, in place of clusters.
        previous: Groups of an earlier macro graph to go on from.
        manifest: What the graph is made from.
        folder: Where to write the macro graph while it is made; it is returned memory-mapped.
        progress: Whether to show progress bars.

    Returns:
        The macro graph, in memory or under `folder`.

    Raises:
        ValueError: If no node is active, fewer are than macro nodes, or the scores are not those of
            all combinations of behaviours.
        FileExistsError: If `folder` holds something else.

    Example:
        >>> from tfmtl.graph.interaction_stores import interaction_stores
        >>> stores = interaction_stores(
        ...     np.array([1, 2]), np.array([1, 2]), np.array([1, 1], np.uint8), 3, 3)
        >>> scores = np.array([0, 1], np.float32)
        >>> graph = macro_graph_of_stores(stores, scores, MacroConfig(user_nodes=2, item_nodes=1))
        >>> graph.item_groups.tolist()
        [[0, 1, 1]]
    """
    highest = int(whole[0].data["behavior"].max(initial=0))
    if len(scores).bit_count() != 1 or highest >= len(scores):
        raise ValueError(
            "expected a score for every combination of T behaviours, 2^T of them; received "
            f"{len(scores)} scores and a combination numbered {highest}: take behavior_scores of "
            "all tasks"
        )
    # The folder is entered first, so that one of something else is refused before hours of work.
    place: AbstractContextManager[Path | None] = (
        nullcontext() if folder is None else written_aside(folder, MANIFEST)
    )
    with place as aside:
        versions = [lambda: whole, *partial]
        graph = _graph(
            versions, scores, config, item_categories, previous, manifest or {}, aside, progress
        )
        if folder is None or aside is None:
            return graph
        np.save(aside / "scores.npy", scores)
        graph.write_manifest(aside)
        del graph
    return MacroGraph.load(folder)


def _graph(
    versions: list[Callable[[], Stores]],
    scores: np.ndarray,
    config: MacroConfig,
    item_categories: np.ndarray | None,
    previous: PreviousGroups | None,
    manifest: dict[str, Any],
    folder: Path | None,
    progress: bool,
) -> MacroGraph:
    whole: tuple[Groups, Groups] | None = None
    filled: dict[str, FilledArray] = {}
    num_tasks = len(scores).bit_length() - 1
    for stores in versions:
        item_user, user_item = stores()
        users, items = group_nodes(
            item_user,
            user_item,
            scores,
            config,
            item_categories=item_categories,
            previous=previous,
            like=whole,
            progress=progress,
        )
        if whole is None:
            whole = users, items
            filled = _empty_arrays(len(versions), scores, config, users, items, folder)
        tables = MacroTables(
            MacroSide(item_user, users.numbers, users.weights, users.count),
            MacroSide(user_item, items.numbers, items.weights, items.count),
            scores,
            num_tasks,
            progress=progress,
        )
        for name, blocks in (("user_rows", tables.user_rows()), ("item_rows", tables.item_rows())):
            for rows in blocks:
                filled[name].extend(rows)
        del tables
        for noun, groups, edges in (("user", users, user_item), ("item", items, item_user)):
            filled[f"{noun}_groups"].extend(groups.numbers[np.newaxis])
            for neighbors, behaviors in recent_neighbors(
                edges, scores, config.recent, progress=progress
            ):
                filled[f"recent_{noun}s"].extend(neighbors)
                filled[f"recent_{noun}_behaviors"].extend(behaviors)
    assert whole is not None
    return MacroGraph(
        **{name: array.finished() for name, array in filled.items()},
        scores=scores,
        num_tasks=num_tasks,
        num_user_nodes=whole[0].count,
        num_item_nodes=whole[1].count,
        manifest=manifest,
    )


def _empty_arrays(
    num_versions: int,
    scores: np.ndarray,
    config: MacroConfig,
    users: Groups,
    items: Groups,
    folder: Path | None,
) -> dict[str, FilledArray]:
    num_tasks = len(scores).bit_length() - 1
    of_users, of_items = users.count + 1, items.count + 1
    bits = np.min_scalar_type(len(scores) - 1)
    lengths = {"user": len(users.numbers), "item": len(items.numbers)}
    widths: dict[str, tuple[int, npt.DTypeLike]] = {
        "user_rows": (of_items + of_users + num_tasks * of_items, np.float16),
        "item_rows": (of_users + of_items + num_tasks * of_users, np.float16),
        "recent_items": (config.recent, np.int32),
        "recent_item_behaviors": (config.recent, bits),
        "recent_users": (config.recent, np.int32),
        "recent_user_behaviors": (config.recent, bits),
    }
    of_user = ("user_rows", "recent_items", "recent_item_behaviors")
    shapes: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {
        name: ((num_versions, lengths["user" if name in of_user else "item"], width), dtype)
        for name, (width, dtype) in widths.items()
    }
    shapes |= {f"{side}_groups": ((num_versions, size), np.int32) for side, size in lengths.items()}
    return {
        name: FilledArray(shape, dtype, None if folder is None else folder / f"{name}.npy")
        for name, (shape, dtype) in shapes.items()
    }
