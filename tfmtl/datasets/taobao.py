"""Taobao UserBehavior: nine days of favourites, carts and purchases."""

from __future__ import annotations

from pathlib import Path

from tfmtl.data.splits import split_by_time
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.datasets.shop_edges import ShopEdges
from tfmtl.schema import Schema, Task

NAME = "taobao"
LICENCE = (
    "Taobao UserBehavior of Alibaba's Tianchi, whose terms hold; as released with SSLRec under the "
    "Apache 2.0 licence."
)
CITATION = (
    "Alibaba. User Behavior Data from Taobao for Recommendation (UserBehavior). Tianchi, 2018. "
    "Pairs as in X. Ren et al. SSLRec: A Self-Supervised Learning Framework for Recommendation. "
    "WSDM 2024."
)
SCHEMA = Schema(time="time", tasks=(Task(name="fav"), Task(name="cart"), Task(name="buy", order=1)))
# 25 November and 4 December 2017, midnight in China.
_FIRST, _UNTIL = 1_511_539_200, 1_512_316_800


def fetch_taobao(data_dir: str | Path | None = None, progress: bool = False) -> Path:
    """Finds a copy of the Taobao pairs; they cannot be downloaded.

    Args:
        data_dir: Data home with a folder `taobao`, or the folder itself, with
            `edges_train.parquet`: one row per pair and behaviour with the columns user, item, ts
            in seconds and behavior, which is fav, cart or buy; and `test_target_edges.parquet`
            with the columns user and item. SSLRec calls this log `tmall`.
        progress: Not used, as nothing is downloaded.

    Returns:
        The folder.

    Raises:
        DatasetError: If there is no copy.
    """
    del progress
    return ShopEdges.find(NAME, data_dir)


def load_taobao(
    data_dir: str | Path | None = None, *, ratio: int = 4, seed: int = 0
) -> LoadedDataset:
    """Pairs with the tasks fav, cart and buy, and sampled negatives.

    A pair has one row, at the time of its latest behaviour. The newest tenth of the pairs is the
    test part, the tenth before it the validation part. Page views are not in the release, so every
    pair is positive for some task, and all tasks share the sampled negatives (see
    `sample_negatives`), which are in the part of their pair. The pairs that the release holds out
    have neither a time nor a behaviour: they are no rows, but never become negatives. There are no
    features.

    Args:
        data_dir: See `fetch_taobao`.
        ratio: Negatives per pair, at least 1.
        seed: Seed of the negatives, at least 0.

    Returns:
        The log and its split; no history.

    Raises:
        DatasetError: If there is no copy, it lacks a column or is another log, or a number is too
            small.
    """
    edges = ShopEdges.read(fetch_taobao(data_dir), SCHEMA, _FIRST, _UNTIL)
    validation_from, test_from = edges.newest_from(0.2), edges.newest_from(0.1)
    log = edges.with_negatives(training_before=validation_from, ratio=ratio, seed=seed)
    split = split_by_time(log, validation_from, test_from)
    return LoadedDataset(NAME, log, None, split, LICENCE, CITATION)
