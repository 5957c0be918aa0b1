"""Rows of a file -> rows that the source tables can hold, every row checked before the first one is used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import polars as pl

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.files.dialect import Forms, advice_on_first_line
from forecaster.files.forms import (
    ALSO_CALLED,
    EXPORT_FORM,
    FIRST_DAY,
    INEXACT_FROM,
    LAST_DAY,
    LISTENERS_EXPORT_FORM,
    LISTENERS_FORM,
    LISTENERS_FORMS,
    LISTENERS_WANTED,
    MLDR_FORM,
    STREAMS_FORM,
    STREAMS_FORMS,
    STREAMS_WANTED,
    TICKS_PER_DAY,
    Field,
)
from forecaster.files.listing import refuse_deletions, refuse_tables
from forecaster.files.notation import (
    advice_on_days,
    advice_on_numbers,
    doubtful_comma,
    has_decimal_commas,
    whole_with_points,
)
from forecaster.files.tables import counted, read_form

SHOWN = 5
"""How many offenders an error lists. How many there are in all it always says."""

_LONGEST_SHOWN = 40  # characters of a value
_MOST_COLUMNS = 20
_SURELY_TOTALS = 30  # days


@dataclass(frozen=True)
class Intake:
    """What a file holds for a source table. Nothing of it is lost without being in one of the three."""

    rows: pl.DataFrame
    """The rows of the table, in its types."""
    ignored: tuple[str, ...]
    """Columns of the file that the table has no place for."""
    left_out: pl.DataFrame
    """row (counted from 1), date, reason: the records of an export whose daily streams are not known."""
    notes: tuple[str, ...] = ()
    """How the file was read, where that could be wrong."""


def read_streams(path: Path, /, *, track_id: int | None = None, artist_id: int | None = None) -> Intake:
    """Daily streams from a CSV or Parquet file, in the form of the source table or of an export.

    The table's form: cm_track_id, cm_artist_id, date, daily_streams and, if known, days_from_release.
    `track_id` and `artist_id` are for a file that lacks these columns. Where daily_streams is missing,
    `streams` is the same: a song's timeline of Spotify for Artists has `date` and `streams`, in any case.

    The form of a music analytics service's export: Date, Value (all streams so far) and, if known, Days from
    release (1 on the first day). It needs `track_id` and `artist_id`. A day's streams are its Value less that
    of the day before; on the day of release, if the file begins with it, they are its Value. Where the day
    before is not in the file they are not known: such a record is left out, because to spread the difference
    over the days of a gap would invent records.

    The rows: cm_track_id, cm_artist_id, date, daily_streams (NULL where empty), days_from_release (NULL where
    not known; as in the file, not recounted); in the order of the file, of an export in that of its dates.
    Raises `BadFileError` that lists the rows that cannot be used, `InvalidOptionError` for ids that are
    missing, or that the file has itself.
    """
    file = _with_daily_streams(_File.of(path, STREAMS_FORMS, wanted=STREAMS_WANTED))
    given = {"cm_track_id": track_id, "cm_artist_id": artist_id}
    ids = {column: _checked_id(column, value) for column, value in given.items() if value is not None}
    if _is_export(file):
        return _streams_of_export(file, ids)
    if doubled := sorted(ids.keys() & file.columns):
        raise InvalidOptionError(f"{path} has its own {' and '.join(doubled)}", hint="do not give them again")
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
    file = _File.of(path, [frozenset(MLDR_FORM)], wanted="expected are cm_artist_id and mldr")
    rows = file.read(MLDR_FORM)
    file.check_unique(rows, ["cm_artist_id"], what="artist")
    return Intake(rows, file.ignored(MLDR_FORM), _NOTHING_LEFT_OUT, tuple(file.notes))


def read_listeners(path: Path, /, *, artist_id: int | None = None) -> Intake:
    """Monthly listeners from a CSV or Parquet file, in the form of the source table or of an export.

    The table's form: cm_artist_id, date, monthly_listeners. The form of a music analytics service's export:
    Date, Monthly Listeners. `artist_id` is for a file that does not name the artist, as an export.

    The rows: cm_artist_id, date, monthly_listeners (NULL where empty), in the order of the file.
    Raises like `read_streams`.
    """
    file = _File.of(path, LISTENERS_FORMS, wanted=LISTENERS_WANTED)
    is_export = {"Date", "Monthly Listeners"} <= file.columns and "date" not in file.columns
    form = LISTENERS_EXPORT_FORM if is_export else LISTENERS_FORM
    ids = {} if artist_id is None else {"cm_artist_id": _checked_id("cm_artist_id", artist_id)}
    if ids and "cm_artist_id" in file.columns:
        raise InvalidOptionError(f"{path} has its own cm_artist_id", hint="do not give it again")
    if is_export and not ids:
        raise InvalidOptionError(
            f"{path} is an export, which does not say what artist it is about", hint="give --artist-id"
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


def _with_daily_streams(file: "_File") -> "_File":
    """`date` and `streams`, in any case, by the names of the table, unless they are of an artist."""
    names = {name.lower(): name for name in sorted(file.columns)}  # of two the one in small letters
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


def _is_export(file: "_File") -> bool:
    return {"Date", "Value"} <= file.columns and "date" not in file.columns


def _notes_of_totals(rows: pl.DataFrame) -> list[str]:
    """Streams of one track that rise from each day to the next are hardly those of single days."""
    if "cm_track_id" in rows.columns or rows.height < _SURELY_TOTALS:
        return []
    rises = rows.sort("date")["daily_streams"].drop_nulls().diff().drop_nulls() > 0
    if not (rises.all() and len(rises)):
        return []
    return ["streams rise every day; if they are all streams so far, name the columns Date and Value"]


def _checked_id(column: str, value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise InvalidOptionError(f"{column} is {value}: expected an integer of at most 64 bits")
    return value


def _constant(ids: Mapping[str, int]) -> dict[str, pl.Expr]:
    return {column: pl.lit(value, pl.Int64) for column, value in ids.items()}


def _streams_of_export(file: "_File", ids: Mapping[str, int]) -> Intake:
    if not {"cm_track_id", "cm_artist_id"} <= ids.keys():
        raise InvalidOptionError(
            f"{file.path} is an export, which does not say what track and artist it is about",
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
        raise BadFileError(f"{file.path} has no day whose streams are known: of none is the day before there")
    left_out = records.filter(~is_known).select(pl.col("row").cast(pl.Int64), "date", "reason")
    return Intake(rows, file.ignored(EXPORT_FORM), left_out, tuple(file.notes))


def _check_never_falls(file: "_File", records: pl.DataFrame) -> None:
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
        hint="Value is all streams so far; where a service took some back, correct the days before",
    )


_NOTHING_LEFT_OUT = pl.DataFrame(schema={"row": pl.Int64, "date": pl.Date, "reason": pl.String})


@dataclass(frozen=True)
class _File:
    """A file as it was read: its checks, and errors that name its rows."""

    path: Path
    frame: pl.DataFrame
    wanted: str
    """What columns it should have."""
    forms: Forms = ()
    """The same, as sets."""
    lines_above: int = 0
    names: tuple[str, ...] = ()
    """Those of the columns in the file, where they are other ones here."""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, forms: Forms, *, wanted: str) -> "_File":
        if path.name.lower().endswith(".parquet"):
            refuse_tables(str(path.absolute()))
        file = read_form(path, forms)
        return cls(path, file.rows, wanted, forms, file.lines_above, notes=[*file.notes])

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(self.frame.columns)

    def ignored(self, form: Mapping[str, Field]) -> tuple[str, ...]:
        return tuple(column for column in self.frame.columns if column not in form)

    def read(self, form: Mapping[str, Field]) -> pl.DataFrame:
        """The columns of `form` in their order and types. Every value of them can be stored."""
        self._check_columns(form)
        plain = [_plain(self.frame[column]) for column in form if column in self.columns]
        raw = pl.DataFrame([self._usual(values, form[values.name]) for values in plain])
        values = raw.select(**self._conversions(form, raw.schema))
        self._check_values(form, raw, values)
        return values

    def _usual(self, values: pl.Series, field: Field) -> pl.Series:
        """The values as we write them, where they can mean nothing else."""
        if values.dtype != pl.String:
            return values
        if field.is_decimal:
            return self._with_points(values)
        if field.becomes == pl.Date:
            return values
        return self._noted(values, whole_with_points(values), "read with decimal commas")

    def _noted(self, values: pl.Series, usual: pl.Series | None, how: str) -> pl.Series:
        if usual is None:
            return values
        self.notes.append(f"{values.name} {how}")
        return usual

    def _with_points(self, values: pl.Series) -> pl.Series:
        """Numbers with a decimal comma, if that can be nothing else, with a point."""
        if not has_decimal_commas(values):
            return values  # those with a comma next to some with a point are refused, with their rows
        if doubtful := doubtful_comma(values):
            raise BadFileError(
                f"{self.path}: {values.name} has {_shortened(repr(doubtful))}, whose comma may be "
                "decimal or between thousands; no row was read",
                hint="write decimal numbers with a point, and nothing between thousands",
            )
        return self._noted(values, values.str.replace(",", ".", literal=True), "read with decimal commas")

    def _check_columns(self, form: Mapping[str, Field]) -> None:
        missing = [c for c, field in form.items() if c not in self.columns and not field.may_be_missing]
        if missing:
            if self._is_parquet:
                refuse_deletions(str(self.path), self.columns, lacks=True)
            raise BadFileError(
                f"{self.path} lacks the column {', '.join(missing)}; it has "
                f"{_listed(self.names or self.frame.columns)}",
                hint="; ".join([*self._advice(missing), self.wanted]),
            )
        if self.frame.is_empty():
            raise BadFileError(f"{self.path} has no rows")

    def _advice(self, missing: Sequence[str]) -> list[str]:
        """What to rename, or what else may be wrong with the names."""
        of_paths = [name for name in missing if any(part.startswith(f"{name}=") for part in self.path.parts)]
        if of_paths:
            return [f"{', '.join(of_paths)} is only in the path: write it into the file"]
        renames = [
            f"{_shortened(repr(name))} to {_name_for(column, name)!r}"
            for column in missing
            for name in self.frame.columns
            if name not in missing
            and _plain_name(name) in {_plain_name(column), *ALSO_CALLED.get(column, ())}
        ]
        if renames:
            return [f"rename {', '.join(renames)}, if that is what it holds"]
        if {*missing} == {"cm_track_id", "cm_artist_id"}:
            return ["if it is about one track, give --track-id and --artist-id"]
        if len(self.columns) == 1 and not self._is_parquet:
            return ["the column names must be separated by commas"]
        if frozenset().union(*self.forms).isdisjoint(self.columns) and not self._is_parquet:
            return [advice_on_first_line(self.frame.columns)]
        return []

    def _conversions(self, form: Mapping[str, Field], schema: pl.Schema) -> dict[str, pl.Expr]:
        read = {column: form[column].read(pl.col(column), dtype) for column, dtype in schema.items()}
        unreadable = [column for column, values in read.items() if values is None]
        self.refuse(
            "column",
            "of a type that cannot work",
            len(unreadable),
            [f"{column} is {schema[column]}, expected {form[column].expected}" for column in unreadable],
        )
        nothing = pl.lit(None)
        return {
            column: (nothing if (values := read.get(column)) is None else values).cast(
                field.becomes, strict=False
            )
            for column, field in form.items()
        }

    def _check_values(self, form: Mapping[str, Field], raw: pl.DataFrame, values: pl.DataFrame) -> None:
        unusable = {column: values[column].is_null() for column in raw.columns}
        for column in raw.columns:
            if form[column].may_be_empty:
                unusable[column] &= raw[column].is_not_null()
        offenders = pl.concat(
            raw.select(row=pl.int_range(1, pl.len() + 1), column=pl.lit(column)).filter(mask)
            for column, mask in unusable.items()
        ).sort("row", maintain_order=True)
        first = [*offenders.head(SHOWN).iter_rows()]
        self.refuse(
            "value",
            "that cannot be stored",
            offenders.height,
            [
                f"{self.place(row)}: {column} is {_shown(raw[column].slice(row - 1, 1))}, "
                f"expected {form[column].expected}"
                for row, column in first
            ],
            hint=_advice_on_values(form, raw, first),
        )

    def check_unique(self, rows: pl.DataFrame, key: Sequence[str], *, what: str) -> None:
        """No two rows are about the same `key`."""
        if rows.select(pl.struct(key).n_unique()).item() == rows.height:
            return
        doubled = (
            rows.select(key)
            .with_row_index("row", offset=1)
            .filter(pl.struct(key).is_duplicated())
            .group_by(key, maintain_order=True)
            .agg("row")
        )
        self.refuse(
            "case",
            f"of several rows for one {what}",
            doubled.height,
            [
                f"{self.place(*numbers)}: " + ", ".join(f"{k} {v}" for k, v in zip(key, values, strict=True))
                for *values, numbers in doubled.head(SHOWN).iter_rows()
            ],
        )

    def refuse(
        self, noun: str, problem: str, total: int, lines: list[str], *, hint: str | None = None
    ) -> None:
        """Raise `BadFileError` with the `lines` about the first offenders, if there is any."""
        if total:
            more = [f"and {total - len(lines):,} more"] if total > len(lines) else []
            message = f"{self.path}: {counted(total, noun)} {problem}; no row was read"
            raise BadFileError("\n  ".join([message, *lines, *more]), hint=hint)

    def place(self, *rows: int) -> str:
        """The numbers of rows, counted from 1 after the header, and their lines if these are certain."""
        place = _numbered("row", rows)
        return (
            f"{place} ({_numbered('line', [row + 1 + self.lines_above for row in rows])})"
            if self._has_a_line_per_row
            else place
        )

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.lower() == ".parquet"

    @cached_property
    def _has_a_line_per_row(self) -> bool:
        if self._is_parquet:
            return False
        broken = self.frame.select(pl.any_horizontal(pl.all().str.contains("\n", literal=True).any())).item()
        return not broken and not any("\n" in column for column in self.columns)


def _plain(values: pl.Series) -> pl.Series:
    """The same without what no reader has to know: other kinds of text, and text that is empty."""
    if values.dtype in (pl.Categorical, pl.Enum, pl.Null):
        return values.cast(pl.String)
    if values.dtype == pl.String and (values == "").any():
        return values.set(values == "", None)
    return values


def _shown(value: pl.Series) -> str:
    """The one value of the series, as the file has it."""
    if value.null_count():
        return "empty"
    if isinstance(value.dtype, (pl.Date, pl.Datetime)):
        per_day = 1 if isinstance(value.dtype, pl.Date) else TICKS_PER_DAY[value.dtype.time_unit]
        if not FIRST_DAY <= value.to_physical().item() // per_day <= LAST_DAY:
            return "not in the calendar"  # Polars panics over its text
    text = value.cast(pl.String).item()
    inexact_from = INEXACT_FROM.get(value.dtype.base_type())
    if inexact_from is not None and inexact_from <= abs(value.item()) < math.inf:
        return f"{text}, as a float not exact"
    return _shortened(repr(text) if value.dtype == pl.String else text)


def _plain_name(name: str) -> str:
    return "_".join(name.lower().split())


def _name_for(column: str, name: str) -> str:
    """What to rename it to: a song's own timeline has `streams`."""
    return "streams" if column == "daily_streams" and _plain_name(name) != column else column


def _advice_on_values(
    form: Mapping[str, Field], raw: pl.DataFrame, places: Sequence[tuple[int, str]]
) -> str | None:
    """What to write instead of the values at these rows and columns."""
    advice: dict[str, None] = {}
    for column in dict.fromkeys(column for _, column in places):
        values = [
            raw[column][row - 1] for row, name in places if name == column and raw[column].dtype == pl.String
        ]
        given = (
            advice_on_days(values)
            if form[column].becomes == pl.Date
            else advice_on_numbers(values, is_decimal=form[column].is_decimal)
        )
        advice |= {given: None} if given else {}
    return "; ".join(advice) or None


def _listed(columns: Sequence[str]) -> str:
    more = [f"and {len(columns) - _MOST_COLUMNS:,} more"] if len(columns) > _MOST_COLUMNS else []
    return ", ".join([*(_shortened(repr(column)) for column in columns[:_MOST_COLUMNS]), *more])


def _numbered(noun: str, numbers: Sequence[int]) -> str:
    more = ["..."] if len(numbers) > SHOWN else []
    return f"{noun}{'s' if len(numbers) > 1 else ''} {', '.join([*map(str, numbers[:SHOWN]), *more])}"


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
