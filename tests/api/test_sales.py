"""Selling and converting over the API: once per key, 400 with the field and the limit, and only one's own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import Account
from marketdata import services as market_services
from positions.models import Order
from tests.api.conftest import ClientOf, People
from tests.factories import AccountFactory, fund
from tradebot.core.scoping import detached

SELL = "/api/portfolio/sell/"
CONVERT = "/api/portfolio/convert/"
D = Decimal


@pytest.fixture
def holder(people: People) -> Account:
    market_services.refresh_products("simulated")
    fund(people.account, ADA=5000)
    return people.account


@pytest.fixture
def client(people: People, holder: Account, client_of: ClientOf) -> APIClient:
    return client_of(people.ann)


def body(account: Account, **asked: Any) -> dict[str, Any]:
    return {"account": account.pk, "currency": "ADA", **asked}


def orders() -> int:
    with detached("test"):
        return Order.objects.count()


def test_a_sale(client: APIClient, holder: Account) -> None:
    answer = client.post(SELL, body(holder, amount="100"), format="json")
    assert answer.status_code == 201, answer.content
    found = answer.json()
    assert (found["state"], found["order"]["side"], found["order"]["status"]) == ("done", "sell", "filled")
    assert (found["position"]["strategy"], found["position"]["exit_reason"]) == ("sale", "kept")
    assert (found["position"]["symbol"], found["second_order"], found["second_position"]) == ("ADA-USD", None, None)
    assert found["message"].startswith("Sold 100 ADA for ")
    listed = client.get(f"/api/orders/?account={holder.pk}").json()["results"]
    assert [row["id"] for row in listed] == [found["order"]["id"]]


def test_a_conversion_in_two_steps(client: APIClient, holder: Account) -> None:
    answer = client.post(CONVERT, body(holder, into="ETH", amount="1000"), format="json").json()
    assert (answer["state"], answer["position"]["symbol"], answer["second_position"]["symbol"]) == (
        "done",
        "ADA-USD",
        "ETH-USD",
    )
    assert answer["second_position"]["settings"]["after"] == answer["position"]["id"]


def test_what_it_would_come_to_is_asked_for_without_doing_it(client: APIClient, holder: Account) -> None:
    found = client.get(SELL, body(holder)).json()
    assert (found["free"], found["gives"], found["left"], found["into"]) == ("5000", "5000", "0", "USD")
    assert [step["side"] for step in found["steps"]] == ["sell"]
    both = client.get(CONVERT, body(holder, into="ETH", amount="1000")).json()
    assert [step["symbol"] for step in both["steps"]] == ["ADA-USD", "ETH-USD"]
    assert D(both["steps"][1]["gives"]) <= D(both["steps"][0]["gets"])
    assert orders() == 0


def test_a_key_sells_once(client: APIClient, holder: Account) -> None:
    first, again = (
        client.post(SELL, body(holder, amount="100"), format="json", headers={"Idempotency-Key": "a"}) for _ in "ab"
    )
    assert (first.status_code, again.status_code, again.headers["Idempotency-Replayed"]) == (201, 201, "true")
    assert first.json() == again.json()
    assert orders() == 1
    other = client.post(SELL, body(holder, amount="200"), format="json", headers={"Idempotency-Key": "a"})
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")


@pytest.mark.parametrize(
    ("path", "asked", "code", "field"),
    [
        (SELL, {"amount": "5000.1"}, "too_large", "amount"),
        (SELL, {"amount": "0.0001"}, "below_minimum", "amount"),
        (SELL, {"amount": "0"}, "out_of_range", "amount"),
        (SELL, {"amount": "NaN"}, "invalid", "amount"),
        (SELL, {"amount": "1e400"}, "", "amount"),
        (SELL, {"into": "ETH"}, "no_way", "into"),
        (SELL, {"currency": "XYZ"}, "no_way", "currency"),
        (SELL, {"currency": "A" * 21}, "max_length", "currency"),
        (SELL, {"price": "3"}, "unknown_field", "price"),
        (CONVERT, {}, "required", "into"),
        (CONVERT, {"into": "DOGE"}, "no_way", "into"),
        (CONVERT, {"into": "ADA"}, "no_way", "into"),
    ],
)
def test_f23_what_cannot_be_done_names_its_field(
    client: APIClient, holder: Account, path: str, asked: dict[str, str], code: str, field: str
) -> None:
    for answer in (
        client.post(path, {**body(holder), **asked}, format="json"),
        client.get(path, {**body(holder), **asked}),
    ):
        assert (answer.status_code, answer.json()["field"]) == (400, field), answer.content
        assert code in ("", answer.json()["code"])
    assert orders() == 0


def test_refusals_carry_the_limit(client: APIClient, holder: Account) -> None:
    found = client.post(SELL, body(holder, amount="0.0001"), format="json").json()
    assert found["numbers"]["min_quote"] == "1"
    found = client.post(SELL, body(holder, amount="6000"), format="json").json()
    assert (found["numbers"]["free"], found["detail"]) == ("5000", "It is 6000 ADA; 5000 ADA are free.")


def test_a_stopped_account_sells_nothing(client: APIClient, holder: Account) -> None:
    with detached("test"):
        Account.objects.update(trading_state="killed")
    answer = client.post(SELL, body(holder), format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "account_stopped")


def test_f52_only_on_accounts_that_one_may_change(people: People, client_of: ClientOf, holder: Account) -> None:
    for person in (people.olga, people.bob):
        for path in (SELL, CONVERT):
            for answer in (
                client_of(person).post(path, body(holder, into="USD"), format="json"),
                client_of(person).get(path, body(holder, into="USD")),
            ):
                assert (answer.status_code, answer.json()["field"]) == (400, "account")
    assert orders() == 0
    assert client_of(people.max).post(SELL, body(holder, amount="9"), format="json").status_code == 201
    assert APIClient().post(SELL, body(holder), format="json").status_code in (401, 403)


def test_a_recording_sells_nothing(people: People, client: APIClient) -> None:
    recording = AccountFactory(owner=people.ann, exchange="replay", balances={"BTC": 1})
    answer = client.post(CONVERT, {"account": recording.pk, "currency": "BTC", "into": "USD"}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_sales")


def test_the_schema_describes_it(client: APIClient) -> None:
    found = client.get("/api/schema/?format=json").json()["paths"]
    for path in (SELL, CONVERT):
        post = found[path]["post"]
        assert "Idempotency-Key" in [row["name"] for row in post["parameters"]]
        assert "201" in post["responses"]
        assert "get" in found[path]
