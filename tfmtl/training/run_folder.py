"""The folder that a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.graph import BundleError, GraphBundle, MacroGraph
from tfmtl.models.multi_task_model import MultiTaskModel
from tfmtl.models.registry import build_model
from tfmtl.training.experiment import Experiment
from tfmtl.training.precision_policy import precision_policy
from tfmtl.training.training_state import CheckpointError, restore_checkpoint


@dataclass(frozen=True)
class RunFolder:
    """Names of what a run writes: the resolved experiment, encoder, graphs, checkpoints, metrics.

    Args:
        path: The folder.

    Example:
        >>> RunFolder(Path("runs/demo")).history.as_posix()
        'runs/demo/history.csv'
    """

    path: Path

    @property
    def experiment(self) -> Path:
        """The resolved experiment, YAML."""
        return self.path / "experiment.yaml"

    @property
    def encoder(self) -> Path:
        """The fitted encoder."""
        return self.path / "encoder"

    @property
    def graph(self) -> Path:
        """The graph bundle."""
        return self.path / "graph"

    @property
    def macro_graph(self) -> Path:
        """The macro graph."""
        return self.path / "macro_graph"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints `last` and `best`."""
        return self.path / "checkpoints"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return tf.train.get_checkpoint_state(str(self.checkpoints / "last")) is not None

    @property
    def has_finished_epoch(self) -> bool:
        """Whether there is an epoch whose model can be used."""
        return tf.train.get_checkpoint_state(str(self.checkpoints / "best")) is not None

    @property
    def history(self) -> Path:
        """Losses, validation metrics and, where asked for, telemetry, one line per epoch."""
        return self.path / "history.csv"

    @property
    def curves(self) -> Path:
        """Plot of the history."""
        return self.path / "curves.png"

    @property
    def telemetry(self) -> Path:
        """Plot of the telemetry, for a run that has any."""
        return self.path / "telemetry.png"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def metrics(self) -> Path:
        """Metrics of the best epoch, JSON."""
        return self.path / "metrics.json"


@dataclass(frozen=True)
class TrainedRun:
    """A run read back from its folder.

    Args:
        experiment: What was run.
        encoder: The encoder it was trained with.
        model: The model with the weights of its best epoch.
        bundle: Its graph, or None.
        macro_graph: Its macro graph, or None.

    Example:
        >>> from dataclasses import fields
        >>> [field.name for field in fields(TrainedRun)]
        ['experiment', 'encoder', 'model', 'bundle', 'macro_graph']
    """

    experiment: Experiment
    encoder: FeatureEncoder
    model: MultiTaskModel
    bundle: GraphBundle | None
    macro_graph: MacroGraph | None = None


def load_run(path: Path, *, macro_graph: MacroGraph | None = None) -> TrainedRun:
    """Reads a run back: experiment, encoder, graph, and the model of the best epoch.

    Args:
        path: The run's folder.
        macro_graph: A macro graph rebuilt from newer rows with the run's encoder and its own macro
            graph as the previous one; the model reads it in place of the run's.

    Returns:
        The run.

    Raises:
        CheckpointError: If the folder holds no finished epoch, or a damaged one.
        BundleError: If a graph is missing, damaged, not that of the encoder, or a rebuilt one has
            other macro nodes.

    Example:
        >>> load_run(Path("no/such/run"))
        Traceback (most recent call last):
        ...
        tfmtl.training.training_state.CheckpointError: no run under no/such/run: ...
    """
    folder = RunFolder(Path(path))
    if not folder.experiment.exists():
        raise CheckpointError(
            f"no run under {path}: expected the folder that tfmtl train wrote, with experiment.yaml"
        )
    experiment = Experiment.from_yaml(folder.experiment)
    best = tf.train.get_checkpoint_state(str(folder.checkpoints / "best"))
    if best is None:
        raise CheckpointError(
            f"the run under {path} has no finished epoch: go on with it by train --resume"
        )
    encoder = FeatureEncoder.load(folder.encoder)
    if experiment.uses_macro_graph:
        own = MacroGraph.load(folder.macro_graph)
        macro_graph = own if macro_graph is None else macro_graph
        macro_graph.check(encoder_fingerprint=encoder.fingerprint())
        _check_macro_nodes(macro_graph, own)
    elif macro_graph is not None:
        raise BundleError(
            f"the model of {path}, {experiment.model.name!r}, reads no macro graph and received "
            "one: leave it out"
        )
    with precision_policy(experiment.training.precision):
        model = build_model(
            experiment.model.name,
            encoder.schema,
            encoder,
            experiment.model.hyperparameters,
            exclude_inputs=experiment.model.exclude_inputs,
            bottom=experiment.model.bottom,
            numeric_bins=experiment.model.numeric_bins,
            # Training rows are behind this model.
            macro_graph=None if macro_graph is None else macro_graph.scored_version(),
        )
        model.build_weights()
    restore_checkpoint(tf.train.Checkpoint(model=model), best.model_checkpoint_path)
    bundle = GraphBundle.load(folder.graph) if model.uses_graph else None
    return TrainedRun(experiment, encoder, model, bundle, macro_graph)


def _check_macro_nodes(rebuilt: MacroGraph, own: MacroGraph) -> None:
    received, expected = (
        (graph.num_user_nodes, graph.num_item_nodes, graph.num_tasks) for graph in (rebuilt, own)
    )
    if received != expected:
        raise BundleError(
            "expected as many macro user nodes, macro item nodes and tasks as in the run's macro "
            f"graph, {expected}; received {received}: rebuild it from the run's own"
        )
