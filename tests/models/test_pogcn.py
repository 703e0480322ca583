import numpy as np
import pytest

from tests.models.conftest import as_tensors, randomize
from tests.models.test_light_gcn import (
    assert_logits_are_scaled_products,
    averaged,
    identities,
    interactions,
    normalized,
)
from tfmtl.layers import Edges
from tfmtl.schema import Task

# The bits of an edge are numbered as the tasks are listed: the first is the stronger here.
REVERSED = (Task(name="click", order=1), Task(name="click_x"))
CHAIN = (Task(name="click"), Task(name="click_x", order=1))
TIED = (Task(name="click"), Task(name="click_x"))
RANKS = {
    # Bits 0, 1, 2, 3.
    CHAIN: (0, 1, 2, 3),
    REVERSED: (0, 2, 1, 3),
    TIED: (0, 1, 1, 2),
}


@pytest.mark.parametrize("tasks", [CHAIN, REVERSED, TIED], ids=["chain", "reversed", "tied"])
@pytest.mark.parametrize("level", [0.5, 1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_golden(build, log, bundle, edge_sets, tasks, level, layers):
    model = build("pogcn", tasks=tasks, level=level, num_layers=layers)
    randomize(model)
    logits = model(model.compute_node_states(edge_sets)(as_tensors(log.features)))
    weights = interactions(bundle, lambda bits: RANKS[tasks][bits] ** level)
    users, items = averaged(normalized(weights), *identities(model), layers)
    assert_logits_are_scaled_products(logits, model, users, items, log.features)


def test_level_defaults_to_the_rank_itself(build):
    propagation = build("pogcn", tasks=CHAIN).graph_bottom.propagation
    assert (propagation.behavior_ranks, propagation.level) == ([1, 2], 1)


def behaved(edge_sets):
    """The same edges, every one with a behaviour."""
    return {
        name: edges._replace(behavior=np.maximum(edges.behavior, 1))
        for name, edges in edge_sets.items()
        if edges.behavior is not None
    }


@pytest.mark.parametrize("layers", [1, 2])
def test_level_0_is_light_gcn(build, log, edge_sets, layers):
    ranked, plain = (
        build(name, num_layers=layers, **options)
        for name, options in (("pogcn", {"level": 0}), ("light_gcn", {}))
    )
    randomize(ranked)
    plain.set_weights(ranked.get_weights())
    features, edges = as_tensors(log.features), behaved(edge_sets)
    received = ranked(ranked.compute_node_states(edges)(features))
    expected = plain(plain.compute_node_states(edges)(features))
    for task in ranked.task_names:
        np.testing.assert_allclose(received[task], expected[task], rtol=1e-4, atol=1e-5)


def test_one_task_is_light_gcn_at_any_level(build, log, edge_sets):
    """All edges of one behaviour are of one rank, 1."""
    tasks = [Task(name="click")]
    ranked, plain = build("pogcn", tasks=tasks, level=3), build("light_gcn", tasks=tasks)
    randomize(ranked)
    plain.set_weights(ranked.get_weights())
    features = as_tensors(log.features)
    edges = {
        name: Edges(part.source, part.target, behavior=np.ones_like(part.behavior))
        for name, part in behaved(edge_sets).items()
    }
    received = ranked(ranked.compute_node_states(edges)(features))["click"]
    expected = plain(plain.compute_node_states(edges)(features))["click"]
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_refuses_a_negative_level(build):
    with pytest.raises(ValueError, match=r"expected a level of at least 0, .*; received -1"):
        build("pogcn", level=-1)
