"""Rows that the server refuses: the others are stored, and the report says why these are not."""

import json
from pathlib import Path

import polars as pl
import pytest

from forecaster.errors import DatabaseError
from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.conftest import Cli
from tests.faults import FORECAST, whole_tracks
from tests.refusals import catalogue, require_known
from tests.tables import golden_listeners, initialise

TRACKS = 20
BAD = [5, 13, 14]
RAISES = (
    "CREATE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "IF NEW.{} IN (5, 13, 14) THEN RAISE EXCEPTION 'not % ', NEW.{} {}; END IF; RETURN NEW; END $$"
)
EMPTIES = (
    "CREATE FUNCTION raises() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "NEW.also := nullif(NEW.cm_track_id IN (5, 13, 14), true)::integer; RETURN NEW; END $$"
)
TRIGGER = "CREATE {} TRIGGER raises {} INSERT ON {} {} FOR EACH ROW EXECUTE FUNCTION raises()"
SEVEN = (
    f"INSERT INTO {FORECAST} (cm_track_id, cm_artist_id, month, forecasted_value, segment_used, time_used, "
    "training_data_id, created_at) VALUES (99, 1, 7, 1, 1, 1, 1, now())"
)
TAKES_SEVEN = "(CASE WHEN cm_track_id IN (5, 13, 14, 99) THEN month END)"


def raising(how: str, *, when: str = "BEFORE", kind: str = "", timing: str = "") -> list[str]:
    return [
        RAISES.format("cm_track_id", "cm_track_id", how),
        TRIGGER.format(kind, when, FORECAST, timing),
    ]


REFUSALS: dict[str, tuple[str, list[str]]] = {
    "CHECK": ("23514", [f"ALTER TABLE {FORECAST} ADD CHECK (cm_track_id NOT IN (5, 13, 14))"]),
    "NOT NULL": (
        "23502",
        [
            f"ALTER TABLE {FORECAST} ADD also integer NOT NULL DEFAULT 1",
            EMPTIES,
            TRIGGER.format("", "BEFORE", FORECAST, ""),
        ],
    ),
    "unique": (
        "23505",
        [
            f"CREATE UNIQUE INDEX ON {FORECAST} ({TAKES_SEVEN})",
            SEVEN,
        ],
    ),
    "exclusion": (
        "23P01",
        [
            f"ALTER TABLE {FORECAST} ADD EXCLUDE USING btree ({TAKES_SEVEN} WITH =)",
            SEVEN,
        ],
    ),
    "domain": (
        "23514",
        [
            "CREATE DOMAIN good AS bigint CHECK (VALUE NOT IN (5, 13, 14))",
            f"ALTER TABLE {FORECAST} ALTER cm_track_id TYPE good",
        ],
    ),
    "trigger": ("P0001", raising("")),
    "trigger with a code of its own": ("UE001", raising("USING ERRCODE = 'UE001'")),
    "trigger after the row": ("P0001", raising("", when="AFTER")),
    "trigger at the commit": (
        "P0001",
        raising("", when="AFTER", kind="CONSTRAINT", timing="DEFERRABLE INITIALLY DEFERRED"),
    ),
    "division by zero": (
        "22012",
        [f"CREATE INDEX ON {FORECAST} ((1 / ((cm_track_id NOT IN (5, 13, 14))::integer)))"],
    ),
    "no partition": (
        "23514",
        [
            f"CREATE TABLE parted (LIKE {FORECAST} INCLUDING ALL) PARTITION BY RANGE (cm_track_id)",
            f"DROP TABLE {FORECAST}",
            f"ALTER TABLE parted RENAME TO {FORECAST}",
            f"CREATE TABLE one PARTITION OF {FORECAST} FOR VALUES FROM (1) TO (5)",
            f"CREATE TABLE two PARTITION OF {FORECAST} FOR VALUES FROM (6) TO (13)",
            f"CREATE TABLE three PARTITION OF {FORECAST} FOR VALUES FROM (15) TO (100)",
        ],
    ),
}


@pytest.fixture
def dsn(embedded_database: Dsn) -> Dsn:
    catalogue(embedded_database, TRACKS)
    return embedded_database


def tracks_in(dsn: Dsn) -> list[int]:
    """The tracks whose 24 months are stored."""
    whole = f"SELECT cm_track_id::bigint FROM {FORECAST} GROUP BY 1 HAVING count(*) = 24 ORDER BY 1"
    return [track for (track,) in sql.rows(dsn, whole)]


GOOD = [track for track in range(1, TRACKS + 1) if track not in BAD]


