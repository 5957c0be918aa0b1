"""Names are data: whatever a schema or a file is called, it is never read as SQL."""

from pathlib import Path

import polars as pl
import pytest

from forecaster.dsn import Dsn
from tests import sql
from tests.conftest import Cli
from tests.tables import golden_mldr, golden_streams

NAMES = [
    'we"ird',
    "it's",
    "two words",
    "semi;colon",
    "per%cent %s $1",
    "back\\slash",
    "Größe 音楽",
    "UPPER",
    '"; DROP SCHEMA public CASCADE; --',
    "select",
    "a" * 63,
]


@pytest.mark.parametrize("name", NAMES)
def test_schemas(cli: Cli, embedded_database: Dsn, tmp_path: Path, name: str) -> None:
    file = f"{name.replace('/', '_')[:40]}.parquet"
    golden_streams().filter(pl.col("cm_track_id") <= 3).write_parquet(tmp_path / file)
    golden_mldr().write_csv(tmp_path / "mldr.csv")
    sql.run(embedded_database, "CREATE TABLE public.kept ()")
    env = {"DATABASE_URL": embedded_database.uri}
    for arguments in (
        ("init",),
        ("load", file, "--mldr", "mldr.csv"),
        ("run", "--report", f"{file}.json", "--skipped", f"skipped {file}"),
        ("dump", "--track-id", "1", "--out", f"out {file}"),
    ):
        result = cli(*arguments, "--schema", name, env=env, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    table = '"{}".backtest_track_streams_forecast'.format(name.replace('"', '""'))
    assert sql.rows(embedded_database, f"SELECT count(*) FROM {table}") == [(72,)]
    for written in (f"{file}.json", f"skipped {file}", f"out {file}"):
        assert (tmp_path / written).stat().st_size > 0
    assert sql.rows(embedded_database, "SELECT count(*) FROM public.kept") == [(0,)]


@pytest.mark.parametrize(("name", "said"), [("", "cannot be the name"), ("a" * 64, "63")])
def test_schemas_that_cannot_be(cli: Cli, embedded_database: Dsn, name: str, said: str) -> None:
    for command in ("init", "run"):
        result = cli(command, "--schema", name, env={"DATABASE_URL": embedded_database.uri})
        assert result.returncode == 4, result.stderr
        assert said in result.stderr
        assert "Traceback" not in result.stderr
