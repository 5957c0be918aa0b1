"""Present scores: as tables, as JSON, and as rows for a file."""

from collections.abc import Iterator, Mapping

import polars as pl

from forecaster.cli.output import Output
from forecaster.scoring import FORECASTER, GROUPS, METRICS, RUN_GROUPS, SYMBOLS, Evaluation
from forecaster.views.backtest import Backtest
from forecaster.views.past import shown_range

_TITLES = {
    "by_month": "month ahead",
    "by_segment": "lifecycle segment",
    "by_influence": "influence range",
    "by_volume": "volume decile",
    "by_cutoff": "cutoff",
    "by_run": "run",
    "by_age": "age in months",
}
_RUNS_SHOWN = 20


def as_json_types(result: Backtest) -> dict[str, object]:
    """Return the whole result in JSON types, with a row per track and cutoff or run."""
    first, last = result.evaluation.series["as_of"].sort().gather([0, -1])
    return {
        **result.evaluation.to_dict(series=True),
        "as_of": {"first": f"{first}", "last": f"{last}", "known": result.known_by},
        "skipped": dict(result.skipped),
        "later_rates": result.later_rates,
        "actuals_left_out": dict(result.actuals_left_out),
    }


def show(result: Backtest, output: Output, *, is_part: bool) -> None:
    """Print tables of the scores and the last line; `is_part`: only some tracks were chosen."""
    scored = result.evaluation
    best = scored.best_baseline
    output.say("\n".join(_table("model", scored.overall, "model", best)))
    for name, column in GROUPS.items():
        rows = getattr(scored, name)
        if len(rows) > 1 or name != "by_cutoff":
            output.say("\n" + "\n".join(_table(_TITLES[name], rows, column, best)))
    if scored.by_run is not None and scored.by_age is not None:
        output.say("\n" + "\n".join(_runs(scored.by_run, best)))
        output.say("\n" + "\n".join(_table(_TITLES["by_age"], scored.by_age, "age", best)))
    output.say("\n" + "\n".join(f"{m.heading:<8}{m.formula}" for m in METRICS.values() if m.heading))
    output.say("\n" + "\n".join(f"{name:<17}{meaning}" for name, meaning in SYMBOLS.items()) + "\n")
    whole = scored.overall.row(0, named=True)
    output.finish(
        _totals(result, whole, is_part=is_part),
        windows=scored.windows_scored,
        wape=METRICS["wape"].shown(whole["wape"]),
        bias=METRICS["bias"].shown(whole["bias"]),
        skill=METRICS["skill"].shown(whole["skill"]),
    )


def _totals(result: Backtest, whole: Mapping[str, float], *, is_part: bool) -> dict[str, str]:
    """List the rows of the last table, without those whose count is 0."""
    scored = result.evaluation
    rows = {
        "tracks and cutoffs" if scored.by_run is None else "tracks and runs": f"{whole['series']:,}",
        "runs": _scored_runs(scored.by_run) if scored.by_run is not None else "",
        "as of": f"{shown_range(scored.series['as_of'])} ({result.known_by})",
        "months scored": f"{scored.windows_scored:,}",
        "months left out": _counts(scored.left_out),
        "tracks skipped": _counts(result.skipped) if result.skipped else "",
        "actuals left out": _counts(result.actuals_left_out) if result.actuals_left_out else "",
        "tracks by later rates": f"{result.later_rates:,}" if result.later_rates else "",
        "forecast total": _streams(whole["forecast_total"]),
        "actual total": _streams(whole["actual_total"]),
        "best baseline": scored.best_baseline,
        "pooled baseline": "of the chosen tracks only" if is_part else "",
        "worst cutoff": f"{scored.worst_cutoff}" if scored.worst_cutoff else "",
        "series without a scale": f"{whole['without_scale']:,} of {whole['series']:,}",
    }
    return {name: value for name, value in rows.items() if value}


def _runs(by_run: pl.DataFrame, best: str) -> Iterator[str]:
    """Yield the table of the newest runs that are scored."""
    scored = by_run.filter(pl.col("windows") > 0)
    shown = scored.tail(_RUNS_SHOWN)
    day = pl.col("started").cast(pl.String).fill_null("")
    keys = (
        pl.when(pl.col("run").is_null())
        .then(pl.lit("not recorded"))
        .otherwise(pl.format("{} {}", pl.col("run").cast(pl.String).str.pad_start(5), day))
    )
    yield from _table(f"{'run':>5} began", shown.with_columns(run=keys), "run", best, tracks="series")
    if len(scored) > len(shown):
        yield f"the newest {len(shown)} of {len(scored):,} runs; --json and --out have all"


def _scored_runs(by_run: pl.DataFrame) -> str:
    runs = by_run.drop_nulls("run")
    waiting = runs.filter(windows=0).height
    return f"{len(runs):,}" + (f" ({waiting:,} without a month that counts)" if waiting else "")


def _counts(counts: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if count)
    return f"{sum(counts.values()):,}" + (f" ({reasons})" if reasons else "")


def _table(title: str, rows: pl.DataFrame, column: str, best: str, **counts: str) -> Iterator[str]:
    """Yield a line per row: key, number of months, scores, WAPE of the best baseline.

    `counts`: further columns with numbers, by their headings.
    """
    metrics = {name: metric for name, metric in METRICS.items() if metric.heading}
    against, counts = f"wape_{best}", {**counts, "months": "windows"}
    headings = [*counts, *(metric.heading for metric in metrics.values())]
    more = [best] if against in rows.columns else []
    widths = [*([9] * len(counts)), *([8] * len(metrics)), *(len(name) + 2 for name in more)]
    yield f"{title:<20}" + "".join(f"{h:>{w}}" for h, w in zip([*headings, *more], widths, strict=True))
    for row in rows.iter_rows(named=True):
        cells = [
            *(f"{row[name]:,}" for name in counts.values()),
            *(metric.shown(row[name]) for name, metric in metrics.items()),
        ]
        cells += [metrics["wape"].shown(row[against]) for _ in more]
        key = "stored" if row[column] is None else row[column]
        yield f"{key!s:<20}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))


def _streams(total: float | None) -> str:
    return "-" if total is None else f"{total:,.0f}"  # more than a float holds


def tidy(scored: Evaluation) -> pl.DataFrame:
    """Return all scores as rows: `group` and `key` of what is scored, the model, a column per score."""
    parts = [scored.overall.select(pl.lit("overall").alias("group"), pl.lit(None).alias("key"), pl.all())]
    for name, column in {**GROUPS, **RUN_GROUPS, "series": "cm_track_id"}.items():
        if getattr(scored, name) is None:
            continue
        rows = getattr(scored, name).rename({"months": "windows"}, strict=False)
        key = pl.col(column).cast(pl.String).alias("key")
        parts.append(
            rows.select(
                pl.lit(name.removeprefix("by_")).alias("group"),
                key,
                pl.lit(FORECASTER).alias("model"),
                pl.all().exclude(column),
            )
        )
    return pl.concat(parts, how="diagonal_relaxed")
