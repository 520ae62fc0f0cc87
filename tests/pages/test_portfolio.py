"""The portfolio page: what it shows, what it says when it does not know, its forms, and its cost."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Account, LeftOut, Membership, Transfer, User
from tests.factories import (
    AccountFactory,
    BotFactory,
    MembershipFactory,
    PositionFactory,
    TransferFactory,
    ValueSnapshotFactory,
    VenueBalanceFactory,
    VenueFundsFactory,
)
from tests.marketdata.conftest import venue  # noqa: F401 (a fixture)
from tests.marketdata.venue import Venue, product_row
from tests.pages.markup import offences, text
from tests.positions.portfolio.listing import LIVE, listed
from tradebot.core import clock
from tradebot.core.scoping import detached

DAY = timedelta(days=1)


@pytest.fixture
def live(trader: User) -> Account:
    account: Account = AccountFactory(owner=trader, kind=Account.Kind.EXCHANGE, exchange=LIVE, name="Coinbase main")
    VenueFundsFactory(account=account)
    for currency, total in (("USD", 1000), ("BTC", "0.5"), ("ADA", 300), ("XYZ", 7)):
        VenueBalanceFactory(account=account, currency=currency, total=Decimal(total))
    listed(BTC_USD=50_000, ADA_USD="0.7")
    return account


def page(browser: Client, **query: str) -> Any:
    return browser.get(reverse("portfolio"), query)


def test_an_account_that_is_new_says_when_the_curve_begins(browser: Client, account: Account) -> None:
    shown = page(browser)
    assert offences(shown) == []
    assert "The curve begins with the second value" in text(shown)
    assert "Every coin has its deal" in text(shown)
    assert "No deal yet" in text(shown)


def test_somebody_without_an_account_is_told_what_to_do(browser: Client) -> None:
    assert "Open a paper account" in text(page(browser))


def test_holdings_value_and_allocation(browser: Client, live: Account) -> None:
    shown = page(browser)
    assert [line.currency for line in shown.context["lines"]] == ["BTC", "USD", "ADA", "XYZ"]
    assert shown.context["worth"].amount == 26_210
    assert "26\u2009210.00" in text(shown)
    assert [(part.name, round(part.width, 1)) for part in shown.context["slices"]] == [
        ("BTC", Decimal("95.4")),
        ("USD", Decimal("3.8")),
        ("ADA", Decimal("0.8")),
    ]
    assert sum(part.width for part in shown.context["slices"]) <= 100


def test_f34_what_has_no_price_says_so_and_the_total_is_partial(browser: Client, live: Account) -> None:
    shown = text(page(browser))
    assert "Without a price: XYZ" in shown
    assert "Value, as far as known" in shown
    assert "no price" in shown


def test_f34_unknown_and_old_balances_are_said_to_be(browser: Client, trader: User, live: Account) -> None:
    AccountFactory(owner=trader, kind=Account.Kind.EXCHANGE, exchange=LIVE, name="Silent")
    with detached("test data"):
        live.venue_funds.asked_at = clock.now() - timedelta(minutes=9)
        live.venue_funds.save()
    shown = text(page(browser))
    assert "Silent: what it holds is not known, so it is in no figure here." in shown
    assert re.search(r"Coinbase main: its balances are 9 m (\d s )?old", shown)


def test_f32_live_and_paper_are_looked_at_apart(browser: Client, account: Account, live: Account) -> None:
    assert page(browser).context["accounts"] == [live]
    shown = page(browser, money="paper")
    assert shown.context["accounts"] == [account]
    assert "Coinbase main" not in text(shown).split("<main", 1)[1]


def test_one_account_of_several(browser: Client, trader: User, account: Account) -> None:
    other = AccountFactory(owner=trader, balances={"USD": 7})
    both = page(browser)
    assert {row.account.pk for row in both.context["rows"]} == {account.pk, other.pk}
    one = page(browser, account=str(other.pk))
    assert one.context["worth"].amount == 7
    foreign = AccountFactory(balances={"USD": 7_134_271})
    assert page(browser, account=str(foreign.pk)).context["chosen"] is None


def test_search_sort_and_chips(browser: Client, live: Account) -> None:
    assert [line.currency for line in page(browser, q="ad").context["lines"]] == ["ADA"]
    assert [line.currency for line in page(browser, sort="name").context["lines"]] == ["ADA", "BTC", "USD", "XYZ"]
    assert [line.currency for line in page(browser, show="untracked").context["lines"]] == ["ADA", "XYZ"]
    assert [line.currency for line in page(browser, show="unpriced").context["lines"]] == ["XYZ"]
    assert [line.currency for line in page(browser, sort="untracked").context["lines"]][:2] == ["ADA", "XYZ"]
    assert "No holding matches" in text(page(browser, q="nothing"))


@pytest.mark.parametrize(
    "query",
    [
        {"currency": "DOGE"},
        {"days": "x"},
        {"account": "x"},
        {"account": "999999999999999999999"},
        {"money": "?"},
        {"quote": "<b>"},
        {"sort": "?", "show": "?", "q": "x" * 100, "page": "x"},
    ],
)
def test_an_address_that_asks_for_what_is_not_there_shows_the_usual(
    browser: Client, account: Account, query: dict[str, str]
) -> None:
    shown = page(browser, **query)
    assert shown.status_code == 200
    assert shown.context["into"] == "USD"


def test_f35_the_chart_and_the_figures_keep_deposits_apart(browser: Client, live: Account) -> None:
    now = clock.now()
    with detached("test data"):
        live.venue_balances.exclude(currency="USD").delete()
    for days_ago, value in ((3, 900), (2, 920), (1, 940)):
        ValueSnapshotFactory(
            account=live, taken_at=now - days_ago * DAY, value_usd=Decimal(value), value_btc=Decimal(value) / 50_000
        )
    TransferFactory(account=live, amount=Decimal(50), at=now - timedelta(hours=2), value_btc=Decimal("0.001"))
    bot = BotFactory(account=live)
    PositionFactory(bot=bot, closed=True, realised_quote=Decimal(5), opened_at=now - 2 * DAY, closed_at=now - 2 * DAY)
    shown = page(browser)
    chart = shown.context["chart"]
    assert chart["value"] == [900.0, 920.0, 940.0, 1000.0]
    assert chart["put_in"] == [900.0, 900.0, 900.0, 950.0]
    assert [mark["text"] for mark in chart["marks"]] == ["+50.00 USD"]
    assert (shown.context["gain"].amount, shown.context["gain"].put_in) == (50, 50)
    assert "+50.00 USD put in" in text(shown)
    assert page(browser, currency="BTC").context["gain"].amount == Decimal("0.001")


def test_an_observer_sees_and_has_no_buttons(browser: Client, trader: User, live: Account) -> None:
    foreign = AccountFactory(name="Shared", balances={"USD": 5, "XYZ": 1})
    MembershipFactory(account=foreign, user=trader, role=Membership.Role.OBSERVER)
    assert "Leave out" in text(page(browser))
    shown = text(page(browser, money="paper"))
    assert "Shared" in shown
    assert "Leave out" not in shown


def test_leaving_out_and_counting_again(browser: Client, live: Account) -> None:
    address = reverse("portfolio_left_out", args=[live.pk])
    answer = browser.post(address, {"currency": "XYZ"}, follow=True)
    assert "XYZ is left out of what Coinbase main is worth." in text(answer)
    assert answer.context["worth"].is_partial is False
    answer = browser.post(address, {"currency": "XYZ", "count": "yes"}, follow=True)
    assert "XYZ counts in what Coinbase main is worth." in text(answer)
    with detached("test looks"):
        assert not LeftOut.objects.exists()
    assert "A currency is up to" in text(browser.post(address, {"currency": "a b"}, follow=True))


def test_a_transfer_by_hand_is_in_the_readers_own_time(browser: Client, trader: User) -> None:
    account = AccountFactory(owner=trader, kind=Account.Kind.EXCHANGE, exchange="elsewhere", name="Elsewhere")
    assert "Enter a transfer of Elsewhere" in text(page(browser))
    address = reverse("transfer_enter", args=[account.pk])
    body = {"direction": "out", "amount": "1 250", "currency": "usd", "at": "2026-01-02T03:04", "note": "to the bank"}
    answer = browser.post(address, body, follow=True)
    assert "It counts as money put in, not as profit." in text(answer)
    with detached("test looks"):
        made = Transfer.objects.get()
    assert (made.amount, made.currency) == (-1250, "USD")
    assert made.at.isoformat() == "2026-01-02T02:04:00+00:00"  # 03:04 in Berlin
    answer = browser.post(reverse("transfer_remove", args=[made.pk]), follow=True)
    assert "The transfer is removed." in text(answer)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("amount", "-5", "An amount is above zero"),
        ("amount", "NaN", "Enter a number"),
        ("at", "2999-01-01T00:00", "has happened already"),
        ("currency", "a b", "A currency is up to"),
        ("direction", "sideways", "valid choice"),
    ],
)
def test_f23_a_form_that_makes_no_sense_is_shown_again(
    browser: Client, trader: User, field: str, value: str, words: str
) -> None:
    account = AccountFactory(owner=trader, kind=Account.Kind.EXCHANGE, exchange="elsewhere")
    body = {"direction": "in", "amount": "5", "currency": "USD", "at": "2026-01-02T03:04", field: value}
    answer = browser.post(reverse("transfer_enter", args=[account.pk]), body)
    assert answer.status_code == 422
    assert words in text(answer)
    assert offences(answer) == []


def test_a_page_that_renews_itself_gets_the_changing_parts_only(browser: Client, account: Account) -> None:
    response = browser.get(reverse("portfolio"), headers={"HX-Request": "true"})
    assert 'id="holdings"' in text(response)
    assert "<html" not in text(response)


def test_a_cold_page_with_135_assets_asks_the_venue_once(
    browser: Client,
    trader: User,
    venue: Venue,  # noqa: F811
) -> None:
    names = [f"C{n}" for n in range(135)]
    venue.products = [product_row(f"{name}-USD", price="2") for name in names]
    account = AccountFactory(owner=trader, kind=Account.Kind.EXCHANGE, exchange=LIVE)
    VenueFundsFactory(account=account)
    VenueBalanceFactory(account=account, currency="C0", total=Decimal(3))
    cache.clear()
    page(browser)
    cache.clear()
    with CaptureQueriesContext(connection) as few:
        page(browser)
    venue.asked.clear()
    for name in names[1:]:
        VenueBalanceFactory(account=account, currency=name, total=Decimal(3))
    cache.clear()
    with CaptureQueriesContext(connection) as many:
        shown = page(browser)
    assert shown.context["worth"].amount == 810
    assert len(shown.context["lines"]) == 135
    assert [path for path, _ in venue.asked] == ["/api/v3/brokerage/market/products"]
    assert len(many) == len(few) <= 45


def test_the_top_bar_shows_what_the_accounts_are_worth(browser: Client, account: Account) -> None:
    shown = text(browser.get(reverse("deals")))
    assert 'data-tick="worth"' in shown
    with detached("test data"):
        account.paper_balances.create(currency="XYZ", total=Decimal(1))
    cache.clear()
    assert 'data-tick="worth"' not in text(browser.get(reverse("deals")))  # not known for certain


def test_f47_the_top_bar_shows_nobody_elses_figure(browser: Client, account: Account, client: Client) -> None:
    foreign = AccountFactory(balances={"USD": 7_134_271})
    other = Client()
    other.force_login(foreign.owner)
    assert "7\u2009134\u2009271.00" in text(other.get(reverse("deals")))
    assert "7\u2009134\u2009271" not in text(browser.get(reverse("deals")))
