"""The command line as a user meets it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import polars as pl
import pytest

from forecaster.cli import main
from forecaster.postgres.dsn import Dsn
from forecaster.process.numbers import short
from forecaster.tables import ALL_TABLES, QUANTILES
from tests import sql
from tests.conftest import Cli, ServerNamed, new_database
from tests.tables import GOLDEN, initialise

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with the golden catalogue as files for `load`."""
    pl.read_parquet(GOLDEN / "tracks.parquet").write_parquet(tmp_path / "streams.parquet")
    pl.read_parquet(GOLDEN / "mldr.parquet").write_csv(tmp_path / "mldr.csv")
    return tmp_path


@pytest.fixture(scope="module")
def initialised(server_named: ServerNamed) -> Iterator[Dsn]:
    """With nothing in it, for what changes nothing."""
    with new_database(server_named("embedded")) as dsn:
        initialise(dsn)
        yield dsn


@pytest.fixture
def data_dir(short_dir: Path) -> Path:
    return short_dir / "server"


def test_init_load_run_dump(cli: Cli, database: Dsn, files: Path) -> None:
    where = ("--database-url", database.uri)
    for created in (True, False):
        result = cli("init", *where)
        assert result.returncode == 0, result.stderr
        printed, _, last = result.stdout.removesuffix("\n").rpartition("\n")
        assert re.fullmatch(
            rf"created={len(ALL_TABLES) if created else 0} warnings=0 seconds=\d+\.\d\d", last
        )
        assert printed == (
            "\n".join(f"created {table}" for table in ALL_TABLES)
            if created
            else "nothing to create: all tables exist"
        )

    result = cli("load", "streams.parquet", "--mldr", "mldr.csv", *where, cwd=files)
    assert result.returncode == 0, result.stderr
    rows = pl.read_parquet(files / "streams.parquet").height
    assert re.search(rf"^daily rows loaded +{rows:,}$", result.stdout, re.MULTILINE)

    result = cli("run", "--age-from", "first-date", *where)
    assert result.returncode == 0, result.stderr
    for line in (
        r"tracks pending +250",
        r"forecast +247",
        r"skipped +3 \(no_mldr 3\)",
        r"rows written +5,928",
        r"daily rows left out +0 unusable, 0 duplicate",
        r"seconds +\d+\.\d\d \(connect .*, read .*, features .*, fit .*, projection .*, write .*\)",
        r"tracks per second +[\d,]+",
    ):
        assert re.search(f"^{line}$", result.stdout, re.MULTILINE), result.stdout

    track = sql.rows(database, "SELECT min(cm_track_id) FROM backtest_track_streams_forecast")[0][0]
    for name in ("one.parquet", "one.csv"):
        result = cli(
            "dump", "--track-id", str(track), "--age-from", "first-date", "--out", name, *where, cwd=files
        )
        assert result.returncode == 0, result.stderr
    assert "written to one.csv\n" in result.stdout
    dumped = pl.read_parquet(files / "one.parquet").drop(QUANTILES)
    stored = sql.rows(
        database,
        f"SELECT {', '.join(dumped.columns)} FROM backtest_track_streams_forecast "
        "WHERE cm_track_id = $1 ORDER BY month",
        track,
    )
    assert dumped.rows() == stored
    assert pl.read_csv(files / "one.csv").drop(QUANTILES).rows() == stored


def test_dump_chooses_the_first_pending_track_that_can_be_forecast(
    called: Cli, embedded_database: Dsn, files: Path
) -> None:
    where = ("--database-url", embedded_database.uri)
    initialise(embedded_database)
    called("load", "streams.parquet", "--mldr", "mldr.csv", *where, cwd=files)
    sql.run(
        embedded_database,
        "DELETE FROM backtest_artist_mldr WHERE cm_artist_id IN (SELECT cm_artist_id "
        "FROM backtest_track_daily_training_data WHERE cm_track_id <= 2)",
    )
    result = called("dump", *where, cwd=files)
    assert result.returncode == 0, result.stderr
    [path] = files.glob("track_*_forecast.csv")
    chosen = int(path.name.split("_")[1])
    assert chosen > 2
    assert f"track {chosen} of artist" in result.stdout
    assert pl.read_csv(path)["cm_track_id"].unique().to_list() == [chosen]
    assert sql.rows(embedded_database, "SELECT count(*) FROM backtest_track_streams_forecast") == [(0,)]
    # The reason for which the first ones were passed over.
    result = called("dump", "--track-id", "1", *where, cwd=files)
    assert (result.returncode, result.stdout) == (1, "")
    assert "track 1 gets no forecast (no_mldr): its artist has no MLDR" in result.stderr
    result = called("dump", "--track-id", "987654", *where, cwd=files)
    assert result.returncode == 1
    assert "track 987654 is unknown" in result.stderr
    called("run", *where)
    sql.run(embedded_database, "DELETE FROM backtest_track_daily_training_data WHERE cm_track_id <= 2")
    result = called("dump", *where, cwd=files)
    assert result.returncode == 1
    assert "give --track-id to show any track" in result.stderr


