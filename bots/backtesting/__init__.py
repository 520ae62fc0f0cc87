"""Backtests and sweeps for people: rows, jobs in the background, pages, API and commands.

The simulation itself is pure and lives in :mod:`bots.backtest`.
"""
