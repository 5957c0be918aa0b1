"""What a run does and did: counts, what was skipped, seconds per stage; as an object and as JSON."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import polars as pl

from forecaster.frames.schemas import RATELESS, SKIPPED
from forecaster.process.secrets import all_masked, masked
from forecaster.run.batch import Done
from forecaster.run.stages import Stages

if TYPE_CHECKING:
    from forecaster.model.parameters import Parameters
    from forecaster.run.config import RunConfig

PACKAGES: tuple[str, ...] = (
    "forecaster",
    "polars",
    "connectorx",
    "adbc-driver-postgresql",
    "numpy",
    "pyarrow",
)


def versions() -> dict[str, str]:
    """Of Python, and of the packages that a result depends on."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


@dataclass(frozen=True)
class Subject:
    """What results are of."""

    unit: str
    """In the plural."""
    key: str
    """The column that identifies one."""
    result: str
    """What one with a result is: "forecast" or "rated"."""
    skipped: pl.Schema
    """The columns of those that get none."""
    stages: tuple[str, ...]
    """What a run consists of, in the order in which the stages begin."""


TRACKS = Subject(
    "tracks",
    "cm_track_id",
    "forecast",
    SKIPPED,
    ("connect", "read", "features", "fit", "projection", "write"),
)
ARTISTS = Subject("artists", "cm_artist_id", "rated", RATELESS, ("connect", "read", "fit", "write"))


@dataclass
class Report:
    """What a run does, and did. What was looked at has a result, or was skipped, taken or refused."""

    subject: Subject = TRACKS
    stages: Stages = field(default_factory=Stages)
    place: Mapping[str, object] = field(default_factory=dict)
    """Where the run reads and stores, without passwords."""
    asked: Mapping[str, object] = field(default_factory=dict)
    """What the run was limited to, and the parameters."""
    as_of: date | None = None
    server: str = ""
    """The server's version."""
    replace: bool = False
    dry_run: bool = False
    started_at: str = ""
    """The instant that is stored as `created_at`."""
    pending: int = 0
    """How many were looked at: those that have their days and no result, or all if results are replaced."""
    results: int = 0
    """How many got a result, stored unless it is a dry run."""
    rows: int = 0
    """Forecast rows stored; 0 in a dry run."""
    buckets: int | None = None
    """Of a catalogue in files; what is in one that was left alone counts as well, but for the seconds."""
    left_alone: int = 0
    """Buckets whose forecasts were there and whole."""
    failed: dict[int, str] = field(default_factory=dict)
    """Buckets that could not be worked, and why. Any of them makes the run a failure."""
    unusable_rows: int = 0
    """Rows left out because their value, date or id is NULL, or no number or date."""
    duplicate_rows: int = 0
    """Rows left out because a newer row has the same id and date."""
    looking_ahead: int = 0
    """Tracks that have streams after the as-of date."""
    skipped: pl.DataFrame = field(default_factory=pl.DataFrame)
    """What gets no result, and why."""
    taken: list[int] = field(default_factory=list)
    """Whose result another writer stored meanwhile; it stays."""
    refused: dict[int, str] = field(default_factory=dict)
    """Whose result the table cannot hold, and why. Any of them makes the run a failure."""
    warnings: list[str] = field(default_factory=list)
    """What is wrong with the tables, and how to mend it."""
    seconds: float = 0.0
    error: str | None = None
    """Why the run failed or was ended; all else is what it did until then."""

    def __post_init__(self) -> None:
        self.begin(self.subject, in_buckets=self.buckets is not None)

    def begin(self, subject: Subject, *, in_buckets: bool = False) -> None:
        """Be the report of a run that begins now."""
        self.subject = subject
        self.skipped = pl.DataFrame(schema=subject.skipped)
        self.buckets = 0 if in_buckets else None
        self.stages.names = ("connect", "buckets") if in_buckets else subject.stages
        self.stages.unit = "buckets" if in_buckets else subject.unit

    def describe(self, config: "RunConfig") -> None:
        """Take over what the run is asked to do, for tracks."""
        self.asked = asked(config.parameters, config.ids, config.limit)
        self.as_of = config.parameters.as_of
        self.replace, self.dry_run = config.replace, config.dry_run

    def add(self, done: Done, /) -> None:
        """Add up what became of a batch."""
        self.results += done.results
        self.rows += 0 if self.dry_run or self.subject is ARTISTS else done.rows
        self.left_alone += done.left_alone
        self.unusable_rows += done.unusable_rows
        self.duplicate_rows += done.duplicate_rows
        self.looking_ahead += done.looking_ahead
        self.refused |= done.refused
        self.taken += done.taken
        if done.skipped is not None:
            self.skipped = self.skipped.vstack(done.skipped)

    @property
    def skipped_by_reason(self) -> dict[str, int]:
        """Number of those skipped for each reason that occurs, most frequent first."""
        return by_reason(self.skipped)

    @property
    def total(self) -> int:
        """How many each stage will be done with at the end; 0 as long as that is not known."""
        return self.pending if self.buckets is None else self.buckets

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            **self.asked,
            **self._failed(),
            **self.place,
            **({} if self.buckets is None else {"buckets": self.buckets}),
            "replace": self.replace,
            "dry_run": self.dry_run,
            "started_at": self.started_at,
            "versions": versions() | ({"postgresql": self.server} if self.server else {}),
            "counts": self._counts(),
            "skipped_by_reason": self.skipped_by_reason,
            "stages": {stage: round(seconds, 6) for stage, seconds in self.stages.seconds.items()},
            "seconds": round(self.seconds, 6),
            "error": self.error,
            "warnings": self.warnings,
            "skipped": self.skipped.to_dicts(),
            "taken": self.taken,
            "refused": [{self.subject.key: number, "reason": why} for number, why in self.refused.items()],
        }

    def to_json(self) -> str:
        """`to_dict` as JSON text, without a secret that was given in the wrong place, or is part of a URL."""
        return json.dumps(all_masked(self.to_dict()), indent=2, default=lambda value: masked(f"{value}"))

    def _failed(self) -> dict[str, object]:
        if self.buckets is None:
            return {}
        return {
            "failed_buckets": [
                {"bucket": bucket, "reason": why} for bucket, why in sorted(self.failed.items())
            ]
        }

    def _counts(self) -> dict[str, int]:
        of_buckets = {"buckets_left_alone": self.left_alone, "buckets_failed": len(self.failed)}
        return {
            "pending": self.pending,
            self.subject.result: self.results,
            **({"rows": self.rows} if self.subject is TRACKS else {}),
            **({} if self.buckets is None else of_buckets),
            "skipped": len(self.skipped),
            "taken": len(self.taken),
            "refused": len(self.refused),
            "unusable_rows": self.unusable_rows,
            "duplicate_rows": self.duplicate_rows,
        }


def asked(
    parameters: "Parameters", track_ids: Sequence[int] = (), limit: int | None = None
) -> dict[str, object]:
    """What a run of forecasts is limited to, and its parameters, in types that JSON has."""
    return {"parameters": as_json(parameters), "track_ids": list(track_ids), "limit": limit}


def as_json(parameters: "Parameters") -> dict[str, object]:
    """The model's parameters in types that JSON has."""
    as_of = parameters.as_of
    return asdict(parameters) | {"as_of": as_of.isoformat() if as_of else None}


def by_reason(skipped: pl.DataFrame) -> dict[str, int]:
    """Number of rows for each reason that occurs, most frequent first."""
    counts = skipped.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return dict(counts.iter_rows())
