"""What exports of a GRec answer: all tasks, and one of them with its experts alone."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.export.ask_saved_model import SPLITS, answer
from tests.export.conftest import SIGNATURES, eight_rows
from tests.training.small_experiment import DATASET
from tfmtl.export import export_gap, export_model, raw_request
from tfmtl.models import predict_log
from tfmtl.training import Experiment, train

HYPERPARAMETERS = "{embedding_dim: 4, dim: 16, num_heads: 2, num_experts: 8, k: 2}"


@pytest.fixture(scope="module")
def grec(shop_data, tmp_path_factory):
    """A trained GRec that reads a history, a title, sets, numbers and vectors."""
    text = f"{DATASET}model: {{name: grec, hyperparameters: {HYPERPARAMETERS}}}\n"
    experiment = Experiment.from_yaml(text, ["training.batch_size=32", "training.epochs=2"])
    model = train(experiment, tmp_path_factory.mktemp("run") / "grec", data=shop_data)
    assert model.token_names == ("sequence", "context", "text", "item", "task")
    return model


@pytest.fixture(scope="module")
def exported(grec, shop_data, tmp_path_factory):
    return export_model(grec, shop_data.encoder, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def of_like(grec, shop_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served_like")
    return export_model(grec.for_task("like"), shop_data.encoder, folder)


@pytest.mark.parametrize("signature", SIGNATURES)
def test_raw_rows_are_answered_as_by_the_live_model(signature, grec, exported, shop_data):
    live = predict_log(grec, shop_data.test)
    request = raw_request(shop_data.encoder, shop_data.loaded.split.test, signature)
    assert {"user_id", "item_id", "seen"} <= set(request)
    # The title comes with the row, or is known of the item.
    assert ("words" in request) == (signature == "serving_default")
    assert export_gap(exported, request, live, signature=signature) <= 1e-6
    assert all(np.ptp(values) > 1e-3 for values in live.values())


@pytest.mark.parametrize("changed", ["seen", "words"])
def test_the_history_and_the_title_of_a_request_are_read(changed, exported, shop_data):
    serve = tf.saved_model.load(str(exported)).signatures["serving_default"]
    request = raw_request(shop_data.encoder, shop_data.loaded.split.test, "serving_default")
    rows = len(request[changed])
    nothing = np.full_like(request[changed], "" if changed == "words" else 0)
    without = {**request, changed: nothing}
    before, after = (answer(serve, raw, [rows]) for raw in (request, without))
    assert max(np.abs(before[task] - after[task]).max() for task in before) > 1e-5


@pytest.mark.parametrize("signature", SIGNATURES)
def test_rows_are_answered_alike_in_any_company(signature, grec, exported, shop_data):
    chosen = eight_rows(shop_data)
    live = predict_log(grec, shop_data.test)
    serve = tf.saved_model.load(str(exported)).signatures[signature]
    rows = shop_data.loaded.split.test.select(chosen)
    request = raw_request(shop_data.encoder, rows, signature)
    for lengths in SPLITS.values():
        for task, values in answer(serve, request, lengths).items():
            np.testing.assert_allclose(values, live[task][chosen], rtol=0, atol=1e-6)


@pytest.mark.parametrize("signature", SIGNATURES)
def test_one_task_is_answered_as_among_all(signature, grec, of_like, shop_data):
    live = {"like": predict_log(grec, shop_data.test)["like"]}
    request = raw_request(shop_data.encoder, shop_data.loaded.split.test, signature)
    assert export_gap(of_like, request, live, signature=signature) <= 1e-6


def test_one_task_is_described(of_like, exported):
    described = [
        json.loads((folder / "assets.extra" / "inputs.json").read_text())
        for folder in (of_like, exported)
    ]
    assert described[0]["tasks"] == ["like"]
    assert described[0]["signatures"] == described[1]["signatures"]


def written(version):
    """Shapes of the variables of an export, and their bytes."""
    path = version / "variables" / "variables"
    shapes = [tuple(shape) for _, shape in tf.train.list_variables(str(path))]
    return shapes, sum(file.stat().st_size for file in path.parent.iterdir())


def test_one_task_takes_its_experts_alone(of_like, exported):
    # Every expert has two kernels of D D.
    (shapes, size), (shapes_of_all, size_of_all) = written(of_like), written(exported)
    assert (shapes.count((2, 16, 16)), shapes.count((8, 16, 16))) == (2, 0)
    assert (shapes_of_all.count((2, 16, 16)), shapes_of_all.count((8, 16, 16))) == (0, 2)
    # Nor the router [D, E], nor the sentences of both tasks [T, D].
    assert not {(16, 8), (2, 16)} & set(shapes)
    assert {(16, 8), (2, 16)} <= set(shapes_of_all)
    # Six experts of two kernels in float32, up to the entries of the index.
    assert size_of_all - size > 0.9 * 6 * 2 * 16 * 16 * 4
