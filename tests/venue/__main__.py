"""Start the fake venue by hand: ``python -m tests.venue --port 9000``. Prices move; the key it prints is usable.

``--key-file`` keeps the key from one start to the next. Orders and balances live as long as the process.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from tests.venue.engine import Engine
from tests.venue.keys import ApiKey, make_key
from tests.venue.model import plain
from tests.venue.server import FakeVenue

WALLETS = {"USD": "10000", "USDC": "10000", "USDT": "10000", "BTC": "0.5", "ETH": "5"}
MINUTES = 1500


def usable_key(path: Path | None) -> ApiKey:
    """Return the key that is kept in ``path``, or a new one, which is then kept there."""
    if path is not None and path.exists():
        kept = json.loads(path.read_text())
        public = serialization.load_pem_private_key(kept["secret"].encode(), None).public_key()
        return ApiKey(kept["name"], kept["secret"], "me", public)  # type: ignore[arg-type]
    key = make_key("me")
    if path is not None:
        path.touch(mode=0o600)
        path.write_text(json.dumps({"name": key.name, "secret": key.secret}))
    return key


def write_history(engine: Engine) -> None:
    """Give every book a day of minutes that lead to its price, so that indicators have something to look at."""
    now = int(datetime.now(UTC).timestamp()) // 60 * 60
    for name, book in engine.books.items():
        step = engine.products[name].price_increment
        price, rows = float(book.last or 1), []
        for number in range(1, MINUTES):
            before = price * (1 + engine.rng.gauss(0, 0.0008))
            high, low = max(price, before) * 1.0002, min(price, before) * 0.9998
            values = [round(value / float(step)) * step for value in (before, high, low, price)]
            rows.append((now - number * 60, *(plain(value) for value in values), "12.5"))
            price = before
        minutes = book.candles[60] = rows[::-1]  # type: ignore[assignment]
        for seconds in (300, 900, 1800, 3600, 7200, 14_400, 21_600, 86_400):
            book.candles[seconds] = merged(minutes, seconds)  # type: ignore[assignment]


Candle = tuple[int, str, str, str, str, str]


def merged(minutes: list[Candle], seconds: int) -> list[Candle]:
    """Return longer candles made of shorter ones."""
    groups: dict[int, list[Candle]] = {}
    for row in minutes:
        groups.setdefault(row[0] // seconds * seconds, []).append(row)
    return [
        (
            at,
            rows[0][1],
            max((row[2] for row in rows), key=float),
            min((row[3] for row in rows), key=float),
            rows[-1][4],
            str(sum(float(row[5]) for row in rows)),
        )
        for at, rows in groups.items()
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.venue", description=__doc__)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--seed", type=int, default=1, help="of the prices")
    parser.add_argument("--key-file", type=Path, help="keep the API key here from one start to the next")
    parser.add_argument("--still", action="store_true", help="prices stand still until /_control moves them")
    options = parser.parse_args(argv)
    venue = FakeVenue(port=options.port, seed=options.seed)
    write_history(venue.engine)
    venue.engine.add_account("me", WALLETS)
    key = venue.keyring.add(usable_key(options.key_file))
    short = venue.keyring.add(make_key("me", "HMAC"))
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell may have had Ctrl-C ignored for what it runs behind
        signal.signal(number, signal.default_int_handler)
    venue.start()
    try:
        greet(venue, key, short)
        while True:
            time.sleep(1)
            if not options.still:
                venue.control.drift(0.0004)
    except KeyboardInterrupt:
        venue.stop()
    return 0


def greet(venue: FakeVenue, key: ApiKey, short: ApiKey) -> None:
    """Say where it is and how to get in."""
    out = sys.stdout
    out.write(f"Coinbase Advanced Trade at {venue.url} (Binance spot at {venue.url}/api/v3)\n\n")
    out.write(f"Bybit, perpetuals included, at {venue.url}/v5: API key {short.name}, secret {short.secret}\n\n")
    out.write(f"API key name:\n{key.name}\n\nPrivate key:\n{key.secret}\n")
    out.write(f'Move it: curl -d \'[["BTC-USD", "61000"], {{}}]\' {venue.url}/_control/set_price\nCtrl-C stops it.\n')
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
