"""Which files a directory, a pattern or a URL means, and what in them is no catalogue's."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from forecaster.errors import BadFileError, ForecasterError, InvalidOptionError, SchemaMismatchError
from forecaster.files import listing
from forecaster.files.listing import list_files, refuse_tables
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.layout import Bucket
from forecaster.parquet.prepare import prepare_files
from forecaster.run.buckets import BucketsConfig, check, run_buckets
from forecaster.run.report import BucketsReport
from tests.parquet import expected, in_sink, with_ids, write_catalogue
from tests.tables import golden_mldr, golden_streams
from tests.users import as_nobody, public_directory

TRACKS = 6


@pytest.fixture(scope="module")
def streams() -> pl.DataFrame:
    return with_ids(golden_streams()).filter(pl.col("cm_track_id") <= TRACKS)


@pytest.fixture
def own(streams: pl.DataFrame, tmp_path: Path) -> Path:
    """A catalogue to spoil: `streams/0.parquet` to `2.parquet`, and `mldr/rates.parquet`."""
    return write_catalogue(tmp_path / "own", streams)


def forecast(source: Path | str, sink: Path, mldr: Path | None = None) -> BucketsReport:
    return run_buckets(BucketsConfig(str(source), sink, str(mldr) if mldr else None))


def names(where: Path | str) -> list[str]:
    return [Path(path).name for path in list_files(str(where)).read]


def write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


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
        assert check(BucketsConfig(str(own), tmp_path / "sink")).warnings == [
            warning.replace("streams/*", "streams")
        ]
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
        with pytest.raises(BadFileError, match=r"no Parquet files, but 1 other name, the first is .*a\.csv"):
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
        for report in (forecast(out, tmp_path / "sink"), check(BucketsConfig(str(out), tmp_path / "sink"))):
            assert [("more.csv" in told, "notes.txt" in told) for told in report.warnings] == [
                (True, False),
                (False, True),
            ]
        one = BucketsConfig(str(out), tmp_path / "sink", buckets=2)
        assert [run_buckets(one, only=Bucket(k, 2)).warnings != [] for k in range(2)] == [False, True]
        (out / "streams" / "more").mkdir()
        with pytest.raises(BadFileError, match="in 2 buckets, counted from 0, and holds more as well"):
            forecast(out, tmp_path / "sink")

    def test_a_sink_is_not_where_a_pattern_reads(self, own: Path) -> None:
        for sink in (own / "streams" / "sink", own / "streams" / "out.parquet"):
            with pytest.raises(InvalidOptionError, match="lies in the source"):
                forecast(f"{own}/streams/*", sink, own / "mldr")
        forecast(f"{own}/streams/*.parquet", own / "streams" / "sink", own / "mldr")

    def test_a_sink_is_not_where_a_link_in_the_source_leads(self, own: Path, tmp_path: Path) -> None:
        sink = tmp_path / "other" / "sink"
        sink.parent.mkdir()
        (own / "streams" / "more").symlink_to(sink.parent)
        for place in (sink.parent, sink):
            with pytest.raises(InvalidOptionError, match=r"lies in the source .*by way of a link"):
                forecast(own, place)
            with pytest.raises(InvalidOptionError, match=r"lies in the source .*by way of a link"):
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
            lambda: check(BucketsConfig(str(own), out)),
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
