"""From the shards of the macro job to the macro graph that models read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfmtl.graph import MacroGraph
from tfmtl.graph.array_manifest import MANIFEST
from tfmtl.graph.written_aside import written_aside
from tfmtl.pipelines.beam.adjacency_shards import read_document
from tfmtl.pipelines.beam.macro_shards import MACRO, SIDES, read_groups, read_macro_rows

_TABLES = {
    "user": ("user_rows", "recent_items", "recent_item_behaviors"),
    "item": ("item_rows", "recent_users", "recent_user_behaviors"),
}
Filled = Callable[[str, tuple[int, ...], npt.DTypeLike], np.ndarray]


def assemble_macro_graph(
    folder: str, *, history: str | None = None, output: Path | None = None
) -> MacroGraph:
    """Reads the shards of a macro graph into one, in memory or on disk.

    Arrays and manifest are those of `tfmtl.graph.build_macro_graph` on the same rows, version 0
    alone or, with a history, both versions of `counting: history`. Numbers of the tables may differ
    by rounding, as sums come in another order.

    Args:
        folder: Folder that the macro job wrote.
        history: Folder that the macro job wrote of the history alone, with the groups of the first.
        output: Where to write the macro graph while it is made, for one larger than memory; it is
            returned memory-mapped.

    Returns:
        The macro graph. With one version, training rows would read tables that count themselves:
        it is for scoring.

    Raises:
        FileNotFoundError: If the macro job has not run to its end.
        FileExistsError: If `output` holds something else.
        ValueError: If `folder` is of the history alone, or `history` is not, or does not go with
            it.
    """
    document = read_document(folder, MACRO)
    if not document["include_training_rows"]:
        raise ValueError(
            f"{folder}: expected a macro graph of all rows; received one of the history alone: "
            "give it as history, after the one whose groups it took over"
        )
    folders = [folder]
    if history is not None:
        _check_history(history, document)
        folders.append(history)
    place: AbstractContextManager[Path | None] = (
        nullcontext() if output is None else written_aside(output, MANIFEST)
    )
    with place as aside:

        def filled(name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.ndarray:
            if aside is None:
                return np.zeros(shape, dtype)
            return np.lib.format.open_memmap(aside / f"{name}.npy", "w+", dtype, shape)

        arrays = _tables(folders, document, filled)
        graph = MacroGraph(
            **arrays,
            scores=np.array(document["scores"], np.float32),
            num_tasks=len(document["manifest"]["tasks"]),
            num_user_nodes=document["num_user_nodes"],
            num_item_nodes=document["num_item_nodes"],
            manifest=document["manifest"],
        )
        if output is None or aside is None:
            return graph
        np.save(aside / "scores.npy", graph.scores)
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        graph.write_manifest(aside)
        del arrays, graph
    return MacroGraph.load(output)


def _check_history(history: str, document: dict[str, Any]) -> None:
    counting = document["manifest"]["macro"]["counting"]
    if counting != "history":
        raise ValueError(
            f"received a history, {history}, for a macro graph of counting: {counting}, whose "
            "versions are folds of the training rows: leave it out, or run the jobs with counting: "
            "history"
        )
    earlier = read_document(history, MACRO)
    if earlier["include_training_rows"]:
        raise ValueError(
            f"{history}: expected a macro graph of the history alone; received one with the "
            "training rows, which would read tables that count themselves: run the adjacency job "
            "on the history alone, and then the macro job"
        )
    if earlier["groups"] != document["groups"]:
        raise ValueError(
            f"{history}: expected the groups {document['groups']} of the macro graph of all rows; "
            f"received {earlier['groups']}: name that one's folder as groups in the macro job of "
            "the history"
        )


def _tables(folders: list[str], document: dict[str, Any], filled: Filled) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for side in SIDES:
        name = f"{side}_groups"
        arrays[name] = filled(name, (len(folders), document[f"num_{side}s"]), np.int32)
    for version, folder in enumerate(folders):
        groups = read_groups(folder)
        for side in SIDES:
            arrays[f"{side}_groups"][version] = getattr(groups, side).numbers
            for nodes, *tables in read_macro_rows(folder, side):
                for name, rows in zip(_TABLES[side], tables, strict=True):
                    if name not in arrays:
                        shape = (len(folders), document[f"num_{side}s"], rows.shape[1])
                        arrays[name] = filled(name, shape, rows.dtype)
                    arrays[name][version, nodes] = rows
    return arrays
