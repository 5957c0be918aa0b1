"""Entry point of `forecaster` and `python -m forecaster`: set up the process, then run the command line."""

import atexit
import gc
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

from forecaster.process.secrets import hide_password, without_secrets
from forecaster.process.stdio import tolerate


def start() -> None:
    """Set up secrets, output, warnings and signals of the process, and run the command line."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # so that an interrupt during imports shows no traceback
    hide_password()
    stderr = tolerate()
    sys.excepthook = without_secrets
    if not sys.warnoptions:  # warnings of libraries are for developers, not for users
        warnings.simplefilter("ignore")
        sys.warnoptions.append("ignore")  # also in processes that multiprocessing starts
    # Imports create some 100,000 objects that live until the end: the garbage collector need not visit them.
    gc.set_threshold(100_000)
    codes: list[int] = []
    atexit.register(_end, codes)  # the first to be registered is the last to be called
    # The matrix products of NumPy are too small to gain from threads, which would compete with Polars.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from forecaster.process.signals import ended_by_signals  # noqa: PLC0415 - with the password hidden

    with ended_by_signals(stderr):
        from forecaster.cli import main  # noqa: PLC0415 - with signals handled

        try:
            main(prog_name="forecaster")
        except SystemExit as ended:
            codes += [ended.code] if isinstance(ended.code, int) else []
            raise


def _end(codes: Sequence[int]) -> None:
    """End the process without freeing its memory object by object, which takes a tenth of a second."""
    gc.freeze()
    with suppress(OSError):  # Python reports it
        sys.stdout.flush()
        sys.stderr.flush()
        for code in codes:
            os._exit(code)


if __name__ == "__main__":
    start()
