"""To compile a statement on many partitions takes a server minutes: it compiles none of those that read."""

import pytest

from forecaster import doctor
from forecaster.doctor.checks import Check
from forecaster.doctor.context import Context
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.connection import connect, query, roll_back
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.look import look
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from tests import sql
from tests.faults import STREAMS
from tests.tables import load_golden

SETTING = "SELECT current_setting('jit') AS jit"


@pytest.fixture
def seen(embedded_database: Dsn) -> Dsn:
    """The golden catalogue, whose streams are seen only by statements that are not compiled."""
    dsn = embedded_database
    load_golden(dsn)
    sql.run(dsn, f"ALTER TABLE {STREAMS} RENAME TO streams")
    columns = "id, created_at, cm_track_id, cm_artist_id, date, days_from_release"
    sql.run(
        dsn,
        f"CREATE VIEW {STREAMS} AS SELECT {columns}, CASE current_setting('jit') WHEN 'off' "
        "THEN daily_streams END AS daily_streams FROM streams",
    )
    sql.run(dsn, f"ALTER DATABASE {dsn.dbname} SET jit = on")
    return dsn


def test_no_statement_of_a_run_is_compiled(seen: Dsn) -> None:
    report = run(Database(seen), RunConfig(dry_run=True))
    assert report.results == 247
    assert report.unusable_rows == 0


def test_what_is_asked_at_the_beginning_turns_it_off_for_the_transaction(seen: Dsn) -> None:
    """As in commands that then ask themselves, such as history and compare."""
    with connect(seen, repeatable_read=True) as connection:
        assert query(connection, SETTING).item() == "on"
        look(connection, "public", {STREAMS: ("SELECT",)})
        assert query(connection, SETTING).item() == "off"
        roll_back(connection)
        assert query(connection, SETTING).item() == "on"


def test_doctor_has_none_compiled(seen: Dsn, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = []
    check_one = doctor._look

    def looked(context: Context, check: Check) -> None:
        settings.append(context.query(SETTING).item())
        check_one(context, check)

    monkeypatch.setattr(doctor, "_look", looked)
    doctor.examine(seen, "public", Parameters())
    assert {*settings} == {"off"}


def test_whole_rows_are_read_by_statements_that_are_not_compiled(seen: Dsn) -> None:
    with open_source(seen, "public") as source:
        tracks = source.tracks()
        rows, days = source.rows(tracks), source.days(tracks)
    assert rows["daily_streams"].null_count() == 0
    assert len(days) == len(rows)
