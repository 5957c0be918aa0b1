"""Files that a directory, a pattern or a URL means."""
