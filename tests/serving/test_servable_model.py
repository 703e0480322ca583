import shutil
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf

from tfmtl.serving import ModelLoadError, ServableModel, ServingError

INPUTS = {
    "user_id": np.array([3, 5]),
    "item_id": np.array(["heat", "unknown"]),
    "age": np.array([[2, 1], [0.5, 10]], np.float32),
}


@pytest.fixture(scope="module")
def model(base_path):
    return ServableModel("ranker", 12, base_path / "12")


def test_signatures_are_listed_with_their_tensors(model):
    assert sorted(model.signatures) == [
        "add",
        "double",
        "echo",
        "half",
        "kinds",
        "serving_default",
        "text",
    ]
    signature = model.signature()
    assert signature.name == "serving_default"
    assert signature.inputs["age"] == tf.TensorSpec([None, 2], tf.float32, "age")
    assert signature.outputs["title"] == tf.TensorSpec([None], tf.string, "title")


def test_predict_returns_named_outputs(model):
    outputs = model.predict(INPUTS)
    # 3 * 2 + 1 + 0.25 from the table; 5 * 0.5 + 10 + 0 for an item outside of it.
    np.testing.assert_array_equal(outputs["click"], np.float32([7.25, 12.5]))
    np.testing.assert_array_equal(outputs["title"], [b"HEAT", b"UNKNOWN"])
    np.testing.assert_array_equal(outputs["next"], np.array([4, 6], np.int64))
    assert outputs["next"].dtype == np.int64


def test_predict_returns_the_outputs_asked_for(model):
    assert list(model.predict(INPUTS, outputs=["next"])) == ["next"]


def test_threads_may_predict_at_once(model):
    def ask(number):
        return model.predict({"x": np.float32([number, -number])}, "double")["twice"].tolist()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(200))) == [[2.0 * n, -2.0 * n] for n in range(200)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"user_id": None, "colour": np.array([1])},
            r"missing inputs \['user_id'\], unexpected inputs \['colour'\]; expected "
            r"age \(float32 \(None, 2\)\), item_id \(string \(None,\)\), user_id \(int64",
        ),
        (
            {"user_id": np.float32([3, 5])},
            "input 'user_id' of signature 'serving_default': expected dtype int64; "
            "received float32",
        ),
        ({"item_id": np.array([1, 2])}, "'item_id'.*expected dtype string; received int64"),
        ({"user_id": np.array([[3, 5]])}, r"expected shape \(None,\); received \(1, 2\)"),
        ({"age": np.zeros([2, 3], np.float32)}, r"shape \(None, 2\); received \(2, 3\)"),
        ({"item_id": np.array([3, None], object)}, "expected string values; received 3"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(model, change, message):
    inputs = {key: value for key, value in {**INPUTS, **change}.items() if value is not None}
    with pytest.raises(ServingError, match=message) as caught:
        model.predict(inputs)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("outputs", [["click", "rank"], ["click", "click"]])
def test_output_filter_names_each_output_once(model, outputs):
    with pytest.raises(
        ServingError, match=r"must name each output once, out of .'click'"
    ) as caught:
        model.predict(INPUTS, outputs=outputs)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_signature(model):
    with pytest.raises(ServingError, match=r"'rank' not found in .*one of \['add'") as caught:
        model.predict(INPUTS, "rank")
    assert caught.value.code == grpc.StatusCode.NOT_FOUND


def test_failure_inside_the_model_keeps_its_code(model):
    with pytest.raises(
        ServingError, match=r"(?s)'add' of model 'ranker' failed: .*\[2\] vs"
    ) as caught:
        model.predict({"a": np.float32([1, 2]), "b": np.float32([1, 2, 3])}, "add")
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_truncated_saved_model(base_path, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(base_path / "12", folder)
    file = folder / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match=r"cannot read the SavedModel .*1/saved_model.pb"):
        ServableModel("ranker", 1, folder)


def test_missing_variables(base_path, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(base_path / "12", folder)
    shutil.rmtree(folder / "variables")
    with pytest.raises(ModelLoadError, match=r"cannot load the SavedModel in .*1: "):
        ServableModel("ranker", 1, folder)


def test_saved_model_without_signature(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ModelLoadError, match="has no signature to serve: save it with"):
        ServableModel("ranker", 1, tmp_path)
