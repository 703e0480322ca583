"""The GAUC tables of MoGENet's paper, checked by recomputing what follows from them.

    python -m benchmarks.paper_tables

reads what Hu et al. print (`benchmarks/paper_tables.yaml`), recomputes the improvements over the
best baseline, counts which baselines a graph network lifts and what each part of the loss does, and
writes `docs/results/paper/`. Nothing is trained.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
import yaml

from tfmtl.metrics import relative_improvement

PAPER = Path(__file__).with_name("paper_tables.yaml")
RESULTS = Path(__file__).parents[1] / "docs" / "results" / "paper"
# Half a unit of the last printed digit: GAUC has four, RelaImpr two in percent.
GAUC_ROUNDING = 0.5e-4
PERCENT_ROUNDING = 0.5e-2
REPRODUCED, WITHIN_ROUNDING, NOT_REPRODUCED = "reproduced", "within rounding", "not reproduced"


@dataclass(frozen=True)
class Paper:
    """The printed tables: values per method, in the order of the columns.

    Args:
        columns: Dataset and task of each column.
        baselines: GAUC per baseline, Table 2.
        mogenet: GAUC of MoGENet, Table 2.
        printed_improvement: Its printed RelaImpr against the best baseline, in percent.
        with_mgnn: GAUC of the variants "+MGNN", Table 3.
        arrows: Whether Table 3 marks the variant as better.
        interaction: GAUC per interaction function, Table 4, first four columns.
        loss: GAUC per loss, Table 5, first four columns.
    """

    columns: list[str]
    baselines: dict[str, list[float]]
    mogenet: list[float]
    printed_improvement: list[float]
    with_mgnn: dict[str, list[float]]
    arrows: dict[str, list[bool]]
    interaction: dict[str, list[float]]
    loss: dict[str, list[float]]


@dataclass(frozen=True)
class Improvement:
    """RelaImpr of MoGENet over the best baseline of one column, in percent.

    Args:
        column: Dataset and task.
        baseline: The best baseline.
        base: Its GAUC.
        value: GAUC of MoGENet.
        percent: What the formula gives for the printed GAUC.
        lower: The least that it can be for GAUC that round to the printed ones.
        upper: The most.
        printed: What the paper prints.
        verdict: Whether the printed value is that of the formula, or rounding explains it.
    """

    column: str
    baseline: str
    base: float
    value: float
    percent: float
    lower: float
    upper: float
    printed: float
    verdict: str


def read_paper(path: Path = PAPER) -> Paper:
    """The printed tables, from the data file."""
    return Paper(**yaml.safe_load(path.read_text(encoding="utf-8")))


def improvements(paper: Paper) -> list[Improvement]:
    """RelaImpr per column, beside what the paper prints."""
    found = []
    for place, column in enumerate(paper.columns):
        baseline = max(paper.baselines, key=lambda name: paper.baselines[name][place])
        base, value = paper.baselines[baseline][place], paper.mogenet[place]
        percent = 100 * relative_improvement(value, base)
        # It rises with the value and falls with the base.
        lower = 100 * relative_improvement(value - GAUC_ROUNDING, base + GAUC_ROUNDING)
        upper = 100 * relative_improvement(value + GAUC_ROUNDING, base - GAUC_ROUNDING)
        printed = paper.printed_improvement[place]
        if abs(percent - printed) <= PERCENT_ROUNDING:
            verdict = REPRODUCED
        elif lower - PERCENT_ROUNDING <= printed <= upper + PERCENT_ROUNDING:
            verdict = WITHIN_ROUNDING
        else:
            verdict = NOT_REPRODUCED
        found.append(
            Improvement(column, baseline, base, value, percent, lower, upper, printed, verdict)
        )
    return found


def bases_of(paper: Paper, cell: Improvement) -> list[str]:
    """Rows of Tables 2 and 3 that, taken as the base, give the printed RelaImpr of a column."""
    place = paper.columns.index(cell.column)
    rows = {**paper.baselines, **{f"{name}+MGNN": row for name, row in paper.with_mgnn.items()}}
    return [
        name
        for name, row in rows.items()
        if abs(100 * relative_improvement(cell.value, row[place]) - cell.printed)
        <= PERCENT_ROUNDING
    ]


def lifted(paper: Paper) -> dict[str, list[str]]:
    """Per column, the baselines whose printed GAUC is higher with the graph network."""
    return {
        column: [
            name
            for name, row in paper.with_mgnn.items()
            if row[place] > paper.baselines[name][place]
        ]
        for place, column in enumerate(paper.columns)
    }


def wrong_arrows(paper: Paper) -> list[tuple[str, str]]:
    """Baseline and column of the cells whose printed arrow their printed values contradict."""
    rises = lifted(paper)
    return [
        (name, column)
        for name, arrows in paper.arrows.items()
        for column, arrow in zip(paper.columns, arrows, strict=True)
        if arrow != (name in rises[column])
    ]


def below(row: Sequence[float], other: Sequence[float], columns: Sequence[str]) -> list[str]:
    """The columns in which `row` is below `other`."""
    return [column for column, a, b in zip(columns, row, other, strict=False) if a < b]


def render(paper: Paper) -> dict[str, str]:
    """File name to text of the results."""
    cells = improvements(paper)
    parts = [
        "# Tables of MoGENet's paper, recomputed",
        "GAUC as printed by Hu et al., *Mixture of Graph Enhanced Expert Networks for Multi-task "
        "Recommendation* (MoGENet), Tables 2 to 5. Datasets A and B are the authors' and are not "
        "public. No model was trained for this page: it checks what follows from the printed "
        "numbers. Made by `python -m benchmarks.paper_tables`.",
        _table("GAUC", paper.columns, {**paper.baselines, "MoGENet": paper.mogenet}),
        *_improvement_parts(paper, cells),
        *_lift_parts(paper),
        *_loss_parts(paper),
        *_interaction_parts(paper),
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(asdict(cells[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(cell) for cell in cells)
    return {"results.csv": text.getvalue(), "results.md": "\n\n".join(parts) + "\n"}


def _improvement_parts(paper: Paper, cells: Sequence[Improvement]) -> list[str]:
    lines = [
        "| RelaImpr, % | best baseline | formula | rounding allows | printed | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {cell.column} | {cell.baseline} | {cell.percent:.3f} | {cell.lower:.3f} to "
        f"{cell.upper:.3f} | {cell.printed:.2f} | {cell.verdict} |"
        for cell in cells
    ]
    by_verdict = {
        verdict: [cell for cell in cells if cell.verdict == verdict]
        for verdict in (REPRODUCED, WITHIN_ROUNDING, NOT_REPRODUCED)
    }
    counts = [
        f"{len(own)} {verdict}" + (f" ({_listed(cell.column for cell in own)})" if own else "")
        for verdict, own in by_verdict.items()
    ]
    notes = []
    for cell in by_verdict[WITHIN_ROUNDING]:
        lower = max(cell.lower, cell.printed - PERCENT_ROUNDING)
        upper = min(cell.upper, cell.printed + PERCENT_ROUNDING)
        share = (upper - lower) / (cell.upper - cell.lower)
        notes.append(
            f"For {cell.column}, what rounds to {cell.printed:.2f} is {share:.0%} of the interval."
        )
    for cell in by_verdict[NOT_REPRODUCED]:
        others = bases_of(paper, cell)
        notes.append(
            f"For {cell.column}, {cell.printed:.2f} % is what {_listed(others)} as the base gives."
            if others
            else f"For {cell.column} no row of Tables 2 and 3 as the base gives the printed value."
        )
    return [
        "## MoGENet against the best baseline",
        "RelaImpr = (GAUC of MoGENet - 0.5) / (GAUC of the best baseline - 0.5) - 1. A GAUC of "
        "four digits stands for any within half a unit of the fourth; what rounding allows is how "
        "low and how high RelaImpr can be for such values.",
        "\n".join(lines),
        " ".join([f"Of {len(cells)} cells: {', '.join(counts)}.", *notes]),
    ]


def _lift_parts(paper: Paper) -> list[str]:
    rises = lifted(paper)
    lines = [
        "| with the graph network | baselines lifted | not lifted | best of them | MoGENet |",
        "| --- | --- | --- | --- | --- |",
    ]
    for place, column in enumerate(paper.columns):
        others = [name for name in paper.with_mgnn if name not in rises[column]]
        best = max(paper.with_mgnn, key=lambda name: paper.with_mgnn[name][place])
        lines.append(
            f"| {column} | {len(rises[column])} of {len(paper.with_mgnn)} | {_listed(others)} | "
            f"{best} {paper.with_mgnn[best][place]:.4f} | {paper.mogenet[place]:.4f} |"
        )
    ahead = [
        column
        for place, column in enumerate(paper.columns)
        if paper.mogenet[place] > max(row[place] for row in paper.with_mgnn.values())
    ]
    cells = len(paper.columns) * len(paper.with_mgnn)
    wrong = [f"{name} on {column}" for name, column in wrong_arrows(paper)]
    return [
        '## Baselines on the graph network ("+MGNN")',
        "\n".join(lines),
        f"The graph network lifts {sum(map(len, rises.values()))} of {cells} cells; MoGENet is "
        f"above every variant in {len(ahead)} of {len(paper.columns)} columns. Arrows that the "
        f"printed values contradict: {_listed(wrong)}.",
    ]


def _loss_parts(paper: Paper) -> list[str]:
    columns = paper.columns[: len(paper.loss["plain"])]
    plain, full = paper.loss["plain"], paper.loss["uncertainty and cooperative"]
    differences = {
        name: [f"{value - base:+.4f}" for value, base in zip(row, plain, strict=True)]
        for name, row in paper.loss.items()
        if name != "plain"
    }
    sentences = [
        f"Against the plain sum, {name} alone is lower in "
        f"{_counted(below(paper.loss[name], plain, columns), columns)}."
        for name in ("uncertainty", "cooperative")
    ]
    under_plain = _counted(below(full, plain, columns), columns)
    under_uncertainty = _counted(below(full, paper.loss["uncertainty"], columns), columns)
    sentences.append(
        f"Both together are lower than the plain sum in {under_plain}, and lower than uncertainty "
        f"alone in {under_uncertainty}."
    )
    return [
        "## Parts of the loss",
        "The sum of the task losses (plain), with uncertainty weighting, with the cooperative "
        "loss, and with both, which is MoGENet.",
        _table("GAUC", columns, paper.loss),
        _table("difference to the plain sum", columns, differences),
        " ".join(sentences),
    ]


def _interaction_parts(paper: Paper) -> list[str]:
    default = paper.interaction["element-wise product"]
    columns = paper.columns[: len(default)]
    best = {
        column: max(paper.interaction, key=lambda name: paper.interaction[name][place])
        for place, column in enumerate(columns)
    }
    won = [column for column, name in best.items() if name == "element-wise product"]
    gaps = [
        f"{column} ({best[column]}, {paper.interaction[best[column]][place] - default[place]:+.4f})"
        for place, column in enumerate(columns)
        if column not in won
    ]
    return [
        "## Interaction functions",
        _table("GAUC", columns, paper.interaction),
        f"The element-wise product, the paper's choice, is best in {_counted(won, columns)}; "
        f"another function is better in {_listed(gaps)}.",
    ]


def _table(heading: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | str]]) -> str:
    lines = [f"| {heading} | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        values = [value if isinstance(value, str) else f"{value:.4f}" for value in row]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def _counted(found: Sequence[str], columns: Sequence[str]) -> str:
    counted = f"{len(found)} of {len(columns)} columns"
    return f"{counted} ({_listed(found)})" if found else counted


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def main(
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for name, text in render(read_paper()).items():
        aside = output / f".{name}.partial"
        aside.write_text(text, encoding="utf-8")
        aside.replace(output / name)
    typer.echo((output / "results.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
