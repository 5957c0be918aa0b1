"""All steps together: what becomes of every track, of every option, and of whatever may come in."""

from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from datetime import date, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forecaster import ForecasterError, Forecasts, build_forecasts
from forecaster.errors import InvalidOptionError, SchemaMismatchError
from forecaster.frames.schemas import SKIPPED
from forecaster.model.decay import fit_decay_rates
from forecaster.model.parameters import Parameters
from forecaster.tables import FORECASTS
from tests import reference
from tests.catalogues import EPOCH, Shape, catalogue, daily_frame, days, mldr_frame, shapes
from tests.faults import LONG
from tests.reference import Mldr, Options, Point3, Row

REASONS = {"no_mldr", "too_young", "negative_streams", "several_artists"}

MLDR = [Mldr(artist, 0.05) for artist in range(1, 7)]

FIRST = date(2023, 1, 1)


class Built(NamedTuple):
    forecasts: pl.DataFrame
    skipped: pl.DataFrame

    @property
    def reasons(self) -> dict[int, str]:
        return dict(self.skipped.select("cm_track_id", "reason").iter_rows())

    def steps(self, track: int) -> list[reference.Step]:
        rows = self.forecasts.filter(pl.col("cm_track_id") == track)
        columns = ("month", "forecasted_value", "segment_used", "time_used")
        return [reference.Step(*row) for row in rows.select(columns).iter_rows()]


def collected(built: Forecasts, *, engine: Literal["in-memory", "streaming"] = "streaming") -> Built:
    return Built(*pl.collect_all([built.forecasts, built.skipped], engine=engine))


def build(rows: Sequence[Row], mldr: Sequence[Mldr] = MLDR, **options: Any) -> Built:
    return collected(build_forecasts(daily_frame(rows), mldr_frame(mldr), **options))


def fitted(x: Point3, y: Point3) -> float:
    return float(fit_decay_rates(np.array([x], dtype=np.float64), np.array([y]))[0])


def assert_partition(built: Built, tracks: set[int], *, horizon: int) -> None:
    """Every track is in exactly one of the two frames, in order and with all its months."""
    assert tuple(built.forecasts.columns) == FORECASTS.given_names
    assert built.skipped.schema == SKIPPED
    # One line per track.
    ids, months = (
        built.forecasts[column].to_numpy().reshape(-1, horizon) for column in ("cm_track_id", "month")
    )
    assert (ids == ids[:, :1]).all()
    assert (months == np.arange(1, horizon + 1)).all()
    forecast, skipped = ids[:, 0].tolist(), built.skipped["cm_track_id"].to_list()
    assert (forecast, skipped) == (sorted(forecast), sorted(skipped))
    assert sorted([*forecast, *skipped]) == sorted(tracks)
    assert set(built.skipped["reason"]) <= REASONS


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


# Tracks that get no forecast

OLD_ENOUGH = [10.0] * 60


@pytest.mark.parametrize(
    ("mldr", "reason"),
    [
        ([], "no_mldr"),
        ([Mldr(2, 0.05)], "no_mldr"),
        ([Mldr(None, 0.05)], "no_mldr"),
        ([Mldr(1, None)], "no_mldr"),
        ([Mldr(1, float("nan"))], "no_mldr"),
        ([Mldr(1, float("inf"))], "no_mldr"),
        ([Mldr(1, float("-inf"))], "no_mldr"),
        ([Mldr(1, 0.05, id=1), Mldr(1, None, id=2)], "no_mldr"),
        ([Mldr(1, None, id=1), Mldr(1, 0.05, id=2)], None),
        ([Mldr(1, -3.0)], None),
        ([Mldr(1, 0.0)], None),
    ],
)
def test_a_track_needs_the_decay_rate_of_its_artist(mldr: list[Mldr], reason: str | None) -> None:
    assert build(days(OLD_ENOUGH), mldr).reasons.get(1) == reason


