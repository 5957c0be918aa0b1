"""Which files a directory, a pattern or a URL means, and which of them belong to no catalogue."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError, ForecasterError, InvalidOptionError
from forecaster.files import listing
from forecaster.files.listing import list_files, refuse_tables
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.layout import Bucket
from forecaster.parquet.prepare import prepare_files
from forecaster.parquet.session import Files, check
from forecaster.run.session import run
from tests.listing import forecast, names, write
from tests.parquet import expected, in_sink


class TestNames:
    def test_one_rule_for_directory_and_patterns(self, own: Path) -> None:
        place = own / "streams"
        rows = (place / "0.parquet").read_bytes()
        for name in ("UP.PARQUET", "b.parq", "c.Pq", "000000_0", "day.parquet/part-0", "a/b.c/d.parquet"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(rows)
        for name in ("_SUCCESS", "_metadata", ".x.parquet.crc", "day.parquet/_SUCCESS", "mark"):
            (place / name).touch()
        every = ["000000_0", *(f"{n}.parquet" for n in range(3)), "UP.PARQUET", "b.parq", "c.Pq"]
        every += ["d.parquet", "part-0"]
        for where in (place, f"{place}/", f"{place}/*", f"{place}/**", f"{place}/**/*", f"{own}/s*"):
            found = list_files(str(where).rstrip("/"))
            assert sorted(Path(path).name for path in found.read) == sorted(every)
            assert found.warnings() == []
        assert names(f"{place}/*.parquet") == ["0.parquet", "1.parquet", "2.parquet", "UP.PARQUET", "part-0"]
        assert names(f"{place}/[0-1].parquet") == ["0.parquet", "1.parquet"]
        assert names(place / "day.parquet") == ["part-0"]

    @pytest.mark.parametrize("name", ["other.csv", "x.csv.gz", "_x.parquet", ".x.parquet", "0.parquet.tmp"])
    def test_what_is_passed_over_is_told(self, own: Path, tmp_path: Path, name: str) -> None:
        write(own / "streams" / name)
        for where in (own, f"{own}/streams/*"):
            [warning] = forecast(where, tmp_path / "sink", own / "mldr").warnings
            assert f"1 name not read, the first is {own}/streams/{name}" in warning
        assert check(Files(str(own), tmp_path / "sink")).warnings == [warning.replace("streams/*", "streams")]
        assert len(prepare_files(find_catalogue(str(own)), 2, tmp_path / "out").warnings) == 1

    @pytest.mark.parametrize("name", ["_temporary", ".hidden"])
    def test_hidden_directories_are_passed_over_and_told(self, own: Path, name: str) -> None:
        write(own / "streams" / name / "0" / "x.parquet")
        write(own / "streams" / name / "y.parquet")
        for where in (own / "streams", f"{own}/streams/**/*.parquet"):
            found = list_files(str(where))
            assert (len(found.read), found.passed_over) == (3, [f"{own}/streams/{name}/"])
        assert sorted(names(f"{own}/streams/{name[0]}*/**")) == ["x.parquet", "y.parquet"]  # asked for

    def test_an_ending_that_the_pattern_has_is_meant(self, own: Path) -> None:
        shutil.move(own / "streams" / "0.parquet", own / "streams" / "part-0.c000")
        assert names(own / "streams") == ["1.parquet", "2.parquet"]
        assert names(f"{own}/streams/*.c000") == ["part-0.c000"]
        assert names(own / "streams" / "part-0.c000") == ["part-0.c000"]

    def test_a_directory_named_like_a_file(self, own: Path, streams: pl.DataFrame, tmp_path: Path) -> None:
        parts = tmp_path / "parts"
        shutil.move(own / "streams", parts)
        shutil.move(parts, own / "streams" / "day1.parquet")
        assert forecast(own, tmp_path / "sink").duplicate_rows == 0
        assert prepare_files(find_catalogue(str(own)), 2, tmp_path / "out").rows == len(streams)
        assert names(f"{own}/streams/*.parquet") == ["0.parquet", "1.parquet", "2.parquet"]

    def test_one_that_is_no_file_does_not_keep_anybody_waiting(self, own: Path, tmp_path: Path) -> None:
        pipe = own / "streams" / "x.parquet"
        os.mkfifo(pipe)
        for where in (own, pipe):
            with pytest.raises(BadFileError, match=r"x\.parquet is neither a file nor a directory"):
                forecast(where, tmp_path / "sink", own / "mldr")

    def test_nothing_but_others_is_an_error_that_names_one(self, own: Path, tmp_path: Path) -> None:
        shutil.rmtree(own / "streams")
        write(own / "streams" / "a.csv")
        with pytest.raises(BadFileError, match=r"no Parquet files, but 1 other name \(first: .*a\.csv"):
            forecast(own, tmp_path / "sink")

    def test_a_url_of_this_machine_is_a_path(self, own: Path, streams: pl.DataFrame, tmp_path: Path) -> None:
        for number, scheme in enumerate(("file://", "FILE://", "file:", "file://localhost")):
            forecast(f"{scheme}{own}", tmp_path / f"sink {number}")
            assert_frame_equal(in_sink(tmp_path / f"sink {number}"), expected(streams))

    def test_what_lies_beside_the_buckets(self, own: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        prepare_files(find_catalogue(str(own)), 2, out)
        write(out / "streams" / "bucket=1" / "more.csv")
        write(out / "mldr" / "notes.txt")
        for report in (forecast(out, tmp_path / "sink"), check(Files(str(out), tmp_path / "sink"))):
            assert [("more.csv" in told, "notes.txt" in told) for told in report.warnings] == [
                (True, False),
                (False, True),
            ]
        one = Files(str(out), tmp_path / "sink", buckets=2)
        assert [run(replace(one, only=Bucket(k, 2))).warnings != [] for k in range(2)] == [False, True]
        (out / "streams" / "more").mkdir()
        with pytest.raises(BadFileError, match="in 2 buckets, counted from 0, and also has more"):
            forecast(out, tmp_path / "sink")

    def test_a_sink_is_not_where_a_pattern_reads(self, own: Path) -> None:
        for sink in (own / "streams" / "sink", own / "streams" / "out.parquet"):
            with pytest.raises(InvalidOptionError, match="is inside the source"):
                forecast(f"{own}/streams/*", sink, own / "mldr")
        forecast(f"{own}/streams/*.parquet", own / "streams" / "sink", own / "mldr")

    def test_a_sink_is_not_where_a_link_in_the_source_leads(self, own: Path, tmp_path: Path) -> None:
        sink = tmp_path / "other" / "sink"
        sink.parent.mkdir()
        (own / "streams" / "more").symlink_to(sink.parent)
        for place in (sink.parent, sink):
            with pytest.raises(InvalidOptionError, match=r"is inside the source .*through a link"):
                forecast(own, place)
            with pytest.raises(InvalidOptionError, match=r"is inside the source .*through a link"):
                prepare_files(find_catalogue(str(own)), 2, place)
        assert not list(sink.parent.iterdir())
        forecast(f"{own}/streams/*.parquet", sink, own / "mldr")  # which does not mean the link

    def test_names_in_another_encoding_are_refused(self, own: Path, tmp_path: Path) -> None:
        name = os.fsdecode(b"m\xfcsik")
        catalogue, out = find_catalogue(str(own)), tmp_path / name
        for fail in (
            lambda: forecast(own, out),
            lambda: forecast(out, tmp_path / "sink"),
            lambda: forecast(own, tmp_path / "sink", out),
            lambda: check(Files(str(own), out)),
            lambda: prepare_files(catalogue, 2, out),
        ):
            with pytest.raises(BadFileError, match=r"the name '.*m\\udcfcsik' is not in UTF-8"):
                fail()
        write(own / "streams" / f"{name}.parquet")
        with pytest.raises(BadFileError, match=r"m\\udcfcsik\.parquet' is not in UTF-8"):
            forecast(own, tmp_path / "sink")


def of_delta(table: Path) -> None:
    write(table / "_delta_log" / "00000000000000000000.json")


def of_hudi(table: Path) -> None:
    write(table / ".hoodie" / "hoodie.properties")


def of_iceberg(table: Path) -> None:
    write(table / "metadata" / "v3.metadata.json")


class TestTables:
    """Of which only some files count, and only their log says which."""

    @pytest.mark.parametrize(
        ("table", "name"),
        [(of_delta, "Delta Lake"), (of_hudi, "Apache Hudi"), (of_iceberg, "Apache Iceberg")],
    )
    @pytest.mark.parametrize("where", ["own", "own/streams", "own/streams/deep"])
    def test_it_is_refused_by_name(
        self, own: Path, tmp_path: Path, table: Callable[[Path], None], name: str, where: str
    ) -> None:
        deep, rates = own / "streams" / "deep", shutil.copytree(own / "mldr", tmp_path / "rates")
        deep.mkdir()
        shutil.move(own / "streams" / "0.parquet", deep)
        table(tmp_path / where)
        (tmp_path / "link").symlink_to(deep)
        sources: list[Path | str] = [
            own,
            f"{own}/streams/*/*.parquet",
            deep / "0.parquet",
            tmp_path / "link",
            f"{own}/s*/**",
        ]
        for source in sources:
            with pytest.raises(BadFileError, match=f"is a table of {name}") as error:
                forecast(source, tmp_path / "sink", rates)
            assert "export the table as it is now" in str(error.value.hint)
        with pytest.raises(BadFileError, match=f"is a table of {name}"):
            prepare_files(find_catalogue(str(own), str(rates)), 2, tmp_path / "out")

    @pytest.mark.parametrize(
        "metadata",
        [
            "v1.gz.metadata.json",
            "00002-9c12d441-03fe-4693-9a96-a0705ddf69c1.metadata.json",
            "00002-9c12d441-03fe-4693-9a96-a0705ddf69c1.gz.metadata.json",
            "00002-9c12d441-03fe-4693-9a96-a0705ddf69c1.metadata.json.gz",
        ],
    )
    def test_each_name_that_iceberg_gives(self, own: Path, metadata: str) -> None:
        write(own / "metadata" / metadata)
        with pytest.raises(BadFileError, match="is a table of Apache Iceberg"):
            refuse_tables(str(own))

    def test_metadata_of_other_programs(self, own: Path, tmp_path: Path) -> None:
        for name in ("dict.metadata.json", "metadata.json", "2024.metadata.json.txt"):
            write(own / "metadata" / name)
            write(own / "streams" / "metadata" / name)
        forecast(own, tmp_path / "sink")

    def test_rates_too_and_files_that_links_lead_to(self, own: Path, tmp_path: Path) -> None:
        of_delta(tmp_path / "table")
        shutil.move(own / "streams" / "0.parquet", tmp_path / "table")
        (own / "streams" / "0.parquet").symlink_to(tmp_path / "table" / "0.parquet")
        with pytest.raises(BadFileError, match="table is a table of Delta Lake"):
            forecast(own, tmp_path / "sink")
        of_iceberg(own / "mldr")
        with pytest.raises(BadFileError, match="mldr is a table of Apache Iceberg"):
            forecast(own, tmp_path / "sink")

    def test_laid_out_in_buckets_by_another_program(self, own: Path, tmp_path: Path) -> None:
        prepare_files(find_catalogue(str(own)), 2, tmp_path / "out")
        of_delta(tmp_path / "out" / "streams")
        with pytest.raises(BadFileError, match="is a table of Delta Lake"):
            forecast(tmp_path / "out", tmp_path / "sink")

    @pytest.mark.parametrize("kind", ["position", "equality"])
    def test_files_of_deletions_without_their_table(self, own: Path, tmp_path: Path, kind: str) -> None:
        columns = {"file_path": ["a.parquet"], "pos": [0]} if kind == "position" else {"cm_track_id": [1]}
        rows = pa.table(columns)
        if kind == "equality":
            rows = rows.replace_schema_metadata({"delete-type": "equality"})
        pq.write_table(rows, own / "streams" / "9.parquet")
        with pytest.raises(BadFileError, match=r"9\.parquet lists rows that an .* Iceberg"):
            forecast(own, tmp_path / "sink")


class TestObjectStores:
    """Without one: Polars lists directories of this machine in the same way."""

    def test_polars_still_tells_what_it_found(self, own: Path, tmp_path: Path) -> None:
        found = listing._expand([f"{own}/**/*"])
        there = [str(path) for path in own.rglob("*") if path.is_file()]
        assert sorted(found) == sorted(there), "Polars lists files in another way: see listing._expand"
        assert listing._expand([f"{tmp_path}/nothing*"]) == []

    @pytest.mark.parametrize("node", [None, object()])
    def test_another_polars_is_one_clear_error(self, node: object, monkeypatch: pytest.MonkeyPatch) -> None:
        view = SimpleNamespace(view_current_node=lambda: node)
        scan = SimpleNamespace(_ldf=SimpleNamespace(visit=lambda: view)) if node else object()
        monkeypatch.setattr(pl, "scan_parquet", lambda *_, **__: scan)
        with pytest.raises(ForecasterError, match=f"Polars {pl.__version__} does not tell") as error:
            list_files("s3://bucket/streams")
        assert "install Polars 2.1" in str(error.value.hint)
