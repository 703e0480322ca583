"""TF Serving's REST protocol as an ASGI application."""

from __future__ import annotations

from typing import Any

import grpc
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec

from tfmtl.serving.json_tensors import ROWS, decode_inputs, encode_outputs, parse_object
from tfmtl.serving.model_repository import ModelRepository
from tfmtl.serving.servable_model import ServableModel
from tfmtl.serving.serving_error import ServingError

_HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
_VERSIONS = ("", "/versions/{version:int}", "/labels/{label}")


def build_rest_app(repository: ModelRepository) -> FastAPI:
    """Returns the application that answers REST requests for the model of `repository`.

    `POST /v1/models/NAME[/versions/V]:predict` predicts, `GET /v1/models/NAME[/versions/V]` tells
    the status and `GET /v1/models/NAME[/versions/V]/metadata` the signatures. Errors are
    `{"error": message}` with the HTTP status that TF Serving gives to their code.

    Args:
        repository: Where requests find their model.

    Deviations from TF Serving:
        * By column, an input that the signature does not have is refused; TF Serving ignores it.
    """
    # The protocol documents itself; generated pages would be more than TF Serving answers.
    app = FastAPI(openapi_url=None)

    async def predict(request: Request) -> Response:
        body = await request.body()
        spec = _model_spec(request)
        return await run_in_threadpool(_predict, repository, spec, body)

    def status(request: Request) -> Response:
        return JSONResponse(_status(repository.find(_model_spec(request))))

    def metadata(request: Request) -> Response:
        return JSONResponse(_metadata(repository.find(_model_spec(request))))

    for version in _VERSIONS:
        path = f"/v1/models/{{name}}{version}"
        app.add_api_route(f"{path}:predict", predict, methods=["POST"], response_model=None)
        app.add_api_route(f"{path}/metadata", metadata, methods=["GET"], response_model=None)
        app.add_api_route(path, status, methods=["GET"], response_model=None)
    app.add_exception_handler(ServingError, _answer_serving_error)
    app.add_exception_handler(404, _answer_unknown_path)
    app.add_exception_handler(405, _answer_unknown_path)
    app.add_exception_handler(Exception, _answer_failure)
    return app


def _predict(repository: ModelRepository, spec: ModelSpec, body: bytes) -> Response:
    model = repository.find(spec)
    document = parse_object(body)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise ServingError(
            grpc.StatusCode.INVALID_ARGUMENT, f"'signature_name': expected a string; got {name!r}"
        )
    inputs = decode_inputs(document, model.signature(name))
    answer = encode_outputs(model.predict(inputs, name), by_row=ROWS in document)
    return Response(answer, media_type="application/json")


def _model_spec(request: Request) -> ModelSpec:
    spec = ModelSpec(name=request.path_params["name"])
    version = request.path_params.get("version")
    if version is not None:
        try:
            spec.version.value = version
        except ValueError as error:
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT, f"version {version} is no 64-bit number"
            ) from error
    if "label" in request.path_params:
        spec.version_label = request.path_params["label"]
    return spec


def _status(model: ServableModel) -> dict[str, Any]:
    return {
        "model_version_status": [
            {
                "version": str(model.version),
                "state": ModelVersionStatus.State.Name(ModelVersionStatus.AVAILABLE),
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def _metadata(model: ServableModel) -> dict[str, Any]:
    signatures = {name: _signature(value) for name, value in sorted(model.definitions.items())}
    return {
        "model_spec": {
            "name": model.name,
            "signature_name": "",
            "version": str(model.version),
        },
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _signature(definition: SignatureDef) -> dict[str, Any]:
    return {
        "inputs": {name: _tensor(info) for name, info in sorted(definition.inputs.items())},
        "outputs": {name: _tensor(info) for name, info in sorted(definition.outputs.items())},
        "method_name": definition.method_name,
    }


def _tensor(info: TensorInfo) -> dict[str, Any]:
    shape = info.tensor_shape
    return {
        "dtype": DataType.Name(info.dtype),
        "tensor_shape": {
            # 64-bit numbers are strings in the JSON form of protocol buffers.
            "dim": [{"size": str(dim.size), "name": dim.name} for dim in shape.dim],
            "unknown_rank": shape.unknown_rank,
        },
        "name": info.name,
    }


def _answer_serving_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    return JSONResponse({"error": str(error)}, _HTTP_STATUS.get(error.code, 500))


def _answer_unknown_path(request: Request, error: Exception) -> Response:
    # TF Serving calls a path under /v1/ that it does not know malformed rather than not found.
    status = 400 if request.url.path.startswith("/v1/") else 404
    message = f"Malformed request: {request.method} {request.url.path}"
    return JSONResponse({"error": message}, status)


def _answer_failure(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"internal error: {type(error).__name__}"}, 500)
