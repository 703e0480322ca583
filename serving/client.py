"""A client of any server that speaks TF Serving's gRPC protocol."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

import grpc
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    SignatureDefMap,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from tfmtl.serving.prediction_error import PredictionError

_SIGNATURES = "signature_def"
_OPTIONS = (
    # A web proxy named in the environment does not carry gRPC without TLS.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class PredictionClient:
    """Asks one model for predictions over a connection that is kept open.

    Values are sent in the dtypes of the model's signature, which the client reads once per
    signature: lists of Python numbers and strings are accepted as they are. Threads may share a
    client. Close it, or use it as a context manager.

    Args:
        address: The server's gRPC address, `host:port`.
        model_name: Name of the model on that server.
        timeout_s: Deadline of each prediction in seconds, connecting included.

    Example:
        >>> with PredictionClient("127.0.0.1:1", "ranker", timeout_s=5) as client:
        ...     client.predict({"user_id": [7]})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        tfmtl.serving.prediction_error.PredictionError: UNAVAILABLE: ...
    """

    def __init__(self, address: str, model_name: str, timeout_s: float = 10) -> None:
        if timeout_s <= 0:
            raise ValueError(f"timeout_s: expected a positive number; received {timeout_s}")
        self.address = address
        self.model_name = model_name
        self.timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stub = PredictionServiceStub(self._channel)
        self._dtypes: dict[str, dict[str, tf.DType]] = {}

    def predict(
        self, inputs: Mapping[str, ArrayLike], signature_name: str = "serving_default"
    ) -> dict[str, np.ndarray]:
        """Returns the model's outputs for one batch.

        Args:
            inputs: Input name to values, with the leading dimension that the signature expects.
            signature_name: Which signature to run.

        Returns:
            Output name to array; strings are object arrays of bytes.

        Raises:
            PredictionError: If the values do not fit, the server refuses them, or it does not
                answer in time.
        """
        deadline = time.monotonic() + self.timeout_s
        try:
            dtypes = self._signature_dtypes(signature_name, deadline)
            request = PredictRequest(
                inputs={
                    name: _encode(name, value, dtypes.get(name)) for name, value in inputs.items()
                }
            )
            request.model_spec.name = self.model_name
            request.model_spec.signature_name = signature_name
            response = self._stub.Predict(request, timeout=deadline - time.monotonic())
        except grpc.RpcError as error:
            # The refusal may be due to a signature that changed with the model's version.
            self._dtypes.pop(signature_name, None)
            raise PredictionError(error.code(), self._explain(error)) from error
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def close(self) -> None:
        """Closes the connection; running predictions are cancelled."""
        self._channel.close()

    def __enter__(self) -> PredictionClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _signature_dtypes(self, signature_name: str, deadline: float) -> dict[str, tf.DType]:
        if signature_name in self._dtypes:
            return self._dtypes[signature_name]
        request = GetModelMetadataRequest(metadata_field=[_SIGNATURES])
        request.model_spec.name = self.model_name
        response = self._stub.GetModelMetadata(request, timeout=deadline - time.monotonic())
        signatures = SignatureDefMap()
        response.metadata[_SIGNATURES].Unpack(signatures)
        if signature_name not in signatures.signature_def:
            # The server is asked all the same, and refuses in its own words.
            return {}
        infos = signatures.signature_def[signature_name].inputs
        dtypes = {name: tf.as_dtype(info.dtype) for name, info in infos.items()}
        self._dtypes[signature_name] = dtypes
        return dtypes

    def _explain(self, error: grpc.RpcError) -> str:
        target = f"model {self.model_name!r} at {self.address}"
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"{target} did not answer within {self.timeout_s} s; raise timeout_s"
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            return f"{target} cannot be reached ({error.details()}); is the server running?"
        return f"{target}: {error.details()}"


def _encode(name: str, value: ArrayLike, dtype: tf.DType | None) -> TensorProto:
    try:
        array = np.asarray(value)
        if dtype is not None:
            array = _cast(array, dtype)
        return tf.make_tensor_proto(array)
    except (TypeError, ValueError) as error:
        raise PredictionError(
            grpc.StatusCode.INVALID_ARGUMENT, f"input {name!r}: {error}"
        ) from error


def _cast(array: np.ndarray, dtype: tf.DType) -> np.ndarray:
    target = np.dtype(dtype.as_numpy_dtype)
    if array.dtype == target:
        return array
    if array.size and not np.can_cast(array.dtype, target, "same_kind"):
        raise TypeError(f"expected {dtype.name} values; received {array.dtype}")
    if dtype == tf.string:
        if array.size and array.dtype.kind not in "SUO":
            raise TypeError(f"expected string values; received {array.dtype}")
        return array.astype(object)
    cast = array.astype(target)
    if dtype.is_integer and not np.array_equal(cast, array):
        raise ValueError(f"expected values between {dtype.min} and {dtype.max}")
    return cast
