"""Venues with real money, over ccxt. ccxt is imported when the first account's client is made, and not before."""
