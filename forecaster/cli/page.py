"""Check where the page of the catalogue is written."""

from pathlib import Path

from forecaster.errors import InvalidOptionError
from forecaster.files.tables import check_output_path

_ENDINGS = (".html", ".htm")


def check_page_path(path: Path) -> None:
    """Raise what would prevent writing the page, before the work begins."""
    if not path.name.lower().endswith(_ENDINGS):
        raise InvalidOptionError(
            f"{path}: a page is HTML", hint=f"give a name that ends in {' or '.join(_ENDINGS)}"
        )
    check_output_path(path, any_ending=True)
