"""Names are data: whatever a schema or a file is called, it is never read as SQL."""

from pathlib import Path

import polars as pl
import pytest

from forecaster.postgres.connection import connect
from forecaster.postgres.diagnosis import diagnose
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.forecasts import store_forecasts
from forecaster.postgres.rows import fit
from forecaster.postgres.tables import read_tables
from forecaster.postgres.tracks import Database
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from forecaster.setup.init import initialise
from forecaster.setup.load import load
from forecaster.tables import ALL_TABLES, FORECAST_TABLE
from tests import sql
from tests.conftest import Cli
from tests.names import NAMES, quoted
from tests.tables import golden_mldr, golden_streams

FEW = golden_streams().filter(pl.col("cm_track_id") <= 2)


@pytest.fixture
def kept(embedded_database: Dsn) -> Dsn:
    """A database with something to lose."""
    sql.run(embedded_database, "CREATE TABLE public.kept AS SELECT 1 AS it")
    return embedded_database


def assert_kept(dsn: Dsn, schemas: list[str]) -> None:
    assert sql.rows(dsn, "SELECT it FROM public.kept") == [(1,)]
    found = sql.rows(dsn, "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'")
    assert sorted(name for (name,) in found) == sorted(["public", *schemas])


def test_schemas(kept: Dsn) -> None:
    for name in NAMES:
        assert len(initialise(kept, name).created) == 1 + len(ALL_TABLES)
        assert initialise(kept, name).created == []
        assert load(kept, name, streams=FEW, mldr=golden_mldr()).streams == len(FEW)
        assert run(Database(kept, name)).rows == 48
        assert diagnose(kept, name, RunConfig(), 2).track["cm_track_id"] == 2
        assert run(Database(kept, name), RunConfig(ids=(2,), replace=True)).rows == 24
        target = f"{quoted(name)}.{FORECAST_TABLE}"
        assert sql.rows(kept, f"SELECT count(*) FROM {target}") == [(48,)]
        # By way of the temporary table: another program has stored track 1 and not track 2.
        rows = pl.read_database_uri(f"SELECT * FROM {target}", kept.uri).drop("id")
        sql.run(kept, f"DELETE FROM {target} WHERE cm_track_id = 2")
        with connect(kept) as connection:
            tables = read_tables(connection, name)
            later = fit(rows.with_columns(pl.col("created_at").dt.offset_by("1us")), tables, FORECAST_TABLE)
            stored = store_forecasts(connection, tables, later, horizon=24, replace=False)
        assert (stored.rows, stored.taken) == (24, [1])
    assert_kept(kept, NAMES)


@pytest.mark.parametrize(
    "name", ['"; DROP SCHEMA public CASCADE; --', "'; DROP TABLE kept; -- 100 %s $1 \\ Größe 音楽"]
)
def test_schemas_and_files_on_the_command_line(called: Cli, kept: Dsn, tmp_path: Path, name: str) -> None:
    FEW.write_parquet(tmp_path / f"{name}.parquet")
    golden_mldr().write_csv(tmp_path / f"{name}.csv")
    for arguments in (
        ("init",),
        ("load", f"{name}.parquet", "--mldr", f"{name}.csv"),
        ("run", "--report", f"report {name}", "--skipped", f"skipped {name}.csv"),
        ("dump", "--track-id", "1", "--out", f"track {name}.parquet"),
    ):
        result = called(*arguments, "--schema", name, env={"DATABASE_URL": kept.uri}, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert sql.rows(kept, f"SELECT count(*) FROM {quoted(name)}.{FORECAST_TABLE}") == [(48,)]
    assert pl.read_parquet(tmp_path / f"track {name}.parquet").height == 24
    written = {f"report {name}", f"skipped {name}.csv", f"track {name}.parquet"}
    assert {path.name for path in tmp_path.iterdir()} == written | {f"{name}.parquet", f"{name}.csv"}
    assert_kept(kept, [name])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "cannot be the name"),
        ("a" * 64, "63"),
        ("ä" * 32, "63"),
        ("\udcff", "locale"),
        ("pg_mine", "pg_"),
    ],
)
def test_schemas_that_cannot_be(called: Cli, kept: Dsn, name: str, said: str) -> None:
    result = called("init", "--schema", name, env={"DATABASE_URL": kept.uri})
    assert result.returncode == (1 if name == "pg_mine" else 4), result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    with pytest.raises(Exception, match=said if name != "pg_mine" else "is missing") as caught:
        run(Database(kept, name))
    assert type(caught.value).__name__ == "SchemaMismatchError"
    assert_kept(kept, [])
