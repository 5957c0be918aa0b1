"""Scores of forecasts: against catalogues whose truth is known, loops over one series, and utilsforecast."""

import json
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from utilsforecast import losses

from forecaster.errors import ForecasterError, NoForecastError, SchemaMismatchError
from forecaster.frames.schemas import conform
from forecaster.model import build_tracks
from forecaster.model.features import clean, track_facts, usable_records
from forecaster.model.multiplier import newest_mldr
from forecaster.model.parameters import AgeFrom, Parameters
from forecaster.scoring import BASELINES, FORMULAS, GROUPS, LEFT_OUT, MODELS, Evaluation, evaluate
from forecaster.scoring.baselines import history, pooled_rates
from forecaster.scoring.windows import read_days, read_forecasts
from forecaster.setup.sample import LAST_DATE, Truth, sample_catalogue
from forecaster.tables import DAILY_STREAMS

ORIGIN = date(2023, 6, 30)
DAILY = pl.Schema({"cm_track_id": pl.Int64, "date": pl.Date, "daily_streams": pl.Float64})
MONTHS = pl.Schema(
    {
        "cm_track_id": pl.Int64,
        "cutoff": pl.Date,
        "as_of": pl.Date,
        "month": pl.Int64,
        "forecasted_value": pl.Float64,
        "segment_used": pl.Int64,
        "time_used": pl.Int64,
    }
)
ERRORS = ("wape", "bias", "smape", "mase", "rmsse")


def blocks(totals: Iterable[tuple[int, float]], *, before: int, track: int = 1) -> pl.DataFrame:
    """A record a day, in blocks of so many days with so many streams in all.

    The first `before` blocks end on `ORIGIN`.
    """
    given = list(totals)
    streams = [total / days for days, total in given for _ in range(days)]
    first = ORIGIN + timedelta(days=1 - sum(days for days, _ in given[:before]))
    rows = [(track, first + timedelta(days=day), value) for day, value in enumerate(streams)]
    return pl.DataFrame(rows, DAILY, orient="row")


def monthly(before: Sequence[float], after: Sequence[float], *, track: int = 1) -> pl.DataFrame:
    """Streams per 30 days, before the origin and after it."""
    return blocks([(30, total) for total in (*before, *after)], before=len(before), track=track)


def forecast(
    values: Sequence[float],
    *,
    track: int = 1,
    cutoff: date | None = ORIGIN,
    as_of: date = ORIGIN,
    age: int | None = 40,
    segments: Sequence[int] | None = None,
) -> pl.DataFrame:
    rows = [
        (
            track,
            cutoff,
            as_of,
            i,
            value,
            segments[i - 1] if segments else 11,
            None if age is None else age + i - 1,
        )
        for i, value in enumerate(values, start=1)
    ]
    return pl.DataFrame(rows, MONTHS, orient="row")


def row(frame: pl.DataFrame, **key: object) -> dict[str, float]:
    (name, value), *_ = key.items()
    found: dict[str, float] = frame.filter(pl.col(name).eq_missing(pl.lit(value))).row(0, named=True)
    return found


def overall(evaluation: Evaluation, model: str = "forecaster") -> dict[str, float]:
    return row(evaluation.overall, model=model)


def frames(evaluation: Evaluation) -> dict[str, pl.DataFrame]:
    return {name: getattr(evaluation, name) for name in ("overall", *GROUPS, "series")}


FALLING = [100.0 * 0.9**month for month in range(14)]
TWO_TRACKS = pl.concat([monthly([1000, 1200, 900], FALLING), monthly([50, 70, 60], [60, 80, 0, 40], track=2)])


def test_a_perfect_forecast() -> None:
    found = evaluate(pl.concat([forecast(FALLING), forecast([60, 80, 0, 40], track=2)]), TWO_TRACKS)
    for name in ("overall", *GROUPS):
        frame = frames(found)[name].head(1) if name == "overall" else frames(found)[name]
        for score in ERRORS:
            assert frame[score].to_list() == pytest.approx([0.0] * len(frame), abs=1e-12), (name, score)
        for share in ("within_10", "within_20", "within_50"):
            assert (frame[share] == 1.0).all()
    assert found.overall["model"].to_list() == list(MODELS)
    assert (overall(found)["skill"], overall(found)["series"], found.windows_scored) == (1.0, 2, 18)
    assert found.left_out == dict.fromkeys(LEFT_OUT, 0)
    assert found.series["months"].to_list() == [14, 4]
    assert found.series["actual_total"].to_list() == pytest.approx([sum(FALLING), 180])


