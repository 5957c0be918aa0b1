"""Lay rows of text out as a table whose columns are as wide as what they hold."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

_GAP = "  "


@dataclass(frozen=True)
class Grid:
    """A table: one heading per column, and the names of the columns that are aligned to the left."""

    headings: Sequence[str]
    left: Collection[str] = ()

    def lines(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """Return a line of headings, and one per row."""
        cells = [self.headings, *rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return [_GAP.join(self._aligned(row, widths)).rstrip() for row in cells]

    def _aligned(self, row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
        for name, cell, width in zip(self.headings, row, widths, strict=True):
            yield f"{cell:<{width}}" if name in self.left else f"{cell:>{width}}"
