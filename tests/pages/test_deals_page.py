"""One deal's page: figures, what happens next, orders, closing, cancelling, notes, the chart's data."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from accounts.access import acting_for
from accounts.models import Account, User
from bots import services
from bots.models import Bot
from marketdata import services as market_services
from marketdata.models import Product
from positions import execution
from positions.execution import Intent
from positions.models import Position
from positions.states import Direction, OrderStatus, OrderType, PositionStatus, Purpose, Side
from positions.templatetags.deals import said
from tests.factories import BotFactory, DecisionFactory, OrderFactory, PositionFactory, ProductFactory
from tests.looking import everything
from tests.pages.dealing import MOST_QUERIES, SETTINGS, closed_deal, open_deal, queries_of
from tests.pages.markup import offences, text
from tradebot.core.scoping import acting_for_account

pytestmark = pytest.mark.django_db


@pytest.fixture
def product() -> Product:
    return ProductFactory()


@pytest.fixture
def bot(account: Account, product: Product) -> Bot:
    return BotFactory(account=account, name="Dip ladder", products=[product], settings=SETTINGS)


def test_an_open_deal_says_what_happens_next(browser: Client, bot: Bot, product: Product) -> None:
    deal = open_deal(bot, product, 60_000, last_message="price 60000, target 63000")
    DecisionFactory(bot=bot, position=deal, product=product, message="price reached safety order 1")
    response = browser.get(f"/deals/{deal.pk}/")
    page = text(response)
    assert offences(response) == []
    for wanted in (
        "Sell everything",
        "Buy safety order 2",
        "Stop loss",
        "Price 60\u202f000, target 63\u202f000.",
        "Price reached safety order 1.",
        "Base order",
        "Safety order 1",
        "20 %",  # the stop loss among the frozen settings
        "Close at market",
        "Base order written down",
    ):
        assert wanted in page
    card = response.context["card"]
    assert card.outlook.stop == deal.average_price * Decimal("0.8")
    assert [rung.level for rung in card.outlook.rungs] == [2, 3]


def test_the_settings_shown_are_the_deals_own_not_the_bots(browser: Client, bot: Bot, product: Product) -> None:
    deal = open_deal(bot, product, settings=SETTINGS | {"take_profit": "7.5"})
    facts = {fact.label: fact.text for fact in browser.get(f"/deals/{deal.pk}/").context["card"].outlook.facts}
    assert facts["Take profit"] == "7.5 %"


def test_a_closed_deal_shows_its_result_and_offers_nothing_to_do(browser: Client, bot: Bot, product: Product) -> None:
    deal = closed_deal(bot, product)
    page = text(browser.get(f"/deals/{deal.pk}/"))
    assert "Take profit" in page
    assert "Realised, net of fees" in page
    assert "/close/" not in page
    assert "already" in text(browser.get(f"/deals/{deal.pk}/close/"))
    assert "already" in text(browser.get(f"/deals/{deal.pk}/cancel/"))


def test_f6_an_attempt_that_failed_says_why_and_has_no_number(browser: Client, bot: Bot, product: Product) -> None:
    failed = PositionFactory(bot=bot, product=product, closed=True)
    everything(Position).filter(pk=failed.pk).update(
        status=PositionStatus.FAILED, deal_number=None, error_code="insufficient_funds", last_error="90 USD was free"
    )
    page = text(browser.get(f"/deals/{failed.pk}/"))
    assert "Nothing was bought." in page
    assert "90 USD was free [insufficient_funds]" in page
    assert f"attempt {failed.attempt_number}" in page


def test_a_note_is_kept_and_everybody_is_told_who_sees_it(browser: Client, bot: Bot, product: Product) -> None:
    deal = open_deal(bot, product)
    answer = browser.post(f"/deals/{deal.pk}/note/", {"notes": "let the <b>ladder</b> work"}, follow=True)
    assert "Note saved." in text(answer)
    assert "let the &lt;b&gt;ladder&lt;/b&gt; work" in text(answer)
    too_long = browser.post(f"/deals/{deal.pk}/note/", {"notes": "x" * 5001}, follow=True)
    assert "5000" in text(too_long)


def test_the_orders_of_a_deal_can_be_taken_away(browser: Client, bot: Bot, product: Product) -> None:
    deal = open_deal(bot, product)
    rows = list(csv.DictReader(io.StringIO(browser.get(f"/deals/{deal.pk}/orders.csv").content.decode())))
    assert [row["purpose"] for row in rows] == ["base_order", "safety_order"]
    assert browser.get(f"/deals/{deal.pk}/orders.json").json()[0]["status"] == "filled"
    assert browser.get(f"/deals/{deal.pk}/orders.exe").status_code == 404


def test_the_chart_gets_candles_fills_and_lines(browser: Client, bot: Bot, product: Product) -> None:
    deal = open_deal(bot, product)
    data = browser.get(f"/deals/{deal.pk}/chart/?timeframe=5m").json()
    assert (data["product"], data["timeframe"]) == ("BTC-USD", "5m")
    assert len(data["candles"]) >= 100
    assert [mark["text"] for mark in data["marks"]] == ["B", "1"]
    assert {line["kind"] for line in data["lines"]} == {"target", "average", "next", "stop"}
    assert browser.get(f"/deals/{deal.pk}/chart/?timeframe=7w").json()["timeframe"] == "1m"


# Closing and cancelling, at the paper venue -------------------------------------------------------------------------


@pytest.fixture
def traded(trader: User, account: Account) -> Position:
    """A deal that a bot opened for real, on paper."""
    market_services.refresh_products("simulated")
    with acting_for(trader):
        bot = services.create_bot(
            trader, account=account, name="Real", settings=SETTINGS, symbols=["BTC-USD"], budget_pct=90
        )
        bot = services.start_bot(bot, trader.email)
    with acting_for_account(account.pk):
        order = execution.intend_open(
            account=account,
            bot=bot,
            product=Product.objects.get(exchange="simulated", symbol="BTC-USD"),
            direction=Direction.LONG,
            frozen_settings=bot.settings,
            settings_version=1,
            strategy=bot.strategy,
            budget_quote=Decimal(500),
            max_active_deals=1,
            max_deals_per_pair=1,
            intent=Intent(purpose=Purpose.BASE_ORDER, sequence=1, quote_size=Decimal(100)),
        )
    return order.position


@pytest.fixture
def filled(traded: Position) -> Position:
    with acting_for_account(traded.account_id):
        execution.submit(traded.orders.get())
        traded.refresh_from_db()
    assert traded.status == PositionStatus.OPEN
    return traded


@pytest.mark.django_db(transaction=True)
def test_f21_closing_shows_the_slippage_first_and_really_closes(browser: Client, filled: Position) -> None:
    page = browser.get(f"/deals/{filled.pk}/close/")
    assert page.context["preview"].base > 0
    assert "on paper" in text(page)
    assert text(page).index("Keep the deal") < text(page).index("on paper</button>")  # the safe way out comes first
    answer = browser.post(f"/deals/{filled.pk}/close/", follow=True)
    assert "The deal is closed." in text(answer)
    filled = everything(Position).get(pk=filled.pk)
    assert (filled.status, filled.exit_reason) == (PositionStatus.CLOSED, "manual")
    again = browser.post(f"/deals/{filled.pk}/close/", follow=True)
    assert "[position_ended]" in text(again)


@pytest.mark.django_db(transaction=True)
def test_f22_cancelling_keeps_the_coins_and_ends_the_resting_orders(browser: Client, filled: Position) -> None:
    with acting_for_account(filled.account_id):
        intent = Intent(
            purpose=Purpose.LIMIT_CLOSE,
            sequence=1,
            side=Side.SELL,
            order_type=OrderType.LIMIT,
            limit_price=filled.average_price * 2,
            base_size=filled.base_held,
        )
        execution.submit(execution.intend(filled, intent))
    assert "Limit close" in text(browser.get(f"/deals/{filled.pk}/"))
    assert "stay in the account" in text(browser.get(f"/deals/{filled.pk}/cancel/"))
    answer = browser.post(f"/deals/{filled.pk}/cancel/", follow=True)
    assert "Its coins stay in the account." in text(answer)
    filled = everything(Position).get(pk=filled.pk)
    assert filled.status == PositionStatus.CANCELLED
    with acting_for_account(filled.account_id):
        assert set(filled.orders.values_list("purpose", "status")) == {
            ("base_order", "filled"),
            ("limit_close", "cancelled"),
        }


def test_the_number_of_queries_does_not_grow_with_the_orders(browser: Client, bot: Bot, product: Product) -> None:
    deal = open_deal(bot, product)
    extra: dict[str, Any] = {"position": deal, "purpose": Purpose.MANUAL_ADD, "status": "cancelled"}
    few = queries_of(browser, f"/deals/{deal.pk}/")
    for _ in range(40):
        OrderFactory(**extra)
    assert queries_of(browser, f"/deals/{deal.pk}/") == few <= MOST_QUERIES


def test_numbers_in_stored_sentences_are_written_as_pages_write_them() -> None:
    for stored, shown in (
        ("price 60860.06, -1.37 % net", "price 60\u202f860.06, \u22121.37 % net"),
        ("open with 0.00385546 BTC for 234.94456 USD", "open with 0.00385546 BTC for 234.94456 USD"),
        (
            "RSI(14) on 5m is 50.6, BTC-2026 at 20:06, 23 Nov 2026",
            "RSI(14) on 5m is 50.6, BTC-2026 at 20:06, 23 Nov 2026",
        ),
    ):
        assert said(stored) == shown


def test_bought_and_sold_add_up_each_for_itself(browser: Client, bot: Bot, product: Product) -> None:
    deal = open_deal(bot, product, 60_000)
    sums = browser.get(f"/deals/{deal.pk}/").context["sums"]
    assert [one.title for one in sums] == ["Bought"]
    assert sums[0].base == deal.base_bought


def test_a_limit_close_by_hand_is_the_target_and_holds_the_rest_back(
    browser: Client, bot: Bot, product: Product
) -> None:
    deal = open_deal(bot, product, 60_000)
    before = browser.get(f"/deals/{deal.pk}/").context["card"].outlook
    OrderFactory(
        position=deal,
        purpose=Purpose.LIMIT_CLOSE,
        side=Side.SELL,
        order_type=OrderType.LIMIT,
        limit_price=Decimal(99_000),
        base_size=deal.base_bought,
        quote_size=None,
        status=OrderStatus.OPEN,
    )
    response = browser.get(f"/deals/{deal.pk}/")
    after = response.context["card"].outlook
    assert (after.target, after.own_target) == (Decimal(99_000), before.target)
    assert {step.state for step in after.steps if step.kind in ("profit", "add")} == {"waiting", "held"}
    assert {step.state for step in after.steps if step.kind == "stop"} == {"waiting"}
    assert "On hold" in text(response)
    assert "To the limit close" in text(response)
