"""Every error a user can meet: one class per cause, each with its exit code and a hint."""

from textwrap import shorten
from typing import ClassVar


class ForecasterError(Exception):
    """Root of all errors that `forecaster` raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InvalidOptionError(ForecasterError):
    """An option or parameter has a value that cannot be used."""

    exit_code = 2


class DatabaseUnreachableError(ForecasterError):
    """No connection to the database could be made."""

    exit_code = 3


class SchemaMismatchError(ForecasterError):
    """A table or frame lacks a column, or has one of a type that cannot work."""

    exit_code = 4


class LockedError(ForecasterError):
    """Another process is writing to the same tables."""

    exit_code = 5


class DatabaseError(ForecasterError):
    """The server refused a statement."""


class ConnectionLostError(DatabaseError):
    """A connection that was there is gone."""


class StalledError(ForecasterError):
    """The database says nothing more, and does nothing for us."""

    exit_code = 3


class UnsafeSocketError(DatabaseUnreachableError):
    """Another user may listen on the socket."""


class TurnedAwayError(DatabaseUnreachableError):
    """The server answers, and lets nobody in just now."""


class WriteRefusedError(ForecasterError):
    """Rows were not stored, because they are not what was computed or do not fit the table."""


class BadFileError(ForecasterError):
    """A file cannot be read, or holds rows that cannot be stored."""


class BucketsFailedError(ForecasterError):
    """Some buckets of a catalogue could not be worked; the others are done."""


class EngineError(ForecasterError):
    """What spreads the work over processes cannot be reached, or is lost."""

    exit_code = 3


class WorkerError(ForecasterError):
    """A worker failed at a piece of work, or several were lost at it."""


class NoForecastError(ForecasterError):
    """The track asked for is unknown or gets no forecast."""


class EmbeddedServerError(ForecasterError):
    """The embedded PostgreSQL server could not be started."""

    exit_code = 3


class MissingExtraError(ForecasterError):
    """An optional package that this command needs is not installed."""


def in_one_line(error: BaseException) -> str:
    """What an error says, as far as it fits into one line of ours; with its kind, where it is no sentence."""
    text = shorten(f"{error}", 300, placeholder="...")
    return text if " " in text else f"{type(error).__name__} {text}".strip()
