import math

import pytest
import scipy.stats

from tfmtl.evaluation import MEAN, Cell, best_label, difference_table, differences

OURS, THEIRS = (0.70, 0.72, 0.75), (0.69, 0.70, 0.74)


@pytest.fixture
def cells(scored):
    """MoGENet and MMoE with three seeds; on validation rows MMoE is the better one."""
    found = []
    for label, values, validation in (("MoGENet", OURS, 0.6), ("MMoE", THEIRS, 0.8)):
        for seed, value in enumerate(values):
            test = {"click": scored(auc=value), "like": scored(auc=0.6, log_loss=value)}
            rows = {"click": scored(auc=validation), "like": scored(auc=0.5)}
            found.append(Cell(label, seed, {"test": test, "validation": rows}))
    return found


def test_paired_by_seed(cells):
    found = {one.task: one for one in differences(cells, "auc", "MMoE")}
    click = found["click"]
    gaps = [ours - theirs for ours, theirs in zip(OURS, THEIRS, strict=True)]
    mean = sum(gaps) / 3
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / 2)
    t = mean / (deviation / math.sqrt(3))
    assert click.difference == pytest.approx(mean)
    assert click.p_value == pytest.approx(2 * scipy.stats.t.sf(t, df=2))
    # (.7233 - .5) / (.7100 - .5) - 1.
    assert click.improvement == pytest.approx((sum(OURS) / 3 - 0.5) / (sum(THEIRS) / 3 - 0.5) - 1)
    assert found[MEAN].difference == pytest.approx(mean / 2)
    assert found[MEAN].p_value == pytest.approx(click.p_value)
    assert {one.label for one in found.values()} == {"MoGENet"}


def test_equal_differences_and_single_seeds_have_no_p_value(cells):
    like = {one.task: one for one in differences(cells, "auc", "MMoE")}["like"]
    assert (like.difference, like.improvement) == (0.0, 0.0)
    assert math.isnan(like.p_value)
    one_seed = [cell for cell in cells if cell.seed == 0]
    assert all(math.isnan(one.p_value) for one in differences(one_seed, "auc", "MMoE"))


def test_only_common_seeds_are_compared(cells):
    fewer = [cell for cell in cells if (cell.label, cell.seed) != ("MMoE", 2)]
    click = differences(fewer, "auc", "MMoE")[0]
    assert click.difference == pytest.approx(0.015)


def test_metrics_that_are_not_rates_have_no_improvement(cells):
    found = {one.task: one for one in differences(cells, "log_loss", "MMoE")}
    assert math.isnan(found["like"].improvement)
    assert found["like"].difference == pytest.approx(sum(OURS) / 3 - sum(THEIRS) / 3)


def test_the_best_is_chosen_on_validation_rows(cells):
    assert best_label(cells, "auc") == "MMoE"
    assert best_label(cells, "auc", among=["MoGENet"]) == "MoGENet"
    with pytest.raises(ValueError, match=r"at least one model to choose from; .* among \['PLE'\]"):
        best_label(cells, "auc", among=["PLE"])


def test_an_unknown_reference_is_named(cells):
    with pytest.raises(ValueError, match=r"no cells of the reference 'PLE'; expected one of"):
        differences(cells, "auc", "PLE")


def test_table(cells):
    lines = difference_table(differences(cells, "auc", "MMoE")).splitlines()
    assert lines[0] == "| auc against MMoE | click | like | mean over tasks |"
    assert lines[2].startswith(
        "| MoGENet | +0.0133, +6.3 %, p 0.057 | +0.0000, +0.0 %, p undefined"
    )
    (only,) = difference_table(differences(cells, "log_loss", "MMoE")).splitlines()[2:]
    assert "%" not in only
