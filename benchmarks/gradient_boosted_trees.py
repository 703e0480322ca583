"""LightGBM per task on the same columns and the same history as the models of a comparison.

What a practitioner would pick for a log of this size: every categorical column is replaced by its
smoothed rate of the task, out of fold on the training rows and from all of them elsewhere, history
included where the task is defined there; numeric columns stay. Rounds are chosen on the validation
rows. LightGBM is a development dependency.
"""

from __future__ import annotations

import numpy as np

from tfmtl.data.encoded_log import EncodedLog
from tfmtl.data.interaction_log import TrainingLog
from tfmtl.evaluation import Cell
from tfmtl.metrics import task_metrics
from tfmtl.training import PreparedData

FOLDS = 5
PRIOR = 20.0
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


def boosted_trees(data: PreparedData, seed: int, label: str = "LightGBM per task") -> Cell:
    """Trains one booster per task and scores validation and test rows."""
    import lightgbm

    parts: dict[str, EncodedLog] = {
        "train": data.train,
        "validation": data.validation,
        "test": data.test,
    }
    specs = [spec for spec in data.encoder.inputs if spec.name != "statistics"]
    history = data.loaded.history
    encoded_history = None if history is None else _history_codes(data, history)
    folds = np.random.default_rng(seed).integers(0, FOLDS, len(data.train))
    metrics: dict[str, dict] = {"validation": {}, "test": {}}
    for task in data.loaded.log.schema.task_names:
        columns: dict[str, list[np.ndarray]] = {part: [] for part in parts}
        for spec in specs:
            values = {part: log.features[spec.name] for part, log in parts.items()}
            if spec.kind == "categorical":
                past = None
                if encoded_history is not None and spec.name in encoded_history:
                    labels = history.labels(task)
                    known = ~np.isnan(labels)
                    past = (encoded_history[spec.name][known], labels[known])
                values = target_encoding(
                    values,
                    data.train.labels[task],
                    data.train.weights[task],
                    past,
                    folds,
                    spec.vocabulary_size,
                )
            for part, column in values.items():
                columns[part].append(column.reshape(len(column), -1))
        matrices = {part: np.concatenate(own, axis=1) for part, own in columns.items()}
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


def _history_codes(data: PreparedData, history: TrainingLog) -> dict[str, np.ndarray]:
    """Encoded ids and user and item features of the history's rows."""
    encoder = data.encoder
    rows = {
        "user": np.searchsorted(encoder.entity_table("user").keys, history.user_ids) + 1,
        "item": np.searchsorted(encoder.entity_table("item").keys, history.item_ids) + 1,
    }
    return {
        name: column[rows[side]]
        for side in ("user", "item")
        for name, column in encoder.entity_table(side).columns.items()
        if column.ndim == 1
    }
