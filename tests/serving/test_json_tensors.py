import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from tfmtl.serving import ServingError, Signature
from tfmtl.serving.json_tensors import decode_inputs, encode_outputs, parse_object


def _signature(**inputs):
    definition = SignatureDef()
    for name, (dtype, shape) in inputs.items():
        definition.inputs[name].dtype = dtype.as_datatype_enum
        definition.inputs[name].tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return Signature.from_definition("serving_default", definition)


BOTH = _signature(tag=(tf.string, [None]), signal=(tf.float32, [None, 3]))


def _decode_one(dtype, values):
    return decode_inputs({"inputs": {"x": values}}, _signature(x=(dtype, [None])))["x"]


@pytest.mark.parametrize(
    "document",
    [
        {"instances": [{"tag": "a", "signal": [1, 2, 3]}, {"tag": "b", "signal": [4, 5.5, -6]}]},
        {"inputs": {"tag": ["a", "b"], "signal": [[1, 2, 3], [4, 5.5, -6]]}},
    ],
)
def test_rows_and_columns_say_the_same(document):
    inputs = decode_inputs(document, BOTH)
    assert inputs["tag"].tolist() == [b"a", b"b"]
    np.testing.assert_array_equal(inputs["signal"], np.float32([[1, 2, 3], [4, 5.5, -6]]))
    assert inputs["signal"].dtype == np.float32


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_single_input_needs_no_name(key):
    inputs = decode_inputs({key: [[1, 2], [3, 4]]}, _signature(x=(tf.int64, [None, 2])))
    np.testing.assert_array_equal(inputs["x"], np.array([[1, 2], [3, 4]], np.int64))


def test_single_string_input_takes_base64_rows():
    document = {"instances": [{"b64": "/wA="}, "é"]}
    inputs = decode_inputs(document, _signature(x=(tf.string, [None])))
    assert inputs["x"].tolist() == [b"\xff\x00", "é".encode()]


def test_scalar_by_column():
    inputs = decode_inputs({"inputs": 2.5}, _signature(x=(tf.float32, [])))
    assert inputs["x"].shape == ()
    assert inputs["x"] == 2.5


def test_empty_list_is_an_empty_batch():
    assert _decode_one(tf.float32, []).shape == (0,)
    assert _decode_one(tf.string, []).shape == (0,)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (tf.bool, [True, False]),
        (tf.int8, [-128, 127]),
        (tf.uint8, [0, 255]),
        (tf.int32, [-(2**31), 2**31 - 1]),
        (tf.int64, [-(2**63), 2**63 - 1]),
        (tf.uint64, [0, 2**64 - 1]),
        (tf.float32, [2**24 - 1, -0.5]),
        (tf.float32, [float("inf"), float("-inf")]),
        (tf.float64, [2**53 - 1, 1e300]),
    ],
)
def test_values_are_kept_in_the_dtype_of_the_signature(dtype, values):
    array = _decode_one(dtype, values)
    assert array.dtype == dtype.as_numpy_dtype
    assert array.tolist() == values


