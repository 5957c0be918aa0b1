"""What `doctor` finds on real servers, and that what it says mends it does so."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import adbc_driver_postgresql.dbapi as driver
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.doctor import Examination, Finding, _server_version, examine
from forecaster.dsn import Dsn
from forecaster.load import load
from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import connect
from forecaster.postgres.embedded import bundled_binaries
from forecaster.postgres.lock import take_lock
from forecaster.postgres.tables import read_tables
from forecaster.run import RunConfig, run
from tests import sql
from tests.conftest import Cli, short_directory
from tests.faults import FORECAST, PASSWORD_MARKS, STREAMS, answers, guarded_by_password, until
from tests.tables import create_tables, golden_mldr, golden_streams, initialise
from tests.test_names import NAMES
from tests.test_run import stored
from tests.test_tls import asked, make_authority, needs_tls, on_the_network

MLDR = "backtest_artist_mldr"
WITHOUT_RATE = 38
"""The one artist of the golden catalogue that has none."""
TEN = pl.col("cm_track_id") <= 10
ABOUT = {
    *(
        "configuration",
        "versions",
        "connection",
        "server version",
        "encryption",
        "pooler",
        "tables",
        "rights",
    ),
    *("row security", "triggers", "read-only", "key of the streams", "key of the forecasts", "indexes"),
    *("stored forecasts", "lock", "tracks", "decay rates"),
}
needs_pgbouncer = pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="needs pgbouncer")


def examined(dsn: Dsn, schema: str = "public", parameters: Parameters | None = None) -> Examination:
    """Whatever it is: what is not well can be mended, and no secret is said."""
    result = examine(dsn, schema, parameters or Parameters())
    assert all(finding.fix for finding in result.findings if finding.level != "ok"), result.findings
    text = json.dumps(result.to_dict(), ensure_ascii=False)
    assert not any(secret in text for secret in (*PASSWORD_MARKS, dsn.password or PASSWORD_MARKS[0]))
    assert result.to_dict()["exit_code"] == result.exit_code
    return result


def unwell(result: Examination, *, but: str = "decay rates") -> list[Finding]:
    return [finding for finding in result.findings if finding.level != "ok" and finding.about != but]


def the(about: str, result: Examination) -> Finding:
    """The one finding about it that is not well."""
    [finding] = [finding for finding in unwell(result, but="") if finding.about == about]
    return finding


def is_well(about: str, result: Examination) -> bool:
    levels = {finding.level for finding in result.findings if finding.about == about}
    assert levels
    return levels == {"ok"}


def paste(dsn: Dsn, fix: str | None) -> None:
    """Its statements one after the other, in one session."""
    assert fix
    with driver.connect(dsn.uri, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in fix.split("; "):
            cursor.execute(statement)


def type_in(cli: Cli, dsn: Dsn, fix: str | None) -> None:
    """Its commands one after the other, as a shell would."""
    assert fix
    for command in fix.split(" && "):
        program, *arguments = shlex.split(command)
        assert program == "forecaster"
        result = cli(*arguments, env={"DATABASE_URL": dsn.uri})
        assert result.returncode == 0, result.stderr


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
    sql.run(filled, f"CREATE ROLE {name} LOGIN")
    sql.run(filled, f"REVOKE TEMPORARY ON DATABASE {filled.dbname} FROM PUBLIC")
    sql.run(filled, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    yield replace(filled, user=name)
    sql.run(filled, f"DROP OWNED BY {name}")
    sql.run(filled, f"DROP ROLE {name}")


def test_all_is_well(database: Dsn) -> None:
    streams = golden_streams().filter(pl.col("cm_artist_id").is_in([3, 7, WITHOUT_RATE]))
    tracks, skipped = (
        frame["cm_track_id"].n_unique() for frame in (streams, streams.filter(cm_artist_id=WITHOUT_RATE))
    )
    initialise(database)
    load(database, "public", streams=streams, mldr=golden_mldr())
    before = examined(database)
    run(RunConfig(database))
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
    assert [finding.fix for finding in before.findings if finding.about == "tracks" and finding.fix] == [
        "forecaster run",
        "forecaster run --dry-run --skipped skipped.csv",
    ]
    some = {"tracks": tracks, "with_forecast": 0, "pending": tracks, "skipped": skipped}
    rows = {"rows_without_track": 0, "unusable_rows": 0, "duplicate_rows": 0}
    artists = {"artists_without_rate": 1, "artists_with_unusable_rate": 0, "artists_with_several_rates": 0}
    good = tracks - skipped
    assert before.counts == some | rows | {"artists": 3, "forecastable": good} | artists
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
    for statement in (*DIRT, *([] if key else [AGAIN])):
        sql.run(dsn, statement)
    run(RunConfig(dsn, track_ids=(20, 21)))

    report = run(RunConfig(dsn, parameters=parameters, dry_run=True))
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


def test_an_empty_database(embedded_database: Dsn, cli: Cli) -> None:
    for schema in ("public", "it's one"):
        result = examined(embedded_database, schema)
        finding = the("tables", result)
        assert (result.exit_code, finding.level) == (4, "error")
        assert f"{MLDR}: the table is missing" in finding.found
        assert ("schemas that have all three: public" in finding.found) == (schema != "public")
        if schema == "public":
            assert finding.fix == "forecaster init"
            initialise(embedded_database)
        else:
            type_in(cli, embedded_database, finding.fix)
        result = examined(embedded_database, schema)
        assert result.exit_code == 0
        [no_streams] = unwell(result)
        option = "" if schema == "public" else " --schema 'it'\"'\"'s one'"
        assert no_streams.fix == f"forecaster load STREAMS.csv --mldr MLDR.csv{option}"


def test_a_table_that_does_not_fit_ends_only_what_needs_it(filled: Dsn) -> None:
    sql.run(filled, f"ALTER TABLE {MLDR} ALTER mldr TYPE text")
    result = examined(filled)
    finding = the("tables", result)
    assert (result.exit_code, finding.fix) == (4, "alter the table, or name another schema with --schema")
    assert f"{MLDR}.mldr: is text" in finding.found
    assert {finding.about for finding in result.findings} == ABOUT - {"tracks", "decay rates"}
    assert unwell(result) == [finding]


def test_a_server_that_lets_nobody_in() -> None:
    with guarded_by_password() as guarded:
        assert examined(guarded).exit_code == 4
        for dsn, said in (
            (replace(guarded, password="not the one"), "password authentication failed"),
            (replace(guarded, port=1), "No such file or directory"),
            (replace(guarded, dbname="elsewhere"), 'database "elsewhere" does not exist'),
        ):
            result = examined(dsn)
            finding = the("connection", result)
            assert (result.exit_code, finding.exit_code) == (3, 3)
            assert said in finding.found
            assert f"pg_isready -h {guarded.host} -p {dsn.port}" in (finding.fix or "")
            # What takes no connection is there.
            assert [f.about for f in result.findings] == ["configuration", "versions", "connection"]
            assert f"{dsn}" in result.findings[0].found
            assert result.versions.keys() >= {"python", "polars", "connectorx"}


def test_rights_that_are_lacking_are_granted(filled: Dsn, nobody: Dsn) -> None:
    sql.run(filled, "CREATE SEQUENCE numbers")
    sql.run(filled, f"ALTER TABLE {FORECAST} ALTER id DROP IDENTITY, ALTER id SET DEFAULT nextval('numbers')")
    result = examined(nobody)
    assert result.exit_code == 1
    assert {finding.about for finding in unwell(result)} == {"rights"}
    assert [f.level for f in unwell(result)] == ["error", "error", "warning", "warning", "error"]
    for finding in unwell(result):
        paste(filled, finding.fix)
    result = examined(nobody)
    assert (result.exit_code, unwell(result)) == (0, [])
    assert result.counts["forecastable"] == run(RunConfig(nobody)).forecast == 10
    # To load is another matter.
    [loads] = [f for f in result.findings if f.about == "rights" and f.fix]
    paste(filled, loads.fix)
    load(nobody, "public", streams=golden_streams().filter(cm_track_id=11), mldr=golden_mldr())


def test_without_the_right_to_delete_all_but_replacing_goes(filled: Dsn, nobody: Dsn) -> None:
    sql.run(filled, f"GRANT USAGE ON SCHEMA public TO {nobody.user}")
    sql.run(filled, f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {nobody.user}")
    result = examined(nobody)
    assert result.exit_code == 0
    delete, temporary = unwell(result)
    assert f"DELETE on {FORECAST}" in delete.found
    assert "TEMPORARY" in temporary.found


def test_policies(filled: Dsn, nobody: Dsn) -> None:
    sql.run(filled, f"ALTER TABLE {STREAMS} ENABLE ROW LEVEL SECURITY")
    assert is_well("row security", examined(filled))
    finding = the("row security", examined(nobody))
    assert (finding.level, STREAMS in finding.found) == ("warning", True)
    paste(filled, finding.fix)
    assert is_well("row security", examined(nobody))


@pytest.mark.parametrize(("date", "again"), [("date", "date"), ("timestamptz", "date + interval '5 hours'")])
def test_the_key_of_the_streams(embedded_database: Dsn, date: str, again: str) -> None:
    """With rows in its way, of which those go that a run does not go by."""
    dsn = embedded_database
    create_tables(dsn, date=date)
    load(dsn, "public", streams=golden_streams().filter(TEN), mldr=golden_mldr())
    columns = "cm_track_id, cm_artist_id, days_from_release"
    for streams, made, among in (
        ("9 * daily_streams", "created_at + interval '1 day'", "cm_track_id = 2"),
        ("9 * daily_streams", "created_at - interval '1 day'", "cm_track_id = 3"),
        ("NULL", "created_at + interval '1 day'", "cm_track_id = 4"),
    ):
        sql.run(
            dsn,
            f"INSERT INTO {STREAMS} ({columns}, date, daily_streams, created_at) "
            f"SELECT {columns}, {again}, {streams}, {made} FROM {STREAMS} WHERE {among}",
        )
    for _ in range(2):
        sql.run(dsn, f"INSERT INTO {STREAMS} (cm_artist_id, daily_streams) VALUES (1, 1)")
    run(RunConfig(dsn))
    expected = stored(dsn)
    sql.run(dsn, f"TRUNCATE {FORECAST}")
    [(doubled,)] = sql.rows(dsn, f"SELECT count(*) / 2 FROM {STREAMS} WHERE cm_track_id IN (2, 3, 4)")

    finding = the("key of the streams", examined(dsn))

    assert (finding.level, f"{doubled:,} rows are of a day" in finding.found) == ("warning", True)
    paste(dsn, finding.fix)
    result = examined(dsn)
    assert is_well("key of the streams", result)
    assert result.counts["rows_without_track"] == 2
    run(RunConfig(dsn))
    assert_frame_equal(stored(dsn), expected)


def test_a_view_has_no_key(filled: Dsn) -> None:
    sql.run(filled, f"ALTER TABLE {STREAMS} RENAME TO streams")
    sql.run(filled, f"CREATE VIEW {STREAMS} AS SELECT * FROM streams")
    result = examined(filled)
    assert result.exit_code == 0
    assert (the("key of the streams", result).fix or "").startswith("make a unique index")
    assert result.counts["forecastable"] == 10


def test_an_index_that_is_not_valid(filled: Dsn) -> None:
    sql.run(filled, f"ALTER TABLE {STREAMS} DROP CONSTRAINT {STREAMS}_cm_track_id_date_key")
    for _ in range(2):
        sql.run(
            filled, f"INSERT INTO {STREAMS} (cm_track_id, cm_artist_id, date) VALUES (1, 1, '2001-01-01')"
        )
    with pytest.raises(Exception, match="could not create unique index"):
        sql.run(filled, f'CREATE UNIQUE INDEX CONCURRENTLY "Half" ON {STREAMS} (cm_track_id, date)')
    result = examined(filled)
    assert not is_well("key of the streams", result)
    finding = the("indexes", result)
    assert (finding.level, finding.fix) == ("warning", 'REINDEX INDEX "public"."Half"')
    sql.run(filled, f"DELETE FROM {STREAMS} WHERE date = '2001-01-01'")
    paste(filled, finding.fix)
    result = examined(filled)
    assert is_well("indexes", result)
    assert is_well("key of the streams", result)


def test_a_large_table_without_the_index_of_unusable_rows(filled: Dsn) -> None:
    def claim() -> None:
        """As the statistics of a large table have it."""
        sql.run(filled, f"UPDATE pg_class SET reltuples = 2e7 WHERE oid = '{STREAMS}'::regclass")

    claim()
    assert is_well("indexes", examined(filled))
    sql.run(filled, f"DROP INDEX {STREAMS}_cm_track_id_idx")
    claim()
    finding = the("indexes", examined(filled))
    assert "20,000,000" in finding.found
    paste(filled, finding.fix)
    claim()
    assert is_well("indexes", examined(filled))


def test_forecasts_that_are_doubled(embedded_database: Dsn, cli: Cli) -> None:
    dsn = embedded_database
    create_tables(dsn, streams_key="UNIQUE (cm_track_id, date)", forecast_key="")
    load(dsn, "public", streams=golden_streams().filter(TEN), mldr=golden_mldr())
    run(RunConfig(dsn, parameters=Parameters(horizon=30)))
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
        f"tracks in {FORECAST} with a month twice or NULL: 2, the first is 2; the command mends that one"
    )
    assert partial.fix == "forecaster run --replace --horizon 30 --track-id 5"
    key = the("key of the forecasts", result)
    assert "in the way are tracks with a month twice or NULL: 2" in key.found
    assert key.fix == "forecaster run --replace --horizon 30 --track-id 2 --track-id 7 && forecaster init"
    paste(dsn, without_track.fix)
    run(RunConfig(dsn, parameters=Parameters(horizon=30), replace=True, track_ids=(5,)))
    type_in(cli, dsn, key.fix)
    assert unwell(examined(dsn)) == []
    assert_frame_equal(stored(dsn), expected)


def test_many_doubled_forecasts_are_not_named_one_by_one(embedded_database: Dsn) -> None:
    create_tables(embedded_database, forecast_key="")
    for _ in range(2):
        sql.run(
            embedded_database,
            f"INSERT INTO {FORECAST} (cm_track_id, month) SELECT t, 1 FROM generate_series(1, 11) AS t",
        )
    key = the("key of the forecasts", examined(embedded_database))
    assert key.fix == "forecaster run --replace --horizon 1 && forecaster init"


def test_a_server_that_takes_nothing(filled: Dsn) -> None:
    """All else is found as before, so that to look is all that is done."""
    well = examined(filled)
    for on in (f"DATABASE {filled.dbname}", f"ROLE {filled.user} IN DATABASE {filled.dbname}"):
        sql.run(filled, f"ALTER {on} SET default_transaction_read_only = on")
        result = examined(filled)
        finding = the("read-only", result)
        assert (result.exit_code, finding.level) == (1, "error")
        assert result.counts == well.counts
        others = [f for f in result.findings if f != finding]
        assert others == [f for f in well.findings if f.about != "read-only"]
        paste(filled, finding.fix)
        assert examined(filled) == well
    client = replace(filled, parameters=(("options", "-c default_transaction_read_only=on"),))
    assert "PGOPTIONS" in (the("read-only", examined(client)).fix or "")


def test_triggers_and_rules(filled: Dsn) -> None:
    sql.run(filled, "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    for name, when in (('"Keeps out"', "BEFORE INSERT"), ("off", "AFTER DELETE"), ("other", "AFTER UPDATE")):
        sql.run(filled, f"CREATE TRIGGER {name} {when} ON {FORECAST} FOR EACH ROW EXECUTE FUNCTION nothing()")
    sql.run(filled, f"ALTER TABLE {FORECAST} DISABLE TRIGGER off")
    sql.run(filled, f"CREATE RULE stays AS ON DELETE TO {FORECAST} DO INSTEAD NOTHING")
    result = examined(filled)
    finding = the("triggers", result)
    assert (result.exit_code, finding.level) == (0, "warning")
    assert "has trigger Keeps out, rule stays:" in finding.found
    paste(filled, finding.fix)
    assert is_well("triggers", examined(filled))
    assert run(RunConfig(filled)).forecast == 10


def test_who_holds_the_lock(filled: Dsn) -> None:
    with connect(filled) as other:
        take_lock(other, read_tables(other, "public"))
        result = examined(filled)
        finding = the("lock", result)
        assert (result.exit_code, finding.level) == (0, "warning")
        assert finding.fix == "forecaster run --wait 3600"
        assert "held by another run: process " in finding.found
        assert result.counts["forecastable"] == 10
    until(lambda: is_well("lock", examined(filled)))


def test_names_are_data(embedded_database: Dsn) -> None:
    for name in NAMES[:3]:
        initialise(embedded_database, name)
        result = examined(embedded_database, name)
        assert [finding.about for finding in unwell(result)] == ["tracks"], name
        sql.run(embedded_database, f"ALTER SCHEMA {quoted(name)} RENAME TO gone")
        [finding] = unwell(examined(embedded_database, name))
        assert shlex.split(finding.fix or "") == ["forecaster", "init", "--schema", name]
        sql.run(embedded_database, "DROP SCHEMA gone CASCADE")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_versions_of_the_server() -> None:
    assert [_server_version(number, "x")[0] for number in (110022, 120001, 130014, 140000, 180006)] == [
        *("error", "warning", "warning", "ok", "ok")
    ]


def test_a_connection_that_others_can_read() -> None:
    with (
        short_directory() as directory,
        on_the_network(directory, bundled_binaries(), None) as dsn,
    ):
        assert is_well("encryption", examined(dsn))
        # Another way to this machine, which does not look like one.
        finding = the("encryption", examined(replace(dsn, host="0.0.0.0")))
        assert (finding.level, "0.0.0.0" in finding.found) == ("warning", True)
        assert "ALTER SYSTEM SET ssl = on" in (finding.fix or "")


@needs_tls
def test_a_connection_that_others_cannot_read() -> None:
    with short_directory() as directory:
        authority = make_authority(directory, "authority")
        with on_the_network(directory, Path("/usr/lib/postgresql/15/bin"), authority) as dsn:
            for parameters, verified in (({}, "is not"), ({"sslrootcert": authority}, "is")):
                result = examined(asked(dsn, sslmode="require", **parameters))
                [found] = [f.found for f in result.findings if f.about == "encryption"]
                assert found == f"TLSv1.3; the server's certificate {verified} verified"
            finding = the("encryption", examined(replace(asked(dsn, sslmode="disable"), host="0.0.0.0")))
            assert finding.fix == "set PGSSLMODE=require, or add ?sslmode=require to the URL"


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler(filled: Dsn, mode: str) -> None:
    with short_directory() as directory:
        directory.chmod(0o777)
        (directory / "users").write_text(f'"{filled.user}" ""\n')
        (directory / "settings").write_text(
            f"[databases]\n* = host={filled.host} port={filled.port} user={filled.user}\n[pgbouncer]\n"
            f"listen_addr =\nunix_socket_dir = {directory}\nlisten_port = 6432\nauth_type = any\n"
            f"auth_file = {directory}/users\npool_mode = {mode}\n"
            "ignore_startup_parameters = extra_float_digits,options\n"
        )
        with subprocess.Popen(["pgbouncer", "-q", "-u", "postgres", directory / "settings"]) as pooler:
            through_it = replace(filled, host=str(directory), port=6432)
            until(lambda: answers(through_it))
            assert is_well("pooler", examined(through_it)) == (mode == "session")
            pooler.terminate()
