"""One HTML page of a whole catalogue: no library, no network, the data compressed inside it."""

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Sequence
from datetime import UTC
from importlib import resources
from typing import TYPE_CHECKING

import polars as pl
from polars import selectors

from forecaster.model.eligibility import REASONS
from forecaster.model.segments import FORECAST_SEGMENT_STARTS, INFLUENCE_EDGES
from forecaster.scoring import BASELINES, FORECASTER, GROUPS, LEFT_OUT, METRICS

if TYPE_CHECKING:
    from forecaster.scoring import Evaluation
    from forecaster.views.catalogue import Catalogue

LARGEST_TRACKS = 20_000
"""Tracks that a page lists; of a larger catalogue the largest ones. All sums are over all tracks."""

POINTS = 40
"""Months of a forecast that a track's chart is drawn from, at most."""

_GROUP_SCORES = ("series", "windows", "wape", "bias", "within_20", "skill")
_FLOAT_EXACT, _LARGEST_INTEGER = 2.0**53, 2.0**63
_LARGEST = 1e30  # no streams; the sums of larger ones could be infinite, here and in JavaScript
_PENDING = "without a forecast, though one can be made"
_YEAR = 12
_TIME = "%Y-%m-%d %H:%M UTC"
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_PART = re.compile(
    r"^[^\n]*\{\{#evaluation\}\}[^\n]*\n(.*?)^[^\n]*\{\{/evaluation\}\}[^\n]*\n", re.DOTALL | re.MULTILINE
)
"""What the page has only with an evaluation, from a line with its name to a line with its end."""

_COMMAND = re.compile("`([^`]+)`")
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def render(catalogue: "Catalogue", evaluation: "Evaluation | None" = None) -> str:
    """The whole page, the same for the same arguments. Values that are no number up to 1e30 are left out.

    A track's chart has at most `POINTS` months, the same for all tracks, rounded to four digits. Totals are
    whole, and exact where they are less than 2^63. Of more than `LARGEST_TRACKS` tracks those are listed
    whose forecast is largest, then those with the most streams. With an evaluation, a section says how good
    forecasts were: its scores are rounded to eight digits.
    """
    tracks = _cleaned(catalogue.tracks)
    largest = _largest(tracks)
    totals = _totals(tracks)
    months = _drawn_months(totals.height)
    template = _template(evaluated=evaluation is not None)
    script = _SCRIPT.search(template)
    assert script  # noqa: S101 - the template is part of the package
    values = {
        "script_hash": _base64(hashlib.sha256(script[1].encode()).digest()),
        "database": html.escape(catalogue.database),
        "schema": html.escape(catalogue.schema),
        "read_at": catalogue.read_at.astimezone(UTC).strftime(_TIME),
        "warnings": _warnings(catalogue.warnings),
        "months": _horizons(tracks["months"]),
        "summary": _json(_summary(tracks, totals) | {"rows": largest.height, "drawn": months}),
        "rows": _compressed(_json(_rows(largest, months))),
        **{name: f"{count:,}" for name, count in _counts(tracks).items()},
        **({"evaluation": _json(_evaluated(evaluation))} if evaluation else {}),
    }
    return _PLACE.sub(lambda place: values[place[1]], template)


def _template(*, evaluated: bool) -> str:
    """The page without its values, and without the part for an evaluation if there is none."""
    template = resources.files("forecaster.views").joinpath("page.html").read_text("utf-8")
    return _PART.sub(r"\1" if evaluated else "", template)


