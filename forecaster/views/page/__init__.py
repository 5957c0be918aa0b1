"""One HTML page of a whole catalogue: it needs no network and no library, and holds its data compressed."""

import base64
import gzip
import hashlib
import json
import re
from datetime import UTC
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined, Template

from forecaster.process.numbers import short
from forecaster.views.page.evaluation import evaluated
from forecaster.views.page.joined import read, script, style
from forecaster.views.page.summary import counts, horizons, how_sure, summary, totals
from forecaster.views.page.tracks import (
    LARGEST_TRACKS,
    POINTS,
    TIME_FORMAT,
    cleaned,
    drawn_months,
    largest,
    rows,
)

if TYPE_CHECKING:
    from forecaster.scoring import Evaluation
    from forecaster.views.catalogue import Catalogue

__all__ = ["LARGEST_TRACKS", "POINTS", "render"]

_COMMAND = re.compile("`([^`]+)`")


def render(catalogue: "Catalogue", evaluation: "Evaluation | None" = None) -> str:
    """Render the page; the same arguments give the same bytes. Leave out values above 1e30 or not finite.

    A track's chart has at most `POINTS` months, the same for all tracks, rounded to four digits. Totals are
    integers, exact below 2^63. Of more than `LARGEST_TRACKS` tracks, the page lists those with the largest
    forecasts, then those with the most streams. An evaluation adds a section on accuracy, with scores
    rounded to eight digits.
    """
    tracks = cleaned(catalogue.tracks)
    by_month = totals(tracks)
    listed, months = largest(tracks), drawn_months(by_month.height)
    code, numbers = script("page_evaluated.js" if evaluation else "page.js"), counts(tracks)
    return _template().render(
        style=style("style.css", *(["evaluation.css"] if evaluation else [])),
        script=code,
        script_hash=_base64(hashlib.sha256(code.encode()).digest()),
        database=catalogue.database,
        schema=catalogue.schema,
        read_at=catalogue.read_at.astimezone(UTC).strftime(TIME_FORMAT),
        # Text and commands alternate.
        warnings=[_COMMAND.split(words) for words in catalogue.warnings],
        counts={name: f"{count:,}" for name, count in numbers.items()},
        streams=short(numbers["streams"]),
        months=horizons(tracks["months"]),
        sure=how_sure(catalogue.total),
        summary=_json(summary(tracks, by_month) | {"rows": listed.height, "drawn": months}),
        rows=_compressed(_json(rows(listed, months))),
        evaluation=_json(evaluated(evaluation)) if evaluation else None,
    )


def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(read("template.html"))


def _json(value: object) -> str:
    """Write JSON that cannot end a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _compressed(text: str) -> str:
    # The highest level would take seven times as long to save 5 %. A time stamp would change the bytes.
    return _base64(gzip.compress(text.encode(), compresslevel=6, mtime=0))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
