"""`forecaster total`: add up the stored forecasts, and say how sure the total is."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from forecaster.cli.grid import Grid
from forecaster.cli.output import Output
from forecaster.cli.where import Where
from forecaster.errors import BadFileError
from forecaster.files.tables import check_output_path, read_table, write_table
from forecaster.process.numbers import counted, short
from forecaster.tables import QUANTILES
from forecaster.views.total import Chosen, Condition, Total, read_total, rounded

_ALL = 36  # months up to which each has a line
_YEAR = 12
_TRACK = "cm_track_id"


@dataclass(frozen=True)
class Asked:
    """The tracks to add up, and how to show the total."""

    artist_ids: tuple[int, ...]
    track_ids: tuple[int, ...]
    ids_file: Path | None
    conditions: tuple[str, ...]
    horizon: int | None
    exact: bool
    out: Path | None

    def __post_init__(self) -> None:
        if self.out:
            check_output_path(self.out)

    @property
    def chosen(self) -> Chosen:
        """The tracks. Raises `InvalidOptionError` for a condition, `BadFileError` for a file of ids."""
        conditions = tuple(map(Condition.of, self.conditions))
        if not self.track_ids and self.ids_file is None:
            return Chosen(None, self.artist_ids, conditions)
        listed = read_ids(self.ids_file) if self.ids_file else ()
        return Chosen((*self.track_ids, *listed), self.artist_ids, conditions)


def total(asked: Asked, where: Where, output: Output) -> None:
    """Print the total of the chosen tracks, and write it to a file."""
    chosen = asked.chosen
    with where.database() as dsn, output.doing("read"):
        found = read_total(dsn, where.schema, chosen, horizon=asked.horizon)
    output.warn(found.warnings)
    months = rounded(found.months)
    if asked.out:
        write_table(months, asked.out)
    output.say("\n".join(_lines(found, exact=asked.exact)))
    output.finish(
        {}, tracks=found.tracks, months=len(months), streams=_whole(found.months["cumulated"].last())
    )
    output.document(lambda: json.dumps(_document(found, months), indent=2))


def read_ids(path: Path) -> tuple[int, ...]:
    """Read the ids in the column cm_track_id of a file.

    Raises `BadFileError` without that column, without an id, and for a value that is not an id.
    """
    rows = read_table(path)
    if _TRACK not in rows.columns:
        raise BadFileError(f"{path} has no column {_TRACK}", hint=f"it has {', '.join(rows.columns)}")
    given = rows[_TRACK].drop_nulls()
    ids = given.cast(pl.Int64, strict=False)
    if ids.null_count():
        raise BadFileError(f"{path}: {given.filter(ids.is_null())[0]!r} in {_TRACK} is not an id")
    if ids.is_empty():
        raise BadFileError(f"{path} names no track")
    return tuple(ids.unique().to_list())


def _lines(found: Total, *, exact: bool) -> Iterator[str]:
    yield from found.headline(exact=exact)
    of = f"{counted(found.tracks, 'track')} of {found.all_tracks:,}" if found.is_part else _whole_of(found)
    yield f"{of}; {found.model}"
    yield from found.basis
    yield ""
    yield from _table(found.months, exact=exact)


def _whole_of(found: Total) -> str:
    return f"the whole catalogue, {counted(found.tracks, 'track')}"


def _table(months: pl.DataFrame, *, exact: bool) -> Iterator[str]:
    """Lay out the months; exact numbers leave no room for both kinds of totals in a line."""
    shown: Callable[[float], str] = (
        (lambda value: f"{_whole(value):,}") if exact else lambda value: short(value, gap="")
    )
    rows = months if len(months) <= _ALL else months.filter(_some())
    ends = (*QUANTILES[:2], "", *QUANTILES[3:])
    of_month = [name or "total" for name in ends]
    up_to = [f"cumulated_{name}" if name else "cumulated" for name in ends]
    heading = ["lo 95", "lo 80", "total", "hi 80", "hi 95"]
    if exact:
        for title, names in (("in the month", of_month), ("months 1 to this one", up_to)):
            yield title
            yield from _grid(rows, ["month", *heading], names, shown)
        return
    lines = _grid(rows, ["month", *heading, " ", *heading], [*of_month, None, *up_to], shown)
    middle = lines[0].rindex(heading[0])
    yield f"{'':7}in the month".ljust(middle) + "months 1 to this one"
    yield from lines


def _grid(
    rows: pl.DataFrame, heading: list[str], names: Sequence[str | None], shown: Callable[[float], str]
) -> list[str]:
    cells = [
        [f"{row['month']}", *("" if name is None else shown(row[name]) for name in names)]
        for row in rows.iter_rows(named=True)
    ]
    return Grid(heading).lines(cells)


def _some() -> pl.Expr:
    """Choose the months of the first year, and the last one of each year."""
    month = pl.col("month")
    return (month <= _YEAR) | (month % _YEAR == 0) | (month == month.max())


def _whole(value: object) -> int:
    return round(value) if isinstance(value, float) else 0


def _document(found: Total, months: pl.DataFrame) -> dict[str, object]:
    made_with = found.made_with
    calibration = made_with.calibration
    return {
        "tracks": found.tracks,
        "all_tracks": found.all_tracks,
        "horizon": len(months),
        "weight": made_with.weight if made_with.is_known else None,
        "level": made_with.level if made_with.is_known else None,
        "calibration": calibration.id if calibration else None,
        "basis": "; ".join(found.basis).replace("\n", " "),
        "warnings": list(found.warnings),
        "months": months.to_dicts(),
    }
