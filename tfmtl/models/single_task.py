"""Single task: one network per task, nothing shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.layers.feature_embedding import FeatureEmbedding
from tfmtl.layers.tower import Tower
from tfmtl.models.multi_task_model import SIDES, MultiTaskModel, Weighting
from tfmtl.schema import Task


class SingleTask(MultiTaskModel):
    """o^k = MLP^k(x^k), each task with embeddings of its own.

    The tasks are trained side by side in one `fit`; no weight is shared, so each result is that of
    a model trained on its task alone, unless a bound on the global gradient norm couples them, or
    a bottom, which the tasks share.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        units: Hidden widths of each task's network.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    References:
        The baseline "MLP" of MoGENet's Table 2.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> model = SingleTask([Task(name="click"), Task(name="like")], [age])
        >>> sorted(model({"age": tf.constant([1, 2])}))
        ['click', 'like']
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        units: Sequence[int] = (128, 64, 32),
        dropout: float = 0.0,
        l2: float = 0.0,
        l2_embedding: float = 0.0,
        weighting: Weighting = "static",
        **kwargs: Any,
    ):
        super().__init__(
            tasks,
            inputs,
            embedding_dim=embedding_dim,
            l2_embedding=l2_embedding,
            weighting=weighting,
            **kwargs,
        )
        # The first task uses the common embedding, so that no table is left untrained.
        self.embeddings = {
            name: self.embedding
            if name == self.task_names[0]
            else FeatureEmbedding(
                inputs, dim=embedding_dim, l2=l2_embedding, name=f"{name}_embedding"
            )
            for name in self.task_names
        }
        self.towers = {
            name: Tower(units, dropout=dropout, l2=l2, name=f"{name}_tower")
            for name in self.task_names
        }

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        logits = {}
        states = self.bottom_input(features)
        for name in self.task_names:
            embedding = self.embeddings[name]
            row = [embedding(features, side=side) for side in SIDES if embedding.width(side)]
            logits[name] = self.towers[name](tf.concat([*row, *states], axis=-1), training=training)
        return logits
