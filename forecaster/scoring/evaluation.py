"""Score forecasts against the streams that came later. Pure: frames in, frames out."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import polars as pl

from forecaster.errors import NoForecastError
from forecaster.model.parameters import DAYS_PER_MONTH
from forecaster.scoring.baselines import BASELINES, history, with_baselines
from forecaster.scoring.metrics import baseline_errors, best_baseline, per_series, scores, series_scores
from forecaster.scoring.origins import ByOrigin, by_origin
from forecaster.scoring.theta import THETA_BASELINES, check_theta
from forecaster.scoring.totals import cumulative_wape, origin_totals, total_scores, with_quantiles
from forecaster.scoring.windows import (
    FORECASTER,
    LEFT_OUT,
    OTHERS,
    Days,
    read_days,
    read_forecasts,
    with_actuals,
)
from forecaster.tables import QUANTILES

Frame = pl.DataFrame | pl.LazyFrame

Value = str | int | float | None
Json = Value | dict[str, Any] | list[dict[str, Value]]

GROUPS: Mapping[str, str] = {
    "by_month": "month",
    "by_segment": "segment_used",
    "by_influence": "influence_range",
    "by_volume": "volume_decile",
    "by_cutoff": "cutoff",
}
"""The groupings, and the column of each."""

RUN_GROUPS: Mapping[str, str] = {"by_run": "run", "by_age": "age"}
"""Further groupings, of the forecasts of runs."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of forecasts. `METRICS` defines the scores; one that is not defined for a row is NULL.

    All frames up to `by_cutoff` have these columns: series and windows (their numbers), and the metrics of
    series and of scores, by name (`skill` against `best_baseline`, in the months that both have).
    If a group has only some months of a series, all its scores are of these months.
    """

    overall: pl.DataFrame
    """One row per model, the forecaster first, baselines last: model and the scores, of the months that it
    has."""
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
    """One row per track and cutoff, ordered by both (with runs, also `run`, ordered by track in each batch):
    cm_track_id, cutoff, as_of, segment_used (of its first
    month that counts), influence_range, volume_decile, months (that count), forecast_total, actual_total,
    error_share, wape."""
    windows_scored: int
    """Forecast months that count."""
    left_out: Mapping[str, int]
    """Forecast months that do not count, by reason: each of `LEFT_OUT`, even if its number is 0."""
    best_baseline: str
    """The baseline with the smallest WAPE overall, of those that have at least 90 % of the months."""
    worst_cutoff: date | None
    """The cutoff with the largest WAPE, the earliest of equal ones. None if that is the NULL cutoff, or if no
    cutoff has a WAPE."""
    others: Mapping[str, str]
    """Other models that are scored in the same months, with their meaning."""
    baselines: Mapping[str, str]
    """The baselines that are scored, with the formula of each."""
    missing: Mapping[str, int]
    """Months that count and that a baseline cannot forecast, by baseline."""
    own_wape: Mapping[str, float | None]
    """WAPE of the forecaster in the months that another model or a baseline has, by its name."""
    origins: ByOrigin
    """How the skill differs between cutoffs, or runs."""
    totals: pl.DataFrame
    """One row per cutoff, run, `of` (month; cumulated: the months 1 to it) and month: tracks, forecast and
    actual of all tracks that have the month or months; their quantiles, where they are known."""
    by_total: pl.DataFrame
    """The scores of `totals` by `of` and month: origins, wape, bias; with quantiles also coverage and
    interval scores."""
    months: pl.LazyFrame
    """One row per month that counts: cm_track_id, cutoff, run, as_of, month, segment_used, forecast, its
    quantiles and those of other models, if there are any, actual."""
    horizon: int | None = None
    """Months that were asked for; None: all that there are."""
    by_run: pl.DataFrame | None = None
    """By `run`, even if no month counts; NULL for forecasts of no run. None if no forecast has a run."""
    by_age: pl.DataFrame | None = None
    """By `age`: the whole months of 30 days from the as-of date of the forecast to the last day of the newest
    month that is scored. None if no forecast has a run."""

    def to_dict(self, *, series: bool = False) -> dict[str, Json]:
        """Return everything in JSON types, a frame as a list of its rows; `series` only on request."""
        of_runs = [name for name in RUN_GROUPS if getattr(self, name) is not None]
        frames = ["overall", *GROUPS, *of_runs, "by_total", "totals", *(["series"] if series else [])]
        return {
            "windows_scored": self.windows_scored,
            "left_out": dict(self.left_out),
            "best_baseline": self.best_baseline,
            "missing": dict(self.missing),
            "own_wape": dict(self.own_wape),
            "origins": asdict(self.origins),
            "worst_cutoff": self.worst_cutoff.isoformat() if self.worst_cutoff else None,
            **{name: _rows(getattr(self, name)) for name in frames},
        }


def evaluate(
    forecasts: Frame,
    daily: Frame,
    actuals: Frame | None = None,
    /,
    *,
    cutoffs: Collection[date] = (),
    theta: bool = False,
    totals: Frame | None = None,
) -> Evaluation:
    """Score forecasts against the streams of the days that came after their as-of dates.

    `forecasts`: one row per track, cutoff, run and month with cm_track_id, cutoff (date; NULL counts as a
    value), as_of (date, the day before month 1), month (1 to 400), forecasted_value, segment_used and, if
    known, time_used: the track's age in months, for the baseline `own_exponential`; run: the number of the
    run that made it; last_date: the last day that the forecast knew, if that may be later than as_of;
    q025, q10, q50, q90, q975: its quantiles, for coverage and interval scores; production, calibrated: the
    forecasts of the same month by these models, to compare with.
    `daily`: one row per track and date with cm_track_id, date, daily_streams. The baselines and the scales
    use the days up to an as-of date.
    `actuals`: the same columns; only days after the as-of dates count. None: `daily` has these days, too.
    `cutoffs`: further cutoffs, without forecasts, that get a row in `by_cutoff`.
    `theta`: score `THETA_BASELINES` as well. `totals`: quantiles of the totals, as `FACTORS`.
    Rows may be in any order, but days ordered by track and date are read faster.

    Raises `NoForecastError` if there is nothing to score, and `SchemaMismatchError` for missing columns,
    wrong types, and a forecast month or a day that occurs twice; with `theta`, `MissingExtraError` without
    that extra.
    """
    return evaluate_batches([forecasts], daily, actuals, cutoffs=cutoffs, theta=theta, totals=totals)


def evaluate_batches(
    batches: Iterable[Frame],
    daily: Frame,
    actuals: Frame | None = None,
    /,
    *,
    cutoffs: Collection[date] = (),
    theta: bool = False,
    totals: Frame | None = None,
) -> Evaluation:
    """Score forecasts that come in batches, each of whole cutoffs and runs, as `evaluate` does.

    Of a batch, only the months that count are kept, and their series: about 25 bytes for each month, 200 for
    each series. Scoring takes the same again for all series.
    """
    if theta:
        check_theta()
    parts = list(_parts(batches, daily, actuals, theta=theta))
    if not parts:
        raise NoForecastError(
            "there are no forecasts to score", hint="`forecaster run` makes forecasts and stores them"
        )
    left_out = sum((Counter(part.left_out) for part in parts), Counter[str]())
    counts = {reason: left_out[reason] for reason in LEFT_OUT}
    if not any(len(part.windows) for part in parts):
        raise _nothing(counts, [part.first_end for part in parts if part.first_end])
    labels = pl.concat([*(part.labels for part in parts), _label([*cutoffs])]).unique()
    return _scored(parts, counts, labels, totals)


@dataclass(frozen=True)
class _Part:
    """What is kept of a batch."""

    windows: pl.DataFrame
    """The months that count, ordered by series and month: series, month, segment_used, the forecast as
    `FORECASTER`, actual, and the quantiles and other models, if there are any."""
    series: pl.DataFrame
    """Their series: the columns of `history`."""
    left_out: Mapping[str, int]
    labels: pl.DataFrame
    """The cutoffs and runs of all forecasts: cutoff, run."""
    first_end: str | None
    """The day on which month 1 of most forecasts is over, where it is not."""

    def with_baselines(self, windows: pl.DataFrame, newest: int) -> pl.DataFrame:
        """Add the series, their baselines, and their age on the day `newest`, counted from 1970."""
        age = (newest - pl.col("as_of").to_physical().cast(pl.Int64)) // DAYS_PER_MONTH
        wide = pl.col("month", "segment_used").cast(pl.Int64)
        return with_baselines(windows.with_columns(wide), self.series).with_columns(age=age)


def _parts(batches: Iterable[Frame], daily: Frame, actuals: Frame | None, *, theta: bool) -> Iterator[_Part]:
    after = daily if actuals is None else actuals
    known: Days | None = None
    series = 0
    for batch in batches:
        months, unusable = read_forecasts(batch.lazy(), daily.lazy(), after.lazy())
        if known is None:  # after the first check of all columns
            known = read_days(daily.lazy())
            days = known if after is daily else read_days(after.lazy(), name="actuals")
        months = months.with_columns(pl.col("series") + series)
        series += months["series"].n_unique()
        yield _part(months, unusable, known, days, theta=theta)


def _part(months: pl.DataFrame, unusable: int, known: Days, days: Days, *, theta: bool) -> _Part:
    windows = with_actuals(months, known, days)
    known_of = [name for name in (*QUANTILES, *OTHERS) if windows[name].null_count() < len(windows)]
    bounds = QUANTILES if {*QUANTILES} & {*known_of} else ()
    counted = windows.filter(pl.col("reason").is_null()).select(
        "series",
        pl.col("month").cast(pl.Int16),
        "segment_used",
        pl.col("forecasted_value").alias(FORECASTER),
        "actual",
        *bounds,
        *(name for name in OTHERS if name in known_of),
    )
    segments = counted["segment_used"].shrink_dtype()
    return _Part(
        counted.with_columns(segments),
        history(months, known, theta=theta).join(counted, on="series", how="semi", maintain_order="left"),
        dict(windows["reason"].drop_nulls().value_counts().iter_rows()) | {"unusable": unusable},
        months.select("cutoff", "run").unique(),
        _first_end(windows),
    )


def _first_end(windows: pl.DataFrame) -> str | None:
    """Return the day on which month 1 of most forecasts is over, of those of which it is not."""
    begun = windows.filter(month=1, reason="not_over")["as_of"].mode()
    last = (begun.sort().head(1).to_physical() + DAYS_PER_MONTH).cast(pl.Date).dt.to_string("%Y-%m-%d")
    return str(last.item()) if len(last) else None


def _nothing(left_out: Mapping[str, int], first_ends: Sequence[str]) -> NoForecastError:
    counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
    over = f"; the first month is over once there are streams up to {min(first_ends)}" if first_ends else ""
    return NoForecastError(
        f"no forecast month can be scored: {counts}{over}",
        hint="a month counts once there are streams of each of its 30 days",
    )


def _label(cutoffs: list[date]) -> pl.DataFrame:
    return pl.DataFrame({"cutoff": cutoffs}, {"cutoff": pl.Date}).with_columns(run=pl.lit(None, pl.Int64))


def _scored(
    parts: Sequence[_Part], left_out: Mapping[str, int], labels: pl.DataFrame, factors: Frame | None
) -> Evaluation:
    newest = max(_last_day(part) for part in parts if len(part.windows))
    has_runs = labels["run"].count() > 0
    baselines = _baselines(parts)
    others = {name: OTHERS[name] for name in OTHERS if any(name in part.windows.columns for part in parts)}
    errors = _errors(parts, newest, [*others, *baselines])
    of_baselines = errors.filter(pl.col("name").is_in([*baselines]))
    missing = dict(of_baselines.select("name", pl.col("all_months") - pl.col("months")).iter_rows())
    of = _Of(parts, newest, best_baseline(of_baselines), missing, others)
    groups = {**GROUPS, **(RUN_GROUPS if has_runs else {})}
    frames = {name: of.grouped(column) for name, column in groups.items()}
    totals = pl.concat(origin_totals(part.windows, part.series) for part in parts)
    frames["by_month"] = _with_cumulative(frames["by_month"], totals)
    frames["by_cutoff"] = _with_all(frames["by_cutoff"], labels["cutoff"].unique().sort())
    if has_runs:
        frames["by_run"] = _with_all(frames["by_run"], labels["run"].unique().sort())
    series = pl.concat(
        _collect(series_scores(part.with_baselines(part.windows, newest).lazy())) for part in parts
    )
    totals = totals.drop("absolute_error", "absolute")
    if factors is not None:
        totals = with_quantiles(totals, factors)
    by, last_month = "run" if has_runs else "cutoff", max(frames["by_month"]["month"].to_list())
    return Evaluation(
        overall=of.overall(),
        **frames,
        series=series if has_runs else series.drop("run"),
        windows_scored=sum(len(part.windows) for part in parts),
        left_out=left_out,
        best_baseline=of.best,
        worst_cutoff=_worst(frames["by_cutoff"]),
        others=others,
        baselines=baselines,
        missing=of.missing,
        own_wape=dict(_finite(errors, pl.col("own") / pl.col("size"))),
        origins=by_origin(frames[f"by_{by}"], _origin_days(series, by), months=last_month),
        totals=totals,
        by_total=total_scores(totals),
        months=pl.concat((_labelled(part) for part in parts), how="diagonal"),
        horizon=None,
    )


def _baselines(parts: Sequence[_Part]) -> Mapping[str, str]:
    has_theta = any("theta_months" in part.series.columns for part in parts)
    return {**BASELINES, **(THETA_BASELINES if has_theta else {})}


def _errors(parts: Sequence[_Part], newest: int, models: Collection[str]) -> pl.DataFrame:
    """Sum the errors of each model over the months that it has, as `baseline_errors` does."""
    found = []
    for part in parts:
        months = part.with_baselines(part.windows, newest)
        there = [name for name in models if name in months.columns]
        found.append(_collect(baseline_errors(months.lazy(), baselines=there)))
    return pl.concat(found).group_by("name", maintain_order=True).agg(pl.all().sum())


@dataclass(frozen=True)
class _Of:
    """What the scores are computed from."""

    parts: Sequence[_Part]
    newest: int
    """The last day of the newest month that counts, counted from 1970."""
    best: str
    missing: Mapping[str, int]
    """By baseline."""
    others: Collection[str]

    def overall(self) -> pl.DataFrame:
        """Score each model over all months; one at a time, as this is most of the memory."""
        models = (FORECASTER, *self.others, *self.missing)
        series = ((name, self._per_series(model=name, by="cutoff")) for name in models)
        rows = (self._scores(of.with_columns(cutoff=pl.lit(name)), "cutoff") for name, of in series)
        found = pl.concat(rows).rename({"cutoff": "model"})
        every = pl.DataFrame({"model": models})
        return (
            every.join(found, on="model", how="left", maintain_order="left")
            .drop(f"wape_{name}" for name in self.missing)
            .with_columns(pl.col("series", "windows", "without_scale").fill_null(0))
        )

    def grouped(self, by: str) -> pl.DataFrame:
        """Score the forecaster by one column."""
        if by != "month":
            return self._scores(self._per_series(model=FORECASTER, by=by), by)
        # One month after the other: all of them at once have a row per month that counts.
        months = pl.concat(part.windows["month"].unique() for part in self.parts).unique().sort()
        return pl.concat(
            self._scores(self._per_series(model=FORECASTER, by=by, month=month), by) for month in months
        )

    def _per_series(self, *, model: str, by: str, month: int | None = None) -> pl.DataFrame:
        """Aggregate the months of all batches, or only month `month`, to one row per group and series."""
        chosen = {"model": model, "by": by, "best": self.best}
        return pl.concat(
            (
                _collect(
                    per_series(
                        part.with_baselines(windows, self.newest).lazy(), baselines=[*self.missing], **chosen
                    )
                )
                for part in self.parts
                if model not in OTHERS or model in part.windows.columns
                for windows in [part.windows if month is None else part.windows.filter(month=month)]
            ),
            how="diagonal",
        )

    def _scores(self, per_series: pl.DataFrame, by: str) -> pl.DataFrame:
        return _collect(scores(per_series.lazy(), by=by, baselines=[*self.missing]))


def _with_cumulative(by_month: pl.DataFrame, totals: pl.DataFrame) -> pl.DataFrame:
    """Take the cumulative WAPE of a month from the months up to it."""
    others, cumulative = by_month.drop("cumulative_wape"), cumulative_wape(totals)
    return others.join(cumulative, on="month", how="left", maintain_order="left").select(by_month.columns)


def _origin_days(series: pl.DataFrame, by: str) -> list[int]:
    """Return the last day that each cutoff or run knew, counted from 1970."""
    days = series.group_by(by).agg(pl.col("as_of").max().to_physical().cast(pl.Int64))
    return days["as_of"].to_list()


def _labelled(part: _Part) -> pl.LazyFrame:
    labels = part.series.lazy().select("series", "cm_track_id", "cutoff", "run", "as_of")
    more = [name for name in (*QUANTILES, *OTHERS) if name in part.windows.columns]
    return (
        part.windows.lazy()
        .join(labels, on="series", how="inner", maintain_order="left")
        .select(
            *("cm_track_id", "cutoff", "run", "as_of"),
            pl.col("month", "segment_used").cast(pl.Int64),
            pl.col(FORECASTER).alias("forecast"),
            *more,
            "actual",
        )
    )


def _last_day(part: _Part) -> int:
    """Return the last day of the newest month of a batch, counted from 1970."""
    newest = part.windows.group_by("series").agg(pl.col("month").max().cast(pl.Int64))
    as_of = pl.col("as_of").to_physical().cast(pl.Int64)
    ends = newest.join(part.series, on="series").select(as_of + DAYS_PER_MONTH * pl.col("month"))
    last: int = ends.max().item()
    return last


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    # The streaming engine adds up in another order each time, which changes the last digits.
    return frame.collect(engine="in-memory")


def _finite(errors: pl.DataFrame, value: pl.Expr) -> Iterator[tuple[str, float | None]]:
    yield from errors.select("name", pl.when(value.is_finite()).then(value)).iter_rows()


def _with_all(scored: pl.DataFrame, labels: pl.Series) -> pl.DataFrame:
    """Add a row for each cutoff or run that has none, because none of its months counts."""
    return (
        labels.to_frame()
        .join(scored, on=labels.name, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(
            pl.col("series", "windows", "forecast_total", "actual_total", "without_scale").fill_null(0)
        )
    )


def _worst(by_cutoff: pl.DataFrame) -> date | None:
    known = by_cutoff.drop_nulls("wape").sort("wape", descending=True, maintain_order=True)
    return known["cutoff"].to_list()[0] if len(known) else None


def _rows(frame: pl.DataFrame) -> list[dict[str, Value]]:
    return frame.with_columns(pl.selectors.date().cast(pl.String)).to_dicts()
