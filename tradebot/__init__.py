"""Tradebot: a self-hosted platform on which many people run trading bots side by side."""

from tradebot.celery import app as celery_app

__all__ = ["celery_app"]
