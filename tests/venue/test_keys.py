"""Who asks: a token is signed by a known key, for this request, for now, and for once."""

from __future__ import annotations

import json
import time

import pytest
import requests

from tests.venue.client import BROKERAGE, Client
from tests.venue.keys import sign
from tests.venue.server import FakeVenue

PATH = f"{BROKERAGE}/accounts"


def get(venue: FakeVenue, token: str, path: str = PATH) -> int:
    return requests.get(venue.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=5).status_code


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_a_token_covers_one_request(venue: FakeVenue, algorithm: str) -> None:
    key, host = venue.add_account("anna", {}, algorithm=algorithm), f"127.0.0.1:{venue.port}"
    token = sign(key.name, key.secret, "GET", host, PATH)
    assert get(venue, token) == 200
    assert get(venue, token) == 401
    assert get(venue, sign(key.name, key.secret, "GET", host, PATH), f"{BROKERAGE}/key_permissions") == 401
    assert get(venue, sign(key.name, key.secret, "POST", host, PATH)) == 401
    assert get(venue, sign(key.name, key.secret, "GET", "evil.example", PATH)) == 401
    assert get(venue, sign(key.name, key.secret, "GET", "api.coinbase.com", PATH)) == 200


def test_a_token_lives_two_minutes_by_the_venues_clock(venue: FakeVenue, anna: Client) -> None:
    key, host, now = anna.key, f"127.0.0.1:{venue.port}", int(time.time())
    assert get(venue, sign(key.name, key.secret, "GET", host, PATH, nbf=now - 130, exp=now - 10)) == 401
    assert get(venue, sign(key.name, key.secret, "GET", host, PATH, nbf=now, exp=now + 121)) == 401
    assert get(venue, sign(key.name, key.secret, "GET", host, PATH, nbf=now + 60, exp=now + 100)) == 401
    venue.control.set_clock_skew(180)
    assert anna.ask("GET", PATH).status_code == 401
    told = int(anna.get("/time")["epochSeconds"])
    assert 170 < told - time.time() < 190
    ahead = told - 2
    assert get(venue, sign(key.name, key.secret, "GET", host, PATH, nbf=ahead, exp=ahead + 120)) == 200


def test_other_keys_signatures_are_refused(venue: FakeVenue, anna: Client, ben: Client) -> None:
    host = f"127.0.0.1:{venue.port}"
    assert get(venue, sign(anna.key.name, ben.key.secret, "GET", host, PATH)) == 401
    assert get(venue, sign("nobody", anna.key.secret, "GET", host, PATH)) == 401
    assert get(venue, sign(anna.key.name, anna.key.secret, "GET", host, PATH, sub="somebody")) == 401
    assert get(venue, "rubbish") == 401
    assert requests.get(venue.url + PATH, timeout=5).status_code == 401
    venue.control.revoke(anna.key.name)
    assert anna.ask("GET", PATH).status_code == 401


def test_two_keys_of_one_account_and_no_way_to_anothers(venue: FakeVenue, anna: Client, ben: Client) -> None:
    second = Client(venue, venue.add_key("anna", "EdDSA"))
    order_id = anna.limit("a", "BUY", "0.01", "50000")
    assert second.order(order_id)["client_order_id"] == "a"
    assert ben.ask("GET", f"{BROKERAGE}/orders/historical/{order_id}").status_code == 404
    assert ben.get("/orders/historical/batch")["orders"] == []


def test_a_key_does_what_it_may(venue: FakeVenue, anna: Client) -> None:
    looks_on = Client(venue, venue.add_key("anna", can_trade=False, can_transfer=True))
    assert looks_on.get("/key_permissions")["can_transfer"] is True
    configuration = {"market_market_ioc": {"quote_size": "10"}}
    body = {"client_order_id": "a", "product_id": "BTC-USD", "side": "BUY", "order_configuration": configuration}
    answer = looks_on.ask("POST", f"{BROKERAGE}/orders", body)
    assert (answer.status_code, answer.json()["error"]) == (403, "PERMISSION_DENIED")
    blind = Client(venue, venue.add_key("anna", can_view=False))
    assert blind.ask("GET", PATH).status_code == 403


