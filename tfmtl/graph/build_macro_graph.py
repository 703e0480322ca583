"""From training rows to a macro graph in one call."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfmtl.data.interaction_log import TrainingLog, require_training
from tfmtl.graph.behavior_scores import behavior_scores
from tfmtl.graph.build_graph_bundle import time_window
from tfmtl.graph.interaction_graph import behavior_bits, checked_behaviors
from tfmtl.graph.interaction_stores import interaction_stores
from tfmtl.graph.macro_config import MacroConfig
from tfmtl.graph.macro_graph import MacroGraph
from tfmtl.graph.macro_graph_of_stores import Stores, macro_graph_of_stores
from tfmtl.graph.macro_groups import PreviousGroups
from tfmtl.graph.training_versions import training_versions
from tfmtl.schema import ITEM_ID, USER_ID, Schema

if TYPE_CHECKING:
    from tfmtl.data.feature_encoder import FeatureEncoder

_DEFAULTS = MacroConfig()


def build_macro_graph(
    train: TrainingLog,
    encoder: FeatureEncoder,
    config: MacroConfig = _DEFAULTS,
    *,
    history: TrainingLog | None = None,
    previous: tuple[MacroGraph, FeatureEncoder] | None = None,
    regroup: bool = True,
    folder: Path | None = None,
    progress: bool = False,
) -> MacroGraph:
    """Merges the behaviours of a log into one graph and coarsens it into macro nodes.

    Every row with a positive behaviour is an edge; rows of one pair are merged, their behaviours
    or-ed and the latest time kept. Version 0 of the tables counts all rows; `training_versions`
    tells which version each training row reads. Nodes are grouped anew in every version, around
    centres that come from all rows, as vocabularies do.

    A rebuild with `previous` keeps what macro nodes mean to a trained model: every day without
    `regroup`, which leaves known nodes where they are, and now and then with it, which groups anew
    and lets each group keep the number of the old one that it continues.

    Args:
        train: The training part of a split.
        encoder: Encoder whose user and item ids number the nodes.
        config: Settings.
        history: Earlier rows that the model is not trained on; they are edges in every version.
        previous: An earlier macro graph and the encoder that it was built with.
        regroup: Whether nodes with a previous group are grouped anew.
        folder: Where to write the macro graph while it is made, for one larger than memory.
        progress: Whether to show progress bars.

    Returns:
        The macro graph. A behaviour that no row of a version shows leaves its part of the tables
        zero there; a user whose neighbours are all inactive has a row of zeros in the first hop,
        which `MacroWeight` reads as no preference, all macro nodes alike.

    Raises:
        TypeError: If a log is not a training log.
        ValueError: If a behaviour or a feature is unknown, no row shows a behaviour, there are
            fewer active nodes than macro nodes, `counting: history` comes without a history, the
            history has other tasks, or the previous graph has other numbers of macro nodes or
            other categories as macro item nodes.
        BundleError: If the previous graph was built with another encoder.

    References:
        MGOE (KDD 2026), merging interaction matrix, preference-based grouping and macro task
        merging graph.

    Example:
        >>> import pyarrow as pa
        >>> from tfmtl.data.feature_encoder import FeatureEncoder
        >>> from tfmtl.schema import Schema, Task
        >>> rows = {"user_id": [7, 7, 9], "item_id": [3, 5, 5], "click": [1, 1, 1]}
        >>> train = TrainingLog(pa.table(rows), Schema(tasks=[Task(name="click")]))
        >>> graph = build_macro_graph(
        ...     train, FeatureEncoder.fit(train), MacroConfig(user_nodes=1, item_nodes=1))
        >>> np.expm1(graph.user_rows[0, :, 1].astype(float)).round(2).tolist()
        [0.0, 1.85, 0.93]
    """
    require_training(train, "building a macro graph")
    if history is not None:
        require_training(history, "building a macro graph from a history")
    if config.counting == "history" and history is None:
        raise ValueError(
            "counting: history needs rows older than the log, and the dataset has none: set "
            "macro.counting to out_of_fold"
        )
    schema = train.schema
    behaviors = checked_behaviors(schema, config.behaviors)
    if history is not None and history.schema.task_names != schema.task_names:
        raise ValueError(
            f"expected the tasks {list(schema.task_names)} in the history as well; received "
            f"{list(history.schema.task_names)}: read both logs with one schema"
        )
    scores = edge_scores(schema, config)
    categories = item_categories(encoder, config.item_groups)
    edges = _Edges(train, history, encoder, behaviors, config)
    count = 1 if config.counting == "history" else config.folds
    return macro_graph_of_stores(
        edges.stores(),
        scores,
        config,
        partial=[partial(edges.stores, without=version) for version in range(1, count + 1)],
        item_categories=categories,
        previous=_carried_over(previous, encoder, config, categories, regroup),
        manifest={
            "tasks": list(schema.task_names),
            "time_window": time_window([train] if history is None else [train, history]),
            "split_fingerprint": train.fingerprint(),
            "history_fingerprint": None if history is None else history.fingerprint(),
            "encoder_fingerprint": encoder.fingerprint(),
            "macro": config.model_dump(mode="json"),
        },
        folder=folder,
        progress=progress,
    )


def edge_scores(schema: Schema, config: MacroConfig) -> np.ndarray:
    """What an edge weighs, for every combination of behaviours, `float32 [2^T]`."""
    scores = behavior_scores(
        schema.tasks, beta=config.beta, behaviors=checked_behaviors(schema, config.behaviors)
    )
    return (scores > 0).astype(np.float32) if config.scores == "count" else scores


class _Edges:
    """Rows that show a behaviour, and the version that leaves each of them out."""

    def __init__(
        self,
        train: TrainingLog,
        history: TrainingLog | None,
        encoder: FeatureEncoder,
        behaviors: tuple[str, ...],
        config: MacroConfig,
    ):
        logs = [train] if history is None else [train, history]
        versions = [training_versions(config, len(train))]
        versions += [] if history is None else [np.zeros(len(history), np.int32)]
        columns: dict[str, list[np.ndarray]] = {name: [] for name in ("u", "i", "b", "v", "t")}
        for log, version in zip(logs, versions, strict=True):
            bits = behavior_bits(log, behaviors)
            shown = bits != 0
            columns["u"].append(encoder.vocabularies[USER_ID].encode(log.user_ids)[shown])
            columns["i"].append(encoder.vocabularies[ITEM_ID].encode(log.item_ids)[shown])
            columns["b"].append(bits[shown])
            columns["v"].append(version[shown])
            if log.times is not None:
                columns["t"].append(log.times[shown])
        if not any(len(bits) for bits in columns["b"]):
            raise ValueError(
                f"no row shows any of the behaviours {list(behaviors)}: choose behaviours that the "
                "log has"
            )
        self._users, self._items, self._bits, self._versions = (
            np.concatenate(columns[name]) for name in ("u", "i", "b", "v")
        )
        # Only their order matters here, so that fractions may be rounded to ranks.
        self._times = None
        if len(columns["t"]) == len(logs):
            times = np.concatenate(columns["t"])
            whole = np.issubdtype(times.dtype, np.integer)
            self._times = times if whole else np.unique(times, return_inverse=True)[1]
        self._sizes = (encoder.vocabularies[USER_ID].size, encoder.vocabularies[ITEM_ID].size)

    def stores(self, without: int = -1) -> Stores:
        """Stores of all rows, or of those that a version keeps."""
        kept = self._versions != without
        return interaction_stores(
            self._users[kept],
            self._items[kept],
            self._bits[kept],
            *self._sizes,
            times=None if self._times is None else self._times[kept],
            merge=True,
        )


def item_categories(encoder: FeatureEncoder, feature: str | None) -> np.ndarray | None:
    """Category of each item, `[N_I]`, in a categorical item feature; `None` without one."""
    if feature is None:
        return None
    columns = encoder.node_features("item")
    kinds = {spec.name: spec.kind for spec in encoder.inputs}
    if kinds.get(feature) != "categorical" or feature not in columns:
        known = [name for name in columns if kinds.get(name) == "categorical"]
        raise ValueError(
            f"macro.item_groups: expected a categorical item feature among {known}; received "
            f"{feature!r}"
        )
    return columns[feature]


def _category_names(encoder: FeatureEncoder, macro: dict[str, Any]) -> tuple[Any, ...]:
    """The feature whose categories are macro items, and their values in order."""
    feature = macro["item_groups"]
    owners = [spec.vocabulary for spec in encoder.inputs if spec.name == feature]
    return feature, [encoder.vocabularies[owner].values.tolist() for owner in owners if owner]


def _carried_over(
    previous: tuple[MacroGraph, FeatureEncoder] | None,
    encoder: FeatureEncoder,
    config: MacroConfig,
    categories: np.ndarray | None,
    regroup: bool,
) -> PreviousGroups | None:
    """Previous groups of the ids of the new encoder."""
    if previous is None:
        return None
    graph, before = previous
    graph.check(encoder_fingerprint=before.fingerprint())
    item_nodes = config.item_nodes if categories is None else int(categories.max())
    for name, received, count in (
        ("user_nodes", config.user_nodes, graph.num_user_nodes),
        ("item_nodes", item_nodes, graph.num_item_nodes),
    ):
        if received != count:
            raise ValueError(
                f"expected as many macro nodes as in the previous macro graph, {name} {count}; "
                f"received {received}: keep the number, or build without the previous one and "
                "train anew"
            )
    if categories is not None and _category_names(before, graph.manifest["macro"]) != (
        _category_names(encoder, config.model_dump())
    ):
        raise ValueError(
            f"expected the categories of the previous macro graph under their old numbers as "
            f"macro.item_groups {config.item_groups!r}; received others: fit the encoder on items "
            "of the same categories, or build without the previous one and train anew"
        )

    def carried(name: str, numbers: np.ndarray) -> np.ndarray:
        known = before.vocabularies[name].encode(encoder.vocabularies[name].values)
        return np.concatenate([[0], numbers[known]]).astype(np.int32)

    return PreviousGroups(
        carried(USER_ID, graph.user_groups[0]), carried(ITEM_ID, graph.item_groups[0]), regroup
    )
