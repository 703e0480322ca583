"""Trains one experiment into a run folder."""

from __future__ import annotations

import csv
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras
from tf_keras.optimizers import schedules
from tf_keras.optimizers.schedules import LearningRateSchedule

from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.data.pipeline import training_dataset
from tfmtl.graph import NeighborSampler
from tfmtl.models.multi_task_model import MultiTaskModel
from tfmtl.models.registry import build_model
from tfmtl.training.check_table_memory import check_table_memory
from tfmtl.training.cluster import Cluster, ClusterError
from tfmtl.training.curves import plot_curves
from tfmtl.training.experiment import Experiment, ExperimentError, TrainingConfig
from tfmtl.training.finite_losses import FiniteLosses
from tfmtl.training.fit_on_workers import fit_on_workers
from tfmtl.training.freed_memory import keep_freed_memory
from tfmtl.training.graph_sampler import graph_sampler
from tfmtl.training.lazy_adam import LazyAdam
from tfmtl.training.precision_policy import precision_policy
from tfmtl.training.prepared_data import PreparedData, prepare_data
from tfmtl.training.progress_bar import ProgressBar
from tfmtl.training.run_folder import RunFolder
from tfmtl.training.serve_chief import stop_servers
from tfmtl.training.shared_batches import SharedBatches
from tfmtl.training.step_hook import forget_hooks
from tfmtl.training.telemetry import Telemetry
from tfmtl.training.telemetry_plot import plot_telemetry
from tfmtl.training.training_state import TrainingState
from tfmtl.training.validation_metrics import ValidationMetrics
from tfmtl.training.warm_up import WarmUp
from tfmtl.training.weight_average import WeightAverage

_LOG = logging.getLogger(__name__)