@pytest.mark.parametrize(("last_age", "reason"), [(-5, "too_young"), (29, "too_young"), (30, None)])
def test_a_track_must_be_thirty_days_old(last_age: int, reason: str | None) -> None:
    assert build(days([10.0] * 5, first_age=last_age - 4)).reasons.get(1) == reason


@pytest.mark.parametrize(
    ("position", "reason"), [(0, None), (1, "negative_streams"), (365, "negative_streams")]
)
def test_no_negative_streams_in_the_last_365_records(position: int, reason: str | None) -> None:
    streams = [10.0] * 366
    streams[position] = -1.0
    assert build(days(streams)).reasons.get(1) == reason


@pytest.mark.parametrize(
    ("position", "reason"), [(0, None), (1, "several_artists"), (364, "several_artists")]
)
def test_one_artist_in_the_last_365_records(position: int, reason: str | None) -> None:
    rows = days([10.0] * 366)
    rows[position] = rows[position]._replace(artist=2)
    built = build(rows)
    assert built.reasons.get(1) == reason
    assert {*built.forecasts["cm_artist_id"], *built.skipped["cm_artist_id"]} == {1}


def test_the_reasons_come_in_a_fixed_order() -> None:
    *rest, last = days([10.0, -1.0, 10.0], first_age=1)
    everything = [*rest, last._replace(artist=2)]  # too young, negative streams and two artists
    assert build(everything, []).reasons == {1: "no_mldr"}
    assert build(everything).reasons == {1: "too_young"}
    day = FIRST + timedelta(days=100)
    assert build(everything, as_of=day).reasons == {1: "negative_streams"}
    positive = [row._replace(streams=10.0) for row in everything]
    assert build(positive, as_of=day).reasons == {1: "several_artists"}
    assert build([row._replace(artist=2) for row in positive], as_of=day).reasons == {}


def test_a_skipped_track_is_described() -> None:
    assert build(days([10.0], track=7, artist=3, first_age=65), []).skipped.rows(named=True) == [
        {"cm_track_id": 7, "cm_artist_id": 3, "reason": "no_mldr", "months_since_release": 2}
    ]


# Cleaning


def test_a_track_without_a_usable_row_is_not_lost() -> None:
    (row,) = days([10.0])
    useless = [
        row._replace(track=2, streams=None),
        row._replace(track=3, date=None),
        row._replace(track=4, streams=float("nan")),
        row._replace(track=None),
    ]
    built = build([*useless, *days(OLD_ENOUGH)])
    assert_partition(built, {1, 2, 3, 4}, horizon=24)
    assert built.reasons == dict.fromkeys([2, 3, 4], "no_mldr")


def test_useless_rows_change_nothing() -> None:
    good = days(OLD_ENOUGH)
    later = good[-1].date
    assert later is not None
    newest = good[-1]._replace(date=later + timedelta(days=1), created_at=EPOCH + timedelta(days=9))
    useless = [newest._replace(streams=value) for value in (None, float("nan"), float("inf"))]
    useless += [newest._replace(date=None), newest._replace(track=None)]
    assert build([*useless, *good]).forecasts.equals(build(good).forecasts)


def test_of_two_rows_for_one_day_the_newest_counts() -> None:
    good = days(OLD_ENOUGH)
    older = [row._replace(streams=1e6, created_at=EPOCH - timedelta(days=1), id=10**6) for row in good]
    lower_id = [row._replace(streams=1e6, id=-1) for row in good]
    undated = [row._replace(streams=1e6, created_at=None, id=10**6) for row in good]
    assert build([*older, *good, *lower_id, *undated]).forecasts.equals(build(good).forecasts)


def test_rows_that_differ_in_nothing_that_decides_still_give_one_answer() -> None:
    good = [row._replace(id=None, created_at=None) for row in days(OLD_ENOUGH)]
    twice = [*good, *(row._replace(streams=20.0) for row in good)]
    first, second = build(twice).forecasts, build(twice[::-1]).forecasts
    assert first.equals(second)
    assert first.equals(build([row._replace(streams=20.0) for row in good]).forecasts)


