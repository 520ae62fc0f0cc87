"""History and orders: tabs, filters, sums, paging and exports."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.test import Client

from accounts.models import Account
from bots.models import Bot
from marketdata.models import Product
from positions.models import Position
from positions.states import OrderStatus, PositionStatus
from tests.factories import BotFactory, OrderFactory, PositionFactory, ProductFactory, UserFactory
from tests.looking import everything
from tests.pages.dealing import MOST_QUERIES, closed_deal, open_deal, queries_of
from tests.pages.markup import offences, text
from tradebot.core import clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def product() -> Product:
    return ProductFactory()


@pytest.fixture
def bot(account: Account, product: Product) -> Bot:
    return BotFactory(account=account, name="Dip ladder", products=[product])


def failed_attempt(bot: Bot, product: Product, error: str) -> Position:
    deal = PositionFactory(bot=bot, product=product, closed=True)
    everything(Position).filter(pk=deal.pk).update(status=PositionStatus.FAILED, deal_number=None, last_error=error)
    return deal


def test_an_empty_history_says_what_will_be_here(browser: Client, account: Account) -> None:
    assert "No deal has ended yet" in text(browser.get("/history/"))
    assert "No attempt has failed" in text(browser.get("/history/?tab=failed"))
    assert "No orders yet" in text(browser.get("/orders/"))
    assert browser.get("/history/?tab=lost").status_code == 404


def test_closed_and_failed_deals_are_apart_and_open_ones_are_neither(
    browser: Client, bot: Bot, product: Product
) -> None:
    won, lost = closed_deal(bot, product), closed_deal(bot, product, gain="0.9")
    open_deal(bot, product)
    attempt = failed_attempt(bot, product, "90 USD was free")
    response = browser.get("/history/")
    assert offences(response) == []
    assert {deal.pk for deal in response.context["page"].object_list} == {won.pk, lost.pk}
    (total,) = response.context["totals"]
    assert (total.deals, total.won, total.profit) == (2, 1, won.realised_quote + lost.realised_quote)
    failed = browser.get("/history/?tab=failed")
    assert [deal.pk for deal in failed.context["page"].object_list] == [attempt.pk]
    assert "90 USD was free" in text(failed)


def test_the_history_is_narrowed_by_pair_bot_reason_and_the_readers_days(
    browser: Client, bot: Bot, product: Product
) -> None:
    now = clock.now()
    recent = closed_deal(bot, product)
    old = closed_deal(
        BotFactory(account=bot.account), ProductFactory(symbol="ETH-USD"), closed_at=now - timedelta(days=10)
    )

    def shown(query: str) -> set[int]:
        return {deal.pk for deal in browser.get(f"/history/?{query}").context["page"].object_list}

    assert shown("") == {recent.pk, old.pk}
    assert shown("q=eth-") == {old.pk}
    assert shown(f"bot={bot.pk}") == {recent.pk}
    assert shown("reason=stop_loss") == set()
    assert shown(f"since={(now - timedelta(days=3)).date()}") == {recent.pk}
    assert shown(f"until={(now - timedelta(days=3)).date()}") == {old.pk}
    assert shown("since=yesterday&bot=x&reason=bad&page=0") == {recent.pk, old.pk}
    assert "No deal matches" in text(browser.get("/history/?q=XRP"))


def test_exports_hold_what_the_filter_shows_with_exact_amounts(browser: Client, bot: Bot, product: Product) -> None:
    deal = closed_deal(bot, product)
    closed_deal(bot, ProductFactory(symbol="ETH-USD"))
    response = browser.get("/history/export.csv?q=BTC")
    assert "attachment" in response["Content-Disposition"]
    (row,) = csv.DictReader(io.StringIO(response.content.decode()))
    assert (row["pair"], row["bot"], row["profit_quote"]) == ("BTC-USD", "Dip ladder", "3.77")
    assert row["deal"] == str(deal.deal_number)
    assert len(browser.get("/history/export.json").json()) == 2
    assert browser.get("/history/export.csv?q=none").content == b""


def test_a_note_that_looks_like_a_formula_stays_text_in_a_spreadsheet(
    browser: Client, bot: Bot, product: Product
) -> None:
    closed_deal(bot, product, notes='=HYPERLINK("http://example.com")')
    (row,) = csv.DictReader(io.StringIO(browser.get("/history/export.csv").content.decode()))
    assert row["notes"].startswith("'=")
    (loss,) = [row["profit_quote"] for row in [row]]
    assert not loss.startswith("'")


def test_every_attempt_is_among_the_orders_with_its_state_and_error(
    browser: Client, bot: Bot, product: Product
) -> None:
    deal = open_deal(bot, product)
    OrderFactory(
        position=deal, sequence=9, status=OrderStatus.REJECTED, error_code="below_minimum", error_text="too small"
    )
    OrderFactory(position=deal, sequence=10, purpose="manual_add", status=OrderStatus.OPEN)
    response = browser.get("/orders/")
    assert offences(response) == []
    page = text(response)
    assert "too small [below_minimum]" in page
    assert "Resting" in page

    def shown(query: str) -> int:
        return len(browser.get(f"/orders/?{query}").context["rows"])

    assert (shown(""), shown("state=working"), shown("state=failed"), shown("state=filled")) == (4, 1, 1, 2)
    assert (shown("purpose=manual_add"), shown("q=ETH"), shown(f"bot={bot.pk}")) == (1, 0, 4)
    assert len(browser.get("/orders/export.json?state=failed").json()) == 1


def test_f53_history_and_orders_hold_only_what_is_ones_own(client: Client, bot: Bot, product: Product) -> None:
    closed_deal(bot, product)
    client.force_login(UserFactory())
    assert "Dip ladder" not in text(client.get("/history/"))
    assert not client.get("/orders/").context["rows"]
    assert client.get("/history/export.json").json() == []
    assert client.get(f"/history/?bot={bot.pk}").context["page"].paginator.count == 0


@pytest.mark.parametrize("path", ["/history/", "/orders/"])
def test_the_number_of_queries_does_not_grow_with_the_rows(
    browser: Client, bot: Bot, product: Product, path: str
) -> None:
    for _ in range(5):
        closed_deal(bot, product)
    few = queries_of(browser, path)
    for _ in range(45):
        closed_deal(bot, product)
    assert queries_of(browser, path) == few <= MOST_QUERIES


def test_a_long_history_comes_in_pages(browser: Client, bot: Bot, product: Product) -> None:
    for _ in range(51):
        PositionFactory(bot=bot, product=product, closed=True)
    first = browser.get("/history/")
    assert len(first.context["page"].object_list) == 50
    assert "page=2" in text(first)
    assert len(browser.get("/history/?page=2").context["page"].object_list) == 1
