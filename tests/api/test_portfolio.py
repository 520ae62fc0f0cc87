"""Portfolio, balances, profit, transfers, daily values and what is left out, over the API."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Account
from tests.api.conftest import ClientOf, People
from tests.factories import (
    AccountFactory,
    BotFactory,
    PositionFactory,
    ProductFactory,
    TransferFactory,
    UserFactory,
    ValueSnapshotFactory,
    VenueBalanceFactory,
    VenueFundsFactory,
    fund,
)
from tests.positions.portfolio.listing import LIVE, listed
from tradebot.core import clock

VIEWS = ("/api/portfolio/", "/api/balances/", "/api/pnl/")


@pytest.fixture
def live(people: People) -> Account:
    """Ann's exchange account, beside her paper account."""
    account: Account = AccountFactory(owner=people.ann, kind=Account.Kind.EXCHANGE, exchange=LIVE, name="Coinbase")
    VenueFundsFactory(account=account)
    for currency, total in (("USD", 1000), ("BTC", "0.5"), ("XYZ", 7)):
        VenueBalanceFactory(account=account, currency=currency, total=Decimal(total))
    listed(BTC_USD=50_000)
    return account


def test_f32_live_and_paper_never_meet(people: People, client_of: ClientOf, live: Account) -> None:
    found = client_of(people.ann).get("/api/portfolio/").data
    groups = {group["money"]: group for group in found["groups"]}
    assert set(groups) == {"live", "paper"}
    assert groups["live"]["worth"] == {
        "currency": "USD",
        "amount": "26000",
        "is_partial": True,
        "unpriced": ["XYZ"],
        "unknown": [],
        "stale": [],
        "left_out": [],
    }
    btc = groups["live"]["holdings"][0]
    assert (btc["currency"], btc["total"], btc["free"], btc["price"], btc["value"]) == (
        "BTC",
        "0.5",
        "0.5",
        "50000",
        "25000",
    )
    assert btc["accounts"] == [live.pk]
    assert {row["currency"]: row["untracked"] for row in groups["live"]["holdings"]} == {
        "BTC": "0",
        "USD": "0",
        "XYZ": "7",
    }
    assert groups["live"]["untracked"][0]["unexplained"] == "7"
    assert [row["quote"] for row in groups["paper"]["buckets"]] == ["BTC", "USD"]


def test_values_can_be_shown_in_btc(people: People, client_of: ClientOf, live: Account) -> None:
    found = client_of(people.ann).get(f"/api/portfolio/?account={live.pk}&currency=BTC").data
    assert [group["worth"]["amount"] for group in found["groups"]] == ["0.52"]


def test_balances_are_told_with_their_age(people: People, client_of: ClientOf, live: Account) -> None:
    found = client_of(people.ann).get(f"/api/balances/?account={live.pk}").data
    assert [(row["account"], row["currency"], row["total"], row["value"]) for row in found["balances"]] == [
        (live.pk, "BTC", "0.5", "25000"),
        (live.pk, "USD", "1000", "1000"),
        (live.pk, "XYZ", "7", None),
    ]
    told = found["accounts"][0]
    assert (told["money"], told["is_known"], told["is_stale"]) == ("live", True, False)
    assert told["age_seconds"] <= 60
    silent = AccountFactory(owner=people.ann, kind=Account.Kind.EXCHANGE, exchange=LIVE)
    empty = client_of(people.ann).get(f"/api/balances/?account={silent.pk}").data
    assert empty["balances"] == []
    assert empty["accounts"][0]["is_known"] is False  # which is not the same as holding nothing


