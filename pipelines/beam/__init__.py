"""Beam jobs: graphs of logs that one machine does not hold, and sub-graphs drawn offline."""

try:
    from tfmtl.pipelines.beam.adjacency_block import AdjacencyBlock
    from tfmtl.pipelines.beam.adjacency_job import run_adjacency_job
    from tfmtl.pipelines.beam.adjacency_shards import ReadAdjacency, WriteAdjacency
    from tfmtl.pipelines.beam.assemble_graph_bundle import assemble_graph_bundle
    from tfmtl.pipelines.beam.assemble_macro_graph import assemble_macro_graph
    from tfmtl.pipelines.beam.bipartite_adjacency import BipartiteAdjacency
    from tfmtl.pipelines.beam.macro_grouping import MacroGrouping
    from tfmtl.pipelines.beam.macro_job import run_macro_job
    from tfmtl.pipelines.beam.macro_rows import MacroRows
    from tfmtl.pipelines.beam.prepare_inputs import prepare_inputs
    from tfmtl.pipelines.beam.row_batches import write_row_batches
    from tfmtl.pipelines.beam.row_counts import RowCounts
    from tfmtl.pipelines.beam.sample_subgraphs import SampleSubgraphs
    from tfmtl.pipelines.beam.sampling_job import run_sampling_job
    from tfmtl.pipelines.beam.similarity_job import run_similarity_job
    from tfmtl.pipelines.beam.subgraph_dataset import subgraph_dataset
    from tfmtl.pipelines.beam.sum_through_neighbors import SumThroughNeighbors
    from tfmtl.pipelines.beam.top_k_similarity import TopKSimilarity
except ModuleNotFoundError as error:
    if error.name and error.name.partition(".")[0] == "tfmtl":
        raise
    raise ImportError(
        f"tfmtl.pipelines.beam needs {error.name}, which is not installed: "
        "pip install 'tfmtl[beam]'"
    ) from error

__all__ = [
    "AdjacencyBlock",
    "BipartiteAdjacency",
    "MacroGrouping",
    "MacroRows",
    "ReadAdjacency",
    "RowCounts",
    "SampleSubgraphs",
    "SumThroughNeighbors",
    "TopKSimilarity",
    "WriteAdjacency",
    "assemble_graph_bundle",
    "assemble_macro_graph",
    "prepare_inputs",
    "run_adjacency_job",
    "run_macro_job",
    "run_sampling_job",
    "run_similarity_job",
    "subgraph_dataset",
    "write_row_batches",
]
