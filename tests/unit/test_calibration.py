"""The record of a calibration: the same data give the same one, and a changed byte is refused."""

from copy import deepcopy
from datetime import date, timedelta
from functools import reduce
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster import Calibration, build_forecasts, calibrate
from forecaster.errors import CalibrationError, InvalidOptionError
from forecaster.frames.schemas import conform
from forecaster.model.calibrated.calibrate import calibration_from
from forecaster.model.calibrated.calibration import RatedArtists
from forecaster.model.calibrated.past import PastSums
from forecaster.model.features import clean
from forecaster.scoring.calibrating import past_sums
from forecaster.tables import DAILY_STREAMS

GOLDEN = Path(__file__).parents[1] / "golden"
AS_OF = date(2022, 12, 31)


@pytest.fixture(scope="module")
def daily() -> pl.LazyFrame:
    return pl.scan_parquet(GOLDEN / "tracks.parquet").filter(pl.col("cm_track_id") <= 120)


@pytest.fixture(scope="module")
def mldr() -> pl.LazyFrame:
    return pl.scan_parquet(GOLDEN / "mldr.parquet")


@pytest.fixture(scope="module")
def calibration(daily: pl.LazyFrame, mldr: pl.LazyFrame) -> Calibration:
    return calibrate(daily, mldr, as_of=AS_OF, rows="fitted", origins=4)


def test_it_comes_back_from_json_as_it_was(calibration: Calibration) -> None:
    assert calibration.rows.fitted is not None
    assert len(calibration.errors) == len(calibration.choice.tried) == 10
    assert Calibration.from_json(calibration.to_json()) == calibration
    assert Calibration.from_json(calibration.to_json() + "\n") == calibration


def test_a_changed_byte_is_refused_by_name(calibration: Calibration) -> None:
    text = calibration.to_json()
    # Every 31st character meets names, digits, signs and punctuation alike.
    for at in range(0, len(text), 31):
        changed = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        with pytest.raises(CalibrationError, match=r"^own\.json (was changed|is not a|has form)"):
            Calibration.from_json(changed, name="own.json")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "7", '{"form": 1}', '{"form": 1, "rates": {}}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(CalibrationError, match=r"^x (was changed|is not a calibration)"):
        Calibration.from_json(text, name="x")


def test_another_form_is_refused(calibration: Calibration) -> None:
    later = calibration.to_json().replace('"form":1', '"form":2')
    with pytest.raises(CalibrationError, match="has form 2: this version reads form 1") as error:
        Calibration.from_json(later)
    assert "update `forecaster`" in (error.value.hint or "")


def test_the_name_follows_from_the_content(
    calibration: Calibration, daily: pl.LazyFrame, mldr: pl.LazyFrame
) -> None:
    shuffled = daily.collect().sample(fraction=1, shuffle=True, seed=1).lazy()
    again = calibrate(shuffled, mldr, as_of=AS_OF, rows="fitted", origins=4)
    assert again == calibration
    assert again.id == f"2022-12-31-{calibration.checksum[:10]}"
    other = calibrate(daily, mldr, as_of=AS_OF - timedelta(1), rows="fitted", origins=4)
    assert other.id != calibration.id


@pytest.mark.parametrize("size", [1, 7, 100])
def test_however_the_tracks_are_cut_the_record_is_the_same(
    size: int, calibration: Calibration, daily: pl.LazyFrame, mldr: pl.LazyFrame
) -> None:
    origins = 2 if size == 1 else 4
    records = clean(conform(daily, DAILY_STREAMS, name="daily").filter(pl.col("date") <= AS_OF))
    frame = records.sort("cm_track_id", "date").collect()
    if size == 1:
        frame = frame.filter(pl.col("cm_track_id") <= 25)
    tracks = frame["cm_track_id"].unique().sort()
    parts = [
        past_sums(
            frame.filter(pl.col("cm_track_id").is_in(part.implode())), mldr, as_of=AS_OF, origins=origins
        )
        for part in (tracks[at : at + size] for at in range(0, len(tracks), size))
    ]
    assert len(parts) > 1
    whole = (
        calibration
        if size > 1
        else calibration_from(
            past_sums(frame, mldr, as_of=AS_OF, origins=origins), as_of=AS_OF, rows="fitted"
        )
    )
    for order in (deepcopy(parts), parts[::-1]):
        made = calibration_from(reduce(PastSums.take, order, PastSums.none()), as_of=AS_OF, rows="fitted")
        assert made.to_json() == whole.to_json()
        assert made.artists == whole.artists


def test_artists_with_a_rate_that_was_known_in_the_past_are_counted(daily: pl.LazyFrame) -> None:
    """Those of the newest origin: no rate of the last 30 days, or that is not finite, was known by then."""
    few = daily.filter(pl.col("cm_track_id") <= 25)
    one, two, three, four = few.select(pl.col("cm_artist_id").unique().sort().head(4)).collect()[
        "cm_artist_id"
    ]
    newest = AS_OF - timedelta(30)
    mldr = pl.LazyFrame(
        {
            "cm_artist_id": [one, one, two, three, four, -1],
            "mldr": [0.1, 0.2, 0.1, 0.1, float("nan"), 0.1],
            "created_at": [newest, AS_OF, newest + timedelta(1), None, None, None],
        },
        schema_overrides={"created_at": pl.Datetime("us", "UTC")},
    )
    made = calibrate(few, mldr, as_of=AS_OF, origins=2).artists
    every = few.select(pl.col("cm_artist_id").n_unique()).collect().item()
    assert made == RatedArtists(every, known=2, undated=1)
    assert calibrate(few, as_of=AS_OF, origins=2).artists == RatedArtists(every, 0, 0)


def test_no_track_adds_nothing(calibration: Calibration) -> None:
    none = calibration_from(PastSums.none(), as_of=AS_OF)
    assert (none.tracks, none.first_day, none.origins, none.errors) == (0, None, (), ())
    assert none.rates.whole == (0.0, 0.0, 0.0)
    assert not none.choice.is_measured
    assert (none.choice.model, none.choice.weight, none.choice.level) == ("blend", 0.5, 7)
    assert Calibration.from_json(none.to_json()) == none
    assert none != calibration


def test_without_a_record_there_is_no_calibration(daily: pl.LazyFrame) -> None:
    with pytest.raises(CalibrationError, match="no record up to 1900-01-01"):
        calibrate(daily, as_of=date(1900, 1, 1))


def test_the_calibrated_model_takes_no_mldr_and_no_name() -> None:
    daily = pl.scan_parquet(GOLDEN / "tracks.parquet").filter(pl.col("cm_track_id") <= 20)
    none = daily.select("cm_artist_id").head(0).with_columns(mldr=pl.lit(0.0))
    model = calibrate(daily, origins=0)
    without, empty = (build_forecasts(daily, mldr, model=model).forecasts.collect() for mldr in (None, none))
    assert_frame_equal(without, empty)
    assert len(without)
    with pytest.raises(InvalidOptionError, match="'calibrated': expected a calibration"):
        build_forecasts(daily, None, model="calibrated")  # type: ignore[arg-type]


@pytest.mark.parametrize("days", [2, 30])
def test_a_day_about_which_nothing_is_known(daily: pl.LazyFrame, days: int) -> None:
    newest = daily.select(pl.col("date").max()).collect().item()
    with pytest.raises(
        CalibrationError, match=f"^nothing is known of the week .*: the newest day is {newest}$"
    ):
        calibrate(daily, as_of=newest + timedelta(days), origins=0)
    assert calibrate(daily, as_of=newest + timedelta(1), origins=0).rates.whole[0] != 0
