"""Refuses tables that do not fit into memory before a run makes them."""

from __future__ import annotations

from tfmtl.data.feature_encoder import FeatureEncoder
from tfmtl.models.table_sizes import check_memory, table_sizes
from tfmtl.training.experiment import Experiment

# Numbers that Keras' optimisers keep per weight; those that are not named here keep two.
_SLOTS = {"sgd": 0, "adagrad": 1, "lion": 1}


def check_table_memory(
    experiment: Experiment, encoder: FeatureEncoder, available: int | None = None
) -> None:
    """Checks the embedding tables of an experiment's features, slots of the optimiser included.

    Tables under `parameter_server` lie in the memory of other processes, and are not checked.

    Args:
        experiment: What is to be trained.
        encoder: Its fitted encoder, which knows the vocabularies.
        available: Bytes that are available; those of this process when not given.

    Raises:
        MemoryError: If the tables take more, naming the largest vocabularies and remedies.

    Example:
        >>> from tfmtl.training import prepare_data
        >>> experiment = Experiment.from_yaml(
        ...     "{dataset: {name: simulator, options: {num_users: 20, num_items: 10, "
        ...     "num_rows: 400}}, model: {name: mmoe}}")
        >>> encoder = prepare_data(experiment).encoder
        >>> check_table_memory(experiment, encoder)
        >>> check_table_memory(experiment, encoder, available=1000)
        Traceback (most recent call last):
        ...
        MemoryError: embedding tables and their optimiser slots take ...
    """
    if experiment.training.strategy == "parameter_server":
        return
    options = experiment.resolved()["model"]["hyperparameters"]
    tasks = len(encoder.schema.tasks)
    tables = {"single_task": tasks, "stem": tasks + 1}
    optimizer = experiment.training.optimizer.lower()
    inputs = [spec for spec in encoder.inputs if spec.name not in experiment.model.exclude_inputs]
    sizes = table_sizes(
        inputs,
        embedding_dim=options.get("embedding_dim", 1),
        slots=_SLOTS.get(optimizer, 2),
        tables=tables.get(experiment.model.name, 1),
        # Keras' slots take the room of what the table was made from.
        drawing=2 if optimizer == "lazy_adam" else 0,
    )
    check_memory(sizes, available)
