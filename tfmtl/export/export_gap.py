"""How far an exported model is from the live one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf


def export_gap(
    version: Path,
    request: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    *,
    signature: str = "serving_default",
    batch_size: int = 4096,
) -> float:
    """Largest difference between the export's probabilities and the expected ones.

    Args:
        version: Folder of the exported version.
        request: Named inputs, as `raw_request` makes them.
        expected: Probabilities of the live model per task, `float32 [n]`.
        signature: Which signature to ask.
        batch_size: Rows asked at one time.

    Returns:
        The largest absolute difference over rows and tasks.

    Raises:
        ValueError: If the version has no such signature.

    Example:
        >>> import tempfile
        >>> module = tf.Module()
        >>> half = tf.function(lambda x: {"click": x / 2}).get_concrete_function(
        ...     x=tf.TensorSpec([None], tf.float32))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tf.saved_model.save(module, folder, {"serving_default": half})
        ...     ones = np.ones(3, np.float32)
        ...     export_gap(Path(folder), {"x": ones}, {"click": ones / 2})
        0.0
    """
    loaded = tf.saved_model.load(str(version))
    if signature not in loaded.signatures:
        raise ValueError(
            f"{version} has no signature {signature!r}; it has {list(loaded.signatures)}"
        )
    serve = loaded.signatures[signature]
    rows = len(next(iter(request.values())))
    gap = 0.0
    for start in range(0, rows, batch_size):
        part = slice(start, start + batch_size)
        inputs = {
            name: tf.constant(
                values[part].tolist(), serve.structured_input_signature[1][name].dtype
            )
            for name, values in request.items()
        }
        answer = serve(**inputs)
        for task, values in expected.items():
            gap = max(gap, float(np.max(np.abs(answer[task].numpy() - values[part]))))
    return gap
