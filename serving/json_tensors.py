"""Arrays to and from the JSON of TF Serving's REST protocol.

A request holds its tensors by row (`instances`: one element per row of the batch) or by column
(`inputs`: one nested list per input); the answer comes in the same form. Conversions are those of
TF Serving: an integer input takes whole JSON numbers only, a float input refuses a whole number
it cannot hold exactly, a string input takes text or `{"b64": ...}`, `NaN` and `Infinity` are
numbers.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf

from tfmtl.serving.serving_error import ServingError
from tfmtl.serving.signature import Signature

ROWS = "instances"
COLUMNS = "inputs"

_BASE64 = "b64"
_BYTES_SUFFIX = "_bytes"
# Whole numbers up to this magnitude are exact: one less than 2 to the digits of the mantissa.
_EXACT = {tf.float32: 2**24 - 1, tf.float64: 2**53 - 1}


def parse_object(body: bytes) -> dict[str, Any]:
    """Returns the JSON object of a request body.

    Raises:
        ServingError: `INVALID_ARGUMENT` if the body is no JSON object.

    Example:
        >>> parse_object(b'{"instances": [NaN]}')
        {'instances': [nan]}
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"JSON parse error: {error}") from error
    if not isinstance(document, dict):
        raise _invalid(
            f"expected a JSON object with {ROWS!r} or {COLUMNS!r}; received {_brief(document)}"
        )
    return document


def decode_inputs(document: Mapping[str, Any], signature: Signature) -> dict[str, np.ndarray]:
    """Returns the arrays of a request, in the dtypes of the signature.

    Args:
        document: The request; holds either `instances` or `inputs`.
        signature: Whose inputs are expected.

    Returns:
        Input name to array; strings are object arrays of bytes.

    Raises:
        ServingError: `INVALID_ARGUMENT`, naming the input and the value that does not fit.
    """
    if (ROWS in document) == (COLUMNS in document):
        raise _invalid(
            f"expected exactly one of the keys {ROWS!r} and {COLUMNS!r}; "
            f"received {sorted(document)}"
        )
    columns = (
        _columns_of_rows(document[ROWS], signature)
        if ROWS in document
        else _columns(document[COLUMNS], signature)
    )
    return {
        name: _decode(name, value, signature.inputs[name].dtype) for name, value in columns.items()
    }


def encode_outputs(outputs: Mapping[str, np.ndarray], by_row: bool) -> bytes:
    """Returns the JSON answer.

    Args:
        outputs: Output name to array. The values of a string output whose name ends in `_bytes`
            are written as `{"b64": ...}`, other strings as text.
        by_row: Whether to answer with `predictions`, one element per row, or with `outputs`, one
            nested list per output. A single output is written without its name.

    Raises:
        ServingError: If the outputs cannot be written so.

    Example:
        >>> encode_outputs({"p": np.float32([0.2, 3])}, by_row=True)
        b'{"predictions": [0.2, 3.0]}'
    """
    if by_row:
        sizes = {name: array.shape[:1] for name, array in outputs.items()}
        if len(set(sizes.values())) != 1 or () in sizes.values():
            raise _invalid(
                f"outputs by row need one leading dimension in common; received {sizes}: "
                f"send the request by column ({COLUMNS!r})"
            )
    plain = {name: _encode(name, array) for name, array in outputs.items()}
    if len(plain) == 1:
        (answer,) = plain.values()
    elif by_row:
        answer = [
            dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)
        ]
    else:
        answer = plain
    return json.dumps({"predictions" if by_row else "outputs": answer}).encode()


def _columns_of_rows(rows: Any, signature: Signature) -> dict[str, list[Any]]:
    if not isinstance(rows, list) or not rows:
        raise _invalid(f"{ROWS!r}: expected a list of at least one row; received {_brief(rows)}")
    if not _is_object(rows[0]):
        return {_only_input(ROWS, signature): rows}
    for number, row in enumerate(rows):
        if not _is_object(row):
            raise _invalid(f"{ROWS!r}[{number}]: expected an object; received {_brief(row)}")
        try:
            signature.check_names(row.keys())
        except ServingError as error:
            raise _invalid(f"{ROWS!r}[{number}]: {error}") from error
    return {name: [row[name] for row in rows] for name in signature.inputs}


