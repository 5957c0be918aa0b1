"""`forecaster` and `python -m forecaster`: the program as a process."""

import signal

from forecaster.secrecy import hide_password


def start() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a traceback of the imports is of no use to anyone
    hide_password()
    from forecaster.interrupt import ended_by_signals  # noqa: PLC0415 - with the password hidden

    with ended_by_signals():
        from forecaster.cli import main  # noqa: PLC0415 - with signals handled

        main(prog_name="forecaster")


if __name__ == "__main__":
    start()
