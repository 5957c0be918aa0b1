"""The command line: each command parses its options, calls one function, and prints the result."""

from forecaster.cli.app import main

__all__ = ["main"]
