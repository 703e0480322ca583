import math

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tfmtl.data import CausalStatistics, HeldOutLog, LogError, StatisticsConfig, TrainingLog
from tfmtl.schema import Feature, Schema, Task

SCHEMA = Schema(
    user="uid",
    item="vid",
    time="ts",
    tasks=[Task(name="click"), Task(name="like", parent="click")],
    features=[
        Feature(name="author", side="item"),
        Feature(name="tab"),
        Feature(name="price", kind="numeric"),
    ],
)
ITEMS = pa.table({"vid": ["a", "b", "c", "d"], "author": [1, 2, 1, None]})
ENTITIES = ("uid", "vid", "author", "tab")
CONFIG = StatisticsConfig(entities=["user_id", "item_id", "author", "tab"], prior=3.0)


def rows_of(random, n, first, last):
    """A random log with many ties in time, missing labels and missing categories."""
    like = random.integers(0, 2, n).astype(float)
    like[random.random(n) < 0.2] = np.nan
    return {
        "uid": random.integers(0, 4, n),
        "vid": random.choice(["a", "b", "c", "d", "e"], n),
        "ts": random.integers(first, last, n),
        "tab": pa.array(random.integers(0, 3, n), mask=random.random(n) < 0.2),
        "price": np.zeros(n),
        "click": random.integers(0, 2, n),
        "like": like,
    }


def training(rows, schema=SCHEMA):
    return TrainingLog(pa.table(rows), schema, items=ITEMS)


def timeless(log):
    return TrainingLog(log.rows, log.schema.model_copy(update={"time": None}), items=ITEMS)


def with_click_flipped(log, row):
    flipped = log.labels("click").copy()
    flipped[row] = 1 - flipped[row]
    position = log.rows.column_names.index("click")
    rows = log.rows.set_column(position, "click", pa.array(flipped))
    return TrainingLog(rows, log.schema, items=ITEMS)


@pytest.fixture
def train():
    return training(rows_of(np.random.default_rng(1), 60, 100, 120))


@pytest.fixture
def history():
    return training(rows_of(np.random.default_rng(2), 40, 50, 99))


def logit(rate):
    return math.log(rate / (1 - rate))


def brute_force(log, seen_by, history=None, config=CONFIG):
    """The definition of the columns, row by row and pair by pair.

    `seen_by(i, j)` says whether row i of `log` may know row j of it; all of `history` is known.
    """
    logs = [log] if history is None else [log, history]
    columns = []
    for entity in ENTITIES:
        author = SCHEMA.features[0]
        ids = [
            (part.column(author) if entity == "author" else part.rows[entity]).to_pylist()
            for part in logs
        ]
        for task in SCHEMA.task_names:
            labels = [part.labels(task) for part in logs]
            lifts = []
            for i in range(len(log)):
                counts = np.zeros(4)  # positive and defined of the entity, then of all rows
                for p, part in enumerate(logs):
                    for j in range(len(part)):
                        if (p == 1 or seen_by(i, j)) and not np.isnan(labels[p][j]):
                            own = ids[0][i] is not None and ids[0][i] == ids[p][j]
                            y = labels[p][j]
                            counts += [own * y, own, y, 1]
                positive, defined, all_positive, all_defined = counts
                rate = (all_positive + 0.5) / (all_defined + 1)
                smoothed = (positive + config.prior * rate) / (defined + config.prior)
                lifts.append(logit(smoothed) - logit(rate))
            columns.append(lifts)
        columns.append(
            [
                math.log1p(
                    sum(
                        (p == 1 or seen_by(i, j))
                        and ids[0][i] is not None
                        and ids[0][i] == ids[p][j]
                        for p, part in enumerate(logs)
                        for j in range(len(part))
                    )
                )
                for i in range(len(log))
            ]
        )
    return np.array(columns).T


def raw(statistics, columns):
    return columns * statistics.std + statistics.mean


def assert_columns(statistics, columns, expected):
    assert columns.dtype == np.float32
    assert columns.shape == (len(expected), len(statistics.names))
    assert_allclose(raw(statistics, columns), expected, atol=1e-5)


