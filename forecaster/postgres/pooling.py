"""Poolers between this program and the server: a run needs sessions of its own."""

from forecaster.errors import PooledError

_FIX = "connect to the server itself, or set pool_mode = session in the pooler"


def pooled(why: str) -> PooledError:
    """Return the error for a pooler that hands out transactions; `why`: what showed it."""
    return PooledError(
        "a pooler in transaction mode is between this program and the server, so neither the lock nor the "
        f"snapshot of a run would hold: {why}",
        hint=_FIX,
    )


def check_sessions(first: int, between: int | None, again: int | None) -> None:
    """Raise `PooledError` if a connection does not keep a server process of its own.

    Takes the process of one connection outside of a transaction, that of another connection in a
    transaction, and that of the first one meanwhile; None if it is not known.
    """
    if first == between:
        raise pooled(f"server process {first} serves two connections at once")
    if again is not None and first != again:
        raise pooled(f"one connection is served by server process {first}, then by {again}")
