"""Multi-task graph recommenders for Keras, TensorFlow Recommenders and TF Serving."""

import importlib
from typing import Any

from tfmtl.keras_guard import require_keras_2

require_keras_2()

__version__ = "0.1.0"

__all__ = [
    "data",
    "datasets",
    "evaluation",
    "export",
    "graph",
    "layers",
    "metrics",
    "models",
    "objectives",
    "schema",
    "training",
]


def __getattr__(name: str) -> Any:
    # Rooms load on first use, so that `tfmtl --help` does not wait for TensorFlow.
    if name in __all__:
        return importlib.import_module(f"tfmtl.{name}")
    raise AttributeError(f"module 'tfmtl' has no attribute {name!r}")