def _json(value: object) -> str:
    """JSON that ends no script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _compressed(text: str) -> str:
    # The highest level takes seven times as long to save a twentieth. No time: it would differ.
    return _base64(gzip.compress(text.encode(), compresslevel=6, mtime=0))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _warnings(warnings: Sequence[str]) -> str:
    """A box, or nothing."""
    if not warnings:
        return ""
    said = (_COMMAND.sub(r"<code>\1</code>", html.escape(words)) for words in warnings)
    paragraphs = "".join(f"\n  <p><b>Warning:</b> {words}</p>" for words in said)
    return f'<div class="warnings" role="note">{paragraphs}\n</div>\n'


def _horizons(months: pl.Series) -> str:
    """Of how many months the forecasts are."""
    known = months.drop_nulls()
    if known.is_empty():
        return ""
    least, most = known.sort().gather([0, -1])
    return (
        f", of {most:,} month{'s' * (most != 1)}" if least == most else f", of {least:,} to {most:,} months"
    )


def _cleaned(tracks: pl.DataFrame) -> pl.DataFrame:
    """NULL for numbers that are not finite or too large; the total as `whole` number, too; and a state.

    The state is forecast, stale, pending, or the reason for having no forecast.
    """
    number = pl.element()
    return (
        tracks.with_columns(
            _usable(selectors.float()),
            pl.col("history", "forecast").list.eval(_usable(number)),
        )
        .with_columns(
            total=pl.when(_is_forecast()).then(pl.col("total").fill_null(pl.col("forecast").list.sum())),
            whole=pl.col("forecast").list.eval(_integer(pl.element())).list.sum(),
        )
        .with_columns(
            state=pl.when(_is_forecast() & pl.col("is_stale"))
            .then(pl.lit("stale"))
            .when(_is_forecast())
            .then(pl.lit("forecast"))
            .otherwise(pl.col("reason").fill_null("pending"))
        )
    )


def _usable(numbers: pl.Expr) -> pl.Expr:
    return pl.when(numbers.abs() <= _LARGEST).then(numbers)  # NaN is larger than all numbers


def _is_forecast() -> pl.Expr:
    return (pl.col("forecast").list.len() > 0).fill_null(value=False)


def _counts(tracks: pl.DataFrame) -> dict[str, int]:
    forecast = tracks.filter(_is_forecast()).height
    pending = tracks.filter(state="pending").height
    total = tracks["total"].sum()
    return {
        "tracks": tracks.height,
        "forecast": forecast,
        "pending": pending,
        "skipped": tracks.height - forecast - pending,
        "streams": int(tracks["whole"].sum()) if total < _LARGEST_INTEGER else round(total),
    }


def _summary(tracks: pl.DataFrame, totals: pl.DataFrame) -> dict[str, object]:
    """What is said of all tracks together."""
    return {
        "tracks": tracks.height,
        "total": tracks["total"].sum(),
        "months": totals.with_columns(digits=_digits("streams", "whole"))
        .drop("whole")
        .to_dict(as_series=False),
        "segments": _groups(tracks, "segment", range(1, len(FORECAST_SEGMENT_STARTS) + 1)),
        "segment_starts": FORECAST_SEGMENT_STARTS,
        "ranges": _groups(tracks, "influence_range", range(len(INFLUENCE_EDGES))),
        "range_edges": INFLUENCE_EDGES,
        "states": _states(tracks),
    }


def _evaluated(evaluation: "Evaluation") -> dict[str, object]:
    """What is said of an evaluation: its frames as columns, and the words for their names."""
    worst = evaluation.worst_cutoff
    return {
        "overall": _scores(evaluation.overall),
        **{
            name: _scores(getattr(evaluation, name).select(by, *_GROUP_SCORES)) for name, by in GROUPS.items()
        },
        "rivals": _scores(evaluation.by_month.select(f"wape_{name}" for name in BASELINES)),
        "scored": evaluation.windows_scored,
        "left_out": [
            {"name": name, "meaning": LEFT_OUT.get(name, ""), "months": months}
            for name, months in evaluation.left_out.items()
        ],
        "best": evaluation.best_baseline,
        "worst": worst.isoformat() if worst else None,
        "forecaster": FORECASTER,
        "baselines": dict(BASELINES),
        "formulas": {name: metric.formula for name, metric in METRICS.items()},
    }


def _scores(frame: pl.DataFrame) -> dict[str, list[object]]:
    numbers, dates = selectors.float(), selectors.date()
    return frame.with_columns(
        pl.when(numbers.is_finite()).then(numbers.round_sig_figs(8)), dates.dt.to_string("%Y-%m-%d")
    ).to_dict(as_series=False)


def _totals(tracks: pl.DataFrame) -> pl.DataFrame:
    """One row per forecast month: month, streams, the same as whole number, tracks."""
    length = pl.col("forecast").list.len().cast(pl.Int64)
    return (
        tracks.filter(_is_forecast())
        .select("forecast", month=pl.int_ranges(1, length + 1))
        .explode("forecast", "month")
        .group_by("month", maintain_order=True)
        .agg(streams=pl.col("forecast").sum(), whole=_integer(pl.col("forecast")).sum(), tracks=pl.len())
        .sort("month")
    )


def _integer(values: pl.Expr) -> pl.Expr:
    return values.round().cast(pl.Int64, strict=False)


def _digits(total: str, whole: str) -> pl.Expr:
    """A total as text where a float has not all of its digits but an integer has; else NULL.

    Of a column of floats, and one of integers that is wrong where it is too small for the total.
    """
    is_between = pl.col(total).is_between(_FLOAT_EXACT, _LARGEST_INTEGER, closed="left")
    return pl.when(is_between).then(pl.col(whole).cast(pl.String))


def _groups(tracks: pl.DataFrame, column: str, numbers: range) -> dict[str, list[object]]:
    """Tracks, their forecast and their last 30 records per number; last of all those that have none."""
    known = pl.when(pl.col(column).is_in(numbers)).then(column).alias("number")
    sums = tracks.group_by(known, maintain_order=True).agg(
        tracks=pl.len(),
        forecast=pl.col("total").sum(),
        forecast_digits=pl.col("whole").sum(),
        streams_30=pl.col("streams_30").sum(),
        streams_30_digits=_integer(pl.col("streams_30")).sum(),
    )
    every = pl.DataFrame({"number": [*numbers, None]}, schema={"number": pl.Int64})
    return (
        every.join(sums, on="number", how="left", nulls_equal=True, maintain_order="left")
        .with_columns(pl.exclude("number").fill_null(0))
        .with_columns(
            _digits(name, f"{name}_digits").alias(f"{name}_digits") for name in ("forecast", "streams_30")
        )
        .to_dict(as_series=False)
    )


def _states(tracks: pl.DataFrame) -> list[dict[str, object]]:
    """The ways to have no forecast: name, meaning, tracks, and tracks that have one from before."""
    without = dict(tracks["state"].value_counts().iter_rows())
    stored = dict(tracks.filter(_is_forecast())["reason"].drop_nulls().value_counts().iter_rows())
    meanings = {name: reason.meaning for name, reason in REASONS.items()}
    meanings |= dict.fromkeys(sorted({*without, *stored} - {"forecast", "stale", *REASONS}), "")
    return [
        {"name": name, "meaning": meaning, "tracks": without.get(name, 0), "stored": stored.get(name, 0)}
        for name, meaning in {**meanings, "pending": _PENDING}.items()
    ]


def _largest(tracks: pl.DataFrame) -> pl.DataFrame:
    order = ("total", "streams_30", "cm_track_id")
    return (
        tracks.sort(order, descending=[True, True, False], nulls_last=True)
        .head(LARGEST_TRACKS)
        .sort("cm_track_id")
    )


def _drawn_months(months: int) -> list[int]:
    """All of them or, dense at first where a forecast is curved, `POINTS` of them with both ends."""
    if months <= POINTS:
        return [*range(1, months + 1)]
    steps = (step / (POINTS - 1) for step in range(POINTS))
    return sorted({1 + round((months - 1) * step**1.5) for step in steps})


def _rows(tracks: pl.DataFrame, months: list[int]) -> dict[str, list[object]]:
    """The columns that the page reads; ids are texts, for they may exceed what JavaScript counts exactly."""
    drawn = pl.element().round_sig_figs(4)
    places = pl.lit([month - 1 for month in months], dtype=pl.List(pl.Int64))
    return tracks.select(
        track=pl.col("cm_track_id").cast(pl.String),
        artist=pl.col("cm_artist_id").cast(pl.String),
        state="state",
        reason="reason",
        as_of=pl.col("as_of").dt.to_string("%Y-%m-%d"),
        cutoff=pl.col("cutoff").dt.to_string("%Y-%m-%d"),
        late=_late(),
        age=pl.when(_is_forecast()).then("age").otherwise("months_since_release"),
        age_now="months_since_release",
        segment="segment",
        range=pl.col("influence_range") + 1,
        last_30=pl.col("streams_30").round(),
        last_365=pl.col("streams_365").round(),
        total=pl.col("total").round(),
        digits=_digits("total", "whole"),
        months="months",
        change=_change().round_sig_figs(6),
        mldr=pl.col("mldr").round_sig_figs(6),
        k=pl.col("k").round_sig_figs(6),
        multiplier=pl.col("multiplier").round_sig_figs(6),
        stored=pl.col("created_at").dt.to_string(_TIME),
        history=pl.col("history").list.eval(drawn),
        forecast=pl.col("forecast").list.gather(places, null_on_oob=True).list.eval(drawn),
    ).to_dict(as_series=False)


def _late() -> pl.Expr:
    """By how many days the streams go on after the last one that the forecast knew; 0 without both."""
    # A Duration would overflow between the first and the last days that a Date can hold.
    as_of, cutoff = (pl.col(name).to_physical().cast(pl.Int64) for name in ("as_of", "cutoff"))
    return pl.when(_is_forecast()).then(as_of - cutoff).fill_null(0)


def _change() -> pl.Expr:
    """The next twelve months as a part of the last twelve sums, less one.

    NULL without both, and where the months do not follow the sums.
    """
    past, ahead = (
        pl.when(year.list.len() == _YEAR).then(year.list.sum())
        for year in (
            pl.col("history").list.tail(_YEAR).list.drop_nulls(),
            pl.col("forecast").list.head(_YEAR).list.drop_nulls(),
        )
    )
    return _usable(pl.when((past > 0) & (_late() == 0)).then(ahead / past - 1))
