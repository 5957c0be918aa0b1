"""`python -m benchmarks.models`: both models, the choice between them and their intervals, on charts."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property, reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import polars as pl

from benchmarks.tables import table
from forecaster import Calibration, build_forecasts, calibrate
from forecaster.files.atomic import write_text
from forecaster.model.calibrated.uncertainty import Errors, prior_errors, totals, with_quantiles

RESULTS = Path(__file__).parent / "results"
CUTOFFS = (date(2019, 9, 27), date(2019, 12, 27), date(2020, 2, 28))
HORIZON = 12
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the calibrated model
LEVELS = (7, 30)
KEY = ["cm_track_id", "month"]
PRIOR_ONLY, BOTH, OWN_ONLY = "priors only", "both", "own origins only"
_MANY = 1e9  # origins: so many that the priors do not count

_MEANING = (
    "916 songs of 348 artists that stayed in the charts of 54 countries from January 2019 to March 2021: "
    "chosen on the outcome, so that whatever forecasts a slow decay looks good. 12 months after each cutoff; "
    "a month counts where all of its 30 days have a record. Production is the production model with one MLDR "
    "for all artists."
)
_LEVELS = (
    '"@7" starts from the mean of the last 7 days, "@30" from the last 30. A blend is the geometric mean of '
    "both models, here with weight .5. Theta has the totals of 30 records."
)
_CHOICE = (
    "Chosen by each catalogue on origins before the cutoff only. The best single choice is the same for all "
    "catalogues, and known in hindsight only."
)
_SURENESS = (
    "Shares of the months of tracks, of the totals of months and of the totals up to a month that lie within "
    "their intervals of 80 and 95 %. As one there are twelve totals, all with the same luck: they say "
    "little. Origins of a catalogue's own: every 30th day before the cutoff."
)


@dataclass(frozen=True)
class Origin:
    """A catalogue as of the day before a cutoff, forecast with every model."""

    daily: pl.LazyFrame
    as_of: date
    by: str | None
    """The column that says which catalogue a track is in; None for one catalogue."""
    mldr: float = 0.0
    back: int = 24
    """How many origins before it a calibration looks back at."""

    @property
    def named(self) -> dict[str, Any]:
        """What it is, for a line of results."""
        catalogues = "54 apart" if self.by else "as one"
        return {"cutoff": f"{self.as_of + timedelta(1)}", "catalogues": catalogues, "mldr": self.mldr}

    @cached_property
    def parts(self) -> list[tuple[pl.LazyFrame, Calibration]]:
        """Each catalogue with its calibration."""
        known = self.daily.filter(pl.col("date") <= self.as_of).collect()
        frames = known.partition_by(self.by) if self.by else [known]
        return [(frame.lazy(), self._calibrate(frame.lazy())) for frame in frames]

    def _calibrate(self, frame: pl.LazyFrame) -> Calibration:
        return calibrate(
            frame, rates_of(frame, self.mldr), as_of=self.as_of, rows="shipped", origins=self.back
        )

    @cached_property
    def months(self) -> pl.DataFrame:
        """One row per track and month that counts: part, actual, flat_7, flat_30, and a column per model."""
        return pl.concat(
            self._part(number, frame, calibration) for number, (frame, calibration) in enumerate(self.parts)
        ).join(actual_months(self.daily, self.as_of), on=KEY)

    def _part(self, number: int, frame: pl.LazyFrame, calibration: Calibration) -> pl.DataFrame:
        mldr = rates_of(frame, self.mldr)
        models = [
            build_forecasts(
                frame, mldr, model=calibration.using(level, weight=weight), horizon=HORIZON
            ).forecasts.select(*KEY, "time_used", pl.col("forecasted_value").alias(f"{name}_{level}"))
            for name, weight in (("calibrated", 1.0), ("production", 0.0))
            for level in LEVELS
        ]
        joined = reduce(lambda one, other: one.join(other.drop("time_used"), on=KEY), models)
        choice = calibration.choice
        return (
            joined.join(flat(frame, self.as_of), on="cm_track_id")
            .collect()
            .with_columns(
                blend(weight, level).alias(name_of(weight, level)) for weight, level in candidates()
            )
            .with_columns(part=number, auto=pl.col(name_of(choice.weight, choice.level)))
        )


def candidates() -> Iterator[tuple[float, int]]:
    """Yield weight and level of all models that can be chosen."""
    return ((weight, level) for level in LEVELS for weight in WEIGHTS)


def name_of(weight: float, level: int) -> str:
    """Name a model: its weight of the calibrated forecast, and its level."""
    return f"{weight:g}@{level}"


def blend(weight: float, level: int) -> pl.Expr:
    """Return the geometric mean of the forecasts of both models."""
    one, other = pl.col(f"calibrated_{level}"), pl.col(f"production_{level}")
    return one.pow(weight) * other.pow(1 - weight)


def rates_of(frame: pl.LazyFrame, mldr: float) -> pl.LazyFrame:
    """Give each artist the same decay rate."""
    return frame.select(pl.col("cm_artist_id").unique()).with_columns(mldr=pl.lit(mldr))


def flat(frame: pl.LazyFrame, as_of: date) -> pl.LazyFrame:
    """Compute 30 x the mean of the last 7 days, and the sum of the last 30 records: flat_7, flat_30."""
    value = pl.col("daily_streams")
    week = value.filter(pl.col("date") > as_of - timedelta(7))
    streams_30 = value.sort_by("date").tail(30).sum()
    of_week = pl.when(week.len() >= 6).then(30 * week.mean()).otherwise(streams_30)
    return frame.group_by("cm_track_id").agg(flat_7=of_week, flat_30=streams_30.cast(pl.Float64))


def actual_months(daily: pl.LazyFrame, as_of: date) -> pl.DataFrame:
    """Sum the months after a day that have all of their days: cm_track_id, month, actual."""
    month = (pl.col("date") - as_of).dt.total_days().sub(1).floordiv(30).add(1)
    return (
        daily.filter(pl.col("date") > as_of)
        .with_columns(month=month)
        .filter(pl.col("month") <= HORIZON)
        .group_by(KEY)
        .agg(actual=pl.col("daily_streams").sum().cast(pl.Float64), days=pl.len())
        .filter(pl.col("days") == 30)
        .drop("days")
        .collect()
    )


def theta(daily: pl.LazyFrame, as_of: date) -> pl.DataFrame | None:
    """Forecast the totals of 30 records with Theta: cm_track_id, month, theta. None without statsforecast."""
    if find_spec("statsforecast") is None:
        return None
    statsforecast, models = (import_module(name) for name in ("statsforecast", "statsforecast.models"))
    back = pl.int_range(pl.len()).reverse().over("cm_track_id") // 30
    long = (
        daily.filter(pl.col("date") <= as_of)
        .sort("cm_track_id", "date")
        .with_columns(ds=-back)
        .group_by("cm_track_id", "ds")
        .agg(y=pl.col("daily_streams").sum().cast(pl.Float64), days=pl.len())
        .filter((pl.col("days") == 30) & (pl.len().over("cm_track_id") >= 3))
        .select("ds", "y", unique_id="cm_track_id")
        .sort("unique_id", "ds")
        .collect()
    )
    engine = statsforecast.StatsForecast(models=[models.Theta(season_length=1)], freq=1)
    made: pl.DataFrame = engine.forecast(df=long, h=HORIZON)
    return made.select(cm_track_id="unique_id", month=pl.col("ds").cast(pl.Int64), theta="Theta")


def origins(daily: pl.LazyFrame) -> list[Origin]:
    """List what is measured: every cutoff, as one with each MLDR, and apart without."""
    return [
        Origin(daily, cutoff - timedelta(1), by, mldr)
        for cutoff in CUTOFFS
        for by, mldr in ((None, 0.0), (None, 0.05), ("catalogue", 0.0))
    ]


def point(origin: Origin, of_theta: pl.DataFrame | None) -> dict[str, Any]:
    """Compute the WAPE of every model, of the ones that were chosen, and of Theta."""
    names = ["flat_7", "flat_30", *(name_of(*one) for one in candidates()), "auto"]
    wapes = {name: wape(origin.months, name) for name in names}
    if of_theta is not None:
        wapes["theta"] = wape(origin.months.join(of_theta, on=KEY), "theta")
    choices = [calibration.choice for _, calibration in origin.parts]
    chosen = Counter(name_of(choice.weight, choice.level) for choice in choices)
    return {**origin.named, "wape": wapes, "chosen": dict(chosen.most_common())}


def wape(months: pl.DataFrame, column: str) -> float:
    """Return sum |forecast - actual| / sum actual."""
    error = (pl.col(column) - pl.col("actual")).abs().sum() / pl.col("actual").sum()
    return float(months.select(error).item())


def sureness(origin: Origin) -> list[dict[str, Any]]:
    """Measure how many months, and how many totals, lie within their intervals."""
    return [
        {**origin.named, "model": column, "figures": kind, **coverage(origin, column, weight, kind)}
        for column, weight in (("calibrated_7", 1.0), ("production_7", 0.0))
        for kind in (PRIOR_ONLY, OWN_ONLY, BOTH)
    ]


def coverage(origin: Origin, column: str, weight: float, kind: str) -> dict[str, float | None]:
    """Return the shares of months, of totals and of cumulated totals within their intervals, 80 and 95 %."""
    tracks, sums = [], []
    for number, (_, calibration) in enumerate(origin.parts):
        errors = errors_of(calibration, weight, kind)
        if errors is None:
            continue
        of_part = origin.months.filter(part=number).rename({column: "forecasted_value"}).lazy()
        if kind == OWN_ONLY:
            of_part = of_part.filter(pl.col("month").is_in([own.month for own in errors.own]))
        tracks.append(with_quantiles(of_part, errors, horizon=HORIZON).select("actual", "^q.*$"))
        sums.append(_sums(of_part, errors))
    if not tracks:
        return {}
    months, of_all = pl.collect_all([pl.concat(tracks), pl.concat(sums)])
    return {
        **_within(months, "", "months"),
        **_within(of_all, "", "totals"),
        **_within(of_all.with_columns(actual="actual_cumulated"), "cumulated_", "cumulated"),
    }


def errors_of(calibration: Calibration, weight: float, kind: str) -> Errors | None:
    """Return the error figures with, without and only from the catalogue's own origins."""
    errors = calibration.errors_of(weight, 7)
    if kind == PRIOR_ONLY:
        return prior_errors(weight)
    if kind == BOTH:
        return errors
    own = tuple(replace(one, independent=_MANY) for one in errors.own if one.residuals > 20)
    return Errors(own, errors.widened) if own else None


