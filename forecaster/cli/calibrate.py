"""`forecaster calibrate`: learn from the catalogue's own past, and keep what was found as a record."""

import json
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from forecaster.cli.calibration import told
from forecaster.cli.calibration_file import is_file, read_file, write_file
from forecaster.cli.grid import Grid
from forecaster.cli.options import was_typed
from forecaster.cli.output import Output
from forecaster.cli.run import Spread
from forecaster.cli.runs import as_json_types
from forecaster.cli.where import Where
from forecaster.errors import InvalidOptionError
from forecaster.files.atomic import check_target
from forecaster.model.calibrated.calibrate import RowsAsked
from forecaster.model.calibrated.calibration import Calibration
from forecaster.model.parameters import AgeFrom
from forecaster.parquet.calibrate import calibrate as calibrate_files
from forecaster.parquet.catalogue import find_catalogue
from forecaster.postgres.calibrate import calibrate as calibrate_tables
from forecaster.postgres.calibrate import store
from forecaster.postgres.calibrations import list_calibrations, opened_calibrations, read_calibration
from forecaster.run.calibrating import CALIBRATION, Calibrating
from forecaster.run.report import Report


@dataclass(frozen=True)
class Asked:
    """What to calibrate, or which record to show, write or store."""

    as_of: date | None
    cutoff: date | None
    rows: RowsAsked
    age_from: AgeFrom
    listed: bool
    shown: str | None
    export: Path | None
    imported: Path | None
    source: str | None
    """None: the catalogue is in a database."""
    mldr: str | None

    def __post_init__(self) -> None:
        given = {"list": self.listed, "show": self.shown, "import": self.imported}
        named = [f"--{name}" for name, value in given.items() if value]
        if len(named) > 1 or (self.export and (self.listed or self.imported)):
            words = [*named, *(["--export"] if self.export else [])]
            raise InvalidOptionError(f"{' and '.join(words)} contradict each other")
        if self.as_of and self.cutoff:
            raise InvalidOptionError(
                "--as-of and --cutoff contradict each other", hint="--cutoff is the day after --as-of"
            )
        if self.export:
            check_target(self.export)
        self._check_source(named)
        if named and was_typed("engine"):
            raise InvalidOptionError(
                f"--engine and {named[0]} contradict each other",
                hint=f"omit --engine: {named[0]} calculates nothing",
            )

    def _check_source(self, named: list[str]) -> None:
        if self.source is None:
            if was_typed("mldr"):
                raise InvalidOptionError("--mldr needs --source")
        elif named and was_typed("source"):
            raise InvalidOptionError(
                f"--source and {named[0]} contradict each other",
                hint="a catalogue in files keeps no calibrations: with --source, they are files",
            )
        elif not named and self.export is None:
            raise InvalidOptionError(
                "no file is given for the calibration",
                hint="with --source, give --export FILE.json",
            )

    @property
    def calibrating(self) -> Calibrating:
        """What to calibrate."""
        before = self.cutoff - timedelta(days=1) if self.cutoff else None
        return Calibrating(self.as_of or before, self.rows, self.age_from)


def calibrate(asked: Asked, where: Where, spread: Spread, output: Output) -> None:
    """Calibrate on a database and store the record; or list, show or import records."""
    if asked.listed:
        _list(where, output)
    elif asked.shown is not None:
        _tell(_shown(asked.shown, where), asked, output, stored=0)
    elif asked.imported is not None:
        found = read_file(f"{asked.imported}")
        with where.database() as dsn:
            is_new = store(dsn, where.schema, found)
        _tell(found, asked, output, stored=int(is_new))
    elif asked.source is not None:
        where.check_not_typed()
        _tell(_of_files(asked.source, asked, spread, output), asked, output, stored=0)
    else:
        report = Report(CALIBRATION)
        with where.database() as dsn, output.following(report), spread.workers() as workers:
            found, is_new = calibrate_tables(dsn, where.schema, asked.calibrating, report, workers=workers)
        _tell(found, asked, output, stored=int(is_new))


def _shown(named: str, where: Where) -> Calibration:
    if is_file(named):
        return read_file(named)
    with where.database() as dsn, opened_calibrations(dsn, where.schema) as (read, tables):
        return read_calibration(read, tables, named)


def _of_files(source: str, asked: Asked, spread: Spread, output: Output) -> Calibration:
    report = Report(CALIBRATION)
    with output.following(report), spread.workers() as workers:
        return calibrate_files(find_catalogue(source, asked.mldr), asked.calibrating, report, workers=workers)


def _tell(found: Calibration, asked: Asked, output: Output, *, stored: int) -> None:
    if asked.export:
        write_file(found, asked.export)
    output.say("\n".join(told(found)))
    output.finish({}, calibration=found.id, tracks=found.tracks, origins=len(found.origins), stored=stored)
    output.document(lambda: json.dumps(_as_json(found), indent=2))


def _as_json(found: Calibration) -> dict[str, Any]:
    """Return the record, and beside it the numbers of artists, where they are known."""
    artists = {} if found.artists is None else {"artists": asdict(found.artists)}
    return {**json.loads(found.to_json()), **artists}


def _list(where: Where, output: Output) -> None:
    with where.database() as dsn, opened_calibrations(dsn, where.schema) as (read, tables):
        found = list_calibrations(read, tables)
    if len(found):
        output.say("\n".join(_lines(found)))
    output.finish({}, calibrations=len(found))
    output.document(lambda: json.dumps({"calibrations": as_json_types(found)}, indent=2))


def _lines(found: pl.DataFrame) -> list[str]:
    shown = ("id", "created_at", "tracks", "origins", "loss_before", "loss_after")
    loss = partial("{:.3f}".format)
    rows = [
        [
            row["id"],
            f"{row['created_at']:%Y-%m-%d %H:%M}",
            f"{row['tracks']:,}",
            f"{row['origins']}",
            *("-" if row[name] is None else loss(row[name]) for name in shown[-2:]),
        ]
        for row in found.iter_rows(named=True)
    ]
    headings = ["calibration", "stored (UTC)", "tracks", "origins", "production", "chosen"]
    return Grid(headings, left={"calibration", "stored (UTC)"}).lines(rows)
