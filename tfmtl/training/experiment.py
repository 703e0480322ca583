"""An experiment is one YAML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tfmtl.data.statistics_config import StatisticsConfig
from tfmtl.graph.macro_config import MacroConfig
from tfmtl.graph.similarity_config import SimilarityConfig
from tfmtl.models.registry import MODELS, checked_bottom, default_hyperparameters
from tfmtl.training.cluster import Strategy
from tfmtl.training.precision_policy import Precision
from tfmtl.training.yaml_document import parse_yaml, validated, with_value


class ExperimentError(ValueError):
    """An experiment file cannot be used."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetConfig(_Section):
    """Which log to train on.

    Args:
        name: A name that `tfmtl.datasets.names` lists.
        options: Options of the dataset's loader.
        train_on_history: Whether rows older than the log, which datasets may bring for graphs and
            counts, are training rows too, for the tasks that they define.

    Example:
        >>> DatasetConfig(name="simulator", options={"num_users": 50}).options["num_users"]
        50
    """

    name: str
    options: dict[str, Any] = {}
    train_on_history: bool = False


class GraphConfig(_Section):
    """How the graph is built from the training rows and sampled.

    Args:
        include_training_rows: Whether training rows are edges beside the history's.
        edges: `positive` keeps pairs with a positive label, `all` keeps exposures too.
        behaviors: Tasks whose positive rows are edges; all of them when not given.
        similarity: How G^U and G^I are built.
        fan_out: Neighbours drawn per hop; as many hops as the model has layers.
        mask_own_edges: Whether a row's own edge is dropped when the row is scored.
        weighted: Edge sets whose neighbours are drawn in proportion to their weight, such as
            `user_user`; those of all others alike.
        time_limit: Whether a training row sees only what happened before it. Every row of the log
            is then an edge with its time. Scoring uses the whole graph, as it does without.
        time_granularity: Length of the periods to whose start time limits are floored; 0 for none.
        buckets: Most sizes of sampled graphs, which are padded to them; 0 for no padding.

    Example:
        >>> GraphConfig(behaviors=["like"], fan_out=[10, 5]).fan_out
        (10, 5)
    """

    include_training_rows: bool = True
    edges: Literal["positive", "all"] = "positive"
    behaviors: tuple[str, ...] | None = None
    similarity: SimilarityConfig = SimilarityConfig()
    fan_out: tuple[int, ...] = (10, 10)
    mask_own_edges: bool = True
    weighted: tuple[str, ...] = ()
    time_limit: bool = False
    time_granularity: float = Field(0, ge=0)
    buckets: int = Field(0, ge=0)


class ModelConfig(_Section):
    """Which model to train.

    Args:
        name: A key of `tfmtl.models.MODELS`.
        hyperparameters: Constructor arguments that differ from the defaults.
        exclude_inputs: Encoded inputs that the model does not embed.
        bottom: What stands under the model beside the features, with its options: `{mgnn: {dim:
            32}}` adds the states of a graph network to the input of a model that has none, `{macro:
            {dim: 10}}` a macro graph bottom; both may stand side by side.
        numeric_bins: Bins by which numeric inputs and statistics are encoded beside their value, so
            that a model can bend at every bound; 0 for none. See `FeatureEmbedding`.

    Example:
        >>> ModelConfig(name="mmoe", hyperparameters={"num_experts": 2}).name
        'mmoe'
    """

    name: str
    hyperparameters: dict[str, Any] = {}
    exclude_inputs: tuple[str, ...] = ()
    bottom: dict[str, dict[str, Any]] = {}
    numeric_bins: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        known = default_hyperparameters(self.name)
        unknown = sorted(set(self.hyperparameters) - set(known))
        if unknown:
            raise ValueError(
                f"model {self.name!r} has no hyper-parameters {unknown}; "
                f"expected some of {sorted(known)}"
            )
        if self.bottom:
            checked_bottom(self.name, self.bottom)
        return self