def test_names_say_entity_and_task(train):
    statistics = CausalStatistics.fit(train, None, CONFIG)
    assert statistics.names[:4] == (
        "user_id_click_rate",
        "user_id_like_rate",
        "user_id_count",
        "item_id_click_rate",
    )
    without = CausalStatistics.fit(train, None, CONFIG.model_copy(update={"counts": False}))
    assert without.names == tuple(n for n in statistics.names if not n.endswith("_count"))
    assert without.training_columns(train).shape == (60, 8)


def test_a_training_row_sees_strictly_earlier_rows(train):
    times = train.times
    assert len(np.unique(times)) < len(times)
    statistics = CausalStatistics.fit(train, None, CONFIG)
    expected = brute_force(train, lambda i, j: times[j] < times[i])
    assert_columns(statistics, statistics.training_columns(train), expected)


def test_history_counts_for_every_training_row(train, history):
    times = train.times
    statistics = CausalStatistics.fit(train, history, CONFIG)
    expected = brute_force(train, lambda i, j: times[j] < times[i], history)
    assert_columns(statistics, statistics.training_columns(train), expected)


def test_periods_start_at_the_first_training_row(train, history):
    config = CONFIG.model_copy(update={"granularity": 7.0})
    periods = (train.times - train.times.min()) // 7
    statistics = CausalStatistics.fit(train, history, config)
    expected = brute_force(train, lambda i, j: periods[j] < periods[i], history)
    assert_columns(statistics, statistics.training_columns(train), expected)


def test_without_times_a_row_sees_the_other_folds(train, history):
    train, history = timeless(train), timeless(history)
    config = CONFIG.model_copy(update={"folds": 4, "seed": 9})
    statistics = CausalStatistics.fit(train, history, config)
    fold = np.empty(60, int)
    fold[np.random.default_rng(9).permutation(60)] = np.arange(60) % 4
    expected = brute_force(train, lambda i, j: fold[i] != fold[j], history)
    assert_columns(statistics, statistics.training_columns(train), expected)


def test_out_of_fold_counting_ignores_times(train, history):
    later = training(rows_of(np.random.default_rng(3), 20, 110, 130))
    past = TrainingLog(pa.concat_tables([history.rows, later.rows]), SCHEMA, items=ITEMS)
    config = CONFIG.model_copy(update={"folds": 4, "seed": 9, "counting": "out_of_fold"})
    statistics = CausalStatistics.fit(train, past, config)
    fold = np.empty(60, int)
    fold[np.random.default_rng(9).permutation(60)] = np.arange(60) % 4
    expected = brute_force(train, lambda i, j: fold[i] != fold[j], past)
    assert_columns(statistics, statistics.training_columns(train), expected)


def test_no_row_sees_its_own_label_out_of_fold(train):
    config = CONFIG.model_copy(update={"counting": "out_of_fold"})
    statistics = CausalStatistics.fit(train, None, config)
    before = raw(statistics, statistics.training_columns(train))
    other = with_click_flipped(train, 17)
    refitted = CausalStatistics.fit(other, None, config)
    after = raw(refitted, refitted.training_columns(other))
    assert_allclose(after[17], before[17], atol=1e-5)
    assert np.abs(after - before).max() > 0.1


def test_held_out_rows_see_all_training_rows_and_history(train, history):
    held_out = HeldOutLog(train.rows, train.schema, items=ITEMS)
    statistics = CausalStatistics.fit(train, history, CONFIG)
    expected = brute_force(train, lambda i, j: True, history)
    assert_columns(statistics, statistics.transform(held_out), expected)


def test_a_later_label_changes_no_earlier_row(train):
    statistics = CausalStatistics.fit(train, None, CONFIG)
    before = raw(statistics, statistics.training_columns(train))
    changed_row = int(np.argsort(train.times, kind="stable")[30])
    changed_time = train.times[changed_row]
    other = with_click_flipped(train, changed_row)
    refitted = CausalStatistics.fit(other, None, CONFIG)
    after = raw(refitted, refitted.training_columns(other))
    unaware = train.times <= changed_time
    assert 20 < unaware.sum() < 50
    assert_allclose(after[unaware], before[unaware], atol=1e-6)
    assert np.abs(after[~unaware] - before[~unaware]).max() > 0.01


