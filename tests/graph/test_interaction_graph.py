import pyarrow as pa
import pytest

from tfmtl.data import FeatureEncoder, HeldOutLog, TrainingLog
from tfmtl.graph import build_interaction_graph
from tfmtl.schema import Schema, Task

SCHEMA = Schema(
    tasks=[Task(name="click"), Task(name="like", parent="click", order=1)], user="u", item="v"
)


def table(rows):
    names = ("u", "v", "click", "like")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


# Users 7 and 9 get ids 1 and 2, items 3, 5, 8 get 1, 2, 3. The like of (9, 8) is undefined: it was
# not clicked.
TRAIN = TrainingLog(
    table([(7, 3, 1, 0), (9, 5, 1, 1), (7, 3, 1, 1), (9, 8, 0, 1), (7, 8, 1, None)]), SCHEMA
)
HISTORY = TrainingLog(table([(9, 3, 1, 0), (7, 8, 1, 1)]), SCHEMA)


@pytest.fixture(scope="module")
def encoder():
    return FeatureEncoder.fit(TRAIN, HISTORY)


def edges(store):
    return {
        (row, column): bits
        for row in range(store.num_rows)
        for column, bits in zip(
            store.indices[store.indptr[row] : store.indptr[row + 1]].tolist(),
            store.data["behavior"][store.indptr[row] : store.indptr[row + 1]].tolist(),
            strict=True,
        )
    }


def test_merges_positive_rows(encoder):
    item_user, user_item = build_interaction_graph(TRAIN, encoder)
    # click is bit 0, like is bit 1; the two rows of (7, 3) are or-ed.
    assert edges(item_user) == {(1, 1): 3, (1, 3): 1, (2, 2): 3}
    assert edges(user_item) == {(1, 1): 3, (3, 1): 1, (2, 2): 3}
    assert (item_user.num_rows, item_user.num_columns) == (3, 4)
    assert (user_item.num_rows, user_item.num_columns) == (4, 3)


def test_all_edges_keep_exposures(encoder):
    item_user, _ = build_interaction_graph(TRAIN, encoder, edges="all")
    assert edges(item_user) == {(1, 1): 3, (1, 3): 1, (2, 2): 3, (2, 3): 0}


def test_history_alone_and_beside_training_rows(encoder):
    alone, _ = build_interaction_graph(TRAIN, encoder, history=HISTORY, include_training_rows=False)
    assert edges(alone) == {(1, 3): 3, (2, 1): 1}
    both, _ = build_interaction_graph(TRAIN, encoder, history=HISTORY)
    assert edges(both) == {(1, 1): 3, (1, 3): 3, (2, 1): 1, (2, 2): 3}


def test_behaviors_choose_what_counts(encoder):
    item_user, _ = build_interaction_graph(TRAIN, encoder, behaviors=("like",))
    assert edges(item_user) == {(1, 1): 2, (2, 2): 2}


def test_unknown_ids_make_no_edge():
    only_history = FeatureEncoder.fit(HISTORY)
    item_user, _ = build_interaction_graph(TRAIN, only_history)
    # Item 5 is unknown to that encoder; items 3 and 8 have ids 1 and 2.
    assert edges(item_user) == {(1, 1): 3, (1, 2): 1}
    assert item_user.degrees[0] == 0


@pytest.mark.parametrize(
    ("num_tasks", "dtype"), [(1, "uint8"), (8, "uint8"), (9, "uint16"), (17, "uint32")]
)
def test_behaviors_take_the_fewest_bits(num_tasks, dtype):
    tasks = [Task(name=f"t{number}", column="click") for number in range(num_tasks)]
    train = TrainingLog(TRAIN.rows, Schema(tasks=tasks, user="u", item="v"))
    item_user, user_item = build_interaction_graph(train, FeatureEncoder.fit(train))
    for store in (item_user, user_item):
        assert store.data["behavior"].dtype == dtype
        assert set(store.data["behavior"].tolist()) == {2**num_tasks - 1}


