"""Compute the decay rate of every artist that has none: lock, read, fit, write, chunk by chunk."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from forecaster.errors import ConnectionLostError, InvalidOptionError, NoForecastError, StalledError
from forecaster.frames.casting import Fitted
from forecaster.frames.schemas import RATELESS
from forecaster.model.mldr import artist_rates
from forecaster.postgres.catalogue import Source, export_snapshot
from forecaster.postgres.connection import (
    Connection,
    commit,
    connect,
    end_connections,
    not_again,
    statement_errors,
)
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.listeners import artists, rated, read_listeners, unusable_rows
from forecaster.postgres.lock import ENDS_WITHIN, take_lock
from forecaster.postgres.mldr import store_rates
from forecaster.postgres.rights import check_rights, warnings_of_hidden_rows
from forecaster.postgres.rows import Stored, fit_or_refuse, uuid_bytes
from forecaster.postgres.server import check_writable, server_state
from forecaster.postgres.tables import Tables, read_tables
from forecaster.process.signals import interruptible
from forecaster.run.report import RatesReport
from forecaster.run.retry import persevere
from forecaster.tables import LISTENERS_TABLE, MLDR_TABLE, TO_RATE

CHUNK = 2_000
"""Artists per chunk, which is one transaction and bounds the memory."""


@dataclass(frozen=True)
class RatesConfig:
    """Which artists' decay rates to compute. Raises `InvalidOptionError` if a value cannot be used."""

    dsn: Dsn
    schema: str = "public"
    artist_ids: tuple[int, ...] = ()
    """Only these artists, where they have no rate. Empty: all."""
    replace: bool = False
    """Also the artists that have a rate, which the new one takes the place of."""
    dry_run: bool = False
    """Everything but the write."""
    wait: float = 0.0
    """Seconds to wait for another run to end."""

    def __post_init__(self) -> None:
        if not 0 <= self.wait < 2**31:
            raise InvalidOptionError(f"wait is {self.wait}: expected a number of seconds of at least 0")


def compute_rates(config: RatesConfig, report: RatesReport | None = None) -> RatesReport:
    """Compute the Monthly Listener Decay Rate of every artist with listeners and without a rate.

    Each chunk of artists is one transaction. Its promises and what it raises are those of
    `forecaster.run.session.run`.
    """
    work = _Rates(config, report or RatesReport())
    persevere(work.attempt, work.report)
    work.report.warnings += work.outdated()
    return work.report


