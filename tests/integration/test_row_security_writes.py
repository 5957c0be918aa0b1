"""Row security on a table that is written: rows are stored if its policies allow it, else refused first."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import polars as pl
import pytest

from forecaster.doctor import examine
from forecaster.errors import DatabaseError, WriteRefusedError
from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import commit, connect, execute
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.rates import ArtistRates
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.load import load
from tests import sql
from tests.faults import FORECAST, STREAMS
from tests.forecasts import in_frames, stored
from tests.roles import granted
from tests.tables import golden_listeners, golden_mldr, golden_streams, initialise

MLDR = "backtest_artist_mldr"
FEW = pl.col("cm_track_id") <= 3
PREVENTS = "row security prevents this user from storing in "


@pytest.fixture
def owner(embedded_database: Dsn) -> Dsn:
    initialise(embedded_database)
    load(embedded_database, "public", streams=golden_streams().filter(FEW), mldr=golden_mldr())
    return embedded_database


@pytest.fixture
def user(owner: Dsn) -> Iterator[Dsn]:
    with granted(owner, "SELECT, INSERT, UPDATE, DELETE") as user:
        yield user


def police(owner: Dsn, table: str, *policies: str) -> None:
    sql.run(owner, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    for number, policy in enumerate(policies):
        sql.run(owner, f"CREATE POLICY p{number} ON {table} {policy}")


ALL = ("FOR SELECT USING (true)", "FOR INSERT WITH CHECK (cm_track_id < 100)", "FOR DELETE USING (true)")


def test_what_the_policies_allow_is_stored_once(owner: Dsn, user: Dsn) -> None:
    police(owner, FORECAST, *ALL)
    expected = in_frames(golden_streams().filter(FEW), golden_mldr())
    assert run(Database(user)).results == 3
    assert stored(owner).equals(expected)
    assert run(Database(user)).pending == 0
    sql.run(owner, f"UPDATE {FORECAST} SET forecasted_value = 1 WHERE cm_track_id = 2")
    assert run(Database(user), RunConfig(replace=True)).results == 3
    assert stored(owner).equals(expected)


def test_what_another_program_stores_meanwhile_stays(owner: Dsn, user: Dsn) -> None:
    """Also where the user may not see it: the unique key refuses the second row."""
    police(owner, FORECAST, "USING (forecasted_value <> 987654321) WITH CHECK (true)")
    theirs = "SELECT m, 987654321, 1, 1, 2, 1, now() FROM generate_series(1, 24) AS m"
    columns = "month, forecasted_value, segment_used, time_used, cm_track_id, cm_artist_id, created_at"
    sql.run(owner, f"ALTER TABLE {FORECAST} ALTER training_data_id DROP NOT NULL")
    sql.run(owner, f"INSERT INTO {FORECAST} ({columns}) {theirs}")
    report = run(Database(user))
    assert (report.results, report.taken, report.refused) == (2, [2], {})
    assert set(stored(owner).filter(cm_track_id=2)["forecasted_value"]) == {987654321}
    assert stored(owner).group_by("cm_track_id").len()["len"].to_list() == [24, 24, 24]


def test_rates_and_files_are_stored_too(owner: Dsn, user: Dsn) -> None:
    load(owner, "public", listeners=golden_listeners())
    sql.run(owner, f"DELETE FROM {MLDR}")
    police(owner, MLDR, "USING (true)")
    police(owner, STREAMS, "USING (true)")
    assert run(ArtistRates(user)).results == 60
    assert run(ArtistRates(user), RunConfig(replace=True)).results == 60
    assert sql.rows(owner, f"SELECT count(*), count(DISTINCT cm_artist_id) FROM {MLDR}") == [(60, 60)]
    rows = golden_streams().filter(pl.col("cm_track_id") == 4)
    assert load(user, "public", streams=rows).streams == len(rows)


@pytest.mark.parametrize(
    ("policies", "why"),
    [
        ((), "no policy allows INSERT"),
        (("FOR SELECT USING (true)",), r"none of its policies \(p0\) allows INSERT"),
        (("FOR INSERT WITH CHECK (true)",), r"none of its policies \(p0\) allows SELECT"),
        (("FOR INSERT TO pg_monitor WITH CHECK (true)",), r"\(p0\) allows INSERT"),
        (("USING (true) WITH CHECK (false)",), r"\(p0\) allows INSERT"),
        (
            ("USING (true)", "AS RESTRICTIVE USING (true) WITH CHECK (false)"),
            "policy p1 refuses every INSERT",
        ),
        (ALL[:2], r"none of its policies \(p0, p1\) allows DELETE"),
    ],
)
def test_what_they_never_allow_is_refused_first(
    owner: Dsn, user: Dsn, policies: tuple[str, ...], why: str
) -> None:
    police(owner, FORECAST, *policies)
    report = Report()
    replaces = RunConfig(replace="DELETE" in why)
    with pytest.raises(DatabaseError, match=f"{PREVENTS}{FORECAST}: .*{why}") as caught:
        run(Database(user), replaces, report=report)
    assert list(report.stages.seconds) == ["connect"]
    found = [f for f in examine(user, "public", Parameters()).findings if f.about == "rights"]
    assert [f.level for f in found if f"{caught.value}" in f.found] == [
        "warning" if replaces.replace else "error"
    ]
    hint = caught.value.hint or ""
    assert not any(word in hint for word in ("BYPASSRLS", "DISABLE"))
    if "CREATE POLICY" in hint and "SELECT" not in why:
        sql.run(owner, hint.removeprefix("add a policy: "))
        with ExitStack() as still:
            if not policies or policies[0].startswith("FOR INSERT TO"):
                still.enter_context(pytest.raises(DatabaseError, match="allows SELECT"))
            assert run(Database(user), replaces).results == 3


@pytest.mark.parametrize(("table", "place"), [(MLDR, ArtistRates), (FORECAST, Database)])
def test_a_dry_run_stores_nothing_anyway(
    owner: Dsn, user: Dsn, table: str, place: Callable[[Dsn], Database]
) -> None:
    police(owner, table)
    with pytest.raises(DatabaseError, match=f"{PREVENTS}{table}: no policy"):
        run(place(user))
    assert run(place(user), RunConfig(dry_run=True)).rows == 0


def test_without_the_right_to_a_temporary_table(owner: Dsn, user: Dsn) -> None:
    police(owner, FORECAST, *ALL)
    sql.run(owner, f"REVOKE TEMPORARY ON DATABASE {owner.dbname} FROM PUBLIC")
    with pytest.raises(DatabaseError, match="lacks TEMPORARY on the database") as caught:
        run(Database(user))
    sql.run(owner, caught.value.hint or "")
    assert run(Database(user)).results == 3


def test_a_row_that_they_do_not_allow(owner: Dsn, user: Dsn) -> None:
    """What a policy says of a row is known only with the row. A refused track does not stop the others."""
    police(owner, FORECAST, "USING (true) WITH CHECK (cm_track_id <> 2)")
    for config in (RunConfig(), RunConfig(replace=True)):
        report = run(Database(user), config)
        assert (report.results, [*report.refused], report.taken) == (2, [2], [])
        assert re.match(
            r"new row violates row-level security policy .* \(SQLSTATE 42501\)", report.refused[2]
        )
        assert set(stored(owner)["cm_track_id"]) == {1, 3}
    police(owner, MLDR, "USING (true) WITH CHECK (cm_artist_id <> 1)")
    with pytest.raises(WriteRefusedError, match="row security does not allow this user to store all of 1 "):
        load(user, "public", mldr=golden_mldr().filter(cm_artist_id=1))


def test_a_temporary_table_does_not_stay(owner: Dsn, user: Dsn) -> None:
    """So that one transaction can append twice."""
    police(owner, STREAMS, "USING (true)")
    for track in (4, 5):
        load(user, "public", streams=golden_streams().filter(pl.col("cm_track_id") == track))
    with connect(user) as connection:
        execute(connection, "CREATE TEMPORARY TABLE forecaster_rows ()")
        commit(connection)
