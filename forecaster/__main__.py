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
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt during the imports shows no traceback
    hide_password()
    stderr = tolerate()
    sys.excepthook = without_secrets
    if not sys.warnoptions:  # warnings of libraries are for developers, not for users
        warnings.simplefilter("ignore")
        sys.warnoptions.append("ignore")  # also in processes that multiprocessing starts
    # Imports create some hundred thousand objects that live until the end: the collector need not visit them.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    # NumPy's products are too small here to gain from threads, which would compete with those of Polars.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from forecaster.process.signals import ended_by_signals  # noqa: PLC0415 - with the password hidden

    with ended_by_signals(stderr):
        from forecaster.cli import main  # noqa: PLC0415 - with signals handled

        main(prog_name="forecaster")


if __name__ == "__main__":
    start()
