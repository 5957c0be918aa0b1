"""What `doctor` finds on real servers, and that what it says mends it does so."""

import shlex
from collections.abc import Iterator
from dataclasses import replace

import adbc_driver_manager as adbc
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import connect
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.lock import take_lock
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.conftest import Cli
from tests.examinations import examined, execute, is_well, paste, the, type_in, unwell
from tests.faults import FORECAST, STREAMS, until
from tests.forecasts import stored
from tests.names import NAMES
from tests.tables import DROP_DAY_KEY, create_tables, golden_mldr, golden_streams, initialise

MLDR = "backtest_artist_mldr"
WITHOUT_RATE = 38
"""The one artist of the golden catalogue that has none."""
TEN = pl.col("cm_track_id") <= 10
ABOUT = {
    *(
        "configuration",
        "versions",
        "connection",
        "connections",
        "server version",
        "encryption",
        "pooler",
        "tables",
    ),
    *("rights", "row security", "triggers", "read-only", "key of the streams", "key of the forecasts"),
    *("indexes", "stored forecasts", "history", "lock", "tracks", "decay rates"),
}


@pytest.fixture
def filled(embedded_database: Dsn) -> Dsn:
    """A database as `init` and `load` make it, with ten tracks."""
    initialise(embedded_database)
    load(embedded_database, "public", streams=golden_streams().filter(TEN), mldr=golden_mldr())
    return embedded_database


