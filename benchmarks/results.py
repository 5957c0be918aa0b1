"""Measurements -> a Markdown table for people, a JSON file for programs, a chart of the growth."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import places
from benchmarks.figures import Result, main_layout, over, seconds
from benchmarks.tables import table
from benchmarks.targets import targets
from forecaster.files.atomic import write_text
from forecaster.process.numbers import counted

# Published figures of the system that this program replaces, for 8,459 tracks.
PUBLISHED_TRACKS = 8_459
PUBLISHED = {
    "published, original": {"seconds": 7.4 * 3600, "tracks_per_second": 0.32, "per_track": 3.16},
    "published, optimised": {"seconds": 12 * 60, "tracks_per_second": 11.7, "per_track": 0.09},
}
MODEL_STAGES = ("features", "fit", "projection")
STAGES = ("start", "connect", "read", "features", "fit", "projection", "write")


def kept(directory: Path, stem: str) -> Result:
    """Read the last results, of which those parts stay that are not measured again."""
    path = directory / f"{stem}.json"
    last: Result = json.loads(path.read_text()) if path.exists() else {}
    return last


def write(result: Result, directory: Path, stem: str) -> str:
    """Write `stem`.json, `stem`.md and, if growth was measured, `stem`.png; return the Markdown."""
    result["targets"] = [target.as_json() for target in targets(result)]
    has_picture = bool(result.get("growth"))
    text = markdown(result, picture=f"{stem}.png" if has_picture else None)
    write_text(json.dumps(result, indent=1), directory / f"{stem}.json")
    write_text(text, directory / f"{stem}.md")
    if has_picture:
        _draw(result["growth"], directory / f"{stem}.png")
    return text


def markdown(result: Result, *, picture: str | None) -> str:
    """Format all measurements as Markdown tables."""
    parts = [
        _head(result),
        _targets(result),
        _comparison(result),
        places.by_layout(result),
        *([places.by_distance(result)] if result["rounds"][0]["away"] else []),
        *([places.new_day(result)] if result["rounds"][0]["new_day"] else []),
        *([places.original(result)] if _has_original(result) else []),
        _stages(result),
        _small(result),
    ]
    if picture:
        parts += [_growth(result["growth"]), f"![Seconds and memory by size]({picture})"]
    return "\n\n".join(parts) + "\n"


def _has_original(result: Result) -> bool:
    is_that_size: bool = result["catalogue"]["tracks"] == PUBLISHED_TRACKS
    return is_that_size and {"by day", "by track"} <= result["floors"].keys()


def _targets(result: Result) -> str:
    lines = [target.line for target in targets(result)]
    return "## Targets\n\n" + table(("figure", "target", "measured", "met"), lines)


def _head(result: dict[str, Any]) -> str:
    environment, catalogue, answers = result["environment"], result["catalogue"], result["answers"]
    named = ("note", "date", "cores", "machine")
    versions = ", ".join(f"{name} {value}" for name, value in environment.items() if name not in named)
    note = f" {environment['note']}" if environment.get("note") else ""
    return (
        f"# Benchmark of {environment['date']}\n\n"
        f"{catalogue['tracks']:,} tracks, {catalogue['daily_rows']:,} daily rows, "
        f"{environment['cores']} cores ({environment['machine']}), "
        f"{len(result['rounds'])} interleaved rounds.{note} {versions}.\n\n"
        f"Answers checked first: {answers['forecast']:,} tracks forecast, {answers['skipped']:,} skipped; "
        f"{answers['agree']} of {answers['compared']} tracks agree with the sequential baseline."
    )


def _comparison(result: dict[str, Any]) -> str:
    tracks = result["catalogue"]["tracks"]
    names = [name for name in ("by day", "by track") if name in result["floors"]] or [main_layout(result)]
    ours = seconds(result, names[0])
    per_track = over(result, lambda r: r["baseline"]["seconds_per_track"])
    sampled = result["rounds"][0]["baseline"]["tracks"]
    lines = {
        **{name: figures["seconds"] * tracks / PUBLISHED_TRACKS for name, figures in PUBLISHED.items()},
        f"sequential baseline here ({sampled} tracks, scaled up)": per_track * tracks,
        **{f"this program here, whole process, rows {name}": seconds(result, name) for name in names},
    }
    scaled = "" if tracks == PUBLISHED_TRACKS else f"Published figures are scaled to {tracks:,} tracks.\n\n"
    return f"## Against what it replaces\n\n{scaled}" + table(
        ("", "seconds", "tracks per second", "seconds per track", "times as fast as"),
        (
            (
                name,
                f"{s:,.2f}",
                f"{tracks / s:,.2f}",
                f"{s / tracks:.5f}",
                f"1 / {s / ours:,.0f}" if s > 2 * ours else f"{ours / s:.2f}",
            )
            for name, s in lines.items()
        ),
    )


def _stages(result: dict[str, Any]) -> str:
    name = main_layout(result)
    total = seconds(result, name)
    stored = result["rounds"][0]["layouts"][name]["program"]["rows"]
    daily = result["catalogue"]["daily_rows"]
    rows = {"read": daily, "features": daily, "projection": stored, "write": stored}
    lines = []
    for stage in STAGES:
        taken = over(result, _stage(name, stage))
        rate = f"{rows[stage] / taken:,.0f}" if stage in rows and taken else ""
        lines.append((stage, f"{taken:.3f}", f"{taken / total:.0%}", rate))
    alone = {stage: median(r["model"][stage] for r in result["rounds"]) for stage in MODEL_STAGES}
    by_stage = ", ".join(f"{stage} {value:.3f}" for stage, value in alone.items())
    return (
        f"## Where the time goes\n\nRows {name}. In a run the next tracks are read and the last ones stored "
        "while some are computed, so the shares add up to more than 100 %, and the stages wait for each "
        f"other. When nothing else runs, the model takes {sum(alone.values()):.3f} s ({by_stage}).\n\n"
        + table(
            ("stage", "seconds", "share", "rows per second (daily rows of the catalogue, or rows stored)"),
            lines,
        )
    )


def _small(result: dict[str, Any]) -> str:
    startup = [r["help"] / r["import_click"] for r in result["rounds"]]
    return "## Small things\n\n" + table(
        ("what", "median"),
        (
            (
                "a run with nothing pending",
                f"{over(result, lambda r: r['nothing_pending']['seconds']):.2f} s",
            ),
            ("`--help` against `python -c 'import click'`", f"{median(startup):.2f} times"),
        ),
    )


def _growth(growth: dict[str, Any]) -> str:
    environment = growth["environment"]
    note = f" {environment['note']}" if environment.get("note") else ""
    measured = f"Measured on {environment['date']}, forecaster {environment['forecaster']}.{note}"
    parts = [f"## Growth\n\n{measured} Fastest of {counted(growth['runs'], 'run')} each."]
    if "by_day" in growth:
        parts += ["Rows by day; the key is built after the rows were loaded.", _by_size(growth["by_day"])]
    if "by_track" in growth:
        parts += ["Rows by track.", _by_size(growth["by_track"])]
    if "history" in growth:
        shortest = growth["history"][0]
        lines = [
            (f"{r['days']:,}", f"{r['daily_rows']:,}", f"{r['seconds']:.2f}",
             f"{r['seconds'] / shortest['seconds']:.2f}", f"{r['peak_mb']:.0f}")
            for r in growth["history"]
        ]  # fmt: skip
        header = ("days per track", "daily rows", "seconds", "times the shortest", "peak memory, MB")
        parts.append(table(header, lines))
    return "\n\n".join(parts)


def _by_size(sizes: list[dict[str, Any]]) -> str:
    first = sizes[0]
    return table(
        ("tracks", "daily rows", "seconds", "against linear", "peak memory, MB", "nothing pending, s"),
        (
            (f"{r['tracks']:,}", f"{r['daily_rows']:,}", f"{r['seconds']:.2f}",
             f"{r['seconds'] / first['seconds'] * first['tracks'] / r['tracks']:.2f}", f"{r['peak_mb']:.0f}",
             f"{r['nothing_pending_seconds']:.2f}")
            for r in sizes
        ),
    )  # fmt: skip


def _draw(growth: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - slow, and only for the chart

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter  # noqa: PLC0415

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    by_size = [("by_day", "by day", "#2563eb"), ("by_track", "by track", "#ea580c")]
    panels = (
        (by_size, "tracks", "seconds", "Seconds by tracks"),
        (by_size, "tracks", "peak_mb", "Peak memory (MB) by tracks"),
        ([("history", "by track", "#ea580c")], "days", "seconds", "Seconds by days of history per track"),
    )
    for axis, (lines, x, y, title) in zip(axes, panels, strict=True):
        right, top = 0.0, 0.0
        for group, label, colour in lines:
            if points := growth.get(group):
                across, up = ([point[name] for point in points] for name in (x, y))
                axis.plot(across, up, "o-", color=colour, label=f"rows {label}", clip_on=False)
                right, top = max(right, *across), max(top, *up)
                if (x, y) == ("tracks", "seconds"):
                    linear = [0, up[0] * across[-1] / across[0]]
                    axis.plot([0, across[-1]], linear, "--", color=colour, alpha=0.4, label="linear")
        axis.set(title=title, xlim=(0, right * 1.05 or None), ylim=(0, top * 1.15 or None))
        axis.legend(frameon=False)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _stage(layout: str, name: str) -> Callable[[dict[str, Any]], float]:
    return lambda measured: float(measured["layouts"][layout]["program"]["stages"].get(name, 0.0))
