"""A calibration in a file, which an option names in place of an id."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from forecaster.errors import BadFileError
from forecaster.files.atomic import write_text
from forecaster.files.paths import refusing
from forecaster.run.config import RunConfig

if TYPE_CHECKING:
    from forecaster.model.calibrated.calibration import Calibration

_ENDING = ".json"


def is_file(named: str) -> bool:
    """Whether this names a file with a calibration, and not the id of one that is stored."""
    return named.endswith(_ENDING) or "/" in named


def read_file(path: str) -> "Calibration":
    """Read a calibration. Raises `BadFileError` if it is unreadable, `CalibrationError` if it is none."""
    from forecaster.model.calibrated import calibration  # noqa: PLC0415 - few have a file

    with refusing(path, "read"), Path(path).open("rb") as file:
        data = file.read(calibration.LARGEST + 1)  # a name may be that of any file, however large
    if len(data) > calibration.LARGEST:
        raise BadFileError(f"{path} is not a calibration: it is larger than {calibration.LARGEST:,} bytes")
    try:
        return calibration.Calibration.from_json(data.decode(), name=path)
    except UnicodeDecodeError:
        raise BadFileError(f"{path} is not a calibration: it is not text in UTF-8") from None


def write_file(calibration: "Calibration", path: Path) -> None:
    """Write a calibration, completely or not at all. Raises `BadFileError` like `write_text`."""
    write_text(f"{calibration.to_json()}\n", path)


def with_file_read(config: RunConfig) -> RunConfig:
    """Replace the name of a file by the calibration in it; leave an id as it is. Raises like `read_file`."""
    named = config.calibration
    if isinstance(named, str) and is_file(named):
        return replace(config, calibration=read_file(named))
    return config
