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
