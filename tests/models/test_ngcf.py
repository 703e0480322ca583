import numpy as np
import pytest

from tests.models.conftest import INPUTS, TASKS, as_tensors, leaky
from tests.models.test_light_gcn import (
    assert_logits_are_scaled_products,
    identities,
    interactions,
    normalized,
)
from tfmtl.models import NGCF


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_golden(build, log, bundle, edge_sets, layers):
    model = build("ngcf", num_layers=layers)
    logits = model(model.compute_node_states(edge_sets)(as_tensors(log.features)))
    matrix = normalized(interactions(bundle, lambda bits: 1))
    users, items = identities(model)
    all_users, all_items = [users], [items]
    kernels = [
        weight.numpy() for weight in model.trainable_weights if "bi_interaction" in weight.name
    ]
    for first, second in zip(kernels[::2], kernels[1::2], strict=True):
        # Equation 7: (L + I) E W_1 + L E * E W_2.
        to_users, to_items = matrix @ items, matrix.T @ users
        users, items = (
            leaky((to_users + users) @ first + (to_users * users) @ second),
            leaky((to_items + items) @ first + (to_items * items) @ second),
        )
        all_users.append(users)
        all_items.append(items)
    assert len(all_users) == 1 + layers
    users, items = np.concatenate(all_users, axis=1), np.concatenate(all_items, axis=1)
    assert_logits_are_scaled_products(logits, model, users, items, log.features)


def test_number_of_weights(build):
    # Table 22 * 8 (padding, users, items); two matrices a hop; a scale and a bias per task.
    weights = build("ngcf", num_layers=3).trainable_weights
    assert sum(weight.shape.num_elements() for weight in weights) == (
        22 * 8 + 3 * 2 * 8 * 8 + 2 * 2
    )


def test_matrices_differ_at_the_start(build):
    model = build("ngcf", num_layers=2)
    kernels = [weight for weight in model.trainable_weights if "bi_interaction" in weight.name]
    flat = [kernel.numpy().ravel() for kernel in kernels]
    assert len(flat) == 4
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.6
    assert len({kernel.name for kernel in kernels}) == 4


def test_without_matrices_only_ids_are_left(build, log, edge_sets):
    """W = 0 makes the states of all hops but h^0 zero: matrix factorisation."""
    model = build("ngcf", num_layers=2)
    for weight in model.trainable_weights:
        if "bi_interaction" in weight.name:
            weight.assign(0 * weight)
    logits = model(model.compute_node_states(edge_sets)(as_tensors(log.features)))
    assert_logits_are_scaled_products(logits, model, *identities(model), log.features)


def test_states_have_all_hops(node_features):
    model = NGCF(TASKS, INPUTS, node_features=node_features)
    assert (model.graph_bottom.state_dim, model.graph_bottom.num_layers) == (3 * 64, 2)
