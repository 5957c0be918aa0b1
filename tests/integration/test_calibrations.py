"""Calibrations in the database: stored once, never changed, found by id and by day."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial

import pytest

from forecaster.errors import CalibrationError, SchemaMismatchError
from forecaster.model.calibrated.calibration import Calibration
from forecaster.postgres.calibrations import (
    Read,
    check_calibrations,
    list_calibrations,
    newest_calibration,
    read_calibration,
    store_calibration,
)
from forecaster.postgres.connection import connect, query
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tables import Tables, read_tables
from forecaster.tables import CALIBRATIONS
from tests import sql
from tests.calibrations import calibration
from tests.tables import initialise


def made_of(day: int, tracks: int = 3) -> Calibration:
    return calibration(date(2024, 1, day), tracks=tracks)


@pytest.fixture
def made(embedded_database: Dsn) -> Dsn:
    initialise(embedded_database)
    return embedded_database


@contextmanager
def opened(dsn: Dsn) -> Iterator[tuple[Read, Tables]]:
    with connect(dsn) as connection:
        yield partial(query, connection), read_tables(connection, "public")


def store(dsn: Dsn, *given: Calibration) -> list[bool]:
    """Whether each was new."""
    with connect(dsn) as connection:
        tables = read_tables(connection, "public")
        new = [store_calibration(connection, tables, one) for one in given]
        connection.commit()
    return new


def test_the_same_twice_is_stored_once(made: Dsn) -> None:
    one = made_of(1)
    assert store(made, one, one) == [True, False]
    assert store(made, one, made_of(1, tracks=4)) == [False, True]
    columns = "as_of, form, tracks, origins, loss_before, loss_after, checksum"
    expected = (date(2024, 1, 1), one.form, 3, 2, 0.25, 0.125, one.checksum)
    assert sql.rows(made, f"SELECT {columns} FROM {CALIBRATIONS.name} WHERE id = '{one.id}'") == [expected]
    with opened(made) as (read, tables):
        assert read_calibration(read, tables, one.id) == one
        assert list_calibrations(read, tables)["tracks"].to_list() == [4, 3]


def test_the_newest_as_of_a_day(made: Dsn) -> None:
    days = {day: made_of(day) for day in (9, 17, 3)}
    store(made, *days.values())
    with opened(made) as (read, tables):
        newest = {day: newest_calibration(read, tables, date(2024, 1, day)) for day in (2, 3, 16, 17, 31)}
        assert newest == {2: None, 3: days[3], 16: days[9], 17: days[17], 31: days[17]}
        assert newest_calibration(read, tables) == days[17]
        assert list_calibrations(read, tables)["as_of"].dt.day().to_list() == [17, 9, 3]


@pytest.mark.parametrize("id_", ["2024-01-01-0000000000", "x' OR true --", ""])
def test_an_unknown_one(made: Dsn, id_: str) -> None:
    store(made, made_of(1))
    with opened(made) as (read, tables), pytest.raises(CalibrationError, match="there is no calibration"):
        read_calibration(read, tables, id_)


def test_one_that_was_changed_is_not_used(made: Dsn) -> None:
    one = made_of(1)
    store(made, one)
    sql.run(made, f"""UPDATE {CALIBRATIONS.name} SET record = replace(record, '"tracks":3', '"tracks":5')""")
    with opened(made) as (read, tables), pytest.raises(CalibrationError, match=rf"{one.id} was changed"):
        read_calibration(read, tables, one.id)


def test_without_the_table(made: Dsn) -> None:
    sql.run(made, f"DROP TABLE {CALIBRATIONS.name}")
    with opened(made) as (read, tables), pytest.raises(SchemaMismatchError, match="is missing") as caught:
        check_calibrations(read, tables)
    assert "forecaster init" in f"{caught.value.hint}"
