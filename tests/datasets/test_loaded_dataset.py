import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from tfmtl.data import InteractionLog, Split, TrainingLog
from tfmtl.data.interaction_log import HeldOutLog
from tfmtl.datasets import DatasetError
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.schema import Feature, Schema, Task

SCHEMA = Schema(
    user="user_id",
    item="item_id",
    time="time",
    tasks=[Task(name="click"), Task(name="like")],
    features=[Feature(name="tab")],
)


def rows(ids, times, clicks, likes, tabs):
    return pa.table(
        {
            "user_id": ids,
            "item_id": ids,
            "time": times,
            "click": pa.array(clicks, pa.int8()),
            "like": pa.array(likes, pa.int8()),
            "tab": pa.array(tabs, pa.int64()),
        }
    )


@pytest.fixture
def dataset():
    train = rows([1, 2], [30, 20], [1, 0], [0, 1], [5, 6])
    held = rows([1], [40], [0], [0], [5])
    history = rows([3, 1], [10, 25], [None, None], [1, 0], [None, None])
    return LoadedDataset(
        "small",
        InteractionLog(pa.concat_tables([train, held, held]), SCHEMA),
        TrainingLog(history, SCHEMA),
        Split(TrainingLog(train, SCHEMA), HeldOutLog(held, SCHEMA), HeldOutLog(held, SCHEMA)),
        "",
        "",
    )


def test_history_joins_the_training_rows_in_the_order_of_time(dataset):
    joined = dataset.with_history_in_training()
    train = joined.split.train
    assert isinstance(train, TrainingLog)
    assert train.times.tolist() == [10, 20, 25, 30]
    assert train.user_ids.tolist() == [3, 2, 1, 1]
    np.testing.assert_array_equal(train.labels("click"), [np.nan, 0, np.nan, 1])
    np.testing.assert_array_equal(train.labels("like"), [1, 1, 0, 0])
    assert train.rows["tab"].to_pylist() == [None, 6, None, 5]


def test_nothing_else_changes(dataset):
    joined = dataset.with_history_in_training()
    assert joined.history is None
    assert joined.log is dataset.log
    assert joined.split.validation is dataset.split.validation
    assert joined.split.test is dataset.split.test
    assert len(dataset.split.train) == 2


def test_without_a_history_there_is_nothing_to_join(dataset):
    with pytest.raises(DatasetError, match="'small' has no history to train on"):
        dataclasses.replace(dataset, history=None).with_history_in_training()
