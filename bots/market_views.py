"""One market view per product, shared by all bots of a cycle: each candle series and indicator is worked out once.

Series are kept between cycles of the same process for as long as no candle has been added, and with them whatever was
computed from them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from bots.conditions import Verdict
from bots.strategies.base import InMemoryMarketView, MarketView, Quote
from marketdata import market, sources
from marketdata.models import Product
from marketdata.series import Candles
from marketdata.store import store
from marketdata.timeframes import Timeframe

__all__ = ["build"]

SMALLEST_HISTORY = 300
KEPT_VIEWS = 2_000


class SharedView(InMemoryMarketView):
    """A view that all bots of a cycle look at: trees that are equal are evaluated once (``conditions.evaluate``)."""

    __slots__ = ("verdicts",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.verdicts: dict[Any, Verdict] = {}


_Signature = tuple[tuple[str | int | float, ...], ...]
_kept: OrderedDict[int, tuple[_Signature, SharedView]] = OrderedDict()
_lock = threading.Lock()


def build(
    products: Mapping[int, Product], wanted: Mapping[int, Mapping[Timeframe, int]], now: datetime
) -> dict[int, MarketView]:
    """Return a view of each product at ``now``, by product id.

    ``wanted`` gives, per product id, the timeframes needed and how many closed candles of each. The number of queries
    depends on the number of different timeframes, not on the number of products.
    """
    counts: dict[Timeframe, int] = {}
    users: dict[Timeframe, list[int]] = {}
    for pid, series in wanted.items():
        for timeframe, count in series.items():
            counts[timeframe] = max(counts.get(timeframe, SMALLEST_HISTORY), count)
            users.setdefault(timeframe, []).append(pid)
    recorded = all(product.exchange == sources.REPLAY for product in products.values())
    candles: dict[int, dict[Timeframe, Candles]] = {pid: {} for pid in products}
    for timeframe, ids in users.items():
        # A recording has a beginning, so all of it counts; a live market is looked at through a long window.
        for pid, loaded in store.load(ids, timeframe, now, None if recorded else counts[timeframe]).items():
            candles[pid][timeframe] = loaded
    quotes: dict[tuple[str, str], Quote] = {}
    for exchange in {product.exchange for product in products.values()}:
        symbols = [product.symbol for product in products.values() if product.exchange == exchange]
        quotes |= {
            (exchange, symbol): quote
            for symbol, quote in market.quotes(exchange, symbols, now, market.OLDEST_USABLE).items()
        }
    return {
        pid: _view(product, candles[pid]).at(now.timestamp(), quotes.get((product.exchange, product.symbol)))
        for pid, product in products.items()
    }


def _view(product: Product, candles: dict[Timeframe, Candles]) -> InMemoryMarketView:
    """Return the kept view of these very candles, or a new one."""
    signature = tuple(
        (timeframe.value, len(series), int(series.time[-1]), *_checksums(series))
        for timeframe, series in sorted(candles.items())
        if len(series)
    )
    with _lock:
        kept = _kept.get(product.pk)
        if kept is not None and kept[0] == signature and kept[1].product == product.terms:
            _kept.move_to_end(product.pk)
            return kept[1]
        view = SharedView(product.terms, candles)
        _kept[product.pk] = (signature, view)
        while len(_kept) > KEPT_VIEWS:
            _kept.popitem(last=False)
        return view


def _checksums(series: Candles) -> tuple[float, ...]:
    """Tell candles apart that have the same times: a recording may be imported again with other prices."""
    return tuple(float(column.sum()) for column in (series.open, series.high, series.low, series.close, series.volume))


def forget(product_ids: Iterable[int] = ()) -> None:
    """Drop what is kept of these products, or of all."""
    with _lock:
        for pid in list(product_ids) or list(_kept):
            _kept.pop(pid, None)
