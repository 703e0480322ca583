"""Python functions inside of graphs, which processes other than the one that made them can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import gen_script_ops, script_ops

_UNDER_WAY: ContextVar[SharedFunctions | None] = ContextVar("shared_functions", default=None)


class SharedFunctions:
    """Names the Python functions of the graphs that are made inside the `with` block.

    TensorFlow keeps the Python functions of a graph in a registry of the process, under numbers
    given out as they come, so that a graph that is sent to another process finds none or a wrong
    one. Functions made inside the block have the names `<name>/0`, `<name>/1` ...: processes that
    make the same graphs in the same order each have their own function under a graph's name, over
    their own copy of the data.

    They live as long as this object, and those made under the same name before are forgotten.

    Args:
        name: What the functions are for.

    Example:
        >>> with SharedFunctions("double") as functions:
        ...     value = python_function(lambda x: 2 * x, [tf.constant(4)], tf.int32)
        >>> functions.names, int(value)
        (['double/0'], 8)
    """

    def __init__(self, name: str):
        self.name = name
        self.names: list[str] = []
        # The registry holds weak references.
        self._functions: list[Callable] = []
        self._before: list[Token] = []

    def add(self, function: Callable) -> str:
        """Puts a function into this process's registry and returns its name there."""
        name = f"{self.name}/{len(self.names)}"
        script_ops._py_funcs._funcs[name] = function
        self.names.append(name)
        self._functions.append(function)
        return name

    def __enter__(self) -> SharedFunctions:
        self._before.append(_UNDER_WAY.set(self))
        return self

    def __exit__(self, *error: object) -> None:
        _UNDER_WAY.reset(self._before.pop())


def python_function(
    function: Callable, inputs: Sequence[Any], types: tf.DType | Sequence[tf.DType]
) -> Any:
    """`tf.numpy_function` without side effects, under a name inside of `SharedFunctions`.

    Args:
        function: Maps NumPy arrays to one array, or to a list of them.
        inputs: Tensors.
        types: Type of what it returns, or of each part.

    Returns:
        A tensor for one type, a list for a list.

    Example:
        >>> int(python_function(lambda x: x + 1, [tf.constant(4)], tf.int32))
        5
    """
    shared = _UNDER_WAY.get()
    if shared is None:
        return tf.numpy_function(function, inputs, types, stateful=False)
    single = isinstance(types, tf.DType)
    outputs = gen_script_ops.py_func_stateless(
        input=list(inputs), token=shared.add(function), Tout=[types] if single else list(types)
    )
    return outputs[0] if single else outputs