def test_profit_by_period(people: People, client_of: ClientOf) -> None:
    bot = BotFactory(account=people.account)
    for profit in ("12.5", "-2.5"):
        PositionFactory(
            bot=bot, closed=True, realised_quote=Decimal(profit), fees_quote=Decimal(1), exit_reason="take_profit"
        )
    PositionFactory(bot=bot, closed=True, product=ProductFactory(symbol="ETH-BTC"), realised_quote=Decimal("0.001"))
    found = client_of(people.ann).get("/api/pnl/?days=3").data
    assert found["zone"] == "UTC"
    quotes = {row["quote"]: row for row in found["groups"][0]["quotes"]}
    assert found["groups"][0]["money"] == "paper"
    today = quotes["USD"]["periods"][0]
    assert (today["period"], today["profit"], today["fees"], today["deals"]) == ("today", "10", "2", 2)
    assert today["strategy"] == {"deals": 2, "won": 1, "pct": "50"}
    assert [row["profit"] for row in quotes["USD"]["days"]] == ["0", "0", "10"]
    assert quotes["BTC"]["periods"][-1]["profit"] == "0.001"
    assert [row["period"] for row in quotes["USD"]["periods"]] == [
        "today",
        "yesterday",
        "week_to_date",
        "last_week",
        "month_to_date",
        "last_month",
        "quarter_to_date",
        "last_quarter",
        "year_to_date",
        "last_year",
        "all",
    ]


@pytest.mark.parametrize("path", VIEWS)
def test_f47_an_account_that_is_not_ones_own_is_not_there(people: People, client_of: ClientOf, path: str) -> None:
    for account in (people.account.pk, 2**40):
        answer = client_of(people.bob).get(f"{path}?account={account}")
        assert (answer.status_code, answer.data["code"]) == (404, "no_account")
    assert client_of(people.olga).get(f"{path}?account={people.account.pk}").status_code == 200


@pytest.mark.parametrize("path", VIEWS)
def test_signed_out_gets_nothing(db: None, client: Any, path: str) -> None:
    assert client.get(path).status_code == 401


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("portfolio/?currency=DOGE", "currency"),
        ("portfolio/?account=x", "account"),
        ("balances/?account=0", "account"),
        ("pnl/?days=0", "days"),
        ("pnl/?days=367", "days"),
        ("pnl/?nonsense=1", "nonsense"),
    ],
)
def test_f23_bad_questions_are_named(people: People, client_of: ClientOf, query: str, field: str) -> None:
    answer = client_of(people.ann).get(f"/api/{query}")
    assert (answer.status_code, answer.data["field"]) == (400, field)


@pytest.mark.parametrize("path", VIEWS)
def test_what_it_costs_does_not_depend_on_how_much_there_is(people: People, client_of: ClientOf, path: str) -> None:
    client = client_of(people.ann)

    def grow(number: int) -> None:
        for index in range(number):
            account = AccountFactory(owner=people.ann, balances={"USD": 5, "BTC": 1})
            fund(account, **{f"C{index}": 3, f"X{index}": 1})
            bot = BotFactory(account=account)
            PositionFactory(bot=bot, open=True, base_held=Decimal("0.1"))
            PositionFactory(bot=bot, closed=True)
            TransferFactory(account=account)
            ValueSnapshotFactory(account=account)

    def cost() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get(path).status_code == 200
        return len(seen)

    grow(2)
    client.get(path)
    before = cost()
    grow(12)
    assert cost() == before <= 22


# Rows -----------------------------------------------------------------------------------------------------------------


def test_transfers_are_listed_and_narrowed(people: People, client_of: ClientOf) -> None:
    now = clock.now()
    TransferFactory(account=people.account, currency="BTC", amount=Decimal("-0.5"), at=now - timedelta(days=3))
    TransferFactory(account=people.account, at=now)
    TransferFactory(account=AccountFactory(owner=people.bob))
    client = client_of(people.ann)
    rows = client.get("/api/transfers/").data["results"]
    assert [(row["currency"], row["amount"]) for row in rows] == [("USD", "1000"), ("BTC", "-0.5")]
    assert len(client.get("/api/transfers/?currency=BTC").data["results"]) == 1
    assert client.get(f"/api/transfers/?account={people.account.pk}&source=manual").data["results"] == []
    later = (now - timedelta(days=1)).isoformat().replace("+00:00", "Z")
    assert len(client.get(f"/api/transfers/?after={later}").data["results"]) == 1


