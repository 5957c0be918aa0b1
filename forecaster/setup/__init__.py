"""To begin with: create the tables, fill them, try it."""
