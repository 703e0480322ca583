import pytest

from tests.training.small_experiment import experiment
from tfmtl.metrics import TaskMetrics
from tfmtl.models import build_model
from tfmtl.training import prepare_data


@pytest.fixture(scope="session")
def data():
    return prepare_data(experiment())


@pytest.fixture(scope="session")
def model(data):
    """A model nobody trained: metrics do not care."""
    chosen = experiment().model
    built = build_model(chosen.name, data.encoder.schema, data.encoder, chosen.hyperparameters)
    built.build_weights()
    return built


@pytest.fixture
def scored():
    """Makes `TaskMetrics` of which only some values matter."""

    def make(**values):
        rest = {"auc": 0.5, "gauc": 0.5, "log_loss": 0.7, "ece": 0.1}
        counts = {"rows": 10, "positives": 3, "users_kept": 2}
        return TaskMetrics(**{**rest, **counts, **values})

    return make
