"""Schemas of the frames that modules exchange, and casting of rows to the types of columns."""
