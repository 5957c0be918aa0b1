"""A picture written to a file: HTML, PNG or SVG."""

import functools
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecaster.errors import InvalidOptionError
from forecaster.files.atomic import write_bytes
from forecaster.files.tables import check_output_path
from forecaster.views.chart.extras import require
from forecaster.views.chart.figure import FONT, LOOKS, figure
from forecaster.views.chart.picture import SEPARATOR, Picture, flowed

if TYPE_CHECKING:
    import altair as alt

_SCALE = 2  # pixels of a PNG per pixel of the chart

# Of Vega, which Altair does not know: one legend below the other.
_STACKED = {"layout": {"bottom": {"direction": "vertical", "anchor": "start", "margin": 4}}}
_NARROW = 36  # characters of a subtitle that a narrow screen has room for

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ margin: 16px; background: {light}; font-family: {font}; print-color-adjust: exact; }}
#chart {{ display: block; box-sizing: border-box; width: 100%; max-width: 1100px; margin: 0 auto; }}
/* A legend with more lines on a narrow screen is higher than what was left for it. */
#chart svg {{ overflow: visible; }}
@media (max-width: 600px) {{
  body {{ margin: 4px 4px 96px; }}
  #chart.has-actions {{ padding: 32px 0 0; }}
}}
@media (prefers-color-scheme: dark) {{
  body {{ background: {dark}; }}
  #chart summary {{ filter: invert(1); }}
}}
</style>
<script>{library}</script>
</head>
<body>
<div id="chart"></div>
<script>
const looks = {looks}, chart = {chart}, lines = {lines}, options = {options};
const dark = matchMedia("(prefers-color-scheme: dark)"), narrow = matchMedia("(max-width: 600px)");
let drawn = Promise.resolve();
function draw() {{
  const theme = dark.matches ? "dark" : "light";
  const spec = narrow.matches ? {{...chart, title: {{...chart.title, ...lines}}}} : chart;
  drawn = drawn
    .then(before => before?.finalize())
    .then(() => vegaEmbed("#chart", spec, {{...options, config: looks[theme], tooltip: {{theme}}}}))
    .catch(console.error);
}}
for (const query of [dark, narrow]) query.addEventListener("change", draw);
draw();
</script>
</body>
</html>
"""


def check_chart_path(path: Path) -> None:
    """Check that a chart can be written to `path`, without writing anything.

    Raises `InvalidOptionError` for an ending that is not in `CHART_ENDINGS`, `MissingExtraError` without the
    extra "plot", `BadFileError` for a directory that is missing or not writable.
    """
    if path.suffix.lower() not in CHART_ENDINGS:
        raise InvalidOptionError(
            f"{path}: unknown ending {path.suffix!r} for a chart",
            hint=f"use one of {', '.join(CHART_ENDINGS)}",
        )
    require("plot")
    check_output_path(path, any_ending=True)


def write_chart(picture: Picture, path: Path) -> None:
    """Write the chart as HTML, PNG or SVG, by the path's ending. On failure the path stays as it was.

    The HTML page needs no network, adapts to its width, and follows the reader's light or dark setting.
    Raises the errors of `check_chart_path`, and `BadFileError` if writing fails.
    """
    check_chart_path(path)
    write_bytes(_FORMS[path.suffix.lower()](picture), path)


def _png(picture: Picture) -> bytes:
    png = io.BytesIO()
    _with_look(picture).save(png, format="png", scale_factor=_SCALE)
    return png.getvalue()


def _svg(picture: Picture) -> bytes:
    svg = io.StringIO()
    _with_look(picture).save(svg, format="svg")
    return svg.getvalue().encode()


def _with_look(picture: Picture) -> "alt.LayerChart":
    chart: alt.LayerChart = figure(picture).properties(config=LOOKS["light"])
    return chart


def _page(picture: Picture) -> bytes:
    """Build a page that needs no other file."""
    # No link that leads to another page.
    actions = {"export": True, "source": False, "compiled": False, "editor": False}
    page = _PAGE.format(
        title=picture.title,
        font=FONT,
        light=LOOKS["light"]["background"],
        dark=LOOKS["dark"]["background"],
        library=_library(),
        looks=_script({name: _stacked(look) for name, look in LOOKS.items()}),
        lines=_script({"text": picture.names, "subtitle": flowed(picture.facts, SEPARATOR, _NARROW)}),
        chart=_script(figure(picture).properties(width="container").to_dict()),
        options=_script({"renderer": "svg", "actions": actions, "downloadFileName": picture.title}),
    )
    return page.encode()


def _stacked(look: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**look, "legend": {**look["legend"], **_STACKED}}


@functools.cache  # it takes longer than the rest of a page
def _library() -> str:
    """Read the script that draws, in the version that the charts are written for."""
    import altair as alt  # noqa: PLC0415 - in an extra
    import vl_convert  # noqa: PLC0415 - in an extra

    version = alt.SCHEMA_VERSION.removeprefix("v").rpartition(".")[0]
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)


def _script(value: Any) -> str:  # noqa: ANN401 - whatever JSON can say
    return json.dumps(value, sort_keys=True).replace("</", r"<\/")


_FORMS: Mapping[str, Callable[[Picture], bytes]] = {".html": _page, ".png": _png, ".svg": _svg}

CHART_ENDINGS: tuple[str, ...] = tuple(_FORMS)
"""Endings of chart files, in upper or lower case."""
