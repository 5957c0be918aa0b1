"""Rows of files in the source tables of real servers: all or none."""

from datetime import date, timedelta

import polars as pl
import pytest

from forecaster.dsn import Dsn
from forecaster.errors import DatabaseError, SchemaMismatchError, WriteRefusedError
from forecaster.load import Loaded, load
from tests import sql
from tests.tables import create_tables, initialise

COUNT = "SELECT count(*) FROM backtest_track_daily_training_data"


def daily(
    track: int = 1, *, days: int = 5, first: date = date(2024, 1, 1), streams: int = 10
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "cm_track_id": track,
            "cm_artist_id": 7,
            "date": [first + timedelta(n) for n in range(days)],
            "daily_streams": streams,
            "days_from_release": pl.Series([None] * days, dtype=pl.Int32),
        },
        schema_overrides={"cm_track_id": pl.Int64, "cm_artist_id": pl.Int64, "daily_streams": pl.Int64},
    )


def rates(**mldr: float) -> pl.DataFrame:
    return pl.DataFrame({"cm_artist_id": [int(a[1:]) for a in mldr], "mldr": list(mldr.values())})


def test_rows_are_stored_as_they_are(database: Dsn) -> None:
    initialise(database)
    frame = daily().with_columns(
        daily_streams=pl.Series([0, None, -3, 2**62, 5], dtype=pl.Int64),
        days_from_release=pl.Series([None, 1, 2, -9, 4], dtype=pl.Int32),
    )

    assert load(database, "public", streams=frame, mldr=rates(a7=-0.25, a8=1e-9)) == Loaded(5, 2)

    assert sql.rows(
        database,
        "SELECT cm_track_id, cm_artist_id, date, daily_streams, days_from_release "
        "FROM backtest_track_daily_training_data ORDER BY date",
    ) == list(frame.iter_rows())
    assert sql.rows(database, "SELECT cm_artist_id, mldr FROM backtest_artist_mldr ORDER BY 1") == [
        (7, -0.25),
        (8, 1e-9),
    ]


def test_new_days_of_a_track_are_added(database: Dsn) -> None:
    initialise(database)
    load(database, "public", streams=daily(), mldr=None)
    load(database, "public", streams=daily(first=date(2024, 1, 6)), mldr=None)
    assert sql.rows(database, COUNT) == [(10,)]


@pytest.mark.parametrize("key", ["UNIQUE (cm_track_id, date)", ""])
@pytest.mark.parametrize("type_", ["date", "timestamp", "timestamptz"])
def test_a_day_that_is_there_already_is_refused_with_the_rest(database: Dsn, key: str, type_: str) -> None:
    create_tables(database, date=type_, streams_key=key)
    load(database, "public", streams=daily(3), mldr=None)
    both = pl.concat([daily(2), daily(3, first=date(2024, 1, 4))])

    with pytest.raises(WriteRefusedError, match=r"2 of 10 rows .* first for track 3 on 2024-01-04; nothing"):
        load(database, "public", streams=both, mldr=rates(a7=0.1))

    assert sql.rows(database, COUNT) == [(5,)]
    assert sql.rows(database, "SELECT count(*) FROM backtest_artist_mldr") == [(0,)]


def test_values_that_do_not_fit_are_refused(database: Dsn) -> None:
    create_tables(database, streams="integer", cm_id="integer")
    with pytest.raises(WriteRefusedError) as caught:
        load(database, "public", streams=daily(2**31, streams=2**40), mldr=None)
    for part in (
        "cm_track_id: a value that does not fit integer in 5 of 5 rows, the first cm_track_id 2147483648,",
        "daily_streams: a value that does not fit integer in 5 of 5 rows",
        "daily_streams 1099511627776",
    ):
        assert part in str(caught.value)
    assert sql.rows(database, COUNT) == [(0,)]


def test_a_failure_in_the_second_table_undoes_the_first(database: Dsn) -> None:
    create_tables(database)
    sql.run(database, "ALTER TABLE backtest_artist_mldr ADD CHECK (mldr < 1)")
    with pytest.raises(DatabaseError, match="check constraint"):
        load(database, "public", streams=daily(), mldr=rates(a7=2.0))
    assert sql.rows(database, COUNT) == [(0,)]


def test_only_the_tables_that_are_written_need_to_fit(database: Dsn) -> None:
    create_tables(database)
    sql.run(database, "DROP TABLE backtest_track_streams_forecast, backtest_artist_mldr")
    assert load(database, "public", streams=daily(), mldr=None) == Loaded(5, 0)
    with pytest.raises(SchemaMismatchError, match="backtest_artist_mldr: the table is missing"):
        load(database, "public", streams=daily(2), mldr=rates(a7=0.1))
    sql.run(database, "ALTER TABLE backtest_track_daily_training_data ADD owner text NOT NULL DEFAULT 'x'")
    sql.run(database, "ALTER TABLE backtest_track_daily_training_data ALTER owner DROP DEFAULT")
    with pytest.raises(SchemaMismatchError, match=r"owner: is NOT NULL without a default"):
        load(database, "public", streams=daily(2), mldr=None)


def test_a_rate_keeps_all_its_digits_in_a_numeric_column(database: Dsn) -> None:
    create_tables(database, mldr="numeric")
    values = [0.1 + 0.2, -1 / 3, 1e-9, 123456.789012345, 5e-324]
    load(
        database,
        "public",
        streams=None,
        mldr=pl.DataFrame({"cm_artist_id": range(4), "mldr": values[:4]}),
    )
    stored = sql.rows(database, "SELECT mldr::float8 FROM backtest_artist_mldr ORDER BY cm_artist_id")
    assert [value for (value,) in stored] == values[:4]
