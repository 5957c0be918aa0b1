"""The figures that follow from the measurements: medians over the rounds, ratios within each round."""

from collections.abc import Callable
from statistics import median
from typing import Any

Result = dict[str, Any]
Round = dict[str, Any]

NEAR = "0 ms"  # through the proxy, without delay


def over(result: Result, value: Callable[[Round], float]) -> float:
    """Median over the rounds."""
    return float(median(value(measured) for measured in result["rounds"]))


def at(result: Result, *path: str) -> float:
    """Median over the rounds of what stands at a path of keys."""

    def found(measured: Round) -> float:
        value: Any = measured
        for key in path:
            value = value[key]
        return float(value)

    return over(result, found)


def main_layout(result: Result) -> str:
    """Name of the first layout."""
    return str(next(iter(result["floors"])))


def seconds(result: Result, layout: str, what: str = "program") -> float:
    """Median seconds of the program, the floor, or the version before, on a layout."""
    return at(result, "layouts", layout, what, "seconds")


def ratio(result: Result, of: str, to: str, what: str = "program", to_what: str = "program") -> float:
    """Median of the rounds' ratios between two layouts, or between two figures of one."""
    return over(result, lambda r: r["layouts"][of][what]["seconds"] / r["layouts"][to][to_what]["seconds"])


def more(result: Result, way: str) -> float:
    """Median of the seconds that a run takes more than near, through the same proxy without delay."""
    return over(result, lambda r: r["away"][way]["seconds"] - r["away"][NEAR]["seconds"])


def waited(result: Result, milliseconds: float) -> float:
    """Median of the round trips that a run waits for: the seconds more than near, in round trips."""
    return more(result, f"{milliseconds:g} ms") / (milliseconds / 1e3)


def passed(result: Result, way: str, what: str) -> float:
    """Median of the seconds, connections, turns or bytes of a run."""
    return at(result, "away", way, what)


def needed_bytes(result: Result) -> int:
    """Bytes of what the model needs, as integers: each value of streams, and the facts about each track.

    A value takes 4 bytes. The ids of track, artist and first row take 8 each; its age, first and last day 4.
    """
    return int(4 * result["catalogue"]["values"] + (3 * 8 + 3 * 4) * result["catalogue"]["tracks"])