class _Rates:
    """A computation in progress: what is done stays done when the connection is lost and made anew."""

    def __init__(self, config: RatesConfig, report: RatesReport) -> None:
        self.config = config
        self.report = report
        self.created_at = datetime.now(UTC)
        self.todo: pl.Series | None = None
        """The artists still to be looked at, once they are known."""
        self.replaced = pl.Series(dtype=pl.Int64)
        """The artists looked at that have a rate."""
        self.holder: str | None = None
        """The application name under which the lock was held last."""
        report.database = str(config.dsn)
        report.schema = config.schema
        report.ids = config.artist_ids
        report.replace = config.replace
        report.dry_run = config.dry_run
        report.started_at = self.created_at.isoformat()

    def attempt(self) -> None:
        """Do all that is still to do."""
        config, report = self.config, self.report
        with ExitStack() as stack:
            with report.stage("connect"):
                reader = stack.enter_context(connect(config.dsn, repeatable_read=True))
                state = server_state(reader)
                if not config.dry_run:
                    check_writable(reader, state)
                report.server = state.version
                tables = read_tables(reader, config.schema)
                tables.check(*TO_RATE, to_write=(MLDR_TABLE,))
                check_rights(reader, tables, self._rights)
                commit(reader)  # the snapshot has to be younger than the lock
                writer = None if config.dry_run else self._locked(stack, reader, tables)
                source = Source(config.dsn, tables, export_snapshot(reader))
            with report.stage("read"):
                todo = self._find_work(source)
            for start in range(0, len(todo), CHUNK):
                self._rate(source, writer, todo.slice(start, CHUNK))

    def outdated(self) -> Iterator[str]:
        """A sentence on rates that were to be replaced, and are as they were."""
        got_none = [*self.report.skipped["cm_artist_id"], *self.report.refused]
        kept = self.replaced.filter(self.replaced.is_in(got_none)).sort()
        if len(kept):
            yield (
                f"artists that get no new rate and keep the one they have: {len(kept):,}, "
                f"the first is {kept[0]}"
            )

    @property
    def _rights(self) -> dict[str, tuple[str, ...]]:
        write = ("INSERT", *(["DELETE"] if self.config.replace else []))
        return {LISTENERS_TABLE: ("SELECT",), MLDR_TABLE: ("SELECT", *(() if self.config.dry_run else write))}

    def _locked(self, stack: ExitStack, reader: Connection, tables: Tables) -> Connection:
        writer = stack.enter_context(connect(self.config.dsn, beside=reader))
        if self.holder:  # the server need not have noticed that it is gone
            end_connections(self.config.dsn, self.holder)
        wait = max(self.config.wait, ENDS_WITHIN if self.holder else 0)
        self.holder = take_lock(writer, tables, table=MLDR_TABLE, wait=wait)
        return writer

    def _find_work(self, source: Source) -> pl.Series:
        """Sets `todo` and returns it."""
        if self.todo is not None:
            return self.todo
        self.report.warnings += warnings_of_hidden_rows(source.tables, *TO_RATE)
        found = artists(source)
        wanted = pl.Series(self.config.artist_ids, dtype=pl.Int64)
        if len(unknown := wanted.filter(~wanted.is_in(found.implode())).unique().sort()):
            raise NoForecastError(
                f"no listeners of these artists: {', '.join(map(str, unknown))}",
                hint="check the ids, and --schema; `forecaster load --listeners FILE` loads them",
            )
        todo = found.filter(found.is_in(wanted.implode())) if len(wanted) else found
        with_rate = rated(source)
        if self.config.replace:
            self.replaced = with_rate.filter(with_rate.is_in(todo.implode()))
        else:
            todo = todo.filter(~todo.is_in(with_rate.implode()))
        self.report.pending = len(todo)
        self.report.unusable_rows = unusable_rows(source, todo, without_artist=wanted.is_empty())
        self.todo = todo
        return todo

    def _rate(self, source: Source, writer: Connection | None, chunk: pl.Series) -> None:
        """Read, compute and store one chunk. Then it is done."""
        report = self.report
        with report.stage("read") as stage:
            listeners = read_listeners(source, chunk)
            stage.count = len(chunk)
        with report.stage("fit") as stage:
            rates = interruptible(self._all(chunk, artist_rates(listeners.records)).collect, cancel=None)
            good = self._rows(source.tables, rates.filter(pl.col("reason").is_null()), listeners.row_ids)
            stage.count = len(chunk)
        report.skipped = report.skipped.vstack(
            rates.filter(pl.col("reason").is_not_null()).select(RATELESS.names()).cast(RATELESS)
        )
        report.duplicate_rows += listeners.duplicates
        stored = len(good.rows)
        if writer and stored:
            with report.stage("write") as stage:
                done = self._store(source.tables, writer, good)
                stage.count = len(chunk)
            stored = done.rows
            report.taken += done.taken
        report.rated += stored
        if self.todo is not None:
            self.todo = self.todo.slice(len(chunk))

    def _all(self, chunk: pl.Series, rates: pl.LazyFrame) -> pl.LazyFrame:
        """With the artists of which no row is a record."""
        nothing = {"reason": pl.lit("too_few_records"), "records": pl.lit(0), "months": pl.lit(0)}
        return (
            chunk.alias("cm_artist_id")
            .to_frame()
            .lazy()
            .join(rates, on="cm_artist_id", how="left", maintain_order="left")
            .with_columns(
                pl.when(pl.col("records").is_null()).then(value).otherwise(name).alias(name)
                for name, value in nothing.items()
            )
        )

    def _rows(self, tables: Tables, rates: pl.DataFrame, row_ids: pl.DataFrame) -> Fitted:
        """Rates as they are stored. Those that the table cannot hold are refused."""
        reference = "backtest_artist_daily_training_data_id"
        row_id = pl.col("row_id")
        rows = rates.join(row_ids, on="cm_artist_id", how="left", maintain_order="left").select(
            "cm_artist_id",
            "mldr",
            (uuid_bytes(row_id) if tables.type(MLDR_TABLE, reference) == "uuid" else row_id).alias(reference),
            created_at=self.created_at,
        )
        fitted, refused = fit_or_refuse(rows, tables, MLDR_TABLE, by="cm_artist_id")
        self.report.refused |= refused
        return fitted

    def _store(self, tables: Tables, writer: Connection, rates: Fitted) -> Stored:
        try:
            with statement_errors(self.config.dsn):
                return store_rates(writer, tables, rates, replace=self.config.replace)
        except (ConnectionLostError, StalledError) as error:
            raise not_again(
                error, "each artist has its rate or not; the next run completes the rest"
            ) from None
