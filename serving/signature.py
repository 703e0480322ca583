"""One signature of a SavedModel: the tensors it takes and returns, and the check of a request."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from tfmtl.serving.serving_error import ServingError


@dataclass(frozen=True)
class Signature:
    """The named inputs and outputs of one signature.

    Args:
        name: Name of the signature, such as `serving_default`.
        definition: The signature as the SavedModel holds it.
        inputs: Input name to dtype and shape.
        outputs: Output name to dtype and shape.

    Example:
        >>> definition = SignatureDef()
        >>> definition.inputs["x"].dtype = tf.float32.as_datatype_enum
        >>> _ = definition.inputs["x"].tensor_shape.dim.add(size=-1)
        >>> signature = Signature.from_definition("serving_default", definition)
        >>> signature.inputs["x"].shape, signature.inputs["x"].dtype
        (TensorShape([None]), tf.float32)
    """

    name: str
    definition: SignatureDef
    inputs: Mapping[str, tf.TensorSpec]
    outputs: Mapping[str, tf.TensorSpec]

    @classmethod
    def from_definition(cls, name: str, definition: SignatureDef) -> Signature:
        """Returns the signature `name` that `definition` describes."""
        return cls(name, definition, _specs(definition.inputs), _specs(definition.outputs))

    def check_names(self, names: Collection[str]) -> None:
        """Checks that `names` are the signature's inputs, neither fewer nor more.

        Raises:
            ServingError: `INVALID_ARGUMENT`, naming the missing and the unexpected inputs.
        """
        missing = sorted(self.inputs.keys() - set(names))
        unexpected = sorted(set(names) - self.inputs.keys())
        if missing or unexpected:
            expected = ", ".join(
                f"{name} ({spec.dtype.name} {spec.shape})"
                for name, spec in sorted(self.inputs.items())
            )
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"signature {self.name!r}: missing inputs {missing}, "
                f"unexpected inputs {unexpected}; expected {expected}",
            )

    def tensors(self, inputs: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
        """Returns the tensors to run, once their names, dtypes and shapes fit the signature.

        Args:
            inputs: Input name to array. Strings are arrays of bytes or of text.

        Returns:
            Input name to tensor, complete.

        Raises:
            ServingError: `INVALID_ARGUMENT`, naming the input, what it got and what it expects.
        """
        self.check_names(inputs)
        return {name: self._tensor(name, np.asarray(value)) for name, value in inputs.items()}

    def check_outputs(self, names: Iterable[str]) -> list[str]:
        """Returns the outputs asked for: `names`, or all when there are none.

        Raises:
            ServingError: `INVALID_ARGUMENT` for an unknown or repeated output.
        """
        chosen = list(names) or list(self.outputs)
        unknown = sorted(set(chosen) - self.outputs.keys())
        if unknown or len(set(chosen)) < len(chosen):
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"signature {self.name!r}: output filter {chosen} must name each output once, out "
                f"of {sorted(self.outputs)}",
            )
        return chosen

    def _tensor(self, name: str, value: np.ndarray) -> tf.Tensor:
        spec = self.inputs[name]
        dtype = tf.as_dtype(value.dtype)
        if dtype != spec.dtype:
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"input {name!r} of signature {self.name!r}: expected dtype {spec.dtype.name}; "
                f"received {dtype.name}",
            )
        if not spec.shape.is_compatible_with(value.shape):
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"input {name!r} of signature {self.name!r}: expected shape {spec.shape}; "
                f"received {value.shape}",
            )
        try:
            return tf.convert_to_tensor(value, spec.dtype)
        except (TypeError, ValueError) as error:
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"input {name!r} of signature {self.name!r}: expected {spec.dtype.name} values; "
                f"received {value.flat[0]!r}: {error}",
            ) from error


def _specs(infos: Mapping[str, TensorInfo]) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype), name)
        for name, info in sorted(infos.items())
    }
