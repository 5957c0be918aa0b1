"""What the manifest of a bucket says of files that were tampered with."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from forecaster.parquet.layout import Bucket
from forecaster.parquet.session import Files, check
from forecaster.run.config import RunConfig
from forecaster.run.session import run
from tests.parquet import write_catalogue


@pytest.fixture
def worked(tmp_path: Path) -> tuple[Files, RunConfig]:
    config = (Files(str(write_catalogue(tmp_path / "catalogue")), tmp_path / "sink", buckets=1), RunConfig())
    assert run(*config).results > 200
    assert check(*config).failed == {}
    return config


def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    worked: tuple[Files, RunConfig], tmp_path: Path
) -> None:
    directory = tmp_path / "sink" / "skipped" / "bucket=0"
    directory.rename(tmp_path / "elsewhere")
    directory.touch()  # a file where the directory was
    assert check(*worked).failed == {0: "skipped/bucket=0/skipped.parquet cannot be read: Not a directory"}


def test_a_bucket_stays_the_one_it_is() -> None:
    with pytest.raises(FrozenInstanceError):
        Bucket(0, 4).number = 4  # type: ignore[misc]
