"""The logger of the program."""

import logging

log = logging.getLogger("forecaster")
