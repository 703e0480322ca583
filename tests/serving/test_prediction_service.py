from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    SignatureDefMap,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub


@pytest.fixture(scope="module")
def stub(server):
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(server.grpc_address, options) as channel:
        yield PredictionServiceStub(channel)


def _request(name="ranker", signature="", version=None, label=None, outputs=(), **inputs):
    request = PredictRequest(output_filter=outputs)
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def _rank(**change):
    inputs = {
        "user_id": np.array([3, 5]),
        "item_id": ["heat", "unknown"],
        "age": np.float32([[2, 1], [0.5, 10]]),
    }
    return _request(**{**inputs, **change})


@pytest.mark.parametrize("version", [None, 12])
def test_predict_answers_with_named_outputs(stub, version):
    response = stub.Predict(_rank(version=version), timeout=10)
    assert response.model_spec.name == "ranker"
    assert response.model_spec.version.value == 12
    assert response.model_spec.signature_name == "serving_default"
    assert sorted(response.outputs) == ["click", "next", "title"]
    assert list(response.outputs["click"].float_val) == [7.25, 12.5]
    assert list(response.outputs["next"].int64_val) == [4, 6]
    assert list(response.outputs["title"].string_val) == [b"HEAT", b"UNKNOWN"]


def test_predict_runs_the_signature_asked_for(stub):
    response = stub.Predict(_request(signature="double", x=np.float32([1.5])), timeout=10)
    assert response.model_spec.signature_name == "double"
    assert list(response.outputs["twice"].float_val) == [3.0]


def test_output_filter(stub):
    response = stub.Predict(_rank(outputs=["next"]), timeout=10)
    assert list(response.outputs) == ["next"]


def test_concurrent_requests_get_their_own_answers(stub):
    def ask(number):
        request = _request(signature="double", x=np.float32([number]))
        return stub.Predict(request, timeout=20).outputs["twice"].float_val[0]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(300))) == [2.0 * number for number in range(300)]


def test_request_beyond_the_default_size_limit_of_grpc(server):
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    values = np.arange(2_000_000, dtype=np.float32)
    with grpc.insecure_channel(server.grpc_address, options) as channel:
        stub = PredictionServiceStub(channel)
        response = stub.Predict(_request(signature="double", x=values), timeout=20)
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["twice"]), 2 * values)


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (_rank(name="other"), "NOT_FOUND", "model 'other' is not served here"),
        (_rank(name=""), "INVALID_ARGUMENT", "model_spec.name is missing"),
        (_rank(version=11), "NOT_FOUND", "version 11 of model 'ranker' is not served"),
        (_rank(label="stable"), "INVALID_ARGUMENT", "version label 'stable' is unknown"),
        (_rank(signature="rank"), "NOT_FOUND", "signature 'rank' not found"),
        (_rank(colour=1), "INVALID_ARGUMENT", "unexpected inputs ['colour']"),
        (_request(user_id=[1]), "INVALID_ARGUMENT", "missing inputs ['age', 'item_id']"),
        (_rank(user_id=[1.0, 2.0]), "INVALID_ARGUMENT", "expected dtype int64; received float32"),
        (_rank(user_id=np.array([[1]])), "INVALID_ARGUMENT", "(None,); received (1, 1)"),
        (_rank(outputs=["rank"]), "INVALID_ARGUMENT", "output filter ['rank']"),
        (_rank(user_id=np.array([1, 2, 3])), "INVALID_ARGUMENT", "'serving_default' of model"),
    ],
)
def test_bad_requests_get_their_code(stub, request_, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request_, timeout=10)
    assert caught.value.code() == grpc.StatusCode[code]
    assert message in caught.value.details()


def test_malformed_tensor(stub):
    request = _request(signature="double", x=np.float32([1, 2]))
    request.inputs["x"].tensor_content = b"abc"
    with pytest.raises(grpc.RpcError, match="not a well-formed TensorProto") as caught:
        stub.Predict(request, timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_long_messages_are_cut(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(_rank(**{"x" * 20_000: 1}), timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert len(caught.value.details()) == 1024
    assert caught.value.details().endswith(" ... [truncated]")


def test_calls_that_are_not_served_say_so(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Classify(ClassificationRequest(), timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def _metadata_request(name="ranker", fields=("signature_def",)):
    request = GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    return request


def test_metadata_holds_the_signatures(stub):
    response = stub.GetModelMetadata(_metadata_request(), timeout=10)
    assert response.model_spec.name == "ranker"
    assert response.model_spec.version.value == 12
    signatures = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    age = signatures.signature_def["serving_default"].inputs["age"]
    assert tf.as_dtype(age.dtype) == tf.float32
    assert [dim.size for dim in age.tensor_shape.dim] == [-1, 2]
    method = signatures.signature_def["double"].method_name
    assert method == "tensorflow/serving/predict"


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (_metadata_request(name="other"), "NOT_FOUND", "model 'other' is not served here"),
        (_metadata_request(fields=()), "INVALID_ARGUMENT", "['signature_def']; received []"),
        (_metadata_request(fields=["assets"]), "INVALID_ARGUMENT", "received ['assets']"),
    ],
)
def test_bad_metadata_requests_get_their_code(stub, request_, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetModelMetadata(request_, timeout=10)
    assert caught.value.code() == grpc.StatusCode[code]
    assert message in caught.value.details()
