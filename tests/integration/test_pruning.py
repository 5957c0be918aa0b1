"""`history --prune`: old rows go, and what the kept runs say stays the same."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from forecaster.errors import DatabaseError
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.pruning import prune
from forecaster.views.comparison import compared, remarks
from tests import sql
from tests.conftest import Cli
from tests.nights import HISTORY, RUNS, Nights

KEYS = f"SELECT run_id, cm_track_id FROM {HISTORY} ORDER BY 1, 2"
IDS = f"SELECT id FROM {RUNS} ORDER BY 1"
EVERY = [1, 2, 3, 4, 5, 6, 7]


@pytest.fixture
def nights(usual_database: Dsn) -> Nights:
    """Seven runs: of everything, of tracks 1 to 3, of everything but track 6, and four of track 1."""
    nights = Nights(usual_database)
    nights.add_days(120, EVERY)
    nights.rate({10: 0.02, 20: 0.03})
    nights.night(replace=False)
    nights.night(1, 2, 3)
    nights.night(1, 2, 3, 4, 5, 7)
    for _ in range(4):
        nights.add_days(1, [1])
        nights.night(1)
    return nights


def expected(dsn: Dsn, keep: int) -> list[tuple[int, int]]:
    """The rows that stay, found one by one."""
    rows = sql.rows(dsn, f"SELECT run_id, cm_track_id, months IS NOT NULL FROM {HISTORY}")
    oldest = sorted(run for (run,) in sql.rows(dsn, IDS))[-keep]
    stay = {(run, track) for run, track, _ in rows if run >= oldest}
    for track in {track for _, track, _ in rows}:
        before = [(run, is_forecast) for run, other, is_forecast in rows if other == track and run <= oldest]
        stay |= {(max(runs), track) for runs in [[run for run, _ in before]] if runs}
        stay |= {(max(runs), track) for runs in [[run for run, is_forecast in before if is_forecast]] if runs}
    return sorted(stay)


@pytest.mark.parametrize("keep", [1, 2, 4, 5, 6])
def test_what_no_kept_run_needs_is_removed(nights: Nights, keep: int) -> None:
    dsn = nights.dsn
    kept = list(range(8 - keep, 8))
    pairs = [(f"{a}", f"{b}") for a in kept for b in kept if a < b]
    states = [compared(dsn, "public", pair) for pair in pairs]
    stay, rows = expected(dsn, keep), sql.rows(dsn, KEYS)
    planned = prune(dsn, "public", keep=keep, dry_run=True)
    assert sql.rows(dsn, KEYS) == rows
    assert [run for (run,) in sql.rows(dsn, IDS)] == [1, 2, 3, 4, 5, 6, 7]

    pruned = prune(dsn, "public", keep=keep, dry_run=False)

    assert pruned.runs.equals(planned.runs)
    assert sql.rows(dsn, KEYS) == stay
    assert pruned.rows == len(rows) - len(stay)
    assert [run for (run,) in sql.rows(dsn, IDS)] == sorted({run for run, _ in stay} | set(kept))
    assert pruned.emptied["run"].to_list() == sorted(set(range(1, 8)) - {run for run, _ in stay} - set(kept))
    for pair, state in zip(pairs, states, strict=True):
        again = compared(dsn, "public", pair)
        assert again.tracks.equals(state.tracks)
        assert [*remarks(again)] == []
    assert prune(dsn, "public", keep=keep, dry_run=False).rows == 0


def test_the_newest_forecast_of_a_track_and_its_run_stay(nights: Nights) -> None:
    newest = nights.months(6, 7)
    prune(nights.dsn, "public", keep=1, dry_run=False)
    assert (1, 6) in sql.rows(nights.dsn, KEYS)
    assert (1,) in sql.rows(nights.dsn, IDS)
    assert nights.months(6, 7) == newest != []


def test_fewer_runs_than_are_kept_leave_everything(nights: Nights) -> None:
    rows = sql.rows(nights.dsn, KEYS)
    assert prune(nights.dsn, "public", keep=400, dry_run=False).rows == 0
    assert sql.rows(nights.dsn, KEYS) == rows


def test_the_command_says_what_goes(nights: Nights, called: Cli) -> None:
    where = ("--database-url", nights.dsn.uri)
    rows, stay = sql.rows(nights.dsn, KEYS), expected(nights.dsn, 2)
    removed, kept = len(rows) - len(stay), len([run for run, _ in stay if run < 6])
    tried = called("history", "--prune", "--keep", "2", "--dry-run", *where)
    assert re.search(rf"^rows removed +{removed} \(dry run\)$", tried.stdout, re.MULTILINE)
    assert tried.stdout.splitlines()[-1].startswith(f"rows={removed} runs=3 kept={kept} ")
    assert sql.rows(nights.dsn, KEYS) == rows
    document = json.loads(called("history", "--prune", "--keep", "2", "--json", *where).stdout)
    assert (document["rows_removed"], document["rows_kept"], document["dry_run"]) == (removed, kept, False)
    assert document["runs_removed"] == [2, 4, 5]
    assert sql.rows(nights.dsn, KEYS) == stay


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--prune", "--prune needs --keep N"),
        ("--keep 3", "--keep needs --prune"),
        ("--dry-run", "--dry-run needs --prune"),
        ("--prune --keep 3 --track-id 1", "--prune and --track-id contradict each other"),
        ("--prune --keep 3 --out x.csv", "--prune and --out contradict each other"),
        ("--prune --keep 0", "not in the range 1<=x<=1000000"),
        (f"--prune --keep {10**30}", "not in the range 1<=x<=1000000"),
    ],
)
def test_options_that_are_refused(called: Cli, words: str, said: str) -> None:
    ended = called("history", *words.split())
    assert (ended.returncode, said in ended.stderr) == (2, True)


@pytest.fixture
def reader(nights: Nights) -> Iterator[Dsn]:
    """A user who may read the tables."""
    name = f"reader_{nights.dsn.dbname}"[:60]
    sql.run(nights.dsn, f"CREATE ROLE {name} LOGIN")
    sql.run(nights.dsn, f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    yield replace(nights.dsn, user=name)
    sql.run(nights.dsn, f"DROP OWNED BY {name}")
    sql.run(nights.dsn, f"DROP ROLE {name}")


def test_a_missing_right_is_named_before_anything_is_removed(nights: Nights, reader: Dsn) -> None:
    rows = sql.rows(nights.dsn, KEYS)
    with pytest.raises(DatabaseError, match="lacks rights") as caught:
        prune(reader, "public", keep=1, dry_run=False)
    for table in (RUNS, HISTORY):
        assert f'GRANT DELETE ON "public"."{table}" TO "{reader.user}"' in f"{caught.value.hint}"
    assert sql.rows(nights.dsn, KEYS) == rows
    assert prune(reader, "public", keep=1, dry_run=True).rows > 0
    assert compared(reader, "public").difference > 0


def test_a_run_in_progress_loses_nothing(nights: Nights) -> None:
    """Its record is the last, and its rows come after those that are removed."""
    sql.run(nights.dsn, f"UPDATE {RUNS} SET outcome = 'running', finished_at = NULL WHERE id = 7")
    prune(nights.dsn, "public", keep=1, dry_run=False)
    assert sql.rows(nights.dsn, f"SELECT id FROM {RUNS} WHERE outcome = 'running'") == [(7,)]
    assert (7, 1) in sql.rows(nights.dsn, KEYS)
    nights.night(2)
    assert sql.rows(nights.dsn, f"SELECT max(id) FROM {RUNS} WHERE outcome = 'done'") == [(8,)]
