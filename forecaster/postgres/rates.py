"""MLDR of artists in a database: find what is pending, read a batch, and store it."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

import polars as pl

from forecaster.errors import ConnectionLostError, InvalidOptionError, StalledError
from forecaster.frames.casting import Fitted
from forecaster.frames.collecting import collect
from forecaster.frames.schemas import RATELESS
from forecaster.model.mldr import artist_rates
from forecaster.postgres.catalogue import Source
from forecaster.postgres.connection import Connection, not_again, statement_errors
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.early import Early
from forecaster.postgres.listeners import Listeners, artists, rated, read_listeners, unusable_rows
from forecaster.postgres.mldr import store_rates
from forecaster.postgres.rights import warnings_of_hidden_rows
from forecaster.postgres.rows import fit_or_refuse, uuid_bytes
from forecaster.postgres.session import DatabaseSession, Pending, Shared
from forecaster.postgres.tables import Tables
from forecaster.run.batch import Computed, Done, Fit, Work, done_of
from forecaster.run.report import ARTISTS
from forecaster.run.selection import named
from forecaster.tables import MLDR_TABLE, TO_RATE

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from forecaster.run.config import RunConfig
    from forecaster.run.report import Report
    from forecaster.run.stages import Stages

BATCH = 2_000
"""Artists per batch. A batch is one transaction, and limits the memory used."""

_REFERENCE = "backtest_artist_daily_training_data_id"


@dataclass(frozen=True)
class ArtistRates:
    """The tables of a schema, as the place of a run that computes MLDR."""

    dsn: Dsn
    schema: str = "public"
    early: Early | None = None
    """A connection to it that is already being opened, for the first session."""

    def session(self, config: "RunConfig", report: "Report", /) -> DatabaseSession:
        """Begin a run in these tables. Raises `InvalidOptionError` for a limit, and to refresh."""
        if config.limit is not None:
            raise InvalidOptionError("limit is not supported: MLDR is computed for all pending artists")
        if config.refresh:
            raise InvalidOptionError("refresh is not supported: MLDR does not record what it was made from")
        report.asked = {"artist_ids": list(config.ids)}
        report.replace, report.dry_run = config.replace, config.dry_run
        return DatabaseSession(self.dsn, self.schema, Rates(), config, report, self.early)


class Rates:
    """The task of computing the MLDR of every artist that has listeners and no MLDR."""

    subject: ClassVar = ARTISTS
    tables: ClassVar = TO_RATE
    target: ClassVar = MLDR_TABLE
    leaves_history: ClassVar = False

    def check(self, tables: Tables, /, *, repeats: bool, dry_run: bool) -> None:  # noqa: ARG002 - the same for all
        """Raise `SchemaMismatchError` for tables that do not fit."""
        tables.check(*TO_RATE, to_write=(MLDR_TABLE,))

    def prepare(self, _source: Source, _config: "RunConfig", _report: "Report", /) -> None:
        """Do nothing."""

    def find(self, source: Source, config: "RunConfig", pending: Pending, report: "Report", /) -> pl.Series:
        """Find the pending artists: on the first attempt in the tables, later those that are not done."""
        if pending.todo is not None:
            return pending.todo
        report.warnings += warnings_of_hidden_rows(source.tables, *TO_RATE)
        hint = "check the ids and --schema, or load listeners with `forecaster load --listeners FILE`"
        todo = named(config, artists(source), rows="listeners of these artists", hint=hint)
        with_rate = rated(source)
        if config.replace:
            pending.replaced = with_rate.filter(with_rate.is_in(todo.implode()))
        else:
            todo = todo.filter(~todo.is_in(with_rate.implode()))
        report.pending, pending.todo = len(todo), todo
        report.unusable_rows = unusable_rows(source, todo, without_artist=not config.ids)
        return todo

    def count_unusable(self, _source: Source, _todo: pl.Series, _config: "RunConfig", /) -> int:
        """Return 0: `find` has counted them."""
        return 0

    def batch_size(self, _number: int, _source: Source, _places: int | None, /, *, is_far: bool) -> int:  # noqa: ARG002 - the same for all
        """Return the number of artists in a batch."""
        return BATCH

    def work(
        self, source: Source, writer: Connection | None, config: "RunConfig", shared: Shared, /
    ) -> Work[pl.Series, "ArtistListeners"]:
        """Read the listeners of artists, compute MLDR, and store them in one transaction."""
        sink = RateSink(source.dsn, source.tables, shared.created_at, config.replace, writer)
        return Work(ListenerCatalogue(source), rate, sink, shared.report.stages, len)

    def remarks(self, _report: "Report", kept: pl.Series, /) -> Iterator[str]:
        """Report artists whose MLDR was to be replaced, but stays."""
        if len(kept):
            yield (
                f"artists that get no new MLDR and keep the stored one: {len(kept):,}, the first is {kept[0]}"
            )


@dataclass(frozen=True)
class ArtistListeners:
    """The artists of a batch, and their listeners."""

    artist_ids: pl.Series
    listeners: Listeners


@dataclass(frozen=True)
class ListenerCatalogue:
    """The listeners of artists in one snapshot."""

    source: Source

    def read(self, artist_ids: pl.Series, /) -> ArtistListeners:
        """Read all records of the artists."""
        return ArtistListeners(artist_ids, read_listeners(self.source, artist_ids))


def rate(batch: ArtistListeners, fit: Fit, stages: "Stages", /) -> Computed:
    """Compute the MLDR of a batch of artists, and fit the rows to the table."""
    with stages.stage("fit") as stage:
        rates = collect(_with_all(batch.artist_ids, artist_rates(batch.listeners.records)))
        good = rates.filter(pl.col("reason").is_null()).select("cm_artist_id", "mldr")
        ids = batch.listeners.row_ids.rename({"row_id": _REFERENCE})
        rows, refused = fit(good.join(ids, on="cm_artist_id", how="left", maintain_order="left"))
        stage.count = len(batch.artist_ids)
    skipped = rates.filter(pl.col("reason").is_not_null()).select(RATELESS.names()).cast(RATELESS)
    return Computed(rows, len(rows.rows), skipped, refused, batch.listeners.duplicates)


def _with_all(artist_ids: pl.Series, rates: pl.LazyFrame) -> pl.LazyFrame:
    """Add the artists without any record, and the reason for them."""
    nothing = {"reason": pl.lit("too_few_records"), "records": pl.lit(0), "months": pl.lit(0)}
    return (
        artist_ids.alias("cm_artist_id")
        .to_frame()
        .lazy()
        .join(rates, on="cm_artist_id", how="left", maintain_order="left")
        .with_columns(
            pl.when(pl.col("records").is_null()).then(value).otherwise(name).alias(name)
            for name, value in nothing.items()
        )
    )


@dataclass(frozen=True)
class RateSink:
    """The table of the MLDR."""

    dsn: Dsn
    tables: Tables
    created_at: datetime
    replace: bool
    writer: Connection | None
    """None in a dry run."""

    def fit(self, rows: pl.DataFrame, /) -> tuple[Fitted, dict[int, str]]:
        """Convert rows to the types of the table; also return the artists whose MLDR it cannot hold."""
        if _REFERENCE not in self.tables.columns[MLDR_TABLE]:
            rows = rows.drop(_REFERENCE)
        elif self.tables.type(MLDR_TABLE, _REFERENCE) == "uuid":
            rows = rows.with_columns(uuid_bytes(pl.col(_REFERENCE)))
        return fit_or_refuse(
            rows.with_columns(created_at=self.created_at), self.tables, MLDR_TABLE, by="cm_artist_id"
        )

    def held(self, _artist_ids: pl.Series, /) -> "AbstractContextManager[RateSink]":
        """Do nothing: the run's lock keeps others out."""
        return nullcontext(self)

    def store(self, artist_ids: pl.Series, computed: Computed, stages: "Stages", /) -> Done:
        """Store a batch in one transaction; in a dry run, nothing."""
        if self.writer is None or not computed.results:
            return done_of(computed)
        try:
            with stages.stage("write") as stage, statement_errors(self.dsn):
                stage.count = len(artist_ids)
                stored = store_rates(self.writer, self.tables, computed.fitted, replace=self.replace)
        except (ConnectionLostError, StalledError) as error:
            raise not_again(
                error, "start again: each artist has its MLDR or none, and the next run completes the rest"
            ) from None
        return done_of(computed, taken=stored.taken, refused=stored.refused, results=stored.rows)
