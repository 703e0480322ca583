"""The macro graph: groups of users and items, and every node's macro neighbourhood."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from tfmtl.graph.array_manifest import (
    MANIFEST,
    check_arrays,
    check_entries,
    read_manifest,
    write_manifest,
)
from tfmtl.graph.bundle_error import BundleError
from tfmtl.graph.written_aside import written_aside

FORMAT = "tfmtl.macro_graph"
FORMAT_VERSION = 1
_NEEDED = ("num_tasks", "num_user_nodes", "num_item_nodes")


@dataclass(frozen=True, eq=False)
class MacroGraph:
    """Macro nodes of users and items, and tables with a row per user and item.

    Tables come in versions. Version 0 counts all rows and serves rows to be scored; the others
    leave rows out, so that a training row can read one that does not know of it. On disk a macro
    graph is a folder of `.npy` arrays, memory-mapped when loaded, and `manifest.json`.

    Shapes: V versions, N_U users and N_I items with the unknown one 0, G_U and G_I macro nodes, T
    tasks, L recent neighbours. Row 0 of every table is that of the unknown id: zeros.

    Args:
        user_groups: Macro node of each user, `int32 [V, N_U]` in `0..G_U`; 0 for none.
        item_groups: Macro node of each item, `int32 [V, N_I]` in `0..G_I`.
        user_rows: `float16 [V, N_U, (G_I + 1) + (G_U + 1) + T (G_I + 1)]`, see `MacroTables`.
        item_rows: `float16 [V, N_I, (G_U + 1) + (G_I + 1) + T (G_U + 1)]`.
        recent_items: Latest items of each user, `int32 [V, N_U, L]`, padded with 0.
        recent_item_behaviors: Their behaviours, unsigned integers `[V, N_U, L]`.
        recent_users: Latest users of each item, `int32 [V, N_I, L]`.
        recent_user_behaviors: Their behaviours, `[V, N_I, L]`.
        scores: Merged score per combination of behaviours, `float32 [2^T]`.
        num_tasks: Number of tasks T.
        num_user_nodes: Macro user nodes G_U.
        num_item_nodes: Macro item nodes G_I.
        manifest: What the graph was made from; after `load`, the whole manifest.

    Raises:
        ValueError: If the shapes do not fit one another.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.data import FeatureEncoder, TrainingLog
        >>> from tfmtl.graph import MacroConfig, build_macro_graph
        >>> from tfmtl.schema import Schema, Task
        >>> rows = {"user_id": [7, 7, 9], "item_id": [3, 5, 5], "click": [1, 1, 1]}
        >>> train = TrainingLog(pa.table(rows), Schema(tasks=[Task(name="click")]))
        >>> graph = build_macro_graph(
        ...     train, FeatureEncoder.fit(train), MacroConfig(user_nodes=1, item_nodes=2))
        >>> graph.num_versions, graph.user_rows.shape
        (6, (6, 3, 8))
    """

    user_groups: np.ndarray
    item_groups: np.ndarray
    user_rows: np.ndarray
    item_rows: np.ndarray
    recent_items: np.ndarray
    recent_item_behaviors: np.ndarray
    recent_users: np.ndarray
    recent_user_behaviors: np.ndarray
    scores: np.ndarray
    num_tasks: int
    num_user_nodes: int
    num_item_nodes: int
    manifest: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        versions, users, items = self.num_versions, self.num_users, self.num_items
        of_items, of_users = self.num_item_nodes + 1, self.num_user_nodes + 1
        recent = self.recent_items.shape[-1]
        expected = {
            "user_groups": (versions, users),
            "item_groups": (versions, items),
            "user_rows": (versions, users, of_items + of_users + self.num_tasks * of_items),
            "item_rows": (versions, items, of_users + of_items + self.num_tasks * of_users),
            "recent_items": (versions, users, recent),
            "recent_item_behaviors": (versions, users, recent),
            "recent_users": (versions, items, recent),
            "recent_user_behaviors": (versions, items, recent),
            "scores": (2**self.num_tasks,),
        }
        for name, shape in expected.items():
            received = getattr(self, name).shape
            if received != shape:
                raise ValueError(f"expected {name} of shape {shape}; received {received}")

    @property
    def num_versions(self) -> int:
        """Number V of versions of the tables."""
        return int(self.user_rows.shape[0])

    @property
    def num_users(self) -> int:
        """Number of user ids, the unknown user 0 included."""
        return int(self.user_groups.shape[-1])

    @property
    def num_items(self) -> int:
        """Number of item ids, the unknown item 0 included."""
        return int(self.item_groups.shape[-1])

    def scored_version(self) -> MacroGraph:
        """The macro graph with version 0 alone: all that serving needs."""
        tables = {name: getattr(self, name)[:1] for name in VERSIONED}
        return MacroGraph(
            **{f.name: tables.get(f.name, getattr(self, f.name)) for f in fields(self)}
        )

    def save(self, folder: Path | str) -> None:
        """Writes the macro graph; an earlier one in `folder` is replaced as a whole.

        Args:
            folder: Folder to write, created with its parents.

        Raises:
            FileExistsError: If `folder` holds something else.
        """
        with written_aside(Path(folder), MANIFEST) as aside:
            for name in ARRAYS:
                np.save(aside / f"{name}.npy", getattr(self, name))
            self.write_manifest(aside)

    def write_manifest(self, folder: Path) -> None:
        """Writes the manifest beside the arrays, which are there already.

        Args:
            folder: Folder with an `.npy` file per array.
        """
        write_manifest(
            folder,
            [f"{name}.npy" for name in ARRAYS],
            self.manifest | {name: getattr(self, name) for name in _NEEDED},
            kind=FORMAT,
            version=FORMAT_VERSION,
        )

    @classmethod
    def load(cls, folder: Path | str, *, verify: bool = False) -> MacroGraph:
        """Opens a macro graph memory-mapped; sizes and headers of all arrays are checked.

        Args:
            folder: What `save` was given.
            verify: Also read every array through and compare checksums.

        Returns:
            The macro graph.

        Raises:
            BundleError: Names what is missing or differs from the manifest.
        """
        folder = Path(folder)
        manifest = read_manifest(
            folder, kind=FORMAT, version=FORMAT_VERSION, noun="macro graph", needed=_NEEDED
        )
        check_arrays(folder, manifest["arrays"], verify=verify)
        absent = sorted({f"{name}.npy" for name in ARRAYS} - manifest["arrays"].keys())
        if absent:
            raise BundleError(f"{folder / MANIFEST} lists no arrays {absent}")
        try:
            return cls(
                **{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS},
                **{name: manifest[name] for name in _NEEDED},
                manifest=manifest,
            )
        except ValueError as error:
            raise BundleError(f"{folder}: {error}") from error

    def check(self, **expected: Any) -> None:
        """Checks that the macro graph was made from what it is about to be used with.

        Args:
            **expected: Expected entries of the manifest by name, e.g. `encoder_fingerprint`,
                `split_fingerprint` or `time_window`.

        Raises:
            BundleError: Names the first entry that differs, with both values.
        """
        check_entries(self.manifest, expected, "macro graph")


ARRAYS = tuple(f.name for f in fields(MacroGraph) if f.type == "np.ndarray")
VERSIONED = tuple(name for name in ARRAYS if name != "scores")
