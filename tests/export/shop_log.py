"""A small log: features of every kind, in rows and tables, and rows that meet the unknown."""

import numpy as np
import pyarrow as pa

from tfmtl.data import HeldOutLog, InteractionLog, Split, StatisticsConfig, TrainingLog
from tfmtl.datasets import LoadedDataset
from tfmtl.schema import Feature, Schema, Task

STATISTICS = StatisticsConfig(entities=["user_id", "item_id", "country", "tab"], prior=3)
SCHEMA = Schema(
    user="who",
    item="what",
    time="when",
    tasks=[Task(name="click"), Task(name="like", parent="click", order=1)],
    features=[
        Feature(name="age", kind="numeric", side="user", fill=30.0),
        # Rare countries share id 0 in the embedding, yet each has statistics of its own.
        Feature(name="country", side="user", min_count=15),
        Feature(name="words", kind="text", side="item", column="title", max_length=3),
        Feature(name="genre", kind="multi_categorical", side="item", separator="|", max_length=2),
        Feature(name="tags", kind="multi_categorical", side="item", max_length=3),
        Feature(name="year", kind="numeric", side="item", transform="log"),
        Feature(name="tab"),
        Feature(name="last_tab", vocabulary="tab"),
        Feature(name="first_tab", vocabulary="last_tab"),
        Feature(name="hour"),
        Feature(name="price", kind="numeric"),
        Feature(name="bid", kind="numeric", transform="log", fill=2.0),
        Feature(name="seen", kind="sequence", vocabulary="item_id", max_length=3),
        Feature(name="cover", kind="vector", side="item", dim=3),
        Feature(name="mood", kind="vector", dim=2),
    ],
)
TITLES = [
    "The Big-Sleep (1946)",
    "İstanbul Boğaz",
    "ΟΔΥΣΣΕΥΣ, ω",
    "Amélie  à Paris",
    "",
    "8½ — Otto e mezzo",
    "东京物语 2",
    "the big",
    None,
    "Straße/ẞ x",
]
TABS = ["home", "", "search", "ünï", None, "home|x"]


def _pick(random, values, size):
    return [values[place] for place in random.integers(len(values), size=size)]


def _name(kind, prefix, number):
    return f"{prefix}{number}" if kind == "text" else 1000 + 7 * number


def _rows(random, size, user_kind, item_kind, users, items, tabs):
    clicks = random.integers(0, 2, size)
    # The user of number 4 never does anything: a node without edges.
    places = random.integers(users, size=size)
    clicks[places == 4] = 0
    clicks[:2], places[:2] = 1, 0
    likes = np.where(clicks == 1, random.integers(0, 2, size), 0)
    likes[:2] = 1, 0
    bids = random.exponential(5, size)
    bids[random.random(size) < 0.3] = np.nan
    seen = [
        None
        if random.random() < 0.1
        else [
            None if random.random() < 0.1 else _name(item_kind, "i", number)
            for number in random.integers(0, items + 3, random.integers(0, 6))
        ]
        for _ in range(size)
    ]
    item_type = pa.string() if item_kind == "text" else pa.int32()
    return {
        "who": [_name(user_kind, "u", number) for number in places],
        "what": [_name(item_kind, "i", number) for number in random.integers(items, size=size)],
        "tab": _pick(random, tabs, size),
        "last_tab": _pick(random, tabs, size),
        "first_tab": _pick(random, tabs, size),
        "hour": pa.array(_pick(random, [0, 5, 23, None], size), pa.int8()),
        "price": random.normal(100, 30, size),
        "bid": pa.array(bids, from_pandas=True),
        "seen": pa.array(seen, pa.list_(item_type)),
        "mood": [None if place % 5 == 0 else [place / 8, -1.5] for place in range(size)],
        "click": clicks,
        "like": likes,
    }


def _tables(random, user_kind, item_kind):
    # Users 0..9 of the 12 in the rows, and one that no row shows.
    numbers = [*range(10), 50]
    ages = random.integers(18, 70, len(numbers)).astype(float)
    ages[2] = np.nan
    users = {
        "who": [_name(user_kind, "u", number) for number in numbers],
        "age": pa.array(ages, from_pandas=True),
        "country": [*["DE"] * 3, *["FR"] * 3, "LU", "MT", None, "DE", "LU"],
    }
    numbers = [*range(len(TITLES)), 60]
    items = {
        "what": [_name(item_kind, "i", number) for number in numbers],
        "title": [*TITLES, "Unseen words"],
        "genre": [
            "war|drama",
            "",
            "drama",
            None,
            "|war||noir|x",
            "x",
            "x|x",
            "noir",
            "war",
            "y",
            "z",
        ],
        "tags": [["a", "b"], [], ["b", None], None, ["a", "c", "d", "e"], *[["c"]] * 6],
        "cover": pa.array(
            [None if place == 3 else [0.25 * place, -place, 7.5] for place in range(len(numbers))],
            pa.list_(pa.float32(), 3),
        ),
        "year": np.array([1946, 2003, 1954, 2001, 1999, 1963, 1953, 1960, 1970, 1980, 2030]),
    }
    return pa.table(users), pa.table(items)


def shop(seed=0, user_kind="text", item_kind="number"):
    """A loaded dataset; the test rows hold ids, tabs and words that training does not show."""
    random = np.random.default_rng(seed)
    tables = _tables(random, user_kind, item_kind)
    parts = []
    for start, size, kind, users, items, tabs in (
        (0, 160, TrainingLog, 12, 10, TABS),
        (1000, 40, HeldOutLog, 12, 10, TABS),
        (2000, 40, HeldOutLog, 15, 14, [*TABS, "new", "never"]),
    ):
        rows = _rows(random, size, user_kind, item_kind, users, items, tabs)
        rows["when"] = start + np.arange(size)
        parts.append(kind(pa.table(rows), SCHEMA, *tables))
    whole = InteractionLog(pa.concat_tables([part.rows for part in parts]), SCHEMA, *tables)
    return LoadedDataset("shop", whole, None, Split(*parts), "", "")
