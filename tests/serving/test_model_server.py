import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tfmtl.serving import (
    ModelLoadError,
    ModelServer,
    PortInUseError,
    PredictionClient,
    PredictionError,
    ServableModel,
)

INPUTS = {"user_id": [3], "item_id": ["heat"], "age": [[2.0, 1.0]]}


def _accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _post(server):
    answer = httpx.post(f"{server.rest_url}:predict", json={"inputs": INPUTS}, trust_env=False)
    return answer.json()["outputs"]["click"]


def _ask(server):
    with PredictionClient(server.grpc_address, server.name, timeout_s=20) as client:
        return client.predict(INPUTS)["click"].tolist()


def test_server_answers_until_stopped_and_may_start_again(base_path):
    server = ModelServer("ranker", base_path, grpc_port=0, rest_port=0)
    assert (server.grpc_port, server.rest_port) == (0, 0)
    for _ in range(2):
        server.start()
        ports = (server.grpc_port, server.rest_port)
        assert 0 not in ports
        assert server.grpc_address == f"127.0.0.1:{ports[0]}"
        assert server.rest_url == f"http://127.0.0.1:{ports[1]}/v1/models/ranker"
        assert _ask(server) == _post(server) == [7.25]
        assert not server.wait(timeout_s=0)
        server.stop()
        assert server.wait(timeout_s=0)
        assert not any(_accepts(port) for port in ports)
    server.stop()


def test_default_ports_are_those_of_tf_serving(base_path):
    server = ModelServer("ranker", base_path)
    assert (server.host, server.grpc_port, server.rest_port) == ("127.0.0.1", 8500, 8501)


def test_running_server_cannot_be_started_again(server):
    with pytest.raises(RuntimeError, match="running already; stop it first"):
        server.start()


@pytest.mark.parametrize("port", [-1, 65536])
def test_port_out_of_range(base_path, port):
    with pytest.raises(ValueError, match=f"between 0 and 65535; received {port}"):
        ModelServer("ranker", base_path, rest_port=port)


def test_grpc_port_in_use(server, base_path):
    message = f"gRPC port {server.grpc_port} of 127.0.0.1 is in use: stop .* or pass 0"
    with pytest.raises(PortInUseError, match=message) as caught:
        ModelServer("ranker", base_path, grpc_port=server.grpc_port, rest_port=0).start()
    assert isinstance(caught.value, OSError)
    assert caught.value.port == server.grpc_port


def test_rest_port_in_use(server, base_path):
    message = f"REST port {server.rest_port} of 127.0.0.1 is in use: stop .* or pass 0"
    with pytest.raises(PortInUseError, match=message):
        ModelServer("ranker", base_path, grpc_port=0, rest_port=server.rest_port).start()


def test_grpc_port_taken_while_the_model_loads(server, base_path, monkeypatch):
    other = ModelServer("ranker", base_path, grpc_port=0, rest_port=0)

    def load(*arguments):
        monkeypatch.setattr(other, "_grpc_port", server.grpc_port)

    monkeypatch.setattr("tfmtl.serving.model_server.ModelRepository", load)
    with pytest.raises(PortInUseError, match=f"gRPC port {server.grpc_port} of 127.0.0.1"):
        other.start()


def test_interface_that_is_not_there(base_path):
    with pytest.raises(OSError, match=r"cannot listen for REST on 203\.0\.113\.1:0: ") as caught:
        ModelServer("ranker", base_path, host="203.0.113.1", grpc_port=0, rest_port=0).start()
    assert not isinstance(caught.value, PortInUseError)


def test_failed_start_frees_the_ports(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
        ports = {"grpc_port": one.getsockname()[1], "rest_port": two.getsockname()[1]}
    with pytest.raises(ModelLoadError, match="holds no version"):
        ModelServer("ranker", tmp_path, **ports).start()
    assert not any(_accepts(port) for port in ports.values())


def test_rest_answers_do_not_wait_for_acknowledgements(base_path, monkeypatch):
    listeners = []
    create_server = socket.create_server

    def record(*arguments, **options):
        listeners.append(create_server(*arguments, **options))
        return listeners[-1]

    monkeypatch.setattr(socket, "create_server", record)
    with ModelServer("ranker", base_path, grpc_port=0, rest_port=0):
        assert listeners[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("ask", [_ask, _post])
def test_stop_lets_running_requests_end(base_path, monkeypatch, ask):
    entered, release = threading.Event(), threading.Event()
    predict = ServableModel.predict

    def slow_predict(*arguments):
        entered.set()
        assert release.wait(20)
        return predict(*arguments)

    monkeypatch.setattr(ServableModel, "predict", slow_predict)
    server = ModelServer("ranker", base_path, grpc_port=0, rest_port=0)
    server.start()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(ask, server)
        assert entered.wait(20)
        stopping = pool.submit(server.stop, 20)
        assert not server.wait(timeout_s=0.3)
        release.set()
        assert running.result() == [7.25]
        stopping.result()
    assert server.wait(timeout_s=0)


def test_stop_abandons_requests_after_the_grace_period(base_path, monkeypatch):
    entered, release = threading.Event(), threading.Event()

    def stuck_predict(*arguments):
        entered.set()
        release.wait(20)

    monkeypatch.setattr(ServableModel, "predict", stuck_predict)
    server = ModelServer("ranker", base_path, grpc_port=0, rest_port=0)
    server.start()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(_ask, server)
        assert entered.wait(20)
        server.stop(grace_s=0.1)
        with pytest.raises(PredictionError, match=r"UNAVAILABLE|CANCELLED"):
            running.result()
        release.set()


_SCRIPT = """
import logging, sys
from tfmtl.serving import ModelServer

logging.basicConfig(level=logging.INFO)
server = ModelServer("ranker", sys.argv[1], grpc_port=0, rest_port=0)
for _ in range(2):
    server.serve_forever()
    assert server.wait(0)
    print("drained")
"""


def _read_until(stream, text):
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"the stream ended before {text!r}")


@pytest.mark.slow
def test_serve_forever_ends_well_on_a_signal(base_path):
    with subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(base_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for number in (signal.SIGTERM, signal.SIGINT):
            _read_until(process.stderr, "serving model 'ranker' over gRPC at 127.0.0.1:")
            process.send_signal(number)
            _read_until(process.stderr, f"received {number.name}: finishing the running requests")
            _read_until(process.stderr, "stopped serving model 'ranker'")
        output, _ = process.communicate(timeout=60)
    assert output == "drained\ndrained\n"
    assert process.returncode == 0
