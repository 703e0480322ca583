"""The variants "+MGNN" and "+macro": models that read a graph beside a row's features."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.models.conftest import (
    INPUTS,
    SMALL,
    TASKS,
    as_tensors,
    compiled,
    first_batch,
    randomize,
)
from tfmtl.data import TrainingLog
from tfmtl.graph import MacroConfig, build_macro_graph
from tfmtl.models import MODELS, build_model
from tfmtl.models.registry import checked_bottom
from tfmtl.testing import assert_gradients_reach_every_weight

BOTTOM = {"mgnn": {"dim": 4, "num_layers": 1, "channels": ("interaction", "item_similarity")}}
STACKABLE = sorted(
    name for name, model in MODELS.items() if not (model.needs_graph or model.needs_macro_graph)
)
MACRO = {"macro": {"dim": 4}}
BOTH = {**BOTTOM, **MACRO}


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


@pytest.fixture(params=[MACRO, BOTH], ids=["macro", "mgnn+macro"])
def macro_bottom(request):
    return request.param


@pytest.fixture(params=["mmoe", "ple", "grec", "single_task"])
def on_macro(request, build, macro_bottom):
    return build(request.param, bottom=macro_bottom)


def test_macro_states_are_inputs_of_the_model(on_macro, dataset):
    randomize(on_macro)
    features, _, _ = first_batch(dataset(on_macro))
    states = on_macro.macro_bottom(features)
    # z of both tasks, 10 d each, and r of 4 d.
    assert [part.shape.as_list() for part in states.parts] == [[4, 40], [4, 40], [4, 16]]
    others = on_macro.bottom_input(features)[: -len(states.parts)]
    row = on_macro.row_input(features)
    expected = [on_macro.feature_input(features), *others, *states.parts]
    np.testing.assert_allclose(row, np.concatenate(expected, axis=1), rtol=1e-5)
    before, after = on_macro(features), on_macro({**features, "macro_version": tf.fill([4], 1)})
    for task in on_macro.task_names:
        assert np.abs(before[task] - after[task]).max() > 1e-3


def test_both_bottoms_read_their_own_graph(build, dataset, edge_sets):
    model = build("mmoe", bottom=BOTH)
    assert model.uses_graph
    randomize(model)
    features, _, _ = first_batch(dataset(model))
    states = model.compute_node_states(edge_sets)
    rows = {key: value for key, value in features.items() if key != "graph"}
    sampled, looked_up = model(features), model(states(rows))
    zeros = {key: tf.zeros_like(part) for key, part in states(rows)["states"].items()}
    without = model({**rows, "states": zeros})
    for task in model.task_names:
        np.testing.assert_allclose(sampled[task], looked_up[task], rtol=1e-4, atol=1e-4)
        assert np.abs(without[task] - looked_up[task]).max() > 1e-3
    assert not build("mmoe", bottom=MACRO).uses_graph


def test_gradients_reach_both_bottoms(on_macro, dataset):
    randomize(on_macro)
    features, _, _ = first_batch(dataset(on_macro))
    assert_gradients_reach_every_weight(on_macro, features)


def test_fits_on_a_macro_graph(on_macro, dataset):
    compiled(on_macro)
    before = [weight.numpy() for weight in on_macro.macro_bottom.trainable_weights]
    history = on_macro.fit(dataset(on_macro), epochs=2, verbose=0).history
    assert np.isfinite(history["total_loss"]).all()
    after = [weight.numpy() for weight in on_macro.macro_bottom.trainable_weights]
    assert all(np.any(one != two) for one, two in zip(before, after, strict=True))


def test_a_macro_bottom_may_be_all_that_a_model_reads(build, dataset):
    model = build("mmoe", bottom=MACRO, inputs=[])
    compiled(model)
    assert np.isfinite(model.fit(dataset(model), verbose=0).history["total_loss"]).all()


@pytest.mark.parametrize(
    ("option", "shapes"),
    [
        ({"micro": False}, [[11, 40], [11, 40]]),
        ({"neighborhoods": False}, [[11, 8], [11, 8], [11, 16]]),
    ],
)
def test_parts_of_the_macro_bottom_may_be_left_out(option, shapes, build, log):
    model = build("mmoe", bottom={"macro": {"dim": 4, **option}})
    parts = model.bottom_input(as_tensors(log.features))
    assert [part.shape.as_list() for part in parts] == shapes


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
    with pytest.raises(ValueError, match=r"'mgoe' has a graph of its own; received bottom \['mac"):
        checked_bottom("mgoe", MACRO)
    with pytest.raises(
        ValueError, match=r"'macro' has no options \['dims'\]; expected some of .*'d"
    ):
        checked_bottom("mmoe", {"macro": {"dims": 3}})
    with pytest.raises(
        ValueError, match=r"expected bottom 'mgnn' with node_.*nothing to make \['mgnn'\] from"
    ):
        MODELS["mmoe"](TASKS, build("mmoe").embedding.inputs, bottom=BOTTOM, **SMALL["mmoe"])
    with pytest.raises(
        ValueError, match=r"'macro' with macro_graph; received .*nothing to make \['macro'\] from: "
    ):
        MODELS["mmoe"](TASKS, INPUTS, bottom=BOTH, node_features=node_features, **SMALL["mmoe"])


def test_builds_from_an_encoder():
    from tests.models.test_registry import encoder_and_schema

    encoder, schema = encoder_and_schema()
    model = build_model("mmoe", schema, encoder, {}, bottom={"mgnn": {"dim": 8}})
    assert model.graph_bottom.mgnn.dim == 8
    encoder, schema = encoder_and_schema(user=None, item=None)
    with pytest.raises(ValueError, match="'mmoe' stands on a graph, but the schema names no user"):
        build_model("mmoe", schema, encoder, {}, bottom={"mgnn": {}})


def test_builds_from_an_encoder_on_a_macro_graph():
    from tests.models.test_registry import ROWS, encoder_and_schema

    encoder, schema = encoder_and_schema()
    train = TrainingLog(pa.table(ROWS), schema)
    graph = build_macro_graph(train, encoder, MacroConfig(user_nodes=1, item_nodes=2))
    bottom = {"macro": {"dim": 8}, "mgnn": {"dim": 4}}
    model = build_model("mmoe", schema, encoder, {}, bottom=bottom, macro_graph=graph)
    assert model.graph_bottom.mgnn.dim == 4
    assert model.macro_bottom.graph_bottom.dim == 8
    with pytest.raises(
        ValueError, match="'mmoe' reads a macro graph and received none: pass macro"
    ):
        build_model("mmoe", schema, encoder, {}, bottom=bottom)
    encoder, schema = encoder_and_schema(user=None, item=None)
    with pytest.raises(ValueError, match="'mmoe' stands on a graph, but the schema names no user"):
        build_model("mmoe", schema, encoder, {}, bottom=MACRO, macro_graph=graph)
