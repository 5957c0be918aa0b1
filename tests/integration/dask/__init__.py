"""Over the workers of Dask."""
