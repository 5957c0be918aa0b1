"""Everything that is asked of a server before its tables are read, in one statement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forecaster.postgres import rights, runs, server, tables
from forecaster.postgres.answers import Rows, answers
from forecaster.postgres.connection import UNCOMPILED, Connection
from forecaster.postgres.server import ServerState
from forecaster.postgres.tables import Tables
from forecaster.tables import STREAMS_TABLE


@dataclass(frozen=True)
class Look:
    """What the server says of itself, of the tables of a schema, and of this user's rights on them."""

    state: ServerState
    tables: Tables
    lacking: Rows
    """For `check_rights`."""
    lacking_to_keep: Rows
    """For `why_not_kept`."""


def look(
    connection: Connection, schema: str, wanted: Mapping[str, Sequence[str]], *, streams: str = STREAMS_TABLE
) -> Look:
    """Look at a server; `wanted`: rights by table, `streams`: the name of the table of streams.

    Raises `SchemaMismatchError` for an invalid name.
    """
    tables.check_names(schema, streams)
    questions = {
        "uncompiled": UNCOMPILED,
        "state": server.STATE,
        **tables.QUESTIONS,
        "lacking": rights.lacking(wanted),
        "lacking_to_keep": runs.LACKING,
    }
    found = answers(connection, questions, (schema, streams))
    described = tables.tables_from(found, schema, streams)
    state = server.state_from(found["state"][0])
    return Look(state, described, found["lacking"], found["lacking_to_keep"])
