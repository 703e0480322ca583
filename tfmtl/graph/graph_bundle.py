"""The graph on disk: edge sets, and a manifest that says what they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow_gnn as tfgnn

from tfmtl.graph.array_manifest import (
    MANIFEST,
    check_arrays,
    check_entries,
    read_manifest,
    write_manifest,
)
from tfmtl.graph.bundle_error import BundleError
from tfmtl.graph.csr import CSR
from tfmtl.graph.graph_tensor import graph_tensor_spec
from tfmtl.graph.topology import EDGE_SETS
from tfmtl.graph.written_aside import written_aside

FORMAT = "tfmtl.graph_bundle"
FORMAT_VERSION = 2
# The dtypes that edge data may have on disk.
_DTYPES = {
    "behavior": ("uint8", "uint16", "uint32", "int32"),
    "weight": ("float32",),
    "time": ("int32", "int64"),
}
_SCHEMA = "graph_schema.pbtxt"


def _schema_pb(edge_sets: Mapping[str, CSR], sizes: Mapping[str, int]) -> Any:
    """The TF-GNN schema of the sampled graphs, with the full graph's sizes as cardinalities."""
    schema = tfgnn.create_schema_pb_from_graph_spec(graph_tensor_spec(tuple(edge_sets)))
    for name, size in sizes.items():
        schema.node_sets[name].metadata.cardinality = size
    for name, store in edge_sets.items():
        schema.edge_sets[name].metadata.cardinality = store.num_edges
    return schema


@dataclass(frozen=True, eq=False)
class GraphBundle:
    """Edge sets over encoded users and items, and where they come from.

    On disk a bundle is a folder: one folder of `.npy` arrays per edge set, `manifest.json`
    (format version, counts, size and SHA-256 of every array, the time window and the fingerprints
    of log and encoder) and `graph_schema.pbtxt` (TF-GNN's `GraphSchema` of the sampled graphs).

    Args:
        edge_sets: Names among `user_item`, `item_user`, `user_user`, `item_item`; rows are the
            receivers.
        num_users: Number of user ids, the unknown user 0 included.
        num_items: Number of item ids, the unknown item 0 included.
        manifest: What the graph was made from; after `load`, the whole manifest.

    Raises:
        ValueError: If an edge set is unknown, or its shape or feature does not fit.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> store = CSR.from_edges(np.array([1]), np.array([2]), 2, 3,
        ...                        {"behavior": np.array([1], np.int32)})
        >>> bundle = GraphBundle({"item_user": store}, num_users=2, num_items=3)
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     bundle.save(Path(parent) / "graph")
        ...     GraphBundle.load(Path(parent) / "graph", verify=True).num_items
        3
    """

    edge_sets: dict[str, CSR]
    num_users: int
    num_items: int
    manifest: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {"user": self.num_users, "item": self.num_items}
        for name, store in self.edge_sets.items():
            if name not in EDGE_SETS:
                raise ValueError(f"unknown edge set {name!r}; expected names among {[*EDGE_SETS]}")
            source, target, feature = EDGE_SETS[name]
            if (store.num_rows, store.num_columns) != (sizes[target], sizes[source]):
                raise ValueError(
                    f"edge set {name!r}: expected {sizes[target]} rows ({target}s) and "
                    f"{sizes[source]} columns ({source}s); received {store.num_rows} and "
                    f"{store.num_columns}"
                )
            needed = {feature} | {key for key in store.data if key in _DTYPES}
            received = {key: str(values.dtype) for key, values in store.data.items()}
            for key in sorted(needed):
                if received.get(key) not in _DTYPES[key]:
                    raise ValueError(
                        f"edge set {name!r}: expected edge data {key!r} of dtype "
                        f"{' or '.join(_DTYPES[key])}; received {received}"
                    )

    def save(self, folder: Path | str) -> None:
        """Writes the bundle; an earlier one in `folder` is replaced as a whole.

        Args:
            folder: Folder to write, created with its parents.

        Raises:
            FileExistsError: If `folder` holds something that is not a bundle.
        """
        sizes = {"user": self.num_users, "item": self.num_items}
        with written_aside(Path(folder), MANIFEST) as aside:
            arrays = []
            for name, store in self.edge_sets.items():
                store.save(aside / name)
                arrays += [f"{name}/{path.name}" for path in sorted((aside / name).glob("*.npy"))]
            content = self.manifest | {
                "num_users": self.num_users,
                "num_items": self.num_items,
                "num_edges": {name: store.num_edges for name, store in self.edge_sets.items()},
                "orders": {name: store.order for name, store in self.edge_sets.items()},
            }
            tfgnn.write_schema(_schema_pb(self.edge_sets, sizes), str(aside / _SCHEMA))
            write_manifest(aside, arrays, content, kind=FORMAT, version=FORMAT_VERSION)

    @classmethod
    def load(cls, folder: Path | str, *, verify: bool = False) -> GraphBundle:
        """Opens a bundle memory-mapped; sizes and headers of all arrays are checked.

        Args:
            folder: What `save` was given.
            verify: Also read every array through: checksums, ranges and order.

        Returns:
            The bundle.

        Raises:
            BundleError: Names what is missing or differs from the manifest.
        """
        folder = Path(folder)
        manifest = read_manifest(
            folder,
            kind=FORMAT,
            version=FORMAT_VERSION,
            noun="graph bundle",
            needed=("num_edges", "num_users", "num_items", "orders"),
        )
        check_arrays(folder, manifest["arrays"], verify=verify)
        try:
            edge_sets = {name: CSR.load(folder / name) for name in manifest["num_edges"]}
            bundle = cls(edge_sets, manifest["num_users"], manifest["num_items"], manifest)
            for name, store in edge_sets.items():
                if verify:
                    store.validate()
                if store.num_edges != manifest["num_edges"][name]:
                    raise BundleError(
                        f"edge set {name!r} has {store.num_edges} edges, the manifest says "
                        f"{manifest['num_edges'][name]}"
                    )
                if store.order != manifest["orders"][name]:
                    raise BundleError(
                        f"edge set {name!r} is in the order {store.order!r}, the manifest says "
                        f"{manifest['orders'][name]!r}"
                    )
        except (OSError, ValueError, KeyError) as error:
            raise BundleError(f"{folder}: {error}") from error
        return bundle

    def check(self, **fingerprints: str | None) -> None:
        """Checks that the bundle was made from what it is about to be used with.

        Args:
            **fingerprints: Expected entries of the manifest by name, e.g. `encoder_fingerprint`,
                `split_fingerprint` or `history_fingerprint`.

        Raises:
            BundleError: Names the first entry that differs, with both values.

        Example:
            >>> bundle = GraphBundle({}, 1, 1, {"encoder_fingerprint": "a1"})
            >>> bundle.check(encoder_fingerprint="a1")
            >>> bundle.check(encoder_fingerprint="b2")
            Traceback (most recent call last):
            tfmtl.graph.bundle_error.BundleError: the graph was built with encoder_fingerprint \
'a1', now it is 'b2'; build the graph again
        """
        check_entries(self.manifest, fingerprints, "graph")
