"""Retry after a connection was lost while reading, a limited number of times."""

import time
from collections.abc import Callable

from forecaster.errors import ConnectionLimitError, ConnectionLostError, DatabaseUnreachableError
from forecaster.run.report import Report

_PAUSES = (0.5, 1.0, 2.0)  # seconds before each retry


def with_retries(attempt: Callable[[], None], report: Report, *, was_reached: Callable[[], bool]) -> None:
    """Call `attempt` until it is not cut off; each call continues where the last one stopped.

    Raises the error of the last attempt. Raises at once any error other than a lost connection, and a lost
    connection if the place was never reached. Sets the seconds of the report in any case.
    """
    start = time.perf_counter()
    try:
        for pause in (*_PAUSES, None):
            try:
                return attempt()
            except (ConnectionLostError, DatabaseUnreachableError) as error:
                if pause is None or not was_reached() or isinstance(error, ConnectionLimitError):
                    raise
                report.warnings.append(f"connected again after: {error}")
                time.sleep(pause)
    finally:
        report.seconds = time.perf_counter() - start
