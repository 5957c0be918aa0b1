"""Execution engines: in this process, and on Dask."""