def test_a_forecast_that_is_a_tenth_too_high() -> None:
    actual = [100.0, 80.0, 60.0]
    found = evaluate(forecast([value * 1.1 for value in actual]), monthly([100, 130, 110], actual))
    scored = overall(found)
    assert scored["wape"] == scored["bias"] == pytest.approx(0.1)
    assert scored["smape"] == pytest.approx(0.1 / 2.1)
    assert scored["mase"] == pytest.approx((10 + 8 + 6) / 3 / ((30 + 20) / 2))
    assert scored["rmsse"] == pytest.approx(math.sqrt((100 + 64 + 36) / 3 / ((900 + 400) / 2)))
    assert [scored[f"within_{percent}"] for percent in (10, 20, 50)] == [1.0, 1.0, 1.0]
    assert (scored["forecast_total"], scored["actual_total"]) == pytest.approx((264, 240))
    assert found.series.select("error_share", "wape").row(0) == pytest.approx((0.1, 0.1))
    # Of the baselines the mean, 340 / 3, is off by 13.3, 33.3 and 53.3, and the last month by 10, 30 and 50.
    assert overall(found, "last_30_days")["wape"] == pytest.approx(90 / 240)
    assert overall(found, "mean_12_months")["wape"] == pytest.approx(100 / 240)
    best = overall(found, found.best_baseline)["wape"]
    assert best == min(overall(found, name)["wape"] for name in BASELINES)
    assert scored["skill"] == pytest.approx(1 - 0.1 / best)
    too_low = evaluate(forecast([value * 0.9 for value in actual]), monthly([100, 130, 110], actual))
    assert overall(too_low)["bias"] == pytest.approx(-0.1)


def test_what_does_not_count_is_counted() -> None:
    daily = pl.concat([TWO_TRACKS, monthly([], [5, 5], track=3)])
    gap = (pl.col("cm_track_id") == 1) & (pl.col("date") == ORIGIN + timedelta(days=31))
    months = pl.concat(
        [
            forecast([1.0] * 15),  # month 2 lacks its first day, month 15 is not over
            forecast([1.0, math.nan], track=2),
            forecast([1.0], track=2, as_of=ORIGIN + timedelta(days=91), cutoff=None),  # a day short
            forecast([1.0, 1.0, 1.0], track=3),
            forecast([1.0], track=4),
        ]
    )
    bad = forecast([1.0] * 2, track=9).with_columns(as_of=None, month=pl.lit(None, dtype=pl.Int64))
    found = evaluate(pl.concat([months, bad.cast(MONTHS)]), daily.filter(~gap))
    assert found.left_out == {
        "unusable": 3,
        "no_streams": 1,
        "not_over": 3,
        "days_missing": 1,
        "no_history": 2,
    }
    assert found.windows_scored == 14
    assert found.by_month["month"].to_list() == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    assert found.series["months"].to_list() == [13, 1]


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
        assert min(others) > 1e-3


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


def known(months: pl.DataFrame, daily: pl.DataFrame) -> pl.DataFrame:
    return history(read_forecasts(months.lazy(), daily.lazy())[0], read_days(daily.lazy()))


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
        usable_records(before),
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


class Series(NamedTuple):
    """A series as a loop sees it."""

    forecast: dict[int, float]
    actual: dict[int, float]
    totals: list[float]
    """Of 30 records before the origin, oldest first."""
    recent: float


