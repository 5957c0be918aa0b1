"""The report of a run: counts, skipped tracks, seconds per stage; as an object and as JSON."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from forecaster.frames.schemas import RATELESS, SKIPPED
from forecaster.process.secrets import all_masked, masked
from forecaster.run.batch import Done
from forecaster.run.plausible import CHECKS, Facts, Finding, Observed, Plausibility, warning
from forecaster.run.stages import Stages

if TYPE_CHECKING:
    from forecaster.model.calibrated.uncertainty import Errors
    from forecaster.model.parameters import Parameters
    from forecaster.run.config import RunConfig
    from forecaster.run.made_with import MadeWith

_FEW = 0.05  # share of a total that has other errors and yet does not change its range
PACKAGES: tuple[str, ...] = (
    "forecaster",
    "polars",
    "connectorx",
    "adbc-driver-postgresql",
    "numpy",
    "pyarrow",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    from importlib.metadata import version  # noqa: PLC0415 - takes long, and few runs are asked for a report

    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


@dataclass(frozen=True)
class Subject:
    """The kind of things that a run computes results for: tracks or artists."""

    unit: str
    """Their name, in the plural."""
    key: str
    """The column with their id."""
    result: str
    """The participle for one with a result: "forecast" or "rated"."""
    skipped: pl.Schema
    """The columns of the skipped ones."""
    stages: tuple[str, ...]
    """The stages of a run, in the order in which they begin."""


TRACKS = Subject(
    "tracks",
    "cm_track_id",
    "forecast",
    SKIPPED,
    ("connect", "read", "features", "fit", "projection", "write"),
)
ARTISTS = Subject("artists", "cm_artist_id", "rated", RATELESS, ("connect", "read", "fit", "write"))

CAUSES: Mapping[str, str] = {
    "new_streams": "new streams",
    "new_mldr": "new MLDR",
    "restated": "restated streams",
}
"""Why a forecast is stale: the key in the report, and the words for it."""


@dataclass
class Report:
    """The report of a run, filled in while it goes on.

    Every processed track or artist has a result, or was skipped, taken or refused.
    """

    subject: Subject = TRACKS
    log_id: str = field(default_factory=lambda: os.urandom(4).hex())
    """Identifies the run in log lines and reports."""
    run: int | None = None
    """Identifies the run in the history; None without one."""
    stages: Stages = field(default_factory=Stages)
    place: Mapping[str, object] = field(default_factory=dict)
    """Where the run reads and stores, without passwords."""
    asked: Mapping[str, object] = field(default_factory=dict)
    """The selection and the parameters of the run, as JSON values."""
    as_of: date | None = None
    model: str = "production"
    """The name of the model."""
    server: str = ""
    """The version of the server; empty without one."""
    replace: bool = False
    refresh: bool = False
    dry_run: bool = False
    started_at: str = ""
    """The instant that is stored as `created_at`."""
    pending: int = 0
    """Number of tracks or artists to process: those with data and without a result; all with `replace`."""
    stale: dict[str, int] | None = None
    """Number of tracks whose stored forecast was stale when the run began, in all and by cause.

    None: not counted, as with `replace`, or without the unique key of the streams.
    """
    results: int = 0
    """Number of tracks or artists that got a result, stored unless it is a dry run."""
    rows: int = 0
    """Forecast rows stored; 0 in a dry run."""
    buckets: int | None = None
    """Number of buckets of a catalogue in files; None for other sources.

    The counts include buckets that were left alone, the seconds do not.
    """
    left_alone: int = 0
    """Number of buckets whose forecasts were stored and complete before the run."""
    failed: dict[int, str] = field(default_factory=dict)
    """Buckets that failed, with the reason. Any of them makes the run a failure."""
    unusable_rows: int = 0
    """Rows left out because their value, date or id is NULL, or not a finite number or date."""
    duplicate_rows: int = 0
    """Rows left out because a newer row has the same id and date."""
    looking_ahead: int = 0
    """Number of tracks that have streams after the as-of date."""
    skipped: pl.DataFrame = field(default_factory=pl.DataFrame)
    """One row per track or artist without a result, with the reason: the columns of `subject.skipped`."""
    taken: list[int] = field(default_factory=list)
    """Ids for which another writer stored a result in the meantime; that result stays."""
    refused: dict[int, str] = field(default_factory=dict)
    """Ids whose result the table cannot hold, with the reason. Any of them makes the run a failure."""
    horizon: int = 0
    """Months of each forecast; 0 while it is unknown, and for a run of decay rates."""
    total: float | None = None
    """Streams of all stored forecasts up to the horizon, at the end of the run; None if nothing is kept."""
    total_of_others: float = 0.0
    """The part of the total that other runs had forecast, or another program."""
    run_before: int | None = None
    """The run before with the same horizon, in the history; None without one."""
    total_before: float | None = None
    """The total at the end of that run."""
    errors: "Errors | None" = None
    """Error figures of the forecasts, which their intervals are made from; None without intervals."""
    calibration: str | None = None
    """Id of the calibration that they are from; None if they are those of other catalogues."""
    warnings: list[str] = field(default_factory=list)
    """Problems of the tables or files, each with a way to solve it."""
    observed: Observed = field(default_factory=Observed)
    """What the checks of plausibility know about the tracks."""
    is_whole: bool = False
    """Whether the observed tracks are all that have streams."""
    implausible: dict[str, Finding] = field(default_factory=dict)
    """What is implausible, by the name of the check."""
    is_done: bool = False
    """Whether the run has stored its results, and judged what it has seen; it may fail nevertheless."""
    seconds: float = 0.0
    error: str | None = None
    """Why the run failed or was interrupted; the other fields tell what it did until then."""

    def __post_init__(self) -> None:
        self.begin(self.subject, in_buckets=self.buckets is not None)

    def begin(self, subject: Subject, *, in_buckets: bool = False) -> None:
        """Reset for a run of this subject that begins now."""
        self.subject = subject
        self.skipped = pl.DataFrame(schema=subject.skipped)
        self.buckets = 0 if in_buckets else None
        self.stages.names = ("connect", "buckets") if in_buckets else subject.stages
        self.stages.unit = "buckets" if in_buckets else subject.unit

    def describe(self, config: "RunConfig") -> None:
        """Copy the selection and the parameters of a run of forecasts."""
        self.asked = asked(config.parameters, config.ids, config.limit)
        self.as_of, self.horizon = config.parameters.as_of, config.parameters.horizon
        self.replace, self.refresh, self.dry_run = config.replace, config.refresh, config.dry_run

    def made_with(self, made_with: "MadeWith") -> None:
        """Copy what the forecasts are made with, if it is not the production model without intervals."""
        self.model, self.errors, self.calibration = made_with.name, made_with.errors, made_with.calibration
        if made_with.recorded:
            # The as-of day as it was asked for: else each night's parameters would be others.
            parameters = as_json(replace(made_with.parameters, as_of=self.as_of))
            self.asked = {**self.asked, "parameters": parameters | made_with.recorded}
        if made_with.errors:
            self.asked = {**self.asked, "intervals": made_with.calibration}

    def add(self, done: Done, /) -> None:
        """Add the outcome of a batch."""
        self.results += done.results
        self.rows += 0 if self.dry_run or self.subject is ARTISTS else done.rows
        self.left_alone += done.left_alone
        self.unusable_rows += done.unusable_rows
        self.duplicate_rows += done.duplicate_rows
        self.looking_ahead += done.looking_ahead
        self.observed += done.observed
        self.refused |= done.refused
        self.taken += done.taken
        if done.skipped is not None:
            self.skipped = self.skipped.vstack(done.skipped)

    def judge(self, plausibility: Plausibility, today: date) -> None:
        """Judge whether what a run of forecasts has seen is plausible. `today`: in UTC.

        With `limit`, the total grows with the tracks that are new in it, so it is not judged.
        """
        if self.subject is TRACKS:
            facts = Facts(
                self.observed,
                today,
                self.as_of,
                is_whole=self.is_whole,
                skipped=len(self.skipped),
                total=self.total if self.is_whole and not self.asked.get("limit") else None,
                total_before=self.total_before,
            )
            self.implausible = plausibility.judge(facts)

    @property
    def checks(self) -> dict[str, int] | None:
        """Number of tracks that each check is about, 0 without a finding; None if nothing was judged."""
        if self.subject is not TRACKS or not self.is_done:
            return None
        return dict.fromkeys(CHECKS, 0) | {name: one.tracks for name, one in self.implausible.items()}

    @property
    def all_warnings(self) -> list[str]:
        """The problems of the tables or files, and what is implausible."""
        return [*self.warnings, *(warning(name, found) for name, found in self.implausible.items())]

    @property
    def skipped_by_reason(self) -> dict[str, int]:
        """Number of skipped tracks or artists by reason, most frequent first."""
        return by_reason(self.skipped)

    @property
    def to_process(self) -> int:
        """Number of tracks, artists or buckets that each stage processes; 0 while it is unknown."""
        return self.pending if self.buckets is None else self.buckets

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values. The keys are part of the interface."""
        return {
            "log_id": self.log_id,
            **({} if self.run is None else {"run": self.run}),
            **self.asked,
            **self._failed(),
            **self.place,
            **({} if self.buckets is None else {"buckets": self.buckets}),
            "replace": self.replace,
            "refresh": self.refresh,
            "dry_run": self.dry_run,
            "started_at": self.started_at,
            "versions": versions() | ({"postgresql": self.server} if self.server else {}),
            "counts": self._counts(),
            **({} if self.stale is None else {"stale": self.stale}),
            **({} if self.total is None else self._total()),
            "skipped_by_reason": self.skipped_by_reason,
            "stages": {stage: round(seconds, 6) for stage, seconds in self.stages.seconds.items()},
            "seconds": round(self.seconds, 6),
            "error": self.error,
            **self._checks(),
            "warnings": self.all_warnings,
            "skipped": self.skipped.to_dicts(),
            "taken": self.taken,
            "refused": [{self.subject.key: number, "reason": why} for number, why in self.refused.items()],
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text, with secrets masked wherever they were given."""
        return json.dumps(all_masked(self.to_dict()), indent=2, default=lambda value: masked(f"{value}"))

    def _failed(self) -> dict[str, object]:
        if self.buckets is None:
            return {}
        return {
            "failed_buckets": [
                {"bucket": bucket, "reason": why} for bucket, why in sorted(self.failed.items())
            ]
        }

    def _checks(self) -> dict[str, object]:
        return {} if self.checks is None else {"checks": self.checks}

    def _total(self) -> dict[str, object]:
        before = {"run": self.run_before, "total": self.total_before}
        low, high = self.total_range or (None, None)
        return {
            "total": self.total,
            **({"total_low_80": low, "total_high_80": high} if self.errors else {}),
            "before": before if self.run_before is not None else None,
        }

    @property
    def total_range(self) -> tuple[float, float] | None:
        """The 80 % interval of the total, in streams.

        None without intervals, and unless this run made nearly all of it: others may have other errors.
        """
        if self.total is None or self.errors is None or self.total_of_others > _FEW * self.total:
            return None
        factor = self.errors.total_factor(80, self.horizon)
        return self.total / factor, self.total * factor

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
    """Return the selection and the parameters of a run of forecasts as JSON values."""
    return {"parameters": as_json(parameters), "track_ids": list(track_ids), "limit": limit}


def as_json(parameters: "Parameters") -> dict[str, object]:
    """Return the parameters of the model as JSON values."""
    as_of = parameters.as_of
    return asdict(parameters) | {"as_of": as_of.isoformat() if as_of else None}


def stale_in_words(stale: Mapping[str, int], /) -> str:
    """Return the number of stale forecasts, with their causes in brackets."""
    causes = ", ".join(f"{words} {stale[cause]:,}" for cause, words in CAUSES.items() if stale.get(cause))
    return f"{stale['tracks']:,} ({causes})"


def by_reason(skipped: pl.DataFrame) -> dict[str, int]:
    """Count the rows of each reason, most frequent first."""
    counts = skipped.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return dict(counts.iter_rows())
