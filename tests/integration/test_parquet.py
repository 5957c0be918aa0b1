"""Without a database: catalogues in Parquet, laid out in buckets, and worked one by one or all at once."""

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecaster.errors import (
    BadFileError,
    BucketsFailedError,
    ForecasterError,
    InvalidOptionError,
    LockedError,
    NoForecastError,
    SchemaMismatchError,
)
from forecaster.files.directory import new_directory
from forecaster.model.parameters import Parameters
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.layout import Bucket, Layout, bucket_of, read_layout
from forecaster.parquet.lock import locked
from forecaster.parquet.prepare import prepare_files, prepare_tables
from forecaster.parquet.sink import Sink
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.run.bucket import Job
from forecaster.run.buckets import BucketsConfig, Outcome, check, in_this_process, run_buckets
from forecaster.run.report import BucketsReport
from forecaster.run.session import RunConfig, run
from forecaster.setup.load import load
from forecaster.setup.sample import sample_chunks
from forecaster.tables import MLDR_TABLE, STREAMS_TABLE
from tests import sql
from tests.catalogues import catalogue, daily_frame, shapes
from tests.conftest import Cli
from tests.faults import until
from tests.parquet import expected, in_sink, with_ids, write_catalogue
from tests.tables import create_tables, golden_mldr, golden_streams, load_golden

OF = 4


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalogue(tmp_path_factory.mktemp("golden") / "catalogue")


@pytest.fixture(scope="module")
def laid_out(golden: Path) -> Path:
    out = golden.parent / "laid out"
    prepare_files(find_catalogue(str(golden)), OF, out)
    return out


@pytest.fixture
def own(laid_out: Path, tmp_path: Path) -> Path:
    """A laid-out catalogue to spoil."""
    return Path(shutil.copytree(laid_out, tmp_path / "own"))


def forecast(source: Path | str, sink: Path, **options: Any) -> BucketsReport:
    return run_buckets(BucketsConfig(str(source), sink, **options))


class TestLayout:
    @given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.integers(1, 100_000))
    def test_the_bucket_is_arithmetic(self, ids: list[int], buckets: int) -> None:
        found = pl.select(bucket_of(pl.lit(pl.Series(ids, dtype=pl.Int64)), buckets)).to_series().to_list()
        assert found == [((i % 2**64) * 0x9E3779B97F4A7C15 % 2**64 >> 32) % buckets for i in ids]

    def test_it_never_changes(self) -> None:
        ids = pl.Series("id", [-1, 0, 1, 42, 8_459, 2**63 - 1])
        assert pl.select(bucket_of(pl.lit(ids), 64)).to_series().to_list() == [6, 0, 57, 46, 33, 6]

    def test_consecutive_ids_are_spread_evenly(self) -> None:
        sizes = pl.select(bucket_of(pl.int_range(8_459), 64)).to_series().value_counts()["count"]
        assert len(sizes) == 64
        assert sizes.max() / sizes.min() < 1.1  # type: ignore[operator]

    @pytest.mark.parametrize(("number", "of"), [(4, 4), (-1, 4), (0, 0), (0, 100_001)])
    def test_a_bucket_that_cannot_be(self, number: int, of: int) -> None:
        with pytest.raises(InvalidOptionError, match="bucket"):
            Bucket(number, of)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[1]", '{"buckets": 4, "version": 2}', '{"buckets": "4"}', '{"buckets": 0, "version": 1}'],
    )
    def test_a_layout_that_says_something_else(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "layout.json").write_text(text)
        with pytest.raises(BadFileError, match=r"layout\.json"):
            read_layout(str(tmp_path))


