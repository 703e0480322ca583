"""The variants "+MGNN": models that read graph states beside a row's features."""

import numpy as np
import pytest
import tensorflow as tf

from tests.models.conftest import SMALL, TASKS, compiled, first_batch, randomize
from tfmtl.models import MODELS, build_model
from tfmtl.models.registry import checked_bottom
from tfmtl.testing import assert_gradients_reach_every_weight

BOTTOM = {"mgnn": {"dim": 4, "num_layers": 1, "channels": ("interaction", "item_similarity")}}
STACKABLE = sorted(name for name, model in MODELS.items() if not model.needs_graph)


@pytest.fixture(params=STACKABLE)
def stacked(request, build):
    return build(request.param, bottom=BOTTOM)


def test_the_states_are_inputs_of_the_model(stacked, dataset, edge_sets):
    assert stacked.uses_graph
    randomize(stacked)
    features, _, _ = first_batch(dataset(stacked))
    states = stacked.compute_node_states(edge_sets)
    rows = {key: value for key, value in features.items() if key != "graph"}
    sampled, looked_up = stacked(features), stacked(states(rows))
    zeros = {key: tf.zeros_like(part) for key, part in states(rows)["states"].items()}
    without = stacked({**rows, "states": zeros})
    for task in stacked.task_names:
        np.testing.assert_allclose(sampled[task], looked_up[task], rtol=1e-4, atol=1e-4)
        assert np.abs(without[task] - looked_up[task]).max() > 1e-3


def test_gradients_reach_the_bottom(stacked, dataset):
    randomize(stacked)
    features, _, _ = first_batch(dataset(stacked))
    assert_gradients_reach_every_weight(stacked, features)


def test_fits(stacked, dataset):
    compiled(stacked)
    before = [weight.numpy() for weight in stacked.graph_bottom.mgnn.trainable_weights]
    history = stacked.fit(dataset(stacked), epochs=2, verbose=0).history
    assert np.isfinite(history["total_loss"]).all()
    after = [weight.numpy() for weight in stacked.graph_bottom.mgnn.trainable_weights]
    assert any(np.any(one != two) for one, two in zip(before, after, strict=True))


def test_a_model_without_bottom_has_no_states(build, edge_sets):
    model = build("mmoe")
    assert not model.uses_graph
    with pytest.raises(ValueError, match=r"MMoE has no graph states: build it with a bottom"):
        model.compute_node_states(edge_sets)


def test_refuses_bottoms_that_it_does_not_know(build, node_features):
    with pytest.raises(ValueError, match=r"unknown bottoms \['macro_x'\]; expected some of"):
        checked_bottom("mmoe", {"macro_x": {}})
    with pytest.raises(
        ValueError, match=r"'mgnn' has no options \['dims'\]; expected some of .*'d"
    ):
        checked_bottom("mmoe", {"mgnn": {"dims": 3}})
    with pytest.raises(ValueError, match=r"'mogenet' has a graph of its own; received bottom"):
        checked_bottom("mogenet", BOTTOM)
    with pytest.raises(
        ValueError, match=r"expected bottom=.* and node_features; received .* no no"
    ):
        MODELS["mmoe"](TASKS, build("mmoe").embedding.inputs, bottom=BOTTOM, **SMALL["mmoe"])


def test_builds_from_an_encoder():
    from tests.models.test_registry import encoder_and_schema

    encoder, schema = encoder_and_schema()
    model = build_model("mmoe", schema, encoder, {}, bottom={"mgnn": {"dim": 8}})
    assert model.graph_bottom.mgnn.dim == 8
    encoder, schema = encoder_and_schema(user=None, item=None)
    with pytest.raises(ValueError, match="'mmoe' stands on a graph, but the schema names no user"):
        build_model("mmoe", schema, encoder, {}, bottom={"mgnn": {}})
