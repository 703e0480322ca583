"""The sampler of an experiment's graph."""

from __future__ import annotations

from functools import partial

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.graph import GraphBundle, NeighborSampler, SizeBuckets
from tfmtl.training.experiment import Experiment


def graph_sampler(experiment: Experiment, bundle: GraphBundle, rows: EncodedLog) -> NeighborSampler:
    """Draws the graphs of training batches as the experiment says.

    Args:
        experiment: Fan-outs, limits and sizes.
        bundle: The graph.
        rows: The training rows, to which sizes are fitted.

    Returns:
        The sampler, the same in every process that calls this with the same arguments.

    Example:
        >>> from tfmtl.training import prepare_data
        >>> experiment = Experiment.from_yaml(
        ...     "{dataset: {name: simulator, options: {num_users: 20, num_items: 10, "
        ...     "num_rows: 400}}, model: {name: mogenet}}")
        >>> data = prepare_data(experiment)
        >>> graph_sampler(experiment, data.bundle, data.train).num_hops
        2
    """
    graph, settings = experiment.graph, experiment.training
    sampler_of = partial(
        NeighborSampler,
        bundle,
        fan_outs=graph.fan_out,
        channels=experiment.graph_options["channels"],
        mask_own_edges=graph.mask_own_edges,
        weighted=graph.weighted,
        time_limit=graph.time_limit,
        time_granularity=graph.time_granularity,
    )
    if not graph.buckets:
        return sampler_of()
    batch_size = min(settings.batch_size, len(rows))
    buckets = SizeBuckets.fit(sampler_of(), rows, batch_size, graph.buckets, seed=settings.seed)
    return sampler_of(buckets=buckets)
