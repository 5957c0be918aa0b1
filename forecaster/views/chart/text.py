"""A picture as text for the terminal, drawn by plotext."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click
import polars as pl

from forecaster.process.numbers import short
from forecaster.views.chart.extras import require
from forecaster.views.chart.picture import BASE, FORECAST, HISTORY, RANGES, SEPARATOR, Picture, flowed

if TYPE_CHECKING:
    import plotext

_LEAST_WIDTH = 20
_PLOT_ROWS = 10  # of the plot, at least
_RATE_ROWS = 3  # of rates that are written in full, at most
_LEGEND_GAP, _COLUMN_GAP = "  ", "   "
_WIDE, _NARROW = RANGES
_MARKS = {_WIDE: "░", _NARROW: "▒", HISTORY: "braille", BASE: "·", FORECAST: "•"}
_PLAIN_MARKS = {_WIDE: "-", _NARROW: "=", HISTORY: "#", BASE: ".", FORECAST: "o"}
_LEGEND = {HISTORY: "⠒⠒", FORECAST: "••", BASE: "··", _NARROW: "▒▒", _WIDE: "░░"}
# Blue, grey and oranges, of the terminal's 256.
_COLORS = {HISTORY: 33, BASE: 246, FORECAST: 208, _NARROW: 173, _WIDE: 137}
_BORDER = "│"
# For encodings that lack a character of the drawing.
_PLAIN = str.maketrans("░▒⠒•·┊│─┌┐└┘├┤┬┴┼┆╎", "-=#o.:|-+++++++++::")
_COLUMNS_PER_DATE, _ROWS_PER_NUMBER = 20, 4
_DATES = {40: "%Y-%m-%d", 24: "%Y-%m", 0: "%Y"}  # format of a date, by the least number of columns for it


def as_text(picture: Picture, *, width: int, height: int, color: bool, encoding: str = "utf-8") -> str:
    """Draw the picture in lines of at most `width` characters, at least 20, with the rates below.

    Draws `height` lines, more if a plot of ten lines needs them. Colour codes are extra. Uses ASCII where
    `encoding` lacks a character. Raises `MissingExtraError` without the extra "term".
    """
    require("term")
    drawn = _drawn(picture, _MARKS, width, height, color=color)
    try:
        drawn.encode(encoding)
    except UnicodeEncodeError:
        return _drawn(picture, _PLAIN_MARKS, width, height, color=color).translate(_PLAIN)
    return drawn


def _drawn(picture: Picture, marks: Mapping[str, str], width: int, height: int, *, color: bool) -> str:
    width = max(width, _LEAST_WIDTH)
    above = [*flowed(picture.names, SEPARATOR, width), *flowed(picture.facts, SEPARATOR, width)]
    above += _legend(picture, width, color=color)
    below = _rates(picture, width)
    rows = max(height - len(above) - len(below) - 1, _PLOT_ROWS)
    plot = _plotted(picture, marks, width, rows, color=color)
    return "\n".join((*above, *plot, _segments(picture, click.unstyle(plot[0])), *below))


def _legend(picture: Picture, width: int, *, color: bool) -> list[str]:
    missing = {HISTORY: picture.history.is_empty(), BASE: not picture.has_base}
    drawn = [name for name in _LEGEND if not missing.get(name)]
    names = {name: f"{_LEGEND[name]} {name}" for name in drawn}
    others = (f"┊ as of {picture.as_of}", f"{_BORDER}1{_BORDER} segment")
    lines = flowed((*names.values(), *others), _LEGEND_GAP, width)
    if color:
        for name, text in names.items():
            lines = [line.replace(text, click.style(text, fg=_COLORS[name])) for line in lines]
    return lines


def _plotted(
    picture: Picture, marks: Mapping[str, str], width: int, height: int, *, color: bool
) -> list[str]:
    import plotext  # noqa: PLC0415 - in an extra

    plotext.terminal.limit(width=False, height=False)
    figure = plotext.figure.clear().theme("colorless").plot_size(width, height)
    _draw_ranges(picture, figure, marks, width)
    _draw_series(picture, figure, marks)
    as_of = pl.Series([picture.as_of]).to_physical().item()
    figure.line(as_of, "vertical", style="dotted")
    (first, last), (lowest, highest) = picture.span, picture.extent
    dates = _dates(first, last, max(1, width // _COLUMNS_PER_DATE))
    form = next(form for columns, form in _DATES.items() if width >= columns)
    numbers = _ticks(lowest, highest, max(1, height // _ROWS_PER_NUMBER))
    figure.ruler("x").lim(first, last).ticks(
        dates.to_physical().to_list(), dates.dt.to_string(form).to_list()
    )
    shown = [short(number, digits=4, gap="") for number in numbers]
    figure.ruler("y").lim(lowest, highest).ticks(numbers, shown)
    lines: list[str] = figure.build().string(colorless=not color).splitlines()
    figure.clear()
    return lines


def _draw_ranges(picture: Picture, figure: "plotext.figure", marks: Mapping[str, str], width: int) -> None:
    """Fill the ranges by one stroke per column, up and down in turn."""
    import plotext  # noqa: PLC0415 - in an extra

    for name in RANGES:
        ends = picture.ends(name).with_columns(day=pl.col("middle").to_physical().cast(pl.Float64))
        first, last = ends["day"][0], ends["day"][-1]
        begin, end = picture.span
        step = max(1.0, (end - begin) / width)
        days = pl.DataFrame({"day": [first + i * step for i in range(int((last - first) / step) + 1)]})
        strokes = (
            pl.concat([ends.select("day", "low", "high"), days], how="diagonal")
            .unique("day", keep="first")
            .sort("day")
            .with_columns(pl.col("low", "high").interpolate_by("day"))
        )
        ups = strokes.select("day", pl.concat_list("low", "high").alias("at"))
        turned = ups.with_columns(
            at=pl.when(pl.int_range(pl.len()) % 2 == 1).then(pl.col("at").list.reverse()).otherwise("at")
        ).explode("at")
        mark = plotext.marker(marks[name], _COLORS[name])
        signal = figure.signal(turned["day"].to_list(), turned["at"].to_list(), marker=mark)
        figure.draw(signal.lines().density("full", "line"))


def _draw_series(picture: Picture, figure: "plotext.figure", marks: Mapping[str, str]) -> None:
    """Draw the series in order: a later one covers an earlier one."""
    import plotext  # noqa: PLC0415 - in an extra

    series = {
        HISTORY: picture.history.select("middle", "streams"),
        BASE: picture.forecast.select("middle", streams="base_streams").drop_nulls(),
        FORECAST: picture.forecast.select("middle", "streams"),
    }
    for name, frame in series.items():
        if len(frame):
            days, streams = frame["middle"].to_physical(), frame["streams"].cast(pl.Float64)
            mark = plotext.marker(marks[name], _COLORS[name])
            signal = figure.signal(days.to_list(), streams.to_list(), marker=mark)
            figure.draw(signal.lines().density("full", "line"))


def _segments(picture: Picture, frame: str) -> str:
    """Write the numbers of the segments between their borders, aligned with the plot below this edge.

    Leave out a number that does not fit into its segment.
    """
    left, columns = frame.index("┌") + 1, frame.index("┐") - frame.index("┌") - 1
    first, last = picture.span
    ends = pl.concat([pl.Series([picture.as_of]), picture.bands["last_day"]]).to_physical()
    borders = [left + round((day - first) * (columns - 1) / (last - first)) for day in ends.to_list()]
    row: str = " " * borders[0] + _BORDER
    for number, border in zip(picture.bands["segment"], borders[1:], strict=True):
        room = border - len(row)
        row += (str(number) if len(str(number)) <= room else "").center(room)
        row += _BORDER[: border + 1 - len(row)]
    return row


def _rates(picture: Picture, width: int) -> list[str]:
    """Write the rates of each segment: in full if they take few lines, else in a list under a heading."""
    if not picture.has_base:
        return []
    rates = picture.bands.select("segment", "base_rate", "rate").rows()
    full = [
        f"segment {number}: base rate {base:.4f}, rate {rate:.4f} per month" for number, base, rate in rates
    ]
    if max(map(len, full)) <= width and len(lines := _in_columns(full, width)) <= _RATE_ROWS:
        return lines
    heading = textwrap.wrap("segment: base rate, rate per month", width)
    return heading + _in_columns([f"{number}: {base:.4f}, {rate:.4f}" for number, base, rate in rates], width)


def _in_columns(cells: Sequence[str], width: int) -> list[str]:
    """Arrange the cells line by line, in as many columns as fit."""
    longest = max(map(len, cells))
    columns = max(1, (width + len(_COLUMN_GAP)) // (longest + len(_COLUMN_GAP)))
    padded = [cell.ljust(longest) for cell in cells]
    return [_COLUMN_GAP.join(padded[i : i + columns]).rstrip() for i in range(0, len(cells), columns)]


def _dates(first: int, last: int, count: int) -> pl.Series:
    """Choose `count` days after the first, evenly spread, ending with the last."""
    steps = pl.int_range(count + 1, eager=True)
    return (first + (last - first) * steps // count).cast(pl.Int32).cast(pl.Date)


def _ticks(lowest: float, highest: float, count: int) -> list[float]:
    """Choose about `count` round numbers from the lowest to the highest, at least 1 apart."""
    rough = highest / count - lowest / count  # their difference could be infinite
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(1.0, next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))
    return [step * i for i in range(math.ceil(lowest / step), math.floor(highest / step) + 1)]
