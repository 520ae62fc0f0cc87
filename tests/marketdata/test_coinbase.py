"""Coinbase's public data over real HTTP on a local port, faults included."""

from __future__ import annotations

import json
import threading
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
import stamina
from werkzeug import Request, Response

from marketdata.sources.coinbase import CoinbaseSource
from marketdata.sources.limiter import AddressLimiter
from marketdata.timeframes import Timeframe
from tests.marketdata.venue import Venue, cut, product_row, reply, status, text
from tradebot.core.errors import NotFound, VenueUnavailable

NOON = 1_713_960_000  # 2024-04-24 12:00 UTC


def test_products_carry_the_venues_terms(coinbase: CoinbaseSource, venue: Venue) -> None:
    venue.products = [
        product_row("BTC-USD", base_increment="0.0001", price_increment="0.05", quote_min_size="5"),
        product_row("ADA-USD", view_only=True),
        product_row("LTC-USD", status="delisted"),
    ]
    btc, ada, ltc = coinbase.products()
    assert (btc.base_increment, btc.price_increment, btc.min_quote) == (Decimal("0.0001"), Decimal("0.05"), Decimal(5))
    assert (btc.volume_24h, btc.price_change_24h) == (5210.5, -1.25)
    assert [info.status for info in (btc, ada, ltc)] == ["online", "offline", "offline"]


def test_a_product_without_terms_is_left_out(coinbase: CoinbaseSource, venue: Venue) -> None:
    venue.products = [product_row("BTC-USD"), product_row("ADA-USD", base_increment=""), {"product_id": "X"}]
    assert [info.symbol for info in coinbase.products()] == ["BTC-USD"]


def test_the_product_list_is_read_to_its_last_page(coinbase: CoinbaseSource, venue: Venue) -> None:
    venue.products = [product_row(f"C{n}-USD") for n in range(5)]
    venue.page_size = 2
    assert len(coinbase.products()) == 5
    assert len(venue.paths("/products")) == 3


def test_f66_half_a_product_list_is_no_list(coinbase: CoinbaseSource, venue: Venue) -> None:
    venue.products = [product_row(f"C{n}-USD") for n in range(5)]
    venue.page_size = 2
    venue.faults = [venue._products, *[status(500)] * 3]
    with pytest.raises(VenueUnavailable):
        coinbase.products()


