"""One track's history and forecast as a picture: HTML, PNG, SVG, or text for the terminal."""

from forecaster.views.chart.picture import HISTORY_WINDOWS, Picture, picture
from forecaster.views.chart.text import as_text
from forecaster.views.chart.write import CHART_ENDINGS, check_chart_path, write_chart

__all__ = [
    "CHART_ENDINGS",
    "HISTORY_WINDOWS",
    "Picture",
    "as_text",
    "check_chart_path",
    "picture",
    "write_chart",
]
