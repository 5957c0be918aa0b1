"""The program as a user has it."""
