"""Tmall: pairs of users and items that met, and what followed a click."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from tfmtl.data.interaction_log import InteractionLog
from tfmtl.data.splits import split_random
from tfmtl.datasets.arrow_files import read_table
from tfmtl.datasets.data_home import data_home, find_folder
from tfmtl.datasets.dataset_error import DatasetError
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.schema import Schema, Task

NAME = "tmall"
LICENCE = (
    "Tmall logs of Alibaba's Tianchi, whose terms hold; as released with MBGCN under the MIT "
    "licence."
)
CITATION = "Jin et al. Multi-behavior Recommendation with Graph Convolutional Networks. SIGIR 2020."
SCHEMA = Schema(tasks=(Task(name="collect"), Task(name="buy", order=1)))
_FILE = "pairs.parquet"
_COLUMNS = ("user", "item", "click", "collect", "buy")


def fetch_tmall(data_dir: str | Path | None = None, progress: bool = False) -> Path:
    """Finds a copy of the Tmall pairs; they cannot be downloaded.

    Args:
        data_dir: Data home with a folder `tmall`, or the folder itself, with `pairs.parquet`: one
            row per pair with the columns user, item, click, collect and buy, 0 or 1 each.
        progress: Not used, as nothing is downloaded.

    Returns:
        The folder.

    Raises:
        DatasetError: If there is no copy.
    """
    del progress
    home = data_home(data_dir)
    found = find_folder(home, (NAME,), ((_FILE,),))
    if found is None:
        raise DatasetError(
            f"no Tmall pairs under {home}: expected {NAME}/{_FILE} with the columns "
            f"{list(_COLUMNS)}, made from the behaviour files of the MBGCN release"
        )
    return found


def load_tmall(data_dir: str | Path | None = None, *, seed: int = 0) -> LoadedDataset:
    """Clicked pairs with the tasks collect and buy.

    Pairs that were not clicked are left out: they are in the release only because of another
    behaviour. There are no times and no features, so the split is random over pairs, 80/10/10.

    Args:
        data_dir: See `fetch_tmall`.
        seed: Seed of the split.

    Returns:
        The log and its split; no history.

    Raises:
        DatasetError: If there is no copy, or it lacks a column.
    """
    pairs = read_table(fetch_tmall(data_dir) / _FILE, needed=_COLUMNS)
    clicked = pairs.filter(pc.equal(pairs["click"], 1))
    clicked = clicked.select(["user", "item", "collect", "buy"])
    log = InteractionLog(clicked.rename_columns(["user_id", "item_id", "collect", "buy"]), SCHEMA)
    return LoadedDataset(NAME, log, None, split_random(log, seed=seed), LICENCE, CITATION)
