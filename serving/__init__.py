"""Answers requests: a local server that speaks TF Serving's gRPC and REST, and its client."""

try:
    from tfmtl.serving.client import PredictionClient
    from tfmtl.serving.model_load_error import ModelLoadError
    from tfmtl.serving.model_repository import ModelRepository
    from tfmtl.serving.model_server import ModelServer
    from tfmtl.serving.model_service import ModelService
    from tfmtl.serving.port_in_use_error import PortInUseError
    from tfmtl.serving.prediction_error import PredictionError
    from tfmtl.serving.prediction_service import PredictionService
    from tfmtl.serving.rest_app import build_rest_app
    from tfmtl.serving.servable_model import ServableModel
    from tfmtl.serving.serving_error import ServingError
    from tfmtl.serving.signature import Signature
except ModuleNotFoundError as error:
    if error.name and error.name.partition(".")[0] == "tfmtl":
        raise
    raise ImportError(
        f"tfmtl.serving needs {error.name}, which is not installed: pip install 'tfmtl[serving]'"
    ) from error

__all__ = [
    "ModelLoadError",
    "ModelRepository",
    "ModelServer",
    "ModelService",
    "PortInUseError",
    "PredictionClient",
    "PredictionError",
    "PredictionService",
    "ServableModel",
    "ServingError",
    "Signature",
    "build_rest_app",
]
