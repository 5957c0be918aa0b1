"""What the chart of one track shows, whatever draws it."""

import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date

import polars as pl

from forecaster.model.parameters import DAYS_PER_MONTH
from forecaster.model.projection import project
from forecaster.postgres.diagnosis import Diagnosis
from forecaster.process.numbers import short
from forecaster.views.track import headline

HISTORY_WINDOWS = 36
"""Windows of 30 days of history in a chart, at most."""

HISTORY, FORECAST, BASE = "30-day totals", "forecast", "base curve"
"""Names of the three series."""

RANGES = {"95 % range": ("q025", "q975"), "80 % range": ("q10", "q90")}
"""Names of the ranges of the forecast, the wider one first, and the columns with their ends."""

_ENDS = [end for ends in RANGES.values() for end in ends]

SEPARATOR = " · "
"""Between the parts of a title and of a subtitle."""


@dataclass(frozen=True)
class Picture:
    """What the chart of one track shows. Streams are per 30 days; `middle` is the 15th day of them."""

    names: tuple[str, ...]
    """The track and its artist."""
    facts: tuple[str, ...]
    """The forecast's total, what it follows from, and what the chart leaves out."""
    as_of: date
    history: pl.DataFrame
    """One row per full window of 30 days, in order: first_day, last_day, middle, streams."""
    forecast: pl.DataFrame
    """One row per month: month, first_day, last_day, middle, streams (whole), base_streams (whole, but a
    float: it can be larger than 2^63), q025, q10, q90, q975, segment, months_since_release, base_rate, rate
    (per month). The base curve and the rates are NULL where the production model has no part."""
    bands: pl.DataFrame
    """One row per lifecycle segment that the forecast lies in, in order: segment, first_day, last_day,
    base_rate, rate (per month)."""

    @property
    def title(self) -> str:
        """The names in one line."""
        return SEPARATOR.join(self.names)

    @property
    def subtitle(self) -> str:
        """The facts in one line."""
        return SEPARATOR.join(self.facts)

    @property
    def span(self) -> tuple[int, int]:
        """First and last drawn day, in days since 1970; a day is drawn where it ends."""
        days = pl.concat([frame.select("first_day", "last_day") for frame in (self.history, self.forecast)])
        first, last = (
            days.select(pl.all().to_physical()).select(pl.min("first_day"), pl.max("last_day")).row(0)
        )
        return first - 1, last

    @property
    def extent(self) -> tuple[float, float]:
        """Smallest and largest drawn streams: at most 0 and at least 1. A range of 95 % may go beyond."""
        forecast = self.forecast.select("streams", "base_streams", "q10", "q90").get_columns()
        drawn = pl.concat([streams.cast(pl.Float64) for streams in (self.history["streams"], *forecast)])
        drawn = drawn.drop_nulls()
        return min(0.0, *drawn.bottom_k(1)), max(1.0, *drawn.top_k(1))

    @property
    def has_base(self) -> bool:
        """Whether there is a base curve."""
        return self.forecast["base_streams"].null_count() == 0

    def ends(self, name: str) -> pl.DataFrame:
        """Return the ends of a range as they are drawn, not above the largest streams: middle, low, high."""
        low, high = (pl.col(end).cast(pl.Float64) for end in RANGES[name])
        _, most = self.extent
        return self.forecast.select(
            "middle", low=low.fill_null(most), high=high.fill_null(most)
        ).with_columns(pl.col("low", "high").clip(upper_bound=most))


def picture(diagnosis: Diagnosis, history: pl.DataFrame) -> Picture:
    """Build the picture of a diagnosis and the track's days (date, daily_streams; at least one, in order).

    Windows of history are counted back from its last date, and a day without a record counts as 0.
    """
    track = diagnosis.track
    first, last = history["date"][0], history["date"][-1]
    windows = ((last - first).days + 1) // DAYS_PER_MONTH
    forecast = _forecast(diagnosis)
    drawn = Picture(
        names=(f"Track {track['cm_track_id']}", f"artist {track['cm_artist_id']}"),
        facts=(),
        as_of=track["as_of"],
        history=_windows(history, last, min(windows, HISTORY_WINDOWS)),
        forecast=forecast,
        bands=_bands(forecast),
    )
    return replace(drawn, facts=_facts(diagnosis, windows, drawn.extent[1]))


