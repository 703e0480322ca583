"""Reads a saved encoder from any file system that Beam knows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from apache_beam.io.filesystems import FileSystems

from tfmtl.data import FeatureEncoder, FeatureEncoderError

_FILES = ("encoder.json", "encoder.npz")


def load_encoder(folder: str) -> FeatureEncoder:
    """Reads what `FeatureEncoder.save` wrote, wherever it was copied to.

    Args:
        folder: Local folder, or one of a file system such as `gs://` or `hdfs://`.

    Returns:
        The encoder.

    Raises:
        FeatureEncoderError: If there is no encoder, or it is damaged.

    Example:
        >>> load_encoder("nowhere")
        Traceback (most recent call last):
        tfmtl.data.feature_encoder.FeatureEncoderError: nowhere holds no encoder: \
encoder.json is missing; expected the folder that FeatureEncoder.save wrote
    """
    with tempfile.TemporaryDirectory() as local:
        for name in _FILES:
            source = FileSystems.join(folder, name)
            if not FileSystems.exists(source):
                raise FeatureEncoderError(
                    f"{folder} holds no encoder: {name} is missing; expected the folder that "
                    "FeatureEncoder.save wrote"
                )
            with FileSystems.open(source) as file:
                (Path(local) / name).write_bytes(file.read())
        return FeatureEncoder.load(local)
