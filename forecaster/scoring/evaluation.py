"""Score forecasts against the streams that came later. Pure: frames in, frames out."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.scoring.baselines import BASELINES, history, with_baselines
from forecaster.scoring.metrics import MODELS, best_baseline, scores, series_scores, with_comparison
from forecaster.scoring.windows import FORECASTER, LEFT_OUT, read_days, read_forecasts, with_actuals

Frame = pl.DataFrame | pl.LazyFrame

Value = str | int | float | None
Json = Value | dict[str, int] | list[dict[str, Value]]

GROUPS: Mapping[str, str] = {
    "by_month": "month",
    "by_segment": "segment_used",
    "by_influence": "influence_range",
    "by_volume": "volume_decile",
    "by_cutoff": "cutoff",
}
"""The groupings, and the column of each."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of forecasts. `METRICS` defines the scores; one that is not defined for a row is NULL.

    All frames except `series` have these columns: series and windows (their numbers), and the metrics of
    series and of scores, by name (`skill` against `best_baseline`, in the same months).
    If a group has only some months of a series, all its scores are of these months.
    """

    overall: pl.DataFrame
    """One row per model, in the order of `MODELS`: model and the scores."""
    by_month: pl.DataFrame
    """One row per month ahead, `month`. This and the next four: the scores of the forecaster, and
    `wape_<name>` of each baseline; ordered by the column that they are by."""
    by_segment: pl.DataFrame
    """By lifecycle segment of the month, `segment_used` (from 1)."""
    by_influence: pl.DataFrame
    """By `influence_range` (1 to 10) of streams_30 at the origin."""
    by_volume: pl.DataFrame
    """By `volume_decile` (1 to 10, 10 the largest) of the streams of the last 365 records at the origin."""
    by_cutoff: pl.DataFrame
    """By `cutoff`, even if no month counts. NULL stands for forecasts without a cutoff, and is first."""
    series: pl.DataFrame
    """One row per track and cutoff, ordered by both: cm_track_id, cutoff, as_of, segment_used (of its first
    month that counts), influence_range, volume_decile, months (that count), forecast_total, actual_total,
    error_share, wape."""
    windows_scored: int
    """Forecast months that count."""
    left_out: Mapping[str, int]
    """Forecast months that do not count, by reason: each of `LEFT_OUT`, even if its number is 0."""
    best_baseline: str
    """The baseline with the smallest WAPE overall."""
    worst_cutoff: date | None
    """The cutoff with the largest WAPE, the earliest of equal ones. None if that is the NULL cutoff, or if no
    cutoff has a WAPE."""

    def to_dict(self, *, series: bool = False) -> dict[str, Json]:
        """Return everything in JSON types, a frame as a list of its rows; `series` only on request."""
        frames = ["overall", *GROUPS, *(["series"] if series else [])]
        return {
            "windows_scored": self.windows_scored,
            "left_out": dict(self.left_out),
            "best_baseline": self.best_baseline,
            "worst_cutoff": self.worst_cutoff.isoformat() if self.worst_cutoff else None,
            **{name: _rows(getattr(self, name)) for name in frames},
        }


def evaluate(
    forecasts: Frame, daily: Frame, actuals: Frame | None = None, /, *, cutoffs: Collection[date] = ()
) -> Evaluation:
    """Score forecasts against the streams of the days that came after their as-of dates.

    `forecasts`: one row per track, cutoff and month with cm_track_id, cutoff (date; NULL counts as a value),
    as_of (date, the last one that the forecast knew), month (1 to 400), forecasted_value, segment_used
    and, if known, time_used: the track's age in months, for the baseline `own_exponential`.
    `daily`: one row per track and date with cm_track_id, date, daily_streams. The baselines and the scales
    use the days up to an as-of date.
    `actuals`: the same columns; only days after the as-of dates count. None: `daily` has these days, too.
    `cutoffs`: further cutoffs, without forecasts, that get a row in `by_cutoff`.
    Rows may be in any order, but days ordered by track and date are read faster.

    Raises `NoForecastError` if there is nothing to score, and `SchemaMismatchError` for missing columns,
    wrong types, and a forecast month or a day that occurs twice.
    """
    after = daily if actuals is None else actuals
    months, unusable = read_forecasts(forecasts.lazy(), daily.lazy(), after.lazy())
    known = read_days(daily.lazy())
    days = known if after is daily else read_days(after.lazy(), name="actuals")
    windows = with_actuals(months, known, days)
    counted = windows.filter(pl.col("reason").is_null())
    left_out = dict(windows["reason"].drop_nulls().value_counts().iter_rows()) | {"unusable": unusable}
    left_out = {reason: left_out.get(reason, 0) for reason in LEFT_OUT}
    if counted.is_empty():
        raise NoForecastError(
            "no forecast month can be scored: "
            + ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count),
            hint="a month counts once there are streams of each of its 30 days",
        )
    compared = with_baselines(counted, history(months, known)).rename({"forecasted_value": FORECASTER})
    labels = pl.concat([months["cutoff"], pl.Series("cutoff", [*cutoffs], pl.Date)]).unique().sort()
    return _scored(compared, left_out, labels)


def _scored(windows: pl.DataFrame, left_out: Mapping[str, int], cutoffs: pl.Series) -> Evaluation:
    best = best_baseline(windows)
    plan = windows.lazy()
    overall = pl.concat(
        scores(plan.with_columns(model=pl.lit(model)), model=model, by="model") for model in MODELS
    )
    groups = (scores(plan, model=FORECASTER, by=column) for column in GROUPS.values())
    compared = [with_comparison(frame, best=best) for frame in (overall, *groups)]
    # The streaming engine adds up in another order each time, which changes the last digits.
    first, *grouped, series = pl.collect_all([*compared, series_scores(plan)], engine="in-memory")
    frames = dict(zip(GROUPS, grouped, strict=True))
    frames["by_cutoff"] = _with_all(frames["by_cutoff"], cutoffs)
    return Evaluation(
        overall=first.drop(f"wape_{name}" for name in BASELINES),
        **frames,
        series=series,
        windows_scored=len(windows),
        left_out=left_out,
        best_baseline=best,
        worst_cutoff=_worst(frames["by_cutoff"]),
    )


def _with_all(by_cutoff: pl.DataFrame, cutoffs: pl.Series) -> pl.DataFrame:
    """Add a row for each cutoff that has none, because none of its months counts."""
    return (
        cutoffs.to_frame()
        .join(by_cutoff, on="cutoff", how="left", nulls_equal=True, maintain_order="left")
        .with_columns(
            pl.col("series", "windows", "forecast_total", "actual_total", "without_scale").fill_null(0)
        )
    )


def _worst(by_cutoff: pl.DataFrame) -> date | None:
    known = by_cutoff.drop_nulls("wape").sort("wape", descending=True, maintain_order=True)
    return known["cutoff"].to_list()[0] if len(known) else None


def _rows(frame: pl.DataFrame) -> list[dict[str, Value]]:
    return frame.with_columns(pl.selectors.date().cast(pl.String)).to_dicts()