def _columns(value: Any, signature: Signature) -> Mapping[str, Any]:
    if not _is_object(value):
        return {_only_input(COLUMNS, signature): value}
    signature.check_names(value.keys())
    return value


def _only_input(key: str, signature: Signature) -> str:
    if len(signature.inputs) != 1:
        raise _invalid(
            f"{key!r}: values without names need a signature with one input; "
            f"{signature.name!r} has {sorted(signature.inputs)}"
        )
    return next(iter(signature.inputs))


def _decode(name: str, value: Any, dtype: tf.DType) -> np.ndarray:
    shape = _shape(value)
    leaves = _leaves(name, value, shape)
    if dtype == tf.string:
        return np.array([_to_bytes(name, leaf) for leaf in leaves], object).reshape(shape)
    if dtype == tf.bool:
        fits = [type(leaf) is bool for leaf in leaves]
    elif dtype.is_integer:
        fits = [type(leaf) is int and dtype.min <= leaf <= dtype.max for leaf in leaves]
    elif dtype in _EXACT:
        fits = [_fits_float(leaf, dtype) for leaf in leaves]
    else:
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"input {name!r}: JSON has no form for dtype {dtype.name}; ask over gRPC",
        )
    if not all(fits):
        raise _invalid(
            f"input {name!r}: expected values that {dtype.name} holds without loss; "
            f"received {_brief(leaves[fits.index(False)])}"
        )
    return np.array(leaves, dtype.as_numpy_dtype).reshape(shape)


def _shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return tuple(shape)


def _leaves(name: str, value: Any, shape: tuple[int, ...]) -> list[Any]:
    level = [value]
    for size in shape:
        for part in level:
            if not isinstance(part, list) or len(part) != size:
                raise _invalid(
                    f"input {name!r}: expected lists of equal length ({size}) at each level; "
                    f"received {_brief(part)}"
                )
        level = [item for part in level for item in part]
    return level


def _fits_float(leaf: Any, dtype: tf.DType) -> bool:
    if type(leaf) is int:
        return abs(leaf) <= _EXACT[dtype]
    # NaN and the infinities are values of their own; other numbers must not become infinite.
    return type(leaf) is float and (not math.isfinite(leaf) or abs(leaf) <= float(dtype.max))


def _to_bytes(name: str, leaf: Any) -> bytes:
    try:
        if isinstance(leaf, str):
            return leaf.encode()
        if _is_base64(leaf):
            return base64.b64decode(leaf[_BASE64], validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise _invalid(f"input {name!r}: cannot decode {_brief(leaf)}: {error}") from error
    raise _invalid(
        f'input {name!r}: expected a string or {{"b64": "<base64>"}}; received {_brief(leaf)}'
    )


def _encode(name: str, array: np.ndarray) -> Any:
    dtype = tf.as_dtype(array.dtype)
    if dtype == tf.string:
        texts = [_to_text(name, value) for value in array.ravel()]
        return np.array([*texts, None], object)[:-1].reshape(array.shape).tolist()
    if dtype.is_floating and dtype != tf.float64:
        # The shortest decimal that reads back as the same number: 0.2, not 0.20000000298023224.
        return array.astype(np.float32).astype(str).astype(np.float64).tolist()
    if dtype.is_complex:
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"output {name!r}: JSON has no form for dtype {dtype.name}; ask over gRPC",
        )
    return array.tolist()


def _to_text(name: str, value: bytes) -> str | dict[str, str]:
    if name.endswith(_BYTES_SUFFIX):
        return {_BASE64: base64.b64encode(value).decode()}
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ServingError(
            grpc.StatusCode.INTERNAL,
            f"output {name!r} holds bytes that are no UTF-8 text: let the model name it "
            f"'{name}{_BYTES_SUFFIX}' to have it written as base64",
        ) from error


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {_BASE64} and isinstance(value["b64"], str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
