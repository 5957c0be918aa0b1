"""Versions of the installed packages."""


def version(package: str) -> str:
    """Return the version of an installed package."""
    from importlib.metadata import version  # noqa: PLC0415 - takes long, and few commands need it

    return version(package)
