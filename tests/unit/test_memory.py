"""A run on a catalogue in memory: what is said of every place, without a server or a file."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import ConnectionLostError, InvalidOptionError, NoForecastError, WriteRefusedError
from forecaster.model.parameters import Parameters
from forecaster.run import retry
from forecaster.run.batch import Computed, Done, History, Work
from forecaster.run.config import RunConfig
from forecaster.run.engines.dask import Dask
from forecaster.run.engines.local import Local
from forecaster.run.memory import Memory, MemoryCatalogue, MemorySink
from forecaster.run.report import Report
from forecaster.run.session import run
from forecaster.run.stages import Stages
from tests.parquet import expected, with_ids
from tests.tables import golden_mldr, golden_streams

TRACKS = 60
KEYS = ["cm_track_id", "month"]


@pytest.fixture(scope="module")
def streams() -> pl.DataFrame:
    return with_ids(golden_streams()).filter(pl.col("cm_track_id") <= TRACKS)


@pytest.fixture
def memory(streams: pl.DataFrame) -> Memory:
    return Memory(streams, golden_mldr(), batch=7)


def rows(memory: Memory) -> pl.DataFrame:
    """What is stored, without the instant."""
    return memory.forecasts.drop("created_at")


def of_model() -> pl.DataFrame:
    return expected().filter(pl.col("cm_track_id") <= TRACKS).sort(KEYS)


class Fails:
    """Has the reads or the writes of a run fail: at the first attempt, in the batch of that number."""

    def __init__(self, patch: pytest.MonkeyPatch, error: Exception, *, read: int = 0, write: int = 0) -> None:
        self.reads = self.writes = 0
        read_on, store_on = MemoryCatalogue.read, MemorySink.store

        def reading(catalogue: MemoryCatalogue, track_ids: pl.Series) -> History:
            self.reads += 1
            if self.reads == read:
                raise error
            return read_on(catalogue, track_ids)

        def storing(sink: MemorySink, track_ids: pl.Series, computed: Computed, stages: Stages) -> Done:
            self.writes += 1
            if self.writes == write:
                raise error
            return store_on(sink, track_ids, computed, stages)

        patch.setattr(MemoryCatalogue, "read", reading)
        patch.setattr(MemorySink, "store", storing)
        patch.setattr(retry, "_PAUSES", (0.0,) * 3)


@pytest.mark.parametrize("batch", [1, 7, TRACKS - 1, TRACKS, 1_000])
def test_the_size_of_a_batch_cannot_be_seen_in_the_result(streams: pl.DataFrame, batch: int) -> None:
    memory = Memory(streams.filter(pl.col("cm_track_id") <= 20), golden_mldr(), batch=batch)
    report = run(memory)
    assert_frame_equal(
        rows(memory).select(of_model().columns), of_model().filter(pl.col("cm_track_id") <= 20)
    )
    assert report.results + len(report.skipped) == report.pending == 20
    assert report.rows == report.results * 24 == len(memory.forecasts)


def test_the_order_and_the_seconds_of_the_stages(memory: Memory) -> None:
    report = run(memory)
    assert list(report.stages.seconds) == ["read", "features", "fit", "projection", "write"]
    assert {*report.stages.done.values()} <= {TRACKS, report.results + len(report.skipped)}
    assert report.seconds > 0


def test_what_has_a_forecast_is_not_pending_until_it_is_replaced(memory: Memory) -> None:
    first = run(memory)
    stored = memory.forecasts
    again = run(memory)
    assert (again.pending, again.results) == (len(first.skipped), 0)
    assert memory.forecasts.equals(stored)
    replaced = run(memory, RunConfig(replace=True, parameters=Parameters(horizon=3)))
    assert replaced.results == first.results
    assert len(memory.forecasts) == first.results * 3


def test_only_some(memory: Memory) -> None:
    assert run(memory, RunConfig(ids=(3, 5))).pending == 2
    assert run(memory, RunConfig(limit=4)).pending == 4
    assert set(memory.forecast_tracks()) <= {1, 2, 3, 4, 5, 6}
    with pytest.raises(NoForecastError, match="no streams of these tracks: 99999"):
        run(memory, RunConfig(ids=(3, 99_999)))


def test_a_dry_run_stores_nothing(memory: Memory) -> None:
    report = run(memory, RunConfig(dry_run=True))
    assert report.results > 0
    assert (report.rows, len(memory.forecasts)) == (0, 0)
    assert "write" not in report.stages.seconds


def test_what_is_left_out_is_counted_over_all_batches(streams: pl.DataFrame) -> None:
    last = streams.filter(pl.col("date") == pl.col("date").max().over("cm_track_id"))
    unusable = last.head(3).with_columns(daily_streams=None, date=pl.lit(date(1999, 1, 1)))
    nobody = last.head(2).with_columns(cm_track_id=pl.lit(None, pl.Int64))
    twice = last.tail(4).with_columns(pl.col("id") + 10_000_000)
    memory = Memory(pl.concat([streams, unusable, nobody, twice]), golden_mldr(), batch=9)
    report = run(memory)
    assert (report.unusable_rows, report.duplicate_rows) == (5, 4)
    assert report.pending == TRACKS


def test_tracks_that_look_ahead_are_said(memory: Memory, streams: pl.DataFrame) -> None:
    as_of = streams["date"].max()
    assert isinstance(as_of, date)
    report = run(memory, RunConfig(parameters=Parameters(as_of=as_of - timedelta(days=1))))
    assert report.looking_ahead > 0
    assert any("after --as-of" in warning for warning in report.warnings)


def test_a_value_that_no_table_holds_is_refused_alone(streams: pl.DataFrame) -> None:
    huge = pl.when(pl.col("cm_track_id") == 1).then(1e300).otherwise("daily_streams")
    memory = Memory(streams.with_columns(daily_streams=huge), golden_mldr())
    report = run(memory)
    assert report.refused == {1: "forecasted_value: a value that does not fit bigint"}
    assert 1 not in memory.forecast_tracks()
    assert report.results + len(report.skipped) + len(report.refused) == report.pending


def test_a_lost_read_is_made_again_and_what_is_done_stays_done(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = Fails(monkeypatch, ConnectionLostError("the read was lost"), read=4)
    report = run(memory)
    assert fails.reads > -(-TRACKS // 7)
    assert sum("the read was lost" in warning for warning in report.warnings) == 1
    assert report.skipped["cm_track_id"].is_unique().all()
    assert report.results + len(report.skipped) == report.pending == TRACKS
    assert_frame_equal(rows(memory).select(of_model().columns), of_model())


def test_a_failed_write_is_not_made_again(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored before it stays, and is in the report."""
    Fails(monkeypatch, WriteRefusedError("no"), write=3)
    report = Report()
    with pytest.raises(WriteRefusedError, match="no"):
        run(memory, report=report)
    assert report.results == len(memory.forecast_tracks()) > 0
    assert report.results + len(report.skipped) <= 3 * 7


