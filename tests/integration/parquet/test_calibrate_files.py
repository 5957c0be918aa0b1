"""Calibrate on files: the record is that of the frames and of a database, however the files are cut."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster import calibrate as calibrate_frames
from forecaster.errors import BadFileError, CalibrationError
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.calibrated.rates import LENGTHS
from forecaster.parquet.calibrate import calibrate
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import TABLES_TO_PREPARE, prepare_files, prepare_tables
from forecaster.parquet.session import Files
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.calibrating import CALIBRATION, Calibrating
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import FORECAST_TABLE, INTERVALS, MLDR_TABLE
from tests import sql
from tests.calibrated_golden import CUTOFFS, assert_golden, golden_at
from tests.conftest import Cli
from tests.parquet import OF, forecast, in_sink, intervals_in_sink, with_ids, write_catalogue
from tests.tables import GOLDEN, golden_mldr, golden_streams, initialise

STREAMS = golden_streams().filter(pl.col("cm_track_id") <= 60)
D: date = STREAMS["date"].max()  # type: ignore[assignment]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalogue(tmp_path_factory.mktemp("source") / "catalogue", with_ids(STREAMS))


@pytest.fixture(scope="module")
def of_frames() -> Calibration:
    return calibrate_frames(with_ids(STREAMS).lazy(), golden_mldr().lazy())


def of_files(source: Path, *, buckets: int | None = None, **asked: object) -> Calibration:
    given = Calibrating(**asked)  # type: ignore[arg-type]
    return calibrate(find_catalogue(f"{source}"), given, Report(CALIBRATION), buckets=buckets)


@pytest.mark.parametrize(("buckets", "batch"), [(1, 1_000), (1, 7), (1, 1), (7, 1_000), (100, 1_000)])
def test_is_that_of_the_frames(
    source: Path, of_frames: Calibration, buckets: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forecaster.scoring.calibrating._AT_ONCE", batch)
    found = of_files(source, buckets=buckets)
    assert found.to_json() == of_frames.to_json()
    assert len(found.origins) > 10


def test_of_a_catalogue_that_is_laid_out(source: Path, of_frames: Calibration, tmp_path: Path) -> None:
    prepare_files(find_catalogue(f"{source}"), OF, tmp_path / "laid out")
    assert of_files(tmp_path / "laid out") == of_frames
    [file] = (tmp_path / "laid out" / "streams" / "bucket=2").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(BadFileError, match="bucket=2"):
        of_files(tmp_path / "laid out")


def with_older(mldr: pl.DataFrame) -> pl.DataFrame:
    """Each artist got its MLDR 100 days before the last day, and had another one since 300 days before."""
    dated = [
        mldr.select(
            "cm_artist_id", "mldr", created_at=pl.lit(D - timedelta(days)).cast(pl.Datetime("us", "UTC"))
        )
        for days in (300, 100)
    ]
    return pl.concat([dated[0].with_columns(pl.col("mldr") + 0.3), dated[1]])


def test_a_catalogue_that_is_laid_out_knows_when_mldrs_were_stored(
    embedded_database: Dsn, tmp_path: Path
) -> None:
    """Of files, and of a database; a run takes the newest."""
    mldr = with_older(golden_mldr())
    source = write_catalogue(tmp_path / "source", with_ids(STREAMS), mldr)
    found = of_files(source, origins=12, rows="shipped")
    prepare_files(find_catalogue(f"{source}"), OF, tmp_path / "files")
    initialise(embedded_database)
    load(embedded_database, "public", streams=STREAMS, mldr=golden_mldr())
    sql.run(embedded_database, f"UPDATE {MLDR_TABLE} SET created_at = '{D - timedelta(100)}'")
    sql.run(
        embedded_database,
        f"INSERT INTO {MLDR_TABLE} (cm_artist_id, mldr, created_at) "
        f"SELECT cm_artist_id, mldr + 0.3, '{D - timedelta(300)}' FROM {MLDR_TABLE}",
    )
    with open_source(embedded_database, "public", needed=TABLES_TO_PREPARE) as tables:
        prepare_tables(tables, OF, tmp_path / "tables")
    forecast(source, tmp_path / "sink")
    for name in ("files", "tables"):
        assert of_files(tmp_path / name, origins=12, rows="shipped") == found
        forecast(tmp_path / name, tmp_path / f"sink of {name}")
        assert_frame_equal(in_sink(tmp_path / f"sink of {name}"), in_sink(tmp_path / "sink"))
    # As a layout was made before: each artist's newest MLDR, of no known day.
    for number in range(OF):
        [file] = (tmp_path / "files" / "mldr" / f"bucket={number}").iterdir()
        rows = pl.read_parquet(file).sort("created_at").unique("cm_artist_id", keep="last")
        rows.select("cm_artist_id", "mldr").write_parquet(file)
    without = calibrate_frames(with_ids(STREAMS).lazy(), golden_mldr().lazy(), origins=12, rows="shipped")
    assert of_files(tmp_path / "files", origins=12, rows="shipped") == without != found


def test_later_days_have_no_influence(source: Path, tmp_path: Path) -> None:
    as_of = D - timedelta(40)
    is_later = pl.col("date") > as_of
    changed = with_ids(STREAMS).with_columns(
        daily_streams=pl.when(is_later).then(9 * pl.col("daily_streams") + 1).otherwise("daily_streams"),
        cm_artist_id=pl.when(is_later).then(1).otherwise("cm_artist_id"),
        days_from_release=pl.when(is_later).then(3).otherwise("days_from_release"),
    )
    other = write_catalogue(tmp_path / "other", changed)
    assert of_files(other, as_of=as_of).to_json() == of_files(source, as_of=as_of).to_json()


def test_without_a_record(source: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="there is no record up to 1999-01-01"):
        of_files(source, as_of=date(1999, 1, 1))
    with pytest.raises(
        CalibrationError, match=f"nothing is known of the week up to .*: the newest day is {D}"
    ):
        of_files(source, as_of=D + timedelta(2))
    empty = write_catalogue(tmp_path / "empty", with_ids(STREAMS).clear())
    for as_of in (None, D):
        with pytest.raises(CalibrationError, match=r"there is no record$"):
            of_files(empty, as_of=as_of)


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_golden_files(golden: Path, called: Cli, tmp_path: Path, cutoff: date) -> None:
    file, sink = tmp_path / "one.json", tmp_path / "sink"
    of_day = ("--source", f"{golden}", "--as-of", f"{cutoff - timedelta(1)}")
    made = called("calibrate", *of_day, "--rows", "shipped", "--export", f"{file}")
    assert made.returncode == 0, made.stderr
    one = Calibration.from_json(file.read_text("utf-8"))
    rates = pl.read_csv(GOLDEN / "calibrated_rates.csv").filter(pl.col("cutoff") == f"{cutoff}")
    assert len(rates) == 3 * len(LENGTHS)
    assert [rate for row in one.rates.rates for rate in row] == pytest.approx(rates["rate"], rel=1e-9)

    asked = ("--model", "calibrated", "--calibration", f"{file}", "--sink", f"{sink}")
    ended = called("run", *of_day, *asked)
    assert ended.returncode == 0, ended.stderr
    assert_golden(in_sink(sink), golden_at(cutoff))
    middle = intervals_in_sink(sink).select("cm_track_id", "q50").explode("q50")["q50"].cast(pl.Float64)
    values = golden_at(cutoff)["forecasted_value"].to_list()
    assert middle.to_list() == pytest.approx(values, rel=1e-7)  # real


def test_is_bit_for_bit_that_of_a_database(source: Path, embedded_database: Dsn, tmp_path: Path) -> None:
    initialise(embedded_database)
    load(embedded_database, "public", streams=STREAMS, mldr=golden_mldr())
    one, sink = of_files(source, rows="shipped"), tmp_path / "sink"
    for model in ("calibrated", "production"):
        config = RunConfig(model=model, calibration=one, replace=True)
        run(Database(embedded_database), config)
        run(Files(f"{source}", sink), config)
        for ours, table in ((in_sink(sink), FORECAST_TABLE), (intervals_in_sink(sink), INTERVALS.name)):
            order = ", ".join(name for name in ("cm_track_id", "month") if name in ours.columns)
            select = f"SELECT {', '.join(ours.columns)} FROM {table} ORDER BY {order}"
            theirs = pl.DataFrame(sql.rows(embedded_database, select), schema=ours.schema, orient="row")
            assert_frame_equal(theirs, ours, check_exact=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no file is given for the calibration"),
        (("--list",), "--source and --list contradict each other"),
        (("--import", "a.json"), "--source and --import contradict each other"),
        (("--export", "a.json", "--schema", "x"), "--source and --schema contradict each other"),
    ],
)
def test_options_that_contradict_each_other(
    called: Cli, source: Path, options: tuple[str, ...], message: str
) -> None:
    ended = called("calibrate", "--source", f"{source}", *options)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_shard_by_shard(source: Path, called: Cli, tmp_path: Path) -> None:
    file, sink = tmp_path / "one.json", tmp_path / "sink"
    made = called("calibrate", "--source", f"{source}", "--export", f"{file}")
    assert made.returncode == 0, made.stderr
    shown = called("calibrate", "--show", f"{file}")
    assert shown.stdout.splitlines()[0] == made.stdout.splitlines()[0]
    asked = ("--source", f"{source}", "--model", "calibrated", "--calibration", f"{file}")
    for k in range(2):
        done = called("shard", f"{k}/2", *asked, "--sink", f"{sink}")
        assert done.returncode == 0, done.stderr
    checked = called("shard", "--check", *asked, "--sink", f"{sink}")
    assert checked.returncode == 0, checked.stderr
    assert called("run", *asked, "--sink", f"{tmp_path / 'at once'}").returncode == 0
    assert in_sink(sink).equals(in_sink(tmp_path / "at once"))
    assert intervals_in_sink(sink).equals(intervals_in_sink(tmp_path / "at once"))
    other = called("shard", "--check", "--source", f"{source}", "--sink", f"{sink}")
    assert "made from other calibration, intervals, level, model, parameters, weight" in other.stdout
