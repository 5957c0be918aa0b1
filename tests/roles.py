"""Users of a database with some rights, for the time of a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from forecaster.postgres.dsn import Dsn
from tests import sql


@contextmanager
def granted(owner: Dsn, rights: str) -> Iterator[Dsn]:
    """Another user of the database, with these rights on all tables that are there."""
    name = f"user_{owner.dbname}"[:60]
    sql.run(owner, f"CREATE ROLE {name} LOGIN")
    sql.run(owner, f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {name}")
    yield replace(owner, user=name)
    sql.run(owner, f"DROP OWNED BY {name} CASCADE")
    sql.run(owner, f"DROP ROLE {name}")
