"""To compile a statement on many partitions takes a server minutes: it compiles none of those that read."""

import pytest

from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from tests import sql
from tests.faults import STREAMS
from tests.tables import load_golden


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


def test_whole_rows_are_read_by_statements_that_are_not_compiled(seen: Dsn) -> None:
    with open_source(seen, "public") as source:
        tracks = source.tracks()
        rows, days = source.rows(tracks), source.days(tracks)
    assert rows["daily_streams"].null_count() == 0
    assert len(days) == len(rows)