def test_exact_copies_count_once() -> None:
    good = days(OLD_ENOUGH)
    assert build(good * 3).forecasts.equals(build(good).forecasts)


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


# Columns and types


def test_all_missing_and_unusable_columns_are_named_at_once() -> None:
    wrong = pl.LazyFrame({"cm_artist_id": ["one"], "date": ["2024-01-01"], "id": [1.5]})
    with pytest.raises(SchemaMismatchError) as error:
        build_forecasts(wrong, mldr_frame([]))
    for offender in ("cm_track_id is missing", "daily_streams is missing", "cm_artist_id is String"):
        assert offender in str(error.value)
    for offender in ("date is String", "id is Float64"):
        assert offender in str(error.value)
    assert str(error.value).startswith("daily_streams: ")
    with pytest.raises(
        SchemaMismatchError, match=r"^artist_mldr: column cm_artist_id is missing .*; .*mldr is"
    ):
        build_forecasts(daily_frame([]), pl.LazyFrame({"mldr": ["fast"]}))


@pytest.mark.parametrize(
    "types",
    [
        {
            "cm_track_id": pl.Int32,
            "cm_artist_id": pl.Int32,
            "daily_streams": pl.Int32,
            "days_from_release": pl.Int32,
        },
        {"cm_track_id": pl.UInt32, "cm_artist_id": pl.Int16, "daily_streams": pl.UInt64},
        {"daily_streams": pl.Decimal(38, 10), "days_from_release": pl.Decimal(38, 10)},
        {"daily_streams": pl.Float32, "days_from_release": pl.Float64},
        {"daily_streams": pl.Int128, "days_from_release": pl.Int16},
        {"date": pl.Datetime("us")},
        {"date": pl.Datetime("ns", "UTC")},
        {"date": pl.Datetime("ms"), "created_at": pl.Date},
        {"id": pl.String},
    ],
)
def test_other_types_give_the_same_forecast(types: dict[str, pl.DataType]) -> None:
    rows = days([float(10 + day % 7) for day in range(100)], first_age=100)
    mldr = mldr_frame(MLDR).with_columns(pl.col("cm_artist_id").cast(types.get("cm_artist_id", pl.Int64)))
    other = collected(build_forecasts(daily_frame(rows).cast(types), mldr))  # type: ignore[arg-type]
    same = pl.exclude("training_data_id")
    assert other.forecasts.select(same).equals(build(rows).forecasts.select(same))
    assert other.forecasts["training_data_id"].unique().cast(pl.Int64).to_list() == [1]


def test_only_the_needed_columns_are_needed() -> None:
    rows = days(OLD_ENOUGH)
    needed = daily_frame(rows).select("daily_streams", "date", "cm_artist_id", "cm_track_id")
    built = collected(build_forecasts(needed, mldr_frame(MLDR).select("mldr", "cm_artist_id")))
    assert built.forecasts["training_data_id"].null_count() == 24
    assert built.forecasts.drop("training_data_id").equals(build(rows).forecasts.drop("training_data_id"))


def test_decimal_decay_rates() -> None:
    rows, mldr = days(OLD_ENOUGH), mldr_frame([Mldr(1, 0.25)])
    other = collected(build_forecasts(daily_frame(rows), mldr.cast({"mldr": pl.Decimal(38, 10)})))
    assert other.forecasts.equals(build(rows, [Mldr(1, 0.25)]).forecasts)


