"""A data directory that is made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from forecaster.postgres.embedded import running_server
from tests.conftest import short_directory
from tests.embedded import pid_file


@pytest.fixture(scope="package")
def made() -> Iterator[Path]:
    """A data directory with a database in it: made once, because that takes the most time."""
    with short_directory() as parent:
        with running_server(parent / "data"):
            pass
        yield parent / "data"


@pytest.fixture
def data_dir(made: Path) -> Iterator[Path]:
    """The same for a test that leaves it whole and its server stopped."""
    yield made
    assert not pid_file(made).exists()
