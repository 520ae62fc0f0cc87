"""Accounts over the API: what is shown, what may be done, and by whom."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Account, PaperBalance
from tests.api.conftest import ClientOf, People
from tests.factories import PaperEntryFactory, PaperOrderFactory, PaperTradeFactory
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import detached


def balance(account: Account, currency: str) -> Decimal:
    with detached("test looks"):
        found: Decimal = PaperBalance.objects.get(account=account, currency=currency).total
        return found


def test_a_list_shows_own_and_shared_accounts_with_balances_as_strings(people: People, client_of: ClientOf) -> None:
    rows = client_of(people.ann).get("/api/accounts/").data["results"]
    assert [(row["id"], row["editable"]) for row in rows] == [(people.account.pk, True)]
    assert {row["currency"]: row["total"] for row in rows[0]["balances"]} == {"USD": "10000", "BTC": "1"}
    assert rows[0]["terms"]["taker_fee_pct"] == "0.6"
    assert client_of(people.olga).get("/api/accounts/").data["results"][0]["editable"] is False
    assert people.account.pk not in [row["id"] for row in client_of(people.bob).get("/api/accounts/").data["results"]]


def test_a_paper_account_is_opened_and_seen_in_the_same_answer(people: People, client_of: ClientOf) -> None:
    answer = client_of(people.bob).post("/api/accounts/", {"name": "Second", "exchange": "simulated"}, format="json")
    assert answer.status_code == 201
    assert {row["currency"]: row["free"] for row in answer.data["balances"]} == {
        "BTC": "1",
        "ETH": "10",
        "USD": "100000",
    }
    taken = client_of(people.bob).post("/api/accounts/", {"name": "Second", "exchange": "simulated"}, format="json")
    assert (taken.status_code, taken.data["field"]) == (400, "name")


def test_money_goes_in_and_out(people: People, client_of: ClientOf) -> None:
    ann = client_of(people.ann)
    path = f"/api/accounts/{people.account.pk}"
    answer = ann.post(f"{path}/deposit/", {"currency": "USD", "amount": "0.000000000000000001"}, format="json")
    assert answer.data["total"] == "10000.000000000000000001"
    assert ann.post(f"{path}/withdraw/", {"currency": "USD", "amount": "1"}, format="json").status_code == 200
    refused = ann.post(f"{path}/withdraw/", {"currency": "USD", "amount": "99999"}, format="json")
    assert (refused.status_code, refused.data["code"], refused.data["field"]) == (400, "above_free", "amount")
    assert refused.data["numbers"] == {"free": "9999.000000000000000001", "asked": "99999"}
    entries = ann.get(f"{path}/entries/?currency=USD").data
    assert [(row["kind"], row["amount"]) for row in entries["results"]][:2] == [
        ("withdrawal", "-1"),
        ("deposit", "0.000000000000000001"),
    ]
    assert ann.get(f"{path}/entries/?kind=nonsense").data["field"] == "kind"


def test_an_entry_names_the_order_that_changed_the_balance(people: People, client_of: ClientOf) -> None:
    trade = PaperTradeFactory(order=PaperOrderFactory(account=people.account))
    PaperEntryFactory(account=people.account, kind="trade", trade=trade)
    rows = client_of(people.ann).get(f"/api/accounts/{people.account.pk}/entries/?kind=trade").data["results"]
    assert [row["order"] for row in rows] == [str(trade.order.client_order_id)]


def test_a_reset_goes_back_to_the_start_and_keeps_the_journal(people: People, client_of: ClientOf) -> None:
    ann = client_of(people.ann)
    answer = ann.post(f"/api/accounts/{people.account.pk}/reset/")
    assert answer.status_code == 200
    assert {row["currency"]: row["total"] for row in answer.data["balances"]} == {
        "BTC": "1",
        "ETH": "10",
        "USD": "100000",
    }
    assert ann.get(f"/api/accounts/{people.account.pk}/entries/").data["count"] > 2


def test_a_rename_is_written_down_with_who_did_it(people: People, client_of: ClientOf) -> None:
    path = f"/api/accounts/{people.account.pk}/"
    answer = client_of(people.ann).patch(path, {"name": "Renamed"}, format="json")
    assert answer.data["name"] == "Renamed"
    with detached("test looks"):
        assert AuditEntry.objects.get(action="account_renamed").actor == people.ann.email


@pytest.mark.parametrize("who", ["max", "olga"])
@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [
        ("patch", "", {"name": "Mine"}),
        ("post", "deposit/", {"currency": "USD", "amount": "5"}),
        ("post", "withdraw/", {"currency": "USD", "amount": "5"}),
        ("post", "reset/", {}),
    ],
)
def test_an_account_shared_with_somebody_is_not_theirs_to_rearrange(
    people: People, client_of: ClientOf, who: str, method: str, suffix: str, body: dict[str, Any]
) -> None:
    client = client_of(getattr(people, who))
    answer = getattr(client, method)(f"/api/accounts/{people.account.pk}/{suffix}", body, format="json")
    assert (answer.status_code, answer.data["code"]) == (403, "permission_denied")
    assert balance(people.account, "USD") == 10_000


def test_f52_a_foreign_account_is_as_missing_as_one_that_never_was(people: People, client_of: ClientOf) -> None:
    bob = client_of(people.bob)
    foreign, absent = (bob.get(f"/api/accounts/{pk}/") for pk in (people.account.pk, 987_654))
    assert foreign.status_code == absent.status_code == 404
    assert foreign.data == absent.data


@pytest.mark.parametrize("amount", ["NaN", "1e400", "-1", "0", "Infinity", "", None, "1" * 2000, [], {}, True])
def test_f23_an_amount_that_is_none_is_refused_by_name(people: People, client_of: ClientOf, amount: Any) -> None:
    path = f"/api/accounts/{people.account.pk}/deposit/"
    answer = client_of(people.ann).post(path, {"currency": "USD", "amount": amount}, format="json")
    assert (answer.status_code, answer.data["field"]) == (400, "amount")


@pytest.mark.parametrize(
    "literal", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "1e99999999999999999999"]
)
def test_f23_number_literals_beyond_reason_are_refused_by_name(
    people: People, client_of: ClientOf, literal: str
) -> None:
    path, body = f"/api/accounts/{people.account.pk}/deposit/", f'{{"currency": "USD", "amount": {literal}}}'
    answer = client_of(people.ann).post(path, body, content_type="application/json")
    assert (answer.status_code, answer.data["field"]) == (400, "amount")


def test_number_literals_are_read_exactly(people: People, client_of: ClientOf) -> None:
    path, body = f"/api/accounts/{people.account.pk}/deposit/", '{"currency": "USD", "amount": 0.123456789012345678}'
    answer = client_of(people.ann).post(path, body, content_type="application/json")
    assert answer.data["total"] == "10000.123456789012345678"


@pytest.mark.parametrize("who", ["olga", "max"])
def test_a_share_is_left(people: People, client_of: ClientOf, who: str) -> None:
    client, path = client_of(getattr(people, who)), f"/api/accounts/{people.account.pk}/"
    assert client.post(f"{path}leave/").status_code == 204
    assert client.get(path).status_code == 404
    assert client.post(f"{path}leave/").status_code == 404


def test_ones_own_account_is_not_left(people: People, client_of: ClientOf) -> None:
    answer = client_of(people.ann).post(f"/api/accounts/{people.account.pk}/leave/")
    assert (answer.status_code, answer.data["code"]) == (400, "own_account")