def by_loop(months: pl.DataFrame, daily: pl.DataFrame) -> dict[tuple[int, date | None], Series]:
    streams: dict[int, dict[date, float]] = {}
    for track, day, value in daily.iter_rows():
        streams.setdefault(track, {})[day] = value
    found: dict[tuple[int, date | None], Series] = {}
    for track, cutoff, as_of, month, value, *_ in months.iter_rows():
        records = [streams[track][day] for day in sorted(streams[track]) if day <= as_of]
        totals = [sum(records[end - 30 : end]) for end in range(len(records), 29, -30)][::-1]
        series = found.setdefault((track, cutoff), Series({}, {}, totals, sum(records[-30:])))
        window = [as_of + timedelta(days=30 * (month - 1) + day) for day in range(1, 31)]
        if all(day in streams[track] for day in window):
            series.forecast[month] = value
            series.actual[month] = sum(streams[track][day] for day in window)
    return {key: series for key, series in found.items() if series.actual}


def random_catalogue(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tracks with gaps, negative days and different lengths; three origins, one without a label."""
    chance = random.Random(seed)
    days, months = [], []
    for track in range(1, 31):
        level, gaps = 10 ** chance.uniform(0, 4), chance.choice([0.0, 0.003, 0.05])
        first = chance.choice([45, 75, 300, 500])
        for day in range(-first, 220):
            if chance.random() >= gaps:
                value = level * chance.uniform(-0.05, 2.0)
                days.append((track, ORIGIN + timedelta(days=day), value))
        for cutoff, shift in ((ORIGIN, 0), (ORIGIN + timedelta(days=60), 58), (None, 31)):
            values = [30 * level * chance.uniform(0.2, 2.0) for _ in range(6)]
            as_of = ORIGIN + timedelta(days=shift)
            segments = [chance.randint(1, 3) for _ in values]
            months.append(forecast(values, track=track, cutoff=cutoff, as_of=as_of, segments=segments))
    return pl.concat(months), pl.DataFrame(days, DAILY, orient="row")


def by_utilsforecast(series: Mapping[tuple[int, date | None], Series], months: set[int]) -> dict[str, float]:
    """The scores in some months, as utilsforecast has them."""
    rows, train = [], []
    for key, one in series.items():
        rows += [(f"{key}", i, one.actual[i], one.forecast[i]) for i in sorted(one.actual) if i in months]
        train += [(f"{key}", i - 100, total) for i, total in enumerate(one.totals)]
    test = pl.DataFrame(rows, ["unique_id", "ds", "y", "f"], orient="row")
    scaled = test.filter(
        pl.col("unique_id").is_in([f"{key}" for key, one in series.items() if len(one.totals) > 1])
    )
    before = pl.DataFrame(train, ["unique_id", "ds", "y"], orient="row")

    def mean(frame: pl.DataFrame) -> float:
        return float(frame["f"].to_numpy().mean())

    return {
        "wape": mean(losses.wape(test.with_columns(unique_id=1), ["f"])),
        "smape": mean(losses.smape(test, ["f"])),
        "mase": mean(losses.mase(scaled, ["f"], seasonality=1, train_df=before)),
        "rmsse": mean(losses.rmsse(scaled, ["f"], seasonality=1, train_df=before)),
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_scores_are_those_of_utilsforecast_and_of_a_loop(seed: int) -> None:
    months, daily = random_catalogue(seed)
    series = by_loop(months, daily)
    found = evaluate(months, daily)
    assert found.windows_scored == sum(len(one.actual) for one in series.values())
    assert found.left_out["days_missing"] > 0
    groups: list[tuple[dict[str, float], set[int]]] = [(overall(found), {1, 2, 3, 4, 5, 6})]
    groups += [(row(found.by_month, month=month), {month}) for month in range(1, 7)]
    for scored, counted in groups:
        for name, value in by_utilsforecast(series, counted).items():
            assert scored[name] == pytest.approx(value, rel=1e-9), (name, counted)
        assert scored["without_scale"] == sum(
            len(one.totals) < 2 for one in series.values() if counted & {*one.actual}
        )
    absolute = sum(abs(a) for one in series.values() for a in one.actual.values())
    guesses: dict[str, Callable[[Series], float]] = {
        "last_30_days": lambda one: one.recent,
        "mean_12_months": lambda one: sum(one.totals[-12:]) / len(one.totals[-12:]),
    }
    for name, guess in guesses.items():
        error = sum(abs(guess(one) - a) for one in series.values() for a in one.actual.values())
        assert overall(found, name)["wape"] == pytest.approx(error / absolute, rel=1e-9)


def test_the_order_of_rows_is_of_no_importance() -> None:
    months, daily = random_catalogue(3)
    expected = evaluate(months, daily)
    shuffled = evaluate(
        months.sample(fraction=1, shuffle=True, seed=1).lazy(),
        daily.sample(fraction=1, shuffle=True, seed=2).lazy(),
    )
    for name, frame in frames(expected).items():
        assert_frame_equal(frames(shuffled)[name], frame, rel_tol=1e-12)
    assert shuffled.left_out == expected.left_out


def test_the_last_digits_do_not_depend_on_the_order_of_rows_either() -> None:
    daily, _ = sample_catalogue(40)
    daily = daily.select(DAILY.names()).cast(DAILY)
    chance = random.Random(4)
    months = pl.concat(
        forecast(
            [10 ** chance.uniform(0, 5) for _ in range(12)],
            track=track,
            as_of=LAST_DATE - timedelta(days=365),
            segments=[chance.randint(1, 3) for _ in range(12)],
        )
        for track in daily["cm_track_id"].unique().sort()
    )
    expected = evaluate(months, daily)
    for seed in range(8):
        found = evaluate(
            months.sample(fraction=1, shuffle=True, seed=seed),
            daily.sample(fraction=1, shuffle=True, seed=seed),
        )
        for name, frame in frames(expected).items():
            assert_frame_equal(frames(found)[name], frame, check_exact=True)


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


def test_a_cutoff_of_which_no_month_counts_has_its_row() -> None:
    late, none = ORIGIN + timedelta(days=300), ORIGIN - timedelta(days=900)
    months = pl.concat([forecast([30.0, 30.0]), forecast([15.0], cutoff=late, as_of=late)])
    found = evaluate(months, monthly([30, 60], [30, 30]), cutoffs=(none, ORIGIN))
    assert found.by_cutoff["cutoff"].to_list() == [none, ORIGIN, late]
    assert found.by_cutoff.select("windows", "series", "actual_total", "wape").rows() == [
        (0, 0, 0.0, None),
        (2, 1, 60.0, 0.0),
        (0, 0, 0.0, None),
    ]
    assert found.worst_cutoff == ORIGIN
    assert json.loads(json.dumps(found.to_dict()))["by_cutoff"][0]["windows"] == 0


def test_a_series_says_in_which_groups_it_is() -> None:
    daily = pl.concat([monthly([5, 5], [5], track=track) for track in range(1, 11)])
    found = evaluate(pl.concat(forecast([6.0], track=track) for track in range(1, 11)), daily)
    groups = found.series.select("segment_used", "influence_range", "volume_decile")
    assert groups.rows() == [(11, 1, decile) for decile in range(1, 11)]


def test_a_group_has_the_scores_of_its_months() -> None:
    actual = [100.0, 100.0, 50.0, 50.0]
    months = pl.concat(
        [
            forecast([110, 90, 50, 100], segments=[1, 1, 2, 2]),
            forecast([100, 100, 50, 150], segments=[2, 2, 2, 2], cutoff=None, track=2),
        ]
    )
    daily = pl.concat([monthly([100, 120], actual, track=track) for track in (1, 2)])
    found = evaluate(months, daily)
    first, second = row(found.by_segment, segment_used=1), row(found.by_segment, segment_used=2)
    assert (first["series"], first["windows"], second["series"], second["windows"]) == (1, 2, 2, 6)
    assert (first["wape"], first["bias"], first["within_10"]) == pytest.approx((0.1, 0.0, 1.0))
    assert first["mase"] == pytest.approx(10 / 20)
    assert second["wape"] == pytest.approx(150 / 400)
    assert second["mase"] == pytest.approx(((0 + 50) / 2 + 100 / 4) / 2 / 20)
    assert second["smape"] == pytest.approx(((50 / 150) / 2 + (100 / 200) / 4) / 2)
    assert (second["within_20"], second["within_50"]) == pytest.approx((0.0, 1.0))
    assert second["wape_last_30_days"] == pytest.approx((4 * 70 + 2 * 20) / 400)
    assert second["skill"] == pytest.approx(1 - second["wape"] / second[f"wape_{found.best_baseline}"])
    # The series with the label is off by 70 of 300 streams, the one without by 100.
    assert found.by_cutoff["cutoff"].to_list() == [None, ORIGIN]
    assert found.by_cutoff["wape"].to_list() == pytest.approx([100 / 300, 70 / 300])
    assert found.worst_cutoff is None
    assert evaluate(months.filter(cutoff=ORIGIN), daily).worst_cutoff == ORIGIN


def test_the_worst_of_several_cutoffs() -> None:
    later = ORIGIN + timedelta(days=30)
    months = pl.concat([forecast([10.0, 10.0]), forecast([15.0], cutoff=later, as_of=later)])
    found = evaluate(months, monthly([10, 12], [10, 10]))
    assert (found.worst_cutoff, found.to_dict()["worst_cutoff"]) == (later, "2023-07-30")


def test_deciles_are_of_the_volume_and_of_the_track_where_that_is_equal() -> None:
    tracks = [
        monthly([1.0] * 5 + [500.0 if track == 1 else 10.0], [5.0], track=track) for track in range(1, 21)
    ]
    found = evaluate(pl.concat(forecast([6.0], track=track) for track in range(1, 21)), pl.concat(tracks))
    months = pl.concat(forecast([6.0], track=track) for track in range(1, 21))
    deciles = known(months, pl.concat(tracks))["volume_decile"].to_list()
    assert deciles == [10, *(number // 2 + 1 for number in range(19))]
    assert found.by_volume.select("volume_decile", "series").rows() == [(n, 2) for n in range(1, 11)]
    assert found.by_influence.select("influence_range", "series").rows() == [(1, 20)]


def test_last_records_are_counted_over_gaps() -> None:
    """A record every third day before the origin: 30 of them take 90 days."""
    daily = blocks([(300, 3000.0), (30, 300.0)], before=1)
    every_third = (pl.lit(ORIGIN) - pl.col("date")).dt.total_days() % 3 == 0
    found = known(forecast([1.0]), daily.filter(every_third | (pl.col("date") > ORIGIN)))
    assert found.select("streams_30", "streams_90", "streams_365").row(0) == (300.0, 900.0, 1000.0)
    assert found.select("mean_12", "scale", "months_since_release").row(0) == (300.0, 0.0, 40)


def test_no_streams_at_all() -> None:
    daily = pl.concat([monthly([3, 5], [0, 0], track=track) for track in (1, 2)])
    found = evaluate(pl.concat([forecast([0.2, 0.2]), forecast([0.3, 0.3], track=2)]), daily)
    scored = overall(found)
    assert [scored[score] for score in ("wape", "bias", "skill", "smape")] == [None, None, None, 1.0]
    assert (scored["within_10"], scored["within_50"]) == (0.5, 0.5)
    assert found.series["error_share"].to_list() == [None, None]
    assert found.worst_cutoff is None
    text = json.dumps(found.to_dict(series=True), allow_nan=False)
    assert json.loads(text)["overall"][0]["wape"] is None
    assert "series" not in found.to_dict()


def test_days_may_come_in_any_order() -> None:
    made = forecast([12.0, 11.0])
    daily = pl.DataFrame(monthly([10, 30, 20], [15, 10])).with_columns(
        pl.col("daily_streams") + pl.int_range(pl.len())
    )
    expected = evaluate(made, daily).to_dict(series=True)
    assert evaluate(made, daily.reverse()).to_dict(series=True) == expected


def test_negative_streams_count_as_much_as_positive_ones() -> None:
    scored = overall(evaluate(forecast([10.0, 10.0]), monthly([10, 20], [-10, 30])))
    assert scored["wape"] == pytest.approx((20 + 20) / 40)
    assert scored["bias"] == pytest.approx(0.0)
    assert scored["smape"] == pytest.approx((20 / 20 + 20 / 40) / 2)
    below_zero = overall(evaluate(forecast([-10.0, 10.0]), monthly([10, 20], [10, 30])))
    assert below_zero["smape"] == pytest.approx((20 / 20 + 20 / 40) / 2)
    just_within = overall(evaluate(forecast([-11.0]), monthly([10, 20], [-10])))
    assert (just_within["within_10"], just_within["wape"]) == pytest.approx((1.0, 0.1))


def test_one_series_with_one_record_before_its_origin() -> None:
    found = evaluate(forecast([30.0], age=None), blocks([(1, 4.0), (30, 30.0)], before=1))
    scored = overall(found)
    assert [scored[score] for score in ("wape", "mase", "without_scale")] == [0.0, None, 1]
    assert [overall(found, name)["forecast_total"] for name in BASELINES] == pytest.approx([4.0] * 4)
    assert found.by_volume["volume_decile"].to_list() == [1]


def test_a_series_without_a_scale_is_left_out_of_what_is_scaled() -> None:
    daily = pl.concat([monthly([10, 10], [10]), monthly([10, 30], [10], track=2)])
    scored = overall(evaluate(pl.concat([forecast([15.0]), forecast([15.0], track=2)]), daily))
    assert (scored["mase"], scored["rmsse"], scored["without_scale"]) == pytest.approx((0.25, 0.25, 1))
    assert scored["smape"] == pytest.approx(5 / 25)


def test_an_age_below_one_month_counts_as_one() -> None:
    daily = monthly([30, 20], [10])
    young, old = known(forecast([1.0], age=-3), daily), known(forecast([1.0], age=1), daily)
    assert young["k"].to_list() == old["k"].to_list() == pytest.approx([math.log(30 / 20)])


def test_streams_beyond_the_largest_float_have_no_scores() -> None:
    daily = blocks([(365, 1.7e308 * 365), (30, 30.0)], before=1).with_columns(
        daily_streams=pl.when(pl.col("date") <= ORIGIN).then(1.7e308).otherwise("daily_streams")
    )
    found = evaluate(forecast([30.0]), daily)
    assert overall(found)["wape"] == 0.0
    json.dumps(found.to_dict(series=True), allow_nan=False)


NOTHING = pl.DataFrame(schema=MONTHS)
FLAT = monthly([5, 5], [5])


@pytest.mark.parametrize(
    ("months", "daily", "error", "message"),
    [
        (NOTHING, FLAT, NoForecastError, "no forecasts to score"),
        (forecast([1.0]), FLAT.clear(), NoForecastError, "no daily streams"),
        (
            forecast([1.0, math.inf], as_of=ORIGIN + timedelta(days=1)),
            FLAT,
            NoForecastError,
            "1 unusable, 1 not_over",
        ),
        (forecast([math.nan]), FLAT, NoForecastError, "1 unusable"),
        (
            NOTHING.drop("as_of", "month"),
            FLAT.drop("date"),
            SchemaMismatchError,
            "forecasts: column as_of is missing.*column month is missing.*daily: column date is missing",
        ),
        (
            pl.concat([forecast([1.0, 2.0]), forecast([1.0])]),
            FLAT,
            SchemaMismatchError,
            "month 1 of track 1 at cutoff 2023-06-30 is there more than once",
        ),
        (
            forecast([1.0]),
            pl.concat([FLAT, FLAT.filter(date=ORIGIN)]),
            SchemaMismatchError,
            "track 1 has more than one row for 2023-06-30",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(
    months: pl.DataFrame, daily: pl.DataFrame, error: type[ForecasterError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        evaluate(months, daily)
    assert raised.value.hint or error is SchemaMismatchError


def test_every_score_has_its_formula() -> None:
    found = evaluate(forecast([5.0]), FLAT)
    shown = {*found.overall.columns, *found.series.columns} - {
        "model", "series", "windows", "cm_track_id", "cutoff", "as_of", "months", "segment_used",
        "influence_range", "volume_decile",
    }  # fmt: skip
    assert shown == {*FORMULAS}
    assert all("\n" not in text for text in (*FORMULAS.values(), *BASELINES.values()))
