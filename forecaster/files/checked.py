"""The contents of a file with its checks, and errors that name its rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path

import polars as pl

from forecaster.errors import BadFileError
from forecaster.files.dialect import MOST_ABOVE, Forms, advice_on_first_line
from forecaster.files.formats import format_of
from forecaster.files.forms import ALSO_CALLED, Field
from forecaster.files.listing import refuse_deletions, refuse_tables
from forecaster.files.messages import (
    SHOWN,
    advice_on_values,
    listed,
    name_for,
    numbered,
    plain_name,
    shortened,
    shown,
)
from forecaster.files.notation import doubtful_comma, has_decimal_commas, whole_with_points
from forecaster.files.tables import read_form
from forecaster.process.numbers import counted


@dataclass(frozen=True)
class CheckedFile:
    """The contents of a file with its checks, and errors that name its rows."""

    path: Path
    frame: pl.DataFrame
    wanted: str
    """A hint that says which columns it should have."""
    forms: Forms = ()
    """The columns that it may have, as sets."""
    lines_above: int = 0
    names: tuple[str, ...] = ()
    """The column names in the file, if columns were renamed."""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, forms: Forms, *, wanted: str) -> "CheckedFile":
        """Read a file. Raises `BadFileError` for a file of a table of Delta Lake, Hudi or Iceberg."""
        if not format_of(path).is_text:
            refuse_tables(str(path.absolute()))
        file = read_form(path, forms)
        return cls(path, file.rows, wanted, forms, file.lines_above, notes=[*file.notes])

    @property
    def columns(self) -> frozenset[str]:
        """The names of its columns."""
        return frozenset(self.frame.columns)

    def ignored(self, form: Mapping[str, Field]) -> tuple[str, ...]:
        """List the columns that the form does not have."""
        return tuple(column for column in self.frame.columns if column not in form)

    def read(self, form: Mapping[str, Field]) -> pl.DataFrame:
        """Read the columns of `form`, in their order and types. Refuse values that cannot be stored."""
        self._check_columns(form)
        raw = pl.DataFrame([_plain(self.frame[column]) for column in form if column in self.columns])
        values = raw.select(**self._conversions(form, raw.schema))
        if not any(_has_unusable(raw[c], values[c], form[c]) for c in raw.columns):
            return values  # so no value is in another notation, for which all would have to be searched
        raw = pl.DataFrame([self._usual(column, form[column.name]) for column in raw])
        values = raw.select(**self._conversions(form, raw.schema))
        self._check_values(form, raw, values)
        return values

    def _usual(self, values: pl.Series, field: Field) -> pl.Series:
        """Convert values to the usual notation, where only one meaning is possible."""
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
        """Replace decimal commas by points, where a comma can only be decimal."""
        if not has_decimal_commas(values):
            return values  # a mix of commas and points is refused, with the rows
        if doubtful := doubtful_comma(values):
            raise BadFileError(
                f"{self.path}: {values.name} has {shortened(repr(doubtful))}, whose comma may be "
                "decimal or between thousands; nothing was stored",
                hint="write decimal numbers with a point, and thousands without separators",
            )
        return self._noted(values, values.str.replace(",", ".", literal=True), "read with decimal commas")

    def _check_columns(self, form: Mapping[str, Field]) -> None:
        missing = [c for c, field in form.items() if c not in self.columns and not field.may_be_missing]
        if missing:
            if not self._is_text:
                refuse_deletions(str(self.path), self.columns, lacks=True)
            raise BadFileError(
                f"{self.path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; it has "
                f"{listed(self.names or self.frame.columns)}",
                hint="; ".join([*self._advice(missing), self.wanted]),
            )
        if self.frame.is_empty():
            raise BadFileError(f"{self.path} has no rows")

    def _advice(self, missing: Sequence[str]) -> list[str]:
        """Suggest columns to rename, or say what else may be wrong with the names."""
        of_paths = [name for name in missing if any(part.startswith(f"{name}=") for part in self.path.parts)]
        if of_paths:
            return [f"{', '.join(of_paths)} is only in the path: write it into the file"]
        renames = [
            f"{shortened(repr(name))} to {name_for(column, name)!r}"
            for column in missing
            for name in self.frame.columns
            if name not in missing and plain_name(name) in {plain_name(column), *ALSO_CALLED.get(column, ())}
            if name != name_for(column, name)
        ]
        if renames:
            return [f"rename {', '.join(renames)}, if that is what it holds"]
        if {*missing} == {"cm_track_id", "cm_artist_id"}:
            return ["if it is about one track, give --track-id and --artist-id"]
        if len(self.columns) == 1 and self._is_text:
            return ["the column names must be separated by commas"]
        if self._known_names.isdisjoint(self.columns) and self._is_text:
            advice = advice_on_first_line(self.frame.columns, has_lines_above=self._has_names_below())
            return [advice] if advice else []
        return []

    @property
    def _known_names(self) -> frozenset[str]:
        return frozenset().union(*self.forms)

    def _has_names_below(self) -> bool:
        """Whether one of the first rows contains a known column name."""
        known = {*map(plain_name, self._known_names), *chain.from_iterable(ALSO_CALLED.values())}
        values = chain.from_iterable(self.frame.head(MOST_ABOVE).iter_rows())
        return any(plain_name(value or "") in known for value in values)

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
                f"{self.place(row)}: {column} is {shown(raw[column].slice(row - 1, 1))}, "
                f"expected {form[column].expected}"
                for row, column in first
            ],
            hint=advice_on_values(form, raw, first),
        )

    def check_unique(self, rows: pl.DataFrame, key: Sequence[str], *, what: str) -> None:
        """Check that no two rows have the same `key`."""
        if are_unique(rows, key):
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
        """Raise `BadFileError` if `total` is not 0; `lines` describe the first offenders."""
        if total:
            more = [f"and {total - len(lines):,} more"] if total > len(lines) else []
            message = f"{self.path}: {counted(total, noun)} {problem}; nothing was stored"
            raise BadFileError("\n  ".join([message, *lines, *more]), hint=hint)

    def place(self, *rows: int) -> str:
        """Name rows, counted from 1 after the header, and their lines if they are certain."""
        place = numbered("row", rows)
        return (
            f"{place} ({numbered('line', [row + 1 + self.lines_above for row in rows])})"
            if self._has_a_line_per_row
            else place
        )

    @property
    def _is_text(self) -> bool:
        return format_of(self.path).is_text

    @cached_property
    def _has_a_line_per_row(self) -> bool:
        if not self._is_text:
            return False
        broken = self.frame.select(pl.any_horizontal(pl.all().str.contains("\n", literal=True).any())).item()
        return not broken and not any("\n" in column for column in self.columns)


def are_unique(rows: pl.DataFrame, key: Sequence[str]) -> bool:
    """Whether no two rows have the same `key`."""
    return bool(rows.select(_packed(rows, key).n_unique()).item() == rows.height)


def _packed(rows: pl.DataFrame, key: Sequence[str]) -> pl.Expr:
    """Write a key of integers and dates as one integer, if it fits: that is compared ten times as fast."""
    packed, room = pl.lit(0, pl.Int64), 1
    for name in key:
        values = rows[name].to_physical()
        if not values.dtype.is_integer() or values.null_count() or values.is_empty():
            return pl.struct(key)
        least, most = int(values.min()), int(values.max())  # type: ignore[arg-type]
        width = most - least + 1
        room *= width
        if room >= 2**63:
            return pl.struct(key)
        packed = packed * width + (pl.col(name).to_physical().cast(pl.Int64) - least)
    return packed


def _has_unusable(raw: pl.Series, values: pl.Series, field: Field) -> bool:
    return values.null_count() > (raw.null_count() if field.may_be_empty else 0)


def _plain(values: pl.Series) -> pl.Series:
    """Convert all types of text to String, and empty text to NULL, so that readers need not handle them."""
    if values.dtype in (pl.Categorical, pl.Enum, pl.Null):
        return values.cast(pl.String)
    if values.dtype == pl.String and (values == "").any():
        return values.set(values == "", None)
    return values
