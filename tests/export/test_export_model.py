import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from tests.export.ask_saved_model import SPLITS
from tests.training.small_experiment import experiment
from tfmtl.data import FeatureEncoder, HeldOutLog, TrainingLog
from tfmtl.export import export_gap, export_model, raw_request
from tfmtl.models import build_model, predict_log
from tfmtl.schema import Feature, Schema, Task
from tfmtl.training import whole_graph_states

TASKS = ("click", "like")


@pytest.fixture(scope="module")
def mmoe(shop_data):
    """An MMoE that nobody trained."""
    chosen = experiment("mmoe").model
    encoder = shop_data.encoder
    model = build_model("mmoe", encoder.schema, encoder, chosen.hyperparameters)
    model.build_weights()
    return model


@pytest.fixture(scope="module")
def exported(mmoe, shop_data, tmp_path_factory):
    return export_model(mmoe, shop_data.encoder, tmp_path_factory.mktemp("served"))


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("signature", ["serving_default", "by_id"])
@pytest.mark.parametrize("name", ["mmoe", "mogenet"])
def test_another_process_gives_the_live_probabilities(name, signature, split, answered):
    expected, answers, _ = answered
    ((key, live),) = (
        item for item in expected.items() if f"/{name}/" in item[0][0] and item[0][1] == signature
    )
    assert tuple(live) == TASKS
    for task, values in live.items():
        received = answers["|".join([*key, split, task])]
        assert received.shape == (8,)
        np.testing.assert_allclose(received, values, rtol=0, atol=1e-6, err_msg=task)
        assert np.ptp(values) > 1e-3


@pytest.mark.slow
def test_a_saved_model_needs_tensorflow_only(answered):
    _, _, report = answered
    assert report["foreign"] == []
    assert report["unregistered"] == []
    for version, operations in report["operations"].items():
        assert {"LookupTableFindV2", "Sigmoid"} <= set(operations), version
        assert not {op for op in operations if "PyFunc" in op}
        assert report["signatures"][version] == ["by_id", "serving_default"]
    for shapes in report["shapes"].values():
        assert shapes == {"click": [None], "like": [None]}


@pytest.mark.slow
def test_the_whole_test_part_agrees(trained, shop_data, tmp_path):
    run = trained["mogenet"]
    states = whole_graph_states(run.model, run.bundle)
    version = export_model(run.model, run.encoder, tmp_path, node_states=states)
    expected = predict_log(run.model, shop_data.test, node_states=states)
    for signature in ("serving_default", "by_id"):
        request = raw_request(run.encoder, shop_data.loaded.split.test, signature)
        gap = export_gap(version, request, expected, signature=signature, batch_size=7)
        assert gap <= 1e-6


@pytest.mark.slow
def test_an_export_holds_no_optimizer_and_no_graph(trained, shop_data, tmp_path):
    run = trained["mogenet"]
    states = whole_graph_states(run.model, run.bundle)
    version = export_model(run.model, run.encoder, tmp_path, node_states=states)
    names = [name for name, _ in tf.train.list_variables(str(version / "variables" / "variables"))]
    assert not [name for name in names if "optimizer" in name.lower()]
    shapes = [tuple(s) for _, s in tf.train.list_variables(str(version / "variables/variables"))]
    # A table of states for either channel that reaches users.
    assert shapes.count((run.encoder.vocabularies["user_id"].size, 4)) >= 2


@pytest.mark.slow
def test_versions_are_numbered_on(mmoe, shop_data, tmp_path):
    for name in ("3", "07", "notes", "12.old"):
        (tmp_path / name).mkdir()
    assert export_model(mmoe, shop_data.encoder, tmp_path).name == "8"
    assert export_model(mmoe, shop_data.encoder, tmp_path).name == "9"
    assert (tmp_path / "9" / "saved_model.pb").is_file()
    # Readable for the user that TF Serving runs as.
    assert (tmp_path / "9").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("broken", ["json.dumps", "tensorflow.saved_model.save"])
