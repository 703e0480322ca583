"""Experiments on a simulated log, small enough to train in seconds."""

from tfmtl.training import Experiment

DATASET = """
dataset:
  name: simulator
  options: {num_users: 30, num_items: 20, num_rows: 700, like_rate: 0.5, purchase_rate: 0.5}
statistics: {entities: [user_id, category]}
graph: {fan_out: [3], similarity: {min_degree: 2, min_common: 1}}
macro: {user_nodes: 4, item_nodes: 3, recent: 5, folds: 3}
training: {batch_size: 128, epochs: 3, learning_rate: 0.01, monitor: auc, patience: 5}
"""
HYPERPARAMETERS = {
    "shared_bottom": "{embedding_dim: 4, dropout: 0.2, bottom_units: [4], tower_units: []}",
    "mmoe": "{embedding_dim: 4, dropout: 0.2, num_experts: 2, expert_units: [4], tower_units: []}",
    "mogenet": (
        "{embedding_dim: 4, dropout: 0.2, dim: 4, num_layers: 1, expert_units: [4], gate_units: []}"
    ),
    "mgoe": "{embedding_dim: 4, dropout: 0.2, dim: 4, fusion_units: 8, tower_units: 4}",
}


def text(model="shared_bottom"):
    """YAML of the experiment."""
    return f"{DATASET}model: {{name: {model}, hyperparameters: {HYPERPARAMETERS[model]}}}\n"


def experiment(model="shared_bottom", *overrides):
    """The experiment, with `section.field=value` overrides."""
    return Experiment.from_yaml(text(model), overrides)