def test_public_data_needs_no_key(venue: FakeVenue) -> None:
    for path in ("time", "market/products", "market/products/BTC-USD", "market/product_book?product_id=BTC-USD"):
        assert requests.get(f"{venue.url}{BROKERAGE}/{path}", timeout=5).status_code == 200
    assert requests.get(f"{venue.url}{BROKERAGE}/products", timeout=5).status_code == 401


BODY = {
    "client_order_id": "a",
    "product_id": "BTC-USD",
    "side": "BUY",
    "order_configuration": {"limit_limit_gtc": {"base_size": "0.01", "limit_price": "50000", "post_only": False}},
}


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("client_order_id", {"client_order_id": ""}),
        ("client_order_id", {"client_order_id": 7}),
        ("product_id", {"product_id": None}),
        ("side", {"side": "buy"}),
        ("clientOrderId", {"clientOrderId": "a"}),
        ("order_configuration", {"order_configuration": {}}),
        ("order_configuration", {"order_configuration": {"limit": {}}}),
        ("base_size", {"order_configuration": {"limit_limit_gtc": {"base_size": 1, "limit_price": "5"}}}),
        ("base_size", {"order_configuration": {"limit_limit_gtc": {"base_size": "1e-3", "limit_price": "5"}}}),
        ("base_size", {"order_configuration": {"limit_limit_gtc": {"base_size": "-1", "limit_price": "5"}}}),
        ("base_size", {"order_configuration": {"limit_limit_gtc": {"base_size": "NaN", "limit_price": "5"}}}),
        ("base_size", {"order_configuration": {"limit_limit_gtc": {"limit_price": "5"}}}),
        ("limit_price", {"order_configuration": {"limit_limit_gtc": {"base_size": "1"}}}),
        ("limit_price", {"order_configuration": {"limit_limit_gtc": {"base_size": "1", "limit_price": 0.2}}}),
        ("end_time", {"order_configuration": {"limit_limit_gtd": {"base_size": "1", "limit_price": "5"}}}),
        ("quote_size", {"side": "SELL", "order_configuration": {"market_market_ioc": {"quote_size": "5"}}}),
        ("base_size", {"order_configuration": {"market_market_ioc": {"quote_size": "5", "base_size": "1"}}}),
        (
            "post_only",
            {"order_configuration": {"limit_limit_gtc": {"base_size": "1", "limit_price": "5", "post_only": "no"}}},
        ),
    ],
)
def test_a_malformed_order_is_refused_with_the_field(
    venue: FakeVenue, anna: Client, field: str, change: dict[str, object]
) -> None:
    answer = anna.ask("POST", f"{BROKERAGE}/orders", BODY | change)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_ARGUMENT")
    assert field in answer.json()["message"].split(":")[0]
    assert venue.control.orders() == []


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("batch_cancel", {"order_ids": "x"}, "order_ids"),
        ("batch_cancel", {"order_ids": []}, "order_ids"),
        ("batch_cancel", {"order_ids": ["x"], "product_id": "BTC-USD"}, "product_id"),
        ("edit", {"order_id": "x", "price": "5"}, "size"),
        ("edit", {"order_id": "x", "price": 5, "size": "1"}, "price"),
    ],
)
def test_malformed_cancels_and_edits_are_refused(anna: Client, path: str, body: object, field: str) -> None:
    answer = anna.ask("POST", f"{BROKERAGE}/orders/{path}", body)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(field)


@pytest.mark.parametrize(
    "query",
    [{"order_status": "open"}, {"order_status": ["OPEN", "FILLED"]}, {"limit": "x"}, {"start_date": "yesterday"}],
)
def test_malformed_listings_are_refused(anna: Client, query: dict[str, object]) -> None:
    assert anna.ask("GET", f"{BROKERAGE}/orders/historical/batch", **query).status_code == 400


def test_a_body_that_is_no_json_is_refused(venue: FakeVenue, anna: Client) -> None:
    path = f"{BROKERAGE}/orders"
    token = sign(anna.key.name, anna.key.secret, "POST", f"127.0.0.1:{venue.port}", path)
    for raw in ("{", json.dumps([1])):
        token = sign(anna.key.name, anna.key.secret, "POST", f"127.0.0.1:{venue.port}", path)
        answer = requests.post(venue.url + path, raw, headers={"Authorization": f"Bearer {token}"}, timeout=5)
        assert answer.status_code == 400
