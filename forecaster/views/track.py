"""One track as text: its forecast with every number that it follows from, to check it by hand."""

from collections.abc import Iterable, Iterator

import polars as pl

from forecaster.model.calibrated.uncertainty import totals
from forecaster.model.features import WEEK
from forecaster.model.segments import FORECAST_SEGMENT_STARTS, INFLUENCE_EDGES, SEGMENT_STARTS
from forecaster.postgres.diagnosis import Diagnosis
from forecaster.process.numbers import counted, short, short_range
from forecaster.views.basis import basis
from forecaster.views.calibrated import calibrated_inputs, calibrated_months, level_in_words

_SHOWN_MONTHS = 6


def told(found: Diagnosis, /) -> str:
    """Write every number, at most 80 columns wide."""
    return "\n".join(_lines(found))


def headline(found: Diagnosis, /) -> str:
    """Write the total of all months in three digits, with its range. The file has the exact numbers."""
    made, horizon = found.forecasts.lazy(), len(found.forecasts)
    added = totals(made, found.errors, horizon=horizon, is_group=True).collect()
    low, high = added.select("cumulated_q10", "cumulated_q90").row(-1)
    total = found.forecasts["forecasted_value"].cast(pl.Int128).sum()
    return f"{counted(horizon, 'month')}: {short(float(total))} streams, 80 % range {short_range(low, high)}"


def _lines(found: Diagnosis) -> Iterator[str]:
    yield f"track {found.track['cm_track_id']} of artist {found.track['cm_artist_id']}"
    yield from _named(_inputs(found))
    if found.is_production:
        yield from _named(_production(found))
        yield from _rates(found)
    if found.model and found.is_calibrated:
        yield from calibrated_inputs(found.track, found.model)
        yield from calibrated_months(found.track, found.model, found.forecasts, shown=_SHOWN_MONTHS)
    yield from _months(found)


def _inputs(found: Diagnosis) -> Iterator[tuple[str, object]]:
    t = found.track
    yield from (
        ("training data id", t["training_data_id"]),
        ("as of", t["as_of"]),
        ("months since release", t["months_since_release"]),
        ("streams, last 30 records", f"{t['streams_30']:,.0f}"),
        ("streams, last 90 records", f"{t['streams_90']:,.0f}"),
        ("streams, last 365 records", f"{t['streams_365']:,.0f}"),
    )
    if not found.is_calibrated and found.level_days == WEEK:
        yield "level, streams per day", level_in_words(t, WEEK)


def _production(found: Diagnosis) -> Iterator[tuple[str, object]]:
    t = found.track
    influence = t["influence_range"]
    yield from (
        ("x (months)", ", ".join(str(t[x]) for x in ("x0", "x1", "x2"))),
        ("y (streams per 30 days)", ", ".join(f"{t[y]:,.2f}" for y in ("y0", "y1", "y2"))),
        ("k, the track's own decay", f"{t['k']:.10g} per month"),
        ("MLDR of the artist", "none: 0 per month" if t["mldr"] is None else f"{t['mldr']:.10g} per month"),
        ("influence range", f"{influence + 1} (from {INFLUENCE_EDGES[influence]:,})"),
        ("h, mean of 1 / base rate", f"{t['base_months']:.10g} months"),
        ("artist factor", f"{t['artist_factor']:.10g}"),
        ("multiplier", f"{t['multiplier']:.10g}"),
    )


def _rates(found: Diagnosis) -> Iterator[str]:
    # The base rates' segments begin at the first, those of the forecast itself a month earlier.
    yield "  segment   from month   in forecasts   base rate       rate"
    starts = zip(SEGMENT_STARTS, FORECAST_SEGMENT_STARTS, found.rates, strict=True)
    for number, (start, in_forecasts, (base, rate)) in enumerate(starts, start=1):
        yield f"  {number:>7}{start:>13}{in_forecasts:>15}{base:>12.6f}{rate:>11.6f}"


def _months(found: Diagnosis) -> Iterator[str]:
    yield f"  {headline(found)}"
    columns = ("month", "forecasted_value", "segment_used", "time_used", "q10", "q90")
    shown = found.forecasts.select(columns).head(_SHOWN_MONTHS).rows()
    width = max(len("streams"), *(len(f"{value:,}") for _, value, *_ in shown)) + 3
    ends = [short_range(low, high) for *_, low, high in shown]
    room = max(len("80 % range"), *map(len, ends)) + 3
    yield f"    month{'streams':>{width}}{'80 % range':>{room}}   segment   month since release"
    for (month, value, segment, time, *_), between in zip(shown, ends, strict=True):
        yield f"  {month:>7}{value:>{width},}{between:>{room}}{segment:>10}{time:>22}"
    if len(found.forecasts) > _SHOWN_MONTHS:
        yield f"  and {len(found.forecasts) - _SHOWN_MONTHS} more"
    yield from (
        f"  {line}" for line in basis(found.calibration, found.errors, len(found.forecasts)).splitlines()
    )


def _named(values: Iterable[tuple[str, object]]) -> Iterator[str]:
    yield from (f"  {name:<27}{value}" for name, value in values)
