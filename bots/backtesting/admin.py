"""Backtests and sweeps in the admin site: to look at only."""

from __future__ import annotations

from django.contrib import admin

from bots.models import Backtest, Sweep
from tradebot.core.admin import ReadOnlyAdmin

__all__ = ["BacktestAdmin", "SweepAdmin"]


@admin.register(Backtest)
class BacktestAdmin(ReadOnlyAdmin):
    """Backtests of everybody: who waits, what runs, what failed."""

    list_display = ["name", "owner", "status", "progress", "candles", "wall_seconds", "created_at", "error"]
    list_filter = ["status", "exchange", "strategy"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__email"]


@admin.register(Sweep)
class SweepAdmin(ReadOnlyAdmin):
    """Sweeps of everybody."""

    list_display = ["name", "owner", "status", "progress", "total", "objective", "wall_seconds", "created_at", "error"]
    list_filter = ["status", "exchange", "objective"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__email"]
