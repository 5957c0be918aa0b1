"""Baselines: the one that made the data wins, and each knows only what was known at the origin."""

import math
import random
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import SchemaMismatchError
from forecaster.frames.schemas import conform
from forecaster.model import build_tracks
from forecaster.model.features import clean, last_streams, track_facts
from forecaster.model.mldr import newest_mldr
from forecaster.model.parameters import AgeFrom, Parameters
from forecaster.scoring import BASELINES, Evaluation, evaluate
from forecaster.scoring.baselines import pooled_rates
from forecaster.setup.sample import LAST_DATE, Truth, sample_catalogue
from forecaster.tables import DAILY_STREAMS
from tests.evaluations import (
    DAILY,
    ORIGIN,
    blocks,
    forecast,
    frames,
    known,
    monthly,
    overall,
    random_catalogue,
)


def own_curve(track: int, level: float, k: float) -> pl.DataFrame:
    """The three points of the model's fit lie on the curve, and so do the months to come."""
    before = [(275, 9 * level * math.exp(11 * k)), (60, 2 * level * math.exp(2 * k)), (30, level)]
    after = [(30, level * math.exp(-k * i)) for i in range(1, 7)]
    return blocks([*before, *after], before=3, track=track)


def one_curve(track: int, level: float, b: float) -> pl.DataFrame:
    before = [level * math.exp(b * back) for back in reversed(range(12))]
    return monthly(before, [level * math.exp(-b * i) for i in range(1, 7)], track=track)


def season(track: int, level: float) -> pl.DataFrame:
    wave = [level * (1 + (-1) ** month) for month in range(18)]
    return monthly(wave[:12], [level] * 6, track=track)


@pytest.mark.parametrize(
    ("winner", "tracks"),
    [
        ("last_30_days", [monthly(range(20, 8, -1), [9] * 6, track=track) for track in (1, 2)]),
        ("mean_12_months", [season(1, 100.0), season(2, 7.0)]),
        ("own_exponential", [own_curve(n, 10.0**n, k) for n, k in enumerate((0.0, 0.02, 0.3, 1.0), start=1)]),
        ("pooled_exponential", [one_curve(track, 10.0**track, 0.07) for track in (1, 2, 3)]),
        ("pooled_exponential", [one_curve(track, 10.0**track, -0.04) for track in (1, 2, 3)]),
    ],
)
def test_the_baseline_that_made_the_data_wins(winner: str, tracks: list[pl.DataFrame]) -> None:
    for cutoff in (ORIGIN, None):
        months = [forecast([1.0] * 6, track=track + 1, cutoff=cutoff) for track in range(len(tracks))]
        found = evaluate(pl.concat(months), pl.concat(tracks))
        assert found.best_baseline == winner
        assert overall(found, winner)["wape"] == pytest.approx(0.0, abs=1e-9)
        others = [overall(found, name)["wape"] for name in BASELINES if name != winner]
        equal = 1 if winner == "last_30_days" else 0  # the last week is as the month is
        assert sum(wape is not None and wape < 1e-3 for wape in others) == equal


@pytest.mark.parametrize("decay", [0.05, -0.02])
@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_a_catalogue_whose_truth_is_known(decay: float, noise: float) -> None:
    """What it was made by wins, is off by the noise alone, and an error put into it is found again."""
    daily, _ = sample_catalogue(300, truth=Truth(decay, noise))
    levels = daily.group_by("cm_track_id").agg(pl.col("daily_streams").first(), pl.len())
    # Of small ones, whole streams are a noise; a few large ones would decide alone.
    is_used = pl.col("daily_streams").is_between(1_000, 100_000) & (pl.col("len") > 600)
    used = levels.filter(is_used)["cm_track_id"]
    daily = daily.filter(pl.col("cm_track_id").is_in(used.implode()))
    as_of = date(2024, 6, 30)
    after = daily.filter(pl.col("date") > as_of).with_columns(
        month=(pl.col("date") - as_of).dt.total_days().cast(pl.Int64).sub(1).floordiv(30).add(1)
    )
    months = (
        after.filter(pl.col("month") <= 6)
        .group_by("cm_track_id", "month")
        .agg(a=pl.col("daily_streams").sum())
    )

    def scored(factor: float) -> Evaluation:
        rows = months.sort("cm_track_id", "month").select(
            "cm_track_id",
            cutoff=pl.lit(as_of + timedelta(1)),
            as_of=pl.lit(as_of),
            month="month",
            forecasted_value=pl.col("a") * factor,
            segment_used=pl.lit(11),
            time_used=pl.col("month") + 40,
        )
        return evaluate(rows, daily)

    perfect, too_high = scored(1.0), scored(1.1)
    assert len(used) > 20
    assert overall(perfect)["wape"] == pytest.approx(0.0, abs=1e-12)
    assert (overall(too_high)["wape"], overall(too_high)["bias"]) == pytest.approx((0.1, 0.1))
    left = {name: overall(perfect, name)["wape"] for name in BASELINES}
    # Without noise each track's own rate is the pooled one too, but for growth, which that baseline has not.
    made_by = {"pooled_exponential"} | ({"own_exponential"} if decay > 0 and noise == 0 else set())
    assert perfect.best_baseline in made_by
    # A month's mean of 30 days and the last one's, from which it is told, are each off by noise / sqrt(30).
    assert left["pooled_exponential"] < 0.002 + 2 * noise / math.sqrt(30)
    assert left["last_30_days"] > 1.5 * left["pooled_exponential"]
    flat = abs(1 - sum(math.exp(decay * i) for i in range(1, 7)) / 6)
    assert left["last_30_days"] == pytest.approx(flat, abs=0.01 + noise / math.sqrt(30))


