"""How an error ends a gRPC call."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from tfmtl.serving.serving_error import ServingError

# The status travels in a header block that clients bound to 8 KiB; TF Serving cuts here too.
_MESSAGE_LIMIT = 1024
_CUT = " ... [truncated]"


@contextmanager
def serving_errors(context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the call of `context` with the code and message of a `ServingError` raised inside."""
    try:
        yield
    except ServingError as error:
        message = str(error)
        if len(message) > _MESSAGE_LIMIT:
            message = message[: _MESSAGE_LIMIT - len(_CUT)] + _CUT
        context.abort(error.code, message)