def test_the_error_of_the_write_counts_where_a_read_fails_as_well(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = Fails(monkeypatch, WriteRefusedError("the write"), write=1)
    read_on = MemoryCatalogue.read

    def reading(catalogue: MemoryCatalogue, track_ids: pl.Series) -> History:
        if fails.reads == 2:
            raise ConnectionLostError("the read")
        return read_on(catalogue, track_ids)

    monkeypatch.setattr(MemoryCatalogue, "read", reading)
    with pytest.raises(WriteRefusedError, match="the write"):
        run(memory)
    assert 1 not in memory.forecast_tracks()


class Backwards(Local):
    """An engine of one's own: the batches in another order, one of which fails."""

    def __call__(
        self, work: Work[Any, Any], batches: Sequence[Any], /
    ) -> Iterator[tuple[Any, Done | Exception]]:
        for batch in reversed(batches):
            yield batch, work(batch)


def test_another_engine_gives_the_same(memory: Memory) -> None:
    report = run(memory, engine=Backwards())
    assert_frame_equal(rows(memory).select(of_model().columns), of_model())
    assert report.results + len(report.skipped) == TRACKS


def test_it_is_in_this_process_only(memory: Memory) -> None:
    with Dask() as engine, pytest.raises(InvalidOptionError, match="in this process only"):
        run(memory, engine=engine)


def test_an_empty_catalogue(streams: pl.DataFrame) -> None:
    report = run(Memory(streams.clear(), golden_mldr()))
    assert (report.pending, report.results, report.rows) == (0, 0, 0)
