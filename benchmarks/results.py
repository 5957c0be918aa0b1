"""Measurements -> a Markdown table for people, a JSON file for programs, a chart of the growth."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

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


def write(result: dict[str, Any], directory: Path, stem: str) -> str:
    """Write `stem`.json, `stem`.md and, if growth was measured, `stem`.png; return the Markdown."""
    text = markdown(result, picture=f"{stem}.png" if "tracks" in result else None)
    write_text(json.dumps(result, indent=1), directory / f"{stem}.json")
    write_text(text, directory / f"{stem}.md")
    if "tracks" in result:
        _draw(result, directory / f"{stem}.png")
    return text


def markdown(result: dict[str, Any], *, picture: str | None) -> str:
    """Format all measurements as Markdown tables."""
    parts = [
        _head(result),
        _comparison(result),
        _floor(result),
        _stages(result),
        _other_tables(result),
        _small(result),
    ]
    if picture:
        parts += [_growth(result), f"![Seconds and memory by size]({picture})"]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format rows as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _head(result: dict[str, Any]) -> str:
    environment, catalogue, answers = result["environment"], result["catalogue"], result["answers"]
    versions = ", ".join(f"{k} {v}" for k, v in environment.items() if k not in ("date", "cores", "machine"))
    return (
        f"# Benchmark of {environment['date']}\n\n"
        f"{catalogue['tracks']:,} tracks, {catalogue['daily_rows']:,} daily rows, "
        f"{environment['cores']} cores ({environment['machine']}), "
        f"{len(result['rounds'])} interleaved rounds. {versions}.\n\n"
        f"Answers checked first: {answers['forecast']:,} tracks forecast, {answers['skipped']:,} skipped; "
        f"{answers['agree']} of {answers['compared']} tracks agree with the sequential baseline."
    )


def _comparison(result: dict[str, Any]) -> str:
    tracks = result["catalogue"]["tracks"]
    ours = _median(result, lambda r: r["program"]["seconds"])
    per_track = _median(result, lambda r: r["baseline"]["seconds_per_track"])
    sampled = result["rounds"][0]["baseline"]["tracks"]
    lines = {
        **{name: figures["seconds"] * tracks / PUBLISHED_TRACKS for name, figures in PUBLISHED.items()},
        f"sequential baseline here ({sampled} tracks, scaled up)": per_track * tracks,
        "this program here, whole process": ours,
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
                f"1 / {s / ours:,.0f}" if s > ours else "1",
            )
            for name, s in lines.items()
        ),
    )


def _floor(result: dict[str, Any]) -> str:
    rounds = result["rounds"]
    ratios = [r["program"]["seconds"] / r["floor"]["seconds"] for r in rounds]
    lines = [
        (
            f"round {number}",
            _two(measured["program"]["seconds"]),
            f"{_two(measured['floor']['out'])} + {_two(measured['floor']['in'])}",
            _two(ratio),
        )
        for number, (measured, ratio) in enumerate(zip(rounds, ratios, strict=True), start=1)
    ]
    program = _two(_median(result, lambda r: r["program"]["seconds"]))
    floor = _two(_median(result, lambda r: r["floor"]["seconds"]))
    lines.append(("median", program, floor, _two(median(ratios))))
    lines.append(("range", "", "", f"{_two(min(ratios))} to {_two(max(ratios))}"))
    size = rounds[0]["floor"]
    return (
        "## Against the floor\n\nThe floor is one binary COPY of what the model needs out of the server "
        f"({size['out_mb']:.0f} MB) and one of the result rows in ({size['in_mb']:.0f} MB), on a connection "
        "that is already open. The program is a complete process, including its imports.\n\n"
        + table(("", "program, s", "floor, s (out + in)", "ratio"), lines)
    )


def _stages(result: dict[str, Any]) -> str:
    total = _median(result, lambda r: r["program"]["seconds"])
    daily, stored = result["catalogue"]["daily_rows"], result["rounds"][0]["program"]["rows"]
    rows = {"read": daily, "features": daily, "projection": stored, "write": stored}
    lines = []
    for stage in STAGES:
        seconds = _median(result, _stage(stage))
        rate = f"{rows[stage] / seconds:,.0f}" if stage in rows and seconds else ""
        lines.append((stage, f"{seconds:.3f}", f"{seconds / total:.0%}", rate))
    alone = {stage: median(r["model"][stage] for r in result["rounds"]) for stage in MODEL_STAGES}
    by_stage = ", ".join(f"{stage} {value:.3f}" for stage, value in alone.items())
    return (
        "## Where the time goes\n\nIn a run the next tracks are read and the last ones stored while some are "
        "computed, so the shares add up to more than 100 %, and the stages wait for each other. "
        f"When nothing else runs, the model takes {sum(alone.values()):.3f} s ({by_stage}).\n\n"
        + table(
            ("stage", "seconds", "share", "rows per second (daily rows of the catalogue, or rows stored)"),
            lines,
        )
    )


def _other_tables(result: dict[str, Any]) -> str:
    tracks = result["catalogue"]["tracks"]
    lines = []
    for name, runs in result["other_tables"].items():
        seconds = [run["seconds"] for run in runs]
        spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
        lines.append((name, f"{median(seconds):.2f}", spread, f"{tracks / median(seconds):,.0f}"))
    return "## Other tables\n\n" + table(("tables", "median, s", "range", "tracks per second"), lines)


def _small(result: dict[str, Any]) -> str:
    startup = [r["help"] / r["import_click"] for r in result["rounds"]]
    return "## Small things\n\n" + table(
        ("what", "median"),
        (
            ("peak memory of the process", f"{_median(result, lambda r: r['program']['peak_mb']):.0f} MB"),
            (
                "a run with nothing pending",
                f"{_median(result, lambda r: r['nothing_pending']['seconds']):.2f} s",
            ),
            ("`--help` against `python -c 'import click'`", f"{median(startup):.2f} times"),
        ),
    )


def _growth(result: dict[str, Any]) -> str:
    first = result["tracks"][0]
    by_tracks = table(
        ("tracks", "daily rows", "seconds", "against linear", "peak memory, MB", "nothing pending, s"),
        (
            (f"{r['tracks']:,}", f"{r['daily_rows']:,}", f"{r['seconds']:.2f}",
             f"{r['seconds'] / first['seconds'] * first['tracks'] / r['tracks']:.2f}", f"{r['peak_mb']:.0f}",
             f"{r['nothing_pending_seconds']:.2f}")
            for r in result["tracks"]
        ),
    )  # fmt: skip
    shortest = result["history"][0]
    by_history = table(
        ("days per track", "daily rows", "seconds", "times the shortest", "peak memory, MB"),
        (
            (f"{r['days']:,}", f"{r['daily_rows']:,}", f"{r['seconds']:.2f}",
             f"{r['seconds'] / shortest['seconds']:.2f}", f"{r['peak_mb']:.0f}")
            for r in result["history"]
        ),
    )  # fmt: skip
    runs = counted(first.get("runs", 3), "run")  # older results do not have it
    return f"## Growth\n\nFastest of {runs} each.\n\n{by_tracks}\n\n{by_history}"


def _draw(result: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - slow, and only for the chart

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter  # noqa: PLC0415

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    panels = (
        ("tracks", "tracks", "seconds", "Seconds by tracks"),
        ("tracks", "tracks", "peak_mb", "Peak memory (MB) by tracks"),
        ("history", "days", "seconds", "Seconds by days of history per track"),
    )
    for axis, (group, x, y, title) in zip(axes, panels, strict=True):
        across, up = ([point[name] for point in result[group]] for name in (x, y))
        axis.plot(across, up, "o-", color="#2563eb", label="measured", clip_on=False)
        if (x, y) == ("tracks", "seconds"):
            axis.plot(
                [0, across[-1]], [0, up[0] * across[-1] / across[0]], "--", color="#9ca3af", label="linear"
            )
            axis.legend(frameon=False)
        axis.set(title=title, xlim=(0, across[-1] * 1.05), ylim=(0, max(up) * 1.15))
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _two(number: float) -> str:
    return f"{number:.2f}"


def _stage(name: str) -> Callable[[dict[str, Any]], float]:
    return lambda measured: float(measured["program"]["stages"].get(name, 0.0))


def _median(result: dict[str, Any], value: Callable[[dict[str, Any]], float]) -> float:
    return median(value(measured) for measured in result["rounds"])