def test_dump_shows_every_number_that_a_check_by_hand_needs(
    called: Cli, embedded_database: Dsn, files: Path
) -> None:
    where = ("--database-url", embedded_database.uri)
    initialise(embedded_database)
    called("load", "streams.parquet", "--mldr", "mldr.csv", *where, cwd=files)
    result = called("dump", "--track-id", "1", "--age-from", "first-date", *where, cwd=files)
    # The production system's own numbers for this track.
    truth = pl.read_parquet(GOLDEN / "track_metrics.parquet").filter(cm_track_id=1).row(0, named=True)
    shown = dict(re.findall(r"^  (\S.*?\S) {2,}(\S.*)$", result.stdout, re.MULTILINE))
    m = truth["months_since_release"]
    assert int(shown["months since release"]) == m
    assert shown["streams, last 30 records"] == f"{truth['streams_30']:,.0f}"
    assert shown["streams, last 90 records"] == f"{truth['streams_90']:,.0f}"
    assert shown["streams, last 365 records"] == f"{truth['streams_365']:,.0f}"
    assert shown["x (months)"] == f"{m - 11}, {m - 2}, {m}"
    assert shown["y (streams per 30 days)"] == (
        f"{truth['y_4to12']:,.2f}, {truth['y_2to3']:,.2f}, {truth['streams_30']:,.2f}"
    )
    assert float(shown["k, the track's own decay"].split()[0]) == pytest.approx(truth["k"], rel=1e-5)
    k, h = (
        float(shown[name].split()[0]) for name in ("k, the track's own decay", "h, mean of 1 / base rate")
    )
    excess = truth["mldr"] * h - 1
    factor = 1 + excess * min(excess, 1) if excess > 0 else 1
    assert float(shown["artist factor"]) == pytest.approx(factor, rel=1e-8)
    multiplier = float(shown["multiplier"])
    assert multiplier == pytest.approx(max(factor, k * h), rel=1e-8)
    segments = re.findall(r"^ +(\d+) +(\d+) +(\d+) +(0\.\d{6}) +(\d+\.\d{6})$", result.stdout, re.MULTILINE)
    assert [int(s[0]) for s in segments] == list(range(1, 13))
    assert [int(s[1]) for s in segments] == [1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 36, 48]
    assert [int(s[2]) for s in segments] == [1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 35, 47]
    for _, _, _, base, rate in segments:
        assert float(rate) == pytest.approx(float(base) * multiplier, rel=1e-4)
    values = pl.read_csv(files / "track_1_forecast.csv")["forecasted_value"]
    assert f"24 months: {short(float(values.sum()))} streams, 80 % range " in result.stdout
    assert f"streams={values.sum()} seconds=" in result.stdout
    assert re.search(
        rf"^ +1 +{values[0]:,} +[\d.]+ to [\d.]+(?: [kMB])? +\d+ +{m}$", result.stdout, re.MULTILINE
    )
    day, training_id = sql.rows(
        embedded_database,
        "SELECT max(date), (array_agg(id ORDER BY date))[1] FROM backtest_track_daily_training_data "
        "WHERE cm_track_id = 1",
    )[0]
    assert (shown["as of"], shown["training data id"]) == (str(day), str(training_id))


