"""MoGENet: graph-enhanced experts behind the gates of MMoE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfmtl.data.input_spec import InputSpec
from tfmtl.graph.topology import CHANNELS
from tfmtl.layers.attention_convolution import Attention
from tfmtl.layers.depth_gate import Depth
from tfmtl.layers.experts import Experts
from tfmtl.layers.gate import Gate
from tfmtl.layers.mix_experts import mix_experts
from tfmtl.layers.pairwise_interaction import Kappa, PairwiseInteraction
from tfmtl.layers.tower import Tower
from tfmtl.models.multi_task_model import MultiTaskModel, Weighting
from tfmtl.models.routing_options import ExpertUse, routing_options
from tfmtl.objectives.cooperative_loss import Cooperation, cooperative_loss
from tfmtl.schema import Task


class MoGENet(MultiTaskModel):
    """Mixture of graph-enhanced expert networks.

        p_u = W_p x_u,  q_i = W_q x_i                        (initial states of all channels)
        h = MGNN(p, q) over G, G^U, G^I                      (equations 1, 2)
        Z = { kappa(h_u^a, h_i^b) }                          (equation 3)
        o^k = v_k^T sum_n g^k(x)_n [ f^n(x) || Z^n ]         (equation 4)
        L = L_main + beta L_co + lambda |Theta|^2            (equations 5 to 8)

    A batch brings the graph states of its rows in one of two ways: `features["graph"]`, a sampled
    `GraphTensor` (training), or `features["states"]`, looked up in `NodeStates` that
    `compute_node_states` made from the whole graph (evaluation and serving).

    Args:
        tasks: The schema's tasks.
        inputs: What the encoder emits.
        node_features: Encoded features of all nodes, `{"user": {name: [N_users, ...]}, "item":
            ...}`, as `FeatureEncoder.node_features` returns them.
        embedding_dim: Width of feature embeddings.
        dim: Width d of the graph states.
        channels: Channels of the MGNN.
        num_layers: Hops L.
        attention: `dot` or `additive`.
        depth: `lstm` or `geniepath`.
        edge_behaviors: Whether attention sees which behaviours an interaction edge stands for.
        use_edge_weight: Whether attention sees the similarity of G^U and G^I.
        max_neighbors: Most neighbours that a node of a sampled graph has, see
            `AttentionConvolution`; None takes any number. An experiment fills in its largest
            fan-out.
        kappa: `product`, `concat`, `add` or `mlp`.
        num_experts: Experts, the first of the pairs of a user channel (varying slowest) and an item
            channel; all pairs when not given. Figure 2 adds them one by one.
        normalize_states: Whether states have a root mean square of 1 before kappa.
        expert_units: Widths of an expert f^n.
        gate_units: Hidden widths of a gate.
        experts: `dense` evaluates all experts on every row; `routed` lets each gate choose `k` of
            them for a row, and evaluates no others.
        k: Experts that a gate chooses for a row, all where it sees fewer; for routed experts.
        balance_weight: Weight of the load balance loss of each gate, see `Gate`; for routed ones.
        z_weight: Weight of the loss on the size of each gate's logits; for routed experts.
        tower_units: Hidden widths between the mixture and v_k; none in the paper.
        share_output_vector: One v for all tasks, as equation 4 prints it.
        dropout: Share of activations dropped in training.
        l2: lambda, on dense kernels.
        l2_embedding: Penalty on the batch's embeddings.
        cooperative_weight: beta.
        cooperative_level: `row` or `batch`, see `cooperative_loss`.
        weighting: `uncertainty` (equation 6), `static` (equation 5), or another; see
            `build_weighting`.
        **kwargs: Passed to `keras.Model`.

    Raises:
        ValueError: If a side has no channel or no inputs, `num_experts` or, of routed experts, `k`
            is out of range, `experts` is unknown, or a batch has neither graph nor states.

    References:
        Hu et al., Mixture of Graph Enhanced Expert Networks for Multi-task Recommendation.

    Deviations:
        One v_k per task by default: a shared v lets tasks differ through their gates only. Gates
        have hidden layers [16, 16], as the implementation section says. Losses are batch means,
        s_k is bounded, and lambda spares embeddings and s. `edge_behaviors`, `use_edge_weight`,
        `normalize_states`, `tower_units` and routed experts are additions; the cooperation of
        routed experts reads the distributions that their gates choose by.

    Example:
        >>> import numpy as np, tensorflow as tf
        >>> inputs = [InputSpec("user_id", "categorical", "user", 3, 1),
        ...           InputSpec("item_id", "categorical", "item", 4, 1)]
        >>> nodes = {"user": {"user_id": np.arange(3)}, "item": {"item_id": np.arange(4)}}
        >>> model = MoGENet([Task(name="click")], inputs, node_features=nodes, dim=8)
        >>> from tfmtl.layers import Edges
        >>> none = Edges(*(np.zeros(0, np.int32) for _ in "st"))
        >>> states = model.compute_node_states(
        ...     {name: none for name in ("item_user", "user_item", "user_user", "item_item")})
        >>> row = {"user_id": tf.constant([1]), "item_id": tf.constant([2])}
        >>> model(states(row))["click"].shape
        TensorShape([1])
    """

    needs_graph = True

    def __init__(
        self,
        tasks: Sequence[Task],
        inputs: Sequence[InputSpec],
        *,
        node_features: Mapping[str, Mapping[str, np.ndarray]],
        embedding_dim: int = 16,
        dim: int = 64,
        channels: Sequence[str] = tuple(CHANNELS),
        num_layers: int = 2,
        attention: Attention = "dot",
        depth: Depth = "lstm",
        edge_behaviors: bool = False,
        use_edge_weight: bool = False,
        max_neighbors: int | None = None,
        kappa: Kappa = "product",
        num_experts: int | None = None,
        normalize_states: bool = False,
        expert_units: Sequence[int] = (32, 32),
        gate_units: Sequence[int] = (16, 16),
        experts: ExpertUse = "dense",
        k: int = 2,
        balance_weight: float = 1e-2,
        z_weight: float = 1e-3,
        tower_units: Sequence[int] = (),
        share_output_vector: bool = False,
        dropout: float = 0.0,
        l2: float = 1e-3,
        l2_embedding: float = 0.0,
        cooperative_weight: float = 1e-6,
        cooperative_level: Cooperation = "row",
        weighting: Weighting = "uncertainty",
        **kwargs: Any,
    ):
        super().__init__(
            tasks,
            inputs,
            embedding_dim=embedding_dim,
            l2_embedding=l2_embedding,
            weighting=weighting,
            bottom={
                "mgnn": {
                    "dim": dim,
                    "channels": channels,
                    "num_layers": num_layers,
                    "attention": attention,
                    "depth": depth,
                    "edge_behaviors": edge_behaviors,
                    "use_edge_weight": use_edge_weight,
                    "max_neighbors": max_neighbors,
                    "l2": l2,
                }
            },
            node_features=node_features,
            **kwargs,
        )
        assert self.graph_bottom is not None
        self.user_states = self.graph_bottom.outputs_of("user")
        self.item_states = self.graph_bottom.outputs_of("item")
        if not (self.user_states and self.item_states):
            raise ValueError(
                "expected channels that reach both users and items; "
                f"received {list(channels)}: add 'interaction'"
            )
        self.cooperative_weight = float(cooperative_weight)
        self.cooperative_level: Cooperation = cooperative_level
        pairs = len(self.user_states) * len(self.item_states)
        self.num_experts = pairs if num_experts is None else int(num_experts)
        if not 1 <= self.num_experts <= pairs:
            raise ValueError(
                f"expected num_experts from 1 to {pairs}, the pairs of user and item channels; "
                f"received {num_experts}: add channels or leave it out"
            )
        self.interaction = PairwiseInteraction(
            kappa=kappa, normalize=normalize_states, l2=l2, name="interaction"
        )
        routing = routing_options(
            experts,
            k=k,
            balance_weight=balance_weight,
            z_weight=z_weight,
            num_experts=self.num_experts,
        )
        self.experts = Experts(
            self.num_experts, expert_units, dropout=dropout, l2=l2, name="experts"
        )
        self.gates = {
            name: Gate(self.num_experts, units=gate_units, l2=l2, name=f"{name}_gate", **routing)
            for name in self.task_names
        }
        shared = Tower(tower_units, dropout=dropout, l2=l2, name="tower")
        self.towers = {
            name: shared
            if share_output_vector
            else Tower(tower_units, dropout=dropout, l2=l2, name=f"{name}_tower")
            for name in self.task_names
        }

    def call(
        self, features: Mapping[str, Any], training: bool | None = None
    ) -> dict[str, tf.Tensor]:
        """Logits `float32 [B]` per task."""
        assert self.graph_bottom is not None
        states = self.graph_bottom(features)
        row = self.feature_input(features)
        context = self.interaction(
            [states[key] for key in self.user_states], [states[key] for key in self.item_states]
        )
        context = tf.cast(context[:, : self.num_experts], row.dtype)
        gates = [self.gates[name] for name in self.task_names]
        mixtures = list(
            mix_experts(self, self.experts, row, gates, context=context, training=training)
        )
        if self.cooperative_weight:
            weights = [weights for weights, _ in mixtures]
            self.add_loss(
                self.cooperative_weight * cooperative_loss(weights, level=self.cooperative_level)
            )
        return {
            name: self.towers[name](mixed, training=training)
            for name, (_, mixed) in zip(self.task_names, mixtures, strict=True)
        }