class TestPrepare:
    def test_more_buckets_than_tracks(self, tmp_path: Path) -> None:
        streams = with_ids(golden_streams()).filter(pl.col("cm_track_id") <= 3)
        source = write_catalogue(tmp_path / "few", streams)
        done = prepare_files(find_catalogue(str(source)), 50, tmp_path / "out")
        assert done.rows == len(streams)
        assert len(list((tmp_path / "out" / "streams").iterdir())) == 50  # one that is missing is lost
        report = forecast(tmp_path / "out", tmp_path / "sink")
        assert_frame_equal(in_sink(tmp_path / "sink"), expected(streams))
        assert (report.buckets, report.pending) == (50, 3)

    @pytest.mark.parametrize(
        ("buckets", "at_once"),
        [(OF, 64), (64, 64), (65, 64), (30, 3), pytest.param(4_100, 64, marks=pytest.mark.slow)],
    )  # by way of none, none, one, three, and two levels of coarser parts
    def test_every_row_is_in_the_bucket_of_its_track(
        self, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buckets: int, at_once: int
    ) -> None:
        monkeypatch.setattr("forecaster.parquet.prepare._AT_ONCE", at_once)
        done = prepare_files(find_catalogue(str(golden)), buckets, tmp_path / "out")
        streams = tmp_path / "out" / "streams"
        assert read_layout(str(tmp_path / "out")) == Layout(buckets, rates_by_bucket=True)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"layout.json", "mldr", "streams"}
        assert {path.name for path in streams.iterdir()} == {f"bucket={number}" for number in range(buckets)}
        rows = pl.read_parquet(streams / "**" / "*.parquet", include_file_paths="path")
        number = pl.col("path").str.extract(r"bucket=(\d+)").cast(pl.Int64)
        assert rows.select((number == bucket_of(pl.col("cm_track_id"), buckets)).all()).item()
        before = pl.read_parquet(golden / "streams")
        order = ["cm_track_id", "date", "id"]
        assert_frame_equal(rows.drop("path").sort(order), before.sort(order), check_column_order=False)
        assert done.rows == len(before)
        rates = pl.read_parquet(tmp_path / "out" / "mldr" / "**" / "*.parquet", hive_partitioning=True)
        artists = rows.select("cm_artist_id", bucket=number).unique()
        theirs = artists.join(golden_mldr(), on="cm_artist_id").select("bucket", "cm_artist_id", "mldr")
        in_order = ["bucket", "cm_artist_id"]
        assert_frame_equal(
            rates.sort(in_order), theirs.sort(in_order), check_column_order=False, check_dtypes=False
        )
        assert len(list((tmp_path / "out" / "mldr").iterdir())) == buckets

    def test_in_files_of_a_bounded_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a footer says of the rows is in memory while the file is written."""
        monkeypatch.setattr("forecaster.parquet.prepare._KEPT", 1)
        # A file has one row group at least, of 122,880 rows.
        streams = with_ids(pl.concat(sample_chunks(400)))
        source, out = tmp_path / "source", tmp_path / "out"
        write_catalogue(source, streams, golden_mldr())
        prepare_files(find_catalogue(str(source)), 2, out)
        for number in range(2):
            paths = list((out / "streams" / f"bucket={number}").iterdir())
            assert len(paths) == 2
        order = ["cm_track_id", "date"]
        rows = pl.read_parquet(out / "streams" / "**" / "*.parquet")
        assert_frame_equal(rows.sort(order), streams.sort(order), check_column_order=False)

    def test_what_names_no_track_is_counted(self, tmp_path: Path) -> None:
        streams = with_ids(golden_streams()).with_columns(
            cm_track_id=pl.when(pl.col("id") % 1000 != 0).then("cm_track_id")
        )
        done = prepare_files(
            find_catalogue(str(write_catalogue(tmp_path / "nulls", streams))), OF, tmp_path / "out"
        )
        assert done.without_track == streams["cm_track_id"].null_count() > 0
        assert done.rows + done.without_track == len(streams)

    def test_what_a_killed_one_left_behind_is_removed_but_not_what_is_in_use(
        self, golden: Path, tmp_path: Path
    ) -> None:
        source = find_catalogue(str(golden))
        abandoned, other = tmp_path / ".out.0123abcd.tmp", tmp_path / ".other.0123abcd.tmp"
        replaced = tmp_path / ".out.0123abcd.old.tmp"
        for directory in (abandoned, replaced, other):
            (directory / "streams").mkdir(parents=True)

        def another_one_meanwhile() -> None:
            with new_directory(tmp_path / "out", replaces=None) as in_use:
                prepare_files(source, 2, tmp_path / "out")
                assert (in_use.exists(), other.exists()) == (True, True)
                assert not abandoned.exists()
                assert not replaced.exists()

        with pytest.raises(BadFileError, match="filled by another process meanwhile"):
            another_one_meanwhile()
        assert read_layout(str(tmp_path / "out")) == Layout(2, rates_by_bucket=True)
        assert {path.name for path in tmp_path.iterdir()} == {"out", other.name}

    def test_where_it_cannot_be(self, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        own, here = Path(shutil.copytree(golden, tmp_path / "own")), tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        for out, words in ((own, "holds the source"), (here, "current directory"), (Path("/proc"), "begins")):
            with pytest.raises((BadFileError, InvalidOptionError), match=words):
                prepare_files(find_catalogue(str(own)), 2, out, replace=True)
        assert len(states(own)) == len(states(golden)) == 4

    def test_one_that_is_killed_at_its_end_leaves_nothing_for_ever(
        self, laid_out: Path, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = Path(shutil.copytree(laid_out, tmp_path / "out"))
        with monkeypatch.context() as killed:
            killed.setattr(shutil, "rmtree", lambda *_args, **_options: None)
            prepare_files(find_catalogue(str(golden)), 2, out, replace=True)
        assert len(list(tmp_path.iterdir())) == 2
        prepare_files(find_catalogue(str(golden)), 3, out, replace=True)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_what_is_still_written_after_an_interruption_is_removed(self, tmp_path: Path) -> None:
        """A thread of Polars may be at it: nothing stops that."""

        def write(directory: Path) -> None:
            for number in range(200):
                with suppress(OSError):
                    place = directory / f"bucket={number}"
                    place.mkdir(parents=True)
                    (place / "0.parquet").write_bytes(b"x")
                time.sleep(0.001)

        def interrupted(threads: ThreadPoolExecutor) -> None:
            with new_directory(tmp_path / "out", replaces=None) as directory:
                threads.submit(write, directory / "streams")
                until((directory / "streams" / "bucket=9").exists)
                raise KeyboardInterrupt

        with ThreadPoolExecutor() as threads, pytest.raises(KeyboardInterrupt):
            interrupted(threads)
        assert not list(tmp_path.iterdir())

    def test_it_does_not_lie_in_its_source(self, golden: Path, tmp_path: Path) -> None:
        own = Path(shutil.copytree(golden, tmp_path / "own"))
        pattern = find_catalogue(str(own / "**" / "[0-9].parquet"), str(golden / "mldr"))
        for source, out in (
            (find_catalogue(str(own)), own / "streams" / "out"),
            (find_catalogue(str(own)), own / "mldr" / "out"),
            (pattern, own / "out"),
        ):
            with pytest.raises(InvalidOptionError, match="lies in the source"):
                prepare_files(source, 2, out)
        prepare_files(find_catalogue(str(own)), 2, own / "out")  # where nothing looks

    def test_other_columns_are_left_out_and_optional_ones_may_be_missing(self, tmp_path: Path) -> None:
        streams = golden_streams().drop("days_from_release").with_columns(note=pl.lit("x"))
        source = write_catalogue(tmp_path / "other", streams)
        prepare_files(find_catalogue(str(source)), 2, tmp_path / "out")
        names = pl.read_parquet_schema(next((tmp_path / "out" / "streams" / "bucket=0").iterdir()))
        assert list(names) == ["cm_track_id", "cm_artist_id", "date", "daily_streams"]

    @pytest.mark.parametrize("what", ["no rates", "no streams", "wrong type", "corrupt", "directory of text"])
    def test_nothing_is_left_of_what_failed(self, golden: Path, tmp_path: Path, what: str) -> None:
        source = Path(shutil.copytree(golden, tmp_path / "bad"))
        some = next((source / "streams").iterdir())
        match what:
            case "no rates":
                shutil.rmtree(source / "mldr")
            case "no streams":
                shutil.rmtree(source / "streams")
            case "wrong type":
                pl.read_parquet(some).cast({"cm_track_id": pl.String}).write_parquet(some)
            case "corrupt":
                some.write_bytes(b"PAR1" + b"\xff" * 5_000 + some.read_bytes()[5_004:])
            case _:
                some.write_text("cm_track_id,date\n")
        with pytest.raises(ForecasterError, match=r"mldr|streams"):
            prepare_files(find_catalogue(str(source)), OF, tmp_path / "out")
        assert {path.name for path in tmp_path.iterdir()} == {"bad"}

    def test_a_directory_that_is_not_empty_stays_unless_it_is_to_be_replaced(
        self, golden: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        out.mkdir()
        prepare_files(find_catalogue(str(golden)), 2, out)  # an empty one may be there
        with pytest.raises(BadFileError, match="not empty"):
            prepare_files(find_catalogue(str(golden)), 3, out)
        assert read_layout(str(out)) == Layout(2, rates_by_bucket=True)
        prepare_files(find_catalogue(str(golden)), 3, out, replace=True)
        assert read_layout(str(out)) == Layout(3, rates_by_bucket=True)
        (out / "mine").write_text("x")
        with pytest.raises(BadFileError, match="is no catalogue"):
            prepare_files(find_catalogue(str(golden)), 4, out, replace=True)
        assert (read_layout(str(out)), (out / "mine").exists()) == (Layout(3, rates_by_bucket=True), True)
        assert {path.name for path in tmp_path.iterdir()} == {"out"}

    def test_a_directory_laid_out_already_can_be_laid_out_anew(self, laid_out: Path, tmp_path: Path) -> None:
        prepare_files(find_catalogue(str(laid_out)), 7, tmp_path / "out")
        forecast(tmp_path / "out", tmp_path / "sink")
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())


class TestTheSameNumbers:
    """As from PostgreSQL, however the catalogue lies and whoever works it."""

    @pytest.mark.parametrize(
        "parameters", [{}, {"horizon": 400, "age_from": "first-date"}, {"influence": 9.0}]
    )
    @pytest.mark.parametrize("buckets", [None, 1, 5])
    def test_of_files_as_they_came(
        self, golden: Path, tmp_path: Path, parameters: dict[str, Any], buckets: int | None
    ) -> None:
        report = forecast(golden, tmp_path / "sink", parameters=Parameters(**parameters), buckets=buckets)
        assert_frame_equal(in_sink(tmp_path / "sink"), expected(**parameters))
        assert (report.buckets, report.failed) == (buckets or 1, {})

    def test_of_a_pattern_and_of_one_file(self, golden: Path, tmp_path: Path) -> None:
        rates = str(golden / "mldr" / "rates.parquet")
        everything = expected()
        one = pl.read_parquet(golden / "streams" / "1.parquet")
        forecast(f"{golden}/streams/*.parquet", tmp_path / "all", mldr=rates)
        assert_frame_equal(in_sink(tmp_path / "all"), everything)
        forecast(golden / "streams" / "1.parquet", tmp_path / "one", mldr=str(golden / "mldr"))
        assert_frame_equal(in_sink(tmp_path / "one"), expected(one))
        forecast(golden / "streams", tmp_path / "dir", mldr=rates)
        assert_frame_equal(in_sink(tmp_path / "dir"), everything)

    def test_of_buckets_that_are_not_ours(self, golden: Path, tmp_path: Path) -> None:
        # Another engine's partitions, by another hash: a track's rows may lie in several of them.
        streams = pl.read_parquet(golden / "streams")
        key = (pl.col("id") % 3).alias("by")
        target = pl.PartitionBy(tmp_path / "other" / "streams", key=key, include_key=False)
        streams.lazy().sink_parquet(target, mkdir=True)
        shutil.copytree(golden / "mldr", tmp_path / "other" / "mldr")
        (tmp_path / "other" / "streams" / "_temporary").mkdir()
        (tmp_path / "other" / "streams" / "_temporary" / "x.parquet").write_text("in the making")
        forecast(tmp_path / "other", tmp_path / "sink", buckets=3)
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())

    def test_from_the_tables_and_in_them(self, database: Dsn, tmp_path: Path) -> None:
        load_golden(database)
        report = run(RunConfig(database))
        self._prepared(database, tmp_path)
        again = forecast(tmp_path / "catalogue", tmp_path / "sink")
        self._assert_same(database, tmp_path / "sink")
        assert again.skipped.equals(report.skipped.sort("cm_track_id"))
        counts = ("pending", "forecast", "rows", "unusable_rows", "duplicate_rows", "refused")
        assert {name: getattr(again, name) for name in counts} == {
            name: getattr(report, name) for name in counts
        }

    @pytest.mark.parametrize(
        "types",
        [
            {"row_id": "uuid DEFAULT gen_random_uuid()", "date": "timestamptz", "streams": "numeric"},
            {
                "cm_id": "integer",
                "date": "timestamp",
                "streams": "double precision",
                "created_at": "timestamp",
            },
        ],
    )
    def test_from_dirty_tables_of_other_types(
        self, embedded_database: Dsn, tmp_path: Path, types: dict[str, str]
    ) -> None:
        create_tables(embedded_database, **types)
        load(embedded_database, "public", streams=golden_streams(), mldr=golden_mldr())
        table = STREAMS_TABLE
        columns = "cm_track_id, cm_artist_id, date, daily_streams, days_from_release, created_at"
        for statement in (
            # Twice: the newer one counts, of three tracks one that is older.
            f"INSERT INTO {table} ({columns}) SELECT cm_track_id, cm_artist_id, date, daily_streams * 2, "
            "days_from_release, '2030-01-01' FROM " + table + " WHERE cm_track_id % 7 = 0",
            f"INSERT INTO {table} ({columns}) SELECT cm_track_id, cm_artist_id, date, 1, "
            "days_from_release, '-infinity' FROM " + table + " WHERE cm_track_id % 11 = 0",
            f"INSERT INTO {table} ({columns}) SELECT cm_track_id, cm_artist_id, date, daily_streams + 1, "
            "days_from_release, 'infinity' FROM " + table + " WHERE cm_track_id % 13 = 0",
            f"UPDATE {table} SET daily_streams = 'NaN' WHERE cm_track_id % 5 = 0 AND daily_streams < 50",
            f"UPDATE {table} SET date = 'infinity' WHERE cm_track_id = 17 AND daily_streams < 90",
            f"UPDATE {table} SET date = NULL WHERE cm_track_id = 23 AND daily_streams < 90",
            f"UPDATE {table} SET cm_track_id = NULL WHERE cm_track_id = 31",
            f"UPDATE {table} SET daily_streams = -1 WHERE cm_track_id = 37",
        ):
            sql.run(embedded_database, statement)
        report = run(RunConfig(embedded_database))
        assert report.unusable_rows > 0
        assert report.duplicate_rows > 0
        self._prepared(embedded_database, tmp_path)
        again = forecast(tmp_path / "catalogue", tmp_path / "sink")
        self._assert_same(embedded_database, tmp_path / "sink")
        assert again.skipped.equals(report.skipped.sort("cm_track_id"))
        assert again.duplicate_rows == report.duplicate_rows

    @given(st.lists(shapes, min_size=1, max_size=6), st.integers(0, 2**20), st.sampled_from([1, 3]))
    @settings(max_examples=15, deadline=None)
    def test_of_whatever_comes_in(
        self, tmp_path_factory: pytest.TempPathFactory, tracks: list[Any], seed: int, buckets: int
    ) -> None:
        directory = tmp_path_factory.mktemp("any")
        streams = daily_frame(catalogue(tracks, seed=seed)).collect()
        mldr = pl.DataFrame({"cm_artist_id": [1, 2, 3, 4], "mldr": [0.02, 0.5, float("nan"), -0.1]})
        source = write_catalogue(directory / "catalogue", streams, mldr)
        report = forecast(source, directory / "sink", buckets=buckets)
        assert_frame_equal(in_sink(directory / "sink"), expected(streams, mldr))
        named = streams.filter(pl.col("cm_track_id").is_not_null())
        assert report.pending == named["cm_track_id"].n_unique()
        usable = named.filter(
            pl.col("date").is_not_null() & pl.col("daily_streams").is_finite().fill_null(value=False)
        )
        assert report.unusable_rows == len(streams) - len(usable)
        assert report.duplicate_rows == len(usable) - usable.n_unique(["cm_track_id", "date"])

    def _prepared(self, dsn: Dsn, tmp_path: Path) -> None:
        with open_source(dsn, "public", needed=(STREAMS_TABLE, MLDR_TABLE)) as source:
            prepare_tables(source, OF, tmp_path / "catalogue")

    def _assert_same(self, dsn: Dsn, sink: Path) -> None:
        rows = in_sink(sink)
        stored = sql.rows(
            dsn,
            "SELECT cm_track_id::bigint, month::bigint, forecasted_value::bigint, segment_used::bigint, "
            "time_used::bigint, cm_artist_id::bigint, training_data_id::text "
            "FROM backtest_track_streams_forecast ORDER BY 1, 2",
        )
        assert len(stored) > 100 * 24
        assert rows.with_columns(pl.col("training_data_id").cast(pl.String)).rows() == stored


class TestFilesThatDiffer:
    """Of one catalogue, as several programs have written them."""

    @pytest.fixture
    def two(self, tmp_path: Path) -> Path:
        return write_catalogue(tmp_path / "two", files=2)

    @pytest.mark.parametrize("first", ["0", "1"])
    def test_a_column_that_only_some_have(self, two: Path, tmp_path: Path, first: str) -> None:
        streams = pl.concat(pl.read_parquet(two / "streams" / f"{name}.parquet") for name in "01")
        file = two / "streams" / f"{first}.parquet"
        rows = pl.read_parquet(file)
        rows.drop("days_from_release", "id").write_parquet(file)
        lacks = pl.col("id").is_in(rows["id"].implode())
        known = streams.with_columns(pl.when(~lacks).then(pl.col("days_from_release", "id")))
        for source in (two, tmp_path / "laid out"):
            report = forecast(source, tmp_path / f"sink of {source.name}")
            assert_frame_equal(in_sink(tmp_path / f"sink of {source.name}"), expected(known))
            assert report.pending == 250
            if source == two:
                prepare_files(find_catalogue(str(two)), OF, tmp_path / "laid out")

    def test_numbers_and_times_of_other_sizes(self, two: Path, tmp_path: Path) -> None:
        file = two / "streams" / "1.parquet"
        small = {"cm_track_id": pl.Int32, "daily_streams": pl.Float32, "id": pl.UInt32}
        pl.read_parquet(file).cast(small).write_parquet(file)  # type: ignore[arg-type]
        forecast(two, tmp_path / "sink")
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())

    def test_what_has_nothing_in_common_is_named(self, two: Path, tmp_path: Path) -> None:
        file = two / "streams" / "1.parquet"
        pl.read_parquet(file).with_columns(pl.col("date").cast(pl.Datetime)).write_parquet(file)
        with pytest.raises(SchemaMismatchError, match=r"column date is Date in .*0\.parquet and Datetime"):
            forecast(two, tmp_path / "sink")

    def test_names_with_signs_of_patterns_in_them(self, golden: Path, tmp_path: Path) -> None:
        odd = tmp_path / "a [b] *?"
        odd.mkdir()
        shutil.copytree(golden, odd / "c")
        prepare_files(find_catalogue(str(odd / "c")), 2, odd / "out")
        for source in ("c", "out"):
            forecast(odd / source, odd / f"sink {source}")
            rows = pl.concat(
                pl.read_parquet(path, glob=False, hive_partitioning=False)
                for path in (odd / f"sink {source}" / "forecasts").rglob("*.parquet")
            )
            assert len(rows) == len(expected())


class TestShard:
    def test_all_of_them_one_by_one(self, laid_out: Path, tmp_path: Path) -> None:
        config = BucketsConfig(str(laid_out), tmp_path / "sink", buckets=OF)
        for number in range(OF):
            found = check(config)
            assert found.failed == dict.fromkeys(range(number, OF), "missing")
            report = run_buckets(config, only=Bucket(number, OF))
            assert (report.buckets, report.left_alone) == (1, 0)
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())
        whole = check(config)
        assert (whole.left_alone, whole.failed, whole.rows) == (OF, {}, len(expected()))
        assert len(whole.skipped) == 250 - whole.forecast

    def test_the_manifest_says_what_was_done(self, laid_out: Path, tmp_path: Path) -> None:
        forecast(laid_out, tmp_path / "sink", parameters=Parameters(as_of=date(2025, 4, 15)))
        manifests = [
            json.loads(path.read_text()) for path in (tmp_path / "sink" / "manifests").rglob("*.json")
        ]
        assert sorted(m["bucket"] for m in manifests) == [0, 1, 2, 3]
        rows = in_sink(tmp_path / "sink")
        assert sum(m["rows"] for m in manifests) == len(rows)
        assert sum(m["tracks"] for m in manifests) == 250
        for manifest in manifests:
            assert manifest["asked"]["parameters"]["as_of"] == "2025-04-15"
            assert manifest["seconds"] >= sum(manifest["stages"].values()) * 0.5
            assert {"python", "polars", "forecaster"} <= manifest["versions"].keys()
            assert [file["path"].split("/")[0] for file in manifest["files"]] == ["forecasts", "skipped"]

    def test_what_is_whole_is_left_alone(self, laid_out: Path, tmp_path: Path) -> None:
        first = forecast(laid_out, tmp_path / "sink")
        before = states(tmp_path / "sink")
        again = forecast(laid_out, tmp_path / "sink")
        assert (first.left_alone, again.left_alone) == (0, OF)
        assert states(tmp_path / "sink") == before
        assert (again.rows, again.forecast, again.pending) == (first.rows, first.forecast, first.pending)
        assert again.skipped.equals(first.skipped)
        assert ("projection" in first.stages, "projection" in again.stages) == (True, False)
        replaced = forecast(laid_out, tmp_path / "sink", replace=True)
        assert replaced.left_alone == 0
        assert states(tmp_path / "sink").keys() == before.keys()

    @pytest.mark.parametrize(
        "fault",
        [
            "forecasts gone",
            "skipped gone",
            "cut off",
            "one bit",
            "manifest gone",
            "manifest cut off",
            "manifest edited",
            "another's",
        ],
    )
    def test_what_is_not_is_done_anew(self, laid_out: Path, tmp_path: Path, fault: str) -> None:
        sink = tmp_path / "sink"
        config = BucketsConfig(str(laid_out), sink)
        run_buckets(config)
        everything = in_sink(sink)
        rows = sink / "forecasts" / "bucket=2" / "forecasts.parquet"
        manifest = sink / "manifests" / "bucket=2" / "manifest.json"
        match fault:
            case "forecasts gone":
                rows.unlink()
            case "skipped gone":
                shutil.rmtree(sink / "skipped" / "bucket=2")
            case "cut off":
                rows.write_bytes(rows.read_bytes()[:-1])
            case "one bit":
                data = bytearray(rows.read_bytes())
                data[len(data) // 2] ^= 1
                rows.write_bytes(data)
            case "manifest gone":
                manifest.unlink()
            case "manifest cut off":
                manifest.write_text(manifest.read_text()[:100])
            case "manifest edited":
                manifest.write_text(manifest.read_text().replace('"tracks": 6', '"tracks": 9'))
            case _:
                manifest.write_text((sink / "manifests" / "bucket=1" / "manifest.json").read_text())
        assert list(check(config).failed) == [2]
        report = run_buckets(config)
        assert report.left_alone == OF - 1
        assert_frame_equal(in_sink(sink), everything)
        assert check(config).failed == {}

    def test_other_data_or_options_are_another_result(self, own: Path, tmp_path: Path) -> None:
        sink = tmp_path / "sink"
        forecast(own, sink)
        changed = check(BucketsConfig(str(own), sink, parameters=Parameters(horizon=12)))
        assert set(changed.failed.values()) == {"made from other parameters"}
        [file] = (own / "streams" / "bucket=1").iterdir()
        rows = pl.read_parquet(file).with_columns(pl.col("daily_streams") * 2)
        rows.write_parquet(file)
        assert check(BucketsConfig(str(own), sink)).failed == {1: "made from other streams"}
        assert forecast(own, sink).left_alone == OF - 1
        [file] = (own / "mldr" / "bucket=2").iterdir()
        rates = pl.read_parquet(file).with_columns(pl.col("mldr") * 2)
        rates.write_parquet(file)
        assert check(BucketsConfig(str(own), sink)).failed == {2: "made from other mldr"}
        assert forecast(own, sink).left_alone == OF - 1
        doubled = golden_mldr().with_columns(pl.col("mldr") * 2)
        doubled.write_parquet(tmp_path / "rates.parquet")
        forecast(own, tmp_path / "other", mldr=str(tmp_path / "rates.parquet"))  # instead of its own
        streams = pl.read_parquet(own / "streams", hive_partitioning=False)
        assert_frame_equal(in_sink(tmp_path / "other"), expected(streams, doubled))
        doubled.write_parquet(own / "mldr" / "new.parquet")
        with pytest.raises(BadFileError, match=r"mldr is laid out in 4 buckets.* holds new\.parquet as well"):
            forecast(own, sink)

    def test_what_a_killed_one_left_behind_is_removed(self, laid_out: Path, tmp_path: Path) -> None:
        place = tmp_path / "sink" / "forecasts" / "bucket=0"
        place.mkdir(parents=True)
        (place / ".0123456789abcdef.tmp").write_text("half")
        forecast(laid_out, tmp_path / "sink")
        assert [path.name for path in place.iterdir()] == ["forecasts.parquet"]
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())

    def test_two_at_once(self, laid_out: Path, tmp_path: Path) -> None:
        sink = tmp_path / "sink"
        config = BucketsConfig(str(laid_out), sink)
        run_buckets(config)
        with locked(sink / "manifests" / "bucket=1" / ".lock", 0):
            half_way = sink / "forecasts" / "bucket=1" / ".0123456789abcdef.tmp"
            half_way.write_text("of whoever holds it")
            assert run_buckets(config).left_alone == OF  # what is whole need not be worked
            with pytest.raises(LockedError, match="works on this bucket"):
                run_buckets(replace(config, replace=True), only=Bucket(1, OF))
            with pytest.raises(LockedError):
                run_buckets(replace(config, replace=True))
            assert half_way.exists()
        assert run_buckets(config).left_alone == OF

    def test_what_another_one_worked_meanwhile_is_left_alone(
        self, laid_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = BucketsConfig(str(laid_out), tmp_path / "sink")
        others = []

        def after_another(*arguments: Any) -> Any:
            monkeypatch.undo()
            others.append(run_buckets(config, only=Bucket(1, OF)))
            return locked(*arguments)

        monkeypatch.setattr("forecaster.run.bucket.locked", after_another)
        report = run_buckets(config, only=Bucket(1, OF))
        assert ([other.left_alone for other in others], report.left_alone) == ([0], 1)

    def test_of_many_at_once_one_works_it(self, laid_out: Path, tmp_path: Path, cli: Cli) -> None:
        arguments = ("shard", "1/4", "--source", str(laid_out), "--sink", str(tmp_path / "sink"))
        with ThreadPoolExecutor(6) as threads:
            ended = list(threads.map(lambda _: cli(*arguments), range(6)))
        assert {result.returncode for result in ended} <= {0, 5}, [result.stderr for result in ended]
        config = BucketsConfig(str(laid_out), tmp_path / "sink")
        assert check(config, only=Bucket(1, OF)).left_alone == 1

    @pytest.mark.parametrize("number", ["3/4", "4/4", "0/5", "x", "1", "-1/4"])
    def test_the_command(self, laid_out: Path, tmp_path: Path, called: Cli, number: str) -> None:
        files = ("--source", str(laid_out), "--sink", str(tmp_path / "sink"))
        result = called("shard", number, *files)
        if number == "3/4":
            assert result.returncode == 0
            assert "buckets=1 failed=0 forecast=" in result.stdout
            missing = called("shard", "--check", *files)
            assert missing.returncode == 1
            assert "3 of 4 buckets are missing or wrong" in missing.stderr
            assert missing.stdout.startswith("0/4  missing\n1/4  missing\n2/4  missing\n")
            assert called("shard", "3/4", "--check", *files).returncode == 0
        else:
            assert result.returncode == 2
            assert "Traceback" not in result.stderr


class TestPoison:
    """A bucket that cannot be worked fails alone, and is named."""

    @pytest.mark.parametrize(
        "what",
        [
            "corrupt",
            "cut off",
            "no parquet",
            "schema",
            "stray",
            "gone",
            "empty",
            "rates gone",
            "rates of text",
            "link to nowhere",
            "link of rates to nowhere",
        ],
    )
    def test_of_one_bucket(self, own: Path, tmp_path: Path, what: str) -> None:
        place = own / "streams" / "bucket=2"
        [file] = place.iterdir()
        rows = pl.read_parquet(file)
        match what:
            case "corrupt":
                file.write_bytes(b"PAR1" + b"\xff" * 5_000 + file.read_bytes()[5_004:])
            case "cut off":
                file.write_bytes(file.read_bytes()[:-100])
            case "no parquet":
                file.write_text("no parquet")
            case "schema":
                rows.cast({"daily_streams": pl.String}).write_parquet(file)
            case "stray":
                tracks = rows.with_columns(cm_track_id=pl.lit(1_000_001, dtype=pl.Int64))
                pl.concat([rows, tracks.head(1)]).write_parquet(file)
            case "gone":
                shutil.rmtree(place)
            case "rates gone":
                shutil.rmtree(own / "mldr" / "bucket=2")
            case "rates of text":
                [rates] = (own / "mldr" / "bucket=2").iterdir()
                pl.read_parquet(rates).cast({"mldr": pl.String}).write_parquet(rates)
            case "link to nowhere" | "link of rates to nowhere":
                [link] = (own / ("mldr" if "rates" in what else "streams") / "bucket=2").iterdir()
                link.unlink()
                link.symlink_to(tmp_path / "nowhere.parquet")
            case _:
                file.write_bytes(b"")
        report = BucketsReport()
        with pytest.raises(
            BucketsFailedError, match=r"1 of 4 buckets failed \(2\); the others are done"
        ) as error:
            run_buckets(BucketsConfig(str(own), tmp_path / "sink"), report=report)
        assert "bucket=2" in str(error.value) or "2/4" in str(error.value)
        assert list(report.failed) == [2]
        good = expected().filter(bucket_of(pl.col("cm_track_id"), OF) != 2)
        assert_frame_equal(in_sink(tmp_path / "sink"), good)
        assert report.rows == len(good)
        assert list(check(BucketsConfig(str(own), tmp_path / "sink")).failed) == [2]

    def test_of_two_for_different_reasons(self, own: Path, tmp_path: Path) -> None:
        """One is locked, which alone would be said by itself."""
        sink = tmp_path / "sink"
        forecast(own, sink)
        for bucket in (1, 3):
            [file] = (own / "streams" / f"bucket={bucket}").iterdir()
            file.write_bytes(b"" if bucket == 1 else file.read_bytes()[:-100])
        said = r"3 of 4 buckets failed \(0, 1, 3\); the others are done. Bucket 0: .* works on this bucket"
        with (
            locked(sink / "manifests" / "bucket=0" / ".lock", 0),
            pytest.raises(BucketsFailedError, match=said),
        ):
            forecast(own, sink, parameters=Parameters(horizon=12))

    def test_what_is_not_seen_from_here(self, own: Path, tmp_path: Path) -> None:
        """As if a worker had written into another directory of the same name."""
        sink, report = tmp_path / "sink", BucketsReport()

        def elsewhere(job: Job, buckets: list[Bucket]) -> Iterator[tuple[Bucket, Outcome]]:
            for bucket, outcome in in_this_process(job, buckets):
                manifest = Sink(sink).manifest(bucket)
                if bucket.number == 1:
                    manifest.write_text("no manifest")
                elif bucket.number == 2:
                    manifest.unlink()
                yield bucket, outcome

        with pytest.raises(BucketsFailedError, match=r"2 of 4 buckets failed \(1, 2\); the others are done"):
            run_buckets(BucketsConfig(str(own), sink), elsewhere, report)
        assert "is not a manifest" in report.failed[1]
        assert "is not in" in report.failed[2]

    def test_the_command_says_so(self, own: Path, tmp_path: Path, called: Cli) -> None:
        [file] = (own / "streams" / "bucket=0").iterdir()  # also if it is the first
        file.write_text("no parquet")
        result = called(
            "run", "--source", str(own), "--sink", str(tmp_path / "sink"), "--report", "r.json", cwd=tmp_path
        )
        assert result.returncode == 1
        assert "1 of 4 buckets failed (0); the others are done" in result.stderr
        assert "buckets=4 failed=1 forecast=" in result.stdout
        report = json.loads((tmp_path / "r.json").read_text())
        assert [entry["bucket"] for entry in report["failed_buckets"]] == [0]
        assert str(file) in report["failed_buckets"][0]["reason"]
        assert report["counts"]["buckets_failed"] == 1
        assert report["error"].startswith("1 of 4 buckets failed")

    def test_a_track_that_the_columns_cannot_hold_is_refused_alone(self, tmp_path: Path) -> None:
        streams = with_ids(golden_streams()).cast({"daily_streams": pl.Float64})
        huge = streams.with_columns(
            daily_streams=pl.when(pl.col("cm_track_id") == 1).then(1e300).otherwise("daily_streams")
        )
        report = forecast(write_catalogue(tmp_path / "huge", huge), tmp_path / "sink")
        assert report.refused == {1: "forecasted_value: a value that does not fit bigint"}
        assert_frame_equal(in_sink(tmp_path / "sink"), expected().filter(pl.col("cm_track_id") != 1))

    def test_days_that_no_calendar_has(self, tmp_path: Path) -> None:
        rows = pl.DataFrame(
            {
                "cm_track_id": [1, 1, 2],
                "cm_artist_id": [1, 1, 1],
                "date": pl.Series([2**62, 0, -(2**62)], dtype=pl.Int64).cast(pl.Datetime("us")),
                "daily_streams": [1.0, 2.0, 3.0],
                "created_at": pl.Series([2**62, -(2**63), None], dtype=pl.Int64).cast(pl.Datetime("us")),
            }
        )
        report = forecast(write_catalogue(tmp_path / "far", rows), tmp_path / "sink")
        assert report.pending == 2
        assert report.forecast + len(report.skipped) + len(report.refused) == 2


class TestOptions:
    def test_only_some_tracks(self, laid_out: Path, tmp_path: Path) -> None:
        report = forecast(laid_out, tmp_path / "sink", track_ids=(3, 5, 8))
        assert report.pending == 3
        some = pl.col("cm_track_id").is_in([3, 5, 8])
        assert_frame_equal(in_sink(tmp_path / "sink"), expected().filter(some))
        first = sorted(golden_streams()["cm_track_id"].unique())[:7]
        assert forecast(laid_out, tmp_path / "first", limit=7).pending == 7
        assert_frame_equal(in_sink(tmp_path / "first"), expected().filter(pl.col("cm_track_id").is_in(first)))
        with pytest.raises(NoForecastError, match="999999"):
            forecast(laid_out, tmp_path / "none", track_ids=(3, 999_999))

    def test_a_track_that_is_named_twice_is_one(self, laid_out: Path, tmp_path: Path) -> None:
        once = forecast(laid_out, tmp_path / "sink", track_ids=(3, 3, 7))
        again = forecast(laid_out, tmp_path / "sink", track_ids=(7, 3))
        assert (once.pending, once.left_alone, again.left_alone) == (2, 0, OF)

    def test_a_bucket_of_a_sink_of_another_number(self, golden: Path, tmp_path: Path) -> None:
        """Of the same data, and with a manifest that names its files as they are."""
        for buckets in (2, 3):
            forecast(golden, tmp_path / f"{buckets}", buckets=buckets, track_ids=(1, 2, 3, 4, 5))
        for kind in ("forecasts", "skipped", "manifests"):
            place = tmp_path / "2" / kind / "bucket=1"
            shutil.rmtree(place)
            shutil.copytree(tmp_path / "3" / kind / "bucket=1", place)
        config = BucketsConfig(str(golden), tmp_path / "2", track_ids=(1, 2, 3, 4, 5))
        assert check(config).failed == {1: "its manifest is of bucket 1/3"}

    def test_some_tracks_do_not_take_the_place_of_all(self, laid_out: Path, tmp_path: Path) -> None:
        forecast(laid_out, tmp_path / "sink")
        with pytest.raises(InvalidOptionError, match="holds the forecasts of other tracks"):
            forecast(laid_out, tmp_path / "sink", track_ids=(3,), replace=True)
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())
        forecast(laid_out, tmp_path / "some", track_ids=(3,))
        with pytest.raises(InvalidOptionError, match="holds the forecasts of other tracks"):
            forecast(laid_out, tmp_path / "some", track_ids=(4,))
        assert forecast(laid_out, tmp_path / "some", track_ids=(3,)).left_alone == OF
        forecast(laid_out, tmp_path / "some")  # all of them are no loss
        assert_frame_equal(in_sink(tmp_path / "some"), expected())

    def test_a_dry_run_writes_nothing(self, laid_out: Path, tmp_path: Path) -> None:
        report = run_buckets(BucketsConfig(str(laid_out), None, dry_run=True))
        whole = forecast(laid_out, tmp_path / "sink")
        assert (report.rows, report.forecast) == (0, whole.forecast)
        assert report.skipped.equals(whole.skipped)

    def test_a_sink_of_another_number_of_buckets(self, golden: Path, laid_out: Path, tmp_path: Path) -> None:
        forecast(laid_out, tmp_path / "sink")
        assert forecast(golden, tmp_path / "sink").buckets == OF  # what only the size would tell
        prepare_files(find_catalogue(str(golden)), 3, tmp_path / "three")
        with pytest.raises(InvalidOptionError, match="in 4 buckets, and now there are 3"):
            forecast(tmp_path / "three", tmp_path / "sink")
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"sink": None}, "nowhere to write"),
            ({"sink": Path("s3://bucket/forecasts")}, "is a URL"),
            ({"sink": Path("out"), "limit": 0}, "limit is 0"),
        ],
    )
    def test_what_cannot_be(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidOptionError, match=words):
            BucketsConfig("catalogue", **options)

    def test_a_sink_is_not_in_the_source(self, golden: Path, tmp_path: Path) -> None:
        own = Path(shutil.copytree(golden, tmp_path / "own"))
        rates = str(golden / "mldr")
        for source, sink in (
            (own, own / "streams"),
            (own, own / "sink"),
            (own / "streams", own / "streams"),
            (f"{own}/**/*.parquet", own / "sink"),
        ):
            with pytest.raises(InvalidOptionError, match="lies in the source"):
                forecast(source, sink, mldr=rates)
        with pytest.raises(InvalidOptionError, match="lies in the source"):
            forecast(own, own / "mldr" / "sink")
        # Read as rates, the forecasts would be the newest, with no rate in them.
        with pytest.raises(InvalidOptionError, match="lies in the source"):
            forecast(f"{own}/streams/*.parquet", own / "mldr" / "sink", mldr=str(own / "mldr"))
        forecast(f"{own}/streams/*.parquet", own / "sink", mldr=rates)
        assert_frame_equal(in_sink(own / "sink"), expected())

    def test_a_sink_that_may_only_be_read(self, laid_out: Path, tmp_path: Path) -> None:
        sink = tmp_path / "sink"
        forecast(laid_out, sink)
        place = sink / "manifests" / "bucket=1"
        (place / ".lock").unlink()
        (place / ".lock").mkdir()  # which cannot be opened to write
        assert forecast(laid_out, sink).left_alone == OF
        with pytest.raises(BucketsFailedError, match=r"1 of 4 buckets failed \(1\).*cannot be written"):
            forecast(laid_out, sink, replace=True)

    def test_files_that_are_no_bucket_s_are_told(self, own: Path, tmp_path: Path) -> None:
        sink = tmp_path / "sink"
        forecast(own, sink)
        (sink / "forecasts" / "bucket=77").mkdir()
        shutil.copy(sink / "forecasts" / "bucket=1" / "forecasts.parquet", sink / "forecasts" / "bucket=77")
        for report in (forecast(own, sink), check(BucketsConfig(str(own), sink))):
            [warning] = report.warnings
            assert "no bucket's: 1, the first is" in warning
            assert "bucket=77/forecasts.parquet" in warning
        shutil.copytree(own / "streams" / "bucket=1", own / "streams" / "bucket=4")
        with pytest.raises(BadFileError, match="in 4 buckets, counted from 0, and holds bucket=4"):
            forecast(own, sink)

    def test_a_bucket_that_fails_keeps_what_it_has_and_that_is_told(self, own: Path, tmp_path: Path) -> None:
        sink, report = tmp_path / "sink", BucketsReport()
        forecast(own, sink)
        shutil.rmtree(own / "streams" / "bucket=2")
        with pytest.raises(BucketsFailedError):
            run_buckets(BucketsConfig(str(own), sink), report=report)
        assert "its forecasts of an earlier run are still in the sink" in report.failed[2]
        assert_frame_equal(in_sink(sink), expected())

    def test_a_source_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BadFileError, match="nowhere"):
            forecast(tmp_path / "nowhere", tmp_path / "sink")
        with pytest.raises(InvalidOptionError, match="decay rates"):
            forecast(f"{tmp_path}/*.parquet", tmp_path / "sink")
        (tmp_path / "empty" / "streams").mkdir(parents=True)
        with pytest.raises(BadFileError, match="holds no Parquet files"):
            forecast(tmp_path / "empty", tmp_path / "sink")
        assert not (tmp_path / "sink").exists()

    def test_columns_of_both_that_are_missing_are_named_at_once(self, tmp_path: Path) -> None:
        source = write_catalogue(tmp_path / "bad", pl.DataFrame({"track": [1]}), pl.DataFrame({"x": [1]}))
        with pytest.raises(SchemaMismatchError) as error:
            forecast(source, tmp_path / "sink")
        assert {"cm_track_id", "daily_streams", "mldr"} <= set(str(error.value).replace(";", "").split())

    def test_forecasts_that_look_ahead_are_told(self, laid_out: Path, tmp_path: Path) -> None:
        report = forecast(laid_out, tmp_path / "sink", parameters=Parameters(as_of=date(2020, 1, 1)))
        assert any("streams after --as-of 2020-01-01" in warning for warning in report.warnings)

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (("--source", "c"), 2, "nowhere to write"),
            (("--sink", "s"), 2, "--sink is of no use without --source"),
            (("--mldr", "s"), 2, "--mldr is of no use without --source"),
            (("--source", "c", "--sink", "s", "--schema", "x"), 2, "contradict"),
            (("--source", "", "--sink", "s"), 2, "--source is empty"),
            (("--source", "c", "--sink", ""), 2, "--sink is empty"),
            (("--source", "c", "--sink", "s"), 1, "c does not exist"),
            (("--scheduler", "tcp://x:1"), 2, "--engine dask"),
        ],
    )
    def test_the_command_refuses(
        self, called: Cli, arguments: tuple[str, ...], code: int, words: str
    ) -> None:
        result = called("run", *arguments)
        assert (result.returncode, result.stdout) == (code, "")
        assert words in result.stderr
        assert "Traceback" not in result.stderr

    def test_no_database_is_needed(self, laid_out: Path, tmp_path: Path, cli: Cli) -> None:
        nowhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
        result = cli("run", "--source", str(laid_out), "--sink", str(tmp_path / "s"), "--json", env=nowhere)
        assert result.returncode == 0
        report = json.loads(result.stdout)
        assert (report["source"], report["buckets"], report["counts"]["rows"]) == (
            str(laid_out),
            OF,
            len(expected()),
        )
        assert "database" not in report
        stored = pl.read_parquet(tmp_path / "s" / "forecasts")["created_at"].unique().to_list()
        assert stored == [datetime.fromisoformat(report["started_at"])]

    def test_the_database_is_laid_out_by_the_command(
        self, embedded_database: Dsn, tmp_path: Path, called: Cli
    ) -> None:
        load_golden(embedded_database)
        result = called(
            "prepare",
            "--buckets",
            "3",
            "--out",
            "c",
            env={"DATABASE_URL": embedded_database.uri},
            cwd=tmp_path,
        )
        assert result.returncode == 0, result.stderr
        assert f"rows={len(golden_streams())} artists={len(golden_mldr())} buckets=3" in result.stdout
        assert called("run", "--source", "c", "--sink", "s", "-q", cwd=tmp_path).returncode == 0
        assert_frame_equal(
            in_sink(tmp_path / "s").drop("training_data_id"), expected().drop("training_data_id")
        )


def states(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and the time of its last change."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}