@pytest.fixture
def nobody(filled: Dsn) -> Iterator[Dsn]:
    """A user without any right in it."""
    name = f"nobody_{filled.dbname}"[:60]
    execute(
        filled,
        f"CREATE ROLE {name} LOGIN",
        f"REVOKE TEMPORARY ON DATABASE {filled.dbname} FROM PUBLIC",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
    )
    yield replace(filled, user=name)
    execute(filled, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_all_is_well(database: Dsn) -> None:
    streams = golden_streams().filter(pl.col("cm_artist_id").is_in([3, 7, WITHOUT_RATE]))
    tracks, skipped = (
        frame["cm_track_id"].n_unique() for frame in (streams, streams.filter(cm_artist_id=WITHOUT_RATE))
    )
    initialise(database)
    load(database, "public", streams=streams, mldr=golden_mldr())
    before = examined(database)
    run(Database(database))
    after = examined(database)

    [(version,)] = sql.rows(database, "SELECT current_setting('server_version')")
    for result in (before, after):
        assert {finding.about for finding in result.findings} == ABOUT
        assert (result.exit_code, unwell(result)) == (0, [])
        assert result.skipped_by_reason == {"no_mldr": skipped}
        assert result.versions["postgresql"] == version
    rates = the("decay rates", after)
    assert (rates.level, rates.fix) == ("warning", "forecaster load --mldr MLDR.csv")
    assert rates.found == f"of the 3 artists with streams, without one: 1, the first is {WITHOUT_RATE}"
    # Where all is well, there is one thing to do.
    assert [f.fix for f in before.findings if f.level == "ok" and f.fix] == ["forecaster run"]
    assert [f.fix for f in after.findings if f.level == "ok" and f.fix] == []
    some = {"tracks": tracks, "with_forecast": 0, "pending": tracks, "skipped": skipped}
    rows = {"rows_without_track": 0, "unusable_rows": 0, "duplicate_rows": 0}
    artists = {"artists_without_rate": 1, "artists_with_unusable_rate": 0, "artists_with_several_rates": 0}
    good = tracks - skipped
    counted = {"artists": 3, "forecastable": good, "refused": 0}
    assert before.counts == some | rows | counted | artists
    assert after.counts == before.counts | {"pending": skipped, "forecastable": 0, "with_forecast": good}


DIRT = (
    f"UPDATE {STREAMS} SET daily_streams = -1 WHERE cm_track_id IN (1, 2)",
    f"UPDATE {STREAMS} SET cm_artist_id = 2 + id % 2 WHERE cm_track_id = 3",
    f"UPDATE {STREAMS} SET daily_streams = NULL WHERE cm_track_id = 4 AND id % 7 = 0",
    f"UPDATE {STREAMS} SET cm_track_id = NULL WHERE cm_track_id = 5 AND id % 7 = 0",
    f"UPDATE {MLDR} SET mldr = 'NaN' WHERE cm_artist_id = 5",
    f"INSERT INTO {MLDR} (cm_artist_id, mldr, created_at) VALUES (7, 0.1, now() + interval '1 day')",
)
AGAIN = (
    f"INSERT INTO {STREAMS} (cm_track_id, cm_artist_id, date, daily_streams) "
    f"SELECT cm_track_id, cm_artist_id, date, 7 FROM {STREAMS} WHERE cm_track_id = 6"
)


@pytest.mark.parametrize(
    ("key", "parameters"),
    [("", Parameters()), ("UNIQUE (cm_track_id, date)", Parameters(age_from="first-date"))],
)
def test_it_counts_what_a_run_would(embedded_database: Dsn, key: str, parameters: Parameters) -> None:
    dsn = embedded_database
    create_tables(dsn, streams="double precision", streams_key=key)
    load(dsn, "public", streams=golden_streams().filter(pl.col("cm_track_id") <= 40), mldr=golden_mldr())
    with_forecast = (
        f"INSERT INTO {FORECAST} (cm_track_id, month) SELECT t, m "
        "FROM generate_series(20, 21) AS t, generate_series(1, 24) AS m"
    )
    execute(dsn, *DIRT, *([] if key else [AGAIN]), with_forecast)

    report = run(Database(dsn), RunConfig(parameters=parameters, dry_run=True))
    result = examined(dsn, parameters=parameters)

    assert result.skipped_by_reason == report.skipped_by_reason
    assert result.skipped_by_reason.keys() == {"no_mldr", "negative_streams", "several_artists"}
    counts = report.to_dict()["counts"]
    for name in ("pending", "skipped", "unusable_rows", "duplicate_rows"):
        assert result.counts[name] == counts[name], name
    assert (result.counts["forecastable"], result.counts["with_forecast"]) == (counts["forecast"], 2)
    assert (result.counts["duplicate_rows"] > 0) == (not key)
    assert result.counts["unusable_rows"] > result.counts["rows_without_track"] > 0
    assert result.counts["artists_with_unusable_rate"] == result.counts["artists_with_several_rates"] == 1
    assert len(sql.rows(dsn, the("tracks", result).fix or "")) == result.counts["unusable_rows"]


def test_tables_that_are_missing_or_do_not_fit(embedded_database: Dsn) -> None:
    """Ends only what needs them; and names are data."""
    dsn, schema = embedded_database, NAMES[0]
    for name, option in (("public", []), (schema, ["--schema", schema])):
        result = examined(dsn, name)
        finding = the("tables", result)
        assert (result.exit_code, finding.level, unwell(result)) == (4, "error", [finding])
        assert f"{MLDR}: the table is missing" in finding.found
        assert ("schemas that have all of them: public" in finding.found) == (name == schema)
        assert shlex.split(finding.fix or "") == ["forecaster", "init", *option]
        initialise(dsn, name)

    result = examined(dsn, schema)
    assert result.exit_code == 0
    [no_streams] = unwell(result)
    load_both = ["forecaster", "load", "STREAMS.csv", "--mldr", "MLDR.csv", "--schema", schema]
    assert shlex.split(no_streams.fix or "") == load_both

    with connect(dsn) as connection:
        mldr = read_tables(connection, schema).name(MLDR)
    sql.run(dsn, f"ALTER TABLE {mldr} ALTER mldr TYPE text")
    result = examined(dsn, schema)
    finding = the("tables", result)
    assert (result.exit_code, finding.fix) == (4, "alter the table, or name another schema with --schema")
    assert f"{MLDR}.mldr: is text" in finding.found
    assert {finding.about for finding in result.findings} == ABOUT - {"tracks", "decay rates"}
    assert unwell(result) == [finding]


def test_an_index_that_some_partitions_lack(embedded_database: Dsn) -> None:
    create_tables(embedded_database)
    execute(
        embedded_database,
        f"ALTER TABLE {STREAMS} RENAME TO plain",
        f"CREATE TABLE {STREAMS} (LIKE plain, UNIQUE (cm_track_id, date)) PARTITION BY HASH (cm_track_id)",
        f"CREATE TABLE part PARTITION OF {STREAMS} FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        f'CREATE INDEX "By artist" ON ONLY {STREAMS} (cm_artist_id)',
    )
    finding = the("indexes", examined(embedded_database))
    assert finding.found == f"By artist of {STREAMS} is not valid: some of its partitions lack it"
    assert 'ALTER INDEX "public"."By artist" ATTACH PARTITION' in (finding.fix or "")
    execute(
        embedded_database,
        "CREATE INDEX of_part ON part (cm_artist_id)",
        'ALTER INDEX "By artist" ATTACH PARTITION of_part',
    )
    assert is_well("indexes", examined(embedded_database))


def test_rights_that_are_lacking_are_granted(filled: Dsn, nobody: Dsn) -> None:
    execute(
        filled,
        "CREATE SEQUENCE numbers",
        f"ALTER TABLE {FORECAST} ALTER id DROP IDENTITY, ALTER id SET DEFAULT nextval('numbers')",
        f"ALTER TABLE {STREAMS} ENABLE ROW LEVEL SECURITY",
    )
    result = examined(nobody)
    assert result.exit_code == 1
    *rights, policies = unwell(result)
    assert {finding.about for finding in rights} == {"rights"}
    assert [f.level for f in rights] == ["error", "error", "warning", "warning", "error"]
    assert (policies.about, policies.level, STREAMS in policies.found) == ("row security", "warning", True)
    for finding in (*rights, policies):
        paste(filled, finding.fix)
    still, *others = unwell(examined(nobody))
    assert still == policies  # what a policy says of the rows is not known
    assert {(other.about, other.level) for other in others} == {
        ("history", "warning"),
        ("intervals", "warning"),
    }
    for other in others:
        for fix in (other.fix or "").split("; "):
            paste(filled, fix)
    result = examined(nobody)
    assert (result.exit_code, unwell(result)) == (0, [policies])
    assert result.counts["forecastable"] == run(Database(nobody)).results == 10
    # No run loads.
    assert [f.found for f in result.findings if f"INSERT on {STREAMS}, INSERT on {MLDR}" in f.found]

    execute(
        filled,
        f"REVOKE DELETE ON {FORECAST} FROM {nobody.user}",
        f"REVOKE TEMPORARY ON DATABASE {filled.dbname} FROM {nobody.user}",
    )
    result = examined(nobody)
    assert result.exit_code == 0
    delete, temporary = unwell(result, but="row security")
    assert f"DELETE on {FORECAST}" in delete.found
    assert "TEMPORARY" in temporary.found


def test_the_key_of_the_streams(embedded_database: Dsn) -> None:
    """With rows in its way, of which those go that a run does not go by."""
    dsn = embedded_database
    create_tables(dsn, date="timestamptz")
    load(dsn, "public", streams=golden_streams().filter(TEN), mldr=golden_mldr())
    columns = "cm_track_id, cm_artist_id, days_from_release"
    again = [
        f"INSERT INTO {STREAMS} ({columns}, date, daily_streams, created_at) "
        f"SELECT {columns}, date + interval '5 hours', {streams}, created_at {made} interval '1 day' "
        f"FROM {STREAMS} WHERE cm_track_id = {track}"
        for track, streams, made in (
            (2, "9 * daily_streams", "+"),
            (3, "9 * daily_streams", "-"),
            (4, "NULL", "+"),
        )
    ]
    without_track = f"INSERT INTO {STREAMS} (cm_artist_id, daily_streams) VALUES (1, 1)"
    execute(dsn, *again, without_track, without_track)
    run(Database(dsn))
    expected = stored(dsn)
    sql.run(dsn, f"TRUNCATE {FORECAST}")
    [(doubled,)] = sql.rows(dsn, f"SELECT count(*) / 2 FROM {STREAMS} WHERE cm_track_id IN (2, 3, 4)")

    finding = the("key of the streams", examined(dsn))

    assert (finding.level, f"deleted first: {doubled:,}" in finding.found) == ("warning", True)
    paste(dsn, finding.fix)
    result = examined(dsn)
    assert is_well("key of the streams", result)
    assert result.counts["rows_without_track"] == 2
    run(Database(dsn))
    assert_frame_equal(stored(dsn), expected)


def test_a_view_and_many_doubled_forecasts(embedded_database: Dsn) -> None:
    create_tables(embedded_database, forecast_key="")
    sql.run(embedded_database, f"ALTER TABLE {STREAMS} RENAME TO streams")
    sql.run(embedded_database, f"CREATE VIEW {STREAMS} AS SELECT * FROM streams")
    twice = "generate_series(1, 11) AS t, generate_series(1, 2)"
    sql.run(embedded_database, f"INSERT INTO {FORECAST} (cm_track_id, month) SELECT t, 1 FROM {twice}")
    result = examined(embedded_database)
    assert result.exit_code == 0
    assert (the("key of the streams", result).fix or "").startswith("create a unique index")
    # So many tracks are not named one by one.
    fix = the("key of the forecasts", result).fix
    assert fix == "forecaster run --replace --horizon 1 && forecaster init"


TRIGGER = f"ON {FORECAST} FOR EACH ROW EXECUTE FUNCTION nothing()"
AILMENTS = (
    "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    f'CREATE TRIGGER "Keeps out" BEFORE INSERT {TRIGGER}',
    f"CREATE TRIGGER off AFTER DELETE {TRIGGER}",
    f"CREATE TRIGGER other AFTER UPDATE {TRIGGER}",
    f"ALTER TABLE {FORECAST} DISABLE TRIGGER off",
    f"CREATE RULE stays AS ON DELETE TO {FORECAST} DO INSTEAD NOTHING",
    DROP_DAY_KEY,
    f"DROP INDEX {STREAMS}_cm_track_id_idx",
    f"{AGAIN} LIMIT 1",
)


def test_all_at_once(filled: Dsn) -> None:
    """Each is found, none hides another, to look changes nothing, and what is pasted mends it."""

    def claim() -> None:
        """As the statistics of a large table have it."""
        sql.run(filled, f"UPDATE pg_class SET reltuples = 2e7 WHERE oid = '{STREAMS}'::regclass")

    claim()
    well = examined(filled)
    assert unwell(well) == []
    execute(filled, *AILMENTS)
    with pytest.raises(adbc.Error, match="could not create unique index"):
        sql.run(filled, f'CREATE UNIQUE INDEX CONCURRENTLY "Half" ON {STREAMS} (cm_track_id, date)')
    claim()
    sql.run(filled, f"ALTER DATABASE {filled.dbname} SET default_transaction_read_only = on")

    writable = replace(filled, parameters=(("options", "-c default_transaction_read_only=off"),))
    with connect(writable) as other:
        take_lock(other, read_tables(other, "public"))
        result = examined(filled)

    read_only, triggers, key, index, large, lock = unwell(result)
    assert "has trigger Keeps out, rule stays:" in triggers.found
    assert (result.exit_code, read_only.about, read_only.level) == (1, "read-only", "error")
    assert key.about == "key of the streams"
    assert index.fix == 'REINDEX INDEX "public"."Half";'
    assert "20,000,000" in large.found
    assert (lock.about, lock.fix) == ("lock", "forecaster run --wait 3600")
    assert "held by another run: process " in lock.found
    assert {f.level for f in unwell(result)} - {read_only.level} == {"warning"}
    assert result.counts == well.counts | {"duplicate_rows": 1}
    assert "check that it stores these rows as they are" in (triggers.fix or "")
    for finding in (read_only, key, index, large):
        paste(filled, finding.fix)
    execute(filled, f'DROP TRIGGER "Keeps out" ON {FORECAST}', f"DROP RULE stays ON {FORECAST}")
    [spare] = [f for f in examined(filled).findings if f.about == "index of the streams"]
    assert spare.fix == 'DROP INDEX CONCURRENTLY "public"."Half";'
    paste(filled, spare.fix)
    claim()
    until(lambda: is_well("lock", result := examined(filled)) and result == well)
    assert run(Database(filled)).results == 10


def test_forecasts_that_are_doubled(embedded_database: Dsn, called: Cli) -> None:
    dsn = embedded_database
    create_tables(dsn, streams_key="UNIQUE (cm_track_id, date)", forecast_key="")
    load(dsn, "public", streams=golden_streams().filter(TEN), mldr=golden_mldr())
    run(Database(dsn), RunConfig(parameters=Parameters(horizon=30)))
    expected = stored(dsn)
    sql.run(
        dsn,
        f"INSERT INTO {FORECAST} (cm_track_id, month) SELECT cm_track_id, month FROM {FORECAST} "
        "WHERE cm_track_id IN (2, 7)",
    )
    sql.run(dsn, f"DELETE FROM {FORECAST} WHERE cm_track_id = 5 AND month > 20")
    sql.run(dsn, f"INSERT INTO {FORECAST} (month) VALUES (1)")

    result = examined(dsn)

    assert result.exit_code == 0
    without_track, doubled, partial = (f for f in unwell(result) if f.about == "stored forecasts")
    assert doubled.fix == "forecaster run --replace --horizon 30 --track-id 2"
    assert doubled.found == (
        f"tracks in {FORECAST} with a month twice or NULL: 2, the first is 2; the command repairs that one"
    )
    assert partial.fix == "forecaster run --replace --horizon 30 --track-id 5"
    key = the("key of the forecasts", result)
    assert "in the way are tracks with a month twice or NULL: 2" in key.found
    assert key.fix == "forecaster run --replace --horizon 30 --track-id 2 --track-id 7 && forecaster init"
    paste(dsn, without_track.fix)
    type_in(called, dsn, key.fix.removesuffix(" && forecaster init"))
    key, left, _no_history = unwell(examined(dsn))
    assert (key.fix, left) == ("forecaster init", partial)
    is_whole = pl.col("cm_track_id") != 5
    assert_frame_equal(stored(dsn).filter(is_whole), expected.filter(is_whole))


def test_forecasts_that_were_refused(filled: Dsn) -> None:
    check = f"ALTER TABLE {FORECAST} ADD CONSTRAINT most CHECK (cm_track_id > 3)"
    sql.run(filled, check)
    assert sorted(run(Database(filled)).refused) == [1, 2, 3]
    result = examined(filled)
    refused = the("tracks", result)
    assert refused.found.startswith("3 of 3 pending ones had their forecast refused by the table")
    assert (refused.level, refused.fix) == ("warning", "forecaster run --report report.json")
    assert (result.counts["forecastable"], result.counts["refused"]) == (3, 3)
    assert not [finding for finding in result.findings if "can be forecast" in finding.found]
    load(filled, "public", streams=golden_streams().filter(pl.col("cm_track_id") == 11))
    result = examined(filled)
    said = [finding.found for finding in result.findings if "of 4 pending ones" in finding.found]
    assert [words.split()[0] for words in said] == ["1", "3"]
    sql.run(filled, f"ALTER TABLE {FORECAST} DROP CONSTRAINT most")
    run(Database(filled))
    assert is_well("tracks", examined(filled))
