"""Present scores: as tables, as JSON, and as rows for a file."""

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType

import polars as pl

from forecaster.cli.grid import Grid
from forecaster.cli.options import BY
from forecaster.cli.output import Output
from forecaster.process.secrets import shown
from forecaster.scoring import FORECASTER, GROUPS, METRICS, RUN_GROUPS, SYMBOLS, Evaluation, Metric, in_words
from forecaster.views.backtest import Backtest
from forecaster.views.past import shown_range

_TITLES = {
    "month": "month ahead",
    "segment": "lifecycle segment",
    "influence": "influence range",
    "volume": "volume decile",
    "cutoff": "cutoff",
    "age": "age in months",
}
_RUNS_SHOWN = 20
WIDTH = 80
"""Characters of a line: those of the smallest terminal."""


def as_json_types(result: Backtest) -> dict[str, object]:
    """Return the whole result in JSON types, with a row per track and cutoff or run."""
    first, last = result.evaluation.series["as_of"].sort().gather([0, -1])
    return {
        **result.evaluation.to_dict(series=True),
        "as_of": {"first": f"{first}", "last": f"{last}", "known": result.known_by},
        "skipped": dict(result.skipped),
        "later_rates": result.later_rates,
        "made_with": [*result.made_with],
        "actuals_left_out": dict(result.actuals_left_out),
    }


def show(result: Backtest, output: Output, *, by: Collection[str], is_part: bool) -> None:
    """Print the findings in words, tables of the scores and the last line.

    `by`: the groups to print, of `BY`; `is_part`: only some tracks were chosen.
    """
    scored = result.evaluation
    output.say(told(scored))
    for block in _blocks(_columns("model", scored.overall, "model")):
        output.say("\n" + "\n".join(block))
    for name in BY if "all" in by else [name for name in BY if name in by]:
        output.say("\n" + "\n".join(_group(scored, name)))
    if by:
        formulas = {metric.heading: metric.formula for metric in _shown_metrics(scored.overall).values()}
        output.say("\n" + _listed({f"{name}": text for name, text in formulas.items()}))
        output.say("\n" + _listed(SYMBOLS))
    whole = scored.overall.row(0, named=True)
    output.say("\n" + _listed(_totals(result, whole, is_part=is_part)))
    output.finish(
        {},
        windows=scored.windows_scored,
        wape=METRICS["wape"].shown(whole["wape"]),
        bias=METRICS["bias"].shown(whole["bias"]),
        skill=METRICS["skill"].shown(whole["skill"]),
    )


def told(scored: Evaluation) -> str:
    """Return the findings in words, as lines that fit the width."""
    return "\n".join(chain.from_iterable(textwrap.wrap(words, WIDTH) for words in in_words(scored)))


def _totals(result: Backtest, whole: Mapping[str, float], *, is_part: bool) -> dict[str, str]:
    """List the rows of the last table, without those whose count is 0."""
    scored = result.evaluation
    missing = {name: months for name, months in scored.missing.items() if months}
    rows = {
        "tracks and cutoffs" if scored.by_run is None else "tracks and runs": f"{whole['series']:,}",
        "runs": _scored_runs(scored.by_run) if scored.by_run is not None else "",
        "as of": f"{shown_range(scored.series['as_of'])} ({result.known_by})",
        "model": ", ".join(result.made_with),
        "months scored": f"{scored.windows_scored:,}",
        "months left out": _counts(scored.left_out),
        "tracks skipped": _counts(result.skipped) if result.skipped else "",
        "actuals left out": _counts(result.actuals_left_out) if result.actuals_left_out else "",
        "tracks by later rates": f"{result.later_rates:,}" if result.later_rates else "",
        "forecast total": _streams(whole["forecast_total"]),
        "actual total": _streams(whole["actual_total"]),
        "best baseline": f"{scored.best_baseline}, which skill is against",
        "months missing": ", ".join(f"{name} {months:,}" for name, months in missing.items()),
        "pooled baseline": "of the chosen tracks only" if is_part else "",
        "worst cutoff": f"{scored.worst_cutoff}" if scored.worst_cutoff else "",
        "series without a scale": f"{whole['without_scale']:,} of {whole['series']:,}",
    }
    return {name: value for name, value in rows.items() if value}


def _listed(rows: Mapping[str, str]) -> str:
    """Lay out names and texts in two columns; a long text goes on below its beginning."""
    width = max(len(name) for name in rows) + 2
    indent = " " * width
    lines = (
        textwrap.wrap(shown(text), WIDTH, initial_indent=f"{name:<{width}}", subsequent_indent=indent)
        for name, text in rows.items()
    )
    return "\n".join(chain.from_iterable(lines))


