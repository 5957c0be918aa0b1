"""`forecaster init`: create the tables that are missing."""

from forecaster.cli.output import Output
from forecaster.cli.where import Where
from forecaster.setup.init import initialise


def init(where: Where, output: Output) -> None:
    """Create the missing tables, and print their names."""
    with where.database() as dsn:
        result = initialise(dsn, where.schema)
    output.warn(result.warnings)
    created = "\n".join(f"created {name}" for name in result.created)
    output.say(created or "nothing to create: all tables exist")
    output.finish({}, created=len(result.created), warnings=len(result.warnings))
