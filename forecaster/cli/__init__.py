"""The command line: every command parses, calls one function, and prints."""

import click

from forecaster.cli.base import Group
from forecaster.cli.begin import completion, demo, init, load
from forecaster.cli.look import doctor, dump, export, plot, report
from forecaster.cli.nightly import mldr, run
from forecaster.cli.scale import prepare, shard
from forecaster.cli.score import evaluate


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="forecaster")
def main() -> None:
    """Forecast the streams of every track of a music catalogue in PostgreSQL.

    \b
    Example:
      forecaster demo
    """


for _command in (
    demo,
    init,
    load,
    mldr,
    run,
    dump,
    plot,
    report,
    export,
    evaluate,
    prepare,
    shard,
    doctor,
    completion,
):
    main.add_command(_command)
