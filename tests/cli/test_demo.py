"""The demo on a film log of a few users, in MovieLens' layout."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.cli.command_line import done, refused
from tests.training.small_experiment import HYPERPARAMETERS
from tfmtl.evaluation import read_metrics
from tfmtl.training import mean_metric

USERS, FILMS, RATINGS = 12, 40, 20


@pytest.fixture
def movies(tmp_path):
    """A data home with ratings of twelve users."""
    random = np.random.default_rng(0)
    folder = tmp_path / "data" / "movielens-1m"
    folder.mkdir(parents=True)
    films = np.concatenate([random.permutation(FILMS)[:RATINGS] + 1 for _ in range(USERS)])
    ratings = {
        "user_id": np.repeat(np.arange(1, USERS + 1), RATINGS),
        "item": films,
        "rating": np.clip(films % 5 + random.integers(0, 3, len(films)), 1, 5),
        "timestamp": np.arange(len(films)) * 60,
    }
    titles = [f"Film {number} (19{50 + number})" for number in range(FILMS)]
    items = {
        "item": np.arange(1, FILMS + 1),
        "title_with_year": titles,
        "movie_title": [title[:-7] for title in titles],
        "genre": ["Drama Comedy", "Action", "Drama", "War"] * (FILMS // 4),
        "release_year": [str(1950 + number) for number in range(FILMS)],
    }
    users = {
        "user_id": np.arange(1, USERS + 1),
        "gender": ["F", "M"] * (USERS // 2),
        "age": [18, 25, 35] * (USERS // 3),
        "occupation": ["1", "2"] * (USERS // 2),
        "zip_code": [f"0{number}123" for number in range(10, 10 + USERS)],
    }
    for name, columns in (("ratings", ratings), ("items", items), ("users", users)):
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return tmp_path / "data"


@pytest.fixture
def comparison(tmp_path):
    models = {
        label: {"model": {"name": name, "hyperparameters": yaml.safe_load(HYPERPARAMETERS[name])}}
        for label, name in (("MMoE", "mmoe"), ("MoGENet", "mogenet"))
    }
    base = {
        "dataset": {"name": "movielens-1m"},
        "statistics": {"entities": ["user_id", "item_id"]},
        "graph": {"behaviors": ["like"], "fan_out": [3]},
        "training": {"batch_size": 32, "epochs": 1, "learning_rate": 0.01},
    }
    file = tmp_path / "comparison.yaml"
    file.write_text(yaml.safe_dump({"base": base, "models": models, "seeds": [0]}))
    return file


@pytest.mark.slow
def test_from_ratings_to_titles(movies, comparison, tmp_path):
    runs = tmp_path / "runs"
    arguments = ("--data-dir", movies, "--comparison", comparison, "--output", runs)
    outcome = done("demo", *arguments, "--user", 3)
    lines = outcome.out.splitlines()
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]
    assert [row[:2] for row in rows[:4]] == [
        ["like", "MMoE"],
        ["like", "MoGENet"],
        ["love", "MMoE"],
        ["love", "MoGENet"],
    ]
    gauc = {
        label: mean_metric(
            read_metrics(runs / label / "seed-0" / "metrics.json")["validation"], "gauc"
        )
        for label in ("MMoE", "MoGENet")
    }
    best = max(gauc, key=gauc.get)
    assert f"best mean GAUC on validation: {best}; exporting it" in lines
    assert (runs / "served" / "1" / "saved_model.pb").is_file()
    assert f"top ten of {FILMS - RATINGS} films for user 3" in outcome.out
    top = rows[4:]
    assert [row[0] for row in top] == [str(place) for place in range(1, 11)]
    ratings = pq.read_table(movies / "movielens-1m" / "ratings.parquet").to_pandas()
    seen = set(ratings["item"][ratings["user_id"] == 3])
    recommended = [int(row[1].split()[1]) + 1 for row in top]
    assert len(set(recommended)) == 10
    assert not seen & set(recommended)
    probabilities = [float(row[2]) for row in top]
    assert probabilities == sorted(probabilities, reverse=True)
    # A second demo trains nothing: it reads the cells, exports the next version, asks again.
    again = done("demo", *arguments, "--user", 3)
    assert "epoch" not in again.err
    assert (runs / "served" / "2" / "saved_model.pb").is_file()


def test_a_data_folder_without_films_is_named(comparison, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    line = refused(
        "demo", "--comparison", comparison, "--data-dir", tmp_path, "--output", tmp_path / "runs"
    )
    assert "could not download" in line
    assert "let --data-dir or TFMTL_DATA_HOME point to a folder with a local copy" in line
