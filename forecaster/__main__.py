"""`forecaster` and `python -m forecaster`: the program as a process."""

from forecaster import interrupt
from forecaster.secrecy import hide_password


def start() -> None:
    """Run the command line."""
    hide_password()
    interrupt.install()
    from forecaster.cli import main  # noqa: PLC0415 - with the password hidden

    main(prog_name="forecaster")


if __name__ == "__main__":
    start()
