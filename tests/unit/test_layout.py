"""Buckets are arithmetic on ids, and a layout that says something else is refused."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecaster.errors import BadFileError, InvalidOptionError
from forecaster.parquet.layout import Bucket, bucket_of, read_layout


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
