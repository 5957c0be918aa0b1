"""Links to directories and files are followed, and each file is read once."""

import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError
from forecaster.files.listing import list_files
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import prepare_files
from tests.listing import forecast, names
from tests.parquet import expected, in_sink
from tests.users import as_nobody, public_directory


class TestLinks:
    def test_directories_and_files_are_followed(
        self, own: Path, streams: pl.DataFrame, tmp_path: Path
    ) -> None:
        (tmp_path / "other").mkdir()
        shutil.move(own / "streams" / "0.parquet", tmp_path / "other")
        shutil.move(own / "streams" / "1.parquet", tmp_path / "1.parquet")
        (own / "streams" / "2023").symlink_to(tmp_path / "other")
        (own / "streams" / "one.parquet").symlink_to(tmp_path / "1.parquet")
        assert forecast(own, tmp_path / "sink").warnings == []
        assert_frame_equal(in_sink(tmp_path / "sink"), expected(streams))

    @pytest.mark.parametrize("pattern", ["", "/*", "/**/*.parquet"])
    def test_what_is_reached_by_two_names_is_read_once_and_told(self, own: Path, pattern: str) -> None:
        place = own / "streams"
        (place / "a").mkdir()
        shutil.move(place / "0.parquet", place / "a")
        (place / "Link to a").symlink_to(place / "a")
        (place / "again.parquet").symlink_to("1.parquet")
        os.link(place / "2.parquet", place / "3.parquet")
        found = list_files(f"{place}{pattern}")
        assert [Path(path).relative_to(place).as_posix() for path in found.read] == [
            "1.parquet",
            "2.parquet",
            "a/0.parquet",
        ]
        [warning] = found.warnings()
        assert "3 links to files that have another name" in warning
        assert "3.parquet" in warning

    def test_links_in_a_circle_come_to_an_end(self, own: Path, tmp_path: Path) -> None:
        place = own / "streams"
        for number in range(9):  # so many directories that each leads to: n! ways through them
            (place / f"d{number}").mkdir()
            for other in range(9):
                (place / f"d{number}" / f"to{other}").symlink_to(place / f"d{other}")
        (place / "self").symlink_to(place)
        for where in (place, f"{place}/**/*.parquet", f"{place}/**/**/to*/**"):
            assert len(list_files(str(where)).warnings()) == 1
        assert names(place) == names(f"{place}/**/*.parquet") == ["0.parquet", "1.parquet", "2.parquet"]
        report = forecast(own, tmp_path / "sink")
        assert report.duplicate_rows == 0
        assert "read once" in report.warnings[0]

    def test_a_directory_by_another_name_may_be_meant_in_another_way(self, own: Path) -> None:
        place = own / "streams"
        (place / "x").mkdir()
        shutil.move(place / "0.parquet", place / "x")
        (place / "l").symlink_to(place)
        assert names(f"{place}/*/x/*.parquet") == ["0.parquet"]
        assert names(f"{place}/**/x/*.parquet") == ["0.parquet"]

    @pytest.mark.parametrize("to", ["nowhere", "loop", "0.parquet/below"])
    def test_what_leads_nowhere_is_named(self, own: Path, tmp_path: Path, to: str) -> None:
        (own / "streams" / "loop").symlink_to(to)
        for where in (own, f"{own}/streams/*"):
            with pytest.raises(BadFileError, match="streams/loop cannot be read"):
                forecast(where, tmp_path / "sink", own / "mldr")
        with pytest.raises(BadFileError, match="streams/loop cannot be read"):
            prepare_files(find_catalogue(str(own)), 2, tmp_path / "out")

    def test_what_may_not_be_listed_is_named(self) -> None:
        with public_directory() as place:
            closed = place / "streams" / "closed"
            closed.mkdir(parents=True)
            closed.chmod(0)
            with as_nobody():
                for where in (place, f"{place}/**/*.parquet", f"{place}/*/closed"):
                    with pytest.raises(BadFileError, match="streams/closed cannot be listed: Permission"):
                        list_files(str(where))
                with pytest.raises(BadFileError, match="closed/x cannot be read: Permission denied"):
                    list_files(f"{closed}/x")
                with pytest.raises(BadFileError, match="closed/x cannot be read: Permission denied"):
                    find_catalogue(f"{closed}/x")
