"""Selling and converting on the pages: where it is offered and to whom, what it shows before, and doing it once."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Account, User
from marketdata import services as market_services
from marketdata.models import Product
from positions.models import Order, Position
from tests.factories import AccountFactory, MembershipFactory, PaperTermsFactory, UserFactory, fund
from tests.pages.markup import offences, text
from tradebot.core.scoping import detached

D = Decimal


@pytest.fixture
def holder(trader: User) -> Account:
    """An account on the simulated market with coins that no deal holds."""
    market_services.refresh_products("simulated")
    found: Account = AccountFactory(
        owner=trader, name="Practice", is_default=True, balances={"USD": 1000, "ADA": 5000, "BTC": "0.5", "XYZ": 3}
    )
    PaperTermsFactory(account=found)
    return found


def address(account: Account, what: str = "sell") -> str:
    return reverse(f"coins_{what}", args=[account.pk])


def orders() -> list[Order]:
    with detached("test"):
        return list(Order.objects.select_related("position__product").order_by("pk"))


def sent_from(shown: Any, button: str) -> dict[str, str]:
    """Return what the form with this button would send, by its hidden fields."""
    form = next(
        part for part in re.findall(r"<form method=\"post\".*?</form>", text(shown), re.DOTALL) if button in part
    )
    return dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form))


# Where it is offered --------------------------------------------------------------------------------------------------


def test_each_holding_that_the_market_trades_can_be_sold_or_converted(browser: Client, holder: Account) -> None:
    shown = browser.get(reverse("portfolio"))
    assert offences(shown) == []
    found = text(shown)
    for currency in ("ADA", "BTC"):
        assert f"{address(holder)}?currency={currency}" in found
        assert f"{address(holder, 'convert')}?currency={currency}" in found
    assert f"{address(holder)}?currency=USD" not in found
    assert f"{address(holder, 'convert')}?currency=USD" in found
    assert "currency=XYZ" not in found


def test_with_several_accounts_each_has_its_own(browser: Client, trader: User, holder: Account) -> None:
    other = AccountFactory(owner=trader, name="Second", balances={"ADA": 1})
    found = text(browser.get(reverse("portfolio")))
    assert f"{address(holder)}?currency=ADA" in found
    assert f"{address(other)}?currency=ADA" in found
    assert 'aria-label="Sell ADA of Second"' in found


def test_an_observer_sees_no_way_and_has_none(client: Client, holder: Account) -> None:
    observer = UserFactory(verified=True)
    MembershipFactory(account=holder, user=observer, role="observer")
    client.force_login(observer)
    found = text(client.get(reverse("portfolio")))
    assert "ADA" in found
    assert "/sell/?currency" not in found
    assert client.get(address(holder), {"currency": "ADA"}).status_code == 404
    assert client.post(address(holder), {"currency": "ADA", "into": "USD", "amount": "10"}).status_code == 404
    assert orders() == []


def test_a_manager_may(client: Client, holder: Account) -> None:
    manager = UserFactory(verified=True)
    MembershipFactory(account=holder, user=manager, role="manager")
    client.force_login(manager)
    assert client.post(address(holder), {"currency": "ADA", "into": "USD", "amount": "10"}).status_code == 302
    assert orders()[0].actor == manager.email


def test_the_portfolio_costs_the_same_however_many_coins_and_sales(browser: Client, holder: Account) -> None:
    browser.get(reverse("portfolio"))
    with CaptureQueriesContext(connection) as few:
        browser.get(reverse("portfolio"))
    fund(holder, ETH=2, SOL=3, LTC=4)
    for _ in range(4):
        browser.post(address(holder, "convert"), {"currency": "ADA", "into": "ETH", "amount": "50"})
    browser.get(reverse("portfolio"))
    with CaptureQueriesContext(connection) as many:
        shown = browser.get(reverse("portfolio"))
    assert len(shown.context["sales"]) == 4
    assert len(many) - len(few) <= 3  # what untracked coins cost once, and nothing for each


# Before it is done ----------------------------------------------------------------------------------------------------


def test_a_sale_shows_what_it_comes_to_before_anything_is_done(browser: Client, holder: Account) -> None:
    shown = browser.get(address(holder), {"currency": "ADA"})
    assert shown.status_code == 200
    assert offences(shown) == []
    found = shown.context["outlook"]
    assert (found.gives, found.plan.free, found.plan.into) == (5000, 5000, "USD")
    assert "Sell 5\u2009000 ADA on paper" in text(shown)
    assert [share for share, _ in shown.context["shares"]] == [25, 50, 75]
    assert orders() == []
    less = browser.get(address(holder), {"currency": "ADA", "into": "BTC", "amount": "100"})
    assert less.context["outlook"].left == 4900


def test_a_conversion_offers_what_the_market_really_trades(browser: Client, holder: Account) -> None:
    shown = browser.get(address(holder, "convert"), {"currency": "ADA"})
    offered = [name for name, _ in shown.context["form"].fields["into"].choices]
    assert offered == ["", "USD", "BTC", "ETH", "LINK", "LTC", "SOL", "XLM"]
    assert shown.context["outlook"] is None
    assert "ETH, over USD" in text(shown)
    chosen = browser.get(address(holder, "convert"), {"currency": "ADA", "into": "ETH", "amount": "100"})
    steps = chosen.context["outlook"].steps
    assert [step.step.product.symbol for step in steps] == ["ADA-USD", "ETH-USD"]
    assert "in two steps, over USD" in text(chosen)
    assert "the money stays in USD" in text(chosen)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"amount": "5001"}, "It is 5001 ADA; 5000 ADA are free."),
        ({"amount": "0.0001"}, "below the smallest order on ADA-USD"),
        ({"amount": "-1"}, "it has to be above 0"),
        ({"amount": "many"}, "Enter a number."),
        ({"into": "DOGE"}, "Select a valid choice"),
        ({"into": "ETH"}, "Select a valid choice"),
    ],
)
def test_what_cannot_be_sold_is_said_beside_its_field(
    browser: Client, holder: Account, asked: dict[str, str], words: str
) -> None:
    values = {"currency": "ADA", "into": "USD", "amount": "10", **asked}
    assert words in text(browser.get(address(holder), values))
    shown = browser.post(address(holder), values)
    assert (shown.status_code, words in text(shown)) == (422, True)
    assert next(iter(asked)) in shown.context["form"].errors
    assert orders() == []


@pytest.mark.parametrize("query", [{}, {"currency": "XYZ"}, {"currency": "<b>"}, {"currency": "USD"}])
def test_what_has_no_pair_says_so(browser: Client, holder: Account, query: dict[str, str]) -> None:
    shown = browser.get(address(holder), query)
    assert (shown.status_code, "No pair for it" in text(shown)) == (200, True)
    assert browser.post(address(holder), query).status_code == 422


def test_an_account_that_is_stopped_says_so_and_has_no_button(browser: Client, holder: Account) -> None:
    with detached("test"):
        Account.objects.update(trading_state="killed")
    shown = text(browser.get(address(holder), {"currency": "ADA"}))
    assert "nothing is sold or converted until its owner arms it" in shown
    assert 'name="amount" value="5000"' not in shown
    assert browser.post(address(holder), {"currency": "ADA", "into": "USD"}).status_code == 422
    assert orders() == []


def test_archived_accounts_and_recordings_are_not_found(browser: Client, trader: User) -> None:
    recording = AccountFactory(owner=trader, exchange="replay")
    assert browser.get(address(recording), {"currency": "ADA"}).status_code == 404


# Doing it -------------------------------------------------------------------------------------------------------------


def test_the_form_sells_what_the_page_showed_once_however_often_it_is_sent(browser: Client, holder: Account) -> None:
    shown = browser.get(address(holder), {"currency": "ADA"})
    sent = sent_from(shown, "Sell 5")
    assert (sent["amount"], sent["into"], sent["currency"]) == ("5000", "USD", "ADA")
    answers = [browser.post(address(holder), sent, follow=True) for _ in range(3)]
    assert len(orders()) == 1
    for answer in answers:
        assert answer.redirect_chain[0][0] == reverse("deal", args=[orders()[0].position_id])
        assert "Sold 5\u202f000 ADA for" in text(answer) or "Sold 5000 ADA for" in text(answer)
    listed = text(browser.get(reverse("orders")))
    assert str(orders()[0].client_order_id)[:8] in listed


def test_a_conversion_is_told_on_its_deals_and_on_the_portfolio(browser: Client, holder: Account) -> None:
    answer = browser.post(address(holder, "convert"), {"currency": "ADA", "into": "ETH", "amount": "100"}, follow=True)
    first, second = orders()
    assert "Bought" in text(answer)
    assert reverse("deal", args=[first.position_id]) in text(answer)
    there = text(browser.get(reverse("deal", args=[first.position_id])))
    assert reverse("deal", args=[second.position_id]) in there
    assert "Conversion asked for: ADA into ETH" in there
    found = text(browser.get(reverse("portfolio")))
    assert "ADA → ETH" in found
    listed = text(browser.get(reverse("orders")))
    assert [f"<td>{name}</td>" in listed for name in ("Sale", "Purchase", "Base order")] == [True, True, False]
    assert reverse("deal", args=[second.position_id]) in found


def test_a_conversion_that_stops_half_way_says_where_the_money_is(
    browser: Client, holder: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    from positions import execution

    submit = execution.submit

    def submitted(order: Order) -> Order:
        done = submit(order)
        Product.objects.filter(symbol="ETH-USD").update(status="offline")
        return done

    monkeypatch.setattr(execution, "submit", submitted)
    answer = browser.post(address(holder, "convert"), {"currency": "ADA", "into": "ETH", "amount": "100"}, follow=True)
    assert "The money stays in USD." in text(answer)
    assert "note-bar warning" in text(answer)
    assert "Half way" in text(browser.get(reverse("portfolio")))


def test_a_sale_that_is_under_way_offers_nothing_but_its_end(browser: Client, holder: Account) -> None:
    from tests.factories import OrderFactory, PositionFactory

    product = Product.objects.get(exchange="simulated", symbol="ADA-USD")
    deal = PositionFactory(
        bot=None,
        account=holder,
        product=product,
        strategy="sale",
        direction="short",
        open=True,
        base_held=D(-50),
        base_sold=D(50),
        quote_received=D(35),
        settings={"gives": "ADA", "into": "USD", "size": "100"},
    )
    OrderFactory(position=deal, side="sell", status="partially_filled", base_size=D(100), filled_base=D(50))
    shown = text(browser.get(reverse("deal", args=[deal.pk])))
    assert "Sold 50 of 100 ADA for 35 USD after fees so far." in shown
    for name in ("deal_close", "deal_limit_close", "deal_add_funds", "deal_settings"):
        assert reverse(name, args=[deal.pk]) not in shown
        assert reverse(name, args=[deal.pk]) not in text(browser.get(reverse("deals")))
    assert reverse("deal_cancel", args=[deal.pk]) in shown
    assert "Cancel what is left" in text(browser.get(reverse("deal_cancel", args=[deal.pk])))
    with detached("test"):
        assert Position.objects.get(pk=deal.pk).is_sale
