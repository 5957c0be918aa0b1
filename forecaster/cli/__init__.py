"""The command line: every command parses, calls one function, and prints."""

from forecaster.cli.app import main

__all__ = ["main"]
