"""Selling everything that an account's deals hold, at once: rows, the work, pages, API."""
