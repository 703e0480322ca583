import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tfmtl.serving import ServingError
from tfmtl.serving.tensor_protos import decode_tensor, encode_tensor


@pytest.mark.parametrize(
    ("array", "field"),
    [
        (np.float32([[0.5, 1], [2, np.nan], [4, -np.inf]]), "float_val"),
        (np.float64([0.1]), "double_val"),
        (np.int8([-3, 4]), "int_val"),
        (np.uint16([3]), "int_val"),
        (np.int32([-3]), "int_val"),
        (np.int64([2**62, -1]), "int64_val"),
        (np.uint32([2**32 - 1]), "uint32_val"),
        (np.uint64([2**64 - 1]), "uint64_val"),
        (np.array([True, False]), "bool_val"),
        (np.array([b"a", b"\xff"], object), "string_val"),
        (np.zeros([0, 3], np.float32), "float_val"),
        (np.float32(7), "float_val"),
    ],
)
def test_values_lie_in_the_typed_field_and_read_back(array, field):
    proto = encode_tensor(array)
    assert len(getattr(proto, field)) == array.size
    assert not proto.tensor_content
    back = tf.make_ndarray(proto)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_half_precision_reads_back():
    array = np.float16([0.5, -2])
    np.testing.assert_array_equal(tf.make_ndarray(encode_tensor(array)), array)


def test_decode_reads_packed_content():
    proto = tf.make_tensor_proto(np.int64([[1, 2], [3, 4]]))
    assert proto.tensor_content
    np.testing.assert_array_equal(decode_tensor("x", proto), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "proto",
    [
        TensorProto(dtype=tf.float32.as_datatype_enum, tensor_content=b"abc"),
        TensorProto(dtype=99),
        TensorProto(
            dtype=tf.int64.as_datatype_enum,
            tensor_shape=tf.TensorShape([3]).as_proto(),
            tensor_content=np.int64([1, 2]).tobytes(),
        ),
    ],
)
def test_malformed_tensors_are_refused(proto):
    with pytest.raises(ServingError, match="input 'x' is not a well-formed TensorProto") as caught:
        decode_tensor("x", proto)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
