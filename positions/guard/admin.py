"""Guards in the admin site, to look at: whoever stops or releases an account does it as its owner."""

from __future__ import annotations

from django.contrib import admin

from accounts.models import EquitySnapshot, PropGuardEvent, PropGuardRules, PropGuardState
from tradebot.core.admin import ReadOnlyAdmin


@admin.register(PropGuardRules)
class PropGuardRulesAdmin(ReadOnlyAdmin):
    """The limits of accounts."""

    list_display = ["account", "enabled", "initial_deposit", "currency", "daily_limit_pct", "total_limit_pct"]
    list_filter = ["enabled"]
    list_select_related = ["account"]
    search_fields = ["account__name", "account__owner__email"]


@admin.register(PropGuardState)
class PropGuardStateAdmin(ReadOnlyAdmin):
    """Where guarded accounts stand."""

    list_display = ["account", "last_equity", "last_equity_at", "day_start_equity", "killed_at", "settled_at"]
    list_filter = ["kill_reason"]
    list_select_related = ["account"]
    search_fields = ["account__name", "account__owner__email"]


@admin.register(PropGuardEvent)
class PropGuardEventAdmin(ReadOnlyAdmin):
    """What guards did."""

    list_display = ["at", "account", "kind", "message", "actor"]
    list_filter = ["kind"]
    list_select_related = ["account"]
    search_fields = ["account__name", "account__owner__email"]


@admin.register(EquitySnapshot)
class EquitySnapshotAdmin(ReadOnlyAdmin):
    """What guarded accounts were worth."""

    list_display = ["at", "account", "equity", "currency"]
    list_select_related = ["account"]
    search_fields = ["account__name", "account__owner__email"]
