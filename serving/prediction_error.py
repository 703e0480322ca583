"""The error of a prediction that a server did not answer."""

import grpc


class PredictionError(RuntimeError):
    """A prediction failed, with the server's status code and message.

    Args:
        code: Status of the call.
        message: The server's message, or why the call never reached it.

    Example:
        >>> import grpc
        >>> str(PredictionError(grpc.StatusCode.NOT_FOUND, "model 'a' is not served"))
        "NOT_FOUND: model 'a' is not served"
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
