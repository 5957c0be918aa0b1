"""Views for the user: one track, the catalogue, the page, charts, backtests, exports."""
