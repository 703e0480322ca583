"""The error every request handler raises and both protocols translate."""

import grpc


class ServingError(Exception):
    """A request that cannot be answered, with the status code that says why.

    The gRPC services send the code as it is, the REST service its HTTP counterpart.

    Args:
        code: Status of the answer.
        message: What was received, what was expected, and the remedy.

    Example:
        >>> import grpc
        >>> str(ServingError(grpc.StatusCode.NOT_FOUND, "model 'a' is not served"))
        "model 'a' is not served"
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
