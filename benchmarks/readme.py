"""The section of the README on speed, from the results."""

import textwrap
from collections.abc import Iterator

from benchmarks.figures import NEAR, Result, at, main_layout, over, passed, seconds
from benchmarks.results import PUBLISHED
from benchmarks.tables import table

_BY_DAY, _BY_TRACK = "by day", "by track"


def speed(result: Result) -> str:
    """Return the section without its heading: what a user gets first, then what it is compared with."""
    tracks, rows = result["catalogue"]["tracks"], result["catalogue"]["daily_rows"]
    environment = result["environment"]
    cores = {2: "two"}.get(environment["cores"], environment["cores"])
    header = (f"{tracks:,} tracks", "seconds", "tracks per second")
    lines: list[tuple[str, ...]] = [*_runs(result)]
    floors = [seconds(result, name, "floor") for name in (_BY_DAY, _BY_TRACK) if name in result["floors"]]
    names = " / ".join(name for name in (_BY_DAY, _BY_TRACK) if name in result["floors"])
    lines.append(
        (f"the floor, {names}: nothing but copying the rows out and in", " / ".join(map(_s, floors)), "")
    )
    one_by_one = over(result, lambda r: r["baseline"]["seconds_per_track"]) * tracks
    sampled = round(at(result, "baseline", "tracks"))
    lines.append(
        (f"one track at a time here ({sampled} tracks, scaled up)", f"{one_by_one:.0f}",
         f"{tracks / one_by_one:,.0f}")
    )  # fmt: skip
    published = [
        " / ".join(f"{figures[what]:,{form}}" for figures in PUBLISHED.values())
        for what, form in (("seconds", ".0f"), ("tracks_per_second", ".3g"))
    ]
    lines.append(("the system it replaces, original / optimised, as published", *published))
    server = f"PostgreSQL {environment['postgresql']} on the same machine"
    head = f"A catalogue with {rows / 1e6:.1f} million daily rows, on {cores} cores, {server}, medians:"
    again = "`python -m benchmarks` repeats this: [Speed and tuning](docs/tuning.md)."
    return "\n\n".join((_filled(head), table(header, lines), _filled(f"{_largest(result)} {again}")))


def _runs(result: Result) -> Iterator[tuple[str, str, str]]:
    main, tracks = main_layout(result), result["catalogue"]["tracks"]
    for name in (_BY_DAY, _BY_TRACK):
        if name in result["floors"]:
            yield _line(f"`forecaster run`, rows stored {name}", tracks, seconds(result, name))
    ways = [*result["rounds"][0]["away"]]
    far = [way for way in ways if "," not in way and way != NEAR]
    if far:
        distances = " / ".join(way.removesuffix(" ms") for way in far)
        yield _line(f"{main}, {distances} ms away", tracks, *(passed(result, way, "seconds") for way in far))
    for way in ways:
        if "," in way:
            out, into = (f"{passed(result, way, what) / 1e6:.0f} MB" for what in ("bytes_out", "bytes_in"))
            what = f"{main}, over {way.partition(', ')[2]}: {out} out of the server, {into} in"
            yield _line(what, tracks, passed(result, way, "seconds"))


def _line(what: str, tracks: int, *taken: float) -> tuple[str, str, str]:
    return what, " / ".join(map(_s, taken)), " / ".join(f"{tracks / each:,.0f}" for each in taken)


def _largest(result: Result) -> str:
    growth = result["growth"]
    name, key = (_BY_DAY, "by_day") if "by_day" in growth else (_BY_TRACK, "by_track")
    last = growth[key][-1]
    return f"{last['tracks']:,} tracks, {name}: {last['seconds']:.1f} s, {last['peak_mb']:.0f} MB."


def _filled(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False)


def _s(taken: float) -> str:
    return f"{taken:.2f}" if taken < 10 else f"{taken:.1f}"
