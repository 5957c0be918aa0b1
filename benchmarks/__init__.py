"""Benchmarks against the floor, a sequential baseline and the published timings: `python -m benchmarks`."""
