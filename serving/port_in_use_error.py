"""The error of a port that another process listens on."""

import errno


class PortInUseError(OSError):
    """A server cannot listen because its port is taken.

    Args:
        service: What wanted the port, `gRPC` or `REST`.
        host: Interface of the server.
        port: The port that is taken.

    Example:
        >>> raise PortInUseError("gRPC", "127.0.0.1", 8500)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        tfmtl.serving.port_in_use_error.PortInUseError: ... gRPC port 8500 of 127.0.0.1 is in use...
    """

    def __init__(self, service: str, host: str, port: int) -> None:
        super().__init__(
            errno.EADDRINUSE,
            f"{service} port {port} of {host} is in use: stop the process that listens on it, "
            "choose another port, or pass 0 for any free one",
        )
        self.port = port
