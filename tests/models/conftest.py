import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from tfmtl.data import EncodedLog, InputSpec
from tfmtl.data.pipeline import evaluation_dataset
from tfmtl.graph import (
    CHANNELS,
    CSR,
    GraphBundle,
    MacroConfig,
    NeighborSampler,
    behavior_scores,
    interaction_stores,
    macro_graph_of_stores,
)
from tfmtl.layers import Edges
from tfmtl.models import MODELS
from tfmtl.schema import Task

USERS, ITEMS = 12, 9
# The name of one task begins with that of the other.
TASKS = (Task(name="click"), Task(name="click_x", weight=0.5))
INPUTS = (
    InputSpec("user_id", "categorical", "user", USERS, 1, "user_id"),
    InputSpec("item_id", "categorical", "item", ITEMS, 1, "item_id"),
    InputSpec("age", "categorical", "user", 5, 1, "age"),
    InputSpec("tags", "list", "item", 6, 3, "tags"),
    InputSpec("price", "numeric", "context", 0, 1),
    InputSpec("statistics", "numeric", "context", 0, 2),
)
SMALL = {
    "single_task": {"embedding_dim": 4, "units": (6,)},
    "shared_bottom": {"embedding_dim": 4, "bottom_units": (6,), "tower_units": (4,)},
    "cross_stitch": {"embedding_dim": 4, "units": (6, 4)},
    "omoe": {"embedding_dim": 4, "expert_units": (6, 4), "tower_units": (4,), "num_experts": 3},
    "mmoe": {"embedding_dim": 4, "expert_units": (6, 4), "tower_units": (4,), "num_experts": 3},
    # Gates that are not drawn are the same in training and inference: shared tests compare the two.
    "snr_trans": {
        "embedding_dim": 4,
        "num_subnetworks": 3,
        "level_units": ((6,), (4,)),
        "tower_units": (4,),
        "stochastic": False,
    },
    "cgc": {
        "embedding_dim": 4,
        "num_specific_experts": 2,
        "num_shared_experts": 1,
        "expert_units": (6, 4),
        "tower_units": (4,),
    },
    "ple": {
        "embedding_dim": 4,
        "num_specific_experts": 2,
        "num_shared_experts": 1,
        "expert_units": (6, 4),
        "tower_units": (4,),
    },
    "stem": {"embedding_dim": 4, "expert_units": (6, 4), "tower_units": (4,)},
    # Layer normalisation is the same in training and inference: the shared tests compare the two.
    "home": {
        "embedding_dim": 4,
        "expert_units": (6, 4),
        "feature_gate_rank": 2,
        "normalization": "layer",
        "tower_units": (4,),
    },
    # Noise on the router is for training alone: the shared tests compare the two.
    "grec": {"embedding_dim": 4, "dim": 8, "num_experts": 2, "jitter": 0.0},
    "esmm": {"embedding_dim": 4, "units": (6, 4)},
    "escm2": {"embedding_dim": 4, "units": (6, 4)},
    "aitm": {"embedding_dim": 4, "bottom_units": (6, 4), "tower_units": (4,)},
    # Inner products of ids alone: wide, and one hop, to fit a few rows in a few steps.
    "ngcf": {"embedding_dim": 8, "num_layers": 1},
    "light_gcn": {"embedding_dim": 16, "num_layers": 1},
    "pogcn": {"embedding_dim": 16, "num_layers": 1},
    # Two channels and one hop where nothing else is asked for: a third of the graph to trace.
    "mogenet": {
        "embedding_dim": 4,
        "dim": 4,
        "expert_units": (6, 4),
        "gate_units": (4,),
        "channels": ("interaction", "item_similarity"),
        "num_layers": 1,
    },
    "macgnn": {"embedding_dim": 4, "dim": 4, "fusion_units": 6, "tower_units": 4},
    "mgoe": {"embedding_dim": 4, "dim": 4, "fusion_units": 6, "tower_units": 4},
}
# Of the first rows of the log: what did nothing leaves a tower the vectors that it learns for that.
IDLE_USER, IDLE_ITEM = 9, 8


def _store(rng, num_rows, num_columns, num_edges, feature):
    keys = rng.choice((num_rows - 1) * (num_columns - 1), num_edges, replace=False)
    rows, columns = keys // (num_columns - 1) + 1, keys % (num_columns - 1) + 1
    values = {
        "behavior": rng.integers(0, 4, num_edges).astype(np.int32),
        "weight": rng.uniform(0.2, 9, num_edges).astype(np.float32),
    }[feature]
    return CSR.from_edges(rows, columns, num_rows, num_columns, {feature: values})


@pytest.fixture(scope="session")
def bundle():
    rng = np.random.default_rng(11)
    item_user = _store(rng, USERS, ITEMS, 30, "behavior")
    return GraphBundle(
        {
            "item_user": item_user,
            "user_item": item_user.transpose(),
            "user_user": _store(rng, USERS, USERS, 20, "weight"),
            "item_item": _store(rng, ITEMS, ITEMS, 15, "weight"),
        },
        num_users=USERS,
        num_items=ITEMS,
    )


@pytest.fixture(scope="session")
def edge_sets(bundle):
    return {name: Edges.from_csr(store) for name, store in bundle.edge_sets.items()}


@pytest.fixture(scope="session")
def node_features():
    rng = np.random.default_rng(12)
    return {
        "user": {"user_id": np.arange(USERS), "age": rng.integers(0, 5, USERS)},
        "item": {"item_id": np.arange(ITEMS), "tags": rng.integers(0, 6, [ITEMS, 3])},
    }