@pytest.mark.parametrize("what", REFUSALS)
def test_the_others_are_stored(dsn: Dsn, what: str) -> None:
    state, statements = REFUSALS[what]
    no_primary_key = (
        [f"ALTER TABLE {FORECAST} DROP CONSTRAINT {FORECAST}_pkey"] if "partition" in what else []
    )
    for statement in [*no_primary_key, *statements]:
        sql.run(dsn, statement)
    report = run(Database(dsn))
    assert [*report.refused] == BAD
    assert {why[-len("(SQLSTATE 00000)") :] for why in report.refused.values()} == {f"(SQLSTATE {state})"}
    assert (report.results, report.rows, report.taken) == (len(GOOD), 24 * len(GOOD), [])
    assert tracks_in(dsn) == GOOD
    again = run(Database(dsn))
    assert (again.pending, again.results, [*again.refused]) == (len(BAD), 0, BAD)


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_foreign_key(database: Dsn, deferred: str) -> None:
    catalogue(database, TRACKS)
    require_known(database, unknown=BAD, deferred=deferred)
    assert [*run(Database(database)).refused] == BAD
    assert tracks_in(database) == GOOD
    in_history = "SELECT cm_track_id FROM backtest_track_streams_forecast_history WHERE {} ORDER BY 1"
    for condition, tracks in (("months IS NOT NULL", GOOD), ("reason = 'refused'", BAD)):
        assert [track for (track,) in sql.rows(database, in_history.format(condition))] == tracks
    sql.run(database, "INSERT INTO known VALUES (5), (13), (14)")
    report = run(Database(database))
    assert (report.results, report.refused) == (len(BAD), {})
    assert whole_tracks(database) == TRACKS


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"])
def test_a_refused_track_keeps_its_old_rows(dsn: Dsn, deferred: str) -> None:
    run(Database(dsn), RunConfig(parameters=Parameters(12)))
    sql.run(dsn, "CREATE TABLE before AS SELECT * FROM backtest_track_streams_forecast")
    require_known(dsn, unknown=[0], deferred=deferred)
    sql.run(dsn, f"ALTER TABLE {FORECAST} ADD CHECK (cm_track_id NOT IN (5, 13, 14)) NOT VALID")
    # Nor may the old rows of track 8 be deleted.
    sql.run(
        dsn,
        f"CREATE TABLE notes (track bigint, month smallint, FOREIGN KEY (track, month) REFERENCES {FORECAST} "
        f"(cm_track_id, month) {deferred})",
    )
    sql.run(dsn, "INSERT INTO notes VALUES (8, 3)")
    report = run(Database(dsn), RunConfig(replace=True))
    # A deferred key is satisfied by the new row.
    kept = BAD if deferred else sorted([*BAD, 8])
    assert [*report.refused] == kept
    assert tracks_in(dsn) == [track for track in range(1, TRACKS + 1) if track not in kept]
    theirs = f"cm_track_id IN ({', '.join(map(str, kept))})"
    same = f"SELECT * FROM before WHERE {theirs} EXCEPT SELECT * FROM {FORECAST}"
    assert sql.rows(dsn, same) == []
    assert sql.rows(dsn, f"SELECT count(*) FROM {FORECAST} WHERE {theirs}") == [(12 * len(kept),)]
    assert report.warnings == [
        f"tracks that get no new forecast and keep the stored one: {len(kept)}, the first is 5"
    ]


def test_later_batches_go_on(dsn: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forecaster.postgres.tracks.BATCH", 7)
    require_known(dsn, unknown=BAD)
    assert [*run(Database(dsn)).refused] == BAD
    assert tracks_in(dsn) == GOOD


def test_all_are_refused(dsn: Dsn) -> None:
    sql.run(dsn, f"ALTER TABLE {FORECAST} ADD CHECK (month < 24)")
    report = run(Database(dsn))
    assert (len(report.refused), report.results) == (TRACKS, 0)
    assert sql.rows(dsn, f"SELECT count(*) FROM {FORECAST}") == [(0,)]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("USING ERRCODE = '53100'", "53100"),
        ("USING ERRCODE = 'insufficient_privilege'", "42501"),
        ("USING ERRCODE = 'query_canceled'", "57014"),
        ("USING ERRCODE = '40P01'", "40P01"),
    ],
)
def test_a_condition_of_the_server_is_no_refusal(dsn: Dsn, how: str, said: str) -> None:
    for statement in raising(how):
        sql.run(dsn, statement)
    with pytest.raises(DatabaseError, match=rf"SQLSTATE {said}"):
        run(Database(dsn))
    assert tracks_in(dsn) == []