def timed_log(times):
    schema = Schema(tasks=SCHEMA.tasks, user="u", item="v", time="ts")
    return TrainingLog(TRAIN.rows.append_column("ts", [times]), schema)


@pytest.mark.parametrize("as_floats", [False, True])
@pytest.mark.parametrize(("start", "dtype"), [(0, "int32"), (2**40, "int64")])
def test_kept_times_make_every_row_an_edge(start, dtype, as_floats):
    times = [start + time for time in (50, 20, 10, 30, 10)]
    log = timed_log([float(time) for time in times] if as_floats else times)
    encoder = FeatureEncoder.fit(log)
    item_user, user_item = build_interaction_graph(log, encoder, keep_times=True)
    assert (item_user.order, user_item.order) == ("time", "time")
    assert item_user.data["time"].dtype == user_item.data["time"].dtype == dtype
    # User 1 (raw 7): items 1 and 3 at time 10, item 1 again at 50. The row (9, 8) is not positive.
    assert item_user.indptr.tolist() == [0, 0, 3, 4]
    assert item_user.indices.tolist() == [1, 3, 1, 2]
    assert (item_user.data["time"] - start).tolist() == [10, 10, 50, 20]
    # The behaviours of (7, 3) stay apart: both at time 10, click alone at 50.
    assert item_user.data["behavior"].tolist() == [3, 1, 1, 3]
    assert user_item.indices.tolist() == [1, 1, 2, 1]
    assert (user_item.data["time"] - start).tolist() == [10, 50, 20, 10]


def test_times_to_keep_must_be_there_and_whole(encoder):
    with pytest.raises(ValueError, match="keep_times=True needs a log with times"):
        build_interaction_graph(TRAIN, encoder, keep_times=True)
    log = timed_log([1.0, 2.0, 3.5, 4.0, 5.0])
    with pytest.raises(ValueError, match=r"expected whole numbers as times .*; received 3\.5"):
        build_interaction_graph(log, FeatureEncoder.fit(log), keep_times=True)


def test_refuses_anything_but_training_rows(encoder):
    held_out = HeldOutLog(TRAIN.rows, SCHEMA)
    with pytest.raises(TypeError, match="building a graph needs a TrainingLog; received HeldOut"):
        build_interaction_graph(held_out, encoder)
    with pytest.raises(TypeError, match="from a history needs a TrainingLog; received HeldOutLog"):
        build_interaction_graph(TRAIN, encoder, history=held_out)


def test_refuses_bad_choices(encoder):
    with pytest.raises(ValueError, match="expected edges='positive' or 'all'; received 'some'"):
        build_interaction_graph(TRAIN, encoder, edges="some")
    with pytest.raises(ValueError, match=r"among the tasks \['click', 'like'\]; received \['buy'"):
        build_interaction_graph(TRAIN, encoder, behaviors=("buy",))
    with pytest.raises(ValueError, match="no rows to build a graph from"):
        build_interaction_graph(TRAIN, encoder, include_training_rows=False)
    without_ids = TrainingLog(
        pa.table({"click": [0, 1]}), Schema(tasks=[Task(name="click")], user=None, item=None)
    )
    with pytest.raises(ValueError, match="a graph needs user and item columns"):
        build_interaction_graph(without_ids, encoder)
    swapped = Schema(tasks=[Task(name="like"), Task(name="click")], user="u", item="v")
    with pytest.raises(ValueError, match=r"expected the tasks .* in the history as well"):
        build_interaction_graph(TRAIN, encoder, history=TrainingLog(HISTORY.rows, swapped))
    many = Schema(tasks=[Task(name=f"t{n}", column="click") for n in range(32)], user="u", item="v")
    with pytest.raises(ValueError, match="records at most 31 tasks; the schema has 32"):
        build_interaction_graph(TrainingLog(TRAIN.rows, many), encoder)
