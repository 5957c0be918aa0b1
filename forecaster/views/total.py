"""The total of stored forecasts, per month and cumulated, with the range that it lies in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import polars as pl

from forecaster.errors import InvalidOptionError, NoForecastError
from forecaster.model.calibrated.uncertainty import totals
from forecaster.postgres.catalogue import Source, open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.stored import describe_irregular
from forecaster.postgres.stored_with import StoredWith, stored_with
from forecaster.process.numbers import counted, short, short_range
from forecaster.tables import FORECAST_TABLE, QUANTILES
from forecaster.views.basis import basis_of, extrapolated, model_of

CONDITION_COLUMNS = ("cm_track_id", "cm_artist_id", "segment_used", "time_used", "forecasted_value")
"""Columns of the forecasts that conditions may name; the values of month 1 count."""
_LARGEST = 2.0**63
_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|!=|=|<|>)\s*(-?\d{1,19}(?:\.\d{1,19})?)\s*")


@dataclass(frozen=True)
class Condition:
    """A condition on a column of the forecasts."""

    column: str
    comparison: str
    value: float

    @classmethod
    def of(cls, text: str) -> Self:
        """Read "COLUMN<NUMBER" and the like. Raises `InvalidOptionError` for anything else."""
        match = _CONDITION.fullmatch(text)
        if match is None or match[1] not in CONDITION_COLUMNS or abs(float(match[3])) >= _LARGEST:
            raise InvalidOptionError(
                f"{text!r} is not a condition",
                hint=f"compare {', '.join(CONDITION_COLUMNS)} by =, !=, <, <=, > or >= with a number",
            )
        return cls(match[1], match[2], float(match[3]) if "." in match[3] else int(match[3]))

    @property
    def holds(self) -> pl.Expr:
        """Whether it holds; NULL where the column is NULL."""
        column, value = pl.col(self.column), self.value
        return {
            "=": column == value,
            "!=": column != value,
            "<": column < value,
            "<=": column <= value,
            ">": column > value,
            ">=": column >= value,
        }[self.comparison]


@dataclass(frozen=True)
class Chosen:
    """The tracks to add up: those that meet everything that is given. Nothing: all with a forecast."""

    track_ids: tuple[int, ...] | None = None
    artist_ids: tuple[int, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def among(self, forecasts: pl.DataFrame) -> pl.DataFrame:
        """Select the rows of these tracks. Raises `NoForecastError` if there are none."""
        first = forecasts.filter(pl.col("month") == 1)
        wanted = [condition.holds for condition in self.conditions]
        wanted += [pl.col("cm_artist_id").is_in(self.artist_ids)] if self.artist_ids else []
        found = forecasts
        if wanted:
            tracks = first.filter(wanted)["cm_track_id"]
            found = forecasts.filter(pl.col("cm_track_id").is_in(tracks.implode()))
        if found.is_empty():
            raise NoForecastError(
                "no forecast of the chosen tracks is stored" if self else "no forecast is stored",
                hint="choose other tracks" if self else "make forecasts with `forecaster run`",
            )
        return found

    def __bool__(self) -> bool:
        return self.track_ids is not None or bool(self.artist_ids or self.conditions)


@dataclass(frozen=True)
class Total:
    """The total of some tracks, and how sure it is."""

    months: pl.DataFrame
    """One row per month, in order, in streams, not rounded: month, tracks, total, its quantiles; cumulated
    (months 1 to this one), its quantiles named cumulated_q025 and so on."""
    tracks: int
    all_tracks: int
    """Number of tracks with a forecast."""
    made_with: StoredWith
    warnings: tuple[str, ...] = ()

    @property
    def is_part(self) -> bool:
        """Whether the tracks are a part of the catalogue, whose own errors count."""
        return self.tracks < self.all_tracks

    @property
    def model(self) -> str:
        """The model of most streams, in words."""
        return model_of(self.made_with)

    @property
    def basis(self) -> list[str]:
        """What the ranges rest on, in words."""
        horizon = len(self.months)
        return [basis_of(self.made_with, horizon), *extrapolated(horizon)]

    def headline(self, *, exact: bool = False) -> Iterator[str]:
        """Say in two lines what all months come to, and how sure that is."""
        last = self.months.row(-1, named=True)
        total, *ends = (last[f"cumulated{name}"] for name in ("", "_q10", "_q90", "_q025", "_q975"))
        between = _exact_range if exact else short_range
        streams = f"{round(total):,}" if exact else short(total)
        yield f"{counted(last['month'], 'month')}: {streams} streams, 80 % range {between(*ends[:2])}"
        yield f"95 % range {between(*ends[2:])}"


def _exact_range(low: float, high: float) -> str:
    return f"{round(low):,} to {round(high):,}"


def read_total(dsn: Dsn, schema: str, chosen: Chosen, *, horizon: int | None = None) -> Total:
    """Add up the stored forecasts of the chosen tracks: by default the months that every one of them has.

    Raises `NoForecastError` if there are none, `InvalidOptionError` for more months than that, and what
    reading raises.
    """
    with open_source(dsn, schema, needed=[FORECAST_TABLE]) as source:
        return total_of(source, schema, chosen, horizon=horizon)


def total_of(source: Source, schema: str, chosen: Chosen, *, horizon: int | None = None) -> Total:
    """Add them up as `read_total` does, in the snapshot of the source."""
    rows = chosen.among(source.forecasts(chosen.track_ids).drop_nulls("forecasted_value"))
    tracks = rows.group_by("cm_track_id").agg(pl.col("month").max())
    common, stored = int(tracks["month"].min()), source.stored()  # type: ignore[arg-type]
    if horizon is not None and horizon > common:
        raise InvalidOptionError(
            f"--horizon is {horizon}, and not every track has a forecast of more than {common} months",
            hint=f"use at most {common}, or forecast more months with `forecaster run --replace --horizon`",
        )
    made_with, all_tracks = stored_with(source, rows), stored["cm_track_id"].count()
    added = added_up(rows, made_with, horizon or common, is_part=len(tracks) < all_tracks)
    asked = None if horizon else common
    warnings = (
        *describe_irregular(_among(stored, tracks["cm_track_id"]), schema),
        *made_with.warnings,
        *_left_out(tracks, chosen, asked),
    )
    return Total(added, len(tracks), all_tracks, made_with, warnings)


def added_up(forecasts: pl.DataFrame, made_with: StoredWith, months: int, *, is_part: bool) -> pl.DataFrame:
    """Add up months 1 to `months`: `Total.months`."""
    rows = forecasts.lazy().filter(pl.col("month") <= months)
    return totals(rows, made_with.errors, horizon=months, is_group=is_part).collect()


def _among(stored: pl.DataFrame, tracks: pl.Series) -> pl.DataFrame:
    return stored.filter(pl.col("cm_track_id").is_in(tracks.cast(stored["cm_track_id"].dtype).implode()))


def _left_out(tracks: pl.DataFrame, chosen: Chosen, common: int | None) -> Iterator[str]:
    """Say which of the chosen tracks have no forecast, and which months are not added up."""
    if chosen.track_ids is not None and not chosen.artist_ids and not chosen.conditions:
        missing = len(set(chosen.track_ids)) - len(tracks)
        if missing:
            yield f"{counted(missing, 'chosen track')} without a stored forecast"
    longer = tracks.filter(pl.col("month") > common).height if common else 0
    if longer:
        yield (
            f"only months 1 to {common}, which every track has, are added up: "
            f"{counted(longer, 'track')} {'has' if longer == 1 else 'have'} more"
        )


def rounded(months: pl.DataFrame) -> pl.DataFrame:
    """Round the months of a total to whole streams."""
    bounds = (*QUANTILES, *(f"cumulated_{name}" for name in QUANTILES))
    streams = pl.col("total", "cumulated", *bounds).round()
    return months.with_columns(streams.cast(pl.Int64, strict=False))
