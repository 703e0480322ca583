"""Training batches that a chief has made where its workers are."""

from __future__ import annotations

import tensorflow as tf

from tfmtl.data.pipeline import training_batches
from tfmtl.data.python_function import SharedFunctions
from tfmtl.training.experiment import Experiment
from tfmtl.training.graph_sampler import graph_sampler
from tfmtl.training.prepared_data import PreparedData


class SharedBatches:
    """The batch function of an experiment, whose graph runs in every process that has made it.

    A chief sends a step's graph to a worker, and the Python functions in it, which take rows and
    draw samples, are the worker's own, over its own copy of the data. So chief and workers make
    this from the same experiment and data, and keep it.

    Args:
        experiment: What is trained.
        data: Its data.

    Attributes:
        function: Maps an epoch and a step, `int64` scalars, to a batch.
        steps: Steps of an epoch.

    Example:
        >>> from tfmtl.training import prepare_data
        >>> experiment = Experiment.from_yaml(
        ...     "{dataset: {name: simulator, options: {num_users: 20, num_items: 10, "
        ...     "num_rows: 400}}, model: {name: mmoe}, training: {batch_size: 64}}")
        >>> batches = SharedBatches(experiment, prepare_data(experiment))
        >>> batches.steps
        5
    """

    def __init__(self, experiment: Experiment, data: PreparedData):
        sample = None
        if experiment.uses_graph:
            assert data.bundle is not None
            sample = graph_sampler(experiment, data.bundle, data.train)
        batches = training_batches(
            data.train,
            batch_size=min(experiment.training.batch_size, len(data.train)),
            seed=experiment.training.seed,
            sample=sample,
        )
        self.steps = batches.steps
        place = tf.TensorSpec([], tf.int64)
        # Traced once: a second graph would ask for functions that other processes do not have.
        with SharedFunctions("tfmtl/batch") as self._functions:
            self.function = tf.function(batches.batch).get_concrete_function(place, place)
