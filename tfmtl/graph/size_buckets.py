"""A few sizes for all subgraphs, for compilers that want static shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.graph.sampled_subgraph import SampledSubgraph
from tfmtl.graph.size_bound import size_bound
from tfmtl.graph.topology import EDGE_SETS, NODE_SETS
from tfmtl.schema import ITEM_ID, TIME, USER_ID

if TYPE_CHECKING:
    from tfmtl.graph.neighbor_sampler import NeighborSampler

_NUM_BATCHES = 32
_HEAD_ROOM = 1.05
_MULTIPLE = 64


@dataclass(frozen=True)
class SizeBuckets:
    """A ladder of joint sizes; a subgraph is padded to the lowest rung that holds it.

    A program compiled for static shapes (XLA, `jit_compile`) is compiled once per rung instead of
    once per batch: besides the sizes of all arrays, a rung fixes where the prefixes end that the
    layers of a network work on. (Attention must find edges by their spans, which it does with
    `max_neighbors`.)

    * **Nodes** are padded at the end with id 0 at a hop beyond the last. A rung holds a subgraph
      only with room for one padding node in each node set, which padding edges need.
    * **Prefixes** reach beyond the receivers of a hop, into later nodes or padding.
    * **Edges** are padded at the end. They join padding nodes, so targets stay ascending and no
      row's node is the target or source of one. Their behaviour is 0 and their weight 1. They are
      in no node's span.
    * **The readout** never refers to padding.

    Args:
        rungs: Sizes by name of node set and edge set, and by `"<edge set>/<hop>"` of the leading
            nodes that hold its receivers within each hop before the last; no rung smaller in
            anything than the one before it.

    Raises:
        ValueError: If there is no rung, their names differ, or they do not ascend.

    Example:
        >>> buckets = SizeBuckets(({"user": 4, "item": 4}, {"user": 8, "item": 16}))
        >>> one, zero = np.ones(5, np.int32), np.zeros(5, np.int32)
        >>> nodes, hops = {"user": one[:3], "item": one}, {"user": zero[:3], "item": zero}
        >>> rows = {"user": zero, "item": zero}
        >>> graph = SampledSubgraph(nodes, hops, rows, {}, {}, {}, {}, {})
        >>> padded = buckets.pad(graph, padding_hop=3)
        >>> padded.ids["user"].tolist(), padded.hops["user"].tolist(), padded.ids["item"].size
        ([1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 3, 3, 3, 3, 3], 16)
    """

    rungs: tuple[Mapping[str, int], ...]

    def __post_init__(self) -> None:
        if not self.rungs:
            raise ValueError("expected at least one rung; received none")
        for lower, upper in zip(self.rungs[:-1], self.rungs[1:], strict=True):
            if set(lower) != set(upper) or any(upper[name] < lower[name] for name in lower):
                raise ValueError(
                    f"expected rungs of one set of names that ascend in all of them; received "
                    f"{dict(lower)} before {dict(upper)}"
                )

    @classmethod
    def fit(
        cls,
        sampler: NeighborSampler,
        rows: EncodedLog | Mapping[str, np.ndarray],
        batch_size: int,
        num_buckets: int = 3,
        seed: int = 0,
    ) -> SizeBuckets:
        """Makes a ladder for the batches of some rows.

        The last rung is a proven bound, the lower ones are quantiles of sampled batches with 5%
        head room, equally spaced up to the largest batch seen.

        Args:
            sampler: A sampler without buckets.
            rows: The training rows: `user_id` and `item_id`, and `time` where the sampler needs it.
            batch_size: Rows of a batch.
            num_buckets: Most rungs; fewer come where lower ones would reach the bound.
            seed: Seed of the sampled batches.

        Returns:
            The ladder.

        Raises:
            ValueError: If a number is out of range, the sampler has buckets, or times are missing.

        Example:
            >>> from tfmtl.graph import CSR, GraphBundle, NeighborSampler
            >>> item_user = CSR.from_edges(np.array([1, 1, 2]), np.array([1, 2, 2]), 3, 3,
            ...                            {"behavior": np.ones(3, np.uint8)})
            >>> edge_sets = {"item_user": item_user, "user_item": item_user.transpose()}
            >>> sampler = NeighborSampler(
            ...     GraphBundle(edge_sets, 3, 3), fan_outs=(2,), channels=("interaction",))
            >>> rows = {"user_id": np.array([1, 2]), "item_id": np.array([2, 1])}
            >>> SizeBuckets.fit(sampler, rows, batch_size=1, num_buckets=1).rungs
            ({'user': 4, 'item': 4, 'item_user': 2, 'user_item': 2, 'item_user/0': 1, \
'user_item/0': 1},)
        """
        if batch_size < 1 or num_buckets < 1:
            raise ValueError(
                f"expected batch_size and num_buckets of at least 1; received {batch_size} and "
                f"{num_buckets}"
            )
        if sampler.buckets is not None:
            raise ValueError("expected a sampler without buckets to fit them to; this one has some")
        bound = size_bound(sampler, batch_size)
        if num_buckets == 1:
            return cls((bound,))
        sizes = [_sizes(graph) for graph in _sampled(sampler, rows, batch_size, seed)]
        rungs = [bound]
        for share in np.linspace(1, 0, num_buckets)[:-1]:
            rung = {
                name: min(bound[name], _rounded(np.quantile([size[name] for size in sizes], share)))
                for name in bound
            }
            # Rounding up must not carry a prefix beyond the nodes that there are.
            rung |= {
                name: min(size, rung[EDGE_SETS[name.partition("/")[0]][1]])
                for name, size in rung.items()
                if "/" in name
            }
            if rung != rungs[0]:
                rungs.insert(0, rung)
        return cls(tuple(rungs))

    def check(self, edge_sets: Sequence[str], num_hops: int) -> None:
        """Checks that the ladder is for subgraphs of these edge sets and so many hops.

        Raises:
            ValueError: If it is for others.
        """
        prefixes = [f"{name}/{hop}" for name in edge_sets for hop in range(num_hops)]
        expected = [*NODE_SETS, *edge_sets, *prefixes]
        if set(self.rungs[0]) != set(expected):
            raise ValueError(
                f"expected buckets with sizes of {expected}; received {list(self.rungs[0])}: fit "
                "them to a sampler of the same channels and as many fan-outs"
            )

    def pad(self, graph: SampledSubgraph, padding_hop: int) -> SampledSubgraph:
        """Pads a subgraph to the lowest rung that holds it.

        Args:
            graph: The subgraph, NumPy arrays.
            padding_hop: Hop of padding nodes, beyond that of every node.

        Returns:
            The padded subgraph.

        Raises:
            ValueError: If no rung holds it.
        """
        needed = _sizes(graph)
        rung = next(
            (rung for rung in self.rungs if all(needed[name] <= rung[name] for name in needed)),
            None,
        )
        if rung is None:
            raise ValueError(
                f"a subgraph needs the sizes {needed}, the largest bucket has "
                f"{dict(self.rungs[-1])}: fit the buckets with the batch size and the sampler's "
                "options in use"
            )
        first = {name: graph.ids[name].size for name in NODE_SETS}

        def ends(edge_set: str, which: int, values: np.ndarray) -> np.ndarray:
            return _padded(values, rung[edge_set], first[EDGE_SETS[edge_set][which]])

        return replace(
            graph,
            ids={name: _padded(graph.ids[name], rung[name], 0) for name in NODE_SETS},
            hops={name: _padded(graph.hops[name], rung[name], padding_hop) for name in NODE_SETS},
            within={
                name: np.array(
                    [rung[f"{name}/{hop}"] for hop in range(within.size - 1)]
                    + [rung[EDGE_SETS[name][1]]],
                    np.int32,
                )
                for name, within in graph.within.items()
            },
            sources={name: ends(name, 0, values) for name, values in graph.sources.items()},
            targets={name: ends(name, 1, values) for name, values in graph.targets.items()},
            features={
                # Attention takes the logarithm of a weight.
                name: _padded(values, rung[name], int(EDGE_SETS[name][2] == "weight"))
                for name, values in graph.features.items()
            },
            spans={
                name: _padded(values, rung[EDGE_SETS[name][1]], 0)
                for name, values in graph.spans.items()
            },
        )


def _sizes(graph: SampledSubgraph) -> dict[str, int]:
    """What a rung must have room for: a padding node per node set is needed."""
    return (
        {name: graph.ids[name].size + 1 for name in NODE_SETS}
        | {name: graph.sources[name].size for name in graph.edge_sets}
        | {
            f"{name}/{hop}": int(size)
            for name, within in graph.within.items()
            for hop, size in enumerate(within[:-1])
        }
    )


def _rounded(size: float) -> int:
    """`size` with head room, as a multiple of 64."""
    return int(np.ceil(size * _HEAD_ROOM / _MULTIPLE)) * _MULTIPLE


def _padded(values: np.ndarray, size: int, value: int) -> np.ndarray:
    padded = np.full((size, *values.shape[1:]), value, values.dtype)
    padded[: len(values)] = values
    return padded


def _sampled(
    sampler: NeighborSampler,
    rows: EncodedLog | Mapping[str, np.ndarray],
    batch_size: int,
    seed: int,
) -> list[SampledSubgraph]:
    """Subgraphs of batches drawn from the rows."""
    columns: Mapping[str, np.ndarray]
    if isinstance(rows, EncodedLog):
        columns = rows.features | ({} if rows.times is None else {TIME: rows.times})
    else:
        columns = rows
    if sampler.needs_time and TIME not in columns:
        raise ValueError("the sampler has a time limit and the rows have no times")
    num_rows = columns[USER_ID].size
    if num_rows < batch_size:
        raise ValueError(f"batch_size {batch_size} exceeds the {num_rows} rows: lower it")
    generator = np.random.default_rng(seed)
    graphs = []
    for batch in range(_NUM_BATCHES):
        chosen = generator.choice(num_rows, batch_size, replace=False)
        times = columns[TIME][chosen] if sampler.needs_time else None
        graphs.append(
            sampler.sample(columns[USER_ID][chosen], columns[ITEM_ID][chosen], (seed, batch), times)
        )
    return graphs
