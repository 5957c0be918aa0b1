"""PostgreSQL: tables, reading, writing, and the embedded server."""
