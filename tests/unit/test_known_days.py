"""The days before a cutoff are found by their place, and give the forecasts of these days alone."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.model import build_forecasts
from forecaster.model.parameters import Parameters
from forecaster.scoring.past import KnownDays, Rates, build_past
from forecaster.tables import FORECASTS, TRACK_DAYS

FIRST = date(2021, 1, 1)


@pytest.fixture(scope="module")
def days() -> pl.DataFrame:
    """Tracks of all ages: with gaps, with an artist that changes or is not known, with a lost release."""
    random = np.random.default_rng(7)
    frames = []
    for track in range(1, 41):
        length = int(random.integers(1, 900))
        day = np.flatnonzero(random.random(length) < 0.9) if track % 3 else np.arange(length)
        start = FIRST + timedelta(days=int(random.integers(0, 700)))
        frame = pl.DataFrame({"day": day, "daily_streams": 1e5 * random.random(len(day))})
        later, some = pl.col("day") > 200, pl.col("day") % 5 > 0
        frames.append(
            frame.select(
                cm_track_id=pl.lit(track, pl.Int64),
                cm_artist_id=pl.when(~(some & (track % 7 == 0))).then(1 + (later & (track % 11 == 0))),
                date=pl.lit(start) + pl.duration(days="day"),
                daily_streams="daily_streams",
                days_from_release=pl.when(track % 5 > 0).then("day"),
            )
        )
    return pl.concat(frames).select(TRACK_DAYS)


@pytest.mark.parametrize(("age_from", "level"), [("release", 30), ("release", 7), ("first-date", 30)])
@pytest.mark.parametrize("offset", [0, 1, 200, 500, 900, 2_000])
def test_the_forecasts_are_those_of_the_days_before_it(
    days: pl.DataFrame, offset: int, age_from: str, level: int
) -> None:
    cutoff = FIRST + timedelta(days=offset)
    known = pl.DataFrame({"cm_artist_id": [1, 2], "mldr": [0.05, 0.01]})
    rates = Rates(known, later=known.clear())
    parameters = Parameters(age_from=age_from, level=level)  # type: ignore[arg-type]
    found = build_past(KnownDays.of(days), rates, cutoff=cutoff, parameters=parameters, later_rates=False)
    before = days.lazy().filter(pl.col("date") < cutoff)
    expected = build_forecasts(before, known.lazy(), age_from=parameters.age_from, level=level)
    forecasts = found.forecasts.collect()
    assert_frame_equal(
        forecasts.drop("cutoff", "as_of"),
        expected.forecasts.with_columns(FORECASTS.rounded_streams()).drop("training_data_id").collect(),
    )
    assert_frame_equal(found.skipped.collect(), expected.skipped.collect())
    last = before.group_by("cm_track_id").agg(as_of=pl.col("date").max())
    assert_frame_equal(
        forecasts.select("cm_track_id", "as_of").unique(),
        last.collect().join(forecasts, on="cm_track_id", how="semi"),
        check_row_order=False,
    )
    assert (offset in (0, 1, 200)) or len(forecasts) > 0
