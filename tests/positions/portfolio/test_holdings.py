"""What accounts hold, by hand: free, in orders, in deals, untracked; what it is worth, and what is not known of it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Account
from bots.loading import money_of
from marketdata import prices
from marketdata.sources.base import Quote
from positions.models import Position
from positions.portfolio.holdings import AccountHoldings, Holding, buckets, holdings_of, lines, worth_of
from positions.states import Direction, OrderType, Purpose
from tests.factories import (
    AccountFactory,
    BotFactory,
    LeftOutFactory,
    OrderFactory,
    PositionFactory,
    ProductFactory,
    VenueFundsFactory,
)
from tests.marketdata.conftest import venue  # noqa: F401 (a fixture)
from tests.marketdata.venue import Venue, product_row
from tests.positions.conftest import Desk
from tests.positions.portfolio.listing import LIVE, exchange_account, listed
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account, acting_for_accounts

pytestmark = pytest.mark.django_db
D = Decimal


def look(*accounts: Account) -> list[AccountHoldings]:
    with acting_for_accounts([account.pk for account in accounts]):
        return holdings_of(accounts)


def holding(row: AccountHoldings, currency: str) -> Holding:
    return next(found for found in row.holdings if found.currency == currency)


def product(symbol: str) -> Any:
    return ProductFactory(exchange=LIVE, symbol=symbol)


def deal(account: Account, symbol: str, base: str, direction: str = Direction.LONG, **values: Any) -> Position:
    held = D(base) if direction == Direction.LONG else -D(base)
    position: Position = PositionFactory(
        bot=BotFactory(account=account),
        product=product(symbol),
        open=True,
        base_held=held,
        direction=direction,
        **values,
    )
    return position


# Splitting up ---------------------------------------------------------------------------------------------------------


def test_f31_everything_held_is_in_orders_in_deals_or_free(moment: Any) -> None:
    account = exchange_account(ADA=("1000", "200"), USD=("500", "80"))
    listed(ADA_USD=2)
    long = deal(account, "ADA-USD", "300")
    OrderFactory(  # its close has claimed 200 of the 300
        position=long,
        purpose=Purpose.LIMIT_CLOSE,
        status="open",
        order_type=OrderType.LIMIT,
        base_size=D(200),
        limit_price=D(3),
        hold_currency="ADA",
        hold_amount=D(200),
    )
    ada = holding(look(account)[0], "ADA")
    assert (ada.total, ada.in_orders, ada.in_deals, ada.free) == (1000, 200, 100, 700)
    assert ada.untracked == 700  # the deal explains 300, claimed by its close or not
    usd = holding(look(account)[0], "USD")
    assert (usd.in_orders, usd.in_deals, usd.free, usd.untracked) == (80, 0, 420, 0)


def test_f31_what_is_free_is_what_the_engine_says(paper: Desk) -> None:
    paper.open("1000")
    row = holdings_of([paper.account])[0]
    money = money_of(paper.account, clock.now())
    for found in row.holdings:
        assert found.free == money.free(paper.account.pk, found.currency)
        assert found.in_deals is not None
        assert found.free is not None
        assert found.in_orders + found.in_deals + found.free == found.total
    assert [bucket.value for bucket in buckets([row], "USD") if bucket.quote == "USD"] == [
        money.value(paper.account.pk, "USD")
    ]


def test_f36_coins_of_open_deals_are_not_free(moment: Any) -> None:
    account = exchange_account(BTC=3)
    listed(BTC_USD=100)
    deal(account, "BTC-USD", "1")
    btc = holding(look(account)[0], "BTC")
    assert (btc.in_deals, btc.free) == (1, 2)


def test_a_short_needs_the_quote_that_buys_it_back(moment: Any) -> None:
    account = exchange_account(USD=10_000)
    prices.remember(LIVE, [Quote("BTC-USD", D(100), D(100), D(100), moment)])
    deal(account, "BTC-USD", "10", Direction.SHORT, average_price=D(90))
    usd = holding(look(account)[0], "USD")
    assert usd.in_deals == 1006  # 10 × 100 with the taker's 0.6 %
    assert usd.free == 8994


def test_f34_a_short_without_a_price_leaves_unknown_what_is_free(moment: Any) -> None:
    account = exchange_account(USD=10_000)
    deal(account, "BTC-USD", "10", Direction.SHORT, average_price=D(90))
    usd = holding(look(account)[0], "USD")
    assert (usd.in_deals, usd.free, usd.total) == (None, None, 10_000)
    listed(BTC_USD=100)  # where the engine has no quote, the list says enough to look at
    assert holding(look(account)[0], "USD").in_deals == 1006


def test_deals_that_count_on_more_than_there_is_are_said_to_lack_it(moment: Any) -> None:
    account = exchange_account(ADA=250)
    listed(ADA_USD=2)
    deal(account, "ADA-USD", "300")
    deal(account, "LTC-USD", "4")
    row = look(account)[0]
    ada, ltc = holding(row, "ADA"), holding(row, "LTC")
    assert (ada.free, ada.in_deals, ada.missing) == (0, 250, 50)
    assert (ltc.total, ltc.missing) == (0, 4)  # all of it is gone


def test_staked_and_locked_amounts_count_as_held(moment: Any) -> None:
    account = exchange_account(DOT=("15", "10"))
    listed(DOT_USD=6)
    row = look(account)[0]
    dot = holding(row, "DOT")
    assert (dot.total, dot.free, dot.value("USD")) == (15, 5, 90)
    assert worth_of([row], "USD").amount == 90


def test_an_order_on_its_way_has_claimed_what_the_venue_does_not_show_yet(moment: Any) -> None:
    account = exchange_account(USD=1000)
    listed(BTC_USD=100)
    OrderFactory(
        position=PositionFactory(bot=BotFactory(account=account), product=product("BTC-USD")),
        hold_currency="USD",
        hold_amount=D(100),
    )
    usd = holding(look(account)[0], "USD")
    assert (usd.in_orders, usd.free) == (100, 900)


# Untracked ------------------------------------------------------------------------------------------------------------


def test_money_needs_no_deal_to_explain_it(moment: Any) -> None:
    account = exchange_account(USD=1, USDC=1, USDT=1, BTC=1, ETH=1, EUR=1, ADA=1)
    listed(BTC_EUR=100, ADA_USD=2)
    row = look(account)[0]
    assert {found.currency for found in row.holdings if found.untracked} == {"ADA"}
    assert holding(row, "EUR").is_money  # pairs of this market are quoted in it


def test_a_shorts_entry_explains_the_coins_that_it_is_selling(moment: Any) -> None:
    account = exchange_account(ADA=("100", "60"))
    listed(ADA_USD=2)
    OrderFactory(
        position=PositionFactory(
            bot=BotFactory(account=account), product=product("ADA-USD"), direction=Direction.SHORT
        ),
        side="sell",
        status="open",
        base_size=D(60),
        quote_size=None,
        hold_currency="ADA",
        hold_amount=D(60),
    )
    assert holding(look(account)[0], "ADA").untracked == 40


# Worth ----------------------------------------------------------------------------------------------------------------


def test_f32_buckets_stay_apart_and_values_are_converted_for_looking_at(moment: Any) -> None:
    account = exchange_account(USD=1000, USDC=1000, BTC=2)
    listed(BTC_USD=50_000, BTC_USDC=50_100)
    row = look(account)[0]
    found = {bucket.quote: bucket for bucket in buckets([row], "USD")}
    assert (found["USD"].value, found["USDC"].value, found["BTC"].value) == (1000, 1000, 2)
    assert found["BTC"].shown == 100_000
    assert found["USDC"].shown is not None
    assert round(found["USDC"].shown, 6) == D("998.003992")  # less than a dollar each, as the market says
    worth = worth_of([row], "USD")
    assert worth.amount is not None
    assert worth.amount == sum(bucket.shown for bucket in found.values() if bucket.shown)
    in_btc = worth_of([row], "BTC").amount
    assert in_btc is not None
    assert round(in_btc * 50_000, 30) == round(worth.amount, 30)


def test_f31_a_bucket_is_its_balance_and_its_open_deals(moment: Any) -> None:
    account = exchange_account(USD=700, ADA=100)
    listed(ADA_USD=2)
    deal(account, "ADA-USD", "100")
    usd = next(bucket for bucket in buckets(look(account), "USD") if bucket.quote == "USD")
    assert (usd.total, usd.in_deals_value, usd.value, usd.deals) == (700, 200, 900, 1)


def test_f34_a_holding_without_a_price_makes_the_total_partial(moment: Any) -> None:
    account = exchange_account(USD=100, XYZ=7)
    listed(BTC_USD=50_000)
    row = look(account)[0]
    worth = worth_of([row], "USD")
    assert holding(row, "XYZ").value("USD") is None
    assert (worth.amount, worth.unpriced, worth.is_partial, worth.is_certain) == (100, ("XYZ",), True, False)
    line = next(line for line in lines([row], "USD") if line.currency == "XYZ")
    assert (line.price, line.value, line.share_pct) == (None, None, None)


def test_f34_an_account_that_never_answered_is_not_empty(moment: Any) -> None:
    silent = AccountFactory(kind=Account.Kind.EXCHANGE, exchange=LIVE, name="Silent")
    known = exchange_account(USD=100)
    rows = look(silent, known)
    worth = worth_of(rows, "USD")
    assert (worth.amount, worth.unknown, worth.is_partial) == (100, ("Silent",), True)
    assert worth_of(rows[:1], "USD").amount is None
    assert (rows[0].is_known, rows[0].is_stale, rows[0].age_seconds) == (False, False, None)


def test_old_balances_are_shown_with_their_age(moment: Any) -> None:
    account = exchange_account(moment - timedelta(minutes=7), USD=100)
    row = look(account)[0]
    assert (row.age_seconds, row.is_stale) == (420, True)
    worth = worth_of([row], "USD")
    assert (worth.amount, worth.stale, worth.is_partial, worth.is_certain) == (100, (account.name,), False, False)


def test_a_failure_since_the_last_answer_is_told(moment: Any) -> None:
    account = AccountFactory(kind=Account.Kind.EXCHANGE, exchange=LIVE)
    VenueFundsFactory(
        account=account, asked_at=moment - timedelta(minutes=7), failed_at=moment, error_text="The key was refused."
    )
    assert look(account)[0].told.error == "The key was refused."


def test_what_is_left_out_is_in_no_total(moment: Any) -> None:
    account = exchange_account(USD=100, XYZ=7, ADA=50)
    listed(ADA_USD=2)
    LeftOutFactory(account=account, currency="XYZ")
    LeftOutFactory(account=account, currency="ADA")
    rows = look(account)
    worth = worth_of(rows, "USD")
    assert (worth.amount, worth.left_out, worth.is_certain) == (100, ("ADA", "XYZ"), True)
    usd = next(line for line in lines(rows, "USD") if line.currency == "USD")
    assert usd.share_pct == 100


def test_lines_add_up_over_accounts(moment: Any) -> None:
    one, other = exchange_account(BTC=1, USD=100), exchange_account(BTC="0.5")
    listed(BTC_USD=1000)
    found = {line.currency: line for line in lines(look(one, other), "USD")}
    assert (found["BTC"].total, found["BTC"].value, found["BTC"].price) == (D("1.5"), 1500, 1000)
    assert (found["BTC"].share_pct, found["USD"].share_pct) == (D("93.75"), D("6.25"))
    assert [account.pk for account in found["BTC"].accounts] == [one.pk, other.pk]


# Cost -----------------------------------------------------------------------------------------------------------------


def test_135_assets_cost_one_request_and_no_more_queries_than_one(venue: Venue, moment: Any) -> None:  # noqa: F811
    names = [f"C{n}" for n in range(135)]
    venue.products = [product_row(f"{name}-USD", price="2") for name in names]
    small, large = exchange_account(C1=1), exchange_account(**dict.fromkeys(names, 3))
    deal(small, "C1-USD", "1")
    for name in names[:20]:
        deal(large, f"{name}-USD", "1")
    cache.clear()
    with CaptureQueriesContext(connection) as few:
        look(small)
    assert [path for path, _ in venue.asked] == ["/api/v3/brokerage/market/products"]
    cache.clear()
    with CaptureQueriesContext(connection) as many:
        rows = look(large)
    assert worth_of(rows, "USD").amount == 810
    assert len(venue.asked) == 2  # one for each cold look
    assert len(many) == len(few) <= 10
    look(small, large)
    assert len(venue.asked) == 2


def test_without_asking_an_empty_cache_has_no_prices(venue: Venue, moment: Any) -> None:  # noqa: F811
    account = exchange_account(BTC=1)
    with acting_for_account(account.pk):
        assert worth_of(holdings_of([account], ask=False), "USD").unpriced == ("BTC",)
    assert venue.asked == []


def test_f51_nothing_is_looked_up_for_an_account_outside_the_scope(moment: Any) -> None:
    mine, foreign = exchange_account(USD=5), exchange_account(USD=7_134_271)
    with acting_for_account(mine.pk):
        rows = holdings_of([mine, foreign])
    assert not rows[1].is_known
    assert worth_of(rows, "USD").amount == 5
