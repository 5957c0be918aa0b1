"""One cluster for all tests that leave it as it was, and a catalogue that is laid out."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from forecaster.parquet.catalogue import find_catalogue
from forecaster.parquet.prepare import prepare_files
from tests.cluster import BUCKETS, Cluster
from tests.parquet import write_catalogue


@pytest.fixture(scope="package")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("catalogue")
    source = find_catalogue(str(write_catalogue(directory / "files")))
    prepare_files(source, BUCKETS, directory / "laid out")
    return directory / "laid out"


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster
