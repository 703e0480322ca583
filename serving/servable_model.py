"""One version of a model, loaded from its SavedModel and ready to answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tfmtl.serving.model_load_error import ModelLoadError
from tfmtl.serving.serving_error import ServingError
from tfmtl.serving.signature import Signature

SAVED_MODEL_FILE = "saved_model.pb"
DEFAULT_SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY

_STATUS_BY_NUMBER = {status.value[0]: status for status in grpc.StatusCode}


class ServableModel:
    """A loaded SavedModel whose signatures are run by name.

    Nothing changes after loading, so any number of threads may call `predict` at once.

    Args:
        name: Name under which the model is asked.
        version: Version number.
        path: Folder of the SavedModel.

    Raises:
        ModelLoadError: If the folder holds no readable SavedModel with a signature.

    Example:
        >>> import tempfile
        >>> class Double(tf.Module):
        ...     @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        ...     def serve(self, x):
        ...         return {"twice": 2 * x}
        >>> module = Double()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tf.saved_model.save(module, folder, signatures=module.serve)
        ...     model = ServableModel("double", 1, folder)
        >>> model.predict({"x": np.float32([1, 2])})
        {'twice': array([2., 4.], dtype=float32)}
    """

    def __init__(self, name: str, version: int, path: str | Path) -> None:
        self.name = name
        self.version = version
        definitions = _signature_definitions(Path(path))
        try:
            # The functions hold their module weakly: dropping it would drop the variables.
            self._module = tf.saved_model.load(str(path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise ModelLoadError(f"cannot load the SavedModel in {path}: {error}") from error
        self._functions = dict(self._module.signatures)
        if not self._functions:
            raise ModelLoadError(
                f"the SavedModel in {path} has no signature to serve: save it with "
                "tf.saved_model.save(model, path, signatures=...)"
            )
        self.definitions: Mapping[str, SignatureDef] = definitions
        self.signatures: Mapping[str, Signature] = {
            key: Signature.from_definition(key, definitions[key]) for key in self._functions
        }

    def signature(self, name: str = "") -> Signature:
        """Returns the signature `name`, or `serving_default` for an empty name.

        Raises:
            ServingError: `NOT_FOUND`, naming the signatures there are.
        """
        key = name or DEFAULT_SIGNATURE
        if key not in self.signatures:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND,
                f"signature {key!r} not found in model {self.name!r} version {self.version}; "
                f"expected one of {sorted(self.signatures)}",
            )
        return self.signatures[key]

    def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str = DEFAULT_SIGNATURE,
        outputs: Iterable[str] = (),
    ) -> dict[str, np.ndarray]:
        """Runs one signature.

        Args:
            inputs: Input name to array, of the signature's dtypes and shapes.
            signature_name: Which signature to run; empty means `serving_default`.
            outputs: Names of the outputs to return, all when empty.

        Returns:
            Output name to array; strings are object arrays of bytes.

        Raises:
            ServingError: If the inputs do not fit the signature, or the model fails on them.
        """
        signature = self.signature(signature_name)
        chosen = signature.check_outputs(outputs)
        tensors = signature.tensors(inputs)
        try:
            answers = self._functions[signature.name](**tensors)
            return {name: answers[name].numpy() for name in chosen}
        except tf.errors.OpError as error:
            raise ServingError(
                _STATUS_BY_NUMBER.get(error.error_code, grpc.StatusCode.UNKNOWN),
                f"signature {signature.name!r} of model {self.name!r} failed: {error.message}",
            ) from error


def _signature_definitions(path: Path) -> dict[str, SignatureDef]:
    # tf.saved_model.load drops the definitions that GetModelMetadata answers with.
    file = path / SAVED_MODEL_FILE
    try:
        graphs = SavedModel.FromString(file.read_bytes()).meta_graphs
    except (OSError, DecodeError) as error:
        raise ModelLoadError(f"cannot read the SavedModel {file}: {error}") from error
    for graph in graphs:
        if tf.saved_model.SERVING in graph.meta_info_def.tags:
            return dict(graph.signature_def)
    raise ModelLoadError(
        f"the SavedModel {file} has no graph tagged {tf.saved_model.SERVING!r}: "
        "export it with tf.saved_model.save"
    )
