"""Tables that a newer version has made: nothing is removed from them or read, and runs leave them alone."""

from dataclasses import replace

import pytest

from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from tests import sql
from tests.conftest import Cli
from tests.examinations import examined, the
from tests.stale import HISTORY, RUNS, fill

SAID = "the tables of the history have version 99, made by forecaster 9.9.9"


@pytest.fixture
def newer(embedded_database: Dsn) -> Dsn:
    """Tables with one run, brought to a later version."""
    fill(embedded_database, 2)
    run(Database(embedded_database))
    sql.run(embedded_database, "INSERT INTO backtest_schema_version VALUES (99, 'quantiles', '9.9.9', now())")
    return embedded_database


def kept(dsn: Dsn) -> list[tuple[int, ...]]:
    return sql.rows(dsn, f"SELECT (SELECT count(*) FROM {RUNS}), (SELECT count(*) FROM {HISTORY})")


@pytest.mark.parametrize(
    "command", ["history", "history --track-id 1", "history --prune --keep 1", "compare", "evaluate --run 1"]
)
def test_what_reads_or_removes_is_refused(newer: Dsn, called: Cli, command: str) -> None:
    ended = called(*command.split(), "--database-url", newer.uri)
    assert (ended.returncode, SAID in ended.stderr) == (4, True), ended.stderr
    assert "use a newer forecaster" in ended.stderr
    assert kept(newer) == [(1, 2)]


@pytest.mark.parametrize("fits", [True, False])
def test_a_run_stores_and_leaves_no_history(newer: Dsn, fits: bool) -> None:  # noqa: FBT001
    if not fits:  # which is for the newer version to know
        sql.run(newer, f"ALTER TABLE {HISTORY} DROP COLUMN mldr")
    report = run(Database(newer), RunConfig(replace=True))
    assert (report.results, report.run) == (2, None)
    [warning] = report.warnings
    assert warning.startswith(f"this run leaves no history: {SAID}")
    assert warning.endswith("; use a newer forecaster")
    assert kept(newer) == [(1, 2)]


def test_the_doctor_warns(newer: Dsn) -> None:
    finding = the("history", examined(newer))
    assert finding.found.startswith(f"runs leave none: {SAID}")
    assert (finding.level, finding.fix) == ("warning", "use a newer forecaster")


def test_who_may_not_read_the_version_is_told_so(newer: Dsn) -> None:
    name = f"nightly_{newer.dbname}"[:60]
    sql.run(newer, f"CREATE ROLE {name} LOGIN")
    try:
        sql.run(newer, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}")
        sql.run(newer, f"REVOKE ALL ON backtest_schema_version FROM {name}")
        user = replace(newer, user=name)
        [warning] = run(Database(user), RunConfig(replace=True)).warnings
        assert f'GRANT SELECT ON "public"."backtest_schema_version" TO "{name}"' in warning
    finally:
        sql.run(newer, f"DROP OWNED BY {name}")
        sql.run(newer, f"DROP ROLE {name}")
