"""A picture as an Altair chart, with a light or a dark look."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl

from forecaster.process.numbers import short_range
from forecaster.views.chart.picture import BASE, FORECAST, HISTORY, RANGES, Picture

if TYPE_CHECKING:
    import altair as alt

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
"""The first one comes with vl-convert."""

_WIDTH, _HEIGHT = 830, 280
_MS_PER_DAY = 86_400_000
_POINTS = 60  # months of a forecast up to which each is drawn as a point, too
# In pixels: "segment 10", a digit, and half of "as of 2024-06-30".
_FULL_LABEL, _DIGIT, _HALF_DAY = 60, 8, 52
_DATE, _LEGEND = 100, 330  # pixels per date of the axis, and of the legend in one line

_SERIES = (HISTORY, FORECAST, BASE)
_DASHES = ([1, 0], [1, 0], [5, 4])
_BAND, _NUMBER, _RULE, _DAY = "segment", "segment-label", "as-of", "as-of-label"
_SHADES = {"95 % range": 0.14, "80 % range": 0.3}  # opacity; the narrow range lies on the wide one
_RANGE = "range"
_STYLES = {HISTORY: "history-point", FORECAST: "forecast-point", BASE: "base-point"}


def _look(background: str, ink: str, muted: str, grid: str, colors: tuple[str, str, str]) -> dict[str, Any]:
    """A configuration of Vega-Lite."""
    points = {_STYLES[name]: {"color": color} for name, color in zip(_SERIES, colors, strict=True)}
    return {
        "background": background,
        "font": FONT,
        "view": {"stroke": None},
        "range": {"category": list(colors)},
        "style": {
            _BAND: {"color": ink},
            _RANGE: {"color": colors[1], "stroke": None},
            _NUMBER: {"color": muted, "fontSize": 11},
            _RULE: {"color": ink, "strokeWidth": 1.2},
            _DAY: {"color": ink, "fontSize": 11.5, "fontWeight": "bold"},
            **points,
        },
        "title": {"anchor": "start", "frame": "group", "fontSize": 17, "color": ink}
        | {"subtitleFontSize": 12.5, "subtitlePadding": 6, "subtitleColor": ink},
        "axis": {"labelFontSize": 11.5, "labelColor": ink, "gridColor": grid, "domainColor": muted}
        | {"titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 10, "titleColor": ink}
        | {"tickColor": muted},
        "legend": {"labelFontSize": 12, "labelColor": ink, "columnPadding": 24}
        | {"symbolStrokeWidth": 2.5, "symbolSize": 500, "symbolBaseFillColor": colors[1]},
    }


# From the palette of Okabe and Ito, which suits all kinds of colour vision: blue and vermilion, with a grey.
# On a dark page its lighter colours: sky blue and orange.
LOOKS: Mapping[str, Mapping[str, Any]] = {
    "light": _look("#FFFFFF", "#222222", "#555555", "#E4E4E4", ("#0072B2", "#D55E00", "#5A5A5A")),
    "dark": _look("#1A1D21", "#E5E7EA", "#A6AEB8", "#2D3238", ("#56B4E9", "#E69F00", "#B4BAC2")),
}
"""Configurations of Vega-Lite, for a light and for a dark page."""


def figure(picture: Picture) -> "alt.LayerChart":
    """Build the chart, without a look. It fits any width; the width set here is for files."""
    import altair as alt  # noqa: PLC0415 - in an extra

    layers = (*_segments(picture), *_as_of(picture), _ranges(picture), _lines(picture), *_points(picture))
    return alt.LayerChart(
        layer=layers,
        width=_WIDTH,
        height=_HEIGHT,
        padding=12,
        description=f"{picture.title}. {picture.subtitle}",
        title=alt.TitleParams(picture.title, subtitle=picture.subtitle, offset=14),
        # Bands have an opacity without a legend, ranges one with it.
        resolve=alt.Resolve(scale=alt.ScaleResolveMap(opacity="independent")),
    )


def _segments(picture: Picture) -> "tuple[alt.Chart, alt.Chart]":
    """Draw the bands of the lifecycle segments, and their labels above the plot."""
    import altair as alt  # noqa: PLC0415 - in an extra

    first, last = picture.span
    days = (pl.col("last_day") - pl.col("first_day")).dt.total_days() + 1
    bands = picture.bands.with_columns(
        _period(),
        name=pl.format("segment {}", "segment"),
        number=pl.col("segment").cast(pl.String),
        share=days / (last - first),
        begin=pl.col("first_day").dt.offset_by("-1d"),
        middle=pl.col("first_day") + pl.duration(days=days // 2 - 1),
        shade=0.06 + 0.06 * (pl.int_range(pl.len()) % 2),
    )
    base = alt.Chart(_data(bands)).encode(
        x=_time("begin", (first, last)),
        description="name:N",
        tooltip=_tooltip("name", "days", "base_rate", "rate"),
    )
    shades = base.mark_rect(style=_BAND).encode(
        x2="last_day:T", opacity=alt.Opacity("shade:Q", scale=None, legend=None)
    )
    pixels = "datum.share * width"
    label = (
        f"{pixels} >= {_FULL_LABEL} ? datum.name"
        f" : {pixels} >= {_DIGIT} * length(datum.number) ? datum.number : ''"
    )
    labels = base.mark_text(style=_NUMBER, text=alt.ExprRef(label), baseline="bottom", aria=False)
    return shades, labels.encode(x=_time("middle"), y=alt.value(-5))


def _as_of(picture: Picture) -> "tuple[alt.Chart, alt.Chart]":
    """Draw the rule between history and forecast, and its label, which stays within the plot."""
    import altair as alt  # noqa: PLC0415 - in an extra

    first, last = picture.span
    day = pl.DataFrame({"day": [picture.as_of], "label": [f"as of {picture.as_of}"]})
    before = day.select((pl.col("day").to_physical() - first) / (last - first)).item()
    align = (
        f"{before} * width < {_HALF_DAY} ? 'left' : {1 - before} * width < {_HALF_DAY} ? 'right' : 'center'"
    )
    base = alt.Chart(_data(day)).encode(x=_time("day"))
    rule = base.mark_rule(style=_RULE, aria=False).encode(y=alt.value(-20), y2=alt.value(_HEIGHT))
    label = base.mark_text(style=_DAY, align=alt.ExprRef(align), baseline="bottom", aria=False)
    return rule, label.encode(y=alt.value(-23), text="label:N")


def _ranges(picture: Picture) -> "alt.Chart":
    """Draw the ranges of the forecast as areas; those of a single month as lines."""
    import altair as alt  # noqa: PLC0415 - in an extra

    ends = pl.concat([picture.ends(name).with_columns(range=pl.lit(name)) for name in RANGES])
    names = [*RANGES]
    shades = alt.Scale(domain=names, range=[_SHADES[name] for name in names])
    each = alt.ExprRef(f"width < {_LEGEND} ? 1 : {len(names)}")
    legend = alt.Legend(title=None, orient="bottom", symbolType="square", symbolStrokeWidth=0, columns=each)
    chart = alt.Chart(_data(ends))
    marked = (
        chart.mark_area(style=_RANGE, aria=False)
        if len(picture.forecast) > 1
        else chart.mark_rule(style=_STYLES[FORECAST], strokeWidth=6, aria=False)
    )
    areas: alt.Chart = marked.encode(
        x=_time("middle"),
        y=_streams(picture, "low"),
        y2="high:Q",
        detail="range:N",
        opacity=alt.Opacity("range:O", scale=shades, legend=legend),
    )
    return areas


def _lines(picture: Picture) -> "alt.Chart":
    import altair as alt  # noqa: PLC0415 - in an extra

    series = {
        HISTORY: picture.history.select("middle", "streams"),
        FORECAST: picture.forecast.select("middle", pl.col("streams").cast(pl.Float64)),
        BASE: picture.forecast.select("middle", streams="base_streams").drop_nulls(),
    }
    drawn = [name for name in _SERIES if len(series[name])]
    points = pl.concat([series[name].with_columns(series=pl.lit(name)) for name in drawn])
    columns = alt.ExprRef(f"width < {_LEGEND} ? 1 : {len(drawn)}")
    legend = alt.Legend(title=None, orient="bottom", symbolType="stroke", values=drawn, columns=columns)
    color, dash = alt.Scale(domain=_SERIES), alt.Scale(domain=_SERIES, range=_DASHES)
    lines: alt.Chart = (
        alt.Chart(_data(points))
        .mark_line(strokeWidth=2, strokeJoin="round", aria=False)
        .encode(
            x=_time("middle"),
            y=_streams(picture),
            color=alt.Color("series:N", scale=color, legend=legend),
            strokeDash=alt.StrokeDash("series:N", scale=dash, legend=legend),
        )
    )
    return lines


def _points(picture: Picture) -> "list[alt.Chart]":
    """Draw a point with a tooltip for each window and month. The points of a long forecast are invisible."""
    import altair as alt  # noqa: PLC0415 - in an extra

    def points(frame: pl.DataFrame, name: str, opacity: float, *shown: str) -> "alt.Chart":
        chart = alt.Chart(_data(frame.with_columns(_period())))
        marks: alt.Chart = chart.mark_point(
            style=_STYLES[name], filled=True, size=26, opacity=opacity
        ).encode(x=_time("middle"), y=_streams(picture), description="days:N", tooltip=_tooltip(*shown))
        return marks

    months = ["month", "days", "streams", "segment", "months_since_release", "range_80", "range_95"]
    months += ["base_streams", "base_rate", "rate"] if picture.has_base else []
    between = {"range_80": ("q10", "q90"), "range_95": ("q025", "q975")}
    forecast = picture.forecast.with_columns(
        pl.struct(ends).map_elements(_between, return_dtype=pl.String).alias(name)
        for name, ends in between.items()
    )
    seen = 1.0 if len(picture.forecast) <= _POINTS else 0.0
    drawn = [
        points(picture.history, HISTORY, 1.0, "days", "streams"),
        points(forecast, FORECAST, seen, *months),
    ]
    if len(picture.forecast) == 1 and picture.has_base:  # no line can be seen
        base = picture.forecast.with_columns(streams="base_streams")
        drawn.insert(0, points(base, BASE, 1.0))
    return drawn


def _between(ends: Mapping[str, int | None]) -> str:
    low, high = ((2.0**63 if end is None else end) for end in ends.values())
    return short_range(low, high)


def _tooltip(*columns: str) -> "list[alt.Tooltip]":
    import altair as alt  # noqa: PLC0415 - in an extra

    titles = {
        "name": "lifecycle",
        "base_streams": "streams, base curve",
        "range_80": "80 % range",
        "range_95": "95 % range",
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
    """Describe the axis of days, in UTC, so that a day is the same in any time zone.

    Only one layer sets the first and the last day: Vega-Lite warns about more than one.
    """
    import altair as alt  # noqa: PLC0415 - in an extra

    first, last = (day * _MS_PER_DAY for day in span) if span else (alt.Undefined, alt.Undefined)
    scale = alt.Scale(type="utc", nice=False, domainMin=first, domainMax=last)
    dates = alt.ExprRef(f"ceil(width / {_DATE})")
    axis = alt.Axis(grid=False, tickCount=dates, labelOverlap=True)
    return alt.X(field=column, type="temporal", title=None, scale=scale, axis=axis)


def _streams(picture: Picture, field: str = "streams") -> "alt.Y":
    import altair as alt  # noqa: PLC0415 - in an extra

    # Streams are whole numbers, and G of the SI is shown as B, a billion.
    label = "datum.value % 1 ? '' : replace(format(datum.value, '~s'), 'G', 'B')"
    axis = alt.Axis(labelExpr=label, tickMinStep=1, tickCount=6, domain=False, ticks=False)
    scale = alt.Scale(zero=True) if picture.extent != (0.0, 1.0) else alt.Scale(domain=[0, 1])
    return alt.Y(field=field, type="quantitative", title="streams per 30 days", axis=axis, scale=scale)


def _data(frame: pl.DataFrame) -> "alt.InlineData":
    """Convert rows for Vega-Lite, with each date as its first millisecond in UTC."""
    import altair as alt  # noqa: PLC0415 - in an extra

    return alt.InlineData(values=frame.with_columns(pl.col(pl.Date).dt.epoch("ms")).to_dicts())


def _period() -> pl.Expr:
    return pl.format("{} to {}", "first_day", "last_day").alias("days")
