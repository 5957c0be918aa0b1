"""First steps: create the tables, load data, and try the program on a sample catalogue."""
