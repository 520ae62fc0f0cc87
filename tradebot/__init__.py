"""Tradebot: a self-hosted platform on which many people run trading bots side by side."""
