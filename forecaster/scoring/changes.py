"""What moved the total of a catalogue from one run to another, and why. Pure: frames in, frames out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from forecaster.tables import REFUSED

_HALF = 0.5  # streams: totals are whole numbers


@dataclass(frozen=True, eq=False)
class Cause:
    """A reason for a difference between the forecasts of a track after two runs."""

    title: str
    """In tables."""
    applies: pl.Expr
    """True where it applies. NULL counts as false."""


def _differs(name: str) -> pl.Expr:
    """Whether both states have a value, and not the same one."""
    return (pl.col(f"{name}_before") != pl.col(f"{name}_after")).fill_null(value=False)


def _changed(name: str) -> pl.Expr:
    return pl.col(f"{name}_before").ne_missing(pl.col(f"{name}_after"))


_OTHERWISE = pl.any_horizontal(
    *(_differs(name) for name in ("program", "model", "parameters", "counted")),
    ~_changed("last_date") & _changed("as_of"),
)

MOVED_BY: Mapping[str, Cause] = {
    "new": Cause("new tracks", pl.col("before").is_null()),
    "gone": Cause("tracks that are gone", pl.col("after").is_null()),
    "unchanged": Cause("unchanged", pl.col("before") == pl.col("after")),
    "parameters": Cause("other parameters or version", _OTHERWISE),
    "streams_and_mldr": Cause("new streams and new MLDR", _changed("last_date") & _changed("mldr")),
    "streams": Cause("new streams", _changed("last_date")),
    "mldr": Cause("new MLDR", _changed("mldr")),
    "restated": Cause("restated streams", pl.lit(value=True)),
}
"""Every cause. Of several that apply to a track, the first one counts, for all of its difference."""


@dataclass(frozen=True)
class Comparison:
    """The state of a catalogue after one run against that after another."""

    before: Mapping[str, Any]
    """The earlier run: a row of the table of runs."""
    after: Mapping[str, Any]
    """The later run."""
    months: int
    """Each total is of the months 1 to this one: the shorter horizon of both runs."""
    tracks: pl.DataFrame
    """One row per track, ordered by it: cm_track_id, before and after (streams; NULL without a forecast),
    moved (streams), why (one of `MOVED_BY`); run, last_date and mldr of both forecasts; skipped_since (why
    the track was skipped since the earlier run, or `REFUSED`, and so keeps its forecast)."""

    @property
    def total_before(self) -> float:
        """Streams of all forecasts after the earlier run."""
        return float(self.tracks["before"].sum())

    @property
    def total_after(self) -> float:
        """Streams of all forecasts after the later run."""
        return float(self.tracks["after"].sum())

    @property
    def difference(self) -> float:
        """The later total minus the earlier one."""
        return self.total_after - self.total_before

    @property
    def by_cause(self) -> pl.DataFrame:
        """One row per cause, in the order of `MOVED_BY`: why, tracks, moved. The last adds up exactly."""
        found = self.tracks.group_by("why").agg(tracks=pl.len().cast(pl.Int64), moved=pl.col("moved").sum())
        every = pl.DataFrame({"why": list(MOVED_BY)}, schema={"why": pl.String})
        counts = every.join(found, on="why", how="left", maintain_order="left")
        return counts.with_columns(pl.col("tracks").fill_null(0), pl.col("moved").fill_null(0.0))

    @property
    def skipped_since(self) -> dict[str, int]:
        """Number of tracks that were skipped since, and so keep their forecast, by reason."""
        reasons = self._since.filter(self._since != REFUSED)
        return dict(
            reasons.value_counts().sort("count", "skipped_since", descending=[True, False]).iter_rows()
        )

    @property
    def refused_since(self) -> int:
        """Number of tracks whose forecast was refused since, and that so keep the one before."""
        return int((self._since == REFUSED).sum())

    @property
    def _since(self) -> pl.Series:
        return self.tracks.filter(pl.col("why") != "gone")["skipped_since"].drop_nulls()

    def moved_most(self, number: int) -> pl.DataFrame:
        """Return the tracks that moved most, in either direction; those that did not move are left out."""
        size = pl.col("moved").abs()
        moved = self.tracks.filter(size > 0)
        return moved.sort(size, pl.col("cm_track_id"), descending=[True, False]).head(number)


def compare(before: Mapping[str, Any], after: Mapping[str, Any], states: pl.DataFrame, /) -> Comparison:
    """Compare the forecasts of each track after two runs.

    The runs are rows of the table of runs; `states` has one row per track, as `Ledger.states` reads it.
    """
    months = min(before["horizon"], after["horizon"])
    there = states.filter(~_gone_before(before, states))
    counted = {
        name: expression
        for state in ("before", "after")
        for name, expression in (
            (state, pl.col(f"months_{state}").list.head(months).list.sum()),
            (f"counted_{state}", pl.col(f"months_{state}").list.head(months).list.len()),
        )
    }
    cause = pl.coalesce(pl.when(cause.applies).then(pl.lit(name)) for name, cause in MOVED_BY.items())
    tracks = (
        there.with_columns(**counted)
        .with_columns(after=pl.when(~_is_lost(before["id"])).then("after"))
        .with_columns(why=cause, moved=pl.col("after").fill_null(0) - pl.col("before").fill_null(0))
    )
    pairs = [f"{name}_{state}" for name in ("run", "last_date", "mldr") for state in ("before", "after")]
    order = ("cm_track_id", "before", "after", "moved", "why", *pairs, "skipped_since")
    return Comparison(before, after, months, tracks.select(order))


def _is_lost(before: int) -> pl.Expr:
    """Whether nothing is stored of a track whose newest forecast is of the earlier run or older."""
    return ~pl.col("is_stored") & (pl.col("latest") <= before)


def _gone_before(before: Mapping[str, Any], states: pl.DataFrame) -> pl.Series:
    """Whether a lost track was lost before the earlier run ended already.

    Nothing tells when a stored forecast was deleted. But the total that the run recorded at its end tells
    whether it counted all of the lost tracks, or none.
    """
    lost = states.select(_is_lost(before["id"])).to_series()
    streams = states["months_before"].list.head(before["horizon"]).list.sum().fill_null(0.0)
    without = streams.filter(~lost).sum()
    counted_none = before["total"] is not None and abs(without - before["total"]) < _HALF
    return lost if counted_none else lost & False
