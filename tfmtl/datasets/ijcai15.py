"""IJCAI-15: half a year of favourites and purchases, up to the sale of 11 November."""

from __future__ import annotations

from pathlib import Path

from tfmtl.data.splits import split_by_time
from tfmtl.datasets.loaded_dataset import LoadedDataset
from tfmtl.datasets.shop_edges import ShopEdges
from tfmtl.schema import Schema, Task

NAME = "ijcai15"
LICENCE = (
    "IJCAI-15 repeat buyers log of Alibaba's Tianchi, whose terms hold; as released with SSLRec "
    "under the Apache 2.0 licence."
)
CITATION = (
    "Alibaba. IJCAI-15 Repeat Buyers Prediction. Tianchi, 2015. Pairs as in X. Ren et al. SSLRec: "
    "A Self-Supervised Learning Framework for Recommendation. WSDM 2024."
)
SCHEMA = Schema(time="time", tasks=(Task(name="fav"), Task(name="buy", order=1)))
# 11 May, 11 November and 12 November, midnight in China, of the year 2015 that the release stamps.
_FIRST, _TEST_FROM, _UNTIL = 1_431_273_600, 1_447_171_200, 1_447_257_600


def fetch_ijcai15(data_dir: str | Path | None = None, progress: bool = False) -> Path:
    """Finds a copy of the IJCAI-15 pairs; they cannot be downloaded.

    Args:
        data_dir: Data home with a folder `ijcai15`, or the folder itself, with
            `edges_train.parquet`: one row per pair and behaviour with the columns user, item, ts
            (midnight of the day in China, in seconds) and behavior, which is fav, cart or buy; and
            `test_target_edges.parquet` with the columns user and item.
        progress: Not used, as nothing is downloaded.

    Returns:
        The folder.

    Raises:
        DatasetError: If there is no copy.
    """
    del progress
    return ShopEdges.find(NAME, data_dir)


def load_ijcai15(
    data_dir: str | Path | None = None, *, ratio: int = 4, seed: int = 0
) -> LoadedDataset:
    """Pairs with the tasks fav and buy, and sampled negatives.

    A pair has one row, at the day of its latest behaviour. The pairs of 11 November, the day of the
    sale, are the test part; of those before it, the newest tenth is the validation part, rounded up
    to whole days. The 1,330 carts are too rare for a task and are left out. Clicks are not in the
    release, so every pair is positive for some task, and all tasks share the sampled negatives (see
    `sample_negatives`), which are in the part of their pair. Pairs with a cart only, and pairs that
    the release holds out, which have neither a time nor a behaviour, are no rows, but never become
    negatives. There are no features.

    Items come and go within days. In the complete release, 28 % of the validation pairs and 30 % of
    the test pairs have an item without a training pair, which no negative has, and the others have
    rarer items than their negatives: training popularity alone has a test AUC of 0.17 for buy. What
    a model makes of unseen and of popular items so moves every held-out metric by much.

    Args:
        data_dir: See `fetch_ijcai15`.
        ratio: Negatives per pair, at least 1.
        seed: Seed of the negatives, at least 0.

    Returns:
        The log and its split; no history.

    Raises:
        DatasetError: If there is no copy, it lacks a column or is another log, or a number is too
            small.
    """
    edges = ShopEdges.read(fetch_ijcai15(data_dir), SCHEMA, _FIRST, _UNTIL)
    validation_from = edges.newest_from(0.1, before=_TEST_FROM)
    log = edges.with_negatives(training_before=validation_from, ratio=ratio, seed=seed)
    split = split_by_time(log, validation_from, _TEST_FROM)
    return LoadedDataset(NAME, log, None, split, LICENCE, CITATION)
