"""Decides that `tf.keras` is Keras 2, the version TensorFlow Recommenders and TF-GNN need.

TensorFlow picks the Keras behind `tf.keras` once, from the environment variable
`TF_USE_LEGACY_KERAS`. Importing `tfmtl` first sets it; importing `tfmtl` after a TensorFlow that
already resolved `tf.keras` to Keras 3 cannot be repaired and is refused.
"""

import os
import sys

_VARIABLE = "TF_USE_LEGACY_KERAS"
_REMEDY = (
    "tfmtl needs Keras 2 behind tf.keras, found Keras {version}: import tfmtl before tensorflow, "
    f"or set {_VARIABLE}=1 in the environment."
)


def require_keras_2() -> None:
    """Selects Keras 2 for a TensorFlow not imported yet, and checks one that is.

    Raises:
        ImportError: If `tf.keras` is, or was explicitly asked to be, Keras 3.
    """
    if os.environ.get(_VARIABLE, "1").strip().lower() not in ("1", "true"):
        raise ImportError(_REMEDY.format(version=f"3 ({_VARIABLE}={os.environ[_VARIABLE]})"))
    os.environ[_VARIABLE] = "1"
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return
    # The Keras 2 behind tf.keras states no version; Keras 3 does.
    version = getattr(tensorflow.keras, "__version__", "2")
    if not version.startswith("2"):
        raise ImportError(_REMEDY.format(version=version))
