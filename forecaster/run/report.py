"""What a run does and did: counts, what was skipped, seconds per stage; as an object and as JSON."""

import json
import logging
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar

import polars as pl

from forecaster.frames.schemas import RATELESS, SKIPPED
from forecaster.model.parameters import Parameters
from forecaster.process.secrets import all_masked, masked
from forecaster.process.signals import interruptible

PACKAGES: tuple[str, ...] = (
    "forecaster",
    "polars",
    "connectorx",
    "adbc-driver-postgresql",
    "numpy",
    "pyarrow",
)

_log = logging.getLogger("forecaster")


def versions() -> dict[str, str]:
    """Of Python, and of the packages that a result depends on."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


@dataclass
class Stage:
    """A stage that goes on just now."""

    count: int = 0
    """How many tracks or artists it will be done with at its end."""


@dataclass
class Report:
    """What a run does, and did: of the forecasts or of the decay rates."""

    STAGES: ClassVar[tuple[str, ...]]
    """What it consists of, in the order in which the stages begin."""
    UNIT: ClassVar[str]
    """What is counted."""
    KEY: ClassVar[str]
    """The column that identifies it."""
    STEP: ClassVar[str] = ""
    """What a stage counts, if that is something else."""

    announced: bool = True
    """Whether a log line says when a stage begins."""
    database: str = ""
    """Without password."""
    schema: str = ""
    server: str = ""
    """The server's version."""
    ids: Sequence[int] = ()
    """The tracks or artists that the run was limited to. Empty: all."""
    replace: bool = False
    dry_run: bool = False
    started_at: str = ""
    """The instant that is stored as `created_at`."""
    pending: int = 0
    """How many were looked at: those that have their days and no result, or all if results are replaced."""
    unusable_rows: int = 0
    """Rows left out because their value, date or id is NULL, or no number or date."""
    duplicate_rows: int = 0
    """Rows left out because a newer row has the same id and date."""
    skipped: pl.DataFrame = field(default_factory=pl.DataFrame)
    """What gets no result, and why."""
    taken: list[int] = field(default_factory=list)
    """Whose result another writer stored meanwhile; it stays."""
    refused: dict[int, str] = field(default_factory=dict)
    """Whose result the table cannot hold, and why. Any of them makes the run a failure."""
    warnings: list[str] = field(default_factory=list)
    """What is wrong with the tables, and how to mend it."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds at work in each stage. Some go on at the same time, so the sum may exceed `seconds`."""
    active: dict[str, int] = field(default_factory=dict)
    """For each stage that has begun, in how many places it goes on just now."""
    done: dict[str, int] = field(default_factory=dict)
    """How many each stage is done with."""
    seconds: float = 0.0
    error: str | None = None
    """Why the run failed or was ended; all else is what it did until then."""

    @property
    def skipped_by_reason(self) -> dict[str, int]:
        """Number of those skipped for each reason that occurs, most frequent first."""
        counts = self.skipped.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
        return dict(counts.iter_rows())

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Add the time spent inside to the stage's seconds, and its count to what it is done with."""
        start = time.perf_counter()
        if name not in self.active and self.announced:
            _log.info("stage: %s", name, extra={"stage": name, "begins": True})
        self.active[name] = self.active.get(name, 0) + 1
        stage = Stage()
        try:
            yield stage
            self.done[name] = self.done.get(name, 0) + stage.count
        finally:
            seconds = time.perf_counter() - start
            self.active[name] -= 1
            self.stages[name] = self.stages.get(name, 0.0) + seconds
            counted = f", {stage.count:,} {self.step}" if stage.count else ""
            _log.debug("%s: %.3f s%s", name, seconds, counted, extra={"stage": name})

    def checkpoint(self, name: str, frame: pl.LazyFrame, /) -> pl.LazyFrame:
        """Compute a stage of the model here and now, so that its time is its own."""
        with self.stage(name) as stage:
            rows = interruptible(frame.collect, cancel=None)
            stage.count = len(rows)
        return rows.lazy()

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            **self._asked(),
            **self._place(),
            "replace": self.replace,
            "dry_run": self.dry_run,
            "started_at": self.started_at,
            "versions": versions() | ({"postgresql": self.server} if self.server else {}),
            "counts": {
                "pending": self.pending,
                **self._results(),
                "skipped": len(self.skipped),
                "taken": len(self.taken),
                "refused": len(self.refused),
                "unusable_rows": self.unusable_rows,
                "duplicate_rows": self.duplicate_rows,
            },
            "skipped_by_reason": self.skipped_by_reason,
            "stages": {stage: round(seconds, 6) for stage, seconds in self.stages.items()},
            "seconds": round(self.seconds, 6),
            "error": self.error,
            "warnings": self.warnings,
            "skipped": self.skipped.to_dicts(),
            "taken": self.taken,
            "refused": [{self.KEY: number, "reason": why} for number, why in self.refused.items()],
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text, without a secret that was given in the wrong place, or is part of a URL."""
        return json.dumps(all_masked(self.to_dict()), indent=2, default=lambda value: masked(f"{value}"))

    @property
    def step(self) -> str:
        """What a stage counts."""
        return self.STEP or self.UNIT

    @property
    def total(self) -> int:
        """How many each stage will be done with at the end; 0 as long as that is not known."""
        return self.pending

    def _place(self) -> dict[str, Any]:
        return {"database": self.database, "schema": self.schema}

    def _asked(self) -> dict[str, Any]:
        raise NotImplementedError

    def _results(self) -> dict[str, int]:
        raise NotImplementedError


@dataclass
class RunReport(Report):
    """A run of the forecasts. A track that was looked at is forecast, skipped, taken or refused."""

    STAGES: ClassVar[tuple[str, ...]] = ("connect", "read", "features", "fit", "projection", "write")
    UNIT = "tracks"
    KEY = "cm_track_id"

    parameters: Parameters = field(default_factory=Parameters)
    limit: int | None = None
    skipped: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SKIPPED))
    forecast: int = 0
    """Tracks that got a forecast."""
    rows: int = 0
    """Forecast rows stored; 0 in a dry run."""

    def _asked(self) -> dict[str, Any]:
        as_of = self.parameters.as_of
        return {
            "parameters": asdict(self.parameters) | {"as_of": as_of.isoformat() if as_of else None},
            "track_ids": list(self.ids),
            "limit": self.limit,
        }

    def _results(self) -> dict[str, int]:
        return {"forecast": self.forecast, "rows": self.rows}


@dataclass
class BucketsReport(RunReport):
    """A run of the forecasts in Parquet: the sum of its buckets' manifests.

    What is in a bucket that was left alone counts as well, but for the seconds.
    """

    STAGES = ("connect", "buckets")
    STEP = "buckets"

    source: str = ""
    sink: str = ""
    buckets: int = 0
    left_alone: int = 0
    """Buckets whose forecasts were there and whole."""
    failed: dict[int, str] = field(default_factory=dict)
    """Buckets that could not be worked, and why. Any of them makes the run a failure."""
    looking_ahead: int = 0
    """Tracks that have streams after the as-of date."""

    @property
    def total(self) -> int:
        """The buckets."""
        return self.buckets

    def _place(self) -> dict[str, Any]:
        return {"source": self.source, "sink": self.sink, "buckets": self.buckets}

    def _asked(self) -> dict[str, Any]:
        failed = [{"bucket": bucket, "reason": why} for bucket, why in sorted(self.failed.items())]
        return super()._asked() | {"failed_buckets": failed}

    def _results(self) -> dict[str, int]:
        buckets = {"buckets_left_alone": self.left_alone, "buckets_failed": len(self.failed)}
        return super()._results() | buckets


@dataclass
class RatesReport(Report):
    """A run of the decay rates. An artist that was looked at is rated, skipped, taken or refused."""

    STAGES = ("connect", "read", "fit", "write")
    UNIT = "artists"
    KEY = "cm_artist_id"

    skipped: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=RATELESS))
    rated: int = 0
    """Artists that got a rate, stored unless it is a dry run."""

    def _asked(self) -> dict[str, Any]:
        return {"artist_ids": list(self.ids)}

    def _results(self) -> dict[str, int]:
        return {"rated": self.rated}