def train(
    experiment: Experiment,
    folder: Path,
    *,
    data: PreparedData | None = None,
    data_dir: Path | None = None,
    resume: bool = False,
    progress: bool = False,
    cluster: Cluster | None = None,
) -> MultiTaskModel:
    """Trains the experiment's model and leaves a run folder behind.

    Under a strategy of several processes every one of them calls this with the same experiment and
    data and, for checkpoints that all of them read, the same folder on storage that they share; a
    worker or server of `parameter_server` calls `serve_chief` instead.

    Args:
        experiment: What to train.
        folder: The run folder; refused when it holds a run with a checkpoint, unless `resume`.
        data: The prepared data, when the caller has it.
        data_dir: Folder of a local copy of the data.
        resume: Goes on at the last checkpoint of an interrupted run in `folder`, to the weights
            that it would have had; a run without a checkpoint starts again.
        progress: Whether to show progress bars.
        cluster: This process's place in the cluster; that of `TF_CONFIG` when not given.

    Returns:
        The model with the weights of its best validation epoch.

    Raises:
        ExperimentError: If `folder` holds another run, with `resume` another experiment or one on
            other data, or the experiment monitors the GAUC of a log without users.
        ClusterError: If `TF_CONFIG` describes no cluster for the strategy, this process only
            serves, or another process is gone.
        CheckpointError: If the files to resume from are damaged or another model's.
        MemoryError: If the embedding tables would not fit into memory.
        NonFiniteLossError: If a loss or a weight becomes NaN or infinite; the last checkpoint is
            from before it.
        OSError: If a checkpoint cannot be written; the one before it is kept.

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
    settings = experiment.training
    if cluster is None:
        cluster = Cluster.from_environment(settings.strategy)
    if cluster.only_serves:
        raise ClusterError(
            f"this process is {cluster.job!r} number {cluster.index} of the cluster, which the "
            "chief trains on: call serve_chief"
        )
    with ExitStack() as stack:
        run = RunFolder(Path(folder))
        resume = _claim(run, experiment, resume, writes=cluster.is_chief)
        if not cluster.is_chief:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfmtl-")))
            run = _copied(run, RunFolder(scratch), resume)
        stack.enter_context(_told_when_gone(cluster))
        return _trained(experiment, run, data, data_dir, resume, progress, cluster)


def _trained(
    experiment: Experiment,
    run: RunFolder,
    data: PreparedData | None,
    data_dir: Path | None,
    resume: bool,
    progress: bool,
    cluster: Cluster,
) -> MultiTaskModel:
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
        if cluster.is_chief and not resume:
            data.bundle.save(run.graph)
        if settings.strategy != "parameter_server":
            sampler = graph_sampler(experiment, data.bundle, data.train)
    if experiment.uses_macro_graph and cluster.is_chief and not resume:
        assert data.macro_graph is not None
        data.macro_graph.save(run.macro_graph)
    check_table_memory(experiment, data.encoder)
    batch_size = min(settings.batch_size, len(data.train))
    steps = len(data.train) // batch_size
    learning_rate = _learning_rate(settings, steps)
    strategy = cluster.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ExperimentError(
            f"expected a training.batch_size that {replicas} replicas can share out in equal "
            f"parts; received {batch_size}: set it to a multiple of {replicas}, such as "
            f"{batch_size - batch_size % replicas or replicas}"
        )
    with strategy.scope(), precision_policy(settings.precision):
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
        model.compile(
            optimizer=_optimizer(settings, learning_rate),
            jit_compile=settings.jit_compile,
            steps_per_execution=settings.steps_per_execution,
        )
        model.build_weights()
        if settings.strategy == "parameter_server":
            _check_cut(cluster, model)
        if data.bundle is not None:
            model.adapt_to_graph(data.bundle)
        model.optimizer.build(model.trainable_variables)

    def batches(
        epoch: int, step: int = 0, sample: NeighborSampler | None = None, **options: Any
    ) -> tf.data.Dataset:
        return training_dataset(
            data.train,
            batch_size=batch_size,
            seed=settings.seed,
            start_epoch=epoch,
            start_step=step,
            sample=sample,
            **options,
        )

    def shares(epoch: int, step: int) -> tf.distribute.DistributedDataset:
        """The rows of every step shared out among the replicas, from epoch to epoch."""

        def share(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = replicas // context.num_input_pipelines
            first = context.input_pipeline_id * local
            own = range(first, first + local)
            return batches(epoch, step, sampler, replicas=replicas, own_replicas=own).repeat()

        return strategy.distribute_datasets_from_function(share)

    coordinator: Any = None
    if settings.strategy == "parameter_server":
        coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        shared_batches = SharedBatches(experiment, data)

    def fit(epoch: int, epochs: int, step: int = 0) -> None:
        options: dict[str, Any] = {
            "epochs": epochs,
            "initial_epoch": epoch,
            "callbacks": callbacks,
        }
        if coordinator is not None:
            fit_on_workers(model, coordinator, shared_batches, first_step=step, **options)
        elif settings.strategy != "none":
            # Keras does not begin such a dataset anew with an epoch.
            model.fit(shares(epoch, step), steps_per_epoch=steps - step, verbose=0, **options)
        elif step:
            model.fit(
                batches(epoch, step, sampler), steps_per_epoch=steps - step, verbose=0, **options
            )
        else:
            model.fit(batches(epoch, sample=sampler), verbose=0, **options)

    def check() -> None:
        if coordinator is not None:
            coordinator.join()
        losses.check()

    # Steps on workers end in an order of their own, so that their number tells no batch.
    losses = FiniteLosses(
        batch=None
        if coordinator is not None
        else lambda epoch, step: next(iter(batches(epoch, step)))
    )
    average = None if settings.ema_momentum is None else WeightAverage(settings.ema_momentum)
    state = TrainingState(
        run.checkpoints,
        monitor=f"val_{settings.monitor}",
        greater_is_better=settings.monitor != "log_loss",
        patience=settings.patience,
        every_steps=settings.checkpoint_every,
        every_minutes=settings.checkpoint_minutes,
        average=average,
        check=check,
    )
    averages = [] if average is None else [average]
    watching: list[keras.callbacks.Callback] = [losses, *averages, state]
    with strategy.scope():
        for callback in watching:
            callback.set_model(model)
    if resume:
        state.restore("last")
    start, first_step = int(state.epochs_done.numpy()), int(state.steps_done.numpy())
    if start < settings.epochs and not state.exhausted:
        losses.first_step = first_step
        telemetry = []
        if settings.telemetry:
            telemetry.append(
                Telemetry(
                    data.validation, bundle=data.bundle, batch_size=settings.evaluation_batch_size
                )
            )
        callbacks = [
            # First, so that the time of validation is not counted, and nothing is scored in vain.
            _Stopwatch(state),
            losses,
            *averages,
            ValidationMetrics(
                data.validation, bundle=data.bundle, batch_size=settings.evaluation_batch_size
            ),
            _LearningRate(learning_rate, state),
            *telemetry,
            # Before the state: a line too many is dropped on resuming, one too few would be lost.
            _History(run.history, epochs_done=start),
            state,
            keras.callbacks.TensorBoard(str(run.tensorboard), profile_batch=0),
        ]
        with ExitStack() as stack:
            if progress:
                bar = ProgressBar(experiment.model.name, first_step=first_step)
                callbacks.append(stack.enter_context(closing(bar)))
            if first_step:
                # Alone, as `fit` takes the length of its first epoch for that of all.
                fit(start, start + 1, first_step)
                start += 1
            if start < settings.epochs and not state.exhausted:
                fit(start, settings.epochs)
    if coordinator is not None:
        # Waits for a worker that is just being taken back: servers that are told to end would leave
        # the thread that does so, and with it this process, waiting for them.
        coordinator._cluster.stop()
    forget_hooks(model)
    plot_curves(run.history, run.curves)
    if settings.telemetry:
        plot_telemetry(run.history, run.telemetry)
    state.restore("best")
    return model


@contextmanager
def _told_when_gone(cluster: Cluster) -> Iterator[None]:
    """Says which process is gone, where one is, and ends those that serve this one."""
    finished = False
    try:
        yield
        finished = True
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.FailedPreconditionError,
        tf.errors.InternalError,
    ) as error:
        if cluster.strategy not in ("multi_worker", "parameter_server"):
            raise
        named = re.findall(r"/job:(\w+)/replica:\d+/task:(\d+)", str(error))
        # The message names this process too, as the one that asked.
        others = [place for place in named if place != (cluster.job, str(cluster.index))]
        gone = f"{others[0][0]!r} number {others[0][1]}" if others else "one of them"
        raise ClusterError(
            f"the processes of the cluster cannot reach each other any more, {gone} is gone: see "
            "what it wrote last, end the others, and start all of them again with --resume: the "
            f"run goes on from its last checkpoint ({str(error).strip().splitlines()[0][:200]})"
        ) from error
    finally:
        if cluster.strategy == "parameter_server":
            stop_servers(cluster, finished=finished)


def _copied(run: RunFolder, own: RunFolder, resume: bool) -> RunFolder:
    """A folder for what this process writes because the chief does, with what it goes on from."""
    if resume:
        shutil.copytree(run.encoder, own.encoder)
        shutil.copytree(run.checkpoints, own.checkpoints)
        # There is none before the first epoch's end.
        if run.history.exists():
            shutil.copy(run.history, own.history)
    return own


def _claim(run: RunFolder, experiment: Experiment, resume: bool, *, writes: bool) -> bool:
    """Makes the folder the experiment's; returns whether it has a checkpoint to go on from."""
    if run.experiment.exists() and (resume or run.has_checkpoint):
        if not resume:
            raise ExperimentError(
                f"{run.path} already holds a run: resume it, or train into another folder"
            )
        changes = _changes(Experiment.from_yaml(run.experiment).resolved(), experiment.resolved())
        if changes:
            raise ExperimentError(
                f"the run under {run.path} is another experiment, it differs in "
                f"{', '.join(changes)}: resume it with its own experiment.yaml or train into "
                "another folder"
            )
        if run.has_checkpoint:
            return True
    if resume and run.has_checkpoint:
        raise ExperimentError(
            f"{run.path} has checkpoints and no experiment.yaml: put it back, or train into "
            "another folder"
        )
    if resume:
        _LOG.warning("no checkpoint to resume under %s: the run starts at its beginning", run.path)
    if not writes:
        return False
    # What was interrupted before its first checkpoint may have left a best epoch of other weights.
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    run.path.mkdir(parents=True, exist_ok=True)
    aside = run.experiment.with_suffix(".partial")
    aside.write_text(experiment.to_yaml(), encoding="utf-8")
    os.replace(aside, run.experiment)
    return False