def flowed(parts: Iterable[str], between: str, width: int) -> list[str]:
    """Fit the parts into as few lines as possible; break a part only if it is longer than a line."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(between) + len(part) <= width:
            lines[-1] += between + part
        else:
            lines += textwrap.wrap(part, width, break_on_hyphens=False)
    return lines


def _forecast(diagnosis: Diagnosis) -> pl.DataFrame:
    as_of = pl.lit(diagnosis.track["as_of"])
    segment = pl.col("segment_used") - 1
    base_rates, rates = (
        (pl.lit(pl.Series(values)).gather(segment) for values in zip(*diagnosis.rates, strict=True))
        if diagnosis.rates
        else (pl.lit(None, dtype=pl.Float64), pl.lit(None, dtype=pl.Float64))
    )
    return diagnosis.forecasts.join(
        _base_curve(diagnosis), on="month", validate="1:1", maintain_order="left"
    ).select(
        "month",
        *_days(as_of + pl.duration(days=DAYS_PER_MONTH * pl.col("month"))),
        pl.col("forecasted_value").alias("streams"),
        "base_streams",
        *_ENDS,
        pl.col("segment_used").alias("segment"),
        pl.col("time_used").alias("months_since_release"),
        base_rates.alias("base_rate"),
        rates.alias("rate"),
    )


def _base_curve(diagnosis: Diagnosis) -> pl.DataFrame:
    """Forecast without the adjustment to artist and track: month, base_streams."""
    if not diagnosis.is_production:
        return diagnosis.forecasts.select("month", base_streams=pl.lit(None, dtype=pl.Float64))
    track = pl.LazyFrame([dict(diagnosis.track)]).with_columns(multiplier=1.0)
    curve = project(track, horizon=len(diagnosis.forecasts), level=diagnosis.level_days)
    return curve.select("month", base_streams=pl.col("forecasted_value").round()).collect()


def _windows(history: pl.DataFrame, last: date, windows: int) -> pl.DataFrame:
    """Sum the last `windows` windows of 30 days up to the day `last`."""
    days_ago = (last - pl.col("date")).dt.total_days()
    streams = (
        history.group_by((days_ago // DAYS_PER_MONTH).alias("ago"))
        # Kept finite, like the model's own sums.
        .agg(streams=pl.col("daily_streams").sum().clip(upper_bound=sys.float_info.max))
    )
    return (
        pl.DataFrame({"ago": pl.int_range(windows - 1, -1, -1, eager=True)})
        .join(streams, on="ago", how="left", maintain_order="left")
        .select(
            *_days(last - pl.duration(days=DAYS_PER_MONTH * pl.col("ago"))),
            pl.col("streams").fill_null(0.0),
        )
    )


def _days(last: pl.Expr) -> list[pl.Expr]:
    """First, last and middle day of the 30 days that end on `last`."""
    back = {"first_day": DAYS_PER_MONTH - 1, "last_day": 0, "middle": DAYS_PER_MONTH // 2}
    return [(last - pl.duration(days=days)).alias(name) for name, days in back.items()]


def _bands(forecast: pl.DataFrame) -> pl.DataFrame:
    return forecast.group_by("segment", maintain_order=True).agg(
        pl.first("first_day"), pl.last("last_day"), pl.first("base_rate", "rate")
    )


def _facts(diagnosis: Diagnosis, windows: int, most: float) -> tuple[str, ...]:
    facts = [headline(diagnosis), *_model_facts(diagnosis)]
    if cut := _beyond(diagnosis, most):
        facts.append(cut)
    if not windows:
        facts.append(f"fewer than {DAYS_PER_MONTH} days of history")
    elif windows > HISTORY_WINDOWS:
        facts.append(f"the last {HISTORY_WINDOWS} of {windows:,} totals")
    return tuple(facts)


def _model_facts(diagnosis: Diagnosis) -> Iterator[str]:
    track, model = diagnosis.track, diagnosis.model
    if model:
        names = {0.0: "production model", 1.0: "calibrated model"}
        name = names.get(model.weight, f"blend, {model.weight:.0%} calibrated")
        yield f"{name} from the last {model.level} days"
    if diagnosis.is_production:
        yield f"k {track['k']:.4g}"
        yield "no MLDR" if track["mldr"] is None else f"MLDR {track['mldr']:.4g}"
        yield f"multiplier {track['multiplier']:.4g}"


def _beyond(diagnosis: Diagnosis, most: float) -> str | None:
    """Say how far the range of 95 % goes beyond what is drawn."""
    highest = diagnosis.forecasts["q975"].fill_null(2**63 - 1).sort()[-1]
    return f"95 % range up to {short(highest)}, cut" if highest > most else None
