"""LightGBM per task on the same columns, history and graph as the models of a comparison.

What a practitioner would pick for a log of this size. Every large categorical column is replaced by
its smoothed rate of the task and its number of rows, out of fold on the training rows and from all
of them elsewhere, history included where the task is defined there; small ones keep their codes;
numeric columns stay. The graph score of a row is the product of its user's and its item's factors
in a truncated SVD of the task's normalised user-item matrix, out of fold as well. Rounds are chosen
on the validation rows. LightGBM is a development dependency.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.evaluation import Cell, Comparison, read_metrics
from tfmtl.metrics import task_metrics
from tfmtl.schema import ITEM_ID, USER_ID
from tfmtl.training import PreparedData, prepare_data

FOLDS = 5
PRIOR = 20.0
# Columns with more values than this are encoded by rate.
MOST_CODES = 64
RANK = 64
PARAMETERS = {
    "objective": "binary",
    "metric": "binary_logloss",
    "learning_rate": 0.03,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "verbosity": -1,
}
MOST_ROUNDS = 2000
PATIENCE = 50


def target_encoding(
    codes: dict[str, np.ndarray],
    label: np.ndarray,
    weight: np.ndarray,
    history: tuple[np.ndarray, np.ndarray] | None,
    folds: np.ndarray,
    size: int,
) -> dict[str, np.ndarray]:
    """Smoothed rate and log count of one column, per part; out of fold for the training rows.

    Args:
        codes: Encoded column per part (`train`, `validation`, `test`).
        label: Training labels `[n]`.
        weight: 0 where the task is undefined `[n]`.
        history: Codes and labels of history rows on which the task is defined.
        folds: Fold of each training row.
        size: Size of the column's vocabulary.

    Returns:
        `float64 [rows, 2]` per part.
    """

    def sums(part_codes: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.bincount(part_codes, weights=values, minlength=size)

    positives = sums(codes["train"], label * weight)
    defined = sums(codes["train"], weight)
    if history is not None:
        positives += sums(history[0], history[1])
        defined += sums(history[0], np.ones(len(history[0])))

    def encoded(part_codes: np.ndarray, hits: np.ndarray, rows: np.ndarray) -> np.ndarray:
        rate = hits.sum() / rows.sum()
        smoothed = (hits + PRIOR * rate) / (rows + PRIOR)
        return np.stack([smoothed[part_codes], np.log1p(rows[part_codes])], axis=1)

    result = {
        part: encoded(values, positives, defined)
        for part, values in codes.items()
        if part != "train"
    }
    train = np.empty((len(label), 2))
    for fold in range(FOLDS):
        inside = folds == fold
        own = codes["train"][inside]
        train[inside] = encoded(
            own,
            positives - sums(own, (label * weight)[inside]),
            defined - sums(own, weight[inside]),
        )
    result["train"] = train
    return result


def graph_score(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]],
    label: np.ndarray,
    history: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    folds: np.ndarray,
    size: tuple[int, int],
    seed: int,
) -> dict[str, np.ndarray]:
    """Score of each pair in a truncated SVD of the positive pairs; out of fold for training rows.

    Args:
        pairs: Encoded users and items per part (`train`, `validation`, `test`).
        label: Training labels `[n]`, 0 where the task is undefined.
        history: Users, items and labels of history rows on which the task is defined.
        folds: Fold of each training row.
        size: Sizes of the two vocabularies.
        seed: Seed of the decomposition.

    Returns:
        `float64 [rows, 1]` per part.
    """
    users, items = pairs["train"]
    older = [array[:0] for array in (users, items, label)] if history is None else history

    def scores(kept: np.ndarray, wanted: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        columns = [
            np.concatenate([past, own[kept]])
            for past, own in zip(older, (users, items, label), strict=True)
        ]
        positive = columns[2] > 0
        rows, cols = columns[0][positive], columns[1][positive]
        degrees = [
            np.maximum(np.bincount(code, minlength=length), 1)
            for code, length in zip((rows, cols), size, strict=True)
        ]
        weight = 1 / np.sqrt(degrees[0][rows] * degrees[1][cols])
        matrix = sparse.csr_matrix((weight, (rows, cols)), size)
        rank = min(RANK, min(size) - 1)
        left, values, right = randomized_svd(matrix, rank, random_state=seed)
        return np.einsum("nk,nk->n", left[wanted[0]] * values, right.T[wanted[1]])[:, None]

    result = {
        part: scores(np.ones(len(label), bool), wanted)
        for part, wanted in pairs.items()
        if part != "train"
    }
    train = np.empty((len(label), 1))
    for fold in range(FOLDS):
        inside = folds == fold
        train[inside] = scores(~inside, (users[inside], items[inside]))
    result["train"] = train
    return result


def boosted_trees(data: PreparedData, seed: int, label: str = "LightGBM per task") -> Cell:
    """Trains one booster per task and scores validation and test rows."""
    import lightgbm

    parts: dict[str, EncodedLog] = {
        "train": data.train,
        "validation": data.validation,
        "test": data.test,
    }
    folds = np.random.default_rng(seed).integers(0, FOLDS, len(data.train))
    metrics: dict[str, dict] = {"validation": {}, "test": {}}
    matrices = _columns(data, parts, folds, seed)
    for task in data.loaded.log.schema.task_names:
        datasets = {}
        for part in ("train", "validation"):
            defined = parts[part].weights[task] > 0
            datasets[part] = lightgbm.Dataset(
                matrices[part][defined],
                parts[part].labels[task][defined],
                weight=parts[part].weights[task][defined],
            )
        booster = lightgbm.train(
            {**PARAMETERS, "seed": seed},
            datasets["train"],
            MOST_ROUNDS,
            valid_sets=[datasets["validation"]],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )
        for part, own in metrics.items():
            log = parts[part]
            own[task] = task_metrics(
                log.labels[task], booster.predict(matrices[part]), log.weights[task], log.groups
            )
    return Cell(label, seed, metrics)


def _columns(
    data: PreparedData, parts: dict[str, EncodedLog], folds: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Inputs of every booster, `[rows, columns]` per part: each sees the rates of all tasks."""
    columns: dict[str, list[np.ndarray]] = {part: [] for part in parts}

    def add(values: dict[str, np.ndarray]) -> None:
        for part, column in values.items():
            columns[part].append(column.reshape(len(column), -1))

    large = {}
    for spec in data.encoder.inputs:
        if spec.kind == "categorical" and spec.vocabulary_size > MOST_CODES:
            large[spec.name] = spec.vocabulary_size
        # The models' statistics are the causal form of the rates here.
        elif spec.name != "statistics":
            add({part: log.features[spec.name] for part, log in parts.items()})
    for task in data.loaded.log.schema.task_names:
        past = _history_codes(data, task)
        label, weight = data.train.labels[task], data.train.weights[task]
        for name, size in large.items():
            codes = {part: log.features[name] for part, log in parts.items()}
            known = (past[name], past[task]) if name in past else None
            add(target_encoding(codes, label, weight, known, folds, size))
        if USER_ID in large and ITEM_ID in large:
            pairs = {
                part: (log.features[USER_ID], log.features[ITEM_ID]) for part, log in parts.items()
            }
            known = (past[USER_ID], past[ITEM_ID], past[task]) if past else None
            size = (large[USER_ID], large[ITEM_ID])
            add(graph_score(pairs, label * weight, known, folds, size, seed))
    return {part: np.concatenate(own, axis=1) for part, own in columns.items()}