def test_history_with_fewer_columns_counts_for_what_it_has(train, history):
    schema = Schema(user="u", item="i", tasks=[Task(name="like")])
    rows = pa.table(
        {"u": history.rows["uid"], "i": history.rows["vid"], "like": history.labels("like")}
    )
    statistics = CausalStatistics.fit(train, TrainingLog(rows, schema), CONFIG)
    columns = raw(statistics, statistics.training_columns(train))
    times = train.times
    with_all = brute_force(train, lambda i, j: times[j] < times[i], history)
    alone = brute_force(train, lambda i, j: times[j] < times[i])
    # Columns: click rate, like rate and count for each of user, item, author and tab.
    assert_allclose(columns[:, [1, 2, 4, 5]], with_all[:, [1, 2, 4, 5]], atol=1e-5)
    assert_allclose(columns[:, [0, 3, 6, 8, 9, 11]], alone[:, [0, 3, 6, 8, 9, 11]], atol=1e-5)


def test_history_that_is_not_earlier_counts_for_the_tables_only(train, history):
    late = training({**rows_of(np.random.default_rng(3), 30, 90, 110)})
    is_earlier = late.times < train.times.min()
    assert 0 < is_earlier.sum() < 30
    times = train.times
    statistics = CausalStatistics.fit(train, late, CONFIG)
    expected = brute_force(train, lambda i, j: times[j] < times[i], late.select(is_earlier))
    assert_columns(statistics, statistics.training_columns(train), expected)
    held_out = HeldOutLog(train.rows, train.schema, items=ITEMS)
    frozen = brute_force(train, lambda i, j: True, late)
    assert_columns(statistics, statistics.transform(held_out), frozen)


def test_columns_are_standardised_over_the_training_rows(train):
    statistics = CausalStatistics.fit(train, None, CONFIG)
    columns = statistics.training_columns(train)
    assert_allclose(columns.mean(axis=0), 0, atol=1e-5)
    assert_allclose(columns.std(axis=0), 1, atol=1e-5)


def test_a_constant_column_is_zero(train):
    alone = train.select(np.array([0]))
    statistics = CausalStatistics.fit(alone, None, CONFIG)
    assert_array_equal(statistics.std, np.ones(12))
    assert_array_equal(statistics.training_columns(alone), np.zeros((1, 12)))


def test_tables_have_a_neutral_row_for_unknown_ids(train):
    statistics = CausalStatistics.fit(train, None, CONFIG)
    keys, table = statistics.tables["author"]
    assert_array_equal(keys, [1, 2])
    assert table.shape == (3, 3)
    block = slice(6, 9)
    unknown = table[0] * statistics.std[block] + statistics.mean[block]
    assert_allclose(unknown, 0, atol=1e-6)


def test_columns_are_computed_again_from_an_equal_log(train, history):
    statistics = CausalStatistics.fit(train, history, CONFIG)
    restored = CausalStatistics.from_arrays(CONFIG, SCHEMA.task_names, statistics.to_arrays())
    assert_array_equal(restored.training_columns(train), statistics.training_columns(train))


@pytest.mark.parametrize("entity", ["brand", "price"])
def test_an_entity_must_be_an_id_or_a_category(train, entity):
    with pytest.raises(
        LogError, match=rf"statistics of '{entity}': expected one of .*'author', 'tab'\]"
    ):
        CausalStatistics.fit(train, None, StatisticsConfig(entities=[entity]))


def test_ids_of_the_history_must_be_of_the_same_type(train, history):
    rows = history.rows.set_column(0, "uid", history.rows["uid"].cast("string"))
    with pytest.raises(LogError, match=r"'user_id': its ids are \['int64', 'large_string'\] in"):
        CausalStatistics.fit(train, TrainingLog(rows, SCHEMA, items=ITEMS), CONFIG)


def test_granularity_needs_times(train):
    with pytest.raises(LogError, match="granularity 5 needs times; received a log without"):
        CausalStatistics.fit(timeless(train), None, CONFIG.model_copy(update={"granularity": 5.0}))


def test_held_out_rows_are_never_counted(train):
    held_out = HeldOutLog(train.rows, train.schema, items=ITEMS)
    for logs in ((held_out, None), (train, held_out)):
        with pytest.raises(
            TypeError, match="counting statistics needs a TrainingLog; received Hel"
        ):
            CausalStatistics.fit(*logs, CONFIG)
