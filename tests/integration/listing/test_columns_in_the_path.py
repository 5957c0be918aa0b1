"""Columns that are in the path of a file, as other engines write them."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError, SchemaMismatchError
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import prepare_files
from tests.listing import TRACKS, forecast
from tests.parquet import expected, in_sink
from tests.tables import golden_mldr


class TestColumnsInThePath:
    def test_they_are_taken_from_there(self, streams: pl.DataFrame, own: Path, tmp_path: Path) -> None:
        shutil.rmtree(own / "streams")
        by_track = {f"cm_track_id={track}/x=1": (track,) for track in range(1, TRACKS)}
        for directory, ids in {**by_track, "cm_track_id=06": (TRACKS,)}.items():
            (own / "streams" / directory).mkdir(parents=True)
            rows = streams.filter(pl.col("cm_track_id").is_in(ids)).drop("cm_track_id")
            rows.write_parquet(own / "streams" / directory / "0.parquet")
        forecast(own, tmp_path / "sink")
        assert_frame_equal(in_sink(tmp_path / "sink"), expected(streams))
        assert prepare_files(find_catalogue(str(own)), 2, tmp_path / "out").rows == len(streams)
        forecast(tmp_path / "out", tmp_path / "sink of out")
        assert_frame_equal(in_sink(tmp_path / "sink of out"), expected(streams))

    @pytest.mark.parametrize("form", ["{}", "{:%Y%m%d}", "{} 00%3A00%3A00"])
    def test_days(self, streams: pl.DataFrame, own: Path, tmp_path: Path, form: str) -> None:
        shutil.rmtree(own / "streams")
        some = streams.filter(pl.col("cm_track_id") == 1).tail(60)
        for (day,), rows in some.partition_by("date", as_dict=True, include_key=False).items():
            (own / "streams" / f"date={form.format(day)}").mkdir(parents=True)
            rows.write_parquet(own / "streams" / f"date={form.format(day)}" / "0.parquet")
        forecast(own, tmp_path / "sink")
        assert_frame_equal(in_sink(tmp_path / "sink"), expected(some))

    def test_what_is_in_a_file_counts(self, streams: pl.DataFrame, own: Path, tmp_path: Path) -> None:
        (own / "streams" / "cm_track_id=77").mkdir()
        shutil.move(own / "streams" / "0.parquet", own / "streams" / "cm_track_id=77")
        forecast(own, tmp_path / "sink")
        assert_frame_equal(in_sink(tmp_path / "sink"), expected(streams))

    def test_of_files_without_the_column_only(self, own: Path, tmp_path: Path) -> None:
        (own / "streams" / "cm_track_id=77").mkdir()
        file = own / "streams" / "cm_track_id=77" / "3.parquet"
        pl.read_parquet(own / "streams" / "0.parquet").filter(cm_track_id=1).drop(
            "cm_track_id"
        ).write_parquet(file)
        before = forecast(own, tmp_path / "sink").pending
        assert before == TRACKS + 1
        shutil.move(
            file.parent, own / "streams" / "cm_track_id=78"
        )  # other rows, though the file is the same
        assert forecast(own, tmp_path / "sink").left_alone == 0
        assert 78 in in_sink(tmp_path / "sink")["cm_track_id"]

    def test_none_is_null_and_nonsense_is_named(self, own: Path, tmp_path: Path) -> None:
        place = own / "streams" / "date=__HIVE_DEFAULT_PARTITION__"
        place.mkdir()
        rows = pl.read_parquet(own / "streams" / "0.parquet").drop("date")
        rows.write_parquet(place / "0.parquet")
        assert forecast(own, tmp_path / "sink").unusable_rows == len(rows)
        shutil.move(place, own / "streams" / "date=2024-02-31")
        with pytest.raises(
            BadFileError, match=r"date=2024-02-31/0\.parquet has no column date.*'2024-02-31'"
        ):
            forecast(own, tmp_path / "sink")

    def test_others_are_missing_as_always(self, own: Path, tmp_path: Path) -> None:
        for file in (own / "streams").iterdir():
            pl.read_parquet(file).drop("date").write_parquet(file)
        shutil.move(own / "streams", own / "month=5")
        shutil.move(own / "month=5", own / "streams" / "month=5")
        with pytest.raises(SchemaMismatchError, match="column date is missing"):
            forecast(own, tmp_path / "sink")

    def test_of_rates(self, own: Path, streams: pl.DataFrame, tmp_path: Path) -> None:
        shutil.rmtree(own / "mldr")
        for (artist,), rows in golden_mldr().partition_by("cm_artist_id", as_dict=True).items():
            place = own / "mldr" / f"cm_artist_id={artist}"
            place.mkdir(parents=True)
            rows.drop("cm_artist_id").write_parquet(place / "0.parquet")
        forecast(own, tmp_path / "sink")
        assert_frame_equal(in_sink(tmp_path / "sink"), expected(streams))
