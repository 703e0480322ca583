"""Keras layers: embeddings, graph convolution, experts, gates, towers."""

from tfmtl.layers.attention_convolution import AttentionConvolution, Edges
from tfmtl.layers.depth_gate import DepthGate
from tfmtl.layers.experts import Experts
from tfmtl.layers.feature_embedding import FeatureEmbedding
from tfmtl.layers.gate import Gate
from tfmtl.layers.graph_bottom import GraphBottom
from tfmtl.layers.mlp import MLP
from tfmtl.layers.multi_channel_gnn import MultiChannelGNN
from tfmtl.layers.node_features import NodeFeatures
from tfmtl.layers.node_states import NodeStates
from tfmtl.layers.pairwise_interaction import PairwiseInteraction
from tfmtl.layers.per_expert_initializer import PerExpertInitializer
from tfmtl.layers.tower import Tower

__all__ = [
    "MLP",
    "AttentionConvolution",
    "DepthGate",
    "Edges",
    "Experts",
    "FeatureEmbedding",
    "Gate",
    "GraphBottom",
    "MultiChannelGNN",
    "NodeFeatures",
    "NodeStates",
    "PairwiseInteraction",
    "PerExpertInitializer",
    "Tower",
]
