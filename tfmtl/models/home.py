"""HoME: a hierarchy of gated experts over categories of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.layers.expert_groups import Normalization
from tfmtl.layers.expert_level import ExpertLevel
from tfmtl.layers.tower import Tower
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.models.routing_options import ExpertUse, routing_options
from tfmtl.schema import Task


class HoME(MultiTaskModel):
    """Hierarchy of multi-gate experts.

        f(v) = SiLU(BN(MLP(v * 2 sigmoid(v B A))))           (an expert behind its feature gate)
        meta level, all on x:
            z_c = g_c^T [f_global || f_c] + s_c^T f_c        (one per category c of tasks)
            z_global = g^T [f_1 || ... || f_C || f_global] + s^T f_global
        task level, global experts on z_global, those of c and of its tasks on z_c:
            h^k = g^k(z_c)^T [f_global || f_c || f^k] + s^k(z_c)^T f^k,  c the category of k
        o^k = tower^k(h^k)

    Gates g are softmaxes over the experts that they see, self-gates s pass on a group's own
    experts. Normalised experts of one scale keep a gate from settling on the loudest of them;
    what only some tasks see cannot be taken over by the others.

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        embedding_dim: Width of feature embeddings.
        categories: Category of each task, by its name, such as `{"click": "interaction",
            "long_view": "watching"}`; None puts all tasks in one.
        num_experts: Number of experts of a group: global, of a category, of a task.
        expert_units: Widths of an expert.
        gate_units: Hidden widths of a gate; empty gives a linear gate.
        feature_gate_rank: Rank of the feature gates' product B A.
        normalization: `batch` as the paper; `layer` scales each row by itself, for batches that
            are small or of mixed origin.
        experts: `dense` evaluates all experts on every row; `routed` lets each gate choose `k` of
            them for a row, and evaluates no others but, for its self-gate, those of
            its own group; it needs `normalization="layer"`.
        k: Experts that a gate chooses for a row, all where it sees fewer; for routed experts.
        balance_weight: Weight of the load balance loss of each gate, see `Gate`; for routed ones.
        z_weight: Weight of the loss on the size of each gate's logits; for routed experts.
        tower_units: Hidden widths of a tower.
        dropout: Share of activations dropped in training.
        l2: Penalty on the squared dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        weighting: How task losses are weighed, by name or as a dict; see `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If the categories are of other tasks than the model's, there is no expert,
            `experts` is unknown, or they are routed with `k` out of range or batch normalisation.

    References:
        Wang et al., HoME: Hierarchy of Multi-Gate Experts for Multi-Task Learning at Kuaishou
        (KDD 2025).

    Deviations:
        A feature gate is one low-rank product per expert, not a mixture of several. The hidden
        layers of an expert are SiLU without normalisation. Task gates and private experts read z_c
        alone, which has its share of the global experts. `layer` and routed experts are additions.

    Example:
        >>> import tensorflow as tf
        >>> age = InputSpec("age", "categorical", side="context", vocabulary_size=8, width=1)
        >>> tasks = [Task(name="click"), Task(name="like"), Task(name="long_view")]
        >>> categories = {"click": "interaction", "like": "interaction", "long_view": "watching"}
        >>> model = HoME(tasks, [age], categories=categories)
        >>> model.categories, model({"age": tf.constant([1, 2])})["like"].shape
        (('interaction', 'watching'), TensorShape([2]))
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        embedding_dim: int = 16,
        categories: Mapping[str, str] | None = None,
        num_experts: int = 2,
        expert_units: Sequence[int] = (64, 32),
        gate_units: Sequence[int] = (),
        feature_gate_rank: int = 8,
        normalization: Normalization = "batch",
        experts: ExpertUse = "dense",
        k: int = 2,
        balance_weight: float = 1e-2,
        z_weight: float = 1e-3,
        tower_units: Sequence[int] = (32,),
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
        if categories is None:
            categories = dict.fromkeys(self.task_names, "all")
        if set(categories) != set(self.task_names):
            raise ValueError(
                f"expected a category for each of the tasks {list(self.task_names)}; received "
                f"{dict(categories)}: name every task, or leave categories out"
            )
        if normalization not in ("batch", "layer"):
            raise ValueError(
                f"expected normalization 'batch' or 'layer'; received {normalization!r}"
            )
        self.categories = tuple(dict.fromkeys(categories[name] for name in self.task_names))
        self._category_of = [self.categories.index(categories[name]) for name in self.task_names]
        # Groups of experts: 0 is global, then come the categories, then the tasks.
        num_shared = 1 + len(self.categories)
        routing = routing_options(
            experts,
            k=k,
            balance_weight=balance_weight,
            z_weight=z_weight,
            num_experts=num_experts * max(num_shared, 3),
        )
        options: dict[str, Any] = {
            **routing,
            "gate_units": gate_units,
            "rank": feature_gate_rank,
            "normalization": normalization,
            "dropout": dropout,
            "l2": l2,
        }
        self.meta_level = ExpertLevel(
            [[*range(1, num_shared), 0], *([0, group] for group in range(1, num_shared))],
            num_experts,
            expert_units,
            name="meta_level",
            **options,
        )
        self.task_level = ExpertLevel(
            [
                [0, 1 + category, num_shared + task]
                for task, category in enumerate(self._category_of)
            ],
            num_experts,
            expert_units,
            name="task_level",
            **options,
        )
        self.towers = {
            name: Tower(tower_units, dropout=dropout, l2=l2, name=f"{name}_tower")
            for name in self.task_names
        }

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        meta = tf.unstack(self.meta_level(self.row_input(features), training=training), axis=1)
        groups = [*meta, *(meta[1 + category] for category in self._category_of)]
        hidden = tf.unstack(self.task_level(tf.stack(groups, axis=1), training=training), axis=1)
        return {
            name: self.towers[name](task, training=training)
            for name, task in zip(self.task_names, hidden, strict=True)
        }
