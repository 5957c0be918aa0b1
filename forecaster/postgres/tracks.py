"""Forecasts of tracks in a database: find what is pending, read a batch, and store it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import polars as pl

from forecaster.errors import (
    ConnectionLostError,
    SchemaMismatchError,
    StalledError,
    WriteRefusedError,
)
from forecaster.frames.casting import Fitted
from forecaster.frames.collecting import collect
from forecaster.model.features import looks_ahead
from forecaster.postgres import freshness
from forecaster.postgres.catalogue import Source
from forecaster.postgres.connection import (
    Connection,
    commit,
    connect,
    not_again,
    roll_back,
    statement_errors,
)
from forecaster.postgres.dsn import Dsn, with_own_password
from forecaster.postgres.early import Early
from forecaster.postgres.forecasts import store_forecasts
from forecaster.postgres.readers import CONNECTIONS
from forecaster.postgres.rights import warnings_of_hidden_rows
from forecaster.postgres.rows import fit_or_refuse, uuid_bytes
from forecaster.postgres.runs import history_rows, kept_tracks
from forecaster.postgres.session import DatabaseSession, Pending, Shared
from forecaster.postgres.stored import describe_irregular, has_key, missing_key, stored_at
from forecaster.postgres.tables import Tables
from forecaster.postgres.uncalibrated import takes_no_calibration, uncalibrated
from forecaster.process.signals import Cancel, both
from forecaster.run.batch import Computed, Done, History, Work, done_of
from forecaster.run.forecast import forecast, import_the_rest
from forecaster.run.made_with import MadeWith
from forecaster.run.observe import by_end, observed
from forecaster.run.report import TRACKS
from forecaster.run.selection import limited, named
from forecaster.tables import FORECAST_TABLE, INTERVALS, TO_FORECAST

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from forecaster.run.config import RunConfig
    from forecaster.run.report import Report
    from forecaster.run.stages import Stages

BATCH = 1_250
"""Tracks per batch, which is one transaction; several times as many where few batches are quicker.

