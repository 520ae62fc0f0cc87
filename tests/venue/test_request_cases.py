"""The fake is asked as the real venue is: recorded requests of ccxt's Coinbase client, compared one by one.

``RECORDED_DATA`` names the folder in which the recordings lie, when it is not the usual one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import ccxt
import pytest

from tests.venue.client import ccxt_coinbase
from tests.venue.server import FakeVenue

FOLDER = Path(os.environ.get("RECORDED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data") / "coinbase"
REQUESTS, ANSWERS = FOLDER / "request_cases.json", FOLDER / "response_cases.json"
ORDER_IDS = {  # orders that cases are about: product, side, size, price
    "9fd0cadc-2ccc-45e8-b254-ea511c34e5b2": ("DOGE-USDT", "BUY", "10", "0.05"),
    "269df5b9-c9d8-43e7-8908-a51fa050101e": ("ADA-USDT", "BUY", "4", "0.15"),
    "d4f841a7-2de6-4190-a581-9ae23a5ff3de": ("ADA-USDT", "BUY", "4", "0.15"),
}


def _cases() -> list[Any]:
    if not REQUESTS.exists():
        return [pytest.param("", {}, "", marks=pytest.mark.skip(reason=f"{REQUESTS} is not here"), id="absent")]
    held = json.loads(REQUESTS.read_text())
    return [
        pytest.param(case["method"], case, ",".join(held["skipKeys"]), id=f"{case['method']}: {case['description']}")
        for cases in held["methods"].values()
        for case in cases
    ]


def _reason_to_skip(case: dict[str, Any]) -> str:
    if "PERP" in case["url"] + case.get("output", "") or ":USDC" in json.dumps(case["input"]):
        return "perpetuals have left Advanced Trade"
    if case.get("removed_in_ccxt_4_5_90") or "cfm" in case.get("url_ccxt_4_5_90", ""):
        return "this is not about spot"
    return ""


def _parts(url: str, skipped: set[str]) -> tuple[str, dict[str, list[str]]]:
    parts = urlsplit(url)
    query = {name: values for name, values in parse_qs(parts.query).items() if name not in skipped}
    return parts.path, query


@pytest.mark.data
@pytest.mark.parametrize(("method", "case", "skip_keys"), _cases())
def test_a_client_puts_on_the_wire_what_the_real_venue_was_sent(
    venue: FakeVenue, method: str, case: dict[str, Any], skip_keys: str
) -> None:
    if reason := _reason_to_skip(case):
        pytest.skip(reason)
    wallets = {"USDT": "1000", "USDC": "1000", "ADA": "100", "DOGE": "100"}
    exchange = ccxt_coinbase(venue, venue.add_account("anna", wallets))
    exchange.load_markets()
    for order_id, (product_id, side, size, price) in ORDER_IDS.items():
        venue.engine.next_order_ids.append(order_id)
        exchange.create_order(product_id.replace("-", "/"), "limit", side.lower(), size, price)
    before = len(venue.requests)
    given = [case["input"][0] | {}] if case["input"] and isinstance(case["input"][0], dict) else case["input"]
    if method == "editOrder" and case["input"][-1:] != [{"preview": True}]:
        given = [*given[:2], "limit", "buy", *given[4:]]
    with _refusals_of_the_order_itself():
        getattr(exchange, _snake(method))(*given)
    sent = list(venue.requests)[before:]
    skipped = set(skip_keys.split(","))
    wanted = _parts(case.get("url_ccxt_4_5_90") or case["url"], skipped)
    match = [seen for seen in sent if _parts(seen.url, skipped) == wanted]
    assert match, f"wanted {wanted}, was sent {[seen.url for seen in sent]}"
    if "output" in case:
        body, wanted_body = dict(match[0].body), json.loads(case["output"])
        for name in skipped & wanted_body.keys():
            assert body.pop(name, None), f"{name} is missing"
            del wanted_body[name]
        assert body == wanted_body


@contextmanager
def _refusals_of_the_order_itself() -> Iterator[None]:
    """An order may well be refused, for its price for one: what is compared is how it was asked for."""
    try:
        yield
    except ccxt.ExchangeError as refused:
        if "error_response" not in str(refused):
            raise


def _snake(name: str) -> str:
    name = name.replace("OHLCV", "Ohlcv")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _answers() -> list[Any]:
    if not ANSWERS.exists():
        return [pytest.param("", {}, marks=pytest.mark.skip(reason=f"{ANSWERS} is not here"), id="absent")]
    held = json.loads(ANSWERS.read_text())["methods"]
    return [pytest.param(name, case, id=f"{name}: {case['description']}") for name in held for case in held[name]]


@pytest.mark.data
@pytest.mark.parametrize(("method", "case"), _answers())
def test_the_fake_answers_with_every_field_that_the_real_venue_did(
    venue: FakeVenue, method: str, case: dict[str, Any]
) -> None:
    exchange = ccxt_coinbase(venue, venue.add_account("anna", {"ADA": "100", "USDT": "10"}))
    exchange.load_markets()
    exchange.create_order("ADA/USDT", "market", "sell", 10)
    if method == "fetchBalance":
        answer = exchange.v2_private_get_accounts({"limit": 3})
        wanted, got = case["httpResponse"]["data"][-1], answer["data"][0]
        assert case["httpResponse"]["pagination"].keys() <= answer["pagination"].keys()
    elif method == "fetchTicker":
        answer = exchange.v3_public_get_brokerage_market_products_product_id_ticker({"product_id": "ADA-USDT"})
        wanted, got = case["httpResponse"]["trades"][0], answer["trades"][0]
        assert case["httpResponse"].keys() <= answer.keys()
    elif method == "fetchMyTrades":
        wanted, got = (
            case["httpResponse"]["fills"][0],
            exchange.v3_private_get_brokerage_orders_historical_fills()["fills"][0],
        )
    else:
        answer = exchange.v3_private_get_brokerage_orders_historical_batch({"order_status": "FILLED"})
        wanted, got = case["httpResponse"]["orders"][0], answer["orders"][0]
    wanted.pop("cursor", None)  # this the client writes into the first row itself
    assert wanted.keys() <= got.keys()
    kinds = {name for name, value in wanted.items() if value is not None and type(got[name]) is not type(value)}
    assert not kinds, {name: got[name] for name in kinds}


def test_ccxt_trades_at_the_fake_from_buying_to_the_last_figure(venue: FakeVenue) -> None:
    exchange = ccxt_coinbase(venue, venue.add_account("anna", {"USD": "1000"}, algorithm="EdDSA"))
    placed = exchange.create_order("BTC/USD", "market", "buy", 0, None, {"cost": 100, "client_order_id": "b-1"})
    order = exchange.fetch_order(placed["id"])
    assert (order["status"], order["clientOrderId"]) == ("closed", "b-1")
    (trade,) = exchange.fetch_my_trades("BTC/USD")
    assert trade["amount"] == order["filled"]
    assert trade["cost"] + trade["fee"]["cost"] <= 100
    assert exchange.fetch_balance({"v3": True})["BTC"]["free"] == order["filled"]
    with pytest.raises(ccxt.InsufficientFunds):
        exchange.create_order("BTC/USD", "limit", "buy", "1", "50000")
