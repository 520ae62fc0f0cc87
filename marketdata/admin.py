"""Market data in the admin: to look at; the loops write it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from marketdata.models import CandleSeries, MarketStatus, Product


class _ReadOnlyAdmin(admin.ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Product)
class ProductAdmin(_ReadOnlyAdmin):
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
class CandleSeriesAdmin(_ReadOnlyAdmin):
    """Which candles are held."""

    list_display = ["product", "timeframe", "start", "end"]
    list_filter = ["timeframe", "product__exchange"]
    list_select_related = ["product"]
    search_fields = ["product__symbol"]


@admin.register(MarketStatus)
class MarketStatusAdmin(_ReadOnlyAdmin):
    """How each market answers."""

    list_display = ["exchange", "feed", "last_success_at", "last_error_at", "consecutive_failures", "last_error"]
    list_filter = ["exchange", "feed"]
