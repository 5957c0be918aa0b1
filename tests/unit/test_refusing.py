"""What a file is refused for is told apart from faults, whatever else is being imported meanwhile."""

import sys
from types import ModuleType

import pytest

from forecaster.errors import BadFileError
from forecaster.files.paths import refusing


def test_while_another_thread_imports_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", ModuleType("pyarrow"))
    with pytest.raises(BadFileError, match="cannot be read: No space left"), refusing("t.csv", "read"):
        raise OSError(28, "No space left")
