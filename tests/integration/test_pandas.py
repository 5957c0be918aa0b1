"""A command does not import pandas, even where it is installed."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from forecaster.postgres.dsn import Dsn
from tests.tables import load_golden


@pytest.mark.parametrize("command", ["run", "run --replace", "doctor", "mldr"])
def test_pandas_is_left_alone_where_it_is_installed(embedded_database: Dsn, command: str) -> None:
    """It takes as long to import as everything else together, and pyarrow imports it unasked."""
    load_golden(embedded_database)
    program = (
        "import sys\n"
        "from forecaster.__main__ import start\n"
        "try:\n    start()\n"
        "finally:\n    assert 'polars' in sys.modules\n    print('pandas' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split()],
        env={"DATABASE_URL": embedded_database.uri, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert find_spec("pandas")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False"
