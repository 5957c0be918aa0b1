"""Decay rates from monthly listeners, end to end on real servers."""

import json
import threading
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from forecaster.cli import main
from forecaster.errors import (
    DatabaseError,
    InvalidOptionError,
    LockedError,
    NoForecastError,
    SchemaMismatchError,
    WriteRefusedError,
)
from forecaster.postgres import rates as module
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.mldr import store_rates
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.rows import Stored
from forecaster.postgres.tables import read_tables
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import LISTENERS_TABLE, MLDR_TABLE
from tests import sql
from tests.conftest import Cli
from tests.tables import GOLDEN, golden_listeners, initialise, made_once

TRUTH = pl.read_parquet(GOLDEN / "artist_mldr.parquet").cast({"cm_artist_id": pl.Int64})
LISTENERS = golden_listeners()
THYME = GOLDEN / "listeners_thyme.csv"


def with_listeners(dsn: Dsn) -> None:
    initialise(dsn)
    load(dsn, "public", listeners=LISTENERS)


@pytest.fixture
def loaded(database: Dsn) -> Dsn:
    made_once(database, "listeners", with_listeners)
    return database


@pytest.fixture
def usual(usual_database: Dsn) -> Dsn:
    made_once(usual_database, "listeners", with_listeners)
    return usual_database


@pytest.fixture
def loaded_embedded(embedded_database: Dsn) -> Dsn:
    made_once(embedded_database, "listeners", with_listeners)
    return embedded_database


def stored(dsn: Dsn) -> dict[int, float]:
    return dict(sql.rows(dsn, f"SELECT cm_artist_id, mldr FROM {MLDR_TABLE} ORDER BY id"))


def rows(dsn: Dsn) -> list[tuple[object, ...]]:
    return sql.rows(dsn, f"SELECT id, cm_artist_id, mldr, created_at FROM {MLDR_TABLE} ORDER BY id")


def test_every_artist_gets_its_rate_once(loaded: Dsn) -> None:
    report = run(ArtistRates(loaded))
    assert (report.pending, report.results, len(report.skipped)) == (60, 60, 0)
    rates = stored(loaded)
    for artist, rate in TRUTH.select("cm_artist_id", "mldr").iter_rows():
        assert rates[artist] == pytest.approx(rate, abs=1e-5), artist
    earliest = sql.rows(
        loaded,
        f"SELECT DISTINCT ON (cm_artist_id) cm_artist_id, id FROM {LISTENERS_TABLE} "
        "ORDER BY cm_artist_id, date",
    )
    references = f"SELECT cm_artist_id, backtest_artist_daily_training_data_id FROM {MLDR_TABLE} ORDER BY 1"
    assert sql.rows(loaded, references) == earliest
    before = rows(loaded)
    assert run(ArtistRates(loaded)).pending == 0
    assert rows(loaded) == before


