"""Keras layers: embeddings, graph convolution, experts, gates, towers."""

from tfmtl.layers.attention_convolution import AttentionConvolution, Edges
from tfmtl.layers.bi_interaction import BiInteraction
from tfmtl.layers.chosen_experts import ChosenExperts
from tfmtl.layers.cross_stitch_unit import CrossStitchUnit
from tfmtl.layers.depth_gate import DepthGate
from tfmtl.layers.dice import Dice
from tfmtl.layers.dropout import Dropout
from tfmtl.layers.expert_groups import ExpertGroups
from tfmtl.layers.expert_level import ExpertLevel
from tfmtl.layers.experts import Experts
from tfmtl.layers.extraction import Extraction
from tfmtl.layers.feature_embedding import FeatureEmbedding
from tfmtl.layers.feature_gate import FeatureGate
from tfmtl.layers.gate import Gate
from tfmtl.layers.graph_bottom import GraphBottom
from tfmtl.layers.information_transfer import InformationTransfer
from tfmtl.layers.interaction_bottom import InteractionBottom
from tfmtl.layers.interaction_propagation import InteractionPropagation
from tfmtl.layers.macro_aggregator import MacroAggregator
from tfmtl.layers.macro_bottom import MacroBottom, MacroStates
from tfmtl.layers.macro_graph_bottom import MacroGraphBottom
from tfmtl.layers.macro_graph_expert import MacroGraphExpert
from tfmtl.layers.macro_micro_fusion import MacroMicroFusion
from tfmtl.layers.macro_prediction_tower import MacroPredictionTower
from tfmtl.layers.macro_rows import MacroRows
from tfmtl.layers.macro_store import MacroStore
from tfmtl.layers.macro_weight import MacroWeight, MacroWeights
from tfmtl.layers.micro_neighborhood import MicroNeighborhood
from tfmtl.layers.mlp import MLP
from tfmtl.layers.multi_channel_gnn import MultiChannelGNN
from tfmtl.layers.node_features import NodeFeatures
from tfmtl.layers.node_states import NodeStates
from tfmtl.layers.pairwise_interaction import PairwiseInteraction
from tfmtl.layers.parallel_transformer_block import ParallelTransformerBlock
from tfmtl.layers.per_expert_initializer import PerExpertInitializer
from tfmtl.layers.recording import RecordedGate, Recording
from tfmtl.layers.rms_norm import RMSNorm
from tfmtl.layers.routed_experts import RoutedExperts
from tfmtl.layers.row_tokens import RowTokens, inputs_of_tokens
from tfmtl.layers.scaled_score import ScaledScore
from tfmtl.layers.self_gate import SelfGate
from tfmtl.layers.sequence_pooling import SequencePooling
from tfmtl.layers.sub_network_routing import SubNetworkRouting
from tfmtl.layers.task_sentence import TaskSentence
from tfmtl.layers.task_sentence_moe import TaskSentenceMoE
from tfmtl.layers.text_encoder import TextEncoder
from tfmtl.layers.top_k_router import Routing, TopKRouter
from tfmtl.layers.tower import Tower
from tfmtl.layers.wide_and_deep import WideAndDeep

__all__ = [
    "MLP",
    "AttentionConvolution",
    "BiInteraction",
    "ChosenExperts",
    "CrossStitchUnit",
    "DepthGate",
    "Dice",
    "Dropout",
    "Edges",
    "ExpertGroups",
    "ExpertLevel",
    "Experts",
    "Extraction",
    "FeatureEmbedding",
    "FeatureGate",
    "Gate",
    "GraphBottom",
    "InformationTransfer",
    "InteractionBottom",
    "InteractionPropagation",
    "MacroAggregator",
    "MacroBottom",
    "MacroGraphBottom",
    "MacroGraphExpert",
    "MacroMicroFusion",
    "MacroPredictionTower",
    "MacroRows",
    "MacroStates",
    "MacroStore",
    "MacroWeight",
    "MacroWeights",
    "MicroNeighborhood",
    "MultiChannelGNN",
    "NodeFeatures",
    "NodeStates",
    "PairwiseInteraction",
    "ParallelTransformerBlock",
    "PerExpertInitializer",
    "RMSNorm",
    "RecordedGate",
    "Recording",
    "RoutedExperts",
    "Routing",
    "RowTokens",
    "ScaledScore",
    "SelfGate",
    "SequencePooling",
    "SubNetworkRouting",
    "TaskSentence",
    "TaskSentenceMoE",
    "TextEncoder",
    "TopKRouter",
    "Tower",
    "WideAndDeep",
    "inputs_of_tokens",
]
