"""One suite of behaviours for every venue: paper, Coinbase and Binance (both on the fake venue, over HTTP)."""
