"""Present one track's forecasts over time, beside the streams that came."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from forecaster.cli.grid import Grid
from forecaster.process.numbers import short

_MONTHS = (1, 2)  # that the table shows, so that it fits into 100 columns
_WITHOUT = {"days_missing": "gaps", "seen": "seen"}
"""What stands in place of the streams of a month that does not count."""


@dataclass(frozen=True)
class OverTime:
    """The forecasts of one track."""

    rows: pl.DataFrame
    """Its rows of the history, newest first."""
    months: pl.DataFrame
    """Their months, as `with_streams_since` returns them."""

    def __str__(self) -> str:
        headings = ["run", "started", *(["model"] if self._has_models else []), "as of", "MLDR", "total"]
        for month in self._shown:
            headings += [f"month {month}", *(["came", "error"] if month in self._over else [])]
        headings += ["skipped"] if self._was_skipped else []
        cells = [[*self._cells(row)] for row in self.rows.iter_rows(named=True)]
        return "\n".join(Grid(headings, left={"model", "skipped"}).lines(cells))

    @cached_property
    def _by_month(self) -> Mapping[tuple[int, int], Mapping[str, Any]]:
        shown = self.months.filter(pl.col("month").is_in(_MONTHS))
        return {(month["run"], month["month"]): month for month in shown.iter_rows(named=True)}

    @cached_property
    def _totals(self) -> Mapping[int, float]:
        return dict(self.months.group_by("run").agg(pl.col("forecast").sum()).iter_rows())

    @cached_property
    def _shown(self) -> list[int]:
        return [month for month in _MONTHS if month in self.months["month"]]

    @cached_property
    def _over(self) -> frozenset[int]:
        """The months that are over for at least one run."""
        return frozenset(self.months.drop_nulls("actual")["month"])

    @property
    def _has_models(self) -> bool:
        return self.rows["model"].n_unique() > 1

    @property
    def _was_skipped(self) -> bool:
        return self.rows["skipped"].count() > 0

    def _cells(self, row: Mapping[str, Any]) -> Iterator[str]:
        run = row["run"]
        yield from (f"{run}", f"{row['started_at']:%Y-%m-%d}")
        if self._has_models:
            yield row["model"]
        yield f"{row['as_of'] or '-'}"
        yield "-" if row["mldr"] is None else f"{row['mldr']:.4g}"
        yield short(self._totals[run]) if run in self._totals else "-"
        for month in self._shown:
            yield from self._of_month(self._by_month.get((run, month)), is_over=month in self._over)
        if self._was_skipped:
            yield row["skipped"] or ""

    def _of_month(self, found: Mapping[str, Any] | None, *, is_over: bool) -> list[str]:
        """Format a month's forecast and, if the month is over for any run, what came and the error."""
        forecast = short(found["forecast"]) if found else "-"
        if not is_over:
            return [forecast]
        if found is None or found["actual"] is None:
            return [forecast, _WITHOUT.get(found["left_out"], "-") if found else "-", "-"]
        error = found["error"]
        return [forecast, short(found["actual"]), "-" if error is None else f"{error * 100:+,.1f} %"]
