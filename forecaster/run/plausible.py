"""Is what comes in plausible? The checks, their thresholds, and the judgement of what a run has seen."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from forecaster.errors import ImplausibleError, InvalidOptionError
from forecaster.process.numbers import change

NAMED = 3
"""The number of tracks that a warning names."""
ALL = "all"
NONE = "none"
"""Instead of the name of a check: all checks, or none."""
RECENT = 60
"""Days. A dead feed is noticed within them. Over years, tracks that are taken down are normal."""

_ENOUGH = 20  # tracks; among fewer, shares and the newest day say nothing about the catalogue
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True)
class Some:
    """A number of tracks, and the first of them."""

    number: int = 0
    first: tuple[int, ...] = ()
    """Their lowest ids, at most `NAMED`."""

    def __add__(self, other: "Some") -> "Some":
        return Some(self.number + other.number, tuple(sorted({*self.first, *other.first})[:NAMED]))

    def __str__(self) -> str:
        return f"{self.number:,} (first: {', '.join(map(str, self.first))})"


@dataclass(frozen=True)
class Observed:
    """What the checks know about some tracks. Small, because it may come from another process.

    The sum of two of them is about the tracks of both, which must differ.
    """

    ends: Mapping[int | None, Some] = field(default_factory=dict)
    """The tracks by their last day, in days since 1970-01-01; None: without any record."""
    found: Mapping[str, Some] = field(default_factory=dict)
    """The suspicious tracks by the name of the check."""
    among: Mapping[str, int] = field(default_factory=dict)
    """The number of tracks that such a check can judge."""

    def __add__(self, other: "Observed") -> "Observed":
        return Observed(
            _added(self.ends, other.ends, Some()),
            _added(self.found, other.found, Some()),
            _added(self.among, other.among, 0),
        )

    @property
    def tracks(self) -> int:
        """The number of tracks."""
        return sum(some.number for some in self.ends.values())

    def newest(self, latest: int) -> int | None:
        """Find the newest last day up to `latest`; None without one."""
        return max((day for day in self.ends if day is not None and day <= latest), default=None)

    def ending(self, holds: Callable[[int], bool]) -> Some:
        """Add up the tracks whose last day fulfils a condition."""
        chosen = (some for day, some in self.ends.items() if day is not None and holds(day))
        return sum(chosen, Some())

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "ends": [[day, some.number, *some.first] for day, some in self.ends.items()],
            "found": {name: [some.number, *some.first] for name, some in self.found.items()},
            "among": dict(self.among),
        }


def observed_of(values: Mapping[str, Any], /) -> Observed:
    """Build what `to_json` has returned."""
    return Observed(
        {day: Some(number, tuple(first)) for day, number, *first in values["ends"]},
        {name: Some(number, tuple(first)) for name, (number, *first) in values["found"].items()},
        values["among"],
    )


@dataclass(frozen=True)
class Facts:
    """What a run has seen, and when."""

    observed: Observed
    today: date
    """In UTC."""
    as_of: date | None = None
    is_whole: bool = False
    """Whether the observed tracks are all that have streams."""
    skipped: int = 0
    """The number of tracks that the run has skipped."""
    total: float | None = None
    """The streams of all stored forecasts; None if it is not known, or the run has processed only a part."""
    total_before: float | None = None
    """The same at the end of the run before."""

    @property
    def is_enough(self) -> bool:
        """Whether the observed tracks can stand for the catalogue."""
        return self.is_whole or self.observed.tracks >= _ENOUGH

    def latest(self, future: float) -> int:
        """The last day that is not in the future, in days since 1970-01-01."""
        return _day(self.today) + math.floor(future)


Limits = Mapping[str, float]
"""The threshold of each check that is made."""


@dataclass(frozen=True)
class Finding:
    """Something implausible."""

    tracks: int
    """The number of tracks that it is about; 1 if it is about the catalogue."""
    found: str
    """The state, in a sentence."""
    advice: str


@dataclass(frozen=True)
class Check:
    """A check of what comes in."""

    meaning: str
    """What is implausible; N stands for the threshold."""
    threshold: float
    """The default of N."""
    judge: Callable[[Facts, Limits, float], Finding | None]
    """Takes the facts, all thresholds and its own; returns None for what is plausible or not known."""


def _age(facts: Facts, limits: Limits, days: float) -> Finding | None:
    newest = _newest(facts, limits)
    if newest is None or _day(facts.as_of or facts.today) - newest <= days:
        return None
    than = "before --as-of" if facts.as_of else "ago"
    return Finding(
        1,
        f"the newest day is {_shown(newest)}, over {days:g} days {than}",
        "check the feed, or --threshold age=off",
    )


def _ended(facts: Facts, limits: Limits, days: float) -> Finding | None:
    newest = _newest(facts, limits)
    if newest is None:
        return None
    early = facts.observed.ending(lambda day: days < newest - day <= RECENT)
    if not early.number:
        return None
    return Finding(early.number, f"tracks ending over {days:g} days early: {early}", "check the feed")


def _future(facts: Facts, _limits: Limits, days: float) -> Finding | None:
    latest = facts.latest(days)
    if not (ahead := facts.observed.ending(lambda day: day > latest)).number:
        return None
    last = max(day for day in facts.observed.ends if day is not None)
    return Finding(
        ahead.number,
        f"tracks with days up to {_shown(last)}: {ahead}",
        "correct them",
    )


def _zeros(facts: Facts, _limits: Limits, percent: float) -> Finding | None:
    found, among = facts.observed.found.get("zeros", Some()), facts.observed.among.get("zeros", 0)
    if among < _ENOUGH or found.number * 100 <= percent * among:
        return None
    return Finding(
        found.number, f"tracks ending in zeros: {_share(found.number, among)}, {found}", "check the feed"
    )


def _rates(facts: Facts, _limits: Limits, rate: float) -> Finding | None:
    if not (found := facts.observed.found.get("rates", Some())).number:
        return None
    return Finding(
        found.number,
        f"tracks with an MLDR outside -{rate:g}..{rate:g}: {found}",
        "correct it",
    )


def _spike(facts: Facts, _limits: Limits, times: float) -> Finding | None:
    if not (found := facts.observed.found.get("spike", Some())).number:
        return None
    return Finding(
        found.number,
        f"tracks over {times:g} times their past level: {found}",
        "check them",
    )


def _tracks(facts: Facts, _limits: Limits, least: float) -> Finding | None:
    number = facts.observed.tracks
    if not facts.is_whole or number >= least:
        return None
    return Finding(1, f"tracks with streams: {number:,}, fewer than {least:g}", "check what was loaded")


def _skipped(facts: Facts, _limits: Limits, percent: float) -> Finding | None:
    number, skipped = facts.observed.tracks, facts.skipped
    if not facts.is_whole or not skipped or skipped * 100 < percent * number:
        return None
    return Finding(
        skipped,
        f"skipped tracks: {skipped:,} of {number:,}, {_share(skipped, number)}, at least {percent:g} %",
        "provide what the reasons name",
    )


def _total(facts: Facts, _limits: Limits, percent: float) -> Finding | None:
    if not facts.total_before or facts.total is None:
        return None
    if abs(facts.total - facts.total_before) * 100 / facts.total_before <= percent:
        return None
    moved = change(facts.total, facts.total_before)
    return Finding(
        1,
        f"the total moved by {moved} since the run before, over {percent:g} %",
        "see `forecaster compare`",
    )


CHECKS: Mapping[str, Check] = {
    "age": Check("the newest day of the streams is more than N days old", 7, _age),
    "ended": Check(
        f"the streams of a track end more than N days before that day, and at most {RECENT}", 7, _ended
    ),
    "future": Check("a track has streams more than N days after today (UTC)", 1, _future),
    "zeros": Check(
        "of the tracks with 10 streams a day or more, more than N % are zero in their last 3 records",
        5,
        _zeros,
    ),
    "rates": Check("an artist has an MLDR below -N or above N per month", 1, _rates),
    "spike": Check(
        "the mean of the last 30 records of a track is more than N times that of the records before",
        10,
        _spike,
    ),
    "tracks": Check("fewer than N tracks have streams", 1, _tracks),
    "skipped": Check("at least N % of the tracks with streams are skipped", 50, _skipped),
    "total": Check("the total of the forecasts moved by more than N % since the run before", 10, _total),
}
"""Every check. To add one, add a row here; if it needs a fact of each track, one in
`forecaster.model.plausibility`. Options, warnings, the report and the doctor follow."""


class Threshold(NamedTuple):
    """The threshold of a check; None: the check is not made."""

    check: str
    value: float | None

    def __str__(self) -> str:
        return f"{self.check}=off" if self.value is None else f"{self.check}={self.value:g}"


@dataclass(frozen=True)
class Plausibility:
    """Which checks are made with which thresholds, and which of them make a run a failure.

    Raises `InvalidOptionError` on creation for a check that does not exist, or an invalid threshold.
    """

    thresholds: tuple[tuple[str, float | None], ...] = ()
    """Thresholds by name, instead of the default; the last one counts. None: the check is not made."""
    strict: tuple[str, ...] = ()
    """The checks that make a run a failure; "all" for all, "none" for none."""

    def __post_init__(self) -> None:
        strict = (name for name in self.strict if name not in (ALL, NONE))
        for name in (*(name for name, _ in self.thresholds), *strict):
            if name not in CHECKS:
                raise InvalidOptionError(f"there is no check {name!r}", hint=f"checks: {', '.join(CHECKS)}")
        for name, value in self.thresholds:
            if value is not None and not 0 <= value < math.inf:
                raise InvalidOptionError(f"the threshold of {name} is {value}: expected at least 0, or off")

    @property
    def limits(self) -> dict[str, float]:
        """The threshold of each check that is made."""
        chosen = {name: check.threshold for name, check in CHECKS.items()} | dict(self.thresholds)
        return {name: value for name, value in chosen.items() if value is not None}

    def judge(self, facts: Facts) -> dict[str, Finding]:
        """Judge what a run has seen: what is implausible, by check."""
        limits = self.limits
        judged = {name: CHECKS[name].judge(facts, limits, value) for name, value in limits.items()}
        return {name: found for name, found in judged.items() if found}

    def refuse(self, found: Mapping[str, Finding], /, *, hint: str) -> None:
        """Raise `ImplausibleError` if one of the strict checks has found something."""
        if failed := [name for name in found if name in self.strict or ALL in self.strict]:
            raise ImplausibleError(f"implausible, and --strict: {', '.join(failed)}", hint=hint)


def warning(name: str, found: Finding, /) -> str:
    """Write the warning about a finding."""
    return f"implausible ({name}): {found.found}; {found.advice}"


def _newest(facts: Facts, limits: Limits) -> int | None:
    """Find the newest day of the catalogue that is not in the future; None if too few tracks are known."""
    latest = facts.latest(limits.get("future", CHECKS["future"].threshold))
    return facts.observed.newest(latest) if facts.is_enough else None


def _day(day: date) -> int:
    return day.toordinal() - _EPOCH


def _shown(day: int) -> str:
    """Write a day as a date, if the calendar has it."""
    ordinal = day + _EPOCH
    if ordinal > date.max.toordinal():
        return "a day after 9999-12-31"
    return f"{date.fromordinal(ordinal)}" if ordinal > 0 else "a day before 0001-01-01"


def _share(number: int, of: int) -> str:
    return f"{100 * number / of:.1f} %"


def _added(ours: Mapping[Any, Any], theirs: Mapping[Any, Any], nothing: Any) -> dict[Any, Any]:  # noqa: ANN401
    """Add the values of two mappings by key."""
    return {key: ours.get(key, nothing) + theirs.get(key, nothing) for key in {**ours, **theirs}}
