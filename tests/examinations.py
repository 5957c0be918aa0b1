"""What `doctor` finds, and what it says to type to mend it."""

import json
import re
import shlex

import adbc_driver_postgresql.dbapi as driver

from forecaster.doctor import Examination, Finding, examine
from forecaster.model.parameters import Parameters
from forecaster.postgres.dsn import Dsn
from tests.conftest import Cli
from tests.faults import PASSWORD_MARKS


def examined(dsn: Dsn, schema: str = "public", parameters: Parameters | None = None) -> Examination:
    """Whatever it is: what is not well can be mended, and no secret is said."""
    result = examine(dsn, schema, parameters or Parameters())
    assert all(finding.fix for finding in result.findings if finding.level != "ok"), result.findings
    text = json.dumps(result.to_dict(), ensure_ascii=False)
    assert not any(secret in text for secret in (*PASSWORD_MARKS, dsn.password or PASSWORD_MARKS[0]))
    assert result.to_dict()["exit_code"] == result.exit_code
    return result


def unwell(result: Examination, *, but: str = "decay rates") -> list[Finding]:
    return [finding for finding in result.findings if finding.level != "ok" and finding.about != but]


def the(about: str, result: Examination) -> Finding:
    """The one finding about it that is not well."""
    [finding] = [finding for finding in unwell(result, but="") if finding.about == about]
    return finding


def is_well(about: str, result: Examination) -> bool:
    levels = {finding.level for finding in result.findings if finding.about == about}
    assert levels
    return levels == {"ok"}


def execute(dsn: Dsn, *statements: str) -> None:
    """One after the other, in one session."""
    with driver.connect(dsn.uri, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def paste(dsn: Dsn, fix: str | None) -> None:
    assert fix
    execute(dsn, *re.split(r";\s", fix))


def type_in(called: Cli, dsn: Dsn, command: str) -> None:
    """As a shell would have it."""
    program, *arguments = shlex.split(command)
    assert program == "forecaster"
    result = called(*arguments, env={"DATABASE_URL": dsn.uri})
    assert result.returncode == 0, result.stderr
