"""A picture as a file: its ending, its bytes, and what it takes to write it."""

import os
import pickle
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.views.chart import CHART_ENDINGS, Picture, as_text, check_chart_path, write_chart
from tests.catalogues import days
from tests.pictures import LAST, drawn, falling, parts
from tests.reference import Row


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (days([2.0**58] * 200, first=LAST - timedelta(days=199)), {}),
        (days([1.7e308] * 60 + [2.0**58] * 400), {"horizon": 1}),
        (days([0.0] * 200), {}),
        (days([0.01] * 200), {}),
        (days([-50.0] * 100 + [10.0] * 400), {}),
        (days([5.0], first_age=40), {"horizon": 400}),
        (days([5.0] * 390, first=date(1, 1, 1)), {"horizon": 1}),
        (falling(400, last=date(9999, 12, 31) - timedelta(days=360)), {"horizon": 12}),
    ],
    ids=["2^63", "overflow", "nothing", "hundredths", "negative", "one day", "the first year", "the last"],
)
def test_whatever_can_be_forecast_can_be_drawn(
    rows: list[Row], options: dict[str, Any], tmp_path: Path
) -> None:
    got = drawn(rows, **options)
    write_chart(got, tmp_path / "chart.svg")
    texts = [text.text or "" for text in svg(tmp_path / "chart.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {got.title, got.subtitle, f"as of {got.as_of}", "base curve"} < set(texts)
    assert ("30-day totals" in texts) == (len(got.history) > 0)
    # Half a stream is no mark on the axis, and nothing is not a number.
    assert not [text for text in texts if text.endswith("m") or "NaN" in text or "Infinity" in text]
    assert "NaN" not in (tmp_path / "chart.svg").read_text("utf-8")
    _, plot, rates = parts(as_text(got, width=100, height=24, color=False).splitlines())
    assert {len(line) for line in plot[:-1]} == {100}
    assert len(rates) >= 1


def svg(path: Path) -> ET.Element:
    return ET.parse(path).getroot()


@pytest.mark.parametrize("ending", [".svg", ".PNG"])  # HTML: see what a browser makes of it
def test_the_ending_says_what_is_written(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"track{ending}"
    write_chart(drawn(falling(200)), path)
    data = path.read_bytes()
    if ending == ".svg":
        assert ET.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg"
    else:
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
        assert 1750 < width < 1850
        assert 800 < height < 950


@pytest.mark.parametrize("ending", [*CHART_ENDINGS, ".Html", ".SVG"])
def test_known_endings_are_known_in_any_case(ending: str, tmp_path: Path) -> None:
    check_chart_path(tmp_path / f"chart{ending}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["chart.jpg", "chart", "chart.svg.gz", ".png"])
def test_another_ending_is_refused_with_those_that_are_known(name: str, tmp_path: Path) -> None:
    for refusing in (check_chart_path, lambda path: write_chart(drawn(falling(40)), path)):
        with pytest.raises(InvalidOptionError, match="unknown ending") as caught:
            refusing(tmp_path / name)
        assert caught.value.hint == "use one of .html, .png, .svg"
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_missing_is_said_early(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="does not exist"):
        check_chart_path(tmp_path / "missing" / "chart.svg")


def elsewhere(script: str, got: Picture, **environ: str) -> str:
    """What a process of its own prints, with the picture in `picture` and the names of the module."""
    start = "import pickle, sys\nfrom pathlib import Path\n"
    load = "from forecaster.views.chart import *\npicture = pickle.load(sys.stdin.buffer)\n"
    done = subprocess.run(
        [sys.executable, "-c", start + script.replace("LOAD\n", load)],
        check=True,
        input=pickle.dumps(got),
        stdout=subprocess.PIPE,
        env=os.environ | environ,
    )
    return done.stdout.decode()


def test_the_same_picture_gives_the_same_bytes_in_any_time_zone(tmp_path: Path) -> None:
    got, path = drawn(falling(200)), tmp_path / "there.svg"
    elsewhere(f"LOAD\nwrite_chart(picture, Path({str(path)!r}))", got, TZ="America/Los_Angeles")
    write_chart(drawn(falling(40), horizon=400), tmp_path / "here.svg")  # leaves nothing behind
    write_chart(got, tmp_path / "here.svg")
    assert (tmp_path / "here.svg").read_bytes() == path.read_bytes()


def test_a_missing_extra_is_named() -> None:
    script = """
class Blocker:
    blocked = {"altair", "vl_convert", "plotext"}
    def find_spec(self, name, path=None, target=None):
        if name in self.blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
LOAD
from forecaster.errors import MissingExtraError

def say(draw):
    try:
        draw()
    except MissingExtraError as error:
        print(error, error.hint, sep="; ")

say(lambda: as_text(picture, width=80, height=24, color=False))
say(lambda: check_chart_path(Path("chart.svg")))
Blocker.blocked = {"vl_convert"}
say(lambda: write_chart(picture, Path("chart.svg")))
"""
    told = "drawing this needs the extra '{0}', which is not installed (No module named '{1}'); "
    told += "pip install 'forecaster[{0}]'"
    assert elsewhere(script, drawn(falling(40))).splitlines() == [
        told.format(extra, module)
        for extra, module in (("term", "plotext"), ("plot", "altair"), ("plot", "vl_convert"))
    ]
