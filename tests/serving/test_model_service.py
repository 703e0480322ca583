import grpc
import pytest
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, ModelVersionStatus
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub


@pytest.fixture(scope="module")
def stub(server):
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(server.grpc_address, options) as channel:
        yield ModelServiceStub(channel)


def _request(name="ranker", version=None):
    request = GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    return request


@pytest.mark.parametrize("version", [None, 12])
def test_served_version_is_available(stub, version):
    (status,) = stub.GetModelStatus(_request(version=version), timeout=10).model_version_status
    assert status.version == 12
    assert status.state == ModelVersionStatus.AVAILABLE
    assert status.HasField("status")
    assert status.status.error_code == 0


@pytest.mark.parametrize("request_", [_request("other"), _request(version=13)])
def test_unknown_model_or_version_is_not_found(stub, request_):
    with pytest.raises(grpc.RpcError, match="is not served") as caught:
        stub.GetModelStatus(request_, timeout=10)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_reload_is_not_served(stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.HandleReloadConfigRequest(ReloadConfigRequest(), timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
