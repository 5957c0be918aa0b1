"""What the program should reach, and whether it did."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from benchmarks.figures import Result, Round, at, more, needed_bytes, over, passed, ratio, seconds, waited

# The optimised code of the system that this program replaces, on 8,459 tracks by track, on this machine.
ORIGINAL_TRACKS, ORIGINAL_SECONDS = 8_459, (66.8, 70.5)
FLAT = 1.25
_DAY, _TRACK, _PLAIN = "by day", "by track", "by day, plain key"
_FEW = f"{_PLAIN}, 1 % of the tracks pending"


@dataclass(frozen=True)
class Target:
    """A bound on a figure."""

    what: str
    bound: float
    measured: float | None
    """None: not measured."""
    at_least: bool = False

    @property
    def is_met(self) -> bool | None:
        """Whether the figure is within the bound."""
        if self.measured is None:
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    @property
    def line(self) -> tuple[str, str, str, str]:
        """A line of the table."""
        sign = "at least" if self.at_least else "at most"
        measured = "" if self.measured is None else f"{self.measured:.2f}"
        met = {None: "not measured", True: "yes", False: "no"}[self.is_met]
        return self.what, f"{sign} {self.bound:g}", measured, met

    def as_json(self) -> dict[str, Any]:
        """Everything of it."""
        return {**asdict(self), "met": self.is_met}


def targets(result: Result) -> list[Target]:
    """Compare the measurements with the targets."""
    return [
        Target(what, bound, _or_none(measured), at_least=at_least)
        for what, bound, at_least, measured in _targets(result)
    ]


def original_by_day(result: Result) -> tuple[float, float]:
    """Estimate the shortest time of the original by day: that by track, and what reading takes longer."""
    by_day, by_track = (at(result, "all_rows", on) for on in (_DAY, _TRACK))
    return ORIGINAL_SECONDS[0] + by_day - by_track, by_day - by_track


def _targets(result: Result) -> Iterator[tuple[str, float, bool, Callable[[], float]]]:
    yield "by day / by track", 1.3, False, lambda: ratio(result, _DAY, _TRACK)
    yield "by day with the plain key / by track", 4, False, lambda: ratio(result, _PLAIN, _TRACK)
    yield (
        "the same with 1 % of the tracks pending / the version before", 1.0, False,
        lambda: ratio(result, _FEW, _FEW, to_what="before"),
    )  # fmt: skip
    for months in (24, 120):
        pair = [f"{months} partitions, {key} key" for key in ("plain", "no")]
        for name in pair:
            better = partial(_against_the_better, result, name, pair)
            yield f"{name} / the better one of the version before", 1.3, False, better
    yield "50 ms away: round trips waited for", 40, False, lambda: waited(result, 50)
    yield "50 ms away: connections", 8, False, lambda: passed(result, "50 ms", "connections")
    yield "100 ms away: seconds more than near", 4, False, lambda: more(result, "100 ms")
    yield (
        "bytes out / what the model needs as integers", 1.1, False,
        lambda: passed(result, "0 ms, 100 Mbit/s", "bytes_out") / needed_bytes(result),
    )  # fmt: skip
    yield "by track: run / floor", 1.25, False, lambda: ratio(result, _TRACK, _TRACK, to_what="floor")
    uuid = "by track, random uuid ids"
    yield "random uuid ids: run / floor", 1.4, False, lambda: ratio(result, uuid, uuid, to_what="floor")
    yield "the original / a run, by track", 60, True, lambda: _times(result, _TRACK, ORIGINAL_SECONDS[0])
    yield (
        "the original / a run, by day", 45, True,
        lambda: _times(result, _DAY, original_by_day(result)[0]),
    )  # fmt: skip
    yield "16 times as many tracks, by day / linear", 1.1, False, lambda: _grown(result, "seconds") / 16
    yield "the same: peak memory", FLAT, False, lambda: _grown(result, "peak_mb")
    yield (
        "load of a new day, covering key / plain key", 1.5, False,
        lambda: over(result, lambda r: r["new_day"][_DAY] / r["new_day"][_PLAIN]),
    )  # fmt: skip


def _against_the_better(result: Result, name: str, pair: list[str]) -> float:
    def compared(measured: Round) -> float:
        before = min(measured["layouts"][one]["before"]["seconds"] for one in pair)
        return float(measured["layouts"][name]["program"]["seconds"] / before)

    return over(result, compared)


def _times(result: Result, layout: str, original: float) -> float:
    if result["catalogue"]["tracks"] != ORIGINAL_TRACKS:
        raise KeyError(ORIGINAL_TRACKS)
    return original / seconds(result, layout)


def _grown(result: Result, what: str) -> float:
    by_tracks = {size["tracks"]: size[what] for size in result["growth"]["by_day"]}
    smallest = min(by_tracks)
    return float(by_tracks[16 * smallest] / by_tracks[smallest])


def _or_none(measured: Callable[[], float]) -> float | None:
    with suppress(KeyError):  # a layout or a distance that was not measured
        return measured()
    return None
