import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tfmtl.data import FeatureEncoder, FeatureEncoderError, TrainingLog
from tfmtl.pipelines.beam import BipartiteAdjacency, RowCounts
from tfmtl.pipelines.beam.bipartite_adjacency import graph_columns
from tfmtl.schema import Schema, Task

SCHEMA = Schema(
    user="uid", item="vid", time="ts", tasks=[Task(name="click"), Task(name="buy", parent="click")]
)
ROWS = {
    "uid": [7, 7, 9, 9, 7],
    "vid": ["b", "a", "a", "b", "b"],
    "ts": [1, 2, 3, 4, 5],
    "click": [1, 0, 1, 0, 1],
    # Undefined, and so not positive, where there was no click.
    "buy": [0, 1, 0, None, 1],
}


@pytest.fixture
def encoder_folder(tmp_path):
    FeatureEncoder.fit(TrainingLog(pa.table(ROWS), SCHEMA)).save(tmp_path)
    return str(tmp_path)


def as_lists(block):
    return [part.tolist() for part in block]


# Users 7, 9 are 1, 2; items a, b are 1, 2. Clicks are bit 0, purchases bit 1.
@pytest.mark.parametrize(
    ("options", "item_user", "user_item", "counts"),
    [
        (
            {},
            [[1, 2], [0, 1, 2], [2, 1], [3, 1]],
            [[1, 2], [0, 1, 2], [2, 1], [1, 3]],
            RowCounts(5, 0, 3, 1, 5),
        ),
        (
            {"edges": "all", "behaviors": ("buy",)},
            [[1, 2], [0, 2, 4], [1, 2, 1, 2], [0, 2, 0, 0]],
            [[1, 2], [0, 2, 4], [1, 2, 1, 2], [0, 0, 2, 0]],
            RowCounts(5, 0, 5, 1, 5),
        ),
        (
            {"before": 3},
            [[1], [0, 1], [2], [1]],
            [[2], [0, 1], [1], [1]],
            RowCounts(2, 0, 1, 1, 2),
        ),
    ],
)
def test_edges_by_hand(encoder_folder, options, item_user, user_item, counts):
    table = pa.table(ROWS)
    with beam.Pipeline() as pipeline:
        tables = pipeline | beam.Create([table[:2], table[2:], table[:0]])
        graph = tables | BipartiteAdjacency(encoder_folder, **options)
        for name, expected in (("item_user", item_user), ("user_item", user_item)):
            assert_that(graph[name] | name >> beam.Map(as_lists), equal_to([expected]), label=name)
        assert_that(graph["counts"], equal_to([counts]), label="counts are those of the rows")


def test_latest_times_are_those_of_rows_that_make_the_edge(encoder_folder):
    table = pa.table(ROWS)
    with beam.Pipeline() as pipeline:
        tables = pipeline | beam.Create([table[:2], table[2:]])
        graph = tables | BipartiteAdjacency(encoder_folder, latest_times=True)
        # User 1 clicked item 2 at times 1 and 5; user 2 clicked item 1 at 3, and saw item 2 at 4.
        for name, expected in (
            ("item_user_time", [[1, 2], [0, 1, 2], [2, 1], [5, 3]]),
            ("user_item_time", [[1, 2], [0, 1, 2], [2, 1], [3, 5]]),
        ):
            assert_that(graph[name] | name >> beam.Map(as_lists), equal_to([expected]), label=name)


def test_rows_with_unknown_ids_make_no_edge(encoder_folder):
    rows = pa.table(
        {"uid": [8, 7], "vid": ["a", "a"], "ts": [1, 1], "click": [1, 1], "buy": [0, 0]}
    )
    with beam.Pipeline() as pipeline:
        graph = pipeline | beam.Create([rows]) | BipartiteAdjacency(encoder_folder)
        edges = graph["item_user"] | beam.Map(as_lists)
        assert_that(edges, equal_to([[[1], [0, 1], [1], [1]]]))
        assert_that(graph["counts"], equal_to([RowCounts(2, 1, 1, 1, 1)]), label="counts")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edges": "some"}, "expected edges='positive' or 'all'; received 'some'"),
        ({"behaviors": ("like",)}, r"among the tasks \['click', 'buy'\]; received \['like'\]"),
        ({"behaviors": ()}, r"received \[\]"),
        ({"block_rows": 0}, "expected block_rows of at least 1; received 0"),
    ],
)
def test_bad_options(encoder_folder, options, message):
    with pytest.raises(ValueError, match=message):
        BipartiteAdjacency(encoder_folder, **options)


def test_no_encoder(tmp_path):
    with pytest.raises(FeatureEncoderError, match="holds no encoder"):
        BipartiteAdjacency(str(tmp_path / "nowhere"))


def test_before_and_latest_times_need_times(tmp_path):
    train = TrainingLog(
        pa.table({"user_id": [1], "item_id": [1], "click": [1]}), Schema(tasks=[Task(name="click")])
    )
    FeatureEncoder.fit(train).save(tmp_path)
    with pytest.raises(
        ValueError, match="received before=5, but the encoder's schema names no time"
    ):
        BipartiteAdjacency(str(tmp_path), before=5)
    with pytest.raises(ValueError, match="received latest_times=True, but the encoder's schema"):
        BipartiteAdjacency(str(tmp_path), latest_times=True)


def test_columns_need_ids():
    with pytest.raises(ValueError, match="the schema names none"):
        graph_columns(Schema(tasks=[Task(name="click")], user=None, item=None))
    assert graph_columns(SCHEMA) == ["uid", "vid", "ts", "click", "buy"]
