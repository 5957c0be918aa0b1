"""One thing each, in memory."""