@pytest.mark.parametrize(
    ("rows", "mldr"), [([], []), ([], MLDR), (days(OLD_ENOUGH), [])], ids=["both", "streams", "mldr"]
)
def test_empty_frames(rows: list[Row], mldr: list[Mldr]) -> None:
    built = build(rows, mldr)
    assert_partition(built, {1} if rows else set(), horizon=24)
    # The types stay those of a frame with rows, so that whatever comes next can rely on them.
    full = build(days(OLD_ENOUGH))
    assert built.forecasts.schema == full.forecasts.schema
    assert built.skipped.schema == full.skipped.schema


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
@pytest.mark.parametrize("tracks", [0, 1, 2])
def test_one_influence_for_any_number_of_tracks(
    tracks: int, engine: Literal["in-memory", "streaming"]
) -> None:
    rows = [row for track in range(tracks) for row in days(OLD_ENOUGH, track=track)]
    built = collected(build_forecasts(daily_frame(rows), mldr_frame(MLDR), influence=1000), engine=engine)
    assert_partition(built, set(range(tracks)), horizon=24)


def test_frames_without_any_type() -> None:
    nothing = pl.Series([], dtype=pl.Null)
    streams = pl.LazyFrame(dict.fromkeys(("cm_track_id", "cm_artist_id", "date", "daily_streams"), nothing))
    mldr = pl.LazyFrame(dict.fromkeys(("cm_artist_id", "mldr"), nothing))
    assert_partition(collected(build_forecasts(streams, mldr)), set(), horizon=24)


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


# Whatever may come in

# For every column what it usually holds, and whatever it can hold: the ends of its type and beyond.
INTEGERS = st.one_of(
    st.integers(-2, 400),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([None, 2**31 - 1, -(2**31), 2**31, 2**62, 2**63 - 1, -(2**63)]),
)
FLOATS = st.one_of(
    st.floats(),
    st.sampled_from([None, 1.7976931348623157e308, -1.7976931348623157e308, 5e-324, 2.0**62, 2.0**63]),
)
MOMENTS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
USUAL_AND_WILD = {
    "cm_track_id": (st.integers(1, 3), INTEGERS),
    "cm_artist_id": (st.sampled_from([1, 1, 1, 2]), INTEGERS),
    "date": (
        st.integers(19_000, 19_400),
        # The ends of what a date can hold, those of Python's dates, and the turn of the epoch.
        st.one_of(
            st.integers(-(2**31), 2**31 - 1),
            st.sampled_from([None, -(2**31), 2**31 - 1, -719_162, 2_932_896, 0, -1]),
        ),
    ),
    "daily_streams": (st.one_of(st.integers(0, 1000).map(float), st.floats(0, 1e9)), FLOATS),
    "days_from_release": (st.integers(20, 2_000), INTEGERS),
    "id": (st.integers(1, 9), INTEGERS),
    "created_at": (st.integers(0, 3), MOMENTS),
    "mldr": (st.floats(-0.1, 0.5), FLOATS),
}
TIMES = [pl.Datetime(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "UTC")]
TYPES: dict[str, list[pl.DataType]] = {
    "cm_track_id": [pl.Int64()],
    "cm_artist_id": [pl.Int64(), pl.Int32()],
    "date": [pl.Date(), *TIMES],
    "daily_streams": [pl.Float64(), pl.Float32(), pl.Int64(), pl.UInt64(), pl.Int128()],
    "days_from_release": [pl.Int64(), pl.Int32(), pl.Float64(), pl.UInt64()],
    "id": [pl.Int64(), pl.String()],
    "created_at": [*TIMES, pl.Date()],
    "mldr": [pl.Float64(), pl.Float32()],
}
OPTIONAL = ["days_from_release", "id", "created_at"]


