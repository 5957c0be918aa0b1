"""A frame to be written, files to be read, and the error over one."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from forecaster.errors import BadFileError
from forecaster.files.tables import read_table

TYPED = pl.DataFrame(
    {
        "id": [1, 2**63 - 1, None],
        "day": [date(2024, 2, 29), None, date(1, 1, 1)],
        "rate": [0.1, 1e-300, -2.5],
        "text": ["a,b", 'say "x"', "two\nlines"],
    }
)


def saved(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path) -> BadFileError:
    with pytest.raises(BadFileError) as error:
        read_table(path)
    assert str(path) in str(error.value)
    return error.value
