"""A connection that is lost while reading is made anew, with a limit."""

import time
from collections.abc import Callable

from forecaster.errors import ConnectionLostError, DatabaseUnreachableError
from forecaster.run.report import Report

_PAUSES = (0.5, 1.0, 2.0)  # seconds before each new try


def persevere(attempt: Callable[[], None], report: Report, *, was_reached: Callable[[], bool]) -> None:
    """Make the attempt, which goes on where the last one was, until one is not cut off.

    Raises what the last attempt raises, and at once what is not a lost connection, or as long as the place
    was never reached. Fills in the report's seconds, whatever happens.
    """
    start = time.perf_counter()
    try:
        for pause in (*_PAUSES, None):
            try:
                return attempt()
            except (ConnectionLostError, DatabaseUnreachableError) as error:
                if pause is None or not was_reached():
                    raise
                report.warnings.append(f"connected anew: {error}")
                time.sleep(pause)
    finally:
        report.seconds = time.perf_counter() - start