@st.composite
def any_rows(draw: st.DrawFn, columns: Sequence[str], lengths: st.SearchStrategy[int]) -> pl.DataFrame:
    """A few rows, each repeated on the days that follow, so that the long windows are filled too."""
    wild = draw(st.sets(st.sampled_from(columns), max_size=2))
    cells = st.tuples(*[USUAL_AND_WILD[column][column in wild] for column in columns])
    runs = draw(st.lists(st.tuples(cells, lengths), min_size=1, max_size=4))
    frame = pl.DataFrame(
        [row for row, _ in runs],
        schema={name: pl.Float64() if name in ("daily_streams", "mldr") else pl.Int64() for name in columns},
        orient="row",
    )
    days_on = pl.Series([[*range(length)] for _, length in runs], dtype=pl.List(pl.Int64))
    if "date" in columns:
        day = (pl.col("date") + pl.col("days_on")).clip(upper_bound=2**31 - 1)
        frame = frame.with_columns(days_on=days_on).explode("days_on").with_columns(date=day)
    return frame.select(typed(name, draw(st.sampled_from(TYPES[name]))) for name in columns).drop(
        draw(st.sets(st.sampled_from([name for name in OPTIONAL if name in columns])))
    )


def typed(column: str, dtype: pl.DataType) -> pl.Expr:
    """The column as it may arrive; what the type cannot hold is NULL."""
    if column == "date" and dtype != pl.Date:
        return (pl.col(column) * 86_400_000).cast(pl.Datetime("ms")).cast(dtype, strict=False)
    if dtype == pl.Date:
        return pl.col(column).cast(pl.Int32, strict=False).cast(pl.Date)
    return pl.col(column).cast(dtype, strict=False)


whatever = given(
    streams=any_rows(
        [name for name in USUAL_AND_WILD if name != "mldr"], st.sampled_from([1, 1, 2, 40, 370])
    ),
    mldr=any_rows(["cm_artist_id", "mldr", "id", "created_at"], st.just(1)),
    options=st.fixed_dictionaries(
        {
            "horizon": st.sampled_from([1, 2, 24, 400]),
            # The usual days end in 2023.
            "as_of": st.one_of(st.none(), st.dates(date(2024, 1, 1)), st.dates()),
            "influence": st.one_of(st.none(), st.floats(0, allow_infinity=False), st.integers(0, 10**30)),
        }
    ),
)


def assert_survives(
    streams: pl.DataFrame,
    mldr: pl.DataFrame,
    options: dict[str, Any],
    engine: Literal["in-memory", "streaming"],
) -> None:
    try:
        built = collected(build_forecasts(streams.lazy(), mldr.lazy(), **options), engine=engine)
    except ForecasterError:
        return
    horizon, forecasts = options["horizon"], built.forecasts
    assert_partition(built, {*streams["cm_track_id"].drop_nulls()}, horizon=horizon)
    assert forecasts.drop("training_data_id").null_count().sum_horizontal().item() == 0
    values, times = (
        forecasts[column].to_numpy().reshape(-1, horizon) for column in ("forecasted_value", "time_used")
    )
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    assert (np.diff(values) <= 0).all()  # a track only ever decays
    assert (times[:, :1] >= 1).all()
    assert (np.diff(times) == 1).all()
    assert forecasts["segment_used"].is_between(1, 12).all()


@pytest.mark.parametrize("examples", [60, pytest.param(2_000, marks=LONG)])
@pytest.mark.parametrize(
    ("engine", "age_from"), [("in-memory", "release"), ("in-memory", "first-date"), ("streaming", "release")]
)
def test_whatever_comes_in_is_forecast_or_skipped(
    engine: Literal["in-memory", "streaming"], age_from: str, examples: int
) -> None:
    @whatever
    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def it_survives(streams: pl.DataFrame, mldr: pl.DataFrame, options: dict[str, Any]) -> None:
        assert_survives(streams, mldr, options | {"age_from": age_from}, engine)

    it_survives()


def test_the_columns_that_both_frames_lack_are_one_error() -> None:
    with pytest.raises(SchemaMismatchError, match=r"daily_streams: column date .*; artist_mldr: column mldr"):
        build_forecasts(daily_frame([]).drop("date"), mldr_frame([]).drop("mldr"))


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
