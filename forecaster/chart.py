"""One track's history and forecast as a picture: HTML, PNG, SVG, or text for the terminal."""

import importlib
import io
import json
import math
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import polars as pl

from forecaster.diagnosis import Diagnosis
from forecaster.errors import InvalidOptionError, MissingExtraError
from forecaster.files import check_output_path, counted, write_bytes, write_text
from forecaster.model.features import DAYS_PER_MONTH
from forecaster.model.projection import project

if TYPE_CHECKING:
    import altair as alt

CHART_ENDINGS: tuple[str, ...] = (".html", ".png", ".svg")
"""What a chart can be written as, in any case."""

HISTORY_WINDOWS = 60
"""Windows of 30 days of a track's history that are shown, at most."""

Extra = Literal["plot", "term"]

_MODULES: Mapping[Extra, tuple[str, ...]] = {"plot": ("altair", "vl_convert"), "term": ("plotext",)}

_HISTORY, _FORECAST, _BASE = "30-day totals", "forecast", "base curve"
_SERIES = (_HISTORY, _FORECAST, _BASE)
# Of Okabe and Ito's palette, which can be told apart whatever one's sight: blue, vermilion; and a grey.
_COLORS = ("#0072B2", "#D55E00", "#5A5A5A")
_DASHES = ([1, 0], [1, 0], [5, 4])
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"  # the first is part of vl-convert
_WIDTH, _HEIGHT, _SCALE = 830, 280, 2
_MS_PER_DAY = 86_400_000
_POINTS = 60  # months of a forecast up to which each is drawn as a point, too
_FULL_LABEL, _DIGIT = 60, 8  # pixels that "segment 10" and a digit take

