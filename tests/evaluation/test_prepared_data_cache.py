import pytest

from tests.training.small_experiment import experiment
from tfmtl.evaluation import prepared_data_cache
from tfmtl.evaluation.prepared_data_cache import PreparedDataCache


@pytest.fixture
def prepared(monkeypatch):
    """Experiments whose data was prepared; it is their place in this list."""
    made = []

    def prepare(one, *, data_dir, progress):
        made.append(one)
        return len(made) - 1

    monkeypatch.setattr(prepared_data_cache, "prepare_data", prepare)
    return made


def test_models_share_data_however_they_are_trained_and_sample(prepared):
    cache = PreparedDataCache()
    assert cache.get(experiment("shared_bottom")) == 0
    assert cache.get(experiment("mmoe", "training.learning_rate=0.1", "training.seed=3")) == 0
    # A graph is needed now, and its fan-out does not matter.
    assert cache.get(experiment("mogenet")) == 1
    assert cache.get(experiment("mogenet", "graph.fan_out=[2]")) == 1
    assert cache.get(experiment("mogenet", "graph.edges=all")) == 2


def test_data_with_a_macro_graph_depends_on_how_it_is_built(prepared):
    cache = PreparedDataCache()
    assert cache.get(experiment("mgoe")) == 0
    assert cache.get(experiment("mgoe", "graph.edges=all", "training.seed=3")) == 0
    assert cache.get(experiment("mgoe", "macro.user_nodes=5")) == 1
    # A model that reads none has data of its own, whatever the section says.
    assert cache.get(experiment("mmoe", "macro.user_nodes=5")) == 2
    assert cache.get(experiment("mmoe", "macro.user_nodes=6")) == 2
    assert cache.get(experiment("mmoe", "model.bottom={macro: {dim: 4}}")) == 3
    assert cache.get(experiment("mgoe")) == 3


def test_only_the_last_data_is_kept(prepared):
    cache = PreparedDataCache()
    other = "dataset.options.num_rows=600"
    found = [cache.get(experiment("mmoe", *one)) for one in ([], [other], [other], [])]
    assert found == [0, 1, 1, 2]


def test_data_is_given_up_before_the_next_is_made(monkeypatch):
    cache = PreparedDataCache()
    cache.get(experiment("mmoe"))

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(prepared_data_cache, "prepare_data", fail)
        assert cache.get(experiment("mmoe")) is cache.get(experiment("mmoe"))
        with pytest.raises(MemoryError):
            cache.get(experiment("mmoe", "dataset.options.num_rows=600"))
        with pytest.raises(MemoryError):
            cache.get(experiment("mmoe"))
