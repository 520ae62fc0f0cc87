"""Market data in the admin: to look at, as the loops write it. What the operator thinks of coins is edited here."""

from __future__ import annotations

from django.contrib import admin

from marketdata.models import CandleSeries, Coin, MarketStatus, Product
from tradebot.core.admin import AuditedAdmin, ReadOnlyAdmin


@admin.register(Product)
class ProductAdmin(ReadOnlyAdmin):
    """Products and their terms."""

    list_display = [
        "symbol",
        "exchange",
        "status",
        "kind",
        "price_increment",
        "base_increment",
        "min_quote",
        "refreshed_at",
    ]
    list_filter = ["exchange", "status", "kind", "quote"]
    search_fields = ["symbol", "base"]


@admin.register(CandleSeries)
class CandleSeriesAdmin(ReadOnlyAdmin):
    """Which candles are held."""

    list_display = ["product", "timeframe", "start", "end"]
    list_filter = ["timeframe", "product__exchange"]
    list_select_related = ["product"]
    search_fields = ["product__symbol"]


@admin.register(MarketStatus)
class MarketStatusAdmin(ReadOnlyAdmin):
    """How each market answers."""

    list_display = ["exchange", "feed", "last_success_at", "last_error_at", "consecutive_failures", "last_error"]
    list_filter = ["exchange", "feed"]


@admin.register(Coin)
class CoinAdmin(AuditedAdmin):
    """How far each coin is trusted, and which are stable. People may think otherwise for themselves."""

    list_display = ["code", "category", "is_stable", "note"]
    list_filter = ["category", "is_stable"]
    search_fields = ["code", "note"]
