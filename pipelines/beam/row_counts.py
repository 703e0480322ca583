"""What a job read of a log."""

from __future__ import annotations

from typing import NamedTuple


class RowCounts(NamedTuple):
    """Numbers of rows, and their window of time.

    Args:
        rows: Rows of the log.
        unknown: Rows whose user or item the encoder does not know.
        edges: Rows that make an edge, before those of one pair are merged.
        first: Least time of a row; `None` without times.
        last: Greatest time of a row; `None` without times.

    Example:
        >>> RowCounts(2, 0, 2, 5, 9).merged(RowCounts(1, 1, 0, 3, 3))
        RowCounts(rows=3, unknown=1, edges=2, first=3, last=9)
    """

    rows: int = 0
    unknown: int = 0
    edges: int = 0
    first: float | None = None
    last: float | None = None

    def merged(self, other: RowCounts) -> RowCounts:
        """The counts of both.

        Args:
            other: Counts of other rows.
        """
        firsts = [part.first for part in (self, other) if part.first is not None]
        lasts = [part.last for part in (self, other) if part.last is not None]
        return RowCounts(
            self.rows + other.rows,
            self.unknown + other.unknown,
            self.edges + other.edges,
            min(firsts, default=None),
            max(lasts, default=None),
        )
