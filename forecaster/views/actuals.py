"""Read later streams, against which forecasts are scored, from a table or file, and join the earlier ones."""

import logging
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from forecaster.errors import InvalidOptionError
from forecaster.files.formats import table_endings
from forecaster.files.intake import read_streams
from forecaster.files.paths import refusing
from forecaster.postgres.backtest import LaterDays, later_days, open_actuals
from forecaster.postgres.dsn import Dsn
from forecaster.process.numbers import counted

_log = logging.getLogger("forecaster")
_NAMED = "name later daily streams with --actuals TABLE|SCHEMA.TABLE|FILE"
_DAY = ["cm_track_id", "date"]


def read_actuals(dsn: Dsn, schema: str, named: str, tracks: pl.Series) -> LaterDays:
    """Read the days of the tracks from a table or from a CSV or Parquet file.

    `named` is a file if it exists as a path, contains a slash, or has the ending of one; else it is a table,
    in `schema` unless it names another one. Raises `InvalidOptionError` for a name that is neither,
    `SchemaMismatchError` for a table that is missing or lacks a column, and what reading raises.
    """
    if not named:
        raise InvalidOptionError("--actuals is empty", hint=_NAMED)
    path = Path(named)
    with refusing(named, "read"):
        is_path = path.exists() or "/" in named or named.lower().endswith(table_endings())
    if is_path:
        return _of_file(path, tracks)
    of_schema, _, table = named.rpartition(".")
    if not table or named.startswith("."):
        raise InvalidOptionError(f"--actuals {named} does not name a table", hint=_NAMED)
    with open_actuals(dsn, of_schema or schema, table) as source:
        return later_days(source, tracks)


def _of_file(path: Path, tracks: pl.Series) -> LaterDays:
    if path.is_dir():
        raise InvalidOptionError(f"--actuals {path} is a directory", hint=_NAMED)
    read = read_streams(path)  # which refuses duplicates and unusable rows, except NULL streams
    for note in read.notes:
        _log.warning("%s: %s", path, note)
    rows = read.rows
    wanted = rows.filter(pl.col("cm_track_id").is_in(tracks.implode()))
    days = wanted.drop_nulls("daily_streams").select(*_DAY, pl.col("daily_streams").cast(pl.Float64))
    return LaterDays(
        days,
        {
            "other_tracks": len(rows) - len(wanted),
            "duplicates": 0,
            "unusable": len(wanted) - len(days),
        },
    )


def joined(days: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """Join both: cm_track_id, date, daily_streams. If both have a track and date, that of `later` counts."""
    rest = days.join(later, on=_DAY, how="anti")
    return pl.concat([rest.select(later.columns), later])


def differing(days: pl.DataFrame, later: pl.DataFrame, spans: pl.DataFrame) -> Iterator[str]:
    """Yield a warning if `later` has other streams on days up to the last as-of date of a track."""
    found = (
        later.join(spans, on="cm_track_id")
        .filter(pl.col("date") <= pl.col("last"))
        .join(days, on=_DAY, suffix="_known")
        .filter(pl.col("daily_streams") != pl.col("daily_streams_known"))
    )
    if len(found):
        yield (
            f"--actuals differs from the streams table on {counted(len(found), 'day')} before an origin "
            f"(first: track {found['cm_track_id'].sort()[0]}); before an origin the streams table counts"
        )


def negative(actuals: pl.DataFrame, spans: pl.DataFrame) -> Iterator[str]:
    """Yield a warning if streams are negative on days after the first as-of date of a track."""
    found = (
        actuals.filter(pl.col("daily_streams") < 0)
        .join(spans, on="cm_track_id")
        .filter(pl.col("date") > pl.col("first"))
    )
    if len(found):
        yield (
            f"the streams after the origins are negative on {counted(len(found), 'day')} "
            f"(first: track {found['cm_track_id'].sort()[0]}); they are scored unchanged"
        )
