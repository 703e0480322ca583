import pyarrow as pa
import pytest

from tfmtl.data import InteractionLog
from tfmtl.schema import Feature, Schema, Task

ROWS = {
    "uid": [3, 3, 8, 8, 3, 5],
    "vid": ["b", "a", "b", "c", "c", "a"],
    "ts": [10, 20, 20, 30, 40, 50],
    "tab": ["x", "y", "x", None, "z", "x"],
    "price": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "click": [1, 0, 1, 1, 0, 1],
    "stars": [5.0, None, 3.0, 4.0, 2.0, 5.0],
}
USERS = {"uid": [5, 3, 9], "age": [50.0, 30.0, 90.0]}
ITEMS = {"vid": ["c", "a", "b"], "genre": ["war|drama", "", "drama"], "title": ["C 3", "Ah", "Be"]}

SCHEMA = Schema(
    user="uid",
    item="vid",
    time="ts",
    tasks=[
        Task(name="click"),
        Task(name="like", column="stars", positive={"operator": ">=", "value": 4}, parent="click"),
    ],
    features=[
        Feature(name="age", kind="numeric", side="user", fill=0.0),
        Feature(name="genre", kind="multi_categorical", side="item", separator="|", max_length=3),
        Feature(name="words", kind="text", side="item", column="title", max_length=2),
        Feature(name="tab"),
        Feature(name="price", kind="numeric"),
    ],
)


def make_log(rows=None, users=USERS, items=ITEMS, schema=SCHEMA, kind=InteractionLog):
    return kind(
        pa.table({**ROWS, **(rows or {})}),
        schema,
        None if users is None else pa.table(users),
        None if items is None else pa.table(items),
    )


@pytest.fixture
def log():
    return make_log()


@pytest.fixture
def build():
    return make_log