def test_f41_newest_first_becomes_oldest_first(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    candles = coinbase.candles("BTC-USD", Timeframe.M5, NOON - 3000, NOON)
    assert candles.time.tolist() == list(range(NOON - 3000, NOON, 300))
    assert (candles.high - candles.low == 3).all()


def test_f40_the_forming_candle_is_not_given(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    candles = coinbase.candles("BTC-USD", Timeframe.M1, NOON - 300, NOON + 600)
    assert int(candles.time[-1]) == NOON - 60


def test_long_ranges_are_asked_for_in_pages_of_300(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    candles = coinbase.candles("BTC-USD", Timeframe.M1, NOON - 700 * 60, NOON)
    assert candles.time.tolist() == list(range(NOON - 700 * 60, NOON, 60))
    spans = [(int(query["end"][0]) - int(query["start"][0])) // 60 + 1 for query in venue.paths("/candles")]
    assert spans == [300, 300, 100]


def test_periods_without_trades_stay_missing(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    venue.quiet = {NOON - 120, NOON - 180}
    candles = coinbase.candles("BTC-USD", Timeframe.M1, NOON - 300, NOON)
    assert candles.time.tolist() == [NOON - 300, NOON - 240, NOON - 60]


@pytest.mark.parametrize(
    "row",
    [
        {"start": "x", "low": "1", "high": "2", "open": "1", "close": "2", "volume": "1"},
        {"start": str(NOON - 60), "low": "1", "high": "2", "open": "1", "close": "nan", "volume": "1"},
        {"start": str(NOON - 60), "low": "0", "high": "2", "open": "1", "close": "2", "volume": "1"},
        {"start": str(NOON - 60), "low": "3", "high": "2", "open": "1", "close": "2", "volume": "1"},
        {"start": str(NOON - 61), "low": "1", "high": "2", "open": "1", "close": "2", "volume": "1"},
        {"start": str(NOON - 60), "low": "1", "high": "2", "open": "1", "close": "2"},
        "no candle",
    ],
)
def test_malformed_candles_are_no_candles(
    coinbase: CoinbaseSource, venue: Venue, moment: datetime, row: object
) -> None:
    venue.faults = [lambda request: reply({"candles": [row]})]
    with pytest.raises(VenueUnavailable):
        coinbase.candles("BTC-USD", Timeframe.M1, NOON - 300, NOON)


@pytest.mark.parametrize(
    "faults",
    [
        [status(500), status(503)],
        [status(429, {"Retry-After": "0.01"}), status(429)],
        [text("<html>busy</html>"), cut],
    ],
    ids=["5xx", "429", "half answers"],
)
def test_passing_faults_are_outlived(
    coinbase: CoinbaseSource, venue: Venue, moment: datetime, faults: list[object]
) -> None:
    venue.faults = list(faults)
    assert len(coinbase.candles("BTC-USD", Timeframe.M1, NOON - 300, NOON)) == 5
    assert len(venue.asked) == 3


@pytest.mark.parametrize("fault", [status(500), status(429), text("{"), cut, status(403), text("[]"), text("{}")])
def test_lasting_faults_are_unavailable(
    coinbase: CoinbaseSource, venue: Venue, moment: datetime, fault: object
) -> None:
    venue.faults = [fault] * 5
    with pytest.raises(VenueUnavailable):
        coinbase.candles("BTC-USD", Timeframe.M1, NOON - 300, NOON)
    assert len(venue.asked) <= 3


def test_a_slow_answer_times_out(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    stamina.set_testing(True, attempts=1)
    done = threading.Event()

    def slow(request: Request) -> Response:
        done.wait(5)
        return reply({"candles": []})

    venue.faults = [slow]
    try:
        with pytest.raises(VenueUnavailable):
            coinbase.candles("BTC-USD", Timeframe.M1, NOON - 300, NOON)
    finally:
        done.set()


def test_a_closed_port_is_unavailable_and_unreachable(unused_tcp_port: int) -> None:
    source = CoinbaseSource(f"http://127.0.0.1:{unused_tcp_port}", attempts=2)
    assert not source.reachable(0.5)
    with pytest.raises(VenueUnavailable):
        source.products()


def test_a_long_retry_after_is_obeyed_by_everybody_on_this_address(
    coinbase: CoinbaseSource, venue: Venue, moment: datetime
) -> None:
    venue.faults = [status(429, {"Retry-After": "120"})]
    with pytest.raises(VenueUnavailable):
        coinbase.candles("BTC-USD", Timeframe.M1, NOON - 300, NOON)
    other = CoinbaseSource(venue.url)
    with pytest.raises(VenueUnavailable) as refused:
        other.book("BTC-USD")
    assert refused.value.code == "throttled"
    assert len(venue.asked) == 1


def test_unknown_products_are_not_found(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    with pytest.raises(NotFound):
        coinbase.candles("NO-USD", Timeframe.M1, NOON - 300, NOON)


def test_tickers_have_bid_ask_last_and_day_figures(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    quote = coinbase.tickers(["BTC-USD"])["BTC-USD"]
    assert (quote.bid, quote.ask, quote.last) == (Decimal("66367.58"), Decimal("66367.59"), Decimal("66363.03"))
    assert quote.mark == Decimal("66367.585")
    assert (quote.volume_24h, quote.change_24h) == (5210.5, -1.25)
    assert quote.at == moment


def test_f34_an_empty_price_is_absent_not_zero(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    venue.prices["ETH-USD"] = ("", "3100", "3100")
    assert set(coinbase.tickers(["BTC-USD", "ETH-USD", "NO-USD"])) == {"BTC-USD"}
    venue.prices["BTC-USD"] = ("0", "1", "1")
    with pytest.raises(VenueUnavailable):
        coinbase.tickers(["BTC-USD"])


def test_quotes_survive_without_day_figures(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    venue.faults = [status(500)] * 3
    quote = coinbase.tickers(["BTC-USD"])["BTC-USD"]
    assert quote.volume_24h is None


def test_the_book_is_best_first(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    book = coinbase.book("BTC-USD", depth=1)
    assert (book.bids[0].price, book.asks[0].price) == (Decimal("100.0"), Decimal("100.1"))
    assert len(book.bids) == len(book.asks) == 1


def test_requests_never_exceed_the_allowance_of_a_second(venue: Venue, moment: datetime) -> None:
    now, slept = [1_000.0], list[float]()

    def wait(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    limiter = AddressLimiter(venue.url, 3, now=lambda: now[0], wait=wait)
    for _ in range(7):
        limiter.acquire()
    assert slept == [1.0, 1.0]


def test_recorded_wire_cases_are_understood(coinbase: CoinbaseSource, venue: Venue, moment: datetime) -> None:
    cases = Path(__file__).resolve().parents[3] / "shared" / "data" / "coinbase" / "response_cases.json"
    if not cases.is_file():
        pytest.skip("no recorded Coinbase answers beside this checkout")
    case = json.loads(cases.read_text())["methods"]["fetchTicker"][0]
    parsed = case["parsedResponse"]
    symbol = parsed["symbol"].replace("/", "-")
    venue.products = [product_row(symbol)]
    venue.faults = [venue._products, lambda request: reply(case["httpResponse"])]
    quote = coinbase.tickers([symbol])[symbol]
    assert [float(price) for price in (quote.bid, quote.ask, quote.last)] == [
        parsed["bid"],
        parsed["ask"],
        parsed["last"],
    ]
