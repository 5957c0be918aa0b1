"""The golden catalogue in Parquet, as it came and laid out in buckets."""

import shutil
from pathlib import Path

import pytest

from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import prepare_files
from tests.parquet import OF, write_catalogue


@pytest.fixture(scope="package")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalogue(tmp_path_factory.mktemp("golden") / "catalogue")


@pytest.fixture(scope="package")
def laid_out(golden: Path) -> Path:
    out = golden.parent / "laid out"
    prepare_files(find_catalogue(str(golden)), OF, out)
    return out


@pytest.fixture
def own(laid_out: Path, tmp_path: Path) -> Path:
    """A laid-out catalogue to spoil."""
    return Path(shutil.copytree(laid_out, tmp_path / "own"))
