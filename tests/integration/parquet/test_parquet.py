"""Without a database: forecasts of catalogues in Parquet are those of the same catalogue in tables."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forecaster.errors import SchemaMismatchError
from forecaster.model.parameters import Parameters
from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import prepare_files, prepare_tables
from forecaster.postgres.catalogue import open_source
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tracks import Database
from forecaster.run.session import run
from forecaster.setup.load import load
from forecaster.tables import MLDR_TABLE, STREAMS_TABLE
from tests import sql
from tests.catalogues import catalogue, daily_frame, shapes
from tests.parquet import OF, expected, forecast, in_sink, write_catalogue
from tests.tables import create_tables, golden_mldr, golden_streams, load_golden


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
        report = run(Database(database))
        self._prepared(database, tmp_path)
        again = forecast(tmp_path / "catalogue", tmp_path / "sink")
        self._assert_same(database, tmp_path / "sink")
        assert again.skipped.equals(report.skipped.sort("cm_track_id"))
        counts = ("pending", "results", "rows", "unusable_rows", "duplicate_rows", "refused")
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
        report = run(Database(embedded_database))
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
