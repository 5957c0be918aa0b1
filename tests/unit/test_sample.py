"""The sample catalogue: the sizes and lifecycles it promises, and the same rows from the same seed."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecaster import build_forecasts
from forecaster.errors import InvalidOptionError
from forecaster.files.intake import read_mldr, read_streams
from forecaster.files.tables import write_table
from forecaster.setup.sample import _bits, _normal, _spread, sample_batches, sample_catalogue, sample_mldr

TRACKS = 8_459
LAST = date(2024, 12, 31)

Catalogue = tuple[pl.DataFrame, pl.DataFrame]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return sample_catalogue(TRACKS)


@pytest.fixture(scope="module")
def tracks(catalogue: Catalogue) -> pl.DataFrame:
    """One row per track of the catalogue."""
    streams = pl.col("daily_streams").sort_by("date")
    return (
        catalogue[0]
        .group_by("cm_track_id")
        .agg(
            artists=pl.col("cm_artist_id").n_unique(),
            cm_artist_id=pl.col("cm_artist_id").first(),
            days=pl.len(),
            first=pl.col("date").min(),
            last=pl.col("date").max(),
            dates=pl.col("date").n_unique(),
            release=(pl.col("date") - pl.duration(days=pl.col("days_from_release") - 1)).n_unique(),
            age=pl.col("days_from_release").max(),
            youngest=pl.col("days_from_release").min(),
            lowest=pl.col("daily_streams").min(),
            first_90=streams.head(90).sum(),
            last_90=streams.tail(90).sum(),
            peak=pl.col("daily_streams").max(),
            median=pl.col("daily_streams").median(),
        )
        .sort("cm_track_id")
    )


def test_its_sizes_are_those_of_the_catalogue_it_is_like(catalogue: Catalogue, tracks: pl.DataFrame) -> None:
    streams, mldr = catalogue
    assert tracks["cm_track_id"].to_list() == [*range(1, TRACKS + 1)]
    assert abs(streams.height - 6_700_000) < 10_000
    assert (tracks["artists"] == 1).all()
    per_artist = tracks["cm_artist_id"].value_counts()["count"]
    assert len(per_artist) == 1_565
    assert per_artist.max() > 100  # type: ignore[operator]
    assert per_artist.median() <= 2  # type: ignore[operator]
    assert mldr["cm_artist_id"].is_unique().all()
    assert mldr["mldr"].is_finite().all()
    assert tracks.join(mldr, on="cm_artist_id", how="anti").height == 16
    assert mldr.join(tracks, on="cm_artist_id", how="anti").is_empty()


def test_every_track_has_every_day_up_to_the_last(tracks: pl.DataFrame) -> None:
    assert tracks["last"].unique().to_list() == [LAST]
    assert tracks["dates"].equals(tracks["days"])
    assert ((tracks["last"] - tracks["first"]).dt.total_days() + 1 == tracks["days"]).all()
    assert tracks["days"].min() == 90
    assert tracks["days"].max() == 3_000
    assert 300 < tracks["days"].median() < 500  # type: ignore[operator]


def test_ages_run_from_three_months_to_decades(tracks: pl.DataFrame) -> None:
    assert (tracks["release"] == 1).all()
    assert (tracks["age"] - tracks["youngest"] + 1 == tracks["days"]).all()
    assert tracks["youngest"].min() == 1
    assert abs((tracks["youngest"] == 1).mean() - 0.6) < 0.01  # type: ignore[operator]
    assert (tracks["age"] < 120).sum() > 100
    assert (tracks["age"] > 20 * 365).sum() > 100


def test_there_is_every_lifecycle(catalogue: Catalogue, tracks: pl.DataFrame) -> None:
    long = tracks.filter(pl.col("days") > 365, pl.col("first_90") > 9_000)
    change = (long["last_90"] / long["first_90"]).rename("change")
    for shape, found in {
        "steady": change.is_between(0.9, 1.1),
        "growing": change > 1.5,
        "falling": change.is_between(0.1, 0.7),
        "collapsed": change.is_between(0.001, 0.05),
        "dead": change == 0,
        "viral": long["peak"] > 10 * long["median"],
    }.items():
        assert found.mean() > 0.02, shape  # type: ignore[operator]
    assert tracks["lowest"].min() == 0
    week = (
        catalogue[0]
        .filter(pl.col("cm_track_id").is_in(long["cm_track_id"].to_list()))
        .with_columns(relative=pl.col("daily_streams") / pl.col("daily_streams").mean().over("cm_track_id"))
        .group_by(pl.col("date").dt.weekday())
        .agg(pl.col("relative").mean())
        .sort("date")["relative"]
    )
    assert week[4] > 1.05 * week[0], "Fridays are not above Mondays"


def test_all_of_it_but_the_tracks_without_a_rate_can_be_forecast(catalogue: Catalogue) -> None:
    streams, mldr = catalogue
    result = build_forecasts(streams.lazy(), mldr.lazy(), horizon=1)
    forecasts, skipped = pl.collect_all([result.forecasts, result.skipped])
    assert skipped["reason"].to_list() == ["no_mldr"] * 16
    assert forecasts.height == TRACKS - 16
    assert forecasts["forecasted_value"].is_finite().all()
    assert forecasts["segment_used"].n_unique() > 8


def test_the_same_seed_gives_the_same_rows_and_another_one_others() -> None:
    streams, mldr = sample_catalogue(30)
    again, mldr_again = sample_catalogue(30)
    assert_frame_equal(again, streams)
    assert_frame_equal(mldr_again, mldr)
    others, mldr_of_others = sample_catalogue(30, seed=8)
    assert not others.equals(streams)
    assert not mldr_of_others.equals(mldr)
    # These very rows, with every version.
    assert (streams.height, mldr.row(0)) == (23_749, (1, 0.057903))
    assert streams.head(3).rows() == [
        (1, 3, date(2024, 10, 3), 41, 1),
        (1, 3, date(2024, 10, 4), 53, 2),
        (1, 3, date(2024, 10, 5), 15, 3),
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.none() | st.integers(1, 400), st.integers(1, 20_000), st.integers(-9, 9))
def test_rows_do_not_depend_on_the_batches(tracks: int, days: int | None, rows: int, seed: int) -> None:
    (whole,) = sample_batches(tracks, seed=seed, days=days, rows=10**9)
    batches = [*sample_batches(tracks, seed=seed, days=days, rows=rows)]
    assert_frame_equal(pl.concat(batches), whole)
    longest = whole["cm_track_id"].value_counts()["count"].max()
    assert isinstance(longest, int)
    assert all(0 < batch.height < rows + longest for batch in batches)
    assert [batch["cm_track_id"][0] for batch in batches] == sorted(
        {batch["cm_track_id"][0] for batch in batches}
    )
    assert sum(batch["cm_track_id"].n_unique() for batch in batches) == tracks


def test_a_fixed_history_and_last_date() -> None:
    (streams,) = sample_batches(5, days=400, last_date=date(2000, 3, 1))
    dates = [date(2000, 3, 1) - timedelta(n) for n in reversed(range(400))]
    assert streams["date"].to_list() == dates * 5
    assert streams["cm_track_id"].to_list() == [track for track in range(1, 6) for _ in range(400)]
    (earliest,) = sample_batches(1, days=366, last_date=date(1, 12, 31) + timedelta(1))
    assert earliest["date"].min() == date(1, 1, 1)


@pytest.mark.parametrize("tracks", [1, 2, 5, 100])
def test_a_small_catalogue_is_what_a_file_may_hold(
    tmp_path_factory: pytest.TempPathFactory, tracks: int
) -> None:
    streams, mldr = sample_catalogue(tracks)
    assert streams["cm_track_id"].n_unique() == tracks
    directory = tmp_path_factory.mktemp("sample")
    for name in ("t.csv", "t.parquet"):
        write_table(streams, directory / name)
        assert_frame_equal(read_streams(directory / name).rows, streams)
        write_table(mldr, directory / name)
        assert_frame_equal(read_mldr(directory / name).rows, mldr)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tracks": 0}, "tracks is 0: expected at least 1"),
        ({"tracks": -1}, "tracks is -1"),
        ({"tracks": 1, "days": 0}, "days is 0"),
        ({"tracks": 1, "rows": 0}, "rows is 0"),
        ({"tracks": 1, "days": 367, "last_date": date(2, 1, 1)}, "367 days up to 0002-01-01 begin before"),
        ({"tracks": 1, "last_date": date(5, 1, 1)}, "3000 days up to 0005-01-01 begin before"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(options: dict[str, int], said: str) -> None:
    with pytest.raises(InvalidOptionError, match=said):
        sample_batches(options.pop("tracks"), **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="tracks is 0"):
        sample_mldr(0)


def test_its_chance_is_uniform_normal_and_independent() -> None:
    index = np.arange(200_000)
    uniform, other = (_bits(seed, "x", index) / 2**64 for seed in (1, 2))
    assert np.allclose(np.histogram(uniform, 20, (0, 1))[0], len(index) / 20, rtol=0.05)
    for pair in ((uniform, other), (uniform[1:], uniform[:-1]), (uniform, _bits(1, "y", index) / 2**64)):
        assert abs(np.corrcoef(*pair)[0, 1]) < 0.01
    normal = _normal(1, "x", index)
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01
    assert abs(np.corrcoef(normal[1:], normal[:-1])[0, 1]) < 0.01
    assert sorted(_spread(1, "x", 5)) == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert not np.array_equal(_spread(1, "x", 50), _spread(1, "y", 50))