def _history_codes(data: PreparedData, task: str) -> dict[str, np.ndarray]:
    """Encoded ids, user and item features and labels of history rows that define the task."""
    history = data.loaded.history
    if history is None:
        return {}
    labels = history.labels(task)
    known = ~np.isnan(labels)
    if not known.any():
        return {}
    encoder = data.encoder
    rows = {
        "user": np.searchsorted(encoder.entity_table("user").keys, history.user_ids) + 1,
        "item": np.searchsorted(encoder.entity_table("item").keys, history.item_ids) + 1,
    }
    codes = {
        name: column[rows[side][known]]
        for side in ("user", "item")
        for name, column in encoder.entity_table(side).columns.items()
        if column.ndim == 1
    }
    return {**codes, task: labels[known]}


def tree_cells(
    comparison: Comparison,
    folder: Path,
    *,
    label: str = "LightGBM per task",
    data_dir: Path | None = None,
    dataset: str = "",
) -> list[Cell]:
    """One cell per seed of a comparison, on the rows of its first model; finished ones are read.

    Args:
        comparison: What the trees stand beside.
        folder: Where the results go, one folder per seed.
        label: The cells' label.
        data_dir: Folder of a local copy of the data.
        dataset: Label of the log, where the comparison has several.

    Returns:
        The cells in the order of the seeds.
    """
    experiment = comparison.experiment(next(iter(comparison.models)), 0, dataset)
    paths = {seed: folder / f"seed-{seed}" / "metrics.json" for seed in comparison.seeds}
    unfinished = [seed for seed, path in paths.items() if not path.exists()]
    if unfinished:
        data = prepare_data(experiment, data_dir=data_dir, with_graph=False)
        for seed in track(unfinished, label):
            _write(boosted_trees(data, seed, label), paths[seed])
    return [Cell(label, seed, read_metrics(path), dataset=dataset) for seed, path in paths.items()]


def _write(cell: Cell, path: Path) -> None:
    metrics = {
        part: {task: asdict(values) for task, values in own.items()}
        for part, own in cell.metrics.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(metrics))
    aside.replace(path)