def test_the_database_is_said_on_stderr_without_its_password(called: Cli, embedded_database: Dsn) -> None:
    initialise(embedded_database)
    url = embedded_database.uri.replace("postgres@", "postgres:s3cr%40t@", 1)
    for arguments, environment in ((("--database-url", url), {}), ((), {"DATABASE_URL": url})):
        result = called("run", *arguments, env=environment)
        assert result.returncode == 0, result.stderr
        assert re.match(r"database: postgresql://postgres:\*\*\*@.*\n", result.stderr)
        assert "s3cr" not in result.stdout + result.stderr
    variables = {
        "PGHOST": embedded_database.host,
        "PGUSER": embedded_database.user,
        "PGDATABASE": embedded_database.dbname,
    }
    result = called("run", env=variables)
    assert result.returncode == 0, result.stderr
    assert embedded_database.dbname in result.stderr
    # What is named more closely goes first.
    result = called("run", "--database-url", url, env={**variables, "PGDATABASE": "elsewhere"})
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "--horizon", "0"), 2, "horizon"),
        (("run", "--horizon", "401"), 2, "horizon"),
        (("run", "--as-of", "31.12.2024"), 2, "as-of"),
        (("run", "--influence", "nan"), 2, "influence"),
        (("run", "--influence", "-1"), 2, "influence"),
        (("run", "--limit", "0"), 2, "limit"),
        (("run", "--track-id", "1.5"), 2, "track-id"),
        (("run", "--track-id", str(2**63)), 2, "is not in the range"),
        (("dump", "--track-id", str(2**63)), 2, "is not in the range"),
        (("load",), 2, "nothing to load"),
        (("nonsense",), 2, "nonsense"),
        (("run", "--database-url", "mysql://x/y"), 2, "postgresql://"),
        (("run", "--database-url", "postgresql://x:pw@localhost:1/x"), 3, "Connection refused"),
        (("init", "--database-url", "postgresql://x:pw@localhost:1/x"), 3, "Connection refused"),
        (("run", "--schema", "nowhere"), 4, "the table is missing"),
        (("load", "missing.csv"), 1, "missing.csv"),
    ],
)
def test_exit_codes(called: Cli, initialised: Dsn, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = called(*arguments, env={"DATABASE_URL": initialised.uri})
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert ":pw@" not in result.stderr
    assert result.stdout == ""


def test_nothing_is_written_to_a_file_that_cannot_be(called: Cli, initialised: Dsn, tmp_path: Path) -> None:
    for out in ("forecast.xlsx", "no/such/directory/forecast.csv"):
        result = called("dump", "--out", out, env={"DATABASE_URL": initialised.uri}, cwd=tmp_path)
        assert result.returncode in (1, 2)
        assert out.rpartition("/")[2] in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_demo_twice(called: Cli, data_dir: Path, tmp_path: Path) -> None:
    arguments = ("demo", "--data-dir", str(data_dir))
    first = called(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "daily rows and" in first.stdout
    assert re.search(r"^forecast +[1-9]\d\d$", first.stdout, re.MULTILINE)
    assert "Next:" in first.stdout
    [dumped] = tmp_path.iterdir()
    content = dumped.read_bytes()

    again = called(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "already loaded" in again.stdout
    assert re.search(r"^rows written +0$", again.stdout, re.MULTILINE)
    assert dumped.read_bytes() == content

    other = called(*arguments, "--tracks", "20", cwd=tmp_path)
    assert other.returncode == 0, other.stderr
    assert re.search(r"^tracks pending +20$", other.stdout, re.MULTILINE)

    # What it tells the user to try next.
    commands = re.findall(r"^  forecaster (.+)$", other.stdout.partition("Next:")[2], re.MULTILINE)
    assert len(commands) == 7
    for command in commands[:5]:
        result = called(*command.split(), cwd=tmp_path)
        assert result.returncode == 0, result.stderr


def test_the_embedded_server_is_what_is_used_without_configuration(called: Cli, data_dir: Path) -> None:
    result = called("init", "--data-dir", str(data_dir))
    assert result.returncode == 0, result.stderr
    assert result.stderr == f"database: embedded server in {data_dir}\n"
    assert called("run", "--data-dir", str(data_dir)).returncode == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real track is not part of the project")
def test_the_real_track(called: Cli, database: Dsn, tmp_path: Path) -> None:
    where = ("--database-url", database.uri)
    initialise(database)
    export = SHARED / "track_stream_thyme_free_as_a_bird.csv"
    (tmp_path / "mldr.csv").write_text("cm_artist_id,mldr\n77,-0.0058586831\n")
    ids = ("--track-id", "60300793", "--artist-id", "77")
    result = called("load", str(export), *ids, "--mldr", "mldr.csv", *where, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    days, total = sql.rows(
        database, "SELECT count(*), sum(daily_streams)::bigint FROM backtest_track_daily_training_data"
    )[0]
    values = pl.read_csv(export)["Value"]
    assert days == len(values) == 1303
    # It is exported from its release day on, so everything so far is the sum of its days.
    assert total == values.max()

    result = called("run", *where)
    assert re.search(r"^forecast +1$", result.stdout, re.MULTILINE), result.stdout + result.stderr
    result = called("dump", "--track-id", "60300793", *where, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    dumped = pl.read_csv(tmp_path / "track_60300793_forecast.csv")
    stored = sql.rows(
        database, "SELECT month, forecasted_value FROM backtest_track_streams_forecast ORDER BY 1"
    )
    assert dumped.select("month", "forecasted_value").rows() == stored
    assert len(stored) == 24
    assert "months since release       43" in result.stdout


def commands() -> list[str]:
    return sorted(main.commands)


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_that_ends_in_an_example(name: str) -> None:
    command = main.commands[name]
    assert command.help
    lines = click.Context(command, info_name=f"forecaster {name}").get_help().splitlines()
    assert any("forecaster " + name in line for line in lines[1:])
    assert all(len(line) <= 100 for line in lines)
    assert all(option.help for option in command.params if isinstance(option, click.Option))


def test_the_console_script_is_the_same_program(cli: Cli) -> None:
    # Beside the interpreter that runs the tests: its environment need not be activated.
    script = Path(sys.executable).with_name("forecaster")
    for arguments in (["--version"], ["--help"], ["run", "--horizon", "0"]):
        printed = subprocess.run([script, *arguments], capture_output=True, text=True, check=False)
        module = cli(*arguments)
        assert (printed.returncode, printed.stdout) == (module.returncode, module.stdout)
        assert printed.stderr == module.stderr
