import pytest

from tfmtl.evaluation import Cell, Trial, Tuning, TuningConfig, tuning_table, write_report

SPACE = {"training.clip_norm": {"kind": "choice", "values": [None, 1.0]}}


def tuning(*scores, metric="auc"):
    """Trials that took a second each; those without a score failed."""
    trials = tuple(
        Trial(
            {"training.clip_norm": None if place == 0 else float(place)},
            score,
            1.0,
            "ValueError: diverged" if score is None else None,
        )
        for place, score in enumerate(scores)
    )
    return Tuning(TuningConfig(trials=len(scores), space=SPACE), metric, trials)


@pytest.mark.parametrize(
    ("found", "best"),
    [
        (tuning(0.7, 0.6, 0.8), 2),
        (tuning(0.7, 0.6, 0.8, metric="log_loss"), 1),
        (tuning(0.7, 0.7), 0),
        (tuning(None, 0.6, None), 1),
    ],
)
def test_the_best_trial_is_chosen(found, best):
    assert found.best == best
    assert found.chosen == ({"training.clip_norm": float(best)} if best else {})


def test_trials_that_all_failed():
    with pytest.raises(ValueError, match="all 2 trials failed, the untuned one with: ValueError"):
        tuning(None, None)


def test_a_report_lists_budgets_and_choices(scored, tmp_path):
    metrics = {"test": {"click": scored()}, "validation": {"click": scored()}}
    cells = [
        Cell(label, seed, metrics, tuning=found)
        for label, found in (("A", tuning(0.7, 0.6)), ("B", tuning(None, 0.65)), ("C", None))
        for seed in (0, 1)
    ]
    text = write_report(cells, tmp_path).read_text(encoding="utf-8")
    assert "Every model had 2 trials of oracle random with seed 0 on the validation rows" in text
    rows = [line for line in text.splitlines() if "training.clip_norm" in line]
    assert rows == [
        "| A | 2 | 0 | 2.0 | auc | 0.7000 | 0.7000 | untuned, `training.clip_norm: null` |",
        "| B | 2 | 1 | 2.0 | auc | failed | 0.6500 | `training.clip_norm: 1.0` |",
    ]
    assert "- B, trial 1: ValueError: diverged" in text


def test_a_report_without_tuning_says_nothing_of_it(scored, tmp_path):
    cells = [Cell("A", 0, {"test": {"click": scored()}})]
    assert tuning_table(cells) == ""
    assert "tun" not in write_report(cells, tmp_path).read_text(encoding="utf-8")
