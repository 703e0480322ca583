import pytest

from tests.training.small_experiment import experiment
from tfmtl.training import prepare_data, train


@pytest.fixture(scope="session")
def data():
    return prepare_data(experiment())


@pytest.fixture(scope="session")
def graph_data():
    return prepare_data(experiment("mogenet"))


@pytest.fixture(scope="session")
def finished(data, tmp_path_factory):
    """A run of three epochs that nothing disturbed: its folder and its model."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return folder, train(experiment(), folder, data=data)