def _check_cut(cluster: Cluster, model: MultiTaskModel) -> None:
    """Refuses parts of tables that would be put together again for every look-up."""
    own = [tuple(model.embedding.table.shape)] if model.embedding.inputs else []
    others = [tuple(shape) for shape in cluster.partitioner.cut if tuple(shape) not in own]
    if others:
        raise ExperimentError(
            f"{type(model).__name__} has tables of shapes {others} beside that of its features, "
            "which parameter servers cannot share: set training.strategy to 'multi_worker' or "
            "'mirrored', or make them smaller"
        )


def _changes(before: Any, after: Any, path: str = "") -> list[str]:
    """Fields that differ, by their dotted names, with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            change
            for name in {**before, **after}
            for change in _changes(before.get(name), after.get(name), f"{path}.{name}".lstrip("."))
        ]
    return [] if before == after else [f"{path} ({before!r} in the run, {after!r} now)"]


def _learning_rate(settings: TrainingConfig, steps_per_epoch: int) -> LearningRateSchedule:
    all_steps = settings.epochs * steps_per_epoch
    schedule: LearningRateSchedule
    if settings.learning_rate_schedule == "linear":
        schedule = schedules.PolynomialDecay(settings.learning_rate, all_steps, 0.0)
    elif settings.learning_rate_schedule == "cosine":
        schedule = schedules.CosineDecay(settings.learning_rate, all_steps)
    else:
        schedule = schedules.ExponentialDecay(
            settings.learning_rate, steps_per_epoch, settings.learning_rate_decay, staircase=True
        )
    return WarmUp(schedule, steps=settings.warmup_steps) if settings.warmup_steps else schedule


def _optimizer(
    settings: TrainingConfig, learning_rate: LearningRateSchedule
) -> keras.optimizers.Optimizer:
    options: dict[str, Any] = {"learning_rate": learning_rate}
    if settings.clip_norm is not None:
        options["global_clipnorm"] = settings.clip_norm
    if settings.optimizer == "lazy_adam":
        return LazyAdam(**options)
    # Keras takes a configuration without this key for one of an optimiser of before 2.11.
    config = {**options, "is_legacy_optimizer": False}
    return keras.optimizers.get({"class_name": settings.optimizer, "config": config})


class _Stopwatch(keras.callbacks.Callback):
    """Adds the `seconds` that an epoch's steps took to its logs."""

    def __init__(self, state: TrainingState):
        super().__init__()
        self._state = state

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs["seconds"] = self._state.elapsed()


class _LearningRate(keras.callbacks.Callback):
    """Adds the rate `lr` of an epoch's first step to its logs."""

    def __init__(self, schedule: LearningRateSchedule, state: TrainingState):
        super().__init__()
        self._schedule = schedule
        self._state = state

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # The optimiser's own `learning_rate` is that of the step before.
        first = self.model.optimizer.iterations - self._state.steps_done
        self._rate = float(self._schedule(first))

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
