"""TF Serving's PredictionService over gRPC."""

import grpc
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceServicer

from tfmtl.serving.grpc_status import serving_errors
from tfmtl.serving.model_repository import ModelRepository
from tfmtl.serving.serving_error import ServingError
from tfmtl.serving.tensor_protos import decode_tensor, encode_tensor

_SIGNATURES = "signature_def"


class PredictionService(PredictionServiceServicer):
    """Answers `Predict` and `GetModelMetadata`; the other calls are `UNIMPLEMENTED`.

    Args:
        repository: Where requests find their model.

    Deviations from TF Serving:
        * An unknown signature is `NOT_FOUND`, like an unknown model or version; TF Serving says
          `FAILED_PRECONDITION`.
    """

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    def Predict(  # noqa: N802
        self, request: PredictRequest, context: grpc.ServicerContext
    ) -> PredictResponse:
        """Runs the signature that `request` names on its inputs."""
        with serving_errors(context):
            model = self._repository.find(request.model_spec)
            signature = model.signature(request.model_spec.signature_name)
            inputs = {name: decode_tensor(name, proto) for name, proto in request.inputs.items()}
            outputs = model.predict(inputs, signature.name, request.output_filter)
            response = PredictResponse(
                outputs={name: encode_tensor(array) for name, array in outputs.items()}
            )
            response.model_spec.name = model.name
            response.model_spec.version.value = model.version
            response.model_spec.signature_name = signature.name
            return response

    def GetModelMetadata(  # noqa: N802
        self, request: GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> GetModelMetadataResponse:
        """Returns the signature definitions of the model that `request` names."""
        with serving_errors(context):
            if set(request.metadata_field) != {_SIGNATURES}:
                raise ServingError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"metadata_field: expected [{_SIGNATURES!r}]; "
                    f"received {list(request.metadata_field)}",
                )
            model = self._repository.find(request.model_spec)
            response = GetModelMetadataResponse()
            response.model_spec.name = model.name
            response.model_spec.version.value = model.version
            response.metadata[_SIGNATURES].Pack(SignatureDefMap(signature_def=model.definitions))
            return response