def test_what_is_said(called: Cli, dsn: Dsn, tmp_path: Path) -> None:
    secret = "postgresql://me:secret@db/music"
    for statement in raising(f"USING DETAIL = 'see {secret} ' || repeat('and so on ', 100)"):
        sql.run(dsn, statement)
    ended = called("run", "--report", f"{tmp_path}/report.json", env={"DATABASE_URL": dsn.uri})
    assert ended.returncode == 1
    [error, hint] = ended.stderr.splitlines()[-2:]
    assert error.startswith(
        "Error: the table refuses the forecasts of 3 tracks, the first is 5 (not 5 : see "
    )
    assert "... (SQLSTATE P0001)); those of the other tracks are stored" in error
    assert hint.strip() == "--report lists them all, each with its reason"
    assert "secret" not in ended.stderr + ended.stdout
    assert "refused" in ended.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert [refused["cm_track_id"] for refused in report["refused"]] == BAD
    assert (report["counts"]["refused"], report["counts"]["forecast"]) == (3, 17)
    assert "secret" not in json.dumps(report)


def test_what_is_said_of_one(called: Cli, dsn: Dsn) -> None:
    """Each night the same: without the row, whose id is another one each time."""
    sql.run(dsn, f"ALTER TABLE {FORECAST} ADD CONSTRAINT not_5 CHECK (cm_track_id <> 5)")
    refusal = (
        f'the table refuses the forecasts of 1 track, the first is 5 (new row for relation "{FORECAST}" '
        'violates check constraint "not_5" (SQLSTATE 23514))'
    )
    for others in ("; those of the other tracks are stored", ""):  # in the second night, there are none
        error = called("run", env={"DATABASE_URL": dsn.uri}).stderr.splitlines()[-2]
        assert error.startswith(f"Error: {refusal}{others} [")  # and the id of the run


def test_hostile_names(embedded_database: Dsn) -> None:
    """The search is a program in SQL: no name ends it early."""
    catalogue(embedded_database, TRACKS)
    sql.run(embedded_database, 'ALTER SCHEMA public RENAME TO "$forecaster$; \'_some$ $forecaster_$"')
    name = "$forecaster$; '_some$ $forecaster_$"
    sql.run(embedded_database, f'ALTER TABLE "{name}".{FORECAST} ADD CHECK (cm_track_id <> 5)')
    report = run(Database(embedded_database, name))
    assert ([*report.refused], report.results) == ([5], TRACKS - 1)


class TestRates:
    """Artists that the table of the MLDR refuses."""

    @pytest.fixture
    def loaded(self, embedded_database: Dsn) -> Dsn:
        initialise(embedded_database)
        few = golden_listeners().filter(pl.col("cm_artist_id").is_between(1, 20))
        load(embedded_database, "public", listeners=few)
        return embedded_database

    def rated(self, dsn: Dsn) -> list[int]:
        return [i for (i,) in sql.rows(dsn, "SELECT cm_artist_id FROM backtest_artist_mldr ORDER BY 1")]

    @pytest.mark.parametrize("replace", [False, True])
    @pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
    def test_the_others_are_stored(self, loaded: Dsn, when: str, *, replace: bool) -> None:
        if replace:
            run(ArtistRates(loaded))
            sql.run(loaded, "UPDATE backtest_artist_mldr SET mldr = 7")
        for statement in (
            RAISES.format("cm_artist_id", "cm_artist_id", ""),
            TRIGGER.format("", when, "backtest_artist_mldr", ""),
        ):
            sql.run(loaded, statement)
        report = run(ArtistRates(loaded), RunConfig(replace=replace))
        assert [*report.refused] == BAD
        assert report.refused[5] == "not 5 (SQLSTATE P0001)"
        old = [
            i
            for (i,) in sql.rows(
                loaded, "SELECT cm_artist_id FROM backtest_artist_mldr WHERE mldr = 7 ORDER BY 1"
            )
        ]
        assert old == (BAD if replace else [])
        assert len(self.rated(loaded)) == report.results + (len(BAD) if replace else 0)
        assert (set(BAD) <= set(self.rated(loaded))) == replace

    def test_an_artist_without_a_usable_rate_gets_one(self, loaded: Dsn) -> None:
        sql.run(
            loaded,
            "INSERT INTO backtest_artist_mldr (cm_artist_id, mldr, created_at) "
            "VALUES (6, 'NaN', '2020-01-01')",
        )
        sql.run(loaded, "ALTER TABLE backtest_artist_mldr ADD CHECK (cm_artist_id <> 5)")
        report = run(ArtistRates(loaded))
        assert [*report.refused] == [5]
        assert self.rated(loaded).count(6) == 2
