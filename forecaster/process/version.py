"""The version of the program; the package takes it from here."""

VERSION = "0.1.0"
"""Read from no metadata, because what reads them takes long to import."""
