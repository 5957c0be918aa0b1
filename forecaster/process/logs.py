"""The log of the program."""

import logging

log = logging.getLogger("forecaster")
