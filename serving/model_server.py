"""A local server that speaks TF Serving's protocol over gRPC and REST."""

from __future__ import annotations

import errno
import logging
import math
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import grpc
import uvicorn
from tensorflow_serving.apis.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    add_PredictionServiceServicer_to_server,
)

from tfmtl.serving.model_repository import ModelRepository
from tfmtl.serving.model_service import ModelService
from tfmtl.serving.port_in_use_error import PortInUseError
from tfmtl.serving.prediction_service import PredictionService
from tfmtl.serving.rest_app import build_rest_app

_LOGGER = logging.getLogger(__name__)

_GRPC_OPTIONS = (
    # Two servers would otherwise share the port and answer each other's requests.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class ModelServer:
    """Serves the newest version of one model over gRPC and REST until it is stopped.

    Requests run on threads of this process. As a context manager the server runs inside the
    `with` block.

    Args:
        name: Name under which the model is asked.
        base_path: Folder `BASE/<version>/saved_model.pb`.
        host: Interface to listen on. The default is reachable from this machine only; there is
            no authentication.
        grpc_port: Port of the gRPC services; 0 takes a free one.
        rest_port: Port of the REST service; 0 takes a free one.

    Raises:
        ValueError: If a port is not between 0 and 65535.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import tensorflow as tf
        >>> from tfmtl.serving import PredictionClient
        >>> class Double(tf.Module):
        ...     @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        ...     def serve(self, x):
        ...         return {"twice": 2 * x}
        >>> module = Double()
        >>> with tempfile.TemporaryDirectory() as base:
        ...     tf.saved_model.save(module, f"{base}/1", signatures=module.serve)
        ...     with ModelServer("double", base, grpc_port=0, rest_port=0) as server:
        ...         with PredictionClient(server.grpc_address, "double") as client:
        ...             client.predict({"x": [1, 2]})
        {'twice': array([2., 4.], dtype=float32)}
    """

    def __init__(
        self,
        name: str,
        base_path: str | Path,
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 8500,
        rest_port: int = 8501,
    ) -> None:
        for port in (grpc_port, rest_port):
            if not 0 <= port <= 65535:
                raise ValueError(f"expected a port between 0 and 65535; received {port}")
        self.name = name
        self.base_path = Path(base_path)
        self.host = host
        self._grpc_port = grpc_port
        self._rest_port = rest_port
        self._grpc: grpc.Server | None = None
        self._rest: uvicorn.Server | None = None
        self._rest_thread: threading.Thread | None = None
        self._bound_ports: tuple[int, int] | None = None
        self._stopped = threading.Event()

    @property
    def grpc_port(self) -> int:
        """Port of the gRPC services; the chosen one once a server with port 0 has started."""
        return self._bound_ports[0] if self._bound_ports else self._grpc_port

    @property
    def rest_port(self) -> int:
        """Port of the REST service; the chosen one once a server with port 0 has started."""
        return self._bound_ports[1] if self._bound_ports else self._rest_port

    @property
    def grpc_address(self) -> str:
        """Address for a gRPC channel, `host:port`."""
        return _address(self.host, self.grpc_port)

    @property
    def rest_url(self) -> str:
        """Address of the model's REST resource, `http://host:port/v1/models/NAME`."""
        return f"http://{_address(self.host, self.rest_port)}/v1/models/{self.name}"

    def start(self) -> None:
        """Loads the model and answers requests from now on.

        Raises:
            PortInUseError: If a port is taken.
            OSError: If the interface cannot be listened on for another reason.
            ModelLoadError: If there is no model to serve.
            RuntimeError: If the server is running already.
        """
        if self._grpc is not None:
            raise RuntimeError("this server is running already; stop it first")
        with ExitStack() as undo:
            rest_socket = undo.enter_context(_listen("REST", self.host, self._rest_port))
            # A taken port is reported before the model is loaded, which may take a while.
            _listen("gRPC", self.host, self._grpc_port).close()
            repository = ModelRepository(self.name, self.base_path)
            grpc_server = grpc.server(ThreadPoolExecutor(), options=_GRPC_OPTIONS)
            add_PredictionServiceServicer_to_server(PredictionService(repository), grpc_server)
            add_ModelServiceServicer_to_server(ModelService(repository), grpc_server)
            grpc_port = _bind(grpc_server, self.host, self._grpc_port)
            rest_server = _rest_server(repository)
            rest_thread = _start_rest(rest_server, rest_socket)
            self._bound_ports = (grpc_port, rest_socket.getsockname()[1])
            # From here on the REST server owns the socket, and closes it.
            undo.pop_all()
        grpc_server.start()
        self._grpc, self._rest, self._rest_thread = grpc_server, rest_server, rest_thread
        self._stopped.clear()
        _LOGGER.info(
            "serving model %r over gRPC at %s and REST at %s",
            self.name,
            self.grpc_address,
            self.rest_url,
        )

    def stop(self, grace_s: float = 10.0) -> None:
        """Refuses new requests, lets the running ones end, and frees the ports.

        Args:
            grace_s: Seconds after which running requests are abandoned.
        """
        grpc_server, rest_server, rest_thread = self._grpc, self._rest, self._rest_thread
        if grpc_server is None or rest_server is None or rest_thread is None:
            return
        drained = grpc_server.stop(grace_s)
        rest_server.config.timeout_graceful_shutdown = math.ceil(grace_s)
        rest_server.should_exit = True
        drained.wait()
        rest_thread.join()
        self._grpc = self._rest = self._rest_thread = self._bound_ports = None
        self._stopped.set()
        _LOGGER.info("stopped serving model %r", self.name)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Blocks until the server is stopped.

        Args:
            timeout_s: Longest time to wait; forever when None.

        Returns:
            Whether the server has stopped.
        """
        return self._stopped.wait(timeout_s)

    def serve_forever(
        self, grace_s: float = 10.0, on_ready: Callable[[], None] | None = None
    ) -> None:
        """Starts the server and runs it until SIGTERM or SIGINT, then drains it.

        A second signal while draining acts as usual and ends the process. Only the main thread
        may call this.

        Args:
            grace_s: Seconds after which running requests are abandoned.
            on_ready: Called once requests are answered, when the bound ports are known.
        """
        # Unlike an event, this queue may be written by a handler that interrupts its reader.
        received: queue.SimpleQueue[int] = queue.SimpleQueue()
        previous = {
            number: signal.signal(number, lambda number, _: received.put(number))
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            self.start()
            if on_ready is not None:
                on_ready()
            name = signal.Signals(received.get()).name
            _LOGGER.info("received %s: finishing the running requests", name)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        self.stop(grace_s)

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(service: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(service, host, port) from error
        raise OSError(
            error.errno, f"cannot listen for {service} on {_address(host, port)}: {error.strerror}"
        ) from error
    # Accepted connections inherit it. Without it an answer's body waits for the client to
    # acknowledge its head, 40 ms; asyncio sets it only on sockets it has made itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _bind(server: grpc.Server, host: str, port: int) -> int:
    try:
        return server.add_insecure_port(_address(host, port))
    except RuntimeError as error:
        # gRPC does not say why; listening once more does, if another process was faster.
        _listen("gRPC", host, port).close()
        raise OSError(f"cannot listen for gRPC on {_address(host, port)}: {error}") from error


def _rest_server(repository: ModelRepository) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            build_rest_app(repository),
            lifespan="off",
            # The application decides about logging, not this library.
            log_config=None,
            access_log=False,
            server_header=False,
        )
    )


def _start_rest(server: uvicorn.Server, listener: socket.socket) -> threading.Thread:
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="rest", daemon=True
    )
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the REST server ended while starting; the log says why")
        time.sleep(0.005)
    return thread