def test_the_real_artist(called: Cli, embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    env = {"DATABASE_URL": embedded_database.uri}
    loaded = called("load", "--listeners", str(THYME), "--artist-id", "7", env=env)
    assert "listeners loaded     1,505" in loaded.stdout, loaded.stderr
    result = called("mldr", "--report", "r.json", env=env, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "rated=1 skipped=0 seconds=" in result.stdout.splitlines()[-1]
    assert stored(embedded_database)[7] == pytest.approx(-0.0058586831, abs=1e-5)
    assert json.loads((tmp_path / "r.json").read_text())["counts"]["rated"] == 1
    sql.run(embedded_database, f"DELETE FROM {LISTENERS_TABLE} WHERE date >= '2023-04-01'")
    assert called("mldr", "--replace", env=env).returncode == 0
    assert stored(embedded_database) == {7: pytest.approx(-0.0779305701, abs=1e-5)}


def test_only_artists_without_a_rate_unless_they_are_replaced(usual: Dsn) -> None:
    load(usual, "public", mldr=pl.DataFrame({"cm_artist_id": [1, 2], "mldr": [0.5, None]}))
    report = run(ArtistRates(usual), RunConfig(ids=(1, 2, 3)))
    assert (report.pending, report.results) == (2, 2)
    found = sql.rows(usual, f"SELECT cm_artist_id, mldr FROM {MLDR_TABLE} ORDER BY id")
    assert found[:2] == [(1, 0.5), (2, None)]
    assert [artist for artist, _ in found[2:]] == [2, 3]
    report = run(ArtistRates(usual), RunConfig(ids=(1, 2), replace=True))
    assert (report.pending, report.results) == (2, 2)
    # One row for each is left.
    assert sorted(artist for artist, _ in stored(usual).items()) == [1, 2, 3]
    assert len(rows(usual)) == 3
    assert stored(usual)[1] == pytest.approx(TRUTH.filter(cm_artist_id=1)["mldr"][0], abs=1e-5)


def test_who_gets_none_is_reported_and_keeps_what_there_is(usual: Dsn) -> None:
    few = pl.DataFrame(
        {
            "cm_artist_id": [900, 900, 901, 901, 901, 902],
            "date": [date(2024, 1, 1 + day) for day in (0, 1, 0, 1, 2, 0)],
            "monthly_listeners": [5, 5, 5, 5, 5, None],
        }
    )
    load(usual, "public", listeners=few, mldr=pl.DataFrame({"cm_artist_id": [900], "mldr": [0.25]}))
    report = run(ArtistRates(usual), RunConfig(replace=True))
    reasons = dict(report.skipped.select("cm_artist_id", "reason").iter_rows())
    assert reasons == {900: "too_few_records", 901: "too_few_months", 902: "too_few_records"}
    assert stored(usual)[900] == 0.25
    assert report.warnings == ["artists that get no new MLDR and keep the stored one: 1, the first is 900"]
    assert report.unusable_rows == 1
    report.to_json()


def test_dirty_rows_are_left_out_and_counted(database: Dsn) -> None:
    sql.run(
        database,
        f"CREATE TABLE {LISTENERS_TABLE} (id uuid DEFAULT gen_random_uuid(), cm_artist_id integer, "
        "date timestamptz, monthly_listeners double precision, created_at timestamp DEFAULT now())",
    )
    initialise(database)
    load(database, "public", listeners=LISTENERS)
    sql.run(
        database,
        f"INSERT INTO {LISTENERS_TABLE} (cm_artist_id, date, monthly_listeners, created_at) "
        "SELECT cm_artist_id, date, 1, '2000-01-01' FROM " + LISTENERS_TABLE + " WHERE cm_artist_id < 4",
    )
    sql.run(
        database,
        f"INSERT INTO {LISTENERS_TABLE} (cm_artist_id, date, monthly_listeners) VALUES "
        "(1, NULL, 5), (1, 'infinity', 5), (1, '2030-01-01', 'NaN'), (2, '2030-01-01', 'Infinity'), "
        "(NULL, '2030-01-01', 5), (3, '2030-01-01', NULL)",
    )
    report = run(ArtistRates(database))
    assert report.results == 60
    assert report.unusable_rows == 6
    assert report.duplicate_rows == LISTENERS.filter(pl.col("cm_artist_id") < 4).height
    rates = stored(database)
    for artist, rate in TRUTH.select("cm_artist_id", "mldr").iter_rows():
        assert rates[artist] == pytest.approx(rate, abs=1e-5), artist
    [(matching,)] = sql.rows(
        database,
        f"SELECT count(*) FROM {MLDR_TABLE} m JOIN {LISTENERS_TABLE} l "
        "ON l.id = m.backtest_artist_daily_training_data_id AND l.cm_artist_id = m.cm_artist_id",
    )
    assert matching == 60


def test_chunks(usual: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 7)
    assert run(ArtistRates(usual)).results == 60
    rates = stored(usual)
    for artist, rate in TRUTH.select("cm_artist_id", "mldr").iter_rows():
        assert rates[artist] == pytest.approx(rate, abs=1e-5), artist


def test_what_is_counted_is_of_all_chunks(embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Artists 1 and 4 are refused, 2 and 3 are skipped, and 1 and 5 have a day twice."""
    dsn = embedded_database
    initialise(dsn)
    sql.run(dsn, f"DROP TABLE {LISTENERS_TABLE}")
    sql.run(
        dsn,
        f"CREATE TABLE {LISTENERS_TABLE} (id bigint GENERATED ALWAYS AS IDENTITY, cm_artist_id bigint, "
        "date date, monthly_listeners bigint, created_at timestamptz DEFAULT now())",
    )
    sql.run(dsn, f"ALTER TABLE {MLDR_TABLE} ALTER mldr TYPE numeric(2, 2)")
    days = pl.date_range(date(2024, 1, 1), date(2024, 2, 29), eager=True)
    numbers = {1: [10**9] * 31 + [1] * 29, 2: [5], 3: [5], 4: [10**9] * 31 + [1] * 29, 5: [100] * 60}
    listeners = [
        pl.DataFrame({"cm_artist_id": artist, "date": days.head(len(of)), "monthly_listeners": of})
        for artist, of in numbers.items()
    ]
    load(
        dsn, "public", listeners=pl.concat(listeners), mldr=pl.DataFrame({"cm_artist_id": [4], "mldr": [0.5]})
    )
    columns = "cm_artist_id, date, monthly_listeners"
    twice = f"SELECT DISTINCT ON (1) {columns} FROM {LISTENERS_TABLE} WHERE cm_artist_id IN (1, 5)"
    sql.run(dsn, f"INSERT INTO {LISTENERS_TABLE} ({columns}) {twice}")
    sql.run(dsn, f"INSERT INTO {LISTENERS_TABLE} (monthly_listeners) VALUES (1)")
    monkeypatch.setattr(module, "BATCH", 2)
    report = run(ArtistRates(dsn), RunConfig(replace=True, dry_run=True))
    assert (report.results, [*report.refused], report.duplicate_rows, report.unusable_rows) == (
        1,
        [1, 4],
        2,
        1,
    )
    assert report.skipped["cm_artist_id"].to_list() == [2, 3]
    assert report.warnings == ["artists that get no new MLDR and keep the stored one: 1, the first is 4"]
    # A row that names no artist is none of those that are named.
    assert run(ArtistRates(dsn), RunConfig(ids=(5,), dry_run=True)).unusable_rows == 0


def test_rates_of_another_program_are_told_and_not_counted(
    embedded_database: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    initialise(embedded_database)
    load(embedded_database, "public", listeners=LISTENERS.filter(pl.col("cm_artist_id") <= 3))
    left = [1, 3]

    def store_after_another(*arguments: Any, **options: Any) -> Stored:
        while left:
            insert = f"INSERT INTO {MLDR_TABLE} (cm_artist_id, mldr) VALUES ({left.pop()}, 0.25)"
            sql.run(embedded_database, insert)
        return store_rates(*arguments, **options)

    monkeypatch.setattr(module, "store_rates", store_after_another)
    monkeypatch.setattr(module, "BATCH", 1)
    report = run(ArtistRates(embedded_database))
    assert (report.pending, report.results, report.taken) == (3, 1, [1, 3])


def test_a_dry_run_stores_nothing_and_takes_no_lock(loaded_embedded: Dsn) -> None:
    with connect(loaded_embedded) as other:
        take_lock(other, read_tables(other, "public"), table=MLDR_TABLE)
        report = run(ArtistRates(loaded_embedded), RunConfig(dry_run=True))
    assert report.results == 60
    assert stored(loaded_embedded) == {}


def test_one_at_a_time(loaded_embedded: Dsn) -> None:
    with connect(loaded_embedded) as other:
        take_lock(other, read_tables(other, "public"), table=MLDR_TABLE)
        with pytest.raises(LockedError, match=rf"another run is writing to .*{MLDR_TABLE}.*: process \d+"):
            run(ArtistRates(loaded_embedded))
    found: list[int] = []
    both = [
        threading.Thread(
            target=lambda: found.append(run(ArtistRates(loaded_embedded), RunConfig(wait=30)).results)
        )
        for _ in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(found) == [0, 60]
    assert len(rows(loaded_embedded)) == 60


def test_what_another_one_stored_meanwhile_is_not_pending(
    loaded_embedded: Dsn, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = []

    def after_another(*arguments: Any, **options: Any) -> str:
        monkeypatch.undo()
        others.append(run(ArtistRates(loaded_embedded)))
        return take_lock(*arguments, **options)

    monkeypatch.setattr("forecaster.postgres.session.take_lock", after_another)
    assert run(ArtistRates(loaded_embedded)).pending == 0
    assert [other.results for other in others] == [60]


def test_a_forecast_run_does_not_keep_it_waiting(loaded_embedded: Dsn) -> None:
    with connect(loaded_embedded) as other:
        take_lock(other, read_tables(other, "public"))
        assert run(ArtistRates(loaded_embedded)).results == 60


def meddle(dsn: Dsn, body: str) -> None:
    sql.run(
        dsn,
        f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$",
    )
    sql.run(
        dsn, f"CREATE TRIGGER meddle BEFORE INSERT ON {MLDR_TABLE} FOR EACH ROW EXECUTE FUNCTION meddle()"
    )


def test_nothing_is_kept_of_a_chunk_that_a_trigger_doubles(loaded_embedded: Dsn) -> None:
    again = f"INSERT INTO {MLDR_TABLE} (cm_artist_id, mldr) VALUES (9, NEW.mldr)"
    meddle(loaded_embedded, f"IF NEW.cm_artist_id = 9 AND pg_trigger_depth() = 1 THEN {again}; END IF;")
    with pytest.raises(WriteRefusedError, match="for 1 artist, the first is 9"):
        run(ArtistRates(loaded_embedded))
    assert stored(loaded_embedded) == {}


def test_an_artist_that_a_trigger_leaves_out_is_refused(loaded_embedded: Dsn) -> None:
    meddle(loaded_embedded, "IF NEW.cm_artist_id = 9 THEN RETURN NULL; END IF;")
    report = run(ArtistRates(loaded_embedded))
    assert (report.results, [*report.refused]) == (59, [9])
    assert 9 not in stored(loaded_embedded)


def test_a_rate_that_the_column_cannot_hold_is_refused(called: Cli, loaded_embedded: Dsn) -> None:
    sql.run(loaded_embedded, f"ALTER TABLE {MLDR_TABLE} ALTER mldr TYPE numeric(2, 2)")
    days = pl.date_range(date(2024, 1, 1), date(2024, 2, 29), eager=True)
    falling = pl.DataFrame({"cm_artist_id": 950, "date": days, "monthly_listeners": [10**9] * 31 + [1] * 29})
    load(loaded_embedded, "public", listeners=falling)
    result = called("mldr", env={"DATABASE_URL": loaded_embedded.uri})
    assert result.returncode == 1
    assert "the table refuses the rates of 1 artist, the first is 950 (mldr: a value" in result.stderr
    assert len(stored(loaded_embedded)) == 60


def test_what_is_missing_is_named(embedded_database: Dsn) -> None:
    with pytest.raises(SchemaMismatchError, match=f"{LISTENERS_TABLE}: the table is missing"):
        run(ArtistRates(embedded_database))
    initialise(embedded_database)
    with pytest.raises(NoForecastError, match="no listeners of these artists: 5"):
        run(ArtistRates(embedded_database), RunConfig(ids=(5,)))
    assert run(ArtistRates(embedded_database)).pending == 0
    with pytest.raises(InvalidOptionError, match="wait"):
        (ArtistRates(embedded_database), RunConfig(wait=-1))


def test_an_artist_that_is_no_number(called: Cli) -> None:
    result = called("mldr", "--artist-id", "abc")
    assert result.returncode == 2
    assert "'abc' is not a valid integer." in result.stderr


@pytest.mark.parametrize(("option", "kind"), [("--horizon", "integer"), ("--influence", "number")])
def test_an_option_that_is_no_number(option: str, kind: str) -> None:
    result = CliRunner().invoke(main, ["run", option, "abc"])
    assert result.exit_code == 2
    assert f"'abc' is not a valid {kind}." in result.output


def test_rights(loaded_embedded: Dsn) -> None:
    sql.run(loaded_embedded, "CREATE ROLE rater LOGIN")
    try:
        sql.run(loaded_embedded, f"GRANT SELECT ON {LISTENERS_TABLE}, {MLDR_TABLE} TO rater")
        dsn = Dsn(loaded_embedded.host, loaded_embedded.dbname, "rater", port=loaded_embedded.port)
        assert run(ArtistRates(dsn), RunConfig(dry_run=True)).results == 60
        with pytest.raises(DatabaseError, match="INSERT on backtest_artist_mldr") as raised:
            run(ArtistRates(dsn))
        sql.run(loaded_embedded, raised.value.hint or "")
        assert run(ArtistRates(dsn)).results == 60
    finally:
        sql.run(loaded_embedded, "DROP OWNED BY rater")
        sql.run(loaded_embedded, "DROP ROLE rater")


def test_days_that_are_there_already(loaded_embedded: Dsn) -> None:
    with pytest.raises(
        WriteRefusedError, match=f"rows are already in {LISTENERS_TABLE}, the first for artist 1 "
    ):
        load(loaded_embedded, "public", listeners=LISTENERS.head(3))
