"""Rows of files in the source tables of real servers: all or none."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import adbc_driver_postgresql.dbapi as driver
import polars as pl
import pytest

from forecaster.errors import DatabaseError, SchemaMismatchError, WriteRefusedError
from forecaster.postgres.dsn import Dsn
from forecaster.setup.load import Loaded, load
from forecaster.tables import STREAMS
from tests import sql
from tests.conftest import Cli
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


@pytest.mark.parametrize("key", [f"UNIQUE {STREAMS.key_columns}", "UNIQUE (cm_track_id, date)", ""])
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


def listeners(*monthly: int | None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "cm_artist_id": pl.Series([7] * len(monthly), dtype=pl.Int64),
            "date": [date(2024, 1, 1) + timedelta(n) for n in range(len(monthly))],
            "monthly_listeners": pl.Series(monthly, dtype=pl.Int64),
        }
    )


@pytest.mark.parametrize("streams", ["bigint", "numeric", "double precision"])
@pytest.mark.parametrize("type_", ["date", "timestamptz"])
def test_only_new_days_are_stored_and_what_differs_is_said(
    embedded_database: Dsn, streams: str, type_: str
) -> None:
    create_tables(embedded_database, date=type_, streams=streams)
    load(embedded_database, "public", streams=daily(), listeners=listeners(1, 2))
    restated = daily(days=9).with_columns(
        daily_streams=pl.Series([10, 11, 10, None, 10, 5, 6, 7, 8], dtype=pl.Int64)
    )

    loaded = load(
        embedded_database, "public", streams=restated, listeners=listeners(1, 2, None), new_only=True
    )

    assert (loaded.streams, loaded.listeners, loaded.known) == (4, 1, 7)
    (warning,) = loaded.warnings
    assert warning == (
        "backtest_track_daily_training_data: of 5 days that it already has, 2 have another value in the "
        "file; the stored values stay: track 1 on 2024-01-02: 10 stored, 11 in the file; "
        "track 1 on 2024-01-04: 10 stored, none in the file"
    )
    stored = sql.rows(
        embedded_database,
        "SELECT daily_streams::int FROM backtest_track_daily_training_data ORDER BY date",
    )
    assert [value for (value,) in stored] == [10] * 5 + [5, 6, 7, 8]
    again = load(embedded_database, "public", streams=restated, mldr=rates(a7=0.1), new_only=True)
    assert (again.streams, again.mldr, again.known) == (0, 1, 9)


def test_many_restated_days_are_counted_and_the_first_are_listed(embedded_database: Dsn) -> None:
    create_tables(embedded_database, streams="double precision")
    load(embedded_database, "public", streams=daily(days=8))
    sql.run(
        embedded_database,
        "UPDATE backtest_track_daily_training_data SET daily_streams = 'NaN' WHERE date = '2024-01-02'",
    )
    sql.run(
        embedded_database,
        "INSERT INTO backtest_track_daily_training_data (cm_track_id, cm_artist_id, date, daily_streams, "
        "created_at) VALUES (1, 7, '2024-01-01', 11, 'infinity'), (1, 7, 'infinity', 1e308, now())",
    )
    (warning,) = load(embedded_database, "public", streams=daily(days=8, streams=11), new_only=True).warnings
    assert "of 8 days that it already has, 7 have" in warning  # of the first day the newest row counts
    assert "track 1 on 2024-01-02: none stored, 11 in the file; " in warning
    assert warning.endswith("track 1 on 2024-01-06: 10 stored, 11 in the file; and 2 more")


def test_the_hint_of_a_refusal_names_the_switch(embedded_database: Dsn) -> None:
    initialise(embedded_database)
    load(embedded_database, "public", streams=daily())
    with pytest.raises(WriteRefusedError) as caught:
        load(embedded_database, "public", streams=daily(days=6))
    assert caught.value.hint == "load only the other days with --new-only"


def test_rows_of_an_export_of_totals_belong_together(
    called: Cli, embedded_database: Dsn, tmp_path: Path
) -> None:
    initialise(embedded_database)
    export = tmp_path / "export.csv"
    export.write_text('Date,Value\n"Jan 1, 2024",10\n"Jan 2, 2024",25\n')
    words = (
        "load",
        str(export),
        "--track-id",
        "1",
        "--artist-id",
        "7",
        "--database-url",
        embedded_database.uri,
    )
    assert called(*words).returncode == 0
    assert "--new-only; do not remove rows from an export of totals (Date, Value)" in called(*words).stderr


def test_two_loads_at_once_store_a_day_once_where_no_key_keeps_them_out(embedded_database: Dsn) -> None:
    create_tables(embedded_database)
    table = "backtest_track_daily_training_data"
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"

    def loaded() -> Loaded:
        return load(embedded_database, "public", streams=daily(), new_only=True)

    with ThreadPoolExecutor() as pool:
        with closing(driver.connect(embedded_database.uri)) as blocker, blocker.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            both = [pool.submit(loaded) for _ in range(2)]
            while sql.rows(embedded_database, waiting) != [(2,)]:
                pass
        results = [future.result() for future in both]
    assert sorted((r.streams, r.known) for r in results) == [(0, 5), (5, 0)]
    assert sql.rows(embedded_database, f"SELECT count(*) FROM {table}") == [(5,)]


@pytest.mark.parametrize("instant", ["now() + interval '9 hours'", "'infinity'"])
@pytest.mark.parametrize("type_", ["timestamptz", "timestamp", "date"])
def test_a_rate_that_does_not_count_is_said_to(embedded_database: Dsn, instant: str, type_: str) -> None:
    create_tables(embedded_database, created_at=type_)
    earlier = rates(a7=0.1, a8=0.2)
    assert load(embedded_database, "public", mldr=earlier).warnings == ()
    assert load(embedded_database, "public", mldr=rates(a8=0.3)).warnings == ()
    ahead = "'infinity'" if type_ == "date" else instant
    sql.run(
        embedded_database,
        f"UPDATE backtest_artist_mldr SET created_at = {ahead} WHERE cm_artist_id = 7",
    )
    loaded = load(embedded_database, "public", mldr=rates(a7=0.5, a8=0.5, a9=0.5))
    assert loaded.mldr == 3
    (warning,) = loaded.warnings
    assert "the new MLDR of 1 artist does not count" in warning
    assert "artist 7 (" in warning
    assert "artist 8" not in warning


def test_the_command_with_new_only(cli: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    env = {"DATABASE_URL": embedded_database.uri}
    load(embedded_database, "public", streams=daily(days=3), mldr=None)
    daily(days=5, streams=11).write_csv(tmp_path / "streams.csv")
    again = cli("load", "streams.csv", env=env, cwd=tmp_path)
    assert again.returncode == 1
    assert "3 of 5 rows are already in" in again.stderr
    assert "load only the other days with --new-only" in again.stderr
    ended = cli("load", "streams.csv", "--new-only", env=env, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "days there already   3" in ended.stdout
    assert "streams=2 mldr=0 listeners=0 known=3" in ended.stdout
    assert "of 3 days that it already has, 3 have another value in the file" in ended.stderr
    assert sql.rows(embedded_database, COUNT) == [(5,)]


@pytest.mark.parametrize("arguments", [("x", "--track-id", "1", "--artist-id", "2"), ("--listeners", "x")])
def test_the_command_takes_no_ids_for_a_directory(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "x").mkdir()
    ids = () if "--artist-id" in arguments else ("--artist-id", "2")
    ended = cli("load", *arguments, *ids, cwd=tmp_path)
    assert ended.returncode == 2
    said = "--track-id and --artist-id" if "--track-id" in arguments else "--artist-id"
    assert f"Error: x is a directory, and {said} can only be given for one file" in ended.stderr
