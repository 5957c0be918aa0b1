"""Lay a catalogue out in buckets: each row once, and nothing is left of what failed."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError, ForecasterError, InvalidOptionError
from forecaster.files.directory import new_directory
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.layout import Layout, bucket_of, read_layout
from forecaster.parquet.prepare import prepare_files
from forecaster.setup.sample import sample_batches
from tests.faults import until
from tests.parquet import OF, expected, forecast, in_sink, states, with_ids, write_catalogue
from tests.tables import golden_mldr, golden_streams


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
        streams = with_ids(pl.concat(sample_batches(400)))
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

        with pytest.raises(BadFileError, match="filled by another process in the meantime"):
            another_one_meanwhile()
        assert read_layout(str(tmp_path / "out")) == Layout(2, rates_by_bucket=True)
        assert {path.name for path in tmp_path.iterdir()} == {"out", other.name}

    def test_where_it_cannot_be(self, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        own, here = Path(shutil.copytree(golden, tmp_path / "own")), tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        for out, words in (
            (own, "contains the source"),
            (here, "current directory"),
            (Path("/proc"), "file system"),
        ):
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
            with pytest.raises(InvalidOptionError, match="is inside the source"):
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
        with pytest.raises(BadFileError, match="is not a catalogue"):
            prepare_files(find_catalogue(str(golden)), 4, out, replace=True)
        assert (read_layout(str(out)), (out / "mine").exists()) == (Layout(3, rates_by_bucket=True), True)
        assert {path.name for path in tmp_path.iterdir()} == {"out"}

    def test_a_directory_laid_out_already_can_be_laid_out_anew(self, laid_out: Path, tmp_path: Path) -> None:
        prepare_files(find_catalogue(str(laid_out)), 7, tmp_path / "out")
        forecast(tmp_path / "out", tmp_path / "sink")
        assert_frame_equal(in_sink(tmp_path / "sink"), expected())
