"""The analysts' page: its track in the calibrated model, computed again by plain arithmetic and by `dump`."""

import math
import re
from datetime import date, timedelta
from statistics import median

import polars as pl
import pytest

from forecaster.model.calibrated.rows import MIDDLE, SHIPPED
from tests.documents import fenced, page_named
from tests.tables import golden_streams

PAGE = page_named("docs/model.md").partition("\n## The calibrated model\n")[2]
D = date(2023, 3, 31)
TRACK, GROUP = 60, (6, 12)
LENGTHS = (8, 13, 26)
NAMES = "abcd"


def days_of_tracks() -> dict[int, dict[int, float]]:
    """The streams of each track in the last 26 weeks by the number of days before D."""
    recent = golden_streams().filter(pl.col("date") > D - timedelta(7 * 26))
    found: dict[int, dict[int, float]] = {}
    for track, day, streams in recent.select("cm_track_id", "date", "daily_streams").iter_rows():
        found.setdefault(track, {})[(D - day).days] = streams
    return found


def week(days: dict[int, float], j: int) -> float | None:
    known = [days[back] for back in range(7 * j, 7 * j + 7) if back in days]
    return sum(known) / len(known) if len(known) >= 6 else None


def in_group() -> set[int]:
    """The tracks of the age group."""
    last = golden_streams().sort("date").unique("cm_track_id", keep="last")
    age = pl.col("days_from_release") + (pl.lit(D) - pl.col("date")).dt.total_days()
    return {*last.filter((age / 30).is_between(*GROUP, closed="left"))["cm_track_id"]}


def falls(tracks: dict[int, dict[int, float]], weeks: int) -> tuple[int, list[float]]:
    """The number of complete tracks, and the falls of their sum from week to week, newest first."""
    means = [[week(days, j) for j in range(weeks)] for days in tracks.values()]
    complete = [[mean for mean in track if mean is not None] for track in means if None not in track]
    sums = [sum(of_week) for of_week in zip(*complete, strict=True)]
    return len(complete), [math.log(sums[j + 1] / sums[j]) for j in range(weeks - 1)]


def by_hand() -> dict[str, str]:
    """Each step in the words of the page."""
    everything = days_of_tracks()
    group = {track: everything[track] for track in in_group() & everything.keys()}
    level = sum(everything[TRACK][back] for back in range(7)) / 7
    steps = {"level": f"{level:,.10g}", "months since release": f"{199 // 30}", "age group": "6-12"}
    d = {}
    for weeks in LENGTHS:
        (n, own), (_, whole) = falls(group, weeks), falls(everything, weeks)
        slope, of_all = 30 / 7 * median(own), 30 / 7 * median(whole)
        d[weeks] = (n * slope + 10 * of_all) / (n + 10)
        if weeks == LENGTHS[0]:
            steps["falls from week to week"] = ", ".join(f"{fall:.4f}" for fall in own)
        steps |= {
            f"tracks n, {weeks} weeks": f"{n}",
            f"slope, {weeks} weeks": f"{slope:.6f}",
            f"whole, {weeks} weeks": f"{of_all:.6f}",
            f"d, {weeks} weeks": f"{d[weeks]:.6f}",
        }
    recent = {}
    for name, (m8, m26, s, g, cap, *_) in zip(NAMES, SHIPPED, strict=True):
        mean = m8 * d[8] + (1 - m8 - m26) * d[13] + m26 * d[26]
        b = s * mean
        recent[name] = min(g * b if b < 0 else b, cap)
        steps |= {
            f"mean of d, row {name}": f"{mean:.6f}",
            f"recent rate b, row {name}": f"{recent[name]:.6f}",
        }
    for month in (1, 2):
        t = month - 0.38
        decays = []
        for name, row in zip(NAMES, SHIPPED, strict=True):
            e = (1 - math.exp(-row.theta * t)) / row.theta
            decays.append(recent[name] * e + row.r0 * (t - e))
            steps |= {
                f"E, row {name}, month {month}": f"{e:.5f}",
                f"decay, row {name}, month {month}": f"{decays[-1]:.5f}",
            }
        mean = sum(decays) / 4
        steps |= {
            f"mean, month {month}": f"{mean:.5f}",
            f"month {month}": f"{30 * level * math.exp(-mean):,.0f}",
        }
    return steps


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    """The result of each step, by its name."""
    rows = re.findall(r"^\| ([^|]+?) \|[^|]*\| ([^|]+?) \|$", PAGE.partition("by hand\n")[2], re.MULTILINE)
    return {name: result for name, result in rows if name != "step"}


def test_the_worked_example_by_hand(shown: dict[str, str]) -> None:
    assert shown == by_hand()


def test_dump_shows_the_same(shown: dict[str, str]) -> None:
    """That it prints what the other page shows is tested with all commands of the pages."""
    lines = [line.split() for line in fenced("console", f"dump --track-id {TRACK}").splitlines()]
    for name in ("months since release", "age group"):
        assert [*name.replace("group", "group, in months").split(), shown[name]] in lines
    assert [
        "level,",
        "streams",
        "per",
        "day",
        f"{shown['level']},",
        "from",
        "the",
        "last",
        "7",
        "days",
    ] in lines
    for weeks in LENGTHS:
        of_weeks = [shown[f"{name}, {weeks} weeks"] for name in ("tracks n", "slope", "whole", "d")]
        assert [f"{weeks}", "weeks", *of_weeks] in lines
    begin = [line[:3] for line in lines]
    for name in NAMES:
        assert [name, shown[f"mean of d, row {name}"], shown[f"recent rate b, row {name}"]] in begin
    for month in (1, 2):
        decays = [shown[f"decay, row {name}, month {month}"] for name in NAMES]
        assert [f"{month}", *decays, shown[f"mean, month {month}"]] in lines
        assert [f"{month}", shown[f"month {month}"]] in [line[:2] for line in lines]


def test_the_rows_of_the_page() -> None:
    rows = re.findall(r"^\| ([a-d]) \|((?: [\d.]+ \|){7})$", PAGE, re.MULTILINE)
    assert {name: tuple(map(float, re.findall(r"[\d.]+", cells))) for name, cells in rows} == dict(
        zip(NAMES, map(tuple, SHIPPED), strict=True)
    )
    assert MIDDLE == 0.38
