"""Auto-buy in the admin site, to look at."""

from __future__ import annotations

from django.contrib import admin

from accounts.models import AutoBuyRule
from bots.models import AutoBuyDecision
from tradebot.core.admin import ReadOnlyAdmin


@admin.register(AutoBuyRule)
class AutoBuyRuleAdmin(ReadOnlyAdmin):
    """What accounts buy by themselves."""

    list_display = ["account", "coin", "currency", "enabled", "minimum", "order_type", "last_message"]
    list_filter = ["enabled", "currency"]
    list_select_related = ["account"]
    search_fields = ["account__name", "account__owner__email"]


@admin.register(AutoBuyDecision)
class AutoBuyDecisionAdmin(ReadOnlyAdmin):
    """What the rules decided."""

    list_display = ["at", "account", "code", "message"]
    list_select_related = ["account"]
    search_fields = ["account__name", "account__owner__email", "code"]
