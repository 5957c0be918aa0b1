"""PostgreSQL: tables, reads, writes, and the embedded server."""
