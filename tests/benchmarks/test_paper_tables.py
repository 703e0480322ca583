import csv
from dataclasses import replace

import pytest

from benchmarks.paper_tables import (
    NOT_REPRODUCED,
    PAPER,
    REPRODUCED,
    RESULTS,
    WITHIN_ROUNDING,
    bases_of,
    below,
    improvements,
    lifted,
    main,
    read_paper,
    render,
    wrong_arrows,
)


@pytest.fixture
def paper():
    return read_paper()


def test_the_columns_are_complete(paper):
    assert len(paper.baselines) == 8
    whole = [*paper.baselines.values(), *paper.with_mgnn.values(), *paper.arrows.values()]
    whole += [paper.mogenet, paper.printed_improvement]
    assert {len(row) for row in whole} == {len(paper.columns)} == {6}
    assert {len(row) for row in (*paper.interaction.values(), *paper.loss.values())} == {4}
    assert set(paper.with_mgnn) == set(paper.arrows) == set(paper.baselines) - {"MLP", "NGCF"}
    # MoGENet stands in three tables.
    assert paper.interaction["element-wise product"] == paper.mogenet[:4]
    assert paper.loss["uncertainty and cooperative"] == paper.mogenet[:4]


def test_improvements_over_the_best_baseline(paper):
    received = {
        cell.column: (cell.baseline, round(cell.percent, 2), cell.printed, cell.verdict)
        for cell in improvements(paper)
    }
    assert received == {
        "A click": ("NGCF", 1.89, 1.89, REPRODUCED),
        "A conversion": ("SNR-trans", 5.61, 5.61, REPRODUCED),
        "B click": ("NGCF", 1.13, 1.13, REPRODUCED),
        "B conversion": ("Cross-Stitch", 0.95, 0.42, NOT_REPRODUCED),
        "IJCAI favourite": ("NGCF", 0.45, 0.41, WITHIN_ROUNDING),
        "IJCAI purchase": ("NGCF", 0.45, 0.44, WITHIN_ROUNDING),
    }


def test_what_rounding_allows(paper):
    cells = {cell.column: cell for cell in improvements(paper)}
    # 0.30915 / 0.30635 - 1 and 0.30925 / 0.30625 - 1.
    conversion = cells["B conversion"]
    assert (conversion.lower, conversion.upper) == pytest.approx((0.91399, 0.97959), abs=1e-5)
    # 0.24415 / 0.24315 - 1 is 0.411 %, which the paper's 0.41 may be: the formula's 0.45 is not.
    favourite = cells["IJCAI favourite"]
    assert (favourite.lower, favourite.upper) == pytest.approx((0.41127, 0.49372), abs=1e-5)


def test_a_value_beyond_rounding_is_told_from_one_within(paper):
    printed = [*paper.printed_improvement]
    for value, verdict in ((0.41, WITHIN_ROUNDING), (0.40, NOT_REPRODUCED), (0.50, NOT_REPRODUCED)):
        printed[4] = value
        cells = improvements(replace(paper, printed_improvement=printed))
        assert cells[4].verdict == verdict


def test_the_base_that_would_give_the_printed_value(paper):
    cells = {cell.column: cell for cell in improvements(paper)}
    assert bases_of(paper, cells["B conversion"]) == ["Shared-Bottom+MGNN"]
    assert bases_of(paper, cells["A click"]) == ["NGCF"]
    assert bases_of(paper, cells["IJCAI favourite"]) == []


def test_the_graph_network_lifts(paper):
    assert [len(names) for names in lifted(paper).values()] == [5, 4, 6, 4, 6, 1]
    assert wrong_arrows(paper) == [("Shared-Bottom", "IJCAI purchase")]


def test_parts_of_the_loss(paper):
    loss, columns = paper.loss, paper.columns
    assert below(loss["uncertainty"], loss["plain"], columns) == []
    assert below(loss["cooperative"], loss["plain"], columns) == [
        "A click",
        "A conversion",
        "B conversion",
    ]
    assert below(loss["uncertainty and cooperative"], loss["plain"], columns) == ["B conversion"]


def test_the_text_follows_the_numbers(paper):
    text = render(paper)["results.md"]
    assert "1 not reproduced (B conversion)" in text
    assert "cooperative alone is lower in 3 of 4 columns" in text
    # With another GAUC of MoGENet on B conversion, 0.42 % would be right.
    values = [*paper.mogenet]
    values[3] = 0.8076
    changed = render(replace(paper, mogenet=values))["results.md"]
    assert "0 not reproduced" in changed
    assert "above every variant in 5 of 6 columns" in changed


def test_the_results_are_those_of_the_script(paper, tmp_path):
    main(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.md"]
    for path in tmp_path.iterdir():
        kept = RESULTS / path.name
        assert path.read_text() == kept.read_text(), "run `python -m benchmarks.paper_tables`"
    with (RESULTS / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["column"] for row in rows] == paper.columns
    assert PAPER.is_file()