Memory holds at most four batches: read, computed, waiting, stored.
"""

CONNECTIONS_AT_ONCE = 48
"""Limit for all workers together. PostgreSQL accepts 100 by default."""

# Factors on the size of a batch. The first: each read scans the whole table, or one batch is all of a run
# from afar. The second: a run from afar has more, several of them in memory. The third: each batch connects.
_IN_FEW, _FROM_AFAR, _IN_WORKER = 8, 4, 2
_PER_PLACE = 4  # least number of batches, so that no worker is idle for long while the last one ends
_PER_BATCH = CONNECTIONS + 1  # several connections read a batch, and one stores it


@dataclass(frozen=True)
class Database:
    """The tables of a schema, as the place of a run that forecasts tracks."""

    dsn: Dsn
    schema: str = "public"
    early: Early | None = None
    """A connection to it that is already being opened, for the first session."""

    def session(self, config: "RunConfig", report: "Report", /) -> DatabaseSession:
        """Begin a run in these tables."""
        report.describe(config)
        import_the_rest()
        return DatabaseSession(self.dsn, self.schema, Forecasts(), config, report, self.early)


@dataclass
class Forecasts:
    """The task of forecasting every pending track."""

    made_with: MadeWith | None = None
    """What the forecasts are made with; None before the first attempt."""

    subject: ClassVar = TRACKS
    tables: ClassVar = TO_FORECAST
    target: ClassVar = FORECAST_TABLE
    leaves_history: ClassVar = True

    def check(self, tables: Tables, /, *, repeats: bool, dry_run: bool) -> None:
        """Raise `SchemaMismatchError` for tables that do not fit."""
        tables.check(*TO_FORECAST)
        if repeats and not dry_run and not has_key(tables):
            raise SchemaMismatchError(
                "the table of the forecasts has no unique key on (cm_track_id, month), which --engine dask "
                "needs, because it may process a batch twice",
                hint="create it with `forecaster init` if the data allows it, or run without --engine dask",
            )

    def prepare(self, source: Source, config: "RunConfig", report: "Report", /) -> None:
        """Find out, on the first attempt, what the forecasts are made with, and put it into the report."""
        if self.made_with is not None:
            return
        if takes_no_calibration(source.tables, config):
            self.made_with, warnings = uncalibrated(source.tables, config)
        else:
            from forecaster.postgres.made_with import find_made_with  # noqa: PLC0415 - takes long

            self.made_with, warnings = find_made_with(source, config)
        report.warnings += warnings
        report.made_with(self.made_with)

    def find(self, source: Source, config: "RunConfig", pending: Pending, report: "Report", /) -> pl.Series:
        """Find the pending tracks. On the first attempt, also report what is wrong with the tables."""
        among = pl.Series(config.ids, dtype=pl.Int64) if pending.todo is None else pending.todo
        first, everything = pending.todo is None, pending.todo is None and among.is_empty()
        wanted = None if everything else among
        tracks, stored = both(
            lambda: source.tracks(wanted),
            lambda: freshness.read_stored(source, wanted, config, self.made_with),
            cancel=source.cancel,
        )
        if first:
            hint = "check the ids and --schema, or load streams with `forecaster load`"
            tracks = named(config, tracks, rows="streams of these tracks", hint=hint)
        with_forecast, stale = stored.forecasts["cm_track_id"].drop_nulls(), stored.stale(tracks)
        every = tracks
        if not config.replace:
            again = stale["cm_track_id"] if config.refresh and stale is not None else with_forecast.clear()
            stays = with_forecast.filter(~with_forecast.is_in(again.implode()))
            tracks = tracks.filter(~tracks.is_in(stays.implode()))
        without_track = source.rows_without_track() if everything else 0
        pending.todo = _first_of(source, tracks, config) if first else tracks
        if first:
            report.pending, report.is_whole = len(pending.todo), everything
            if everything:
                others = every.filter(~every.is_in(pending.todo.implode()))
                pending.others = _observe_known(stored, others, report)
            report.unusable_rows += without_track
            report.stale = freshness.counts(stale, config)
            pending.replaced = with_forecast.filter(with_forecast.is_in(pending.todo.implode()))
            report.warnings += _state_of(source, stored.forecasts, pending.replaced, config)
            report.warnings += freshness.remarks(stored, stale, config)
        return pending.todo

    def count_unusable(self, source: Source, todo: pl.Series, _config: "RunConfig", /) -> int:
        """Count the rows of these tracks that are not records."""
        return source.unusable_rows(todo)

    def batch_size(self, number: int, source: Source, places: int | None, /, *, is_far: bool) -> int:
        """Return how many of `number` tracks go into a batch.

        `places`: how many batches the workers process at the same time; None without workers. `is_far`:
        whether waiting for the server's answers takes longer than what overlapping batches save.
        """
        if places is not None:
            return max(1, min(BATCH * _IN_WORKER, -(-number // (_PER_PLACE * places))))
        most = BATCH * _IN_FEW
        if source.scans(min(number, most)) or (is_far and number <= most):
            return most
        return BATCH * _FROM_AFAR if is_far else BATCH

    def work(
        self, source: Source, writer: Connection | None, config: "RunConfig", shared: Shared, /
    ) -> Work[pl.Series, History]:
        """Read the last records of tracks, forecast them, and store them in one transaction."""
        horizon, dsn = config.parameters.horizon, source.dsn
        made_with = self.made_with or MadeWith(config.parameters)
        run = shared.report.run if writer else None
        sink = ForecastSink(
            dsn,
            source.tables,
            horizon,
            shared.created_at,
            config.replace,
            config.dry_run,
            run,
            writer,
            refreshed=shared.replaced if config.refresh else None,
            calibration=made_with.calibration,
        )
        limits = config.plausibility.limits
        compute = partial(forecast, made_with=made_with, limits=limits)
        catalogue = TrackCatalogue(source, with_days=made_with.needs_days, until=made_with.until)

        def elsewhere(_encrypted: bool) -> Work[pl.Series, History]:  # noqa: FBT001 - it holds no secret
            without = replace(dsn, password=None)
            there = replace(catalogue, source=replace(source, dsn=without, readers=None), is_elsewhere=True)
            its_own = replace(sink, dsn=without, writer=None, is_elsewhere=True)
            return Work(there, compute, its_own, None, len)

        return Work(
            catalogue,
            compute,
            sink,
            shared.report.stages,
            len,
            overlaps=True,
            at_once=CONNECTIONS_AT_ONCE // _PER_BATCH,
            cancel_read=source.cancel,
            cancel_write=Cancel([writer.adbc_cancel], lambda: None) if writer else None,
            elsewhere=elsewhere,
            # Each worker has the password in its own environment: it is not sent over the network.
            secrets=(("PGPASSWORD", dsn.password),) if dsn.password else (),
        )

    def remarks(self, report: "Report", kept: pl.Series, /) -> Iterator[str]:
        """Report forecasts that look ahead, and tracks whose forecast was to be replaced, but stays."""
        yield from looks_ahead(report.looking_ahead, report.as_of)
        if self.made_with and report.is_whole:
            yield from self.made_with.remarks(report.observed)
        if len(kept):
            yield (
                f"tracks that get no new forecast and keep the stored one: {len(kept):,}, "
                f"the first is {kept[0]}"
            )


def _observe_known(stored: freshness.Stored, tracks: pl.Series, report: "Report") -> pl.Series:
    """Observe the tracks whose last record is known; return the others, whose end is still to be read."""
    known = stored.last_dates(tracks)
    report.observed += observed(collect(by_end(known.lazy())))
    return tracks.filter(~tracks.is_in(known["cm_track_id"].implode()))


def _first_of(source: Source, tracks: pl.Series, config: "RunConfig") -> pl.Series:
    """Keep the first tracks, up to the limit of the run, in ascending order."""
    if config.limit is None or len(tracks) <= config.limit:
        return tracks
    return limited(config, freshness.oldest_look_first(source, tracks)).sort()


def _state_of(
    source: Source, stored: pl.DataFrame, replaced: pl.Series, config: "RunConfig"
) -> Iterator[str]:
    """Describe what is wrong with the tables, and with the stored forecasts that stay."""
    left = stored.filter(~pl.col("cm_track_id").is_in(replaced.implode()).fill_null(value=False))
    yield from warnings_of_hidden_rows(source.tables, *TO_FORECAST)
    yield from missing_key(source.tables)
    yield from describe_irregular(left, source.tables.schema, horizon=config.parameters.horizon)


@dataclass
class TrackCatalogue:
    """The streams of tracks and the MLDR of artists in one snapshot."""

    source: Source
    is_elsewhere: bool = False
    """Whether this is in a worker, which has the password in its environment."""
    with_days: bool = False
    """Whether the model must know the days of the records."""
    until: date | None = None
    """The last day of which records and MLDRs count; None: all of them."""
    _mldr: pl.LazyFrame | None = field(default=None, repr=False)

    def read(self, track_ids: pl.Series, /) -> History:
        """Read the last records of the tracks; with the first batch, also the MLDR of all artists."""
        if self.is_elsewhere:
            with self._with_password.connected() as source:
                return self._read(source, track_ids)
        return self._read(self.source, track_ids)

    def _read(self, source: Source, track_ids: pl.Series) -> History:
        read = partial(source.history, track_ids)
        if self.with_days:
            read = partial(read, with_days=True, until=self.until)
        if self._mldr is None:
            history, mldr = both(read, partial(source.mldr, until=self.until), cancel=source.cancel)
            self._mldr = mldr
        else:
            history, mldr = read(), self._mldr
        facts = history.facts
        if source.tables.type(FORECAST_TABLE, "training_data_id") == "uuid":
            facts = facts.with_columns(uuid_bytes(pl.col("training_data_id")))
        return History(history.records, facts, mldr, history.duplicates)

    @property
    def _with_password(self) -> Source:
        return replace(self.source, dsn=with_own_password(self.source.dsn))


@dataclass(frozen=True)
class ForecastSink:
    """The table of the forecasts."""

    dsn: Dsn
    tables: Tables
    horizon: int
    created_at: datetime
    replace: bool
    dry_run: bool
    run: int | None
    """`id` of the run in the history; None: it leaves none."""
    writer: Connection | None
    """None in a dry run, and in a worker, where each batch has its own connection."""
    calibration: str | None = None
    """Id of the calibration that intervals are from."""
    refreshed: pl.Series | None = field(default=None, repr=False)
    """Tracks whose stored forecast is stale, and replaced. A batch has only such, or none of them."""
    is_elsewhere: bool = False
    """Whether this is in a worker: then a lost worker may have stored the batch before."""

    def fit(self, rows: pl.DataFrame, /) -> tuple[Fitted, dict[int, str]]:
        """Convert rows to the types of the table; also return the tracks whose forecast it cannot hold."""
        return fit_or_refuse(
            rows.with_columns(created_at=self.created_at), self.tables, FORECAST_TABLE, by="cm_track_id"
        )

    def held(self, track_ids: pl.Series, /) -> "AbstractContextManager[ForecastSink]":
        """Hold nothing, because the run's lock keeps others out. In a worker, connect."""
        is_stale = self.refreshed is not None and len(track_ids) > 0 and track_ids[0] in self.refreshed
        sink = replace(self, replace=self.replace or is_stale)
        return sink.connected() if self.is_elsewhere and not self.dry_run else nullcontext(sink)

    @contextmanager
    def connected(self) -> "Iterator[ForecastSink]":
        """Yield a sink with a connection of its own."""
        with connect(with_own_password(self.dsn)) as writer:
            yield replace(self, writer=writer)

    def store(self, track_ids: pl.Series, computed: Computed, stages: "Stages", /) -> Done:
        """Store a batch in one transaction; in a dry run, nothing."""
        if self.writer is None or not (computed.results or (self.run and len(computed.known))):
            return replace(done_of(computed), stages=self._measured(stages))
        with stages.stage("write") as stage:
            stage.count = len(track_ids)
            if self.is_elsewhere:
                done = self._once(self.writer, track_ids, computed)
            else:
                done = self._stored(self.writer, computed)
        return replace(done, stages=self._measured(stages))

    def _measured(self, stages: "Stages") -> dict[str, float]:
        """Return the seconds that the stopwatch of the run has not measured."""
        return dict(stages.seconds) if self.is_elsewhere else {}

    def _once(self, writer: Connection, track_ids: pl.Series, computed: Computed) -> Done:
        """Store the tracks that are not stored yet: a lost worker of this run may have stored some."""
        try:
            return self._rest(writer, track_ids, computed)
        except WriteRefusedError:
            # An earlier attempt, whose worker was given up, may have committed this batch in the meantime.
            roll_back(writer)  # else rows of this attempt would count as stored by it, and be committed
            return self._rest(writer, track_ids, computed)

    def _rest(self, writer: Connection, track_ids: pl.Series, computed: Computed) -> Done:
        ours = stored_at(writer, self.tables, track_ids, self.created_at, self.horizon)
        commit(writer)
        rows = computed.fitted.rows
        is_there = rows["cm_track_id"].cast(pl.Int64).is_in(ours.implode())
        rest = replace(computed.fitted, rows=rows.filter(~is_there))
        there = int(is_there.sum()) // self.horizon
        known = self._not_kept_yet(writer, track_ids, computed.known)
        if rest.rows.is_empty() and known.is_empty():
            return done_of(computed)
        left = self._stored(
            writer, replace(computed, fitted=rest, known=known, results=computed.results - there)
        )
        return replace(
            left,
            processed=left.processed + there,
            results=left.results + there,
            rows=left.rows + there * self.horizon,
        )

    def _not_kept_yet(self, writer: Connection, track_ids: pl.Series, known: pl.DataFrame) -> pl.DataFrame:
        if self.run is None:
            return known.clear()
        kept = kept_tracks(writer, self.tables, self.run, track_ids)
        commit(writer)
        return known.filter(~pl.col("cm_track_id").is_in(kept.implode()))

    def _intervals(self, computed: Computed) -> pl.DataFrame | None:
        if not computed.intervals.width:
            return None
        return computed.intervals.with_columns(
            created_at=pl.lit(self.created_at, dtype=pl.Datetime("us", "UTC")),
            calibration=pl.lit(self.calibration, dtype=pl.String),
        ).select(one.name for one in INTERVALS.columns)

    def _stored(self, writer: Connection, computed: Computed) -> Done:
        try:
            with statement_errors(self.dsn):
                stored = store_forecasts(
                    writer,
                    self.tables,
                    computed.fitted,
                    horizon=self.horizon,
                    replace=self.replace,
                    history=None if self.run is None else history_rows(self.run, computed),
                    intervals=self._intervals(computed),
                )
        except (ConnectionLostError, StalledError) as error:
            hint = "start again: each track has all its months or none, and the next run completes the rest"
            raise not_again(error, hint) from None
        return done_of(
            computed, taken=stored.taken, refused=stored.refused, results=stored.rows // self.horizon
        )
