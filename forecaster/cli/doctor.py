"""`forecaster doctor`: check what a run needs."""

import json

import click

from forecaster.cli.output import Output
from forecaster.cli.where import Where
from forecaster.doctor import Finding, examine
from forecaster.model.parameters import Parameters
from forecaster.run.plausible import Plausibility

_COLORS = {"ok": "green", "warning": "yellow", "error": "red"}


def doctor(parameters: Parameters, plausibility: Plausibility, where: Where, output: Output) -> None:
    """Print each finding, and exit with the exit code of a run."""
    with where.database() as dsn, output.doing("examine"):
        examination = examine(
            dsn, where.schema, parameters, options=where.options(dsn), plausibility=plausibility
        )
    for finding in examination.findings:
        output.say(_described(finding), always=finding.level != "ok")
    levels = [finding.level for finding in examination.findings]
    output.finish({}, ok=levels.count("ok"), warnings=levels.count("warning"), errors=levels.count("error"))
    output.document(lambda: json.dumps(examination.to_dict(), indent=2))
    click.get_current_context().exit(examination.exit_code)


def _described(finding: Finding) -> str:
    level = click.style(f"{finding.level:<8}", fg=_COLORS[finding.level], bold=finding.level != "ok")
    fix = f"fix: {finding.fix}".splitlines() if finding.fix else []
    return "\n".join([f"{level}{finding.about}: {finding.found}", *(f"        {line}" for line in fix)])
