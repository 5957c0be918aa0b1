"""Rows of a file -> rows that the source tables can hold. Every row is checked before any is used."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.checked import CheckedFile
from forecaster.files.forms import (
    EXPORT_FORM,
    LISTENERS_EXPORT_FORM,
    LISTENERS_FORM,
    LISTENERS_FORMS,
    LISTENERS_WANTED,
    MLDR_FORM,
    STREAMS_FORM,
    STREAMS_FORMS,
    STREAMS_WANTED,
)
from forecaster.files.messages import SHOWN

_SURELY_TOTALS = 30  # days


@dataclass(frozen=True)
class Intake:
    """The contents of a file for a source table. Everything read is in rows, ignored or left_out."""

    rows: pl.DataFrame
    """The rows of the table, in its types."""
    ignored: tuple[str, ...]
    """Columns of the file that the table does not have."""
    left_out: pl.DataFrame
    """row (counted from 1), date, reason: the records of an export whose daily streams are not known."""
    notes: tuple[str, ...] = ()
    """How the file was read, if that may be wrong."""
    of_totals: bool = False
    """Whether the streams of a day were computed from totals so far."""


def read_streams(path: Path, /, *, track_id: int | None = None, artist_id: int | None = None) -> Intake:
    """Daily streams from a CSV or Parquet file, in the form of the source table or of an export.

    The table's form: cm_track_id, cm_artist_id, date, daily_streams and, if known, days_from_release.
    `track_id` and `artist_id` are for a file that lacks these columns. The timeline of a song from Spotify
    for Artists is read, too: its columns are `date` and `streams`, in upper or lower case.

    The form of a music analytics service's export: Date, Value (all streams so far) and, if known, Days from
    release (1 on the first day). It needs `track_id` and `artist_id`. The streams of a day are its Value
    minus that of the day before; on the day of release, if the file begins with it, they are its Value. If
    the day before is not in the file, the streams are not known, and the record is left out: spreading the
    difference over the days of a gap would invent records.

    The rows: cm_track_id, cm_artist_id, date, daily_streams (NULL where empty), days_from_release (NULL where
    not known; as in the file, not recounted). They are in the order of the file; those of an export are
    ordered by date. Raises `BadFileError` that lists the invalid rows, and `InvalidOptionError` for ids that
    are missing, or given although the file has them.
    """
    file = _with_daily_streams(CheckedFile.of(path, STREAMS_FORMS, wanted=STREAMS_WANTED))
    _check_not_rates(file)
    given = {"cm_track_id": track_id, "cm_artist_id": artist_id}
    ids = {column: _checked_id(column, value) for column, value in given.items() if value is not None}
    if _is_export(file):
        return _streams_of_export(file, ids)
    if doubled := sorted(ids.keys() & file.columns):
        raise InvalidOptionError(
            f"{path} has its own {' and '.join(doubled)}", hint="do not give them as options"
        )
    rows = file.read({column: field for column, field in STREAMS_FORM.items() if column not in ids})
    file.check_unique(rows, [c for c in ("cm_track_id", "date") if c not in ids], what="track and day")
    return Intake(
        rows.with_columns(**_constant(ids)).select(*STREAMS_FORM),
        file.ignored(STREAMS_FORM),
        _NOTHING_LEFT_OUT,
        (*file.notes, *_notes_of_totals(rows)),
    )


def read_mldr(path: Path, /) -> Intake:
    """Artist decay rates from a CSV or Parquet file with the columns cm_artist_id and mldr.

    The rows: cm_artist_id, mldr (per month; NULL where empty), in the order of the file.
    Raises `BadFileError` that lists the rows that cannot be used.
    """
    file = CheckedFile.of(path, [frozenset(MLDR_FORM)], wanted="expected are cm_artist_id and mldr")
    rows = file.read(MLDR_FORM)
    file.check_unique(rows, ["cm_artist_id"], what="artist")
    return Intake(rows, file.ignored(MLDR_FORM), _NOTHING_LEFT_OUT, tuple(file.notes))


def read_listeners(path: Path, /, *, artist_id: int | None = None) -> Intake:
    """Monthly listeners from a CSV or Parquet file, in the form of the source table or of an export.

    The table's form: cm_artist_id, date, monthly_listeners. The form of a music analytics service's export:
    Date, Monthly Listeners. `artist_id` is for a file that does not name the artist, such as an export.

    The rows: cm_artist_id, date, monthly_listeners (NULL where empty), in the order of the file.
    Raises like `read_streams`.
    """
    file = CheckedFile.of(path, LISTENERS_FORMS, wanted=LISTENERS_WANTED)
    is_export = {"Date", "Monthly Listeners"} <= file.columns and "date" not in file.columns
    form = LISTENERS_EXPORT_FORM if is_export else LISTENERS_FORM
    ids = {} if artist_id is None else {"cm_artist_id": _checked_id("cm_artist_id", artist_id)}
    if ids and "cm_artist_id" in file.columns:
        raise InvalidOptionError(f"{path} has its own cm_artist_id", hint="do not give it as an option")
    if is_export and not ids:
        raise InvalidOptionError(
            f"{path} is an export, which does not name its artist", hint="give --artist-id"
        )
    rows = file.read({column: field for column, field in form.items() if column not in ids})
    rows = rows.rename(
        dict(zip(LISTENERS_EXPORT_FORM, ("date", "monthly_listeners"), strict=True)), strict=False
    )
    file.check_unique(rows, [c for c in ("cm_artist_id", "date") if c not in ids], what="artist and day")
    return Intake(
        rows.with_columns(**_constant(ids)).select(*LISTENERS_FORM),
        file.ignored(form),
        _NOTHING_LEFT_OUT,
        tuple(file.notes),
    )


def _with_daily_streams(file: CheckedFile) -> CheckedFile:
    """Rename `date` and `streams`, in upper or lower case, as in the table; refuse streams of an artist."""
    names = {name.lower(): name for name in sorted(file.columns)}  # of two equal names, the one in lower case
    if "daily_streams" in file.columns or not {"date", "streams"} <= names.keys() or _is_export(file):
        return file
    if "followers" in names:
        raise BadFileError(
            f"{file.path} has a column {names['followers']!r}: its streams are of an artist, "
            "not of one track",
            hint="export the song's own timeline",
        )
    renamed = file.frame.rename({names["date"]: "date", names["streams"]: "daily_streams"})
    return replace(file, frame=renamed, names=tuple(file.frame.columns))


def _check_not_rates(file: CheckedFile) -> None:
    if "mldr" in file.columns and file.columns.isdisjoint({"date", "daily_streams"}):
        raise BadFileError(
            f"{file.path} has no streams: this looks like decay rates", hint="give it with --mldr"
        )


def _is_export(file: CheckedFile) -> bool:
    return {"Date", "Value"} <= file.columns and "date" not in file.columns


def _notes_of_totals(rows: pl.DataFrame) -> list[str]:
    """Note if the streams of one track rise every day: they are probably totals so far."""
    if "cm_track_id" in rows.columns or rows.height < _SURELY_TOTALS:
        return []
    rises = rows.sort("date")["daily_streams"].drop_nulls().diff().drop_nulls() > 0
    if not (rises.all() and len(rises)):
        return []
    return ["streams rise every day; if they are totals so far, name the columns Date and Value"]


def _checked_id(column: str, value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise InvalidOptionError(f"{column} is {value}: expected an integer of at most 64 bits")
    return value


def _constant(ids: Mapping[str, int]) -> dict[str, pl.Expr]:
    return {column: pl.lit(value, pl.Int64) for column, value in ids.items()}


def _streams_of_export(file: CheckedFile, ids: Mapping[str, int]) -> Intake:
    if not {"cm_track_id", "cm_artist_id"} <= ids.keys():
        raise InvalidOptionError(
            f"{file.path} is an export, which does not name its track and artist",
            hint="give both --track-id and --artist-id",
        )
    values = file.read(EXPORT_FORM)
    file.check_unique(values, ["Date"], what="day")
    records = (
        values.with_row_index("row", offset=1)
        .sort("Date")
        .rename({"Date": "date", "Days from release": "days_from_release"})
    )
    _check_never_falls(file, records)
    so_far = pl.col("Value")
    is_first = pl.int_range(pl.len()) == 0
    records = records.with_columns(
        **_constant(ids),
        daily_streams=pl.when(pl.col("date").diff() == pl.duration(days=1))
        .then(so_far.diff())
        .when(is_first & (pl.col("days_from_release") == 1))
        .then(so_far),
        reason=pl.when(so_far.is_null())
        .then(pl.lit("no Value"))
        .otherwise(pl.lit("no Value of the day before")),
    )
    is_known = pl.col("daily_streams").is_not_null()
    rows = records.filter(is_known).select(*STREAMS_FORM)
    if rows.is_empty():
        raise BadFileError(
            f"{file.path} has no day whose streams are known: the day before is always missing"
        )
    left_out = records.filter(~is_known).select(pl.col("row").cast(pl.Int64), "date", "reason")
    return Intake(rows, file.ignored(EXPORT_FORM), left_out, tuple(file.notes), of_totals=True)


def _check_never_falls(file: CheckedFile, records: pl.DataFrame) -> None:
    before = pl.col("Value").forward_fill().shift()
    falling = records.with_columns(before=before).filter(pl.col("Value") < pl.col("before"))
    file.refuse(
        "record",
        "with a smaller Value than the record before",
        falling.height,
        [
            f"{file.place(row)}: Value is {value}, after {earlier}"
            for row, value, earlier in falling.sort("row")
            .select("row", "Value", "before")
            .head(SHOWN)
            .iter_rows()
        ],
        hint="Value is all streams so far; if the service corrected it downwards, correct the days before",
    )


_NOTHING_LEFT_OUT = pl.DataFrame(schema={"row": pl.Int64, "date": pl.Date, "reason": pl.String})