class TrainingConfig(_Section):
    """How the model is trained.

    Args:
        batch_size: Rows per step.
        epochs: Most passes over the training rows.
        optimizer: Name of a Keras optimiser, or `lazy_adam`, whose step does not grow with the
            tables, see `LazyAdam`.
        learning_rate: Its learning rate in the first epoch.
        learning_rate_decay: Factor on the learning rate after every epoch.
        learning_rate_schedule: What the learning rate does from step to step: it stays `constant`,
            or falls to 0 over all `epochs`, `linear` or as a half `cosine`.
        warmup_steps: Steps in which the rate rises to what it would be without, see `WarmUp`.
        clip_norm: Bound on the global norm of the gradient.
        ema_momentum: Momentum of an average of the weights that is kept beside them, see
            `WeightAverage`; it is what is validated, selected and exported. None for no average.
        precision: Arithmetic of the layers, `float32`, `bfloat16` or `float16`; weights are
            `float32` with any, and under `float16` the loss is scaled.
        jit_compile: Whether a step is compiled by XLA; a graph model then needs `graph.buckets`.
        steps_per_execution: Steps that one call from Python makes.
        monitor: Validation metric, averaged over tasks, that selects the epoch.
        patience: Epochs in a row without improvement that are put up with; one more ends training.
        evaluation_batch_size: Rows scored at one time.
        telemetry: Whether every epoch's line of the history tells what gates and task gradients do,
            see `Telemetry`.
        checkpoint_every: Steps after which a checkpoint is written within an epoch, beside that
            after it; None for no number.
        checkpoint_minutes: Minutes after which one is; None for no time.
        strategy: Which processes and devices train together, see `Cluster`: `none`, `mirrored`,
            `multi_worker` or `parameter_server`. The processes are those of `TF_CONFIG`.
        seed: Seed of weights, order of rows and sampling.

    Raises:
        pydantic.ValidationError: If a field is out of range, two set the learning rate, or the
            strategy cannot have the precision, compilation or steps per call.

    Example:
        >>> TrainingConfig(epochs=3).monitor
        'gauc'
    """

    batch_size: int = Field(1024, ge=1)
    epochs: int = Field(10, ge=1)
    optimizer: str = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    learning_rate_decay: float = Field(1.0, gt=0, le=1)
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = Field(0, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    ema_momentum: float | None = Field(None, gt=0, lt=1)
    precision: Precision = "float32"
    jit_compile: bool = False
    steps_per_execution: int = Field(1, ge=1)
    monitor: Literal["auc", "gauc", "log_loss"] = "gauc"
    patience: int = Field(2, ge=0)
    evaluation_batch_size: int = Field(8192, ge=1)
    telemetry: bool = False
    checkpoint_every: int | None = Field(None, ge=1)
    checkpoint_minutes: float | None = Field(10, gt=0)
    strategy: Strategy = "none"
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check_learning_rate(self) -> TrainingConfig:
        if self.learning_rate_schedule != "constant" and self.learning_rate_decay != 1:
            raise ValueError(
                f"learning_rate_decay {self.learning_rate_decay} and learning_rate_schedule "
                f"{self.learning_rate_schedule!r} both set the learning rate: keep one of them"
            )
        return self

    @model_validator(mode="after")
    def _check_strategy(self) -> TrainingConfig:
        if self.jit_compile and self.strategy != "none":
            raise ValueError(
                f"training.jit_compile is set and training.strategy is {self.strategy!r}: XLA "
                "compiles steps of one device alone; set one of them to its default"
            )
        if self.strategy == "parameter_server":
            if self.precision != "float32":
                raise ValueError(
                    f"training.strategy 'parameter_server' trains in float32; received precision "
                    f"{self.precision!r}, which Keras does not know with it: set it to 'float32', "
                    "or choose another strategy"
                )
            if self.steps_per_execution != 1:
                raise ValueError(
                    "training.strategy 'parameter_server' hands out single steps; received "
                    f"steps_per_execution {self.steps_per_execution}: set it to 1"
                )
        return self


class Experiment(_Section):
    """Everything that determines a run: data, features, graph, model and training.

    Args:
        dataset: Which log.
        statistics: Causal statistics features; none when not given.
        graph: How the graph is built and sampled, for models that use one.
        macro: How the macro graph is built, for models that use one.
        model: Which model, with its hyper-parameters.
        training: Optimiser, epochs, selection.

    Raises:
        pydantic.ValidationError: If a field is unknown or out of range, or a graph model has not
            as many layers as hops are sampled, must not be trained with a time limit, or is to be
            compiled for graphs of any size.

    Example:
        >>> experiment = Experiment.from_yaml(
        ...     "{dataset: {name: simulator}, model: {name: mmoe}}", ["training.epochs=3"])
        >>> experiment.training.epochs
        3
        >>> experiment.resolved()["model"]["hyperparameters"]["num_experts"]
        4
    """

    dataset: DatasetConfig
    statistics: StatisticsConfig | None = None
    graph: GraphConfig = GraphConfig()
    macro: MacroConfig = MacroConfig()
    model: ModelConfig
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _check_hops(self) -> Experiment:
        if not self.uses_graph:
            return self
        if self.graph.time_limit and not MODELS[self.model.name].allows_time_limit:
            raise ValueError(
                f"model {self.model.name!r} knows the degrees of the whole graph, which would tell "
                "a row of what came after it: set graph.time_limit to false, or choose another "
                "model"
            )
        if self.training.jit_compile and not self.graph.buckets:
            raise ValueError(
                "training.jit_compile is set and graph.buckets is 0: XLA would compile the model "
                "for every size of a sampled graph; set graph.buckets to the most sizes to have, "
                "such as 4"
            )
        layers, hops = self.graph_options["num_layers"], len(self.graph.fan_out)
        if layers != hops:
            raise ValueError(
                f"graph.fan_out has {hops} hops and the model {layers} layers: give num_layers and "
                "fan_out the same length, or training would see less of the graph than scoring"
            )
        return self

    @classmethod
    def from_yaml(cls, source: str | Path, overrides: Sequence[str] = ()) -> Experiment:
        """Reads YAML text, or a file when given a `Path`.

        Args:
            source: YAML text or path.
            overrides: `section.field=value` pairs that replace what the file says.

        Raises:
            ExperimentError: If the file is absent, is not YAML, or does not describe an experiment.
        """
        origin = str(source) if isinstance(source, Path) else "experiment"
        try:
            text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
            content = parse_yaml(text)
            for override in overrides:
                content = _replaced(content, override)
            return validated(cls, content)
        except OSError as error:
            raise ExperimentError(f"cannot read {origin}: {error.strerror or error}") from error
        except ValueError as error:
            raise ExperimentError(f"{origin}: {error}") from error

    def resolved(self) -> dict[str, Any]:
        """The experiment as plain data, every hyper-parameter named with its value."""
        content = self.model_dump(mode="json")
        hyperparameters = {**default_hyperparameters(self.model.name), **self.model.hyperparameters}
        bottom = checked_bottom(self.model.name, self.model.bottom) if self.model.bottom else {}
        for options in (hyperparameters, *bottom.values()):
            if options.get("max_neighbors", 0) is None:
                options["max_neighbors"] = max(self.graph.fan_out)
        content["model"]["hyperparameters"] = _plain(hyperparameters)
        content["model"]["bottom"] = _plain(bottom)
        return content

    def to_yaml(self) -> str:
        """The resolved experiment as YAML."""
        return yaml.safe_dump(self.resolved(), sort_keys=False)

    @property
    def uses_graph(self) -> bool:
        """Whether the model needs a graph."""
        return MODELS[self.model.name].needs_graph or "mgnn" in self.model.bottom

    @property
    def uses_macro_graph(self) -> bool:
        """Whether the model needs a macro graph."""
        return MODELS[self.model.name].needs_macro_graph or "macro" in self.model.bottom

    @property
    def graph_options(self) -> dict[str, Any]:
        """Options of the model's graph network, every one named."""
        model = self.resolved()["model"]
        return model["bottom"].get("mgnn", model["hyperparameters"])


def _replaced(content: Any, override: str) -> Any:
    path, equals, value = override.partition("=")
    if not equals:
        raise ValueError(f"expected an override section.field=value; received {override!r}")
    return with_value(content, path.split("."), parse_yaml(value), f"override {override!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