def test_pooled_rates_are_where_no_other_rate_is_nearer() -> None:
    chance = random.Random(5)
    totals = [
        [chance.uniform(1, 9) * 1.2 ** (-month * chance.random()) for month in range(12)] for _ in range(9)
    ]
    frame = pl.DataFrame(totals, orient="row").to_numpy()

    def left_over(y: list[float], b: float) -> float:
        e = [math.exp(-b * x) for x in range(12)]
        return -(sum(map(float.__mul__, y, e)) ** 2) / sum(value * value for value in e)

    for y, b in zip(totals, pooled_rates(frame), strict=True):
        assert all(left_over(y, b) <= left_over(y, other / 1000) for other in range(-1000, 1001))
        assert all(left_over(y, b) <= left_over(y, b + step) + 1e-12 for step in (-1e-6, 1e-6))
    assert pooled_rates(frame[:1] * 0).tolist() == [0.0]
    assert pooled_rates(frame[:0]).tolist() == []


def test_nothing_after_the_origin_is_known_at_the_origin() -> None:
    daily, _ = sample_catalogue(40)
    daily = daily.select(DAILY.names()).cast(DAILY)
    origins = {LAST_DATE - timedelta(days=days): days for days in (60, 200, 400)}
    tracks = daily["cm_track_id"].unique().sort()
    months = pl.concat(
        forecast([1.0], track=track, cutoff=origin, as_of=origin + timedelta(days=track % 3), age=None)
        for track in tracks
        for origin in origins
    )
    for origin in origins:
        of_origin = months.filter(pl.col("cutoff") == origin)
        last = pl.lit(origin) + pl.duration(days=pl.col("cm_track_id") % 3)
        is_later = pl.col("date") > last
        later = daily.filter(is_later).with_columns(pl.col("daily_streams") * -7 + 3)
        half = later.filter(pl.col("date").dt.day() % 2 == 0)
        assert len(half)
        expected = known(of_origin, daily)
        assert len(expected) > 5
        for other in ([later], [half], []):
            changed = pl.concat([daily.filter(~is_later), *other])
            assert_frame_equal(known(of_origin, changed), expected, check_exact=True)
        # What is known does depend on the last day that is known.
        on_the_day = pl.when(pl.col("date") == last).then(1e9).otherwise("daily_streams")
        as_different = known(of_origin, daily.with_columns(daily_streams=on_the_day))
        assert not (as_different["streams_30"] == expected["streams_30"]).any()


@pytest.mark.parametrize("age_from", ["release", "first-date"])
def test_the_rate_of_a_track_is_the_model_s(age_from: AgeFrom) -> None:
    daily, mldr = sample_catalogue(120)
    origin = LAST_DATE - timedelta(days=90)
    before = clean(conform(daily.lazy().filter(pl.col("date") <= origin), DAILY_STREAMS, name="daily"))
    tracks = build_tracks(
        last_streams(before),
        track_facts(before),
        newest_mldr(mldr.lazy().with_columns(id=None, created_at=None)),
        Parameters(age_from=age_from),
    ).filter(pl.col("months_since_release") >= 1).collect()  # fmt: skip
    months = pl.concat(
        forecast([1.0], track=track, as_of=as_of, age=age if age_from == "release" else None)
        for track, as_of, age in tracks.select("cm_track_id", "as_of", "months_since_release").iter_rows()
    )
    found = known(months, daily)
    names = ["cm_track_id", "months_since_release", "streams_30", "streams_365", "k"]
    assert len(found) > 80
    assert found["k"].n_unique() > 20
    assert_frame_equal(found.select(names), tracks.select(names), rel_tol=1e-12)
    assert (found["influence_range"] == tracks["influence_range"] + 1).all()


def test_what_is_known_at_the_origin_comes_from_the_first_days_alone() -> None:
    months, daily = random_catalogue(6)
    expected = evaluate(months, daily)
    other = daily.with_columns(pl.col("daily_streams") * 3)
    # The earliest origin: from there on the actuals count, and are as they were.
    actuals = other.with_columns(
        daily_streams=pl.when(pl.col("date") <= ORIGIN)
        .then("daily_streams")
        .otherwise(daily["daily_streams"])
    )
    found = evaluate(months, daily, actuals)
    for name, frame in frames(expected).items():
        assert_frame_equal(frames(found)[name], frame, check_exact=True)
    tripled = evaluate(months, daily, other)
    assert tripled.overall["actual_total"][0] == pytest.approx(3 * expected.overall["actual_total"][0])
    assert tripled.overall["forecast_total"].to_list() == expected.overall["forecast_total"].to_list()
    with pytest.raises(SchemaMismatchError, match="actuals: column date is missing"):
        evaluate(months, daily, other.drop("date"))
    with pytest.raises(SchemaMismatchError, match="actuals: track 1 has more than one row"):
        evaluate(months, daily, pl.concat([other, other]))


def test_last_records_are_counted_over_gaps() -> None:
    """A record every third day before the origin: 30 of them take 90 days."""
    daily = blocks([(300, 3000.0), (30, 300.0)], before=1)
    every_third = (pl.lit(ORIGIN) - pl.col("date")).dt.total_days() % 3 == 0
    found = known(forecast([1.0]), daily.filter(every_third | (pl.col("date") > ORIGIN)))
    assert found.select("streams_30", "streams_90", "streams_365").row(0) == (300.0, 900.0, 1000.0)
    assert found.select("mean_12", "scale", "months_since_release").row(0) == (None, 0.0, 40)


def test_an_age_below_one_month_counts_as_one() -> None:
    daily = monthly([30, 20], [10])
    young, old = known(forecast([1.0], age=-3), daily), known(forecast([1.0], age=1), daily)
    assert young["k"].to_list() == old["k"].to_list() == pytest.approx([math.log(30 / 20)])