def _sums(months: pl.LazyFrame, errors: Errors) -> pl.LazyFrame:
    # Cumulated over the tracks all of whose months count, so that both sums are of the same tracks.
    whole = months.filter(pl.len().over("cm_track_id") == pl.col("month").n_unique())
    actual = whole.group_by("month").agg(pl.col("actual").sum()).sort("month")
    actual = actual.with_columns(actual_cumulated=pl.col("actual").cum_sum())
    return totals(whole, errors, horizon=HORIZON, is_group=False).join(actual, on="month")


def _within(frame: pl.DataFrame, prefix: str, name: str) -> dict[str, float]:
    bounds = {80: ("q10", "q90"), 95: ("q025", "q975")}
    return {
        f"{name}_{level}": float(
            frame.select(pl.col("actual").is_between(prefix + low, prefix + high).mean()).item()
        )
        for level, (low, high) in bounds.items()
    }


def measure(data: Path) -> dict[str, Any]:
    """Measure everything on the files of a directory."""
    daily = pl.scan_parquet(data / "charts_daily.parquet")
    measured = origins(daily)
    of_theta = {as_of: theta(daily, as_of) for as_of in {origin.as_of for origin in measured}}
    # The first cutoff has too little before it for origins of its own.
    later = [one for one in measured if one.mldr == 0 and one.as_of >= CUTOFFS[1] - timedelta(1)]
    return {
        "points": [point(origin, of_theta[origin.as_of]) for origin in measured],
        "sureness": [line for origin in later for line in sureness(origin)],
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Write the results as a page."""
    parts = [
        "# The models on real charts",
        _MEANING,
        "## Errors (WAPE)",
        _LEVELS,
        _points(result["points"]),
        "## The choice of a model",
        _CHOICE,
        _choices(result["points"]),
        "## How sure they are",
        _SURENESS,
        _sureness(result["sureness"]),
    ]
    return "\n\n".join(parts) + "\n"


_SHOWN = {
    "flat 30": "flat_30",
    "flat 7": "flat_7",
    "production": "0@30",
    "production @7": "0@7",
    "Theta": "theta",
    "calibrated": "1@7",
    "blend": "0.5@7",
}


def _points(lines: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ["cutoff", "catalogues", "MLDR", *_SHOWN],
        [
            [*_first(line), *(_share(line["wape"].get(column)) for column in _SHOWN.values())]
            for line in lines
        ],
    )


def _first(line: Mapping[str, Any]) -> list[str]:
    return [line["cutoff"], line["catalogues"], f"{line['mldr']:g}"]


def _choices(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for line in lines:
        singles = {name_of(*one): line["wape"][name_of(*one)] for one in candidates()}
        best = min(singles, key=singles.__getitem__)
        ratio = line["wape"]["auto"] / singles[best]
        chosen = ", ".join(f"{label(name)} ({number})" for name, number in line["chosen"].items())
        rows.append(
            [*_first(line), chosen, _share(line["wape"]["auto"]),
             label(best), _share(singles[best]), f"{ratio:.3f}"]
        )  # fmt: skip
    means = [
        f"{label(name)} {_share(fmean(line['wape'][name] for line in lines if name in line['wape']))}"
        for name in ("auto", "0@30", "0@7", "1@7", "0.5@7", "flat_30", "flat_7", "theta")
        if any(name in line["wape"] for line in lines)
    ]
    head = [
        "cutoff",
        "catalogues",
        "MLDR",
        "chosen (by how many)",
        "WAPE",
        "best single choice",
        "WAPE",
        "ratio",
    ]
    return f"{table(head, rows)}\n\nMean WAPE over the lines: {', '.join(means)}."


def label(name: str) -> str:
    """Say a model's name in words."""
    if "@" not in name:
        return name.replace("_", " ")
    weight, level = name.split("@")
    word = {"1": "calibrated", "0": "production"}.get(weight, f"{weight} calibrated")
    return f"{word} @{level}"


def _sureness(lines: Sequence[Mapping[str, Any]]) -> str:
    columns = [f"{name}_{level}" for name in ("months", "totals", "cumulated") for level in (80, 95)]
    head = ["cutoff", "catalogues", "model", "figures", *(c.replace("_", " ") + " %" for c in columns)]
    return table(
        head,
        [
            [line["cutoff"], line["catalogues"], line["model"].replace("_", " @"), line["figures"],
             *(_share(line.get(column)) for column in columns)]
            for line in lines
        ],
    )  # fmt: skip


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".lstrip("0") if value < 1 else f"{value:.3f}"


@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory with charts_daily.parquet. It is not part of the program.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Directory for JSON and Markdown.  [default: benchmarks/results]",
)
def main(data: Path, out: Path) -> None:
    """Score both models, the choice between them and the intervals on real charts.

    \b
    Example:
      python -m benchmarks.models --data data
    """
    result = measure(data)
    out.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(result, indent=1), out / "models.json")
    write_text(markdown(result), out / "models.md")
    click.echo(markdown(result))


if __name__ == "__main__":
    main()
