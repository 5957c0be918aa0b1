"""Calibrations in the database: each is stored once and never changed, and read by its id or by the day."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from functools import partial

import polars as pl

from forecaster.errors import CalibrationError, DatabaseError
from forecaster.model.calibrated.calibration import Calibration
from forecaster.postgres.conditions import INSUFFICIENT_PRIVILEGE, hint_for
from forecaster.postgres.connection import Connection, connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.migrations import check_version
from forecaster.postgres.tables import Tables, read_tables
from forecaster.tables import CALIBRATIONS, VERSIONS

Read = Callable[[str], pl.DataFrame]
"""Runs a statement."""

_LISTED = tuple(one.name for one in CALIBRATIONS.columns if one.name != "record")
_PRODUCTION = (0.0, 30)  # the weight of the calibrated forecast in it, and its level
_ID = re.compile(r"[0-9A-Za-z-]{1,100}")
_LIST = "`forecaster calibrate --list` lists them"
_NEWEST_FIRST = "ORDER BY as_of DESC, created_at DESC, id"


@contextmanager
def opened_calibrations(dsn: Dsn, schema: str) -> Iterator[tuple[Read, Tables]]:
    """Open the calibrations of a schema for reading. Raises as `check_calibrations` does."""
    with connect(dsn) as connection:
        tables, read = read_tables(connection, schema), partial(query, connection)
        check_calibrations(read, tables)
        yield read, tables


def check_calibrations(read: Read, tables: Tables) -> None:
    """Raise what prevents calibrations from being read.

    `SchemaMismatchError` if their table is missing, does not fit or is too new; `DatabaseError` if this user
    may not read it.
    """
    if hidden := sorted(tables.unreadable & {CALIBRATIONS.name, VERSIONS.name}):
        raise DatabaseError(
            f"this user may not read {' and '.join(hidden)}", hint=hint_for(INSUFFICIENT_PRIVILEGE)
        )
    check_version(read, tables)
    tables.check(CALIBRATIONS.name, to_write=())


def store_calibration(connection: Connection, tables: Tables, calibration: Calibration) -> bool:
    """Store a calibration, and return whether it was not there before. The caller commits."""
    before, after = _losses(calibration)
    values = {
        "id": calibration.id,
        # As text: around an instant of its type, the driver sets the time zone, in three statements.
        "created_at": datetime.now(UTC).isoformat(),
        "as_of": calibration.as_of,
        "form": calibration.form,
        "tracks": calibration.tracks,
        "origins": len(calibration.origins),
        "loss_before": before,
        "loss_after": after,
        "checksum": calibration.checksum,
        "record": calibration.to_json(),
    }
    types = {one.name: one.made_as for one in CALIBRATIONS.columns}
    given = ", ".join(f"${number}::text::{types[name]}" for number, name in enumerate(values, 1))
    found = query(
        connection,
        f"INSERT INTO {tables.name(CALIBRATIONS.name)} ({', '.join(values)}) VALUES ({given}) "
        "ON CONFLICT (id) DO NOTHING RETURNING id",
        tuple(None if value is None else f"{value}" for value in values.values()),
    )
    return len(found) > 0


def list_calibrations(read: Read, tables: Tables) -> pl.DataFrame:
    """Read all of them without their records, the newest day first: the other columns of `CALIBRATIONS`."""
    return read(f"SELECT {', '.join(_LISTED)} FROM {tables.name(CALIBRATIONS.name)} {_NEWEST_FIRST}")


def read_calibration(read: Read, tables: Tables, id_: str) -> Calibration:
    """Read one by its id. Raises `CalibrationError` for an unknown one, and for one that was changed."""
    found = _read(read, tables, f"id = '{id_}'") if _ID.fullmatch(id_) else None
    if found is None:
        raise CalibrationError(f"there is no calibration {id_}", hint=_LIST)
    return found


def read_calibrations(
    read: Read, tables: Tables, ids: Iterable[str]
) -> Iterator[tuple[str, Calibration | CalibrationError]]:
    """Read those of the ids that are stored; in place of one that was changed, yield the error."""
    literals = ", ".join(f"'{id_}'" for id_ in sorted(set(ids)) if _ID.fullmatch(id_))
    if not literals:
        return
    found = read(f"SELECT id, record FROM {tables.name(CALIBRATIONS.name)} WHERE id IN ({literals})")
    for id_, record in found.rows():
        try:
            yield id_, _parsed(tables, id_, record)
        except CalibrationError as error:
            yield id_, error


def newest_calibration(read: Read, tables: Tables, until: date | None = None) -> Calibration | None:
    """Read the newest one that knows no later day than this; None without one."""
    return _read(read, tables, f"as_of <= DATE '{until}'" if until else "true")


def _losses(calibration: Calibration) -> tuple[float | None, float | None]:
    """Return the losses of the production model and of the chosen one on the catalogue's own origins."""
    choice = calibration.choice
    tried = {(one.weight, one.level): one.loss for one in choice.tried}
    return tried.get(_PRODUCTION), tried.get((choice.weight, choice.level))


def _read(read: Read, tables: Tables, condition: str) -> Calibration | None:
    name = tables.name(CALIBRATIONS.name)
    found = read(f"SELECT id, record FROM {name} WHERE {condition} {_NEWEST_FIRST} LIMIT 1")
    if found.is_empty():
        return None
    return _parsed(tables, *found.row(0))


def _parsed(tables: Tables, id_: str, record: str) -> Calibration:
    """Parse a record. Raises `CalibrationError` with a way to be rid of it: the same again is not stored."""
    try:
        return Calibration.from_json(record, name=f"calibration {id_}")
    except CalibrationError as error:
        literal = "'" + id_.replace("'", "''") + "'"
        error.hint = (
            f"remove it (DELETE FROM {tables.name(CALIBRATIONS.name)} WHERE id = {literal}), and "
            "`forecaster calibrate` again"
        )
        raise
