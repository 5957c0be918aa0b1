"""Nothing after the as-of day has any influence, to the last bit: from frames, a database and files."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from forecaster import build_forecasts
from forecaster import calibrate as of_frames
from forecaster.model.calibrated.calibration import Calibration, Choice
from forecaster.model.calibrated.forecast import Model
from forecaster.model.parameters import Parameters
from forecaster.parquet.calibrate import calibrate as of_files
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.session import Files
from forecaster.postgres.calibrate import calibrate as of_tables
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.calibrating import CALIBRATION, Calibrating
from forecaster.run.config import RunConfig
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import INTERVALS, MLDR_TABLE, STREAMS_TABLE
from tests import sql
from tests.forecasts import stored
from tests.parquet import in_sink, intervals_in_sink, with_ids, write_catalogue
from tests.tables import DROP_DAY_KEY, golden_mldr, golden_streams, initialise, made_once

STREAMS = with_ids(golden_streams().filter(pl.col("cm_track_id") <= 15))
AS_OF: date = STREAMS["date"].max() - timedelta(75)  # type: ignore[assignment, operator]
ASKED = Calibrating(AS_OF, origins=4)
CALIBRATED = RunConfig(model="calibrated", parameters=Parameters(as_of=AS_OF), replace=True)

IS_LATER = pl.col("date") > AS_OF
OF_NEW_TRACK = STREAMS.filter(IS_LATER, cm_track_id=1).with_columns(
    cm_track_id=pl.lit(99, pl.Int64), id=pl.col("id") + 10**6
)


def later(**values: pl.Expr) -> pl.DataFrame:
    """The catalogue with other values after the as-of day."""
    changed = {name: pl.when(IS_LATER).then(value).otherwise(name) for name, value in values.items()}
    return STREAMS.with_columns(**changed)


STREAMS_ON = pl.col("daily_streams")
CHANGED: dict[str, pl.DataFrame] = {
    "gone": STREAMS.filter(~IS_LATER),
    "other streams": later(daily_streams=9 * STREAMS_ON + 1),
    "negative": later(daily_streams=-STREAMS_ON - 1),
    "huge": later(daily_streams=pl.lit(2**62)),
    "NULL": later(daily_streams=pl.lit(None)),
    "of other artists": later(cm_artist_id=pl.col("cm_artist_id") + 1),
    "of another release": later(days_from_release=pl.lit(3)),
    "of unknown release": later(days_from_release=pl.lit(None)),
    "far in the future": STREAMS.with_columns(
        date=pl.when(IS_LATER).then(pl.col("date") + timedelta(9_000)).otherwise("date")
    ),
    "of a new track": pl.concat([STREAMS, OF_NEW_TRACK]),
}


def later_rates() -> pl.DataFrame:
    """Also an MLDR of each artist that was stored on the day after."""
    now = golden_mldr().select("cm_artist_id", "mldr")
    known = now.with_columns(created_at=pl.lit(AS_OF - timedelta(300)).cast(pl.Datetime("us", "UTC")))
    after = (pl.col("created_at") + timedelta(301)).cast(pl.Datetime("us", "UTC"))
    return pl.concat([known, known.with_columns(created_at=after, mldr=0.9 - pl.col("mldr"))])


def known_rates() -> pl.DataFrame:
    return later_rates().head(len(golden_mldr()))


def with_calibration(one: Calibration) -> RunConfig:
    return replace(CALIBRATED, calibration=one)


def blend(one: Calibration) -> RunConfig:
    """A run that makes the mean of both models, for which MLDRs count."""
    chosen = replace(one, choice=Choice(0.5, 7, is_measured=False))
    return replace(CALIBRATED, model="auto", calibration=chosen)


@pytest.mark.parametrize("how", CHANGED)
def test_in_frames(how: str) -> None:
    def made(streams: pl.DataFrame, mldr: pl.DataFrame) -> tuple[str, pl.DataFrame]:
        one = of_frames(streams.lazy(), mldr.lazy(), as_of=AS_OF, origins=ASKED.origins)
        built = [
            build_forecasts(streams.lazy(), mldr.lazy(), model=model, as_of=AS_OF)
            for model in (one, Model(one, weight=0.5))
        ]
        return one.to_json(), pl.concat(each.forecasts.collect() for each in built)

    record, forecasts = made(STREAMS, known_rates())
    changed_record, changed_forecasts = made(CHANGED[how], later_rates())
    assert changed_record == record
    assert changed_forecasts.filter(pl.col("cm_track_id") != 99).equals(forecasts)
    assert len(forecasts) >= 2 * 24 * 10


@pytest.fixture
def catalogue(embedded_database: Dsn) -> Dsn:
    def make(new: Dsn) -> None:
        initialise(new)
        load(new, "public", streams=STREAMS.drop("id"), mldr=golden_mldr())
        sql.run(new, f"UPDATE {MLDR_TABLE} SET created_at = '{AS_OF - timedelta(300)}'")

    made_once(embedded_database, "fifteen_tracks", make)
    return embedded_database


WORST = f"""
    UPDATE {STREAMS_TABLE} SET daily_streams = -7 * daily_streams - 1, days_from_release = 3,
        cm_artist_id = cm_artist_id + 1 WHERE date > '{AS_OF}';
    DELETE FROM {STREAMS_TABLE} WHERE date > '{AS_OF + timedelta(40)}' AND cm_track_id % 2 = 0;
    INSERT INTO {MLDR_TABLE} (cm_artist_id, mldr, created_at)
        SELECT cm_artist_id, 0.9 - mldr, '{AS_OF + timedelta(1)}' FROM {MLDR_TABLE};
    INSERT INTO {STREAMS_TABLE} (cm_track_id, cm_artist_id, date, daily_streams, days_from_release)
        SELECT 99, 1, date '{AS_OF}' + n, 10 * n, n FROM generate_series(1, 70) n"""
"""Other streams, artists, releases and rates, missing days, and a new track, all after the as-of day."""


@pytest.mark.parametrize("key", [True, False])
def test_in_tables(catalogue: Dsn, *, key: bool) -> None:
    if not key:
        sql.run(catalogue, DROP_DAY_KEY)

    def made() -> tuple[str, pl.DataFrame, list[tuple[object, ...]]]:
        one, _ = of_tables(catalogue, "public", ASKED, Report(CALIBRATION))
        run(Database(catalogue), CALIBRATED)
        bounds = sql.rows(
            catalogue,
            f"SELECT cm_track_id, calibration, q025::text, q90::text FROM {INTERVALS.name} ORDER BY 1",
        )
        return one.to_json(), stored(catalogue), bounds

    record, forecasts, bounds = made()
    for statement in WORST.split(";"):
        sql.run(catalogue, statement)
    changed_record, changed_forecasts, changed_bounds = made()
    assert changed_record == record
    assert changed_forecasts.equals(forecasts)
    assert changed_bounds == bounds
    assert len(bounds) >= 10


def test_a_blend_in_tables(catalogue: Dsn) -> None:
    one, _ = of_tables(catalogue, "public", ASKED, Report(CALIBRATION))
    run(Database(catalogue), blend(one))
    forecasts = stored(catalogue)
    for statement in WORST.split(";"):
        sql.run(catalogue, statement)
    refreshed = run(Database(catalogue), replace(blend(one), replace=False, refresh=True))
    assert refreshed.stale is not None
    assert refreshed.stale["new_mldr"] == 0
    run(Database(catalogue), blend(one))
    assert stored(catalogue).equals(forecasts)
    # An MLDR of no known day is not later.
    sql.run(catalogue, f"ALTER TABLE {MLDR_TABLE} ALTER created_at DROP NOT NULL")
    sql.run(catalogue, f"UPDATE {MLDR_TABLE} SET created_at = NULL, mldr = 0.7")
    run(Database(catalogue), blend(one))
    assert not stored(catalogue).equals(forecasts)


@pytest.mark.parametrize("how", [with_calibration, blend])
def test_in_files(tmp_path: Path, how: Callable[[Calibration], RunConfig]) -> None:
    def made(name: str, streams: pl.DataFrame, mldr: pl.DataFrame) -> tuple[str, pl.DataFrame, pl.DataFrame]:
        source, sink = write_catalogue(tmp_path / name, streams, mldr), tmp_path / f"{name} sink"
        one = of_files(find_catalogue(f"{source}"), ASKED, Report(CALIBRATION), buckets=2)
        run(Files(f"{source}", sink, buckets=2), how(one))
        return one.to_json(), in_sink(sink), intervals_in_sink(sink)

    worst = pl.concat([CHANGED["of other artists"].filter(~IS_LATER), CHANGED["negative"].filter(IS_LATER)])
    worst = worst.filter(~((pl.col("date") > AS_OF + timedelta(40)) & (pl.col("cm_track_id") % 2 == 0)))
    record, forecasts, bounds = made("before", STREAMS, known_rates())
    changed = made("after", pl.concat([worst, OF_NEW_TRACK]), later_rates())
    assert changed[0] == record
    assert changed[1].equals(forecasts)
    assert changed[2].equals(bounds)
    assert len(bounds) >= 10
