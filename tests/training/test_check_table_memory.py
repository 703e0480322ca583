import sys

import pytest

from tests.training.small_experiment import experiment
from tfmtl.training import prepare_data, train
from tfmtl.training.check_table_memory import check_table_memory


@pytest.fixture(scope="module")
def encoder():
    return prepare_data(experiment("mmoe")).encoder


def needed(encoder, *overrides, model="mmoe"):
    """The fewest bytes with which the tables are let through."""
    low, high = 0, 10**8
    while high - low > 1:
        middle = (low + high) // 2
        try:
            check_table_memory(experiment(model, *overrides), encoder, available=middle)
            high = middle
        except MemoryError:
            low = middle
    return high


def test_slots_of_the_optimiser_count(encoder):
    sgd = needed(encoder, "training.optimizer=sgd")
    # One number per weight, then two and four more: two moments, and two copies while it is made.
    assert needed(encoder, "training.optimizer=adam") == 3 * sgd
    assert needed(encoder, "training.optimizer=lazy_adam") == 5 * sgd


def test_what_the_model_does_not_embed_takes_nothing(encoder):
    assert needed(encoder, "model.exclude_inputs=[user_id]") < needed(encoder)


def test_a_run_whose_tables_do_not_fit_is_refused_before_its_model_is_made(monkeypatch, tmp_path):
    # The modules of these names, not the functions that the packages offer under them.
    sizes, training = (
        sys.modules[name] for name in ("tfmtl.models.table_sizes", "tfmtl.training.train")
    )
    monkeypatch.setattr(sizes, "_available_memory", lambda: 100)
    monkeypatch.setattr(training, "build_model", None)
    with pytest.raises(MemoryError, match="of 100 bytes that are available; the largest are"):
        train(experiment("mmoe"), tmp_path / "run")


def test_lazy_adam_is_chosen_by_name(tmp_path):
    model = train(experiment("mmoe", "training.optimizer=lazy_adam", "training.epochs=1"), tmp_path)
    assert type(model.optimizer).__name__ == "LazyAdam"
