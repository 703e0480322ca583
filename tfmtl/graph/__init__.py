"""CSR stores, graph builders, the neighbour sampler, and the bundle on disk."""

from tfmtl.graph.behavior_scores import behavior_scores
from tfmtl.graph.build_graph_bundle import build_graph_bundle
from tfmtl.graph.build_macro_graph import build_macro_graph
from tfmtl.graph.bundle_error import BundleError
from tfmtl.graph.csr import CSR
from tfmtl.graph.extend_graph_bundle import extend_graph_bundle
from tfmtl.graph.graph_bundle import GraphBundle
from tfmtl.graph.graph_tensor import graph_tensor_spec, to_graph_tensor
from tfmtl.graph.interaction_graph import build_interaction_graph
from tfmtl.graph.interaction_stores import interaction_stores
from tfmtl.graph.macro_config import MacroConfig
from tfmtl.graph.macro_graph import MacroGraph
from tfmtl.graph.macro_graph_of_stores import macro_graph_of_stores
from tfmtl.graph.neighbor_sampler import NeighborSampler
from tfmtl.graph.sampled_subgraph import SampledSubgraph
from tfmtl.graph.similarity_config import SimilarityConfig
from tfmtl.graph.similarity_extension import extend_similarity_graph
from tfmtl.graph.similarity_graph import build_similarity_graph
from tfmtl.graph.size_buckets import SizeBuckets
from tfmtl.graph.topology import CHANNELS, EDGE_SETS, NODE_SETS, edge_sets_of
from tfmtl.graph.training_versions import training_versions

__all__ = [
    "CHANNELS",
    "CSR",
    "EDGE_SETS",
    "NODE_SETS",
    "BundleError",
    "GraphBundle",
    "MacroConfig",
    "MacroGraph",
    "NeighborSampler",
    "SampledSubgraph",
    "SimilarityConfig",
    "SizeBuckets",
    "behavior_scores",
    "build_graph_bundle",
    "build_interaction_graph",
    "build_macro_graph",
    "build_similarity_graph",
    "edge_sets_of",
    "extend_graph_bundle",
    "extend_similarity_graph",
    "graph_tensor_spec",
    "interaction_stores",
    "macro_graph_of_stores",
    "to_graph_tensor",
    "training_versions",
]
