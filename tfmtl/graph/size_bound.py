"""How large a sampled subgraph can become."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfmtl.graph.topology import CHANNELS, EDGE_SETS, NODE_SETS

if TYPE_CHECKING:
    from tfmtl.graph.neighbor_sampler import NeighborSampler


def size_bound(sampler: NeighborSampler, batch_size: int) -> dict[str, int]:
    """Sizes that no subgraph of a batch exceeds, with one node of each set to spare for padding.

    A receiver draws no more edges than the fan-out or the highest degree, and finds at most one
    node with each. A channel expands a node once, so without a time limit there are no more nodes
    than in the graph and no more edges than in its store.

    Args:
        sampler: The sampler.
        batch_size: Most rows of a batch.

    Returns:
        Sizes by name of node set and edge set, and as `"<edge set>/<hop>"` of the leading nodes
        that hold its receivers within each hop before the last.

    Example:
        >>> import numpy as np
        >>> from tfmtl.graph import CSR, GraphBundle, NeighborSampler
        >>> ring = CSR.from_edges(np.arange(1, 100), np.arange(1, 100) % 99 + 1, 100, 100,
        ...                       {"weight": np.ones(99, np.float32)})
        >>> bundle = GraphBundle({"user_user": ring}, 100, 100)
        >>> sampler = NeighborSampler(bundle, fan_outs=(5, 5), channels=("user_similarity",))
        >>> size_bound(sampler, batch_size=4)  # one neighbour in each of two hops
        {'user': 13, 'item': 5, 'user_user': 8, 'user_user/0': 4, 'user_user/1': 8}
    """
    total = {"user": sampler.bundle.num_users, "item": sampler.bundle.num_items}
    if sampler.time_limit:
        # The same id at each of the batch's limits.
        total = {name: size * batch_size for name, size in total.items()}
    seeds = {name: min(batch_size, total[name]) for name in NODE_SETS}
    found_at = [seeds] + [dict.fromkeys(NODE_SETS, 0) for _ in range(sampler.num_hops)]
    edges = {}
    for channel in sampler.channels:
        names = CHANNELS[channel]
        receivers = {EDGE_SETS[name][1]: seeds[EDGE_SETS[name][1]] for name in names}
        drawn = dict.fromkeys(names, 0)
        for hop in range(sampler.num_hops):
            found = {}
            for name in names:
                source, target, _ = EDGE_SETS[name]
                store = sampler.bundle.edge_sets[name]
                highest = int(store.degrees.max(initial=0))
                step = receivers[target] * min(sampler.fan_outs[name][hop], highest)
                drawn[name] += step
                found[source] = min(step, total[source])
                found_at[hop + 1][source] += step
            receivers = found
        for name in names:
            size = sampler.bundle.edge_sets[name].num_edges
            edges[name] = drawn[name] if sampler.time_limit else min(drawn[name], size)
    within = {
        (name, hop): min(sum(found[name] for found in found_at[: hop + 1]), total[name])
        for hop in range(sampler.num_hops + 1)
        for name in NODE_SETS
    }
    return (
        {name: within[name, sampler.num_hops] + 1 for name in NODE_SETS}
        | {name: edges[name] for name in sampler.edge_sets}
        | {
            f"{name}/{hop}": within[EDGE_SETS[name][1], hop]
            for name in sampler.edge_sets
            for hop in range(sampler.num_hops)
        }
    )
