"""Every error a user can meet: one class per cause, each with its exit code and a hint.

ForecasterError                    1
├── InvalidOptionError             2
├── DatabaseUnreachableError       3
│   ├── UnsafeSocketError          3
│   └── TurnedAwayError            3
│       └── ConnectionLimitError   3
├── PooledError                    3
├── StalledError                   3
├── SchemaMismatchError            4
├── LockedError                    5
├── DatabaseError                  1
│   └── ConnectionLostError        1
├── WriteRefusedError              1
│   └── DisturbedError             1   in `forecaster.postgres.sifting`, which handles it
├── BadFileError                   1
├── BucketsFailedError             1
├── EngineError                    3
├── WorkerError                    1
├── NoForecastError                1
├── CalibrationError               1
├── EmbeddedServerError            3
├── MissingExtraError              1
├── ImplausibleError               6
└── UnexpectedError                1   in `forecaster.process.unexpected`, next to what it translates

The number is the exit code. Each class says whether it makes sense to try the same again; its subclasses
follow it unless they say otherwise. A run itself retries only `ConnectionLostError` and
`DatabaseUnreachableError` except `ConnectionLimitError`, and only after the place has answered once.
"""

from textwrap import shorten
from typing import ClassVar


class ForecasterError(Exception):
    """Root of all errors that `forecaster` raises on purpose. Retry only where the subclass says so."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InvalidOptionError(ForecasterError):
    """An option or parameter has an invalid value. A retry fails again: change the value."""

    exit_code = 2


class DatabaseUnreachableError(ForecasterError):
    """The database cannot be reached. A retry makes sense: server or network may be down for a while."""

    exit_code = 3


class SchemaMismatchError(ForecasterError):
    """A table or frame lacks a column, or one has the wrong type. A retry fails again: change the table."""

    exit_code = 4


class LockedError(ForecasterError):
    """Another process writes to the same tables or the same bucket. A retry makes sense once it has ended."""

    exit_code = 5


class DatabaseError(ForecasterError):
    """The server refused a statement, or a write was cut off. Follow the hint, then retry."""


class ConnectionLostError(DatabaseError):
    """An open connection was lost while reading. A retry makes sense; a run does it by itself."""


class PooledError(ForecasterError):
    """A pooler hands out transactions, so that no lock would hold. A retry fails again: avoid the pooler."""

    exit_code = 3


class StalledError(ForecasterError):
    """The database stopped answering in the middle of a statement. A retry makes sense once it answers."""

    exit_code = 3


class UnsafeSocketError(DatabaseUnreachableError):
    """Another user may listen on the socket. A retry fails again: name the server or its user."""


class TurnedAwayError(DatabaseUnreachableError):
    """The server answers but accepts no connections at the moment. A retry makes sense."""


class ConnectionLimitError(TurnedAwayError):
    """The server, the database or the user has too few connections left. A retry makes sense only later."""


class WriteRefusedError(ForecasterError):
    """Rows were not stored: they do not fit the table, or the table would not hold what was computed.

    A retry fails again: change the table, its triggers or the data.
    """


class BadFileError(ForecasterError):
    """A file cannot be read or written, or holds rows that cannot be stored. Correct the file, then retry."""


class BucketsFailedError(ForecasterError):
    """Some buckets of a catalogue failed; the others are done. A retry computes only those that failed."""


class EngineError(ForecasterError):
    """The execution engine cannot be reached or was lost. A retry makes sense; finished batches stay done."""

    exit_code = 3


class WorkerError(ForecasterError):
    """A worker failed at a task, or too many workers were lost at it. Follow the hint, then retry."""


class NoForecastError(ForecasterError):
    """The track asked for is unknown or gets no forecast. A retry fails again until the data change."""


class CalibrationError(ForecasterError):
    """A calibration is missing, was changed, or does not fit. A retry fails again: calibrate anew."""


class EmbeddedServerError(ForecasterError):
    """The embedded PostgreSQL server could not be started. Follow the hint, then retry."""

    exit_code = 3


class MissingExtraError(ForecasterError):
    """An optional package that this command needs is not installed. Install it, then retry."""


class ImplausibleError(ForecasterError):
    """A strict check finds the data of a run implausible. Correct the data, then retry."""

    exit_code = 6


def in_one_line(error: BaseException) -> str:
    """Shorten the text of an error to one line; add its type if the text is a single word."""
    text = shorten(f"{error}", 300, placeholder="...")
    return text if " " in text else f"{type(error).__name__} {text}".strip()
