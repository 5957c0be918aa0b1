"""Another source is a class of one's own: here SQLite in memory, of which the product knows nothing."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import polars as pl
from polars.testing import assert_frame_equal

from forecaster.frames.casting import Fitted
from forecaster.run.batch import Computed, Done, History, Work, done_of
from forecaster.run.config import RunConfig
from forecaster.run.forecast import fit_made, forecast, history_of
from forecaster.run.report import TRACKS, Report
from forecaster.run.session import Opened, run
from forecaster.run.stages import Stages
from tests.parquet import expected
from tests.tables import golden_mldr, golden_streams

STREAMS = "cm_track_id, cm_artist_id, date, daily_streams, days_from_release"
FORECASTS = ["cm_track_id", "month", "forecasted_value", "segment_used", "time_used", "cm_artist_id"]


@dataclass(frozen=True)
class Sqlite:
    """The place: it opens a session."""

    connection: sqlite3.Connection

    def session(self, config: RunConfig, report: Report, /) -> "SqliteSession":
        return SqliteSession(self.connection, config, report)


class SqliteSession:
    """Knows what is pending, joins source and sink, and counts."""

    was_reached = False

    def __init__(self, connection: sqlite3.Connection, config: RunConfig, report: Report) -> None:
        self.connection, self.config, self.report = connection, config, report
        report.begin(TRACKS)
        report.describe(config)

    @contextmanager
    def opened(self, *, repeats: bool) -> Iterator[Opened]:  # noqa: ARG002 - one process works here
        known = "SELECT cm_track_id FROM forecasts"
        sql = f"SELECT DISTINCT cm_track_id AS id FROM streams WHERE cm_track_id NOT IN ({known}) ORDER BY 1"
        todo = read(self.connection, sql)["id"].cast(pl.Int64)
        self.report.pending = len(todo)
        compute = partial(forecast, parameters=self.config.parameters)
        source, sink = SqliteCatalogue(self.connection), SqliteSink(self.connection, datetime.now(UTC))
        work = Work(source, compute, sink, self.report.stages, len)

        def cut(_places: int | None) -> Sequence[pl.Series]:
            return [todo.slice(start, 100) for start in range(0, len(todo), 100)]

        yield Opened(work, cut)

    def count(self, _batch: pl.Series, done: Done, /) -> None:
        self.report.add(done)

    def fail(self, _batch: pl.Series, error: Exception, /) -> None:
        raise error

    def finish(self) -> None:
        pass

    def remarks(self) -> Iterator[str]:
        yield "from SQLite"


@dataclass(frozen=True)
class SqliteCatalogue:
    """Reads a batch."""

    connection: sqlite3.Connection

    def read(self, track_ids: pl.Series, /) -> History:
        ids = ", ".join(map(str, track_ids))
        daily = read(self.connection, f"SELECT {STREAMS} FROM streams WHERE cm_track_id IN ({ids})")
        rows = daily.with_columns(pl.col("date").str.to_date(), pl.col("daily_streams").cast(pl.Float64))
        unnamed = rows.with_columns(id=pl.lit(None, pl.Int64), created_at=pl.lit(None, pl.Datetime("us")))
        return history_of(unnamed, read(self.connection, "SELECT cm_artist_id, mldr FROM rates").lazy())


@dataclass(frozen=True)
class SqliteSink:
    """Stores a batch."""

    connection: sqlite3.Connection
    created_at: datetime

    def fit(self, rows: pl.DataFrame, /) -> tuple[Fitted, dict[int, str]]:
        return fit_made(rows, self.created_at)

    def held(self, _track_ids: pl.Series, /) -> "AbstractContextManager[SqliteSink]":
        return nullcontext(self)

    def store(self, _track_ids: pl.Series, computed: Computed, stages: Stages, /) -> Done:
        with stages.stage("write"), self.connection:
            rows = computed.fitted.rows.select(FORECASTS).rows()
            self.connection.executemany("INSERT INTO forecasts VALUES (?, ?, ?, ?, ?, ?)", rows)
        return done_of(computed)


def read(connection: sqlite3.Connection, sql: str) -> pl.DataFrame:
    return pl.read_database(sql, connection, infer_schema_length=None)


def test_the_numbers_are_the_same() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE streams ({STREAMS})")
    connection.execute("CREATE TABLE rates (cm_artist_id, mldr)")
    connection.execute(f"CREATE TABLE forecasts ({', '.join(FORECASTS)})")
    rows = golden_streams().select(STREAMS.split(", ")).with_columns(pl.col("date").cast(pl.String))
    connection.executemany("INSERT INTO streams VALUES (?, ?, ?, ?, ?)", rows.iter_rows())
    rates = golden_mldr().select("cm_artist_id", "mldr")
    connection.executemany("INSERT INTO rates VALUES (?, ?)", rates.iter_rows())

    report = run(Sqlite(connection))

    assert (report.pending, report.results, report.warnings) == (250, 247, ["from SQLite"])
    stored = read(connection, "SELECT * FROM forecasts ORDER BY cm_track_id, month").cast(pl.Int64)
    assert_frame_equal(stored, expected().select(FORECASTS).cast(pl.Int64))
    assert run(Sqlite(connection)).pending == 3
    connection.close()
