"""What an export answers from its macro graph, and what a rebuilt macro graph does to it."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tests.export.ask_saved_model import SPLITS, answer
from tests.export.conftest import SIGNATURES, eight_rows
from tests.models.conftest import randomize
from tests.training.small_experiment import experiment
from tfmtl.export import export_gap, export_model, raw_request
from tfmtl.graph import build_macro_graph
from tfmtl.models import build_model, predict_log

CONFIG = experiment("mgoe").macro


def model_on(macro_graph, data, name="mgoe", **options):
    """A model that nobody trained, of scores that differ from row to row."""
    hyperparameters = experiment("mgoe").model.hyperparameters if name == "mgoe" else {"dim": 4}
    encoder = data.encoder
    model = build_model(
        name, encoder.schema, encoder, hyperparameters, macro_graph=macro_graph, **options
    )
    model.build_weights()
    randomize(model)
    for weight in model.trainable_weights:
        # Larger ones make attention so sharp that the rounding of single numbers shows.
        weight.assign(0.5 * weight)
    return model


def served_scores(model, data, folder, signature="serving_default"):
    """What a process that reads the export answers for the test rows."""
    version = export_model(model, data.encoder, folder)
    request = raw_request(data.encoder, data.loaded.split.test, signature)
    serve = tf.saved_model.load(str(version)).signatures[signature]
    return answer(serve, request, [len(data.test)])


@pytest.fixture(scope="module")
def mgoe(shop_data):
    return model_on(shop_data.macro_graph.scored_version(), shop_data)


@pytest.mark.parametrize("signature", SIGNATURES)
def test_rows_are_scored_alike_in_any_company(signature, mgoe, shop_data, tmp_path):
    """Unknown users and items among them, whose macro neighbourhoods are empty."""
    chosen = eight_rows(shop_data)
    live = predict_log(mgoe, shop_data.test)
    version = export_model(mgoe, shop_data.encoder, tmp_path)
    serve = tf.saved_model.load(str(version)).signatures[signature]
    rows = shop_data.loaded.split.test.select(chosen)
    request = raw_request(shop_data.encoder, rows, signature)
    for lengths in SPLITS.values():
        for task, values in answer(serve, request, lengths).items():
            assert np.ptp(values) > 1e-2
            np.testing.assert_allclose(values, live[task][chosen], rtol=0, atol=1e-6)


def test_unknown_ids_read_what_id_0_reads(mgoe, shop_data, tmp_path):
    """Two ids that training never showed are one and the same."""
    version = export_model(mgoe, shop_data.encoder, tmp_path)
    serve = tf.saved_model.load(str(version)).signatures["by_id"]
    request = raw_request(shop_data.encoder, shop_data.loaded.split.test.select([0, 0]), "by_id")
    strange = {**request, "user_id": np.array([b"no one", b"nobody"], object)}
    known = {**request, "user_id": np.array([b"u0", b"u1"], object)}
    for task, values in answer(serve, strange, [2]).items():
        assert values[0] == values[1]
        others = answer(serve, known, [2])[task]
        assert others[0] != others[1]


@pytest.mark.parametrize("name", ["mgoe", "macgnn"])
def test_a_model_of_ids_alone(name, shop_data, tmp_path):
    names = [spec.name for spec in shop_data.encoder.inputs]
    model = model_on(shop_data.macro_graph, shop_data, name, exclude_inputs=names)
    assert model.embedding.inputs == ()
    expected = predict_log(model, shop_data.test)
    version = export_model(model, shop_data.encoder, tmp_path)
    for signature in SIGNATURES:
        request = raw_request(shop_data.encoder, shop_data.loaded.split.test, signature)
        gap = export_gap(version, request, expected, signature=signature, batch_size=7)
        assert gap <= 1e-6


def test_an_export_holds_the_scored_version_alone(mgoe, shop_data, tmp_path):
    version = export_model(mgoe, shop_data.encoder, tmp_path)
    shapes = [tuple(s) for _, s in tf.train.list_variables(str(version / "variables/variables"))]
    graph = shop_data.macro_graph
    assert graph.num_versions > 1
    for table in (graph.user_rows, graph.item_rows):
        assert shapes.count(table.shape[1:]) == 1


@pytest.fixture(scope="module")
def renumbered(shop_data):
    """The shop's macro graph with macro nodes under other numbers than the builder gives them."""
    graph = shop_data.macro_graph
    users = np.array([0, 3, 1, 4, 2], np.int32)[graph.user_groups]
    items = np.array([0, 2, 3, 1], np.int32)[graph.item_groups]
    moved = replace(graph, user_groups=users, item_groups=items)
    return build_macro_graph(
        shop_data.loaded.split.train,
        shop_data.encoder,
        CONFIG,
        previous=(moved, shop_data.encoder),
        regroup=False,
    )


@pytest.fixture(scope="module")
def before(renumbered, shop_data, tmp_path_factory):
    """A model on that macro graph and its served scores."""
    model = model_on(renumbered, shop_data)
    return model, served_scores(model, shop_data, tmp_path_factory.mktemp("before"))


def largest_change(before, macro_graph, data, folder):
    """Of served scores, when a model's weights meet another macro graph."""
    model, scores = before
    rebuilt = model_on(macro_graph, data)
    rebuilt.set_weights(model.get_weights())
    received = served_scores(rebuilt, data, folder)
    return max(np.abs(received[task] - values).max() for task, values in scores.items())


@pytest.mark.parametrize("regroup", [False, True])
def test_an_aligned_rebuild_of_an_unchanged_log_changes_no_score(
    regroup, before, renumbered, shop_data, tmp_path
):
    rebuilt = build_macro_graph(
        shop_data.loaded.split.train,
        shop_data.encoder,
        CONFIG,
        previous=(renumbered, shop_data.encoder),
        regroup=regroup,
    )
    assert np.any(rebuilt.user_groups != shop_data.macro_graph.user_groups)
    assert largest_change(before, rebuilt, shop_data, tmp_path) < 1e-5


@pytest.mark.parametrize("seed", [CONFIG.seed, 7])
def test_a_rebuild_that_is_not_aligned_changes_scores(seed, before, shop_data, tmp_path):
    rebuilt = build_macro_graph(
        shop_data.loaded.split.train, shop_data.encoder, CONFIG.model_copy(update={"seed": seed})
    )
    assert largest_change(before, rebuilt, shop_data, tmp_path) > 1e-3