def _group(scored: Evaluation, name: str) -> Iterator[str]:
    """Yield the table of one group: as many columns as fit; --json and --out have all."""
    if name == "total":
        headings = {"wape": "WAPE", "bias": "bias", "inside_80": "in 80", "inside_95": "in 95"}
        keys = pl.when(of="cumulated").then(pl.format("months 1 to {}", "month"))
        rows = scored.by_total.with_columns(total=keys.otherwise(pl.format("month {}", "month")))
        columns = _columns("total of all tracks", rows, "total", {"origins": "origins"}, headings)
        yield from _blocks(columns)[0]
        return
    rows, column = getattr(scored, f"by_{name}"), {**GROUPS, **RUN_GROUPS}[f"by_{name}"]
    if rows is None:
        yield f"no forecast of a run is scored, so there is no table by {name}"
    elif name == "run":
        yield from _runs(rows, scored.best_baseline)
    else:
        yield from _table(_TITLES[name], rows, column, scored.best_baseline)


def _runs(by_run: pl.DataFrame, best: str) -> Iterator[str]:
    """Yield the table of the newest runs that are scored."""
    scored = by_run.filter(pl.col("windows") > 0)
    newest = scored.tail(_RUNS_SHOWN)
    day = pl.col("started").cast(pl.String).fill_null("")
    keys = (
        pl.when(pl.col("run").is_null())
        .then(pl.lit("not recorded"))
        .otherwise(pl.format("{} {}", pl.col("run").cast(pl.String).str.pad_start(5), day))
    )
    yield from _table(f"{'run':>5} began", newest.with_columns(run=keys), "run", best, tracks="series")
    if len(scored) > len(newest):
        yield f"the newest {len(newest)} of {len(scored):,} runs; --json and --out have all"


def _scored_runs(by_run: pl.DataFrame) -> str:
    runs = by_run.drop_nulls("run")
    waiting = runs.filter(windows=0).height
    return f"{len(runs):,}" + (f" ({waiting:,} without a month that counts)" if waiting else "")


def _counts(counts: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if count)
    return f"{sum(counts.values()):,}" + (f" ({reasons})" if reasons else "")


def _table(title: str, rows: pl.DataFrame, column: str, best: str, **counts: str) -> Sequence[str]:
    """Lay out the scores of a group, with the WAPE of the best baseline: the columns that fit.

    `counts`: further columns with numbers, by their headings.
    """
    scores = {name: f"{metric.heading}" for name, metric in _shown_metrics(rows).items()}
    first = {"wape": scores.pop("wape"), f"wape_{best}": best}
    return _blocks(_columns(title, rows, column, {**counts, "months": "windows"}, {**first, **scores}))[0]


def _shown_metrics(rows: pl.DataFrame) -> dict[str, Metric]:
    """Return the metrics that have a heading, without those of intervals where there are none."""
    return {
        name: metric
        for name, metric in METRICS.items()
        if metric.heading and (metric.needs is None or rows[name].count())
    }


def _columns(
    title: str,
    rows: pl.DataFrame,
    key: str,
    counts: Mapping[str, str] = MappingProxyType({"months": "windows"}),
    scores: Mapping[str, str] | None = None,
) -> list[list[str]]:
    """Return the columns of a table, each below its heading: the key, the counts, the scores.

    `counts`: columns by their headings; `scores`: headings by their columns; None: all that have one.
    """
    if scores is None:
        scores = {name: f"{metric.heading}" for name, metric in _shown_metrics(rows).items()}
    keys = ["stored" if value is None else f"{value}" for value in rows[key].to_list()]
    numbers = [
        [name, *(f"{number:,}" for number in rows[column].to_list())] for name, column in counts.items()
    ]
    return [
        [title, *keys],
        *numbers,
        *(
            [heading, *map(METRICS.get(name, METRICS["wape"]).shown, rows[name].to_list())]
            for name, heading in scores.items()
            if name in rows.columns
        ),
    ]


def _blocks(columns: Sequence[Sequence[str]]) -> list[list[str]]:
    """Lay the columns out in blocks of lines that fit the width; each block has the first column."""
    first, *others = columns
    blocks: list[list[Sequence[str]]] = []
    room = 0
    for column in others:
        width = max(map(len, column)) + 2
        if not blocks or width > room:
            blocks.append([first])
            room = WIDTH - max(map(len, first))
        blocks[-1].append(column)
        room -= width
    return [
        Grid([column[0] for column in block], left={first[0]}).lines(
            [*zip(*(column[1:] for column in block), strict=True)]
        )
        for block in blocks
    ]


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
    group, key = pl.format("total_{}", "of").alias("group"), pl.col("month").cast(pl.String).alias("key")
    of_totals = pl.all().exclude("of", "month")
    parts.append(scored.by_total.select(group, key, pl.lit(FORECASTER).alias("model"), of_totals))
    return pl.concat(parts, how="diagonal_relaxed")