def test_a_transfer_by_hand(people: People, client_of: ClientOf) -> None:
    unlisted = AccountFactory(owner=people.ann, kind=Account.Kind.EXCHANGE, exchange="elsewhere")
    client = client_of(people.ann)
    body = {"account": unlisted.pk, "currency": "usd", "amount": "-250", "at": "2026-01-02T03:04:05Z", "note": "bank"}
    made = client.post("/api/transfers/", body, format="json")
    assert made.status_code == 201
    assert (made.data["amount"], made.data["value_usd"], made.data["source"]) == ("-250", "-250", "manual")
    assert client.delete(f"/api/transfers/{made.data['id']}/").status_code == 204
    told = TransferFactory(account=unlisted)
    refused = client.delete(f"/api/transfers/{told.pk}/")
    assert (refused.status_code, refused.data["code"]) == (400, "not_by_hand")
    paper = client.post("/api/transfers/", {**body, "account": people.account.pk}, format="json")
    assert (paper.status_code, paper.data["code"]) == (400, "listed_by_venue")
    future = client.post("/api/transfers/", {**body, "at": "2999-01-01T00:00:00Z"}, format="json")
    assert (future.status_code, future.data["field"]) == (400, "at")


def test_a_transfer_sent_twice_with_one_key_is_entered_once(people: People, client_of: ClientOf) -> None:
    unlisted = AccountFactory(owner=people.ann, kind=Account.Kind.EXCHANGE, exchange="elsewhere")
    client = client_of(people.ann)
    body = {"account": unlisted.pk, "currency": "USD", "amount": "5", "at": "2026-01-02T03:04:05Z"}
    for _ in range(2):
        answer = client.post("/api/transfers/", body, format="json", headers={"Idempotency-Key": "one"})
        assert answer.status_code == 201
    assert len(client.get("/api/transfers/").data["results"]) == 1


def test_observers_read_and_change_nothing(people: People, client_of: ClientOf) -> None:
    manual = TransferFactory(account=people.account, source="manual")
    client = client_of(people.olga)
    assert client.get(f"/api/transfers/{manual.pk}/").status_code == 200
    assert client.delete(f"/api/transfers/{manual.pk}/").status_code == 403
    left = client.post("/api/left-out/", {"account": people.account.pk, "currency": "XYZ"}, format="json")
    assert (left.status_code, left.data["field"]) == (400, "account")
    assert client_of(UserFactory()).get(f"/api/transfers/{manual.pk}/").status_code == 404


def test_daily_values(people: People, client_of: ClientOf) -> None:
    at = clock.now()
    ValueSnapshotFactory(account=people.account, taken_at=at - timedelta(days=2), value_usd=Decimal(900))
    ValueSnapshotFactory(account=people.account, taken_at=at)
    client = client_of(people.ann)
    rows = client.get(f"/api/snapshots/?account={people.account.pk}").data["results"]
    assert [row["value_usd"] for row in rows] == ["1000", "900"]
    assert len(client.get(f"/api/snapshots/?after={at.date()}").data["results"]) == 1
    assert client_of(people.bob).get(f"/api/snapshots/?account={people.account.pk}").data["results"] == []


def test_leaving_out_and_counting_again(people: People, client_of: ClientOf, live: Account) -> None:
    client = client_of(people.ann)
    made = client.post("/api/left-out/", {"account": live.pk, "currency": "xyz"}, format="json")
    assert (made.status_code, made.data["currency"]) == (201, "XYZ")
    worth = client.get(f"/api/portfolio/?account={live.pk}").data["groups"][0]["worth"]
    assert (worth["is_partial"], worth["left_out"]) == (False, ["XYZ"])
    assert client.delete(f"/api/left-out/{made.data['id']}/").status_code == 204
    assert client.get("/api/left-out/").data["results"] == []
