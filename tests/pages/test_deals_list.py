"""The list of open deals: figures, groups, filters, and the same number of queries however long it is."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.test import Client

from accounts.models import Account, User
from bots.models import Bot, CoinReview
from marketdata import sources
from marketdata.models import Category, Coin, Product
from positions.models import Position
from positions.states import OrderStatus, Purpose
from tests.factories import (
    AccountFactory,
    BotFactory,
    MembershipFactory,
    OrderFactory,
    PositionFactory,
    ProductFactory,
    UserFactory,
)
from tests.looking import everything
from tests.pages.dealing import MOST_QUERIES, SETTINGS, bought, open_deal, queries_of, recompute
from tests.pages.markup import offences, text
from tradebot.core.scoping import all_accounts

pytestmark = pytest.mark.django_db


@pytest.fixture
def product() -> Product:
    return ProductFactory()


@pytest.fixture
def bot(account: Account, product: Product) -> Bot:
    return BotFactory(account=account, name="Dip ladder", products=[product], settings=SETTINGS)


def now_price(product: Product) -> Decimal:
    return sources.get(product.exchange).tickers([product.symbol])[product.symbol].mark


def test_an_empty_list_says_what_to_do_next(browser: Client, account: Account) -> None:
    page = text(browser.get("/deals/"))
    assert "No open deals" in page
    assert 'href="/bots/"' in page


def test_a_deal_shows_its_figures_its_bar_and_its_bot(browser: Client, bot: Bot, product: Product) -> None:
    deal = open_deal(bot, product, now_price(product) * Decimal("1.1"))
    response = browser.get("/deals/")
    page = text(response)
    assert offences(response) == []
    for wanted in (
        "BTC-USD",
        "Dip ladder",
        f"/deals/{deal.pk}/",
        "1 of 3",
        "2.00000000 BTC",
        "now ",
        "target",
        "stop",
    ):
        assert wanted in page
    assert '<span class="num down">' in page  # bought above the price
    assert 'class="pain"' in page


def test_a_price_above_break_even_is_green_exactly_when_the_profit_is(
    browser: Client, bot: Bot, product: Product
) -> None:
    open_deal(bot, product, now_price(product) * Decimal("0.9"))
    page = text(browser.get("/deals/"))
    assert 'class="gain"' in page
    assert '<span class="num up">' in page


def test_f32_totals_are_kept_per_currency_and_paper_apart_from_live(
    browser: Client, trader: User, bot: Bot, product: Product
) -> None:
    live = AccountFactory(owner=trader, kind=Account.Kind.EXCHANGE)
    open_deal(bot, product)
    open_deal(BotFactory(account=live), product)
    open_deal(bot, ProductFactory(symbol="ETH-BTC"), Decimal("0.05"))
    totals = browser.get("/deals/").context["totals"]
    assert [(total.is_paper, total.quote, total.sums.deals) for total in totals] == [
        (False, "USD", 1),
        (True, "BTC", 1),
        (True, "USD", 1),
    ]
    sections = browser.get("/deals/?group=none").context["sections"]
    assert [(section.is_paper, len(section.cards)) for section in sections] == [(False, 1), (True, 2)]


def test_a_deal_without_a_price_is_not_counted_as_worth_nothing(browser: Client, bot: Bot) -> None:
    gone = ProductFactory(exchange="coinbase", symbol="GONE-USD")
    other = BotFactory(account=AccountFactory(owner=bot.owner, exchange="coinbase"), products=[gone])
    open_deal(other, gone)
    response = browser.get("/deals/")
    assert "price unknown" in text(response)
    (total,) = response.context["totals"]
    assert (total.sums.unpriced, total.sums.value) == (1, 0)


def test_filters_narrow_by_bot_pair_currency_and_need(browser: Client, bot: Bot, product: Product) -> None:
    first = open_deal(bot, product)
    other = BotFactory(account=bot.account, name="RSI scalper")
    second = open_deal(other, ProductFactory(symbol="ETH-USD"), settings=SETTINGS | {"stop_loss": None})
    for price in (96, 94):
        bought(second, Purpose.SAFETY_ORDER, price, "1")
    recompute(second)

    def shown(query: str) -> set[int]:
        sections = browser.get(f"/deals/?{query}").context["sections"]
        return {card.position.pk for section in sections for card in section.cards}

    assert shown("") == {first.pk, second.pk}
    assert shown(f"bot={bot.pk}") == {first.pk}
    assert shown("q=eth") == {second.pk}
    assert shown("quote=BTC") == set()
    assert shown("show=needs") == {second.pk}  # its ladder is used up and no stop is set
    assert shown("bot=all&sort=guess&group=guess&page=99") == {first.pk, second.pk}


def test_an_order_that_was_refused_is_said_with_its_code(browser: Client, bot: Bot, product: Product) -> None:
    deal = open_deal(bot, product)
    OrderFactory(
        position=deal,
        purpose=Purpose.SAFETY_ORDER,
        sequence=9,
        status=OrderStatus.REJECTED,
        error_code="insufficient_funds",
        error_text="needs 120 USD, 90 was free",
    )
    page = text(browser.get("/deals/"))
    assert "Order failed" in page
    assert "(insufficient_funds): needs 120 USD, 90 was free" in page


def test_a_deal_of_a_bot_without_readable_settings_is_still_shown(browser: Client, bot: Bot, product: Product) -> None:
    open_deal(bot, product, settings={"from": "another time"}, strategy="forgotten")
    assert "BTC-USD" in text(browser.get("/deals/"))


def test_a_pending_attempt_waits_for_its_first_fill(browser: Client, bot: Bot, product: Product) -> None:
    PositionFactory(bot=bot, product=product, settings=SETTINGS)
    page = text(browser.get("/deals/"))
    assert "Opening" in page
    assert "Waiting for the first fill." in page


def test_an_observer_sees_the_deal_and_no_way_to_change_it(
    client: Client, account: Account, bot: Bot, product: Product
) -> None:
    deal = open_deal(bot, product)
    observer = MembershipFactory(account=account).user
    client.force_login(observer)
    page = text(client.get("/deals/"))
    assert f"/deals/{deal.pk}/" in page
    assert f"/deals/{deal.pk}/close/" not in page
    assert client.get(f"/deals/{deal.pk}/close/").status_code == 404


def test_somebody_elses_deals_are_not_there(client: Client, bot: Bot, product: Product) -> None:
    deal = open_deal(bot, product)
    client.force_login(UserFactory())
    assert "Dip ladder" not in text(client.get("/deals/"))
    paths = ["", "chart/", "close/", "cancel/", "orders.csv", "orders.json"]
    assert {client.get(f"/deals/{deal.pk}/{path}").status_code for path in paths} == {404}
    assert client.post(f"/deals/{deal.pk}/note/", {"notes": "mine"}).status_code == 404
    assert not everything(Position).get(pk=deal.pk).notes


@pytest.mark.parametrize("path", ["/deals/", "/history/", "/history/?tab=failed", "/orders/", "/history/export.csv"])
def test_pages_are_for_signed_in_people(client: Client, path: str) -> None:
    assert client.get(path).status_code == 302


def test_the_number_of_queries_does_not_grow_with_the_deals(browser: Client, bot: Bot, product: Product) -> None:
    for _ in range(5):
        open_deal(bot, product)
    few = queries_of(browser, "/deals/")
    for _ in range(45):
        open_deal(bot, product)
    assert queries_of(browser, "/deals/") == few <= MOST_QUERIES


def test_deals_are_narrowed_by_what_their_owner_thinks_of_the_coin(browser: Client, account: Account, bot: Bot) -> None:
    pepe, ether = ProductFactory(symbol="PEPE-USD", base="PEPE"), ProductFactory(symbol="ETH-USD", base="ETH")
    for one in (pepe, ether):
        open_deal(bot, one, 100)
    Coin.objects.create(code="ETH", category=Category.APPROVED)
    with all_accounts("a review made by its owner"):
        CoinReview.objects.create(owner=account.owner, code="PEPE", category=Category.MEME)
    page = browser.get("/deals/")
    assert page.context["categories"] == [("approved", 1), ("meme", 1)]
    assert [card.position.product.symbol for card in browser.get("/deals/?category=meme").context["page"]] == [
        "PEPE-USD"
    ]
    assert browser.get("/deals/?category=nonsense").context["shown_count"] == 2
