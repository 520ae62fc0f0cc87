"""What the guard asks before an order: known and fresh numbers, a narrow spread, room to the limits."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from accounts.models import PropGuardState
from marketdata.models import Product
from positions import execution, manual
from positions.guard import service
from positions.models import Order
from positions.states import OrderStatus, OrderType, Purpose
from tests.accounts.helpers import price
from tests.positions.conftest import MOMENT, Desk
from tests.positions.guard.firm import ANN, Firm, firm, open_deal
from tests.positions.helpers import refused
from tradebot.core import clock
from tradebot.core.errors import OrderRefused

pytestmark = pytest.mark.django_db
D = Decimal


def orders() -> int:
    return Order.objects.count()


def spoil(**values: Any) -> Any:
    return lambda: PropGuardState.objects.update(**values)


def test_within_its_limits_an_account_trades(desk: Firm) -> None:
    assert open_deal(desk).status == "open"


def test_without_a_guard_nothing_is_asked(db: None) -> None:
    with firm(on=False) as desk:
        assert open_deal(desk).status == "open"


@pytest.mark.parametrize(
    ("spoilt", "code"),
    [
        (lambda: PropGuardState.objects.all().delete(), "guard_equity_unknown"),
        (spoil(last_equity=None), "guard_equity_unknown"),
        (spoil(last_equity_at=None), "guard_equity_unknown"),
        (spoil(last_equity=D(0)), "guard_equity_unknown"),
        (spoil(last_equity=D(-5)), "guard_equity_unknown"),
        (spoil(last_equity_at=MOMENT - timedelta(seconds=61)), "guard_equity_unknown"),
        (spoil(last_equity_at=MOMENT + timedelta(seconds=61)), "guard_equity_unknown"),
        (spoil(day_start_equity=None), "guard_day_unknown"),
        (spoil(day_began_at=MOMENT - timedelta(days=2)), "guard_day_unknown"),
    ],
)
def test_f61_what_the_guard_does_not_know_blocks(desk: Firm, spoilt: Any, code: str) -> None:
    spoilt()
    with refused(code):
        desk.desk.intend_open()
    assert orders() == 0


def test_f61_an_equity_of_sixty_seconds_is_fresh_and_one_of_sixty_one_is_not(desk: Firm) -> None:
    with desk.later(seconds=60):
        desk.tell(100)
        assert desk.desk.intend_open().pk
    with desk.later(seconds=61):
        desk.tell(100)
        with pytest.raises(OrderRefused) as refusal:
            desk.desk.intend_open(max_active_deals=5, max_deals_per_pair=5)
    assert refusal.value.detail["age_seconds"] == 61
    assert refusal.value.detail["limit_seconds"] == 60


@pytest.mark.parametrize("table", ["accounts_propguardrules", "accounts_propguardstate"])
def test_f61_records_that_cannot_be_read_block(desk: Firm, table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO gone")
    try:
        with refused("guard_unreadable"):
            desk.desk.intend_open()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE gone RENAME TO {table}")
    assert orders() == 0


@pytest.mark.skipif("connection.vendor != 'sqlite'")
@pytest.mark.parametrize("text", ["nonsense", "NaN", "Infinity"])
def test_f61_an_equity_that_is_no_number_blocks(desk: Firm, text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_propguardstate SET last_equity = %s", [text])
    with pytest.raises(OrderRefused) as refusal:
        desk.desk.intend_open()
    assert refusal.value.code in ("guard_unreadable", "guard_equity_unknown")


def test_f61_a_spread_that_is_not_known_blocks(desk: Firm) -> None:
    with clock.at(MOMENT + timedelta(seconds=70)):
        PropGuardState.objects.update(last_equity_at=clock.now())
        intent = execution.Intent(
            purpose=Purpose.BASE_ORDER, sequence=1, quote_size=D(100), reference_price=D(100)
        )  # a price of its own, so that only the spread is missing
        with refused("guard_spread_unknown"):
            desk.desk.intend_open(intent=intent)


def test_a_spread_is_let_through_up_to_half_a_percent(desk: Firm) -> None:
    desk.tell(100, spread="0.5")
    assert desk.desk.intend_open().pk
    desk.tell(100, spread="0.51")
    with pytest.raises(OrderRefused) as refusal:
        desk.desk.intend_open(max_active_deals=5, max_deals_per_pair=5)
    assert refusal.value.code == "guard_spread"
    assert (refusal.value.detail["spread_pct"], refusal.value.detail["limit_pct"]) == (D("0.51"), D("0.5"))


def test_the_refusal_names_the_numbers_behind_it(desk: Firm) -> None:
    PropGuardState.objects.update(last_equity=D("95500.5"))
    with pytest.raises(OrderRefused) as refusal:
        desk.desk.intend_open("100")
    assert refusal.value.code == "guard_daily_limit"
    detail = refusal.value.detail
    assert (detail["left"], detail["limit_pct"], detail["base"]) == (D("0.5"), D("4.5"), D(100_000))
    assert detail["cost"] == D(100) * (D("0.006") + D("0.0025"))
    assert "0.50 USD are left to the daily limit of 4.5 %" in refusal.value.message


def test_f62_room_for_one_order_is_not_used_by_two_of_one_moment(desk: Firm) -> None:
    """Each order of 1,000 may cost 8.50 at once. With 10 left to the limit there is room for one."""
    PropGuardState.objects.update(last_equity=D(95_510))
    open_deal(desk)
    with refused("guard_daily_limit"):
        desk.desk.intend_open("1000", max_active_deals=5, max_deals_per_pair=5)
    # Once the first one's cost is in the measured equity, it is not counted a second time.
    with desk.later(seconds=10):
        PropGuardState.objects.update(last_equity=D(95_510), last_equity_at=clock.now() - timedelta(seconds=1))
        desk.tell(100)
        assert desk.desk.intend_open("1000", max_active_deals=5, max_deals_per_pair=5).pk


def test_an_order_in_another_currency_is_counted_in_the_guards(db: None) -> None:
    with firm(on=False, USD=100_000, EUR=100_000) as desk:
        for symbol, base, quote in (("EUR-USD", "EUR", "USD"), ("ETH-EUR", "ETH", "EUR")):
            Product.objects.create(
                exchange="coinbase", symbol=symbol, base=base, quote=quote, price_increment=D("0.01"),
                base_increment=D("0.00000001"), quote_increment=D("0.01"), min_base=D("0.00000001"), min_quote=1,
            )  # fmt: skip
        price(2, 2, "EUR-USD")
        price(1000, 1000, "ETH-EUR")
        desk.rules(enabled=True, initial_deposit=300_000)
        PropGuardState.objects.update(last_equity=D(300_000) * D("0.955") + 16)
        euros = Desk(desk.account, desk.bot, Product.objects.get(symbol="ETH-EUR"))
        with refused("guard_daily_limit"):
            euros.intend_open("1000")  # 8.5 EUR are 17 USD
        assert euros.intend_open("900").pk


def test_f63_orders_that_only_reduce_risk_pass_after_a_kill(desk: Firm) -> None:
    deal = open_deal(desk, 500)
    resting = desk.desk.place(
        deal, Purpose.SAFETY_ORDER, order_type=OrderType.LIMIT, base_size=D(1), limit_price=D(90), reference_price=None
    )
    service.kill(desk.account, ANN)
    with refused("guard_killed"):
        desk.desk.place(deal, Purpose.MANUAL_ADD, quote_size=D(100))
    assert execution.cancel(resting, ANN).status == OrderStatus.CANCELLED
    assert manual.close_at_market(deal, ANN).state == "closed"


def test_f63_exits_are_not_asked_even_where_nothing_is_known(desk: Firm) -> None:
    deal = open_deal(desk)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE accounts_propguardrules RENAME TO gone")
    try:
        assert desk.desk.place(deal, Purpose.STOP_LOSS).status == OrderStatus.FILLED
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE gone RENAME TO accounts_propguardrules")
