"""Whatever a catalogue holds is drawn."""

from datetime import date

import numpy as np
import pytest

from forecaster.views.page import render
from tests.pages import NO_FORECAST, NO_STREAMS, STALE, Row, catalogue, track
from tests.seen import Opener, count, listed, overflow

HURT = {
    "one track": [track()],
    "no forecasts": [track(1, **NO_FORECAST), track(2, reason="too_young", **NO_FORECAST)],
    "no streams": [track(1, **NO_STREAMS), track(2, **NO_STREAMS, cm_artist_id=None)],
    "stored before it was skipped": [track(reason="several_artists")],
    "differing lengths": [track(1, forecast=[5.0]), track(2, forecast=[3.0] * 90), track(3, **NO_FORECAST)],
    "zero streams": [track(streams_30=0.0, streams_365=0.0, history=[0.0] * 12, forecast=[0.0] * 12)],
    "huge": [track(number, forecast=[1e19, 3e18], history=[1e19], streams_30=1e19) for number in (1, 2)],
    "no numbers": [
        track(1, streams_30=np.nan, history=[np.nan, 5.0], forecast=[2.0, np.nan, 1.0], total=np.nan),
        track(2, forecast=[np.nan], k=np.inf, mldr=-np.inf, total=np.inf),
    ],
    "ids at the limits": [track(number) for number in (-(2**63), -5, 0, 2**63 - 2, 2**63 - 1)],
    "stale": [
        track(1, **STALE | {"cutoff": date(1, 1, 1)}),
        track(2, **STALE | {"as_of": date(9999, 12, 31), "forecast": [7.0]}),
        track(3, cutoff=date(2025, 12, 31)),
        track(4, **STALE | {"history": []}),
    ],
    "outside the tables": [track(segment=13, influence_range=None)],
}  # fmt: skip


@pytest.mark.parametrize("rows", HURT.values(), ids=HURT)
def test_what_hurts_is_drawn(rows: list[Row], show_other: Opener) -> None:
    shown = catalogue(*rows)
    ids = [f"{row['cm_track_id']}" for row in rows]
    page = show_other(shown, f"#track-{ids[0]}", width=360)
    assert page.inner_text("dialog[open] h2") == f"Track {ids[0]}"
    assert page.locator("dialog .tip, dialog .empty").count() == 1
    page.click("#dialog-close")
    page.click("#list th button:text-is('Track')")
    assert listed(page) == ids
    has = [row for row in rows if row["forecast"]]
    assert (count(page, "tracks"), count(page, "forecast")) == (len(rows), len(has))
    total = np.nansum([value for row in has for value in row["forecast"]])
    assert count(page, "streams") == total
    assert not {"NaN", "Infinity", "undefined", "null"} & {*page.inner_text("body").split()}
    assert overflow(page) <= 0
    assert render(shown) == render(shown)
