"""TF Serving's ModelService over gRPC."""

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
    ModelVersionStatus,
)
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceServicer

from tfmtl.serving.grpc_status import serving_errors
from tfmtl.serving.model_repository import ModelRepository


class ModelService(ModelServiceServicer):
    """Answers `GetModelStatus`; a reload request is `UNIMPLEMENTED`.

    Args:
        repository: Where requests find their model.
    """

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    def GetModelStatus(  # noqa: N802
        self, request: GetModelStatusRequest, context: grpc.ServicerContext
    ) -> GetModelStatusResponse:
        """Returns the state of the served version."""
        with serving_errors(context):
            model = self._repository.find(request.model_spec)
            status = ModelVersionStatus(version=model.version, state=ModelVersionStatus.AVAILABLE)
            # Touching the sub-message sets it: TF Serving sends an explicit OK.
            status.status.SetInParent()
            return GetModelStatusResponse(model_version_status=[status])
