"""`forecaster` and `python -m forecaster`: the program as a process."""

import atexit
import gc
import os
import signal
import sys
import warnings

from forecaster.process.secrets import hide_password, without_secrets
from forecaster.process.stdio import tolerate


def start() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a traceback of the imports is of no use to anyone
    hide_password()
    stderr = tolerate()
    sys.excepthook = without_secrets
    if not sys.warnoptions:  # what libraries tell those who write programs is of no use to those who run them
        warnings.simplefilter("ignore")
        sys.warnoptions.append("ignore")  # and so in the processes that multiprocessing starts
    # Imports make some hundred thousand objects that live until the end: not to be looked at again and again.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    # NumPy's products here are too small for threads of their own, which would only keep the others waiting.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from forecaster.process.signals import ended_by_signals  # noqa: PLC0415 - with the password hidden

    with ended_by_signals(stderr):
        from forecaster.cli import main  # noqa: PLC0415 - with signals handled

        main(prog_name="forecaster")


if __name__ == "__main__":
    start()
