"""Deals, orders and fills in the admin site: to look at. Only the order protocol writes them."""

from __future__ import annotations

from django.contrib import admin

from positions.guard import admin as guard_admin  # noqa: F401 (registers its own pages)
from positions.models import Bracket, Fill, FundingPayment, Order, PerpsTerms, Position, UnmatchedFill
from tradebot.core.admin import ReadOnlyAdmin


@admin.register(Position)
class PositionAdmin(ReadOnlyAdmin):
    """Deals."""

    list_display = [
        "id",
        "account",
        "bot_name",
        "product",
        "direction",
        "status",
        "deal_number",
        "base_held",
        "realised_quote",
        "exit_reason",
        "opened_at",
        "closed_at",
    ]
    list_filter = ["status", "direction", "exit_reason", "strategy"]
    list_select_related = ["account", "product"]
    search_fields = ["bot_name", "account__name", "account__owner__email", "product__symbol"]
    date_hierarchy = "created_at"


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    """Orders, from intent to end."""

    list_display = [
        "id",
        "account",
        "position",
        "purpose",
        "sequence",
        "side",
        "order_type",
        "status",
        "base_size",
        "quote_size",
        "limit_price",
        "filled_base",
        "error_code",
        "actor",
        "created_at",
    ]
    list_filter = ["status", "purpose", "order_type", "side"]
    list_select_related = ["account", "position"]
    search_fields = ["client_order_id", "venue_order_id", "account__name", "account__owner__email"]
    date_hierarchy = "created_at"


@admin.register(Fill)
class FillAdmin(ReadOnlyAdmin):
    """Executions that venues confirmed."""

    list_display = [
        "id",
        "at",
        "account",
        "position",
        "side",
        "price",
        "base",
        "quote",
        "fee",
        "fee_currency",
        "is_maker",
    ]
    list_filter = ["side", "is_maker"]
    list_select_related = ["account", "position"]
    search_fields = ["venue_trade_id", "account__name", "account__owner__email"]
    date_hierarchy = "at"


@admin.register(UnmatchedFill)
class UnmatchedFillAdmin(ReadOnlyAdmin):
    """Executions that belong to no order of ours: reported, never adopted (F11)."""

    list_display = ["id", "at", "account", "symbol", "side", "price", "base", "reported_at"]
    list_select_related = ["account"]
    search_fields = ["venue_trade_id", "symbol", "account__name", "account__owner__email"]


@admin.register(PerpsTerms)
class PerpsTermsAdmin(ReadOnlyAdmin):
    """What makes deals perpetual ones."""

    list_display = [
        "position",
        "account",
        "product",
        "leverage",
        "margin_mode",
        "margin",
        "liquidation_price",
        "funding_quote",
        "checked_at",
        "ended_at",
    ]
    list_filter = ["margin_mode", "leverage"]
    list_select_related = ["position", "account", "product"]
    search_fields = ["account__name", "account__owner__email", "product__symbol"]


@admin.register(Bracket)
class BracketAdmin(ReadOnlyAdmin):
    """Take profits and stops that are wanted, and alarms of those that do not stand."""

    list_display = ["position", "account", "take_profit", "stop_loss", "watched", "alarm_code", "alarm_at", "failures"]
    list_filter = ["alarm_code", "watched"]
    list_select_related = ["position", "account"]
    search_fields = ["account__name", "account__owner__email"]


@admin.register(FundingPayment)
class FundingPaymentAdmin(ReadOnlyAdmin):
    """Funding that venues confirmed."""

    list_display = ["at", "account", "position", "amount", "rate", "venue_id"]
    list_select_related = ["account", "position"]
    search_fields = ["venue_id", "account__name", "account__owner__email"]
    date_hierarchy = "at"
