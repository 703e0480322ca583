"""Adds new training rows to a graph bundle without building its similarity graphs again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tfmtl.data.interaction_log import TrainingLog
from tfmtl.data.vocabulary import Vocabulary
from tfmtl.graph.build_graph_bundle import build_graph_bundle
from tfmtl.graph.bundle_error import BundleError
from tfmtl.graph.csr import CSR
from tfmtl.graph.graph_bundle import GraphBundle
from tfmtl.graph.interaction_stores import interaction_stores
from tfmtl.graph.similarity_extension import extend_similarity_graph
from tfmtl.schema import ITEM_ID, USER_ID

if TYPE_CHECKING:
    from tfmtl.data.feature_encoder import FeatureEncoder


def _new_ids(before: Vocabulary, after: Vocabulary, name: str) -> np.ndarray:
    """Id in `after` of each id of `before`, the unknown 0 included."""
    ids = after.encode(before.values)
    if not ids.all():
        raise ValueError(
            f"the new encoder does not know {name} {before.values[np.argmin(ids)]!r}, a node of "
            "the graph: fit it on all rows of the graph and the new ones"
        )
    return np.concatenate([[0], ids])


def _pairs(edge_sets: dict[str, CSR]) -> tuple[CSR, CSR]:
    """`item_user` and `user_item` with one edge per pair, as similarity counts them."""
    item_user = edge_sets["item_user"]
    if item_user.order == "column":
        return item_user, edge_sets["user_item"]
    return interaction_stores(
        np.repeat(np.arange(item_user.num_rows, dtype=np.int32), item_user.degrees),
        np.asarray(item_user.indices),
        np.asarray(item_user.data["behavior"]),
        item_user.num_rows,
        item_user.num_columns,
    )


def extend_graph_bundle(
    bundle: GraphBundle,
    encoder_before: FeatureEncoder,
    train: TrainingLog,
    encoder: FeatureEncoder,
    *,
    history: TrainingLog | None = None,
    progress: bool = False,
) -> GraphBundle:
    """Brings a graph up to date with a log that has grown, by a day of rows for example.

    The result equals, edge for edge and weight for weight, what `build_graph_bundle` makes of the
    whole log with the parameters in the bundle's manifest, and so does its manifest. What is new
    is found by comparing the stores, so it does not matter how many days are added at once, and
    rows that the graph holds already change no edge: to add a day twice is to add it once, except
    that with `keep_times` every logged row is an edge of its own and repeats in the log are kept.

    The interaction graph is made from the log, which takes time linear in its rows. The similarity
    graphs are extended by `extend_similarity_graph`, at the cost of what changed.

    Args:
        bundle: The graph so far, with the manifest of `build_graph_bundle`.
        encoder_before: The encoder that the graph was built with.
        train: All training rows: those of the graph and the new ones.
        encoder: Encoder fitted on all of them; its ids number the nodes of the result.
        history: All earlier rows that the model is not trained on, where the graph has such.
        progress: Show progress bars.

    Returns:
        The bundle, in memory.

    Raises:
        BundleError: If the bundle was not built with `encoder_before`, or its manifest lacks the
            parameters.
        TypeError: If a log is not a training log.
        ValueError: If the new encoder lacks a user or item of the graph, the tasks differ, or,
            where there are similarity graphs, the log lacks an edge of the graph.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.data.feature_encoder import FeatureEncoder
        >>> from tfmtl.schema import Schema, Task
        >>> schema = Schema(tasks=[Task(name="click")])
        >>> rows = {"user_id": [7, 7, 9], "item_id": [3, 5, 5], "click": [1, 0, 1]}
        >>> all_days = TrainingLog(pa.table(rows), schema)
        >>> first_day = all_days.select(np.array([0, 1]))
        >>> old, new = FeatureEncoder.fit(first_day), FeatureEncoder.fit(all_days)
        >>> bundle = extend_graph_bundle(build_graph_bundle(first_day, old), old, all_days, new)
        >>> {name: store.num_edges for name, store in bundle.edge_sets.items()}
        {'item_user': 2, 'user_item': 2, 'user_user': 0, 'item_item': 0}
    """
    absent = {"include_training_rows", "edges", "behaviors", "similarity"} - bundle.manifest.keys()
    if absent:
        raise BundleError(
            f"the graph's manifest lacks {sorted(absent)}, the parameters that it was built with; "
            "build it with build_graph_bundle"
        )
    bundle.check(encoder_fingerprint=encoder_before.fingerprint())
    behaviors, similarity = bundle.manifest["behaviors"], bundle.manifest["similarity"]
    extended = build_graph_bundle(
        train,
        encoder,
        history=history,
        include_training_rows=bundle.manifest["include_training_rows"],
        edges=bundle.manifest["edges"],
        behaviors=None if behaviors is None else tuple(behaviors),
        similarity=None,
        keep_times=bundle.manifest.get("keep_times", False),
        progress=progress,
    )
    if extended.manifest["tasks"] != bundle.manifest["tasks"]:
        raise ValueError(
            f"expected a log with the tasks of the graph, {bundle.manifest['tasks']}; received "
            f"{extended.manifest['tasks']}"
        )
    user_ids, item_ids = (
        _new_ids(encoder_before.vocabularies[name], encoder.vocabularies[name], name)
        for name in (USER_ID, ITEM_ID)
    )
    if similarity is None:
        return extended

    item_user, user_item = _pairs(bundle.edge_sets)
    new_item_user, new_user_item = _pairs(extended.edge_sets)
    graphs = {
        "user_user": extend_similarity_graph(
            bundle.edge_sets["user_user"],
            item_user,
            new_item_user,
            row_ids=user_ids,
            column_ids=item_ids,
            **similarity,
            progress=progress,
        ),
        "item_item": extend_similarity_graph(
            bundle.edge_sets["item_item"],
            user_item,
            new_user_item,
            row_ids=item_ids,
            column_ids=user_ids,
            **similarity,
            progress=progress,
        ),
    }
    return GraphBundle(
        extended.edge_sets | graphs,
        extended.num_users,
        extended.num_items,
        extended.manifest | {"similarity": similarity},
    )
