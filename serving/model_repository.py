"""The versions of one model on disk, and the version that answers."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc
from tensorflow_serving.apis.model_pb2 import ModelSpec

from tfmtl.serving.model_load_error import ModelLoadError
from tfmtl.serving.servable_model import SAVED_MODEL_FILE, ServableModel
from tfmtl.serving.serving_error import ServingError

_LOGGER = logging.getLogger(__name__)


class ModelRepository:
    """A folder `BASE/<version>/saved_model.pb` of which the newest version is served.

    The newest version is the largest number whose SavedModel is there: a folder without one is
    an export under way.

    Args:
        name: Name under which the model is asked.
        base_path: Folder whose subfolders are version numbers.

    Raises:
        ModelLoadError: If there is no version, or the newest one cannot be loaded.

    Example:
        >>> ModelRepository("ranker", "no/such/folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        tfmtl.serving.model_load_error.ModelLoadError: model folder no/such/folder does not exist...
    """

    def __init__(self, name: str, base_path: str | Path) -> None:
        self.name = name
        version, path = _newest_version(Path(base_path))
        self.model = ServableModel(name, version, path)
        _LOGGER.info("loaded model %r version %d from %s", name, version, path)

    def find(self, spec: ModelSpec) -> ServableModel:
        """Returns the model that a request's `spec` (name and optional version) asks for.

        Raises:
            ServingError: `NOT_FOUND` for an unknown name or version, `INVALID_ARGUMENT` for a
                request without a name or with a version label.
        """
        if not spec.name:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "model_spec.name is missing")
        if spec.name != self.name:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND,
                f"model {spec.name!r} is not served here; expected {self.name!r}",
            )
        if spec.HasField("version_label"):
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"version label {spec.version_label!r} is unknown: this server has no labels, "
                f"ask for version {self.model.version} or for none",
            )
        if spec.HasField("version") and spec.version.value != self.model.version:
            raise ServingError(
                grpc.StatusCode.NOT_FOUND,
                f"version {spec.version.value} of model {self.name!r} is not served; "
                f"expected {self.model.version}",
            )
        return self.model


def _newest_version(base_path: Path) -> tuple[int, Path]:
    layout = f"expected {base_path}/<number>/{SAVED_MODEL_FILE}, as `tfmtl export` writes it"
    if not base_path.is_dir():
        raise ModelLoadError(f"model folder {base_path} does not exist; {layout}")
    versions = {
        int(folder.name): folder
        for folder in base_path.iterdir()
        if folder.name.isdecimal() and (folder / SAVED_MODEL_FILE).is_file()
    }
    if versions:
        return max(versions.items())
    if (base_path / SAVED_MODEL_FILE).is_file():
        raise ModelLoadError(f"{base_path} is a SavedModel, not a folder of versions; {layout}")
    raise ModelLoadError(f"model folder {base_path} holds no version; {layout}")
