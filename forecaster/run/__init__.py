"""Forecast and store batch by batch, from any source, on any engine."""
