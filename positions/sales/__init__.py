"""Selling and converting coins that no deal holds, by hand: what the market offers, what it comes to, doing it."""
