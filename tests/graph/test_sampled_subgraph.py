import numpy as np

from tfmtl.graph import NeighborSampler, SampledSubgraph


def test_flat_round_trip(bundle):
    channels = ("interaction", "item_similarity")
    sampler = NeighborSampler(bundle, fan_outs=(3, 2), channels=channels)
    graph = sampler.sample(np.array([4, 9]), np.array([5, 1]), seed=3)
    assert graph.edge_sets == ("item_user", "user_item", "item_item")
    again = SampledSubgraph.from_flat(graph.flat(), graph.edge_sets)
    for part in (
        "ids",
        "hops",
        "readout",
        "sources",
        "targets",
        "features",
        "spans",
        "within",
    ):
        first, second = getattr(graph, part), getattr(again, part)
        assert list(first) == list(second)
        for name in first:
            assert first[name] is second[name]
