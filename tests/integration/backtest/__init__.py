"""Backtests of what is stored."""
