import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that

from tfmtl.graph import MacroConfig, interaction_stores, node_clusters
from tfmtl.graph.macro_groups import group_nodes
from tfmtl.pipelines.beam import AdjacencyBlock, MacroGrouping

NUM_USERS, NUM_ITEMS = 90, 50
SCORES = np.array([0, 1, 2.5, 3.5], np.float32)


@pytest.fixture(scope="module")
def stores():
    """Users like items of the same remainder by 3, more of some than of others."""
    rng = np.random.default_rng(5)
    users = rng.integers(1, NUM_USERS, 3000)
    items = np.minimum(rng.zipf(1.4, 3000), NUM_ITEMS - 1)
    items = np.where(rng.random(3000) < 0.8, items - (items - users) % 3, items)
    kept = items > 0
    bits = rng.integers(1, 4, 3000).astype(np.uint8)
    return interaction_stores(users[kept], items[kept], bits[kept], NUM_USERS, NUM_ITEMS)


def blocks_of(store, size):
    rows = np.repeat(np.arange(store.num_rows), store.degrees)
    pairs = rows * store.num_columns + store.indices
    bits = store.data["behavior"].astype(np.int32)
    return [
        AdjacencyBlock.from_pairs(pairs[chosen], bits[chosen], store.num_columns)
        for first in range(0, store.num_rows, size)
        if (chosen := (rows >= first) & (rows < first + size)).any()
    ]


def grouped(pipeline, stores, config, block_rows):
    edges = {
        name: pipeline | name >> beam.Create(blocks_of(store, 11))
        for name, store in zip(("item_user", "user_item"), stores, strict=True)
    }
    sizes = {"num_users": NUM_USERS, "num_items": NUM_ITEMS}
    return edges | MacroGrouping(config, SCORES, **sizes, block_rows=block_rows)


def test_groups_are_those_of_one_machine(monkeypatch, stores):
    # So few that centres are fitted to a sample of the nodes.
    monkeypatch.setattr(node_clusters, "_FEWEST_FITTED_ROWS", 12)
    monkeypatch.setattr(node_clusters, "_FITTED_ROWS_PER_CLUSTER", 4)
    config = MacroConfig(
        user_nodes=4,
        item_nodes=3,
        activity="value",
        user_threshold=30,
        item_threshold=12,
        weighting="ratio",
        sketch_dim=64,
        seed=2,
    )
    of_users, of_items = group_nodes(*stores, SCORES, config)
    assert len(np.unique(of_users.numbers)) > 3
    assert np.count_nonzero(of_users.weights > 0) > 16

    def equal_to(expected):
        def equal(received):
            (groups,) = received
            np.testing.assert_array_equal(groups.numbers, expected.numbers)
            np.testing.assert_array_equal(groups.weights, expected.weights)
            assert groups.numbers.dtype == np.int32
            assert groups.count == expected.count

        return equal

    with beam.Pipeline() as pipeline:
        groups = grouped(pipeline, stores, config, 16)
        assert_that(groups["user"], equal_to(of_users), label="users")
        assert_that(groups["item"], equal_to(of_items), label="items")


def test_too_few_active_nodes(stores):
    pipeline = beam.Pipeline()
    grouped(pipeline, stores, MacroConfig(user_nodes=4, item_nodes=60, sketch_dim=8), 32)
    with pytest.raises(
        ValueError, match=r"received \d+ active items for 60 macro nodes: lower the"
    ):
        pipeline.run()
