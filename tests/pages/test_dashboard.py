"""The dashboard: its figures, what waits for a person, live and paper apart, and its cost."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Account, PaperBalance
from bots.models import Bot
from positions.states import ExitReason, OrderStatus, PositionStatus, Purpose
from tests.factories import (
    AccountFactory,
    BotFactory,
    BotProductFactory,
    FillFactory,
    OrderFactory,
    PositionFactory,
    ProductFactory,
    TransferFactory,
    UnmatchedFillFactory,
    ValueSnapshotFactory,
)
from tests.pages.markup import offences, text
from tradebot.core import clock
from tradebot.core.scoping import all_accounts


def closed_deal(account: Account, profit: str, symbol: str = "BTC-USD", **changes: object) -> None:
    values = {"closed": True, "realised_quote": Decimal(profit), "exit_reason": ExitReason.TAKE_PROFIT} | changes
    PositionFactory(bot=BotFactory(account=account), product=ProductFactory(symbol=symbol), **values)


def open_deal(account: Account, **bot: object) -> None:
    position = PositionFactory(
        bot=BotFactory(account=account, status=Bot.Status.RUNNING, **bot), open=True, product=ProductFactory()
    )
    FillFactory(order=OrderFactory(position=position, status=OrderStatus.FILLED, finished_at=clock.now()))


def test_an_empty_dashboard_says_what_to_do_next(browser: Client, account: Account) -> None:
    page = browser.get(reverse("dashboard"))

    assert offences(page) == []
    assert "No bot is running" in text(page)
    assert "Nothing closed in this time" in text(page)
    assert "No trade yet" in text(page)


def test_somebody_without_an_account_is_told_so(browser: Client) -> None:
    page = browser.get(reverse("dashboard"))

    assert page.status_code == 200
    assert "No account yet." in text(page)


def test_realised_profit_is_kept_per_currency(browser: Client, account: Account) -> None:
    closed_deal(account, "12.5")
    closed_deal(account, "-2.5")
    closed_deal(account, "0.001", "ETH-BTC")

    page = browser.get(reverse("dashboard"))

    assert page.context["view"].currency == "USD"
    assert page.context["all_time"] == {"profit": Decimal(10), "deals": 3, "others": [("BTC", Decimal("0.001"))]}
    assert page.context["win_rate"].won == 2
    assert browser.get(reverse("dashboard"), {"in": "BTC"}).context["all_time"]["profit"] == Decimal("0.001")


@pytest.mark.parametrize("query", [{"in": "DOGE"}, {"days": "12"}, {"days": "x"}, {"money": "live"}, {"money": "?"}])
def test_an_address_that_asks_for_what_is_not_there_shows_the_usual(
    browser: Client, account: Account, query: dict[str, str]
) -> None:
    page = browser.get(reverse("dashboard"), query)

    assert page.status_code == 200
    assert (page.context["view"].days, page.context["view"].paper) == (90, True)


def test_the_curve_ends_at_the_total_and_shows_each_day(browser: Client, account: Account) -> None:
    now = clock.now()
    closed_deal(account, "5", opened_at=now - timedelta(days=200), closed_at=now - timedelta(days=120))
    closed_deal(account, "3", opened_at=now - timedelta(days=3), closed_at=now - timedelta(days=2))
    closed_deal(account, "-1")

    curve = browser.get(reverse("dashboard"), {"days": "7"}).context["over_time"]

    assert curve["total"][0] == 5.0
    assert curve["total"][-1] == 7.0
    assert [value for value in curve["day"] if value] == [3.0, -1.0]
    assert len(curve["t"]) == 7


def test_f32_live_and_paper_never_meet_in_a_figure(browser: Client, account: Account) -> None:
    live = AccountFactory(owner=account.owner, kind=Account.Kind.EXCHANGE, exchange="simulated")
    closed_deal(account, "10")
    closed_deal(live, "1")

    assert browser.get(reverse("dashboard")).context["all_time"]["profit"] == Decimal(1)
    assert browser.get(reverse("dashboard"), {"money": "paper"}).context["all_time"]["profit"] == Decimal(10)


def test_the_account_value_counts_what_has_a_price_and_names_the_rest(browser: Client, account: Account) -> None:
    with all_accounts("a coin without a price"):
        PaperBalance.objects.create(account=account, currency="XYZ", total=Decimal(7))

    value = browser.get(reverse("dashboard")).context["value"]

    assert value.unpriced == ("XYZ",)
    assert value.amount > Decimal(1000)


def test_open_deals_and_running_bots_are_shown(browser: Client, account: Account) -> None:
    open_deal(account, name="Dip ladder", settings={"max_active_deals": 4})

    page = browser.get(reverse("dashboard"))
    row = page.context["bot_rows"][0]

    assert (row.bot.name, row.deals, row.most_deals) == ("Dip ladder", 1, 4)
    assert row.unrealised is not None
    assert row.unrealised == page.context["unrealised"].profit


def test_what_waits_for_a_person_is_listed(browser: Client, account: Account) -> None:
    bot = BotFactory(account=account, status=Bot.Status.RUNNING, last_error="No price for BTC-USD.")
    PositionFactory(bot=bot, open=True, error_code="insufficient_funds", last_error="Needs 5 USD, 3 was free.")
    PositionFactory(bot=bot, status=PositionStatus.FAILED, closed_at=clock.now(), last_error="Too small.")
    BotFactory(account=None, owner=account.owner, name="Old grid")
    UnmatchedFillFactory(account=account, symbol="ETH-USD")

    page = browser.get(reverse("dashboard"))
    badges = [need.badge for need in page.context["needs"]]

    assert badges[:5] == ["Order failed", "Order failed", "Bot stuck", "Orphaned bot", "Not ours"]
    assert "Needs 5 USD, 3 was free." in text(page)
    assert "Old grid" in text(page)


def test_f54_another_persons_things_are_nowhere_on_it(browser: Client, account: Account) -> None:
    foreign = AccountFactory(name="Not yours")
    open_deal(foreign, name="Foreign bot")
    closed_deal(foreign, "99999")
    BotFactory(account=None, owner=foreign.owner, name="Foreign orphan")
    UnmatchedFillFactory(account=foreign, symbol="FOREIGN-USD")

    page = text(browser.get(reverse("dashboard")))

    assert not [word for word in ("Foreign", "99\u2009999", "FOREIGN", "Not yours") if word in page]


def test_recent_trades_show_what_was_refused_and_what_was_earned(browser: Client, account: Account) -> None:
    deal = PositionFactory(bot=BotFactory(account=account), closed=True, realised_quote=Decimal("4.2"))
    OrderFactory(position=deal, purpose=Purpose.SAFETY_ORDER, status=OrderStatus.REJECTED, finished_at=clock.now())
    OrderFactory(
        position=deal,
        purpose=Purpose.TAKE_PROFIT,
        exit_reason=ExitReason.TAKE_PROFIT,
        base_size=Decimal("0.002"),
        status=OrderStatus.FILLED,
        filled_base=Decimal("0.002"),
        filled_quote=Decimal(100),
        finished_at=clock.now(),
    )

    sold, refused = browser.get(reverse("dashboard")).context["trades"]

    assert (sold.what, sold.profit) == ("take profit", Decimal("4.2"))
    assert refused.refused
    assert refused.profit is None


def test_a_page_that_renews_itself_gets_the_changing_parts_only(browser: Client, account: Account) -> None:
    response = browser.get(reverse("dashboard"), headers={"HX-Request": "true"})

    assert 'id="kpis"' in text(response)
    assert "<html" not in text(response)


def test_the_dashboard_costs_the_same_however_much_there_is(browser: Client, account: Account) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(reverse("dashboard")).status_code == 200
        return len(queries)

    def fill_up(times: int) -> None:
        for number in range(times):
            open_deal(account)
            closed_deal(account, "1", f"PAIR{number}-USD")
            bot = BotFactory(account=account, status=Bot.Status.RUNNING)
            BotProductFactory(bot=bot, last_changed_at=clock.now(), last_message="RSI is 42, not below 30")
            UnmatchedFillFactory(account=account)

    fill_up(1)
    browser.get(reverse("dashboard"))
    before = cost()
    fill_up(5)
    assert cost() <= before


def test_f36_coins_of_open_deals_are_not_free(browser: Client, account: Account) -> None:
    bot = BotFactory(account=account)
    PositionFactory(bot=bot, open=True, base_held=Decimal("0.2"))

    assert browser.get(reverse("dashboard")).context["free"] == [("USD", 1000), ("BTC", Decimal("0.3"))]

    PositionFactory.create_batch(2, bot=bot, open=True, base_held=Decimal("0.2"))

    assert browser.get(reverse("dashboard")).context["free"] == [("USD", 1000)]


def test_f35_the_value_curve_knows_deposits_and_days_won(browser: Client, account: Account) -> None:
    now = clock.now()
    before = browser.get(reverse("dashboard"))
    assert (before.context["curve"], before.context["value_over_time"]) == ("realised", None)
    worth = before.context["value"].amount
    for days, value in ((2, worth - 700), (1, worth - 700)):
        ValueSnapshotFactory(account=account, taken_at=now - timedelta(days=days), value_usd=value)
    TransferFactory(account=account, amount=Decimal(700), at=now - timedelta(hours=5))
    closed_deal(account, "-3", opened_at=now - timedelta(days=2), closed_at=now - timedelta(days=1))

    page = browser.get(reverse("dashboard"))
    curve = page.context["value_over_time"]

    assert page.context["curve"] == "value"
    assert "Value over time" in text(page)
    assert len(curve["value"]) == 3
    assert abs(curve["value"][-1] - curve["put_in"][-1]) < float(worth) / 100
    assert curve["won"] == [0, -1, 0]
    assert [mark["text"] for mark in curve["marks"]] == ["+700.00 USD"]
    assert browser.get(reverse("dashboard"), {"curve": "realised"}).context["curve"] == "realised"


def test_todays_gain_leaves_deposits_out(browser: Client, account: Account) -> None:
    with all_accounts("dollars alone"):
        PaperBalance.objects.filter(account=account).exclude(currency="USD").delete()
    now = clock.now()
    if now.hour == 0 and now.minute < 5:
        return  # the day has just begun
    ValueSnapshotFactory(account=account, taken_at=now - timedelta(minutes=4), value_usd=Decimal(390))
    TransferFactory(account=account, amount=Decimal(600), at=now - timedelta(minutes=2))

    today = browser.get(reverse("dashboard")).context["value_today"]

    assert (today.amount, today.put_in) == (10, 600)
