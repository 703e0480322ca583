"""Trains one experiment into a run folder."""

from __future__ import annotations

import csv
import os
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import tf_keras as keras
from tf_keras.optimizers import schedules
from tf_keras.optimizers.schedules import LearningRateSchedule

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.data.pipeline import training_dataset
from tfmtl.graph import GraphBundle, NeighborSampler, SizeBuckets
from tfmtl.models.multi_task_model import MultiTaskModel
from tfmtl.models.registry import build_model
from tfmtl.training.curves import plot_curves
from tfmtl.training.experiment import Experiment, ExperimentError, TrainingConfig
from tfmtl.training.freed_memory import keep_freed_memory
from tfmtl.training.prepared_data import PreparedData, prepare_data
from tfmtl.training.progress_bar import ProgressBar
from tfmtl.training.run_folder import RunFolder
from tfmtl.training.telemetry import Telemetry
from tfmtl.training.telemetry_plot import plot_telemetry
from tfmtl.training.training_state import CheckpointError, TrainingState
from tfmtl.training.validation_metrics import ValidationMetrics


def train(
    experiment: Experiment,
    folder: Path,
    *,
    data: PreparedData | None = None,
    data_dir: Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> MultiTaskModel:
    """Trains the experiment's model and leaves a run folder behind.

    Args:
        experiment: What to train.
        folder: The run folder; refused when it holds a run with a finished epoch, unless `resume`.
        data: The prepared data, when the caller has it.
        data_dir: Folder of a local copy of the data.
        resume: Goes on after the last finished epoch of an interrupted run in `folder`.
        progress: Whether to show progress bars.

    Returns:
        The model with the weights of its best validation epoch.

    Raises:
        ExperimentError: If `folder` holds another run, with `resume` another experiment or one on
            other data, or the experiment monitors the GAUC of a log without users.
        CheckpointError: If there is no finished epoch to resume from, or its files are damaged.

    Example:
        >>> import tempfile
        >>> experiment = Experiment.from_yaml(
        ...     "{dataset: {name: simulator, options: {num_users: 20, num_items: 10, "
        ...     "num_rows: 400}}, model: {name: mmoe}, training: {epochs: 1, batch_size: 64}}")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model = train(experiment, Path(folder) / "run")
        >>> model.task_names[0]
        'click'
    """
    run = RunFolder(Path(folder))
    _claim(run, experiment, resume)
    settings = experiment.training
    keras.utils.set_random_seed(settings.seed)
    keep_freed_memory()
    if data is None:
        data = prepare_data(experiment, data_dir=data_dir, progress=progress)
    if settings.monitor == "gauc" and not data.loaded.log.schema.has_ids:
        raise ExperimentError(
            "training.monitor is 'gauc', which needs users, and the log has none: set it to 'auc' "
            "or 'log_loss'"
        )
    if not resume:
        data.encoder.save(run.encoder)
    elif FeatureEncoder.load(run.encoder).fingerprint() != data.encoder.fingerprint():
        raise ExperimentError(
            f"the data changed since the run under {run.path} began: resume it with the data of "
            "then, or train into another folder"
        )
    resolved = experiment.resolved()["model"]
    sampler = None
    if experiment.uses_graph:
        assert data.bundle is not None
        if not resume:
            data.bundle.save(run.graph)
        sampler = _sampler(experiment, data.bundle, data.train)
    if experiment.uses_macro_graph and not resume:
        assert data.macro_graph is not None
        data.macro_graph.save(run.macro_graph)
    model = build_model(
        experiment.model.name,
        data.loaded.log.schema,
        data.encoder,
        resolved["hyperparameters"],
        exclude_inputs=experiment.model.exclude_inputs,
        bottom=resolved["bottom"],
        numeric_bins=experiment.model.numeric_bins,
        macro_graph=data.macro_graph if experiment.uses_macro_graph else None,
    )
    batch_size = min(settings.batch_size, len(data.train))
    learning_rate = _learning_rate(settings, len(data.train) // batch_size)
    model.compile(optimizer=_optimizer(settings, learning_rate))
    model.build_weights()
    if data.bundle is not None:
        model.adapt_to_graph(data.bundle)
    model.optimizer.build(model.trainable_variables)

    state = TrainingState(
        run.checkpoints,
        monitor=f"val_{settings.monitor}",
        greater_is_better=settings.monitor != "log_loss",
        patience=settings.patience,
    )
    state.set_model(model)
    if resume:
        state.restore("last")
    start = int(state.epochs_done.numpy())
    if start < settings.epochs and not state.exhausted:
        dataset = training_dataset(
            data.train,
            batch_size=batch_size,
            seed=settings.seed,
            start_epoch=start,
            sample=sampler,
        )
        telemetry = []
        if settings.telemetry:
            telemetry.append(
                Telemetry(
                    data.validation, bundle=data.bundle, batch_size=settings.evaluation_batch_size
                )
            )
        callbacks = [
            # First, so that the time of validation is not counted.
            _Stopwatch(),
            ValidationMetrics(
                data.validation, bundle=data.bundle, batch_size=settings.evaluation_batch_size
            ),
            _LearningRate(learning_rate),
            *telemetry,
            # Before the state: a line too many is dropped on resuming, one too few would be lost.
            _History(run.history, epochs_done=start),
            state,
            keras.callbacks.TensorBoard(str(run.tensorboard), profile_batch=0),
        ]
        with ExitStack() as stack:
            if progress:
                bar = stack.enter_context(closing(ProgressBar(experiment.model.name)))
                callbacks.append(bar)
            model.fit(
                dataset,
                epochs=settings.epochs,
                initial_epoch=start,
                callbacks=callbacks,
                verbose=0,
            )
    plot_curves(run.history, run.curves)
    if settings.telemetry:
        plot_telemetry(run.history, run.telemetry)
    state.restore("best")
    return model


def _claim(run: RunFolder, experiment: Experiment, resume: bool) -> None:
    if resume:
        if not run.experiment.exists():
            raise ExperimentError(
                f"nothing to resume under {run.path}: start the run without --resume"
            )
        before = Experiment.from_yaml(run.experiment)
        if before.resolved() != experiment.resolved():
            changed = [
                section
                for section, value in experiment.resolved().items()
                if value != before.resolved()[section]
            ]
            raise ExperimentError(
                f"the run under {run.path} is another experiment, it differs in {changed}: resume "
                "it with its own experiment.yaml or train into another folder"
            )
        if not run.has_finished_epoch:
            raise CheckpointError(
                f"the run under {run.path} was interrupted before its first epoch ended: start it "
                "again without --resume"
            )
        return
    if run.experiment.exists() and run.has_finished_epoch:
        raise ExperimentError(
            f"{run.path} already holds a run: resume it, or train into another folder"
        )
    run.path.mkdir(parents=True, exist_ok=True)
    aside = run.experiment.with_suffix(".partial")
    aside.write_text(experiment.to_yaml(), encoding="utf-8")
    os.replace(aside, run.experiment)


def _sampler(experiment: Experiment, bundle: GraphBundle, rows: EncodedLog) -> NeighborSampler:
    graph, settings = experiment.graph, experiment.training
    sampler_of = partial(
        NeighborSampler,
        bundle,
        fan_outs=graph.fan_out,
        channels=experiment.graph_options["channels"],
        mask_own_edges=graph.mask_own_edges,
        weighted=graph.weighted,
        time_limit=graph.time_limit,
        time_granularity=graph.time_granularity,
    )
    if not graph.buckets:
        return sampler_of()
    batch_size = min(settings.batch_size, len(rows))
    buckets = SizeBuckets.fit(sampler_of(), rows, batch_size, graph.buckets, seed=settings.seed)
    return sampler_of(buckets=buckets)


def _learning_rate(settings: TrainingConfig, steps_per_epoch: int) -> LearningRateSchedule:
    all_steps = settings.epochs * steps_per_epoch
    if settings.learning_rate_schedule == "linear":
        return schedules.PolynomialDecay(settings.learning_rate, all_steps, 0.0)
    if settings.learning_rate_schedule == "cosine":
        return schedules.CosineDecay(settings.learning_rate, all_steps)
    return schedules.ExponentialDecay(
        settings.learning_rate, steps_per_epoch, settings.learning_rate_decay, staircase=True
    )


def _optimizer(
    settings: TrainingConfig, learning_rate: LearningRateSchedule
) -> keras.optimizers.Optimizer:
    # Keras takes a configuration without this key for one of an optimiser of before 2.11.
    config: dict[str, Any] = {"learning_rate": learning_rate, "is_legacy_optimizer": False}
    if settings.clip_norm is not None:
        config["global_clipnorm"] = settings.clip_norm
    return keras.optimizers.get({"class_name": settings.optimizer, "config": config})


class _Stopwatch(keras.callbacks.Callback):
    """Adds the `seconds` that an epoch's steps took to its logs."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["seconds"] = time.perf_counter() - self._start


class _LearningRate(keras.callbacks.Callback):
    """Adds the rate `lr` of an epoch's first step to its logs."""

    def __init__(self, schedule: LearningRateSchedule):
        super().__init__()
        self._schedule = schedule

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # The optimiser's own `learning_rate` is that of the step before.
        self._rate = float(self._schedule(self.model.optimizer.iterations))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["lr"] = self._rate


class _History(keras.callbacks.Callback):
    """One line per epoch, in a file that is complete at any moment."""

    def __init__(self, path: Path, epochs_done: int):
        super().__init__()
        self._path = path
        self._rows: list[dict[str, Any]] = []
        if epochs_done:
            with path.open(newline="", encoding="utf-8") as file:
                rows = csv.DictReader(file)
                self._rows = [row for row in rows if int(row["epoch"]) <= epochs_done]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        values = {key: float(value) for key, value in (logs or {}).items()}
        self._rows.append({"epoch": epoch + 1, **values})
        aside = self._path.with_suffix(".partial")
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(self._rows[0]))
            writer.writeheader()
            writer.writerows(self._rows)
        aside.replace(self._path)
