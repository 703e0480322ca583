import numpy as np
import pytest

from tfmtl.graph import CSR, GraphBundle, NeighborSampler
from tfmtl.graph.size_bound import size_bound


def star_bundle():
    """Users 1 to 50, each linked with 3 items of its own."""
    users = np.repeat(np.arange(1, 51), 3)
    item_user = CSR.from_edges(
        users, np.arange(1, 151), 51, 151, {"behavior": np.ones(150, np.uint8)}
    )
    return GraphBundle({"item_user": item_user, "user_item": item_user.transpose()}, 51, 151)


def test_counts_what_fan_outs_and_degrees_allow():
    sampler = NeighborSampler(star_bundle(), fan_outs=(2, 10), channels=("interaction",))
    # 4 users draw 2 items each and 4 items 1 user each; the 8 items then draw 1 user each and the
    # 4 users 3 items each, their highest degree. One node of each set is to spare.
    assert size_bound(sampler, 4) == {
        "user": 4 + 4 + 8 + 1,
        "item": 4 + 8 + 12 + 1,
        "item_user/0": 4,
        "item_user/1": 4 + 4,
        "user_item/0": 4,
        "user_item/1": 4 + 8,
        "item_user": 8 + 12,
        "user_item": 4 + 8,
    }


def test_never_exceeds_the_graph():
    sampler = NeighborSampler(star_bundle(), fan_outs=(10,) * 5, channels=("interaction",))
    sizes = {"item_user": 51, "user_item": 151}
    prefixes = {f"{name}/{hop}": size for hop in range(5) for name, size in sizes.items()}
    assert size_bound(sampler, 1000) == {
        "user": 52,
        "item": 152,
        **prefixes,
        "item_user": 150,
        "user_item": 150,
    }


@pytest.mark.parametrize("time_limit", [False, True])
@pytest.mark.parametrize("fan_outs", [(1,), (3, 2), (1000, 1000), (4, 3, 2)])
def test_no_sample_exceeds_the_bound(bundle, fan_outs, time_limit):
    if time_limit:
        rng = np.random.default_rng(0)
        edge_sets = dict(bundle.edge_sets)
        for name in ("item_user", "user_item"):
            store = edge_sets[name]
            rows = np.repeat(np.arange(store.num_rows), store.degrees)
            data = store.data | {"time": rng.integers(0, 9, rows.size)}
            edge_sets[name] = CSR.from_edges(
                rows, store.indices, store.num_rows, store.num_columns, data, order="time"
            )
        bundle = GraphBundle(edge_sets, bundle.num_users, bundle.num_items)
    sampler = NeighborSampler(bundle, fan_outs=fan_outs, time_limit=time_limit)
    rng = np.random.default_rng(1)
    for batch_size in (1, 5, 60):
        bound = size_bound(sampler, batch_size)
        for seed in range(10):
            times = rng.integers(0, 9, batch_size) if time_limit else None
            users, items = rng.integers(0, [[40], [30]], (2, batch_size))
            graph = sampler.sample(users, items, seed, times)
            for side in ("user", "item"):
                assert graph.ids[side].size < bound[side]
            for name, sources in graph.sources.items():
                assert sources.size <= bound[name]
                for hop, size in enumerate(graph.within[name][:-1]):
                    assert size <= bound[f"{name}/{hop}"]
