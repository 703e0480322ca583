import grpc
import pytest
from tensorflow_serving.apis.model_pb2 import ModelSpec

from tfmtl.serving import ModelLoadError, ModelRepository, ServingError


@pytest.fixture(scope="module")
def repository(base_path):
    return ModelRepository("ranker", base_path)


def _spec(version=None, label=None, name="ranker"):
    spec = ModelSpec(name=name)
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    return spec


def test_newest_complete_version_is_loaded(repository):
    assert repository.model.version == 12


def test_versions_compare_as_numbers(tmp_path):
    for version in ("9", "10"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelLoadError, match=r"10/saved_model\.pb has no graph tagged 'serve'"):
        ModelRepository("ranker", tmp_path)


@pytest.mark.parametrize("version", [None, 12])
def test_find_returns_the_served_version(repository, version):
    assert repository.find(_spec(version)) is repository.model


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        (_spec(name=""), "INVALID_ARGUMENT", "model_spec.name is missing"),
        (_spec(name="other"), "NOT_FOUND", "model 'other' is not served here; expected 'ranker'"),
        (_spec(11), "NOT_FOUND", "version 11 of model 'ranker' is not served; expected 12"),
        (_spec(0), "NOT_FOUND", "version 0 of model 'ranker' is not served; expected 12"),
        (_spec(label="stable"), "INVALID_ARGUMENT", "version label 'stable' is unknown"),
    ],
)
def test_unknown_specs_are_refused(repository, spec, code, message):
    with pytest.raises(ServingError, match=message) as caught:
        repository.find(spec)
    assert caught.value.code == grpc.StatusCode[code]


def test_absent_folder(tmp_path):
    with pytest.raises(ModelLoadError, match=r"nowhere does not exist; expected .*/<number>/saved"):
        ModelRepository("ranker", tmp_path / "nowhere")


def test_empty_folder(tmp_path):
    (tmp_path / "3").mkdir()
    with pytest.raises(ModelLoadError, match=r"holds no version; expected .*as `tfmtl export`"):
        ModelRepository("ranker", tmp_path)


def test_version_folder_in_place_of_its_parent(base_path):
    with pytest.raises(ModelLoadError, match="12 is a SavedModel, not a folder of versions"):
        ModelRepository("ranker", base_path / "12")
