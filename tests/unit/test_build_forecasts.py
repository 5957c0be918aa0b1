"""All steps together: against loops, with each option, and for catalogues of every size."""

from dataclasses import FrozenInstanceError
from datetime import date, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forecaster import build_forecasts
from forecaster.errors import InvalidOptionError
from forecaster.model.decay_fit import fit_decay_rates
from forecaster.model.parameters import Parameters
from tests import reference
from tests.building import FIRST, MLDR, OLD_ENOUGH, assert_partition, build, collected
from tests.catalogues import EPOCH, Shape, catalogue, daily_frame, days, mldr_frame, shapes
from tests.reference import Mldr, Options, Point3, Row


def fitted(x: Point3, y: Point3) -> float:
    return float(fit_decay_rates(np.array([x], dtype=np.float64), np.array([y]))[0])


# The whole chain against the loops. The fit has judges of its own; here both sides share it.


@given(
    tracks=st.lists(shapes, min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
    mldr=st.lists(
        st.builds(
            Mldr,
            artist=st.one_of(st.none(), st.integers(1, 6)),
            mldr=st.one_of(st.none(), st.floats(-0.5, 1.0)),
            id=st.integers(1, 3),
            created_at=st.sampled_from([EPOCH, EPOCH + timedelta(days=1)]),
        ),
        max_size=8,
    ),
    options=st.builds(
        Options,
        horizon=st.sampled_from([1, 24, 400]),
        age_from=st.sampled_from(["release", "first-date"]),
        as_of=st.one_of(st.none(), st.dates(date(2019, 1, 1), date(2030, 1, 1))),
        influence=st.one_of(st.none(), st.sampled_from([0.0, 1000.0, 950_000.0])),
    ),
)
# The ages at which the points, the segments and the months turn over, for a record's last day.
@example(
    tracks=[Shape(records=1, first_age=30 * m) for m in (0, 1, 2, 3, 4, 11, 12, 13, 46, 47, 48)],
    seed=1,
    mldr=MLDR,
    options=Options(horizon=60),
)
@example(
    tracks=[Shape(records=1, first_age=30 * m + 29) for m in (0, 1, 2, 3, 4, 11, 12)],
    seed=1,
    mldr=MLDR,
    options=Options(),
)
# Every length of history at which a sum stops growing.
@example(
    tracks=[Shape(records=n, first_age=900) for n in (1, 2, 29, 30, 31, 89, 90, 91, 364, 365, 366, 400)],
    seed=2,
    mldr=MLDR,
    options=Options(),
)
# Dead for a month, for the last 90 records, for a year, and always.
@example(
    tracks=[Shape(dead_for=n) for n in (30, 90, 365)] + [Shape(highest=0)],
    seed=3,
    mldr=MLDR,
    options=Options(),
)
@example(tracks=[Shape(dirt=50, artists=2, lowest=-3)] * 4, seed=4, mldr=MLDR, options=Options())
@settings(max_examples=80, deadline=None)
def test_the_chain_is_that_of_the_loops(
    tracks: list[Shape], seed: int, mldr: list[Mldr], options: Options
) -> None:
    rows = catalogue(tracks, seed=seed)
    built = build(rows, mldr, **options._asdict())
    expected = reference.outcomes(rows, mldr, options, rate=fitted)
    known = {row.track for row in rows if row.track is not None}
    assert_partition(built, known, horizon=options.horizon)
    for row in built.skipped.iter_rows(named=True):
        track = expected.get(row["cm_track_id"])
        if track is None:  # none of its rows is a record
            assert row["reason"] == "no_mldr"
            assert row["months_since_release"] is None
        else:
            assert (row["reason"], row["months_since_release"]) == (track.reason, track.features.m)
    for number in known - built.reasons.keys():
        got, wanted = built.steps(number), expected[number].steps
        assert [step._replace(value=0) for step in got] == [step._replace(value=0) for step in wanted]
        assert [step.value for step in got] == pytest.approx(
            [step.value for step in wanted], rel=1e-6, abs=1e-290
        )
        facts = built.forecasts.filter(pl.col("cm_track_id") == number)
        assert facts["training_data_id"].unique().to_list() == [expected[number].features.training_data_id]
        assert facts["cm_artist_id"].unique().to_list() == [expected[number].features.artist]


def test_a_forecast_by_hand() -> None:
    # 24 months old, 100 streams a day for ever, an artist who decays no faster than the base curve:
    # every month loses the base rate of the first influence range, 0.67 x fitted + 0.33 x reach.
    steps = build(days([100.0] * 720, first_age=1), [Mldr(1, 0.0)], influence=0, horizon=3).steps(1)
    assert [(step.segment, step.time) for step in steps] == [(9, 24), (9, 25), (10, 26)]
    ninth = 0.67 * 0.017941231431835854 + 0.33 * 0.03
    tenth = 0.67 * 0.009790878919164516 + 0.33 * 0.015
    exponents = np.cumsum([ninth, ninth, tenth])
    assert [step.value for step in steps] == pytest.approx(list(3000 * np.exp(-exponents)), rel=1e-12)


# Options


def ages(rows: list[Row], **options: Any) -> int:
    return build(rows, horizon=1, **options).steps(1)[0].time


def test_the_age_is_that_of_the_release_unless_it_is_unknown() -> None:
    known, unknown = days([10.0] * 60, first_age=300), days([10.0] * 60)
    assert ages(known) == 359 // 30
    assert ages(unknown) == ages(known, age_from="first-date") == 59 // 30


def test_the_age_is_measured_on_the_day_asked_for() -> None:
    known, unknown = days([10.0] * 60, first_age=300), days([10.0] * 60)
    day = FIRST + timedelta(days=400)
    assert ages(known, as_of=day) == 700 // 30
    assert ages(unknown, as_of=day) == ages(known, as_of=day, age_from="first-date") == 400 // 30


def test_records_after_that_day_still_count() -> None:
    rows = days([10.0] * 30 + [20.0] * 30, first_age=300)
    steps = build(rows, as_of=FIRST + timedelta(days=29), horizon=1).steps(1)
    assert steps[0].time == 329 // 30
    assert 500 < steps[0].value < 600


def test_one_influence_for_all_tracks() -> None:
    streams = [*days([10.0] * 60, track=1), *days([1e6] * 60, track=2)]
    own, fixed = build(streams), build(streams, influence=1000)
    assert fixed.steps(1) == own.steps(1)  # 3,000 is in the range of 1,000
    assert fixed.steps(2) != own.steps(2)
    # With the same influence and shape the two differ in nothing but size.
    sizes = [big.value / small.value for small, big in zip(fixed.steps(1), fixed.steps(2), strict=True)]
    assert sizes == pytest.approx([1e5] * 24, rel=1e-9)


def test_the_defaults_are_those_of_the_description() -> None:
    rows = days([10.0] * 60, first_age=300)
    spelt_out = build(rows, horizon=24, age_from="release", as_of=FIRST + timedelta(days=59), influence=None)
    assert build(rows).forecasts.equals(spelt_out.forecasts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon is 0: expected 1 to 400 months"),
        ({"horizon": 401}, "horizon is 401: expected 1 to 400 months"),
        ({"age_from": "birth"}, "age_from is 'birth': expected 'release' or 'first-date'"),
        ({"influence": -1}, "influence is -1: expected a finite number of at least 0"),
        ({"influence": float("nan")}, "influence is nan: expected a finite number of at least 0"),
        ({"influence": float("inf")}, "influence is inf: expected a finite number of at least 0"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOptionError) as error:
        build_forecasts(daily_frame([]), mldr_frame([]), **options)
    assert str(error.value) == message
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "options", [{"horizon": 1}, {"horizon": 400}, {"influence": 0}, {"influence": 10**400}]
)
def test_an_option_at_its_limit_is_taken(options: dict[str, Any]) -> None:
    built = build(days(OLD_ENOUGH), **options)
    assert_partition(built, {1}, horizon=options.get("horizon", 24))
    assert built.reasons == {}


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
@pytest.mark.parametrize("tracks", [0, 1, 2])
def test_one_influence_for_any_number_of_tracks(
    tracks: int, engine: Literal["in-memory", "streaming"]
) -> None:
    rows = [row for track in range(tracks) for row in days(OLD_ENOUGH, track=track)]
    built = collected(build_forecasts(daily_frame(rows), mldr_frame(MLDR), influence=1000), engine=engine)
    assert_partition(built, set(range(tracks)), horizon=24)


def test_a_catalogue_does_not_depend_on_its_row_order() -> None:
    tracks = [Shape(records=n, dirt=20, artists=1 + n % 2) for n in (1, 35, 95, 370, 400)]
    rows = catalogue(tracks, seed=1)
    in_order = build(sorted(rows, key=repr))
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(len(rows))
        built = build([rows[i] for i in shuffled], MLDR[::-1])
        assert built.forecasts.equals(in_order.forecasts)
        assert built.skipped.equals(in_order.skipped)


def test_both_engines_agree() -> None:
    rows = catalogue([Shape(records=n, dirt=20) for n in (1, 35, 95, 370, 400)], seed=1)
    built = build_forecasts(daily_frame(rows), mldr_frame(MLDR))
    streaming, in_memory = (collected(built, engine=engine) for engine in ("streaming", "in-memory"))
    assert streaming.forecasts.equals(in_memory.forecasts)
    assert streaming.skipped.equals(in_memory.skipped)


# Sizes


def test_the_largest_counts_a_database_can_hold() -> None:
    steps = build(days([2.0**62] * 400)).steps(1)
    small = build(days([1e6] * 400)).steps(1)
    assert [step.value / 2.0**62 for step in steps] == pytest.approx([step.value / 1e6 for step in small])


def test_forty_years_of_days() -> None:
    rows = days([float(day % 1000) for day in range(40 * 365)], first=date(1984, 1, 1), first_age=1)
    options = Options(horizon=400)
    steps = build(rows, horizon=400).steps(1)
    expected = reference.outcomes(rows, MLDR, options, rate=fitted)[1].steps
    assert steps[0].time == 486
    assert [step.value for step in steps] == pytest.approx([step.value for step in expected], rel=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [{"horizon": 1.5}, {"horizon": True}, {"horizon": "24"}, {"as_of": "2025-04-15"}, {"influence": "1"}],
)
def test_parameters_of_another_type(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError, match=next(iter(wrong))):
        build_forecasts(daily_frame([]), mldr_frame([]), **wrong)


def test_parameters_that_were_checked_stay_as_they_are() -> None:
    with pytest.raises(FrozenInstanceError):
        Parameters().horizon = 401  # type: ignore[misc]
