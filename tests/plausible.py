"""Small catalogues, plausible or not: tracks with their days, and a decay rate for each artist."""

from datetime import UTC, date, datetime, timedelta

import polars as pl

TODAY = datetime.now(UTC).date()
ENDS = TODAY - timedelta(days=2)
SCHEMA = {"cm_track_id": pl.Int64, "cm_artist_id": pl.Int64, "date": pl.Date, "daily_streams": pl.Float64}


def track(number: int, streams: list[float | None], *, end: date = ENDS) -> pl.DataFrame:
    """One track whose last day is `end`, of the artist with its number."""
    days = [end - timedelta(days=back) for back in reversed(range(len(streams)))]
    return pl.DataFrame(
        {"cm_track_id": number, "cm_artist_id": number, "date": days, "daily_streams": streams}, schema=SCHEMA
    )


def steady(tracks: int, *, days: int = 100, end: date = ENDS) -> list[pl.DataFrame]:
    return [track(number, [50.0] * days, end=end) for number in range(1, tracks + 1)]


def rates(tracks: int, **other: float | None) -> pl.DataFrame:
    """0.02 for each artist, except `a7` and the like."""
    values = [other.get(f"a{number}", 0.02) for number in range(1, tracks + 1)]
    return pl.DataFrame(
        {"cm_artist_id": range(1, tracks + 1), "mldr": values},
        schema={"cm_artist_id": pl.Int64, "mldr": pl.Float64},
    )
