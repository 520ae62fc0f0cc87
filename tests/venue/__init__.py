"""A trading venue outside of our process, over real HTTP: Coinbase Advanced Trade, Binance spot, and Bybit.

What a test uses:

- :class:`tests.venue.server.FakeVenue` starts it (``with FakeVenue() as venue``), ``venue.url`` is where it listens;
- ``venue.add_account("anna", {"USD": "10000"})`` gives an API key, a secret, and wallets of its own;
- :class:`tests.venue.control.Control` is what a test may do to it: prices, books, faults, looking at orders and fills.
  ``venue.control`` is one in this process, ``RemoteVenue(url)`` the same from any other.

By hand: ``python -m tests.venue --port 9000``.
"""
