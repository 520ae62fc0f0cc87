"""Faults of budgets, units and sizes, tried on the engine as it runs: what is free, whose it is, in which currency."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client

from accounts import services
from accounts.selection import SESSION_KEY
from bots.loading import money_of
from bots.models import Bot, BotProduct
from marketdata import sources
from marketdata.sources.replay import ReplaySource
from positions import figures, manual
from positions.figures import Period
from positions.models import Order, Position
from positions.states import Direction, ExitReason, OrderStatus, PositionStatus, Purpose, Side
from tests.bots.stepping import PAIR, PERSON, by_hand, seen_by, step, steps, thin
from tests.bots.world import World
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db(transaction=True)

D = Decimal
BOTH = pytest.mark.parametrize("direction", Direction)
FAR = {"take_profit": "50"}
ALONE = {"max_safety_orders": 0, **FAR}


def changed(bot: Bot, **values: Any) -> Bot:
    with detached("test data"):
        Bot.objects.filter(pk=bot.pk).update(**values)
    return bot


def code_of(bot: Bot, symbol: str = PAIR) -> str:
    with detached("test looks"):
        return BotProduct.objects.get(bot=bot, product__symbol=symbol).last_code


def balance(world: World, currency: str) -> Decimal:
    with detached("test looks"):
        return world.account.paper_balances.get(currency=currency).total


def deal_of(world: World, bot: Bot, **more: Any) -> Position:
    (deal,) = world.deals(bot=bot, **more)
    return deal


def orders_of(world: World, deal: Position, *purposes: Purpose) -> list[Order]:
    return [order for order in world.orders(position=deal) if not purposes or order.purpose in purposes]


def sign_in(client: Client, world: World) -> None:
    client.force_login(world.owner)
    session = client.session
    session[SESSION_KEY] = world.account.pk  # recordings are only shown by choice
    session.save()


# F31: one definition of free and of worth -----------------------------------------------------------------------------


def test_f31_a_budget_is_of_free_money_and_what_orders_hold_and_open_deals_each_once() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 100.0, 110.0, 110.0], "BBB-USD": [50.0] * 5, "CCC-USD": [10.0] * 5})
    adding = world.bot("AAA-USD", safety_order_execution="limit", **FAR)
    closing = world.bot("CCC-USD", **ALONE)
    steps(world, (1,), adding, closing)
    by_hand(world, 1, deal_of(world, closing), "20")
    step(world, 2, adding, closing)
    resting = [order for order in world.orders() if order.status == OrderStatus.OPEN]
    assert sorted(order.purpose for order in resting) == [Purpose.LIMIT_CLOSE, Purpose.SAFETY_ORDER]
    assert all(order.hold_amount for order in resting)
    late = changed(world.bot("BBB-USD", **ALONE), budget_kind="percent", budget_pct=D(10))
    step(world, 3, adding, closing, late)
    # 9800 USD (a hundred of them held for the safety order), one AAA at 110 and ten CCC (held by the close) at 10.
    assert deal_of(world, late).budget_quote == D(1001)


def test_f31_what_a_resting_order_holds_is_taken_from_the_free_money_once() -> None:
    world = World({"AAA-USD": [100.0] * 6, "BBB-USD": [50.0] * 6}, balances={"USD": 300})
    adding = world.bot("AAA-USD", safety_order_execution="limit", max_safety_orders=1, **FAR)
    steps(world, (1, 2), adding)
    assert orders_of(world, deal_of(world, adding), Purpose.SAFETY_ORDER)[0].status == OrderStatus.OPEN
    second, third = world.bot("BBB-USD", **ALONE), world.bot("BBB-USD", **ALONE)
    step(world, 3, adding, second, third)
    assert deal_of(world, second).quote_spent == 100
    assert (world.deals(bot=third), code_of(third, "BBB-USD")) == ([], "insufficient_balance")


def test_f31_what_open_deals_spent_counts_against_the_budget_once_and_returns_with_them() -> None:
    prices = {name: [100.0, 100.0, 102.0, 102.0, 102.0] for name in ("AAA-USD", "BBB-USD")}
    world = World({**prices, "CCC-USD": [100.0] * 5, "DDD-USD": [100.0] * 5})
    bot = changed(world.bot(max_safety_orders=0, cooldown_seconds=3600), budget_fixed=D(250))
    step(world, 1, bot)
    assert [deal.product.symbol for deal in world.deals()] == ["AAA-USD", "BBB-USD"]
    assert code_of(bot, "CCC-USD") == code_of(bot, "DDD-USD") == "deal_limit"
    steps(world, (2, 3), bot)
    assert [deal.status for deal in world.deals()] == [PositionStatus.CLOSED] * 2 + [PositionStatus.OPEN] * 2


def test_f31_the_list_of_bots_shows_the_budget_that_the_engine_uses(client: Client) -> None:
    world = World({"AAA-USD": [100.0] * 4})
    bot = changed(
        world.bot(safety_order_execution="limit", **FAR), budget_kind="percent", budget_pct=D(10), budget_fixed=D(0)
    )
    steps(world, (1, 2), bot)
    assert orders_of(world, deal_of(world, bot), Purpose.SAFETY_ORDER)[0].hold_amount
    sign_in(client, world)
    with world.at(2):
        (row,) = client.get("/bots/").context["rows"]
    assert row.budget == D(1000)


def test_f31_the_dashboard_calls_free_what_the_engine_calls_free(client: Client) -> None:
    world = World({PAIR: [100.0] * 4}, balances={"USD": 1000, "AAA": 3})
    long, short = world.bot(**ALONE), world.bot(direction="short", **ALONE)
    step(world, 1, long)
    by_hand(world, 1, deal_of(world, long), "150")
    step(world, 2, short)
    sign_in(client, world)
    with world.at(2) as now:
        money = money_of(world.account, now)
        assert (money.free(world.account.pk, "AAA"), money.free(world.account.pk, "USD")) == (2, 900)
        assert dict(client.get("/").context["free"]) == {"AAA": 2, "USD": 900}


# F32: never summed over currencies ------------------------------------------------------------------------------------


def two_currencies(client: Client, prices: list[float]) -> tuple[World, Bot, Bot]:
    """A deal in dollars and one in bitcoin, of the same coin and on the same account."""
    world = World({"AAA-USD": [price * 100 for price in prices], "AAA-BTC": prices}, balances={"USD": 1000, "BTC": 10})
    dollars = world.bot("AAA-USD", take_profit="5", max_safety_orders=0)
    coins = world.bot("AAA-BTC", take_profit="5", max_safety_orders=0, base_order_size="2", cooldown_seconds=3600)
    changed(dollars, settings=dollars.settings | {"cooldown_seconds": 3600})
    changed(coins, quote_currency="BTC")
    step(world, 1, dollars, coins)
    sign_in(client, world)
    return world, dollars, coins


def test_f32_open_deals_in_two_currencies_are_never_summed(client: Client) -> None:
    world, dollars, coins = two_currencies(client, [1.0, 1.0, 1.04, 1.04])
    with world.at(2):
        sums = figures.open_totals(figures.deal_figures(world.deals()))
        page = client.get("/")
        deals = client.get("/deals/").context["totals"]
        rows = {row["id"]: row for row in client.get("/api/positions/").json()["results"]}
        listed = {row.bot.pk: row for row in client.get("/bots/").context["rows"]}
    assert {quote: (row.deals, row.invested, row.profit) for quote, row in sums.items()} == {
        "USD": (1, D(100), D(4)),
        "BTC": (1, D(2), D("0.08")),
    }
    shown = {page.context["view"].currency: page.context["unrealised"].profit} | dict(page.context["unrealised_others"])
    assert shown == {"USD": D(4), "BTC": D("0.08")}
    assert [(total.quote, total.sums.invested, total.sums.profit) for total in deals] == [
        ("BTC", D(2), D("0.08")),
        ("USD", D(100), D(4)),
    ]
    by_currency = {row["quote_currency"]: D(row["profit_quote"]) for row in rows.values()}
    assert by_currency == {"USD": D(4), "BTC": D("0.08")}
    assert (listed[dollars.pk].invested, listed[dollars.pk].unrealised) == (D(100), D(4))
    assert (listed[coins.pk].invested, listed[coins.pk].unrealised) == (D(2), D("0.08"))


def test_f32_profits_in_two_currencies_are_never_summed(client: Client) -> None:
    world, dollars, coins = two_currencies(client, [1.0, 1.0, 1.1, 1.1])
    step(world, 2, dollars, coins)
    assert [deal.status for deal in world.deals()] == [PositionStatus.CLOSED] * 2
    with world.at(2) as now:
        earned = figures.realised(Position.objects.filter(account=world.account), now, ZoneInfo("UTC"))
        page = client.get("/").context
        past = client.get("/history/").context["totals"]
    assert {quote: row[Period.ALL].profit for quote, row in earned.items()} == {"USD": D(10), "BTC": D("0.2")}
    assert [(total.quote, total.profit) for total in past] == [("BTC", D("0.2")), ("USD", D(10))]
    assert page["over_time"] is not None
    assert page["over_time"]["total"][-1] == {"USD": 10.0, "BTC": 0.2}[page["view"].currency]


# F35: deposits --------------------------------------------------------------------------------------------------------


def test_f35_a_deposit_between_two_looks_is_spent_by_the_next_opening_and_is_no_profit() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 102.0, 102.0, 102.0, 102.0], "BBB-USD": [50.0] * 6}, balances={"USD": 150})
    earning = world.bot("AAA-USD", max_safety_orders=0, cooldown_seconds=3600)
    waiting = changed(world.bot("BBB-USD", **ALONE), budget_kind="percent", budget_pct=D(100))
    changed(waiting, settings=waiting.settings | {"base_order_size": "500"})
    steps(world, (1, 2, 3), earning, waiting)
    assert (deal_of(world, earning).realised_quote, world.deals(bot=waiting)) == (D(2), [])

    def profits() -> Any:
        with world.at(4) as now:
            rows = Position.objects.filter(account=world.account)
            return figures.realised(rows, now, ZoneInfo("UTC")), figures.profit_per_day(rows, now, ZoneInfo("UTC"))

    before = profits()
    with world.at(3):
        services.deposit(world.account, "USD", D(1000), PERSON)
    step(world, 4, earning, waiting)
    deal = deal_of(world, waiting)
    assert (deal.quote_spent, deal.budget_quote) == (D(500), D(1152))
    assert profits() == before


# F36: what open deals hold is not free --------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "sold"), [("0", 0), ("0.9", 0), ("1", 1), ("1.5", 1), ("2", 2)])
def test_f36_shorts_sell_only_base_that_no_open_long_holds(more: str, sold: int) -> None:
    """The base order and the safety order of the short are about one coin each."""
    world = World({PAIR: [100.0, 100.0, 100.0, 103.0, 103.0]}, balances={"USD": 10_000, "AAA": more})
    long, short = world.bot(**ALONE), world.bot(direction="short", **FAR)
    step(world, 1, long)
    held = deal_of(world, long).base_held
    assert held == 1
    steps(world, (2, 3), long, short)
    entries = [order for deal in world.deals(bot=short) for order in orders_of(world, deal)]
    assert len(entries) == sold
    assert balance(world, "AAA") >= held
    assert sum((order.filled_base for order in entries), D(0)) <= D(more)
    if not sold:
        assert code_of(short) == "insufficient_balance"


def test_f36_a_close_by_hand_sells_its_own_deal_and_no_other_bots() -> None:
    world = World({PAIR: [100.0] * 5}, balances={"USD": 10_000, "AAA": 7})
    mine, other = world.bot(**ALONE), world.bot(base_order_size="300", **ALONE)
    step(world, 1, mine, other)
    with world.at(2):
        answer = manual.close_at_market(deal_of(world, mine), PERSON)
    assert answer.order is not None
    assert (answer.state, answer.order.filled_base) == (manual.CloseState.CLOSED, D(1))
    assert balance(world, "AAA") == 7 + deal_of(world, other).base_held


def test_f36_a_short_leaves_alone_what_another_bots_resting_close_will_sell() -> None:
    world = World({PAIR: [100.0] * 5}, balances={"USD": 10_000, "AAA": "0.5"})
    long, short = world.bot(**ALONE), world.bot(direction="short", **ALONE)
    step(world, 1, long)
    by_hand(world, 1, deal_of(world, long), "150")
    step(world, 2, long, short)
    assert (world.deals(bot=short), code_of(short)) == ([], "insufficient_balance")
    with world.at(2):
        services.deposit(world.account, "AAA", D("0.5"), PERSON)
    step(world, 3, long, short)
    assert deal_of(world, short).base_held == -1


def test_f36_what_a_short_needs_to_buy_back_is_not_free_for_others() -> None:
    world = World({PAIR: [100.0] * 4, "BBB-USD": [50.0] * 4}, balances={"USD": 50, "AAA": 1})
    short, long = world.bot(PAIR, direction="short", **ALONE), world.bot("BBB-USD", **ALONE)
    step(world, 1, short)
    assert balance(world, "USD") == 150
    step(world, 2, short, long)
    assert (world.deals(bot=long), code_of(long, "BBB-USD")) == ([], "insufficient_balance")


def test_f36_the_form_of_a_short_counts_only_base_that_no_open_long_holds(client: Client) -> None:
    world = World({PAIR: [100.0] * 4}, balances={"USD": 1000, "AAA": "0.5"})
    long, short = world.bot(**ALONE), world.bot(direction="short", **ALONE)
    step(world, 1, long)
    sign_in(client, world)
    with world.at(1):
        page = client.get(f"/bots/{short.pk}/edit/")
    (side,) = page.context["form"].sides
    assert side.coins is not None
    assert side.coins.free == D("0.5")


# F37: sizes follow the base order as filled ---------------------------------------------------------------------------

LADDER = {
    "safety_order_type": "percent",
    "safety_order_size": "50",
    "volume_scale": "2",
    "max_safety_orders": 2,
    "cooldown_seconds": 3600,
    **FAR,
}


@BOTH
@pytest.mark.parametrize("slippage", [0, 2])
def test_f37_safety_orders_follow_the_base_order_as_it_filled(direction: Direction, slippage: int) -> None:
    prices = seen_by(direction, 100, 100, 94, 89, 89)
    world = World({PAIR: prices}, balances={"USD": 10_000, "AAA": 50})
    with detached("test data"):
        world.terms.slippage_pct = D(slippage)
        world.terms.save()
    bot = world.bot(direction=direction.value, price_deviation="5", **LADDER)
    steps(world, (1, 2, 3), bot)
    base, first, second = world.orders()
    assert base.filled_quote == 100 + direction.sign * slippage
    # Slippage moves what is paid, not how much is asked for.
    wanted = [base.filled_quote / 2 / D(str(prices[2])), base.filled_quote / D(str(prices[3]))]
    assert [first.filled_base, second.filled_base] == pytest.approx(wanted, abs=D("0.00000001"))


@BOTH
def test_f37_safety_orders_follow_the_half_of_a_limit_base_order_that_filled(
    direction: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ReplaySource(spread_pct=D(2))
    monkeypatch.setattr(sources, "_replay", lambda: source)
    prices = seen_by(direction, 100, 100, 99.9, 96.9, 94.9, 94.9)
    world = World({PAIR: prices}, balances={"USD": 10_000, "AAA": 50})
    thin(prices, 2)
    bot = world.bot(direction=direction.value, base_order_execution="limit", **LADDER)
    steps(world, (1, 2, 3, 4), bot)
    base, first, second = world.orders()
    assert (base.status, base.filled_base, base.filled_quote) == (OrderStatus.CANCELLED, D("0.5"), D(50))
    assert [first.filled_quote, second.filled_quote] == pytest.approx([25, 50], abs=D("0.000001"))
    assert [order.levels for order in (first, second)] == [1, 1]


# F45: both ways at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fees", [False, True])
def test_f45_a_bot_that_trades_both_ways_opens_adds_and_takes_profit_on_both_sides(fees: bool) -> None:
    prices = [100.0, 100.0, 100.0, 102.1, 96.0, 103.5, 103.5]
    world = World({PAIR: prices}, balances={"USD": 10_000, "AAA": 100}, fees=fees)
    bot = world.bot(direction="both", long_share_pct="60", max_safety_orders=1, take_profit="3", cooldown_seconds=3600)
    steps(world, (1, 2), bot)  # one opening on a pair in each look
    long, short = (world.deals(direction=direction)[0] for direction in Direction)
    assert (long.base_held, short.base_held) == (1, -1)
    assert (long.budget_quote, short.budget_quote) == (3000, 2000)
    steps(world, (3, 4, 5), bot)
    purposes = {deal.pk: [(order.purpose, order.side) for order in orders_of(world, deal)] for deal in world.deals()}
    assert purposes == {
        long.pk: [("base_order", "buy"), ("safety_order", "buy"), ("take_profit", "sell")],
        short.pk: [("base_order", "sell"), ("safety_order", "sell"), ("take_profit", "buy")],
    }
    total = D(0)
    for deal in world.deals():
        earned, paid_in, fee = D(0), D(0), D(0)
        with detached("test looks"):
            for fill in deal.fills.select_related("order"):
                earned += fill.quote if fill.side == Side.SELL else -fill.quote
                fee += fill.fee
                if fill.order.purpose != Purpose.TAKE_PROFIT:
                    paid_in += fill.quote + (fill.fee if deal.direction == Direction.LONG else -fill.fee)
        assert (deal.status, deal.exit_reason) == (PositionStatus.CLOSED, ExitReason.TAKE_PROFIT)
        assert (deal.safety_orders_filled, deal.base_held) == (1, 0)
        assert deal.base_bought == deal.base_sold
        assert (deal.realised_quote, deal.fees_quote) == (earned - fee, fee)
        assert bool(fee) is fees
        assert deal.realised_pct == pytest.approx((earned - fee) / paid_in * 100, abs=D("1E-12"))
        assert deal.realised_pct >= 3
        total += deal.realised_quote
    assert (balance(world, "AAA"), balance(world, "USD")) == (100, 10_000 + total)


def test_f45_each_side_of_a_bot_that_trades_both_ways_has_its_own_limits_and_reason() -> None:
    world = World({PAIR: [100.0, 100.0, 96.0, 96.0, 96.0]}, balances={"USD": 10_000})
    bot = world.bot(direction="both", **ALONE)
    steps(world, (1, 2), bot)
    assert [deal.direction for deal in world.deals()] == [Direction.LONG]
    with detached("test looks"):
        pair = BotProduct.objects.get(bot=bot)
    assert (pair.last_code, pair.short_code) == ("pair_deal_limit", "insufficient_balance")
    with world.at(2):
        services.deposit(world.account, "AAA", D(5), PERSON)
    step(world, 3, bot)
    assert [deal.direction for deal in world.deals()] == [Direction.LONG, Direction.SHORT]
