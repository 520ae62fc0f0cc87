"""The simulated market: one function of seed, product and time, however it is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketdata.series import Candles, resample
from marketdata.sources.simulated import LISTINGS, SimulatedSource
from marketdata.timeframes import Timeframe
from tradebot.core import clock
from tradebot.core.decimals import floor_to
from tradebot.core.errors import NotFound

MARKET = SimulatedSource(seed=7)
SYMBOLS = st.sampled_from(sorted(LISTINGS))
MINUTES = st.integers(min_value=27_000_000, max_value=29_000_000)  # 2021 to 2025
COLUMNS = ("time", "open", "high", "low", "close", "volume")


def rows(candles: Candles) -> list[tuple[float, ...]]:
    return list(zip(*(getattr(candles, name).tolist() for name in COLUMNS), strict=True))


@given(symbol=SYMBOLS, first=MINUTES, length=st.integers(2, 400), cut=st.integers(1, 399))
def test_candles_are_the_same_whatever_window_is_asked(symbol: str, first: int, length: int, cut: int) -> None:
    cut = min(cut, length - 1)
    start, middle, end = (minute * 60 for minute in (first, first + cut, first + length))
    whole = rows(MARKET.candles(symbol, Timeframe.M1, start, end))
    parts = rows(MARKET.candles(symbol, Timeframe.M1, start, middle)) + rows(
        MARKET.candles(symbol, Timeframe.M1, middle, end)
    )
    assert whole == parts
    assert len(whole) == length


@given(symbol=SYMBOLS, minute=MINUTES, second=st.floats(0, 59.999))
def test_a_quote_lies_within_the_candle_of_its_minute(symbol: str, minute: int, second: float) -> None:
    candle = MARKET.candles(symbol, Timeframe.M1, minute * 60, minute * 60 + 60)
    quote = MARKET.quote(symbol, datetime.fromtimestamp(minute * 60 + second, UTC))
    assert candle.low[0] <= float(quote.last) <= candle.high[0]
    assert quote.bid < quote.ask
    assert quote.bid <= quote.last <= quote.ask
    increment = next(info.price_increment for info in MARKET.products() if info.symbol == symbol)
    assert all(floor_to(price, increment) == price for price in (quote.bid, quote.ask, quote.last))


@given(symbol=SYMBOLS, minute=MINUTES)
def test_a_candle_closes_where_the_next_opens(symbol: str, minute: int) -> None:
    candles = MARKET.candles(symbol, Timeframe.M1, minute * 60, minute * 60 + 600)
    assert candles.close[:-1].tolist() == candles.open[1:].tolist()
    assert (candles.low <= np.minimum(candles.open, candles.close)).all()
    assert (candles.high >= np.maximum(candles.open, candles.close)).all()


@pytest.mark.parametrize("timeframe", [Timeframe.M3, Timeframe.H4, Timeframe.D3, Timeframe.W1])
def test_longer_candles_are_built_from_minutes(timeframe: Timeframe) -> None:
    start = 1_700_000_000
    end = start + 3 * timeframe.seconds
    minutes = MARKET.candles("ETH-BTC", Timeframe.M1, start, end + timeframe.seconds)
    built = resample(minutes, Timeframe.M1, timeframe)
    candles = MARKET.candles("ETH-BTC", timeframe, start, end)
    assert candles.time.tolist() == built.time.tolist()[: len(candles)]
    assert candles.high.tolist() == built.high.tolist()[: len(candles)]
    assert candles.close.tolist() == built.close.tolist()[: len(candles)]
    np.testing.assert_allclose(candles.volume, built.volume[: len(candles)])


def test_f40_the_forming_candle_is_not_given(moment: datetime) -> None:
    end = int(moment.timestamp()) + 3600
    candles = MARKET.candles("BTC-USD", Timeframe.M1, end - 7200, end)
    assert int(candles.time[-1]) == int(moment.timestamp()) - 40 - 60
    hours = MARKET.candles("BTC-USD", Timeframe.H1, end - 4 * 3600, end)
    assert int(hours.time[-1]) + 3600 <= moment.timestamp()


def test_crosses_agree_with_dollar_prices() -> None:
    at = datetime(2024, 4, 24, 12, tzinfo=UTC)
    eth, btc, cross = (float(MARKET.quote(symbol, at).last) for symbol in ("ETH-USD", "BTC-USD", "ETH-BTC"))
    assert cross == pytest.approx(eth / btc, rel=1e-4)


def test_it_is_lively_and_comes_back() -> None:
    end = 1_714_000_000
    month = MARKET.candles("ADA-USD", Timeframe.M1, end - 30 * 86400, end)
    hours = month.close[: len(month) // 60 * 60].reshape(-1, 60)
    moves = hours.max(axis=1) / hours.min(axis=1) - 1
    assert 0.01 < float(np.median(moves)) < 0.06
    anchor = 0.62
    years = MARKET.candles("ADA-USD", Timeframe.D1, end - 1000 * 86400, end)
    assert anchor / 2 < years.low.min() < years.high.max() < anchor * 2


def test_another_seed_is_another_market() -> None:
    at = datetime(2024, 4, 24, 12, tzinfo=UTC)
    assert SimulatedSource(1).quote("BTC-USD", at).last != SimulatedSource(2).quote("BTC-USD", at).last
    assert SimulatedSource(7).quote("BTC-USD", at) == MARKET.quote("BTC-USD", at)


def test_the_book_begins_at_the_quote_and_worsens(moment: datetime) -> None:
    for symbol in LISTINGS:
        book, quote = MARKET.book(symbol, depth=20), MARKET.tickers([symbol])[symbol]
        assert (book.bids[0].price, book.asks[0].price) == (quote.bid, quote.ask)
        assert [level.price for level in book.bids] == sorted({level.price for level in book.bids}, reverse=True)
        assert [level.price for level in book.asks] == sorted({level.price for level in book.asks})
        assert all(level.size > 0 for level in (*book.bids, *book.asks))


def test_day_figures_follow_the_clock(moment: datetime) -> None:
    now = MARKET.tickers(["BTC-USD"])["BTC-USD"]
    with clock.at(moment + timedelta(hours=5)):
        later = MARKET.tickers(["BTC-USD"])["BTC-USD"]
    assert now.volume_24h
    assert later.volume_24h
    assert now.change_24h != later.change_24h


def test_unlisted_products_are_unknown(moment: datetime) -> None:
    assert MARKET.tickers(["DOGE-USD"]) == {}
    with pytest.raises(NotFound):
        MARKET.candles("DOGE-USD", Timeframe.M1, 0, 60)
