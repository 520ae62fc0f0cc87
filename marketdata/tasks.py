"""Celery entry points of the market data loops: parse, call one service."""

from __future__ import annotations

from celery import shared_task

from marketdata import services

__all__ = ["refresh_candles", "refresh_prices", "refresh_products"]


@shared_task
def refresh_products(exchange: str) -> None:
    """Bring the product list of one market up to date."""
    services.refresh_products(exchange)


@shared_task
def refresh_prices(exchange: str, symbols: list[str]) -> None:
    """Fetch prices of one market."""
    services.refresh_prices(exchange, symbols)


@shared_task
def refresh_candles(exchange: str, wanted: dict[str, list[str]]) -> None:
    """Fetch missing candles of one market: ``{symbol: [timeframe, …]}``."""
    services.refresh_candles(exchange, wanted)
