"""Arrays to and from the tensors of the gRPC protocol."""

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto

from tfmtl.serving.serving_error import ServingError

_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


def decode_tensor(name: str, proto: TensorProto) -> np.ndarray:
    """Returns the array of input `name`; strings become an object array of bytes.

    Raises:
        ServingError: `INVALID_ARGUMENT` for a tensor whose shape, dtype and content disagree.

    Example:
        >>> decode_tensor("x", tf.make_tensor_proto([1, 2], tf.int64))
        array([1, 2])
    """
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise ServingError(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"input {name!r} is not a well-formed TensorProto: {error}",
        ) from error


def encode_tensor(array: np.ndarray) -> TensorProto:
    """Returns `array` as a tensor whose values lie in the typed field of its dtype.

    TF Serving answers so, and clients read `float_val` and the like directly;
    `tf.make_tensor_proto` would pack the bytes into `tensor_content`.

    Example:
        >>> list(encode_tensor(np.float32([0.5, 2])).float_val)
        [0.5, 2.0]
    """
    dtype = tf.as_dtype(array.dtype)
    if dtype not in _FIELDS:
        return tf.make_tensor_proto(array)
    proto = TensorProto(
        dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(array.shape).as_proto()
    )
    getattr(proto, _FIELDS[dtype]).extend(array.ravel().tolist())
    return proto
