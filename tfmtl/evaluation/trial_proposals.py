"""Settings that an oracle of KerasTuner proposes, one trial after another."""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator, Mapping
from typing import Any

from tfmtl.evaluation.tuning_config import TuningConfig

# Proposals in a row that were tried before, after which a space counts as exhausted.
_MOST_REPEATS = 20


def import_keras_tuner() -> Any:
    """The `keras_tuner` module.

    Raises:
        ImportError: If it is not installed.

    Example:
        >>> import_keras_tuner().HyperParameters().values
        {}
    """
    try:
        import keras_tuner
        import sklearn  # noqa: F401, the Gaussian process of its bayesian oracle
    except ImportError as error:
        raise ImportError(
            f"tuning needs keras-tuner and scikit-learn ({error}): install tfmtl[tuning], or leave "
            "'tuning' out of the comparison"
        ) from error
    return keras_tuner


def trial_proposals(
    tuning: TuningConfig, untuned: Mapping[str, Any], *, greater_is_better: bool
) -> Generator[dict[str, Any], float | None, None]:
    """Proposes settings; wants the score of the last one sent, None for a failed trial.

    The first proposal is empty, the untuned setting. With one configuration and one sequence of
    scores the proposals are always the same.

    Args:
        tuning: Oracle, seed and space; its number of trials is the caller's business.
        untuned: Value of each field of the space in the untuned setting. Where the space holds all
            of them, the oracle learns the first score too.
        greater_is_better: Whether a larger score is better.

    Yields:
        Dotted name to value. Ends when the space is exhausted.

    Raises:
        ImportError: If `keras_tuner` is not installed.

    Example:
        >>> tuning = TuningConfig(
        ...     oracle="grid", space={"model.dim": {"kind": "choice", "values": [8, 16, 32]}})
        >>> trials = trial_proposals(tuning, {"model.dim": 16}, greater_is_better=True)
        >>> next(trials), trials.send(0.7), trials.send(0.6)
        ({}, {'model.dim': 8}, {'model.dim': 32})
    """
    first = yield {}
    scores: dict[str, float | None] = {}
    start = None
    if all(one.contains(untuned[path]) for path, one in tuning.space.items()):
        start = {path: one.encode(untuned[path]) for path, one in tuning.space.items()}
        scores[str(_decoded(tuning, start))] = first
    oracle = _oracle(tuning, start, greater_is_better)
    repeats = 0
    while repeats <= _MOST_REPEATS:
        with warnings.catch_warnings():
            # Of a Gaussian process on a handful of points.
            warnings.simplefilter("ignore")
            trial = oracle.create_trial("tfmtl")
        if trial.status == "STOPPED":
            return
        values = _decoded(tuning, trial.hyperparameters.values)
        key = str(values)
        if key in scores:
            repeats += 1
        else:
            repeats = 0
            scores[key] = yield values
        score = scores[key]
        if score is None:
            known = [one for one in scores.values() if one is not None]
            score = (min if greater_is_better else max)(known, default=None)
        if score is None:
            trial.status = "FAILED"
        else:
            oracle.update_trial(trial.trial_id, {"score": score})
            trial.status = "COMPLETED"
        oracle.end_trial(trial)


def _decoded(tuning: TuningConfig, proposed: Mapping[str, Any]) -> dict[str, Any]:
    return {path: one.decode(proposed[path]) for path, one in tuning.space.items()}


def _oracle(tuning: TuningConfig, start: Mapping[str, Any] | None, greater_is_better: bool) -> Any:
    keras_tuner = import_keras_tuner()
    kind = {
        "random": keras_tuner.oracles.RandomSearchOracle,
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
        "grid": keras_tuner.oracles.GridSearchOracle,
    }[tuning.oracle]

    class Oracle(kind):  # type: ignore[misc, valid-type]
        """Starts at the untuned setting, and keeps nothing on disk: the run folders do."""

        def populate_space(self, trial_id: str) -> dict[str, Any]:
            proposal = super().populate_space(trial_id)
            if start is None or self.trials:
                return proposal
            return {"status": "RUNNING", "values": dict(start)}

        def save(self) -> None:
            pass

        def _save_trial(self, trial: Any) -> None:
            pass

    space = keras_tuner.HyperParameters()
    for path, dimension in tuning.space.items():
        dimension.register(path, space, None if start is None else start[path])
    options = {"num_initial_points": len(tuning.space) + 1} if tuning.oracle == "bayesian" else {}
    oracle = Oracle(
        objective=keras_tuner.Objective("score", "max" if greater_is_better else "min"),
        max_trials=None,
        # KerasTuner takes 0 for no seed and counts up from the seed with every draw: two seeds
        # must lie further apart than a tuning draws.
        seed=(1 + 10_000 * tuning.seed) % 2**32,
        hyperparameters=space,
        max_consecutive_failed_trials=math.inf,
        **options,
    )
    oracle.verbose = 0
    return oracle