@pytest.mark.parametrize(
    ("dtype", "value", "shown"),
    [
        (tf.bool, 1, "1"),
        (tf.int64, 1.0, "1.0"),
        (tf.int64, True, "true"),
        (tf.int64, "1", '"1"'),
        (tf.int64, 2**63, "9223372036854775808"),
        (tf.int8, 128, "128"),
        (tf.uint8, -1, "-1"),
        (tf.int32, 2**31, "2147483648"),
        (tf.float32, 2**24, "16777216"),
        (tf.float32, 1e39, r"1e\+39"),
        (tf.float32, False, "false"),
        (tf.float32, None, "null"),
        (tf.float32, {"b64": "AA=="}, '{"b64": "AA=="}'),
        (tf.float64, 2**53, "9007199254740992"),
    ],
)
def test_values_that_the_dtype_cannot_hold_are_refused(dtype, value, shown):
    message = f"input 'x': expected values that {dtype.name} holds without loss; received {shown}$"
    with pytest.raises(ServingError, match=message) as caught:
        _decode_one(dtype, [value])
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "expected a string or .*; received 7"),
        ({"b64": "?"}, "cannot decode .*b64"),
        ({"b64": 7}, "expected a string or .*b64"),
        ("\ud800", "cannot decode .*surrogates"),
    ],
)
def test_strings_that_are_none_are_refused(value, message):
    with pytest.raises(ServingError, match=message):
        _decode_one(tf.string, [value])


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, r"exactly one of the keys 'instances' and 'inputs'; received \[\]"),
        ({"instances": [1], "inputs": [1]}, r"exactly one of .*\['inputs', 'instances'\]"),
        ({"instances": []}, r"expected a list of at least one row; received \[\]"),
        ({"instances": {"tag": "a"}}, "expected a list of at least one row"),
        ({"instances": ["a"]}, "values without names need a signature with one input"),
        ({"inputs": ["a"]}, r"one input; 'serving_default' has \['signal', 'tag'\]"),
        (
            {"instances": [{"tag": "a", "signal": [1, 2, 3]}, "b"]},
            r"'instances'\[1\]: expected an object; received \"b\"",
        ),
        (
            {"instances": [{"tag": "a", "signal": [1, 2, 3]}, {"tag": "b"}]},
            r"'instances'\[1\]: .*missing inputs \['signal'\], unexpected inputs \[\]",
        ),
        ({"inputs": {"tag": ["a"], "hue": [1]}}, r"missing inputs \['signal'\].*\['hue'\]"),
        (
            {"inputs": {"tag": ["a"], "signal": [[1, 2, 3], [4, 5]]}},
            r"input 'signal': expected lists of equal length \(3\).*received \[4, 5\]",
        ),
        (
            {"inputs": {"tag": ["a"], "signal": [[1, 2, 3], 4]}},
            r"expected lists of equal length \(3\).*received 4",
        ),
        (
            {"inputs": {"tag": ["a"], "signal": [1, [2]]}},
            r"expected values that float32 holds without loss; received \[2\]",
        ),
    ],
)
def test_malformed_requests_are_refused(document, message):
    with pytest.raises(ServingError, match=message) as caught:
        decode_inputs(document, BOTH)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_dtype_without_json_form():
    with pytest.raises(ServingError, match="JSON has no form for dtype float16") as caught:
        _decode_one(tf.float16, [1])
    assert caught.value.code == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON parse error: Expecting value"),
        (b'{"instances": [1,]}', "JSON parse error"),
        (b'{"instances": "\xff"}', "JSON parse error: .*utf-8"),
        (b"[" * 100_000, "JSON parse error: .*recursion"),
        (b"[1]", r"expected a JSON object with 'instances' or 'inputs'; received \[1\]"),
    ],
)
def test_bodies_that_are_no_json_object_are_refused(body, message):
    with pytest.raises(ServingError, match=message):
        parse_object(body)


def test_long_values_are_cut_in_messages():
    with pytest.raises(ServingError, match=r'received "aaaa[a]+ \.\.\.$') as caught:
        _decode_one(tf.int64, ["a" * 1000])
    assert len(str(caught.value)) < 200


def test_several_outputs_by_row_and_by_column():
    outputs = {
        "click": np.float32([0.1, 0.25]),
        "top": np.array([[1, 2], [3, 4]], np.int64),
        "title": np.array([b"a", "é".encode()], object),
        "raw_bytes": np.array([b"\xff", b""], object),
    }
    assert json.loads(encode_outputs(outputs, by_row=True)) == {
        "predictions": [
            {"click": 0.1, "top": [1, 2], "title": "a", "raw_bytes": {"b64": "/w=="}},
            {"click": 0.25, "top": [3, 4], "title": "é", "raw_bytes": {"b64": ""}},
        ]
    }
    assert json.loads(encode_outputs(outputs, by_row=False)) == {
        "outputs": {
            "click": [0.1, 0.25],
            "top": [[1, 2], [3, 4]],
            "title": ["a", "é"],
            "raw_bytes": [{"b64": "/w=="}, {"b64": ""}],
        }
    }


def test_single_output_has_no_name():
    outputs = {"p": np.float32([[0.1], [1 / 3]])}
    assert encode_outputs(outputs, by_row=True) == b'{"predictions": [[0.1], [0.33333334]]}'
    assert encode_outputs(outputs, by_row=False) == b'{"outputs": [[0.1], [0.33333334]]}'


def test_single_string_output_keeps_its_shape():
    outputs = {"s": np.array([[b"a", b"b"]], object)}
    assert encode_outputs(outputs, by_row=False) == b'{"outputs": [["a", "b"]]}'


def test_numbers_that_json_lacks_are_written_as_tokens():
    outputs = {"p": np.float32([np.nan, np.inf, -np.inf])}
    assert encode_outputs(outputs, by_row=True) == b'{"predictions": [NaN, Infinity, -Infinity]}'


def test_float_answers_read_back_exactly():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    answer = json.loads(encode_outputs({"p": values}, by_row=True))["predictions"]
    np.testing.assert_array_equal(np.float32(answer), values)


@pytest.mark.parametrize("total", [np.float32(3), np.float32([3])])
def test_rows_need_one_leading_dimension(total):
    with pytest.raises(ServingError, match=r"one leading dimension in common.*by column"):
        encode_outputs({"a": np.float32([1, 2]), "total": total}, by_row=True)


def test_text_output_must_be_utf8():
    with pytest.raises(ServingError, match="let the model name it 'title_bytes'") as caught:
        encode_outputs({"title": np.array([b"\xff"], object)}, by_row=True)
    assert caught.value.code == grpc.StatusCode.INTERNAL
