"""Everything a model is trained and scored on, made from an experiment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.datasets.registry import load
from tfmtl.graph import (
    BundleError,
    GraphBundle,
    MacroGraph,
    build_graph_bundle,
    build_macro_graph,
    training_versions,
)
from tfmtl.graph.training_versions import VERSION
from tfmtl.training.experiment import Experiment

# What a graph's manifest says nothing about.
_HOW_TO_SAMPLE = {
    "fan_out",
    "mask_own_edges",
    "weighted",
    "time_limit",
    "time_granularity",
    "buckets",
}


@dataclass(frozen=True)
class PreparedData:
    """A loaded dataset, its encoder fitted on the training rows, its encoded parts, its graph.

    Args:
        loaded: The dataset with its split.
        encoder: Vocabularies, scalers and statistics of the training rows.
        train: Encoded training rows.
        validation: Encoded validation rows.
        test: Encoded test rows.
        bundle: The graph, or None when the model uses none.
        macro_graph: The macro graph, or None when the model uses none.

    Example:
        >>> from dataclasses import fields
        >>> [field.name for field in fields(PreparedData)]
        ['loaded', 'encoder', 'train', 'validation', 'test', 'bundle', 'macro_graph']
    """

    loaded: LoadedDataset
    encoder: FeatureEncoder
    train: EncodedLog
    validation: EncodedLog
    test: EncodedLog
    bundle: GraphBundle | None
    macro_graph: MacroGraph | None = None


def prepare_data(
    experiment: Experiment,
    *,
    data_dir: Path | None = None,
    bundle: GraphBundle | None = None,
    macro_graph: MacroGraph | None = None,
    with_graph: bool | None = None,
    progress: bool = False,
) -> PreparedData:
    """Loads, splits and encodes the experiment's log and builds its graph.

    Args:
        experiment: What to load and how.
        data_dir: Folder of a local copy of the data.
        bundle: A graph built before for the same experiment, in place of a new one.
        macro_graph: A macro graph built before for the same experiment, in place of a new one.
        with_graph: Whether to build the graph; by default when the experiment's model uses one.
        progress: Whether to show progress bars.

    Returns:
        The prepared data.

    Raises:
        DatasetError: If the experiment trains on a history that the dataset does not have.
        BundleError: If `bundle` or `macro_graph` was built from other rows, with another encoder,
            or otherwise than the experiment says.

    Example:
        >>> experiment = Experiment.from_yaml(
        ...     "{dataset: {name: simulator, options: {num_users: 20, num_items: 10, "
        ...     "num_rows: 400}}, model: {name: mmoe}}")
        >>> prepare_data(experiment).bundle is None
        True
    """
    loaded = load(experiment.dataset.name, data_dir=data_dir, **experiment.dataset.options)
    if experiment.dataset.train_on_history:
        loaded = loaded.with_history_in_training()
    train = loaded.split.train
    encoder = FeatureEncoder.fit(train, loaded.history, experiment.statistics)
    if bundle is not None:
        bundle.check(**_origin(experiment, loaded, encoder))
    elif experiment.uses_graph if with_graph is None else with_graph:
        graph = experiment.graph
        bundle = build_graph_bundle(
            train,
            encoder,
            history=loaded.history,
            include_training_rows=graph.include_training_rows,
            edges=graph.edges,
            behaviors=graph.behaviors,
            similarity=graph.similarity,
            keep_times=graph.time_limit,
            progress=progress,
        )
    encoded = encoder.encode(train)
    if experiment.uses_macro_graph:
        if macro_graph is None:
            macro_graph = build_macro_graph(
                train, encoder, experiment.macro, history=loaded.history, progress=progress
            )
        else:
            macro_graph.check(
                **_origin_of_rows(loaded, encoder), macro=experiment.macro.model_dump(mode="json")
            )
            if macro_graph.num_versions == 1:
                raise BundleError(
                    "the macro graph has one version, which counts the training rows' own labels: "
                    "build one with the versions that training rows read, by build_macro_graph"
                )
        versions = training_versions(experiment.macro, len(encoded))
        encoded = replace(encoded, features={**encoded.features, VERSION: versions})
    return PreparedData(
        loaded=loaded,
        encoder=encoder,
        train=encoded,
        validation=encoder.encode(loaded.split.validation),
        test=encoder.encode(loaded.split.test),
        bundle=bundle,
        macro_graph=macro_graph,
    )


def _origin(
    experiment: Experiment, loaded: LoadedDataset, encoder: FeatureEncoder
) -> dict[str, Any]:
    """Entries that the manifest of the experiment's graph has."""
    return {
        **_origin_of_rows(loaded, encoder),
        "keep_times": experiment.graph.time_limit,
        **experiment.graph.model_dump(mode="json", exclude=_HOW_TO_SAMPLE),
    }


def _origin_of_rows(loaded: LoadedDataset, encoder: FeatureEncoder) -> dict[str, Any]:
    history = loaded.history
    return {
        "split_fingerprint": loaded.split.train.fingerprint(),
        "history_fingerprint": None if history is None else history.fingerprint(),
        "encoder_fingerprint": encoder.fingerprint(),
    }
