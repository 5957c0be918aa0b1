"""A run on PostgreSQL spread over Dask's workers: only ids of tracks travel, and what became of them."""

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from forecaster.errors import SchemaMismatchError, WriteRefusedError
from forecaster.model.parameters import Parameters
from forecaster.postgres.catalogue import CONNECTIONS, Source, slices
from forecaster.postgres.connection import commit, connect
from forecaster.postgres.dsn import Dsn, with_own_password
from forecaster.postgres.stored import has_key, stored_at
from forecaster.postgres.tables import Tables
from forecaster.run.batch import Computed, Done, Worker
from forecaster.run.engines.dask import connected, each, threads
from forecaster.run.report import RunReport
from forecaster.run.session import CHUNK, Run, RunConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

CONNECTIONS_AT_ONCE = 48
"""Of all workers together; PostgreSQL lets 100 in, if nobody has changed that."""

_PER_CHUNK = CONNECTIONS + 1  # it is read by several, and stored by one
_CHUNKS_PER_WORKER = 4  # at least, so that no worker is idle for long while the last one ends


def run_distributed(config: RunConfig, scheduler: str | None, report: RunReport | None = None) -> RunReport:
    """Do what `run` does, with the chunks worked by the workers of a scheduler, or of its own.

    All read the one snapshot that is exported here, and the lock is held here. A chunk is one transaction.
    When a worker is lost its chunk is begun anew by another one, so that the table needs its unique key.

    Raises what `run` raises; `MissingExtraError` and `EngineError` like `connected` and `each`; and
    `SchemaMismatchError` for a table without the key.
    """
    report = report or RunReport()
    with ExitStack() as stack:

        def client() -> "Client":
            # Each worker finds the password in its own environment: it is not sent over the network.
            environ = {"PGPASSWORD": config.dsn.password} if config.dsn.password else {}
            return stack.enter_context(connected(scheduler, environ=environ))

        return _DistributedRun(config, report, client).finished()


@dataclass(frozen=True)
class _Task:
    """What is the same for all chunks."""

    dsn: Dsn
    """Without its password."""
    tables: Tables
    snapshot: str
    parameters: Parameters
    created_at: datetime
    replace: bool
    dry_run: bool


class _Worked(NamedTuple):
    done: Done
    stages: dict[str, float]


class _DistributedRun(Run):
    """A run whose chunks are worked elsewhere."""

    def __init__(self, config: RunConfig, report: RunReport, client: "Callable[[], Client]") -> None:
        super().__init__(config, report)
        self._connect = client
        self._client: Client | None = None

    def check(self, tables: Tables) -> None:
        if not self.config.dry_run and not has_key(tables):
            raise SchemaMismatchError(
                "the table of the forecasts has no unique key on (cm_track_id, month), and with --engine "
                "dask a chunk may be worked twice",
                hint="`forecaster init` creates it where the data allow it; without it, run in one process",
            )

    def work_all(self, worker: Worker, todo: pl.Series) -> None:
        if self._client is None:
            with self.report.stage("connect"):
                self._client = self._connect()
        config, client = self.config, self._client
        source = worker.source
        size = max(1, min(CHUNK, -(-len(todo) // (_CHUNKS_PER_WORKER * threads(client)))))
        task = _Task(
            replace(config.dsn, password=None),
            source.tables,
            source.snapshot,
            config.parameters,
            self.created_at,
            config.replace,
            config.dry_run,
        )
        failed: list[Exception] = []
        outcomes = each(
            client, partial(_work, task), slices(todo, size), at_once=CONNECTIONS_AT_ONCE // _PER_CHUNK
        )
        for _, outcome in outcomes:
            if isinstance(outcome, Exception):
                failed.append(outcome)
                continue
            self.count_computed(outcome.done)
            self.count_stored(outcome.done)
            for stage, seconds in outcome.stages.items():
                self.report.stages[stage] = self.report.stages.get(stage, 0.0) + seconds
                self.report.active.setdefault(stage, 1)
                self.report.done[stage] = self.report.done.get(stage, 0) + len(outcome.done.track_ids)
        if failed:
            raise failed[0]
        self.count_unusable(source, todo)


def _work(task: _Task, track_ids: pl.Series) -> _Worked:
    """Work one chunk, in a worker."""
    dsn = with_own_password(task.dsn, os.environ)
    source = Source(dsn, task.tables, task.snapshot)
    report = RunReport(announced=False, parameters=task.parameters)
    with ExitStack() as stack:
        writer = None if task.dry_run else stack.enter_context(connect(dsn))
        worker = Worker(source, writer, task.parameters, task.created_at, task.replace, report)
        computed = worker.compute(track_ids, worker.read(track_ids), source.mldr())
        try:
            done = _store(worker, computed)
        except WriteRefusedError:
            # An earlier attempt at this chunk, whose worker was given up, may have committed meanwhile.
            done = _store(worker, computed)
    return _Worked(done, report.stages)


def _store(worker: Worker, computed: Computed) -> Done:
    """Store what is not stored yet: this run may have been at this chunk before, in a worker that is lost."""
    if worker.writer is None:
        return worker.store(computed)
    horizon = worker.parameters.horizon
    ours = stored_at(worker.writer, worker.source.tables, computed.done.track_ids, worker.created_at, horizon)
    commit(worker.writer)
    rows = computed.forecasts.rows
    is_there = rows["cm_track_id"].cast(pl.Int64).is_in(ours.implode())
    rest = rows.filter(~is_there)
    fitted = replace(computed.forecasts, rows=rest)
    done = worker.store(Computed(fitted, computed.done._replace(rows=len(rest))))
    return done._replace(rows=done.rows + int(is_there.sum()))
