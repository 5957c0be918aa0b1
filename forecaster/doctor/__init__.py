"""Check the configuration, the server and the tables, and suggest a fix for each problem."""

import platform
import re
import shlex
from dataclasses import replace
from importlib.metadata import version

from forecaster.doctor import (  # noqa: F401 - register checks
    calibrations,
    forecasts,
    indexes,
    plausible,
    server,
    streams,
    tables,
)
from forecaster.doctor.checks import Check, registered
from forecaster.doctor.context import Context
from forecaster.doctor.findings import Examination, Finding, Level
from forecaster.errors import ConnectionLostError, ForecasterError, StalledError, UnsafeSocketError
from forecaster.model.parameters import Parameters
from forecaster.postgres.connection import (
    UNCOMPILED_TO_THE_END,
    commit,
    connect,
    query,
    roll_back,
    statement_errors,
)
from forecaster.postgres.dsn import Dsn
from forecaster.postgres.tables import Tables
from forecaster.process.secrets import shown
from forecaster.run.plausible import Plausibility
from forecaster.run.report import PACKAGES

__all__ = ["Examination", "Finding", "Level", "examine"]

_SQL = re.compile(r"(?:ALTER|ANALYZE|BEGIN|CREATE|DELETE|DROP|GRANT|REINDEX|SELECT|VACUUM)\b")
_OTHERWISE = "look into the log of the server"


def examine(
    dsn: Dsn,
    schema: str,
    parameters: Parameters,
    *,
    options: str | None = None,
    plausibility: Plausibility | None = None,
) -> Examination:
    """Check everything that a run with these parameters depends on. Change nothing.

    `options`: the options that commands in the fixes need to find the same tables. None: only --schema, and
    not if it is public. `plausibility`: the checks of the data; None: none of them.

    A check that fails is a finding, too; only the checks that need it are left out. Raises no
    `ForecasterError`.
    """
    result = Examination(f"{dsn}", schema)
    result.versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    result.findings += [_configuration(dsn, schema), _versions(result.versions)]
    try:
        with connect(dsn, repeatable_read=True) as reader, connect(dsn, like=reader) as connection:
            query(connection, UNCOMPILED_TO_THE_END)
            commit(connection)
            context = Context(dsn, parameters, reader, connection, result, Tables(schema, {}, ()), options)
            context.plausibility = plausibility
            with context.stack:
                for check in registered():
                    _look(context, check)
    except ForecasterError as error:
        fix = error.hint or _OTHERWISE
        if not isinstance(error, UnsafeSocketError):  # whether another user's server runs does not help
            fix += f"; pg_isready -h {shlex.quote(dsn.host)} -p {dsn.port} says whether it runs"
        result.findings.append(Finding("connection", "error", f"{error}", fix, error.exit_code))
    result.findings = [
        replace(finding, found=shown(finding.found), fix=_to_paste(shown(finding.fix or "")))
        for finding in result.findings
    ]
    return result


def _configuration(dsn: Dsn, schema: str) -> Finding:
    given = ", ".join(f"{name}={value}" for name, value in dsn.parameters)
    parameters = f"with {dsn.redact(given)}" if given else "without parameters"
    return Finding("configuration", "ok", f"{dsn}, {parameters}; schema {schema!r}")


def _versions(versions: dict[str, str]) -> Finding:
    return Finding("versions", "ok", ", ".join(f"{name} {number}" for name, number in versions.items()))


def _look(context: Context, check: Check) -> None:
    findings = context.result.findings
    try:
        with statement_errors(context.dsn):
            for seen in check.function(context):  # what was found before an error stays
                findings.append(Finding(check.about, *seen))
    except (ConnectionLostError, StalledError):
        raise
    except ForecasterError as error:
        roll_back(context.connection)
        fix = error.hint or _OTHERWISE
        findings.append(Finding(check.about, "error", _one_line(error), fix, error.exit_code))


def _to_paste(fix: str) -> str | None:
    """End SQL in a semicolon, so that several fixes can be pasted one after the other."""
    return f"{fix};" if _SQL.match(fix) and not fix.endswith(";") else fix or None


def _one_line(error: ForecasterError) -> str:
    first, *others = (line.strip() for line in f"{error}".split("\n"))
    return f"{first} {'; '.join(others)}" if others else first
