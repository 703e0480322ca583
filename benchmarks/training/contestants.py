"""The same MMoE three times: this package's, one written by hand in Keras, and DeepCTR's.

13 numeric and 26 categorical features, two tasks, 8 experts of [256, 128], a linear gate and a
tower of [64] for each task, embeddings of 16, Adam.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from tfmtl.data import InputSpec
from tfmtl.models import MMoE
from tfmtl.schema import Task
from tfmtl.training import LazyAdam

NUMERIC = tuple(f"n{number}" for number in range(13))
CATEGORICAL = tuple(f"c{number}" for number in range(26))
TASKS = ("click", "buy")
DIM, EXPERTS, EXPERT_UNITS, TOWER_UNITS = 16, 8, (256, 128), (64,)
Batch = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def batches(
    count: int,
    rows: int,
    ids: int,
    *,
    categorical: Sequence[str] = CATEGORICAL,
    tasks: Sequence[str] = TASKS,
    seed: int = 0,
) -> list[Batch]:
    """Random features and labels; ids are drawn alike, the hardest case for a table."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        features: dict[str, np.ndarray] = {
            name: random.standard_normal(rows, dtype=np.float32) for name in NUMERIC
        }
        features |= {name: random.integers(ids, size=rows, dtype=np.int32) for name in categorical}
        labels = {name: random.integers(2, size=rows).astype(np.float32) for name in tasks}
        made.append((features, labels))
    return made


def dataset(examples: Sequence[tuple[Any, ...]]) -> tf.data.Dataset:
    """Batches that lie ready in memory, so that the step alone is timed."""
    stacked = tf.nest.map_structure(lambda *parts: np.stack(parts), *examples)
    return tf.data.Dataset.from_tensor_slices(stacked).prefetch(2)


def package(
    ids: int,
    *,
    categorical: Sequence[str] = CATEGORICAL,
    tasks: Sequence[str] = TASKS,
    weighting: str = "static",
) -> keras.Model:
    """`tfmtl.models.MMoE`, as `tfmtl train` compiles it."""
    specs = [
        *(InputSpec(name, "numeric", "context", 0, 1) for name in NUMERIC),
        *(InputSpec(name, "categorical", "context", ids, 1) for name in categorical),
    ]
    model = MMoE(
        [Task(name=name) for name in tasks],
        specs,
        embedding_dim=DIM,
        num_experts=EXPERTS,
        expert_units=EXPERT_UNITS,
        tower_units=TOWER_UNITS,
        weighting=weighting,
    )
    model.compile(optimizer=LazyAdam())
    model.build_weights()
    return model


def package_batches(examples: Sequence[Batch]) -> list[tuple[Any, ...]]:
    """Batches with the weights of rows that the package's models expect."""
    return [
        (features, labels, {name: np.ones_like(own) for name, own in labels.items()})
        for features, labels in examples
    ]


def hand_written(ids: int) -> keras.Model:
    """A functional Keras model with a loop over experts and an `Embedding` per feature."""
    layers = keras.layers
    inputs = {name: keras.Input([], name=name) for name in NUMERIC}
    parts = [tf.expand_dims(column, 1) for column in inputs.values()]
    for name in CATEGORICAL:
        inputs[name] = keras.Input([], name=name, dtype="int32")
        parts.append(layers.Embedding(ids, DIM)(inputs[name]))
    row = layers.Concatenate()(parts)
    experts = []
    for _ in range(EXPERTS):
        hidden = row
        for width in EXPERT_UNITS:
            hidden = layers.Dense(width, activation="relu")(hidden)
        experts.append(hidden)
    stacked = tf.stack(experts, axis=1)
    outputs = {}
    for task in TASKS:
        gate = layers.Dense(EXPERTS, activation="softmax")(row)
        hidden = tf.einsum("be,beh->bh", gate, stacked)
        for width in TOWER_UNITS:
            hidden = layers.Dense(width, activation="relu")(hidden)
        outputs[task] = layers.Dense(1, activation="sigmoid", name=task)(hidden)[:, 0]
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(),
        loss={task: keras.losses.BinaryCrossentropy() for task in TASKS},
    )
    return model


def deep_ctr(ids: int) -> keras.Model:
    """DeepCTR's `MMOE`.

    Raises:
        ImportError: If DeepCTR is not installed.
    """
    try:
        from deepctr.feature_column import DenseFeat, SparseFeat
        from deepctr.models import MMOE
    except ImportError as error:
        raise ImportError(
            "DeepCTR is one of the contestants and is not installed: install it with `pip install "
            "--no-deps deepctr==0.9.4`, whose own requirements ask for older libraries"
        ) from error
    columns = [
        *(SparseFeat(name, vocabulary_size=ids, embedding_dim=DIM) for name in CATEGORICAL),
        *(DenseFeat(name, 1) for name in NUMERIC),
    ]
    model = MMOE(
        columns,
        num_experts=EXPERTS,
        expert_dnn_hidden_units=EXPERT_UNITS,
        gate_dnn_hidden_units=(),
        tower_dnn_hidden_units=TOWER_UNITS,
        l2_reg_embedding=0,
        task_types=["binary"] * len(TASKS),
        task_names=list(TASKS),
    )
    model.compile(
        optimizer=keras.optimizers.Adam(),
        loss={task: keras.losses.BinaryCrossentropy() for task in TASKS},
    )
    return model


def trained_weights(model: keras.Model) -> int:
    """Numbers that training moves."""
    return sum(weight.shape.num_elements() for weight in model.trainable_weights)


def column_batches(examples: Sequence[Batch]) -> list[tuple[Any, ...]]:
    """Batches whose features and labels have a second axis of one, which DeepCTR expects."""

    def columns(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: own[:, np.newaxis] for name, own in values.items()}

    return [(columns(features), columns(labels)) for features, labels in examples]
