"""What a run does and did: counts, skipped tracks, seconds per stage; as an object and as JSON."""

import json
import logging
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

import polars as pl

from forecaster.interrupt import interruptible
from forecaster.model.parameters import Parameters
from forecaster.schema import SKIPPED
from forecaster.secrecy import masked

STAGES: tuple[str, ...] = ("connect", "read", "features", "fit", "projection", "write")
"""What a run consists of, in the order in which the stages begin."""

PACKAGES: tuple[str, ...] = (
    "forecaster",
    "polars",
    "connectorx",
    "adbc-driver-postgresql",
    "numpy",
    "pyarrow",
)

_log = logging.getLogger("forecaster")


@dataclass
class Stage:
    """A stage that goes on just now."""

    tracks: int = 0
    """How many tracks it will be done with at its end."""


@dataclass
class RunReport:
    """What a run did. A track that was looked at is forecast, skipped, taken or refused."""

    parameters: Parameters = field(default_factory=Parameters)
    database: str = ""
    """Without password."""
    schema: str = ""
    server: str = ""
    """The server's version."""
    track_ids: Sequence[int] = ()
    """The tracks that the run was limited to. Empty: all."""
    limit: int | None = None
    replace: bool = False
    dry_run: bool = False
    started_at: str = ""
    """The instant that is stored as `created_at`."""
    pending: int = 0
    """Tracks looked at: with streams and without a forecast, or all with streams if they are replaced."""
    forecast: int = 0
    """Tracks that got a forecast."""
    rows: int = 0
    """Forecast rows stored; 0 in a dry run."""
    unusable_rows: int = 0
    """Daily rows left out because their streams, date or track are NULL, or no number or date."""
    duplicate_rows: int = 0
    """Daily rows left out because a newer row has the same track and date."""
    skipped: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SKIPPED))
    """Tracks that get no forecast, and why."""
    taken: list[int] = field(default_factory=list)
    """Tracks whose forecast another writer stored meanwhile; it stays."""
    refused: dict[int, str] = field(default_factory=dict)
    """Tracks whose forecast the table cannot hold, and why. Any of them makes the run a failure."""
    warnings: list[str] = field(default_factory=list)
    """What is wrong with the tables, and how to mend it."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds at work in each stage. Some go on at the same time, so the sum may exceed `seconds`."""
    active: dict[str, int] = field(default_factory=dict)
    """For each stage that has begun, in how many places it goes on just now."""
    done: dict[str, int] = field(default_factory=dict)
    """How many tracks each stage is done with."""
    seconds: float = 0.0
    error: str | None = None
    """Why the run failed or was ended; all else is what it did until then."""

    @property
    def skipped_by_reason(self) -> dict[str, int]:
        """Number of skipped tracks for each reason that occurs, most frequent first."""
        counts = self.skipped.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
        return dict(counts.iter_rows())

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Add the time spent inside to the stage's seconds, and the tracks to those that it is done with."""
        start = time.perf_counter()
        self.active[name] = self.active.get(name, 0) + 1
        stage = Stage()
        try:
            yield stage
            self.done[name] = self.done.get(name, 0) + stage.tracks
        finally:
            seconds = time.perf_counter() - start
            self.active[name] -= 1
            self.stages[name] = self.stages.get(name, 0.0) + seconds
            of_tracks = f", {stage.tracks:,} tracks" if stage.tracks else ""
            _log.debug("%s: %.3f s%s", name, seconds, of_tracks, extra={"stage": name})

    def checkpoint(self, name: str, frame: pl.LazyFrame, /) -> pl.LazyFrame:
        """Compute a stage of the model here and now, so that its time is its own."""
        with self.stage(name) as stage:
            tracks = interruptible(frame.collect, cancel=None)
            stage.tracks = len(tracks)
        return tracks.lazy()

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        as_of = self.parameters.as_of
        return {
            "parameters": asdict(self.parameters) | {"as_of": as_of.isoformat() if as_of else None},
            "database": self.database,
            "schema": self.schema,
            "track_ids": list(self.track_ids),
            "limit": self.limit,
            "replace": self.replace,
            "dry_run": self.dry_run,
            "started_at": self.started_at,
            "versions": {
                "python": platform.python_version(),
                "postgresql": self.server,
                **{package: version(package) for package in PACKAGES},
            },
            "counts": {
                "pending": self.pending,
                "forecast": self.forecast,
                "skipped": len(self.skipped),
                "taken": len(self.taken),
                "refused": len(self.refused),
                "rows": self.rows,
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
            "refused": [{"cm_track_id": track, "reason": why} for track, why in self.refused.items()],
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text, without a password that was given in the wrong place."""
        return masked(json.dumps(self.to_dict(), indent=2))