_TERMINAL_COLORS = (33, 208)  # blue and orange, of the terminal's 256
_MARKERS = ("braille", "•")
_PLOT_ROWS = 10  # of a text, below which it has nothing but the title above the plot
_COLUMNS_PER_DATE, _ROWS_PER_NUMBER = 20, 4
_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:; base-uri 'none'; form-action 'none'">
<title>{title}</title>
<style>body {{ margin: 16px; background: white; font-family: {font}; }}</style>
<script>{library}</script>
</head>
<body>
<div id="chart"></div>
<script>
vegaEmbed("#chart", {chart}, {options}).catch(console.error);
</script>
</body>
</html>
"""


@dataclass(frozen=True)
class Picture:
    """What the chart of one track shows. Streams are per 30 days; `middle` is the 15th day of them."""

    title: str
    subtitle: str
    as_of: date
    history: pl.DataFrame
    """One row per full window of 30 days, in order: first_day, last_day, middle, streams."""
    forecast: pl.DataFrame
    """One row per month: month, first_day, last_day, middle, streams (whole), base_streams (whole, but a
    float: it can be larger than 2^63), segment, months_since_release, base_rate, rate (per month)."""
    bands: pl.DataFrame
    """One row per lifecycle segment that the forecast lies in, in order: segment, first_day, last_day."""


def picture(diagnosis: Diagnosis, history: pl.DataFrame) -> Picture:
    """What is to be drawn of a diagnosis and the track's days (date, daily_streams; at least one, in order).

    Windows of history are counted back from its last date, and a day without a record counts as 0.
    """
    track = diagnosis.track
    first, last = (int(history["date"].to_physical()[row]) for row in (0, -1))
    windows = (last - first + 1) // DAYS_PER_MONTH
    forecast = _forecast(diagnosis)
    return Picture(
        title=f"Track {track['cm_track_id']} · artist {track['cm_artist_id']}",
        subtitle=" · ".join(_facts(diagnosis, windows)),
        as_of=track["as_of"],
        history=_windows(history, last, min(windows, HISTORY_WINDOWS)),
        forecast=forecast,
        bands=_bands(forecast),
    )


def check_chart_path(path: Path) -> None:
    """Say early what would keep a chart from being written to `path`. Writes nothing.

    Raises `InvalidOptionError` for another ending than `CHART_ENDINGS`, `MissingExtraError` without the
    extra "plot", `BadFileError` for a directory that is missing or cannot be written to.
    """
    if path.suffix.lower() not in CHART_ENDINGS:
        raise InvalidOptionError(
            f"{path}: the ending {path.suffix!r} does not say what the picture is to be",
            hint=f"known are {', '.join(CHART_ENDINGS)}",
        )
    _require("plot")
    check_output_path(path, any_ending=True)


def write_chart(picture: Picture, path: Path) -> None:
    """Write the chart, as HTML, PNG or SVG by the path's ending. On failure the path stays as it was.

    The page needs no network. Raises like `check_chart_path`, and `BadFileError` for a write that fails.
    """
    check_chart_path(path)
    chart = _chart(picture)
    match path.suffix.lower():
        case ".html":
            write_text(_page(picture, chart), path)
        case ".png":
            png = io.BytesIO()
            chart.save(png, format="png", scale_factor=_SCALE)
            write_bytes(png.getvalue(), path)
        case _:
            svg = io.StringIO()
            chart.save(svg, format="svg")
            write_text(svg.getvalue(), path)


def as_text(picture: Picture, *, width: int, height: int, color: bool) -> str:
    """The history and the forecast in `height` lines of at most `width` characters (both at least 1).

    Colour codes, if wanted, come on top. Raises `MissingExtraError` without the extra "term".
    """
    _require("term")
    above = [picture.title, *textwrap.wrap(picture.subtitle, width), _legend(picture, width, color=color)]
    if height - len(above) < _PLOT_ROWS:
        del above[1:]
    above[0] = above[0][:width]
    rows = height - len(above)
    plot = _plotted(picture, width, rows, color=color) if rows > 0 else []
    return "\n".join((*above, *plot))


# The data.


def _forecast(diagnosis: Diagnosis) -> pl.DataFrame:
    as_of = pl.lit(diagnosis.track["as_of"], dtype=pl.Date).to_physical()
    base_rates, rates = (pl.lit(pl.Series(values)) for values in zip(*diagnosis.rates, strict=True))
    segment = pl.col("segment_used") - 1
    return (
        diagnosis.forecasts.join(_base_curve(diagnosis), on="month", validate="1:1", maintain_order="left")
        .with_columns(_days(as_of + DAYS_PER_MONTH * pl.col("month")))
        .select(
            "month",
            *("first_day", "last_day", "middle"),
            pl.col("forecasted_value").alias("streams"),
            "base_streams",
            pl.col("segment_used").alias("segment"),
            pl.col("time_used").alias("months_since_release"),
            base_rates.gather(segment).alias("base_rate"),
            rates.gather(segment).alias("rate"),
        )
    )


def _base_curve(diagnosis: Diagnosis) -> pl.DataFrame:
    """The forecast without an adjustment to artist and track: month, base_streams."""
    track = pl.LazyFrame([dict(diagnosis.track)]).with_columns(multiplier=1.0)
    curve = project(track, horizon=len(diagnosis.forecasts))
    return curve.select("month", base_streams=pl.col("forecasted_value").round()).collect()


def _windows(history: pl.DataFrame, last: int, windows: int) -> pl.DataFrame:
    """The last `windows` windows of 30 days up to the day `last`."""
    days_ago = last - pl.col("date").to_physical()
    streams = (
        history.group_by((days_ago // DAYS_PER_MONTH).alias("ago"))
        # Kept finite, like the model's own sums.
        .agg(streams=pl.col("daily_streams").sum().clip(upper_bound=sys.float_info.max))
    )
    return (
        pl.DataFrame({"ago": pl.int_range(windows - 1, -1, -1, dtype=pl.Int32, eager=True)})
        .join(streams, on="ago", how="left", maintain_order="left")
        .with_columns(_days(last - DAYS_PER_MONTH * pl.col("ago")))
        .select("first_day", "last_day", "middle", pl.col("streams").fill_null(0.0))
    )


def _days(last: pl.Expr) -> list[pl.Expr]:
    """The first, the last and the middle one of 30 days, of which the last has this number."""
    back = {"first_day": DAYS_PER_MONTH - 1, "last_day": 0, "middle": DAYS_PER_MONTH // 2}
    return [(last - days).cast(pl.Int32).cast(pl.Date).alias(name) for name, days in back.items()]


def _bands(forecast: pl.DataFrame) -> pl.DataFrame:
    return forecast.group_by(pl.col("segment").rle_id().alias("run"), maintain_order=True).agg(
        pl.col("segment", "first_day").first(), pl.col("last_day").last()
    ).drop("run")  # fmt: skip


def _facts(diagnosis: Diagnosis, windows: int) -> list[str]:
    track, total = diagnosis.track, diagnosis.forecasts["forecasted_value"].cast(pl.Int128).sum()
    facts = [
        f"{counted(len(diagnosis.forecasts), 'month')}: {total:,} streams",
        *(f"{name} {track[column]:.4g}" for name, column in (("k", "k"), ("MLDR", "mldr"))),
        f"multiplier {track['multiplier']:.4g}",
    ]
    if not windows:
        facts.append(f"fewer than {DAYS_PER_MONTH} days of history")
    elif windows > HISTORY_WINDOWS:
        facts.append(f"the last {HISTORY_WINDOWS} of {windows:,} totals")
    return facts


# The chart.


def _require(extra: Extra) -> None:
    try:
        for module in _MODULES[extra]:
            importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"drawing this needs the extra {extra!r}, which is not installed ({error})",
            hint=f"pip install 'forecaster[{extra}]'",
        ) from error


def _chart(picture: Picture) -> "alt.LayerChart":
    import altair as alt  # noqa: PLC0415 - in an extra

    layers = (*_segments(picture), *_as_of(picture), _lines(picture), *_points(picture))
    chart: alt.LayerChart = (
        alt.layer(*layers)
        .properties(
            width=_WIDTH,
            height=_HEIGHT,
            padding=12,
            background="white",
            description=f"{picture.title}. {picture.subtitle}",
            title=alt.TitleParams(picture.title, subtitle=picture.subtitle, offset=14),
        )
        .configure(font=_FONT)
        .configure_view(stroke=None)
        .configure_title(anchor="start", frame="group", fontSize=17, subtitleFontSize=12.5, subtitlePadding=6)
        .configure_axis(labelFontSize=11.5, titleFontSize=12, titleFontWeight="normal", titlePadding=10)
        .configure_legend(labelFontSize=12, symbolStrokeWidth=2.5, symbolSize=500, columnPadding=24)
    )
    return chart


def _segments(picture: Picture) -> "tuple[alt.Chart, alt.Chart]":
    """The bands of the lifecycle segments, and their labels above the plot."""
    import altair as alt  # noqa: PLC0415 - in an extra

    first, last = _span(picture)
    number, name = pl.col("segment").cast(pl.String), pl.format("segment {}", "segment")
    days = (pl.col("last_day") - pl.col("first_day")).dt.total_days() + 1
    pixels = days * _WIDTH / (last - first)
    bands = picture.bands.with_columns(
        _period(),
        name=name,
        label=pl.when(pixels >= _FULL_LABEL).then(name)
        .when(pixels >= _DIGIT * number.str.len_chars()).then(number)
        .otherwise(pl.lit("")),
        begin=pl.col("first_day").dt.offset_by("-1d"),
        middle=pl.col("first_day") + pl.duration(days=days // 2 - 1),
        shade=0.06 + 0.06 * (pl.int_range(pl.len()) % 2),
    )  # fmt: skip
    base = alt.Chart(_data(bands)).encode(
        x=_time("begin", (first, last)), description="name:N", tooltip=_tooltip("name", "days")
    )
    shades = base.mark_rect(color="#333333").encode(
        x2="last_day:T", opacity=alt.Opacity("shade:Q", scale=None, legend=None)
    )
    labels = base.mark_text(fontSize=11, color="#444444", baseline="bottom", aria=False).encode(
        x=_time("middle"), y=alt.value(-5), text="label:N"
    )
    return shades, labels


def _as_of(picture: Picture) -> "tuple[alt.Chart, alt.Chart]":
    import altair as alt  # noqa: PLC0415 - in an extra

    day = pl.DataFrame({"day": [picture.as_of], "label": [f"as of {picture.as_of}"]})
    base = alt.Chart(_data(day)).encode(x=_time("day"))
    rule = base.mark_rule(color="#222222", strokeWidth=1.2, aria=False).encode(
        y=alt.value(-20), y2=alt.value(_HEIGHT)
    )
    label = base.mark_text(fontSize=11.5, fontWeight="bold", color="#222222", baseline="bottom", aria=False)
    return rule, label.encode(y=alt.value(-23), text="label:N")


def _lines(picture: Picture) -> "alt.Chart":
    import altair as alt  # noqa: PLC0415 - in an extra

    series = {
        _HISTORY: picture.history.select("middle", "streams"),
        _FORECAST: picture.forecast.select("middle", pl.col("streams").cast(pl.Float64)),
        _BASE: picture.forecast.select("middle", streams="base_streams"),
    }
    drawn = [name for name in _SERIES if len(series[name])]
    points = pl.concat([series[name].with_columns(series=pl.lit(name)) for name in drawn])
    scale, legend = _by_series(drawn), alt.Legend(title=None, orient="bottom", symbolType="stroke")
    lines: alt.Chart = (
        alt.Chart(_data(points))
        .mark_line(strokeWidth=2, strokeJoin="round", aria=False)
        .encode(
            x=_time("middle"),
            y=_streams(picture),
            color=alt.Color("series:N", scale=scale["color"], legend=legend),
            strokeDash=alt.StrokeDash("series:N", scale=scale["dash"], legend=legend),
        )
    )
    return lines


def _by_series(drawn: Sequence[str]) -> "Mapping[str, alt.Scale]":
    import altair as alt  # noqa: PLC0415 - in an extra

    which = [_SERIES.index(name) for name in drawn]
    return {
        "color": alt.Scale(domain=drawn, range=[_COLORS[i] for i in which]),
        "dash": alt.Scale(domain=drawn, range=[_DASHES[i] for i in which]),
    }


def _points(picture: Picture) -> "list[alt.Chart]":
    """What can be pointed at: each window and month. Of a long forecast the points cannot be seen."""
    import altair as alt  # noqa: PLC0415 - in an extra

    def points(frame: pl.DataFrame, color: str, opacity: float, *shown: str) -> "alt.Chart":
        chart = alt.Chart(_data(frame.with_columns(_period())))
        marks: alt.Chart = chart.mark_point(filled=True, size=26, color=color, opacity=opacity).encode(
            x=_time("middle"), y=_streams(picture), description="days:N", tooltip=_tooltip(*shown)
        )
        return marks

    months = ("month", "days", "streams", "base_streams", "segment", "months_since_release")
    seen = 1.0 if len(picture.forecast) <= _POINTS else 0.0
    drawn = [
        points(picture.history, _COLORS[0], 1.0, "days", "streams"),
        points(picture.forecast, _COLORS[1], seen, *months, "base_rate", "rate"),
    ]
    if len(picture.forecast) == 1:  # no line can be seen
        base = picture.forecast.with_columns(streams="base_streams")
        drawn.insert(0, points(base, _COLORS[2], 1.0))
    return drawn


def _tooltip(*columns: str) -> "list[alt.Tooltip]":
    import altair as alt  # noqa: PLC0415 - in an extra

    titles = {
        "name": "lifecycle",
        "base_streams": "streams, base curve",
        "months_since_release": "month since release",
        "base_rate": "base rate per month",
        "rate": "rate per month",
    }
    formats = {"streams": ",.0f", "base_streams": ",.0f", "base_rate": ".6f", "rate": ".6f"}
    return [
        alt.Tooltip(
            field=column,
            type="quantitative" if column in formats else "nominal",
            title=titles.get(column, column),
            format=formats.get(column, alt.Undefined),
        )
        for column in columns
    ]


def _time(column: str, span: tuple[int, int] | None = None) -> "alt.X":
    """The axis of days, in UTC, so that a day is the same one wherever the page is read.

    One layer says what the first and the last day are: of more than one Vega-Lite warns.
    """
    import altair as alt  # noqa: PLC0415 - in an extra

    first, last = (day * _MS_PER_DAY for day in span) if span else (alt.Undefined, alt.Undefined)
    scale = alt.Scale(type="utc", nice=False, domainMin=first, domainMax=last)
    axis = alt.Axis(grid=False, tickCount=8, labelOverlap=True)
    return alt.X(field=column, type="temporal", title=None, scale=scale, axis=axis)


def _streams(picture: Picture) -> "alt.Y":
    import altair as alt  # noqa: PLC0415 - in an extra

    # No stream is in parts, and what the SI calls G is a billion.
    label = "datum.value % 1 ? '' : replace(format(datum.value, '~s'), 'G', 'B')"
    axis = alt.Axis(
        labelExpr=label, tickMinStep=1, tickCount=6, gridColor="#E4E4E4", domain=False, ticks=False
    )
    scale = alt.Scale(zero=True) if _range(picture) != (0.0, 1.0) else alt.Scale(domain=[0, 1])
    return alt.Y(field="streams", type="quantitative", title="streams per 30 days", axis=axis, scale=scale)


def _data(frame: pl.DataFrame) -> "alt.InlineData":
    """The rows, with each date as its first millisecond in UTC."""
    import altair as alt  # noqa: PLC0415 - in an extra

    return alt.InlineData(values=frame.with_columns(pl.col(pl.Date).dt.epoch("ms")).to_dicts())


def _period() -> pl.Expr:
    first, last = (pl.col(column).dt.to_string("iso") for column in ("first_day", "last_day"))
    return pl.format("{} to {}", first, last).alias("days")


def _page(picture: Picture, chart: "alt.LayerChart") -> str:
    """A page that holds all it needs."""
    import altair as alt  # noqa: PLC0415 - in an extra
    import vl_convert  # noqa: PLC0415 - in an extra

    version = alt.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]
    # Nothing that would lead to a page elsewhere.
    actions = {"export": True, "source": False, "compiled": False, "editor": False}
    return _PAGE.format(
        title=picture.title,
        font=_FONT,
        library=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version),
        chart=_script(chart.to_dict()),
        options=_script({"renderer": "svg", "actions": actions, "downloadFileName": picture.title}),
    )


def _script(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True).replace("</", r"<\/")


def _span(picture: Picture) -> tuple[int, int]:
    """The numbers of the first and the last day that are drawn; a day is drawn where it ends."""
    frames = [frame.select("first_day", "last_day") for frame in (picture.history, picture.forecast)]
    days = (
        pl.concat(frames).select(pl.all().to_physical()).select(pl.min("first_day") - 1, pl.max("last_day"))
    )
    first, last = days.row(0)
    return first, last


def _range(picture: Picture) -> tuple[float, float]:
    """From 0, or a sum below it, up to the largest streams; at least up to 1."""
    frames = (picture.history["streams"], picture.forecast["streams"], picture.forecast["base_streams"])
    drawn = pl.concat([streams.cast(pl.Float64) for streams in frames])
    return min(0.0, *drawn.bottom_k(1)), max(1.0, *drawn.top_k(1))


# The text.


def _plotted(picture: Picture, width: int, height: int, *, color: bool) -> list[str]:
    import plotext  # noqa: PLC0415 - in an extra

    plotext.terminal.limit(width=False, height=False)
    figure = plotext.figure.clear().theme("colorless").plot_size(width, height)
    series = zip((picture.history, picture.forecast), _MARKERS, _TERMINAL_COLORS, strict=True)
    for frame, marker, tint in series:
        if len(frame):
            days, streams = frame["middle"].to_physical(), frame["streams"].cast(pl.Float64)
            signal = figure.signal(days.to_list(), streams.to_list(), marker=plotext.marker(marker, tint))
            figure.draw(signal.lines().density("full", "line"))
    figure.line(int(pl.Series([picture.as_of]).to_physical()[0]), "vertical", style="dotted")
    (first, last), (lowest, highest) = _span(picture), _range(picture)
    dates = _dates(first, last, max(1, width // _COLUMNS_PER_DATE))
    numbers = _ticks(lowest, highest, max(1, height // _ROWS_PER_NUMBER))
    figure.ruler("x").lim(first, last).ticks(
        dates.to_physical().to_list(), dates.dt.to_string("iso").to_list()
    )
    figure.ruler("y").lim(lowest, highest).ticks(numbers, [_short(number) for number in numbers])
    lines: list[str] = figure.build().string(colorless=not color).splitlines()
    figure.clear()
    return lines


def _legend(picture: Picture, width: int, *, color: bool) -> str:
    names = [f"⠒⠒ {_HISTORY}", f"•• {_FORECAST}", f"┊ as of {picture.as_of}"]
    tints = [*_TERMINAL_COLORS, None]
    parts = list(zip(names, tints, strict=True))[0 if len(picture.history) else 1 :]
    plain = "   ".join(name for name, _ in parts)
    if not color or len(plain) > width:
        return plain[:width]
    return "   ".join(click.style(name, fg=tint) for name, tint in parts)


def _dates(first: int, last: int, count: int) -> pl.Series:
    """So many days after the first one, evenly spread up to the last."""
    steps = pl.int_range(count + 1, eager=True)
    return (first + (last - first) * steps // count).cast(pl.Int32).cast(pl.Date)


def _ticks(lowest: float, highest: float, count: int) -> list[float]:
    """Round numbers from the lowest to the highest, about so many, at least 1 apart."""
    rough = highest / count - lowest / count  # their difference could be infinite
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(1.0, next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))
    return [step * i for i in range(math.ceil(lowest / step), math.floor(highest / step) + 1)]


def _short(value: float) -> str:
    unit, suffix = next((unit for unit in _UNITS if abs(value) >= unit[0]), (1, ""))
    return f"{value / unit:,.4g}{suffix}"
