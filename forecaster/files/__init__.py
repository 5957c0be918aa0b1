"""Read tables from files and write them, and parse the exports of music services."""
