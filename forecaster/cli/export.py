"""`forecaster export`: write the stored forecasts in the format of other tools."""

from datetime import date
from pathlib import Path
from typing import Literal

from forecaster.cli.output import Output
from forecaster.cli.where import Where
from forecaster.files.tables import check_output_path, write_table
from forecaster.postgres.catalogue import open_source
from forecaster.views.export import nixtla


def export(form: Literal["nixtla"], out: Path, as_of: date | None, where: Where, output: Output) -> None:  # noqa: ARG001 - one so far
    """Write the stored forecasts to a file."""
    check_output_path(out)
    with where.database() as dsn, output.doing("read"), open_source(dsn, where.schema) as source:
        rows, warnings = nixtla(source, as_of=as_of)
    output.warn(warnings)
    write_table(rows, out)
    tracks = rows["unique_id"].n_unique()
    output.finish(
        {"tracks": f"{tracks:,}", "rows": f"{len(rows):,}", "written to": f"{out}"},
        tracks=tracks,
        rows=len(rows),
    )
