"""Everything that can be made to go wrong does, exactly as ordered, and leaves the venue's own state in order."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
import requests

from tests.venue.client import BROKERAGE, Client
from tests.venue.control import RemoteVenue
from tests.venue.faults import Fault
from tests.venue.server import FakeVenue

ORDERS = r"/orders$"
BUY = {"market_market_ioc": {"quote_size": "100"}}
LOST = (requests.ConnectionError, requests.ReadTimeout, requests.exceptions.ChunkedEncodingError)


def buy(client: Client, client_order_id: str = "a") -> requests.Response:
    body = {"client_order_id": client_order_id, "product_id": "BTC-USD", "side": "BUY", "order_configuration": BUY}
    return client.ask("POST", f"{BROKERAGE}/orders", body)


@pytest.mark.parametrize("action", ["timeout", "cut"])
@pytest.mark.parametrize(("when", "placed"), [("before", 0), ("after", 1)])
def test_an_answer_is_lost_before_or_after_the_order_is_accepted(
    venue: FakeVenue, anna: Client, action: str, when: str, placed: int
) -> None:
    venue.control.fail(action, ORDERS, when=when, seconds=0.01)
    with pytest.raises(LOST):
        buy(anna)
    assert len(venue.control.orders()) == placed
    assert buy(anna).json()["success"]
    assert len(venue.control.orders()) == len(venue.control.fills()) == 1
    assert venue.control.faults_happened() == {f"{action} {when}": 1}


def test_a_client_gives_up_before_a_slow_answer(venue: FakeVenue, anna: Client) -> None:
    venue.control.fail("timeout", ORDERS, when="after", seconds=30)
    hasty = Client(venue, anna.key, timeout=0.05)
    with pytest.raises(requests.ReadTimeout):
        buy(hasty)
    assert len(venue.control.orders()) == 1


def test_half_an_answer(venue: FakeVenue, anna: Client) -> None:
    venue.control.fail("half", ORDERS)
    with pytest.raises(LOST):
        buy(anna)
    assert len(venue.control.orders()) == 1


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503])
def test_error_answers_and_their_headers(venue: FakeVenue, anna: Client, status: int) -> None:
    venue.control.fail("status", ORDERS, status=status)
    answer = buy(anna)
    assert (answer.status_code, venue.control.orders()) == (status, [])
    assert ("Retry-After" in answer.headers) == (status in (429, 503))
    venue.control.fail("status", ORDERS, status=status, when="after", headers={"Retry-After": "7"})
    answer = buy(anna)
    assert (answer.status_code, answer.headers["Retry-After"], len(venue.control.orders())) == (status, "7", 1)


def test_a_delay_only_takes_time(venue: FakeVenue, anna: Client) -> None:
    venue.control.fail("delay", seconds=0.05)
    began = time.monotonic()
    assert buy(anna).json()["success"]
    assert time.monotonic() - began >= 0.05


def test_faults_choose_their_request(venue: FakeVenue, anna: Client, ben: Client) -> None:
    venue.control.fail("status", account="anna", method="POST")
    venue.control.fail("status", client_order_id="c", skip=1, count=None)
    assert buy(ben).status_code == 200
    assert anna.get("/accounts")
    assert [buy(anna).status_code, buy(anna).status_code] == [500, 200]
    assert [buy(anna, "c").status_code for _ in range(3)] == [200, 500, 500]
    venue.control.clear_faults()
    assert buy(anna, "c").status_code == 200


def test_chances_are_reproducible_by_seed() -> None:
    def draws(seed: int) -> list[int]:
        with FakeVenue(seed=seed) as venue:
            venue.control.fail("status", count=None, probability=0.5)
            return [requests.get(f"{venue.url}{BROKERAGE}/time", timeout=5).status_code for _ in range(20)]

    assert draws(3) == draws(3)
    assert 5 <= draws(3).count(500) <= 15
    assert draws(3) != draws(4)


def test_partial_fills_rest_or_end(venue: FakeVenue, anna: Client) -> None:
    venue.control.fail("partial", share="0.25", count=2)
    resting = anna.order(anna.limit("a", "BUY", "0.1", "60100"))
    assert (resting["status"], resting["filled_size"]) == ("OPEN", "0.025")
    ended = anna.order(anna.placed("b", "SELL", "BTC-USD", market_market_ioc={"base_size": "0.1"}))
    assert (ended["status"], ended["filled_size"]) == ("CANCELLED", "0.025")


def test_fills_may_be_listed_later_than_the_order_is_filled(venue: FakeVenue, anna: Client) -> None:
    venue.control.fail("late_fills", looks=2)
    order_id = anna.placed("a", "BUY", "BTC-USD", **BUY)
    assert anna.order(order_id)["status"] == "FILLED"
    assert [len(anna.fills(order_ids=order_id)) for _ in range(3)] == [0, 0, 1]


def test_an_order_may_not_be_visible_yet(venue: FakeVenue, anna: Client) -> None:
    venue.control.fail("hidden", looks=2)
    order_id = anna.limit("a", "BUY", "0.01", "50000")
    assert anna.ask("GET", f"{BROKERAGE}/orders/historical/{order_id}").status_code == 404
    assert anna.get("/orders/historical/batch")["orders"] == []
    assert anna.order(order_id)["status"] == "OPEN"


def test_a_pending_order_is_not_among_the_open_ones(venue: FakeVenue, anna: Client) -> None:
    venue.control.fail("pending", looks=2)
    order_id = anna.placed("a", "BUY", "BTC-USD", **BUY)
    assert anna.get("/orders/historical/batch", order_status="OPEN")["orders"] == []
    assert venue.control.order("a")["status"] == "PENDING"  # type: ignore[index]
    assert anna.order(order_id)["status"] == "FILLED"


def test_the_venue_cancels_of_its_own_accord(venue: FakeVenue, anna: Client) -> None:
    venue.control.fail("venue_cancel")
    assert anna.order(anna.limit("a", "BUY", "0.01", "50000"))["status"] == "CANCELLED"
    order_id = anna.limit("b", "BUY", "0.01", "50000")
    assert venue.control.cancel_by_venue(order_id)
    assert anna.order(order_id)["cancel_message"] == "Cancelled by the venue"
    assert anna.wallet("USD") == ("10000", "0")


def test_an_order_is_refused_on_order(venue: FakeVenue, anna: Client) -> None:
    venue.control.fail("reject", reason="INSUFFICIENT_FUND")
    assert anna.create("a", "BUY", "BTC-USD", **BUY)["error_response"]["error"] == "INSUFFICIENT_FUND"


def test_a_fill_races_with_the_cancel(venue: FakeVenue, anna: Client) -> None:
    order_id = anna.limit("a", "BUY", "0.1", "50000")
    venue.control.fail("race", share="0.4")
    assert anna.post("/orders/batch_cancel", {"order_ids": [order_id]})["results"][0]["success"]
    order = anna.order(order_id)
    assert (order["status"], order["filled_size"], anna.wallet("USD")[1]) == ("CANCELLED", "0.04", "0")


def test_a_fill_comes_after_the_cancel_was_answered_with_success(venue: FakeVenue, anna: Client) -> None:
    order_id = anna.limit("a", "BUY", "0.1", "50000")
    venue.control.fail("late_race", share="1")
    assert anna.post("/orders/batch_cancel", {"order_ids": [order_id]})["results"][0]["success"]
    assert venue.control.orders()[0]["pending_cancel"] is True
    again = anna.post("/orders/batch_cancel", {"order_ids": [order_id]})["results"][0]
    assert again["failure_reason"] == "DUPLICATE_CANCEL_REQUEST"
    assert (anna.order(order_id)["status"], anna.order(order_id)["filled_size"]) == ("FILLED", "0.1")


@pytest.mark.parametrize("action", ["duplicate", "reorder"])
def test_listings_repeat_and_shuffle(venue: FakeVenue, anna: Client, action: str) -> None:
    for number in range(6):
        anna.limit(f"a{number}", "SELL", "0.01", "59000")
    straight = [row["trade_id"] for row in anna.fills()]
    venue.control.fail(action, "fills")
    crooked = [row["trade_id"] for row in anna.fills()]
    assert crooked != straight
    assert set(crooked) == set(straight)
    assert (len(crooked) > len(straight)) == (action == "duplicate")


def test_too_many_requests_are_throttled_key_by_key(venue: FakeVenue, anna: Client, ben: Client) -> None:
    venue.control.set_limits(5, 3)
    answers = [anna.ask("GET", f"{BROKERAGE}/accounts") for _ in range(7)]
    assert [answer.status_code for answer in answers].count(429) >= 1
    throttled = next(answer for answer in answers if answer.status_code == 429)
    assert throttled.headers["X-RateLimit-Limit"] == "5"
    assert ben.ask("GET", f"{BROKERAGE}/accounts").status_code == 200
    public = [requests.get(f"{venue.url}{BROKERAGE}/time", timeout=5).status_code for _ in range(6)]
    assert 429 in public


def test_a_fault_that_is_misspelt_is_an_error() -> None:
    with pytest.raises(ValueError, match="no fault called"):
        Fault("typo")
    with pytest.raises(ValueError, match="before or after"):
        Fault("cut", when="during")


def test_the_same_handles_work_from_another_process(venue: FakeVenue, anna: Client) -> None:
    remote = RemoteVenue(venue.url)
    remote.set_price("BTC-USD", "50000")
    remote.fail("status", ORDERS, status=503)
    assert buy(anna).status_code == 503
    assert remote.faults_happened() == {"503 before": 1}
    order_id = anna.limit("b", "BUY", "0.01", "40000")
    assert remote.fill(order_id, "0.004")["base"] == "0.004"
    assert remote.order("b")["filled"] == "0.004"
    assert remote.balances("anna") == venue.control.balances("anna")
    opened = remote.open_account("carl", {"USD": "5"})
    assert opened["secret"].startswith("-----BEGIN")
    for mistake in (lambda: remote.no_such_handle(), lambda: remote.set_price("NO-USD", "1"), lambda: remote._venue()):
        with pytest.raises(RuntimeError):
            mistake()


def test_state_outlives_its_clients(venue: FakeVenue) -> None:
    key = venue.add_account("dora", {"USD": "1000"})
    first = Client(venue, key)
    order_id = first.limit("a", "BUY", "0.01", "50000")
    del first
    venue.control.trade_through("BTC-USD", "49000")
    assert Client(venue, key).order(order_id)["status"] == "FILLED"


def test_faults_never_change_what_adds_up(venue: FakeVenue, anna: Client) -> None:
    for action in ("timeout", "cut", "half", "status", "partial", "hidden", "late_fills", "pending", "venue_cancel"):
        venue.control.fail(action, ORDERS, count=None, probability=0.3, when="after", seconds=0.0)
    for number in range(40):
        side, price = ("BUY", "60100") if number % 3 else ("SELL", "59900")
        values = {"base_size": "0.001", "limit_price": price, "post_only": False}
        body = {"client_order_id": f"a{number}", "product_id": "BTC-USD", "side": side}
        try:
            anna.ask("POST", f"{BROKERAGE}/orders", body | {"order_configuration": {"limit_limit_gtc": values}})
        except LOST:
            continue
    fills, wallet = venue.control.fills(), venue.control.balances("anna")
    sign = {"BUY": 1, "SELL": -1}
    base = sum(sign[row["side"]] * Decimal(row["base"]) for row in fills)
    quote = sum(sign[row["side"]] * Decimal(row["quote"]) + Decimal(row["fee"]) for row in fills)
    assert fills
    assert Decimal(wallet["BTC"]["total"]) == 1 + base
    assert Decimal(wallet["USD"]["total"]) == 10_000 - quote
