"""Schemas of the frames that modules exchange; cast rows to the types of columns; collect frames."""
