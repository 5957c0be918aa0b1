"""Columns whose values are in the path, as in `date=2024-01-31/part-0.parquet`."""

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

import polars as pl

from forecaster.errors import BadFileError
from forecaster.frames.schemas import Kind

PATH = "path of the file"
"""Temporary column with the path of the file of each row."""

PathValues = Mapping[str, Mapping[str, str | None]]
"""By column and path of file, the value in the path."""

_NULL = "__HIVE_DEFAULT_PARTITION__"
_MIDNIGHT = r"^(\d{4}-?\d{2}-?\d{2})(?:[ T]00:00:00(?:\.0+)?)?$"


def values_in_paths(paths: Iterable[str], columns: Mapping[str, Kind]) -> dict[str, dict[str, str | None]]:
    """Read the values of directories named COLUMN=VALUE, for columns of one type; the innermost counts."""
    in_paths: dict[str, dict[str, str | None]] = {}
    for path in paths:
        for part in path.split("/")[:-1]:
            name, is_pair, value = part.partition("=")
            spec = columns.get(unquote(name)) if is_pair else None
            if spec and spec.becomes:
                in_paths.setdefault(unquote(name), {})[path] = None if value == _NULL else unquote(value)
    return in_paths


def with_path_values(frame: pl.LazyFrame, in_paths: PathValues, columns: Mapping[str, Kind]) -> pl.LazyFrame:
    """Add the columns that are only in the path of a row's file, and drop `PATH`.

    Raises `BadFileError` for a path with an invalid value of the column.
    """
    schema = frame.collect_schema()
    values = {name: _values(name, of_files, columns[name]) for name, of_files in in_paths.items()}
    found = {
        name: pl.col(PATH).replace_strict(
            list(in_paths[name]), of_files, default=None, return_dtype=of_files.dtype
        )
        for name, of_files in values.items()
    }
    return frame.with_columns(
        (pl.coalesce(name, value) if name in schema else value).alias(name) for name, value in found.items()
    ).drop(PATH)


def _values(name: str, in_paths: Mapping[str, str | None], spec: Kind) -> pl.Series:
    texts = pl.Series(list(in_paths.values()), dtype=pl.String)
    if spec.becomes == pl.Date:
        day = texts.str.extract(_MIDNIGHT).str.replace_all("-", "", literal=True)
        values = day.str.to_date("%Y%m%d", strict=False)
    else:
        values = texts.cast(spec.becomes or pl.String, strict=False)
    bad = (texts.is_not_null() & values.is_null()).arg_true()
    if len(bad):
        path = list(in_paths)[bad[0]]
        raise BadFileError(
            f"{path} has no column {name}, and its path has {in_paths[path]!r}: expected {spec.expected}",
            hint="name the directory by a value, such as date=2024-01-31, or write the column into the file",
        )
    return values
