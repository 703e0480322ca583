import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf

from tfmtl.serving import PredictionClient, PredictionError

LISTS = {"user_id": [3, 5], "item_id": ["heat", "unknown"], "age": [[2, 1], [0.5, 10]]}


@pytest.fixture(scope="module")
def client(server):
    with PredictionClient(server.grpc_address, "ranker", timeout_s=20) as client:
        yield client


def test_lists_are_sent_in_the_dtypes_of_the_signature(client):
    outputs = client.predict(LISTS)
    np.testing.assert_array_equal(outputs["click"], np.float32([7.25, 12.5]))
    np.testing.assert_array_equal(outputs["title"], [b"HEAT", b"UNKNOWN"])
    np.testing.assert_array_equal(outputs["next"], np.array([4, 6], np.int64))


def test_arrays_of_the_same_kind_are_converted(client):
    inputs = {
        "user_id": np.array([3, 5], np.int32),
        "item_id": np.array([b"heat", b"unknown"], object),
        "age": np.array([[2, 1], [0.5, 10]], np.float64),
    }
    np.testing.assert_array_equal(client.predict(inputs)["click"], np.float32([7.25, 12.5]))


def test_other_signature(client):
    np.testing.assert_array_equal(client.predict({"x": [1, 2]}, "double")["twice"], [2.0, 4.0])


def test_empty_batch(client):
    outputs = client.predict({"user_id": [], "item_id": [], "age": np.zeros([0, 2])})
    assert {name: array.shape for name, array in outputs.items()} == {
        "click": (0,),
        "title": (0,),
        "next": (0,),
    }


def test_threads_may_share_a_client(client):
    def ask(number):
        return client.predict({"x": [number]}, "double")["twice"][0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(100))) == [2.0 * number for number in range(100)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": ["3", "5"]}, "input 'user_id': expected int64 values; received <U1"),
        ({"user_id": [3.0, 5.0]}, "input 'user_id': expected int64 values; received float64"),
        ({"item_id": [3, 5]}, "input 'item_id': expected string values; received int64"),
        ({"age": [[1, 2], [3]]}, "input 'age': .*inhomogeneous"),
        ({"colour": [1, 2]}, r"model 'ranker' at .*unexpected inputs \['colour'\]"),
        ({"user_id": [1, 2, 3]}, "model 'ranker' at .*failed"),
    ],
)
def test_values_that_do_not_fit_are_refused(client, change, message):
    with pytest.raises(PredictionError, match=f"^INVALID_ARGUMENT: .*{message}") as caught:
        client.predict({**LISTS, **change})
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_whole_numbers_that_do_not_fit_are_refused(client, value):
    inputs = {"flag": [True], "count": [value], "weight": [1], "level": [1]}
    with pytest.raises(PredictionError, match="'count': expected values between -2147483648 and"):
        client.predict(inputs, "kinds")


def test_unknown_signature(client):
    with pytest.raises(PredictionError, match=r"^NOT_FOUND: .*signature 'rank' not found"):
        client.predict(LISTS, "rank")


def test_unknown_model(server):
    with (
        PredictionClient(server.grpc_address, "other") as client,
        pytest.raises(PredictionError, match=r"^NOT_FOUND: model 'other' at .* is not served"),
    ):
        client.predict(LISTS)


def test_refusal_makes_the_client_read_the_signature_again(server):
    with PredictionClient(server.grpc_address, "ranker") as client:
        client.predict({"x": [1]}, "double")
        # As if an older version had taken whole numbers.
        client._dtypes["double"] = {"x": tf.int64}
        with pytest.raises(PredictionError, match="expected dtype float32; received int64"):
            client.predict({"x": [1]}, "double")
        assert client.predict({"x": [1]}, "double")["twice"] == [2.0]


def test_server_that_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    with (
        PredictionClient(address, "ranker") as client,
        pytest.raises(PredictionError, match=f"^UNAVAILABLE: .*{address} cannot be reached"),
    ):
        client.predict(LISTS)


def test_server_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            PredictionClient(address, "ranker", timeout_s=0.2) as client,
            pytest.raises(PredictionError, match=r"did not answer within 0\.2 s; raise timeout_s"),
        ):
            client.predict(LISTS)


def test_timeout_must_be_positive():
    with pytest.raises(ValueError, match="timeout_s: expected a positive number; received 0"):
        PredictionClient("127.0.0.1:8500", "ranker", timeout_s=0)
