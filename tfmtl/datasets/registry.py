"""Datasets by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfmtl.datasets import (
    aliccp,
    aliexpress,
    census_income,
    ijcai15,
    kuairand,
    movielens,
    simulator,
    table,
    taobao,
    tmall,
)
from tfmtl.datasets.aliccp import fetch_aliccp, load_aliccp
from tfmtl.datasets.aliexpress import fetch_aliexpress, load_aliexpress
from tfmtl.datasets.census_income import fetch_census_income, load_census_income
from tfmtl.datasets.dataset_error import DatasetError
from tfmtl.datasets.ijcai15 import fetch_ijcai15, load_ijcai15
from tfmtl.datasets.kuairand import fetch_kuairand, load_kuairand
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.datasets.movielens import fetch_movielens, load_movielens
from tfmtl.datasets.simulator import simulate_log
from tfmtl.datasets.table import load_table
from tfmtl.datasets.taobao import fetch_taobao, load_taobao
from tfmtl.datasets.tmall import fetch_tmall, load_tmall

_LOADERS: dict[str, Callable[..., LoadedDataset]] = {
    simulator.NAME: simulate_log,
    aliccp.NAME: load_aliccp,
    aliexpress.NAME: load_aliexpress,
    census_income.NAME: load_census_income,
    ijcai15.NAME: load_ijcai15,
    kuairand.NAME: load_kuairand,
    movielens.NAME: load_movielens,
    table.NAME: load_table,
    taobao.NAME: load_taobao,
    tmall.NAME: load_tmall,
}
_FETCHERS: dict[str, Callable[..., Path]] = {
    aliccp.NAME: fetch_aliccp,
    aliexpress.NAME: fetch_aliexpress,
    census_income.NAME: fetch_census_income,
    ijcai15.NAME: fetch_ijcai15,
    kuairand.NAME: fetch_kuairand,
    movielens.NAME: fetch_movielens,
    taobao.NAME: fetch_taobao,
    tmall.NAME: fetch_tmall,
}


def names() -> tuple[str, ...]:
    """Names that `load` knows, sorted.

    Example:
        >>> names()
        ('ali-ccp', 'aliexpress', 'census-income', 'ijcai15', 'kuairand-pure', 'movielens-1m', \
'simulator', 'table', 'taobao', 'tmall')
    """
    return tuple(sorted(_LOADERS))


def load(name: str, data_dir: str | Path | None = None, **options: Any) -> LoadedDataset:
    """Loads a dataset, fetching it first where it is not on disk and can be fetched.

    Args:
        name: One of `names()`.
        data_dir: Data home, or the dataset's own folder; see `data_home` for the default. The
            simulator does without, and `table` resolves relative paths against it.
        **options: Keyword arguments of the dataset's own loader, e.g. `max_users` of
            `movielens-1m`.

    Returns:
        The log, its history, its split and its terms.

    Raises:
        DatasetError: If the name or an option is unknown, or the data cannot be had.

    Example:
        >>> len(load("simulator", num_users=50, num_items=40, num_rows=500, seed=1).log)
        500
    """
    loader = _LOADERS.get(name)
    if loader is None:
        raise DatasetError(f"no dataset {name!r}; expected one of {list(names())}")
    parameters = dict(inspect.signature(loader).parameters)
    places = {"data_dir": data_dir} if parameters.pop("data_dir", None) else {}
    unknown = sorted(set(options) - set(parameters))
    if unknown:
        raise DatasetError(
            f"dataset {name!r} has no options {unknown}; expected some of {sorted(parameters)}"
        )
    needed = {key for key, value in parameters.items() if value.default is value.empty}
    missing = sorted(needed - set(options))
    if missing:
        raise DatasetError(
            f"dataset {name!r} needs the options {missing}; received {sorted(options)}"
        )
    return loader(**places, **options)


def fetch(name: str, data_dir: str | Path | None = None, progress: bool = False) -> Path:
    """Makes sure that a dataset's files are on disk.

    Args:
        name: `census-income` or `movielens-1m`, which are downloaded where there is no copy, or
            `ali-ccp`, `aliexpress`, `ijcai15`, `kuairand-pure`, `taobao` and `tmall`, which are
            only looked for.
        data_dir: Data home, or the dataset's own folder; see `data_home` for the default.
        progress: Whether to show a progress bar while downloading.

    Returns:
        The dataset's folder.

    Raises:
        DatasetError: If there is nothing to fetch under this name, or the data cannot be had.

    Example:
        >>> fetch("simulator")
        Traceback (most recent call last):
        ...
        tfmtl.datasets.dataset_error.DatasetError: nothing to fetch for 'simulator'; ...
    """
    fetcher = _FETCHERS.get(name)
    if fetcher is None:
        raise DatasetError(f"nothing to fetch for {name!r}; expected one of {sorted(_FETCHERS)}")
    return fetcher(data_dir, progress)