def test_a_failure_leaves_no_half_version(broken, mmoe, shop_data, tmp_path, monkeypatch):
    (tmp_path / "1").mkdir()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(broken, fail)
    with pytest.raises(OSError, match="disk full"):
        export_model(mmoe, shop_data.encoder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_graph_model_without_states_is_refused(shop_data, tmp_path):
    chosen = experiment("mogenet").model
    encoder = shop_data.encoder
    model = build_model("mogenet", encoder.schema, encoder, chosen.hyperparameters)
    with pytest.raises(
        ValueError, match=r"MoGENet uses a graph and received no node states: pass "
    ):
        export_model(model, encoder, tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_inputs_are_described(exported):
    described = json.loads((exported / "assets.extra" / "inputs.json").read_text())
    assert described["tasks"] == list(TASKS)
    default, by_id = (described["signatures"][name] for name in ("serving_default", "by_id"))
    assert default["user_id"] == {"dtype": "string", "shape": [-1]}
    assert default["item_id"] == {"dtype": "int64", "shape": [-1]}
    assert default["tags"] == {"dtype": "string", "shape": [-1, 3]}
    assert default["seen"] == {"dtype": "int64", "shape": [-1, 3]}
    assert default["genre"] == {"dtype": "string", "shape": [-1]}
    assert default["age"] == {"dtype": "float32", "shape": [-1]}
    assert default["cover"] == {"dtype": "float32", "shape": [-1, 3]}
    context = ["tab", "last_tab", "first_tab", "hour", "price", "bid", "seen", "mood"]
    assert list(by_id) == ["user_id", "item_id", *context]
    assert list(default)[:7] == ["user_id", "item_id", "age", "country", "words", "genre", "tags"]


def test_signatures_have_the_described_inputs(exported):
    described = json.loads((exported / "assets.extra" / "inputs.json").read_text())["signatures"]
    loaded = tf.saved_model.load(str(exported))
    for name, inputs in described.items():
        specs = loaded.signatures[name].structured_input_signature[1]
        assert {
            key: {"dtype": spec.dtype.name, "shape": [-1, *spec.shape.as_list()[1:]]}
            for key, spec in specs.items()
        } == inputs


@pytest.fixture
def census():
    schema = Schema(
        user=None,
        item=None,
        tasks=[Task(name="rich")],
        features=[Feature(name="job"), Feature(name="hours", kind="numeric")],
    )
    rows = pa.table({"job": ["a", "b", None, "b"], "hours": [1, 2, 3, 9], "rich": [1, 0, 0, 1]})
    return TrainingLog(rows, schema), HeldOutLog(rows, schema)


def test_a_log_without_ids_has_no_signature_by_id(census, tmp_path):
    train, held = census
    encoder = FeatureEncoder.fit(train)
    model = build_model("shared_bottom", train.schema, encoder, {})
    expected = predict_log(model, encoder.encode(held))
    version = export_model(model, encoder, tmp_path)
    request = raw_request(encoder, held)
    assert export_gap(version, request, expected) <= 1e-6
    with pytest.raises(ValueError, match=r"no signature 'by_id'; it has \['serving_default'\]"):
        export_gap(version, request, expected, signature="by_id")
    with pytest.raises(ValueError, match="without users and items has no signature 'by_id': use"):
        raw_request(encoder, held, "by_id")


@pytest.mark.slow
def test_inputs_that_the_model_leaves_out_are_still_taken(shop_data, tmp_path):
    encoder, test = shop_data.encoder, shop_data.loaded.split.test
    hyperparameters = experiment("shared_bottom").model.hyperparameters
    model = build_model(
        "shared_bottom",
        encoder.schema,
        encoder,
        hyperparameters,
        exclude_inputs=["user_id", "statistics"],
    )
    expected = predict_log(model, shop_data.test)
    version = export_model(model, encoder, tmp_path)
    assert export_gap(version, raw_request(encoder, test), expected) <= 1e-6


def test_the_gap_is_the_largest_difference(exported, mmoe, shop_data):
    request = raw_request(shop_data.encoder, shop_data.loaded.split.test)
    expected = predict_log(mmoe, shop_data.test)
    assert export_gap(exported, request, expected) <= 1e-6
    expected["like"] = expected["like"].copy()
    expected["like"][-1] += 0.25
    assert export_gap(exported, request, expected, batch_size=9) == pytest.approx(0.25, abs=1e-5)
