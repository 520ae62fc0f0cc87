"""One suite of behaviours for every venue: paper, Coinbase, Binance and Bybit (these on the fake venue, over HTTP)."""
