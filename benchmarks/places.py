"""Tables of the results by layout and by distance."""

from collections.abc import Iterator
from statistics import median

from benchmarks import floor
from benchmarks.figures import NEAR, Result, at, main_layout, more, needed_bytes, passed, seconds
from benchmarks.tables import table
from benchmarks.targets import ORIGINAL_SECONDS, original_by_day


def by_layout(result: Result) -> str:
    """The program and its floor on each layout, with the versions before if they were measured."""
    has_before = any("before" in one for one in result["rounds"][0]["layouts"].values())
    lines = []
    for name, statement in result["floors"].items():
        runs = [r["layouts"][name] for r in result["rounds"]]
        ours = [run["program"]["seconds"] for run in runs]
        out, into = (median(run["floor"][way] for run in runs) for way in ("out", "in"))
        ratios = [run["program"]["seconds"] / run["floor"]["seconds"] for run in runs]
        before = [f"{seconds(result, name, 'before'):.2f}"] if has_before else []
        peak = max(run["program"]["peak_mb"] for run in runs)
        lines.append(
            (name, f"{median(ours):.2f}", f"{min(ours):.2f} to {max(ours):.2f}", *before,
             f"{out:.2f} + {into:.2f}", f"{median(ratios):.2f}", f"{peak:.0f}", statement)
        )  # fmt: skip
    size = result["rounds"][0]["layouts"][main_layout(result)]["floor"]
    header = ("tables", "program, s", "range", *(["version before, s"] if has_before else []))
    return (
        "## By layout, against the floor\n\nThe floor is one binary COPY of what the model needs out of the "
        f"server ({size['out_mb']:.1f} MB) and one of the result rows in ({size['in_mb']:.1f} MB), on a "
        "connection that is already open, by the fastest statement on each layout. The program is a complete "
        "process, including its imports. The tables are those of `init`, unless a key, ids or partitions "
        "are named. By day, the rows came day by day, with the tracks in no order. The ratio is the median "
        "of the rounds' ratios.\n\n"
        + table((*header, "floor, s (out + in)", "ratio", "peak, MB", "statement of the floor"), lines)
        + "\n\n"
        + "\n\n".join(_statements(set(result["floors"].values())))
    )


def _statements(names: set[str]) -> Iterator[str]:
    for name, (statement, values) in floor.STATEMENTS.items():
        if name in names:
            texts = {"streams": "streams", "tracks": "track", "last": "newest_id", "condition": ""}
            yield f"{name.capitalize()}:\n\n```sql{statement.format(values=values, **texts)}\n```"


def by_distance(result: Result) -> str:
    """The main layout from afar: what a run waits for, and what passes."""
    lines = []
    for way in result["rounds"][0]["away"]:
        milliseconds = float(way.split(" ")[0])
        longer = "" if way == NEAR else f"{more(result, way):.2f}"
        trips = f"{more(result, way) * 1e3 / milliseconds:.0f}" if milliseconds else ""
        taken = passed(result, way, "seconds")
        counts = (f"{passed(result, way, what):.0f}" for what in ("connections", "turns"))
        sizes = (f"{passed(result, way, what) / 1e6:.1f}" for what in ("bytes_out", "bytes_in"))
        lines.append((way, f"{taken:.2f}", longer, trips, *counts, *sizes))
    needed = needed_bytes(result) / 1e6
    return (
        f"## From afar\n\nRows {main_layout(result)}, through a proxy that delays each direction by half of "
        "the round trip. A turn begins when the client speaks first, or after the server has spoken; turns "
        "of several connections overlap. As integers, what the model needs takes "
        f"{needed:.1f} MB: 4 bytes for a value, an age or a day, and 8 for an id.\n\n"
        + table(
            ("round trip", "seconds", "more than near, s", "round trips waited for", "connections", "turns",
             "MB out of the server", "MB in"),
            lines,
        )
    )  # fmt: skip


def new_day(result: Result) -> str:
    """What the load of one more day takes."""
    tracks = result["catalogue"]["tracks"]
    names = result["rounds"][0]["new_day"]
    lines = [(name, f"{at(result, 'new_day', name):.3f}") for name in names]
    return f"## One more day\n\nOne COPY of {tracks:,} rows.\n\n" + table(("tables", "seconds"), lines)


def original(result: Result) -> str:
    """The arithmetic of the comparison with the original's own code."""
    low, high = ORIGINAL_SECONDS
    by_day, longer = original_by_day(result)
    rows = {name: at(result, "all_rows", name) for name in ("by day", "by track")}
    ours = {name: seconds(result, name) for name in rows}
    return (
        "## The original's own code\n\nIts optimised code took "
        f"{low} to {high} s here for 8,459 tracks, stored by track, in runs interleaved with those of this "
        f"program. That is {low / ours['by track']:.0f} to {high / ours['by track']:.0f} times the "
        f"{ours['by track']:.2f} s that this program takes by track. The original reads every row in one "
        "query, ordered by track and date. By day it was not run: the query is the same, and a plain COPY of "
        f"all rows in this order takes {rows['by day']:.2f} s by day and {rows['by track']:.2f} s by track, "
        f"{abs(longer):.2f} s {'longer' if longer >= 0 else 'less'}. So by day it would take at least "
        f"{by_day:.1f} s, {by_day / ours['by day']:.0f} times the {ours['by day']:.2f} s of this program."
    )
