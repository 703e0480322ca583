"""A trained GRec that answers one task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfmtl.layers.chosen_experts import ChosenExperts

if TYPE_CHECKING:
    from tfmtl.models.grec import GRec


class GRecForTask(tf.Module):
    """GRec's trunk, the k experts of one task, and the head; `GRec.for_task` makes it.

    Router, table of sentences and the other experts are not evaluated and not exported. Trunk and
    head are the model's own; sentence and experts are copies, so that a model that is trained
    further is to be asked again.

    Args:
        model: The model.
        task: Name of the task.
        sentence: Its sentence, `float [1, D]`.
        experts: Its experts.

    Example:
        >>> from tfmtl.data import InputSpec
        >>> from tfmtl.models import GRec
        >>> from tfmtl.schema import Task
        >>> item = InputSpec("item_id", "categorical", "item", 9, 1, "item_id")
        >>> model = GRec([Task(name="click"), Task(name="like")], [item], dim=8)
        >>> model.build_weights()
        >>> model.for_task("like").probabilities({"item_id": tf.constant([1, 2])})["like"].shape
        TensorShape([2])
    """

    def __init__(self, model: GRec, task: str, sentence: tf.Tensor, experts: ChosenExperts):
        super().__init__(name="grec_for_task")
        self._model = model
        self._sentence = tf.Variable(sentence, trainable=False)
        self._experts = experts
        self.task_names = (task,)
        self.uses_graph = model.uses_graph

    def probabilities(self, features: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Probabilities `float32 [B]` of the task, under its name."""
        (task,) = self.task_names
        logits = self._model.task_logits(features, task, self._sentence, self._experts)
        return {task: tf.sigmoid(logits)}