def macro_graph_of(item_user, tasks):
    """Macro graph of 3 macro users and 2 macro items; versions 1 and 2 lack half of the edges."""
    users = np.repeat(np.arange(USERS), item_user.degrees)
    items = item_user.indices
    # Of fewer tasks than the edges have behaviours, those of the first.
    behaviors = (item_user.data["behavior"] % 2 ** len(tasks)).astype(np.uint8)
    kept = (behaviors > 0) & (users != IDLE_USER) & (items != IDLE_ITEM)
    columns = [column[kept] for column in (users, items, behaviors)]
    half = np.arange(kept.sum()) % 2

    def stores(without):
        return interaction_stores(*(column[half != without] for column in columns), USERS, ITEMS)

    return macro_graph_of_stores(
        stores(without=None),
        behavior_scores(tasks),
        MacroConfig(user_nodes=3, item_nodes=2, recent=3),
        partial=[lambda: stores(without=0), lambda: stores(without=1)],
    )


@pytest.fixture(scope="session")
def macro_graph(bundle):
    return macro_graph_of(bundle.edge_sets["item_user"], TASKS)


@pytest.fixture(scope="session")
def log(node_features):
    """Eleven rows; `click_x` is undefined on most, on all of rows 4 to 7 for one."""
    rng = np.random.default_rng(13)
    users = rng.integers(0, USERS, 11).astype(np.int32)
    items = rng.integers(0, ITEMS, 11).astype(np.int32)
    features = {
        "user_id": users,
        "item_id": items,
        "age": node_features["user"]["age"][users].astype(np.int32),
        "tags": node_features["item"]["tags"][items].astype(np.int32),
        "price": rng.normal(size=11).astype(np.float32),
        "statistics": rng.normal(size=[11, 2]).astype(np.float32),
    }
    weights = {
        "click": np.ones(11, np.float32),
        "click_x": np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1], np.float32),
    }
    labels = {
        "click": np.array([1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1], np.float32),
        "click_x": np.array([0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1], np.float32),
    }
    return EncodedLog(features, labels, weights, None, None, True)


@pytest.fixture(scope="session")
def sampler(bundle):
    """Takes every neighbour, the rows' own edges included."""

    def sampler(layers=2, channels=tuple(CHANNELS)):
        return NeighborSampler(
            bundle, fan_outs=(USERS,) * layers, channels=channels, mask_own_edges=False
        )

    return sampler


@pytest.fixture(scope="session")
def dataset(log, sampler):
    """Batches of 4, 4 and 3 rows, with the graph that a model wants."""

    def dataset(model, batch_size=4):
        sample = None
        if model.uses_graph:
            sample = sampler(model.graph_bottom.num_layers, model.graph_bottom.channels)
        return evaluation_dataset(log, batch_size=batch_size, sample=sample)

    return dataset


@pytest.fixture
def build(node_features, bundle, macro_graph):
    """Builds a small model by name, all weights made: one that is not is traced twice.

    Seeds start anew in every test, so that none depends on the tests before it.
    """
    seeds = itertools.count(1)

    def build(name, seed=None, **options):
        keras.utils.set_random_seed(next(seeds) if seed is None else seed)
        arguments = {**SMALL[name], **options}
        tasks = arguments.pop("tasks", TASKS)
        inputs = arguments.pop("inputs", INPUTS)
        bottoms = arguments.get("bottom", {})
        if MODELS[name].needs_graph or "mgnn" in bottoms:
            arguments["node_features"] = node_features
        if MODELS[name].needs_macro_graph or "macro" in bottoms:
            arguments.setdefault("macro_graph", macro_graph)
        model = MODELS[name](tasks, inputs, **arguments)
        model.build_weights()
        model.adapt_to_graph(bundle)
        return model

    return build


@pytest.fixture
def half_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(params=sorted(MODELS))
def name(request):
    """Every model of the package."""
    return request.param


def first_batch(dataset):
    return next(iter(dataset))


def leaky(values):
    return np.where(values > 0, values, 0.2 * values)


def softmax(scores):
    exponential = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def embedded_rows(table, features):
    """x = [x_u || x_i || x_context] from the fused table, by its documented layout."""
    # Padding 0, then users, items, ages, tags in the order of the inputs.
    item, age, tag = 1 + USERS, 1 + USERS + ITEMS, 1 + USERS + ITEMS + 5
    tags = features["tags"]
    present = (tags > 0)[..., np.newaxis]
    mean = (table[tag + tags] * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return np.concatenate(
        [
            table[1 + features["user_id"]],
            table[age + features["age"]],
            table[item + features["item_id"]],
            mean,
            features["price"][:, np.newaxis],
            features["statistics"],
        ],
        axis=1,
    )


def network(inputs, weights, last_linear=True):
    """Dense layers [kernel, bias, kernel, bias, ...] with LeakyReLU between them."""
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    for number, (kernel, bias) in enumerate(layers):
        inputs = inputs @ kernel + bias
        if number < len(layers) - 1 or not last_linear:
            inputs = leaky(inputs)
    return inputs


def bank(inputs, weights):
    """Experts [kernel [E, in, out], bias [E, out], ...], one at a time: [B, E, H]."""
    return np.stack(
        [
            network(inputs, [weight[expert] for weight in weights], last_linear=False)
            for expert in range(len(weights[0]))
        ],
        axis=1,
    )


def randomize(model, seed=0):
    """Gives every trainable weight values far from 0, biases included."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(scale=0.7, size=weight.shape))


def compiled(model, optimizer="sgd", **options):
    model.compile(optimizer=optimizer, **options)
    model.optimizer.build(model.trainable_variables)
    return model


def as_tensors(features):
    return {key: tf.constant(value) for key, value in features.items()}
