"""The prop-firm guard: what it measures, what it blocks, what it stops, and how it is released."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from accounts.access import acting_for
from accounts.exchanges.paper import match_resting
from accounts.models import EquitySnapshot, PaperBalance, PropGuardEvent, PropGuardRules, PropGuardState
from accounts.services import deposit, reset_paper, withdraw
from bots import services as bot_services
from bots.models import Bot
from marketdata.models import Product
from positions import execution, manual
from positions.guard import closing, equity, limits, service
from positions.models import Order, Position
from positions.reconcile import reconcile_account
from positions.states import OrderStatus, OrderType, Purpose
from tests.accounts.helpers import price
from tests.factories import AutoBuyRuleFactory, MembershipFactory, UserFactory
from tests.positions.conftest import MOMENT, Desk
from tests.positions.firm import ANN, Firm, firm
from tests.positions.outside import Killed
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, MissingInformation, NotFound, OrderRefused
from tradebot.core.scoping import acting_for_account, detached

pytestmark = pytest.mark.django_db

D = Decimal


@pytest.fixture
def desk(db: None) -> Iterator[Firm]:
    with firm() as made:
        yield made


def refused(code: str) -> Any:
    return pytest.raises(OrderRefused, check=lambda error: error.code == code)


def denied(code: str) -> Any:
    return pytest.raises(InvalidInput, check=lambda error: error.code == code)


def open_deal(desk: Firm, quote: int = 1000) -> Position:
    return desk.desk.open(str(quote))


def orders() -> int:
    return Order.objects.count()


# Measuring ----------------------------------------------------------------------------------------------------------


def test_equity_is_balances_at_the_mark_with_coins_of_open_deals_counted_once(desk: Firm) -> None:
    open_deal(desk, 10_000)  # 10,000 for 100 BTC, 60 of fees
    desk.tell(110)
    state = desk.refresh()
    assert state.last_equity == D(100_000) - 10_060 + 100 * 110
    assert state.last_equity_at == MOMENT


def test_what_is_registered_adds_to_the_equity(desk: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equity, "_parts", [])
    equity.register(lambda account, currency, now: D("-250.5"))
    assert desk.refresh().last_equity == D("99749.5")


def test_a_coin_without_a_pair_is_valued_through_another_one(db: None) -> None:
    with firm(on=False, USD=1000, XLM=10) as desk:
        Product.objects.create(
            exchange="coinbase", symbol="XLM-BTC", base="XLM", quote="BTC", price_increment=D("0.00000001"),
            base_increment=D("0.01"), quote_increment=D("0.00000001"), min_base=D("0.01"), min_quote=D("0.00001"),
        )  # fmt: skip
        price("0.01", "0.01", "XLM-BTC")
        measured = equity.measure(desk.account, "USD", timedelta(seconds=60))
        assert (measured.equity, measured.left_out) == (D(1010), ())


def test_a_coin_that_its_market_never_traded_is_left_out_and_named(db: None) -> None:
    with firm(on=False, USD=1000, SCAM=5) as desk:
        measured = equity.measure(desk.account, "USD", timedelta(seconds=60))
        assert (measured.equity, measured.left_out) == (D(1000), ("SCAM",))


def test_f61_a_coin_whose_price_is_missing_is_no_smaller_equity(desk: Firm) -> None:
    """A price that goes missing must not look like a loss, and not like nothing either."""
    open_deal(desk, 50_000)
    desk.refresh()
    with desk.later(seconds=50):
        desk.tell(100)
        desk.refresh()
    with desk.later(seconds=130):  # the price is 80 s old now
        state = desk.refresh()
        assert state.killed_at is None
        assert (state.error_code, state.last_equity_at) == ("missing_price", MOMENT + timedelta(seconds=50))
        desk.tell(100)
        with refused("guard_equity_unknown"):
            desk.desk.intend_open("100", max_active_deals=5, max_deals_per_pair=5)


def test_the_age_of_an_equity_is_that_of_the_oldest_price_in_it(db: None) -> None:
    with firm(on=False, USD=1000, BTC=1) as desk, desk.later(seconds=20):
        assert equity.measure(desk.account, "USD", timedelta(seconds=60)).at == MOMENT
        with pytest.raises(MissingInformation):
            equity.measure(desk.account, "USD", timedelta(seconds=10))


def test_snapshots_are_kept_every_few_minutes_and_for_a_while(desk: Firm) -> None:
    for seconds in (0, 10, 200, 310, 320):
        with clock.at(MOMENT + timedelta(seconds=seconds)):
            desk.refresh()
    assert EquitySnapshot.objects.count() == 2
    with clock.at(MOMENT + service.KEPT + timedelta(seconds=100)), detached("as the loop does"):
        assert service.prune() == 1


# Days ---------------------------------------------------------------------------------------------------------------


def at_five(day: int, **shift: int) -> Any:
    """17:00 in New York on a day of March 2026 (winter until the 8th), and a bit."""
    hour = 22 if day < 8 else 21
    return clock.at(MOMENT.replace(day=day, hour=hour, minute=0, second=0) + timedelta(**shift))


def test_the_daily_loss_is_measured_from_where_the_day_began(desk: Firm) -> None:
    """Losing 4 % a day for two days reaches neither limit of 4.5 % and 9 %."""
    open_deal(desk, 99_000)  # 990 BTC, 594 of fees
    desk.tell(97)
    assert desk.refresh().killed_at is None  # 96,436
    with at_five(2, seconds=2):
        desk.tell(97)
        state = desk.refresh()
        assert (state.day_start_equity, state.killed_at) == (D(406) + 990 * 97, None)
        desk.tell(93)
        assert desk.refresh().killed_at is None  # 4.1 % below today's start, 7.5 % below the deposit
        desk.tell("92.5")
        assert desk.refresh().kill_reason == "daily_limit"


def test_the_last_equity_right_before_a_day_begins_it(desk: Firm) -> None:
    open_deal(desk, 50_000)
    with at_five(2, seconds=-3):
        desk.tell(100)
        before = desk.refresh().last_equity
    with at_five(2, seconds=10):
        desk.tell(90)  # a loss of the first ten seconds is a loss of the new day
        state = desk.refresh()
        assert (state.day_start_equity, state.kill_reason) == (before, "daily_limit")


def test_a_day_whose_beginning_was_missed_begins_with_the_first_measurement_and_says_so(desk: Firm) -> None:
    with at_five(3, hours=2):
        desk.tell(100)
        with refused("guard_equity_unknown"):
            desk.desk.intend_open()
        assert desk.refresh().day_measured_at == clock.now()
        assert "first measured at" in PropGuardEvent.objects.filter(kind="day").latest("pk").message
        assert desk.desk.intend_open().pk


def test_f61_until_a_new_day_is_measured_its_loss_is_not_known(desk: Firm) -> None:
    with at_five(2, seconds=-10):
        desk.tell(100)
        desk.refresh()
    with at_five(2, seconds=5), refused("guard_day_unknown"):
        desk.tell(100)
        desk.desk.intend_open()


@pytest.mark.parametrize("day", [7, 8, 9])
def test_days_begin_at_five_in_new_york_when_the_clocks_change(desk: Firm, day: int) -> None:
    with at_five(day, seconds=-1):
        desk.tell(100)
        assert desk.refresh().day_began_at.day == day - 1
    with at_five(day):
        desk.tell(100)
        assert desk.refresh().day_began_at == clock.now()


# Before an order ----------------------------------------------------------------------------------------------------


def test_within_its_limits_an_account_trades(desk: Firm) -> None:
    assert open_deal(desk).status == "open"


def test_without_a_guard_nothing_is_asked(db: None) -> None:
    with firm(on=False) as desk:
        assert open_deal(desk).status == "open"


def spoil(**values: Any) -> Any:
    return lambda: PropGuardState.objects.update(**values)


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


# The kill -----------------------------------------------------------------------------------------------------------


def breach(desk: Firm) -> Position:
    """Lose 5 % of the account with one deal; its kill is not carried out yet."""
    deal = open_deal(desk, 50_000)
    desk.tell(90)
    assert desk.refresh().kill_reason == "daily_limit"
    return deal


def test_a_breach_stops_bots_closes_deals_cancels_orders_and_tells_the_owner(desk: Firm) -> None:
    deal = open_deal(desk, 50_000)
    resting = desk.desk.place(
        deal, Purpose.SAFETY_ORDER, order_type=OrderType.LIMIT, base_size=D(1), limit_price=D(80), reference_price=None
    )
    desk.tell(90)
    desk.refresh()
    desk.bot.refresh_from_db()
    assert desk.bot.status == Bot.Status.STOPPED  # with the kill, not some time after it
    assert closing.carry_out(desk.account.pk) == 0
    deal.refresh_from_db()
    resting.refresh_from_db()
    assert (deal.status, deal.exit_reason, deal.base_held) == ("closed", "panic", 0)
    assert resting.status == OrderStatus.CANCELLED
    state = desk.state()
    assert state.settled_at == MOMENT
    assert state.kill_numbers["limit_pct"] == "4.5"
    assert desk.kinds() == ["rules", "killed", "settled"]
    assert desk.told() == ["guard_killed", "guard_settled"]
    assert PaperBalance.objects.get(currency="USD").held == 0


def test_the_total_limit_kills_where_the_daily_one_does_not(desk: Firm) -> None:
    desk.rules(daily_limit_pct="50")
    open_deal(desk, 90_000)
    desk.tell("90.01")
    assert desk.refresh().kill_reason == "total_limit"


def test_at_exactly_the_limit_the_account_is_stopped(desk: Firm) -> None:
    PaperBalance.objects.filter(currency="USD").update(total=D("95500.000000000000000001"))
    assert desk.refresh().killed_at is None
    PaperBalance.objects.filter(currency="USD").update(total=D(95_500))
    assert desk.refresh().kill_reason == "daily_limit"


def test_a_kill_happens_once(desk: Firm) -> None:
    breach(desk)
    desk.tell(50)
    desk.refresh()
    service.kill(desk.account, ANN)
    with detached("as the loop does"):
        assert closing.carry_out_all(closing.accounts_to_settle()).settled == 1
        assert closing.accounts_to_settle() == []
        assert closing.carry_out_all([desk.account.pk]).settled == 1  # there is nothing to do any more
    assert closing.carry_out(desk.account.pk) == 0
    assert desk.kinds() == ["rules", "killed", "settled"]
    assert desk.state().kill_reason == "daily_limit"


def test_a_kill_survives_a_gain(desk: Firm) -> None:
    breach(desk)
    desk.tell(200)
    assert desk.refresh().killed_at is not None
    with refused("guard_killed"):
        desk.desk.intend_open("100", bot=None)


def test_a_killed_accounts_bots_do_not_start(desk: Firm) -> None:
    breach(desk)
    with denied("guard_killed"):
        bot_services.start_bot(desk.bot, ANN)


def test_f64_the_kill_switches_automation_off_before_anything_is_sold(desk: Firm) -> None:
    rule = AutoBuyRuleFactory(account=desk.account)
    breach(desk)
    rule.refresh_from_db()
    assert not rule.enabled
    assert Position.objects.filter(closed_at__isnull=True).exists()  # nothing is sold yet


@pytest.mark.parametrize("line", ["intend", "submit", "_settle"])
def test_a_close_after_a_kill_goes_on_wherever_it_was_cut_off(
    desk: Firm, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """``kill -9`` before the close is written, before it is sent, and before the end is noted."""
    breach(desk)
    owner = closing if line == "_settle" else execution

    def died(*args: Any, **kwargs: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(owner, line, died)
        with pytest.raises(Killed):
            closing.carry_out(desk.account.pk)
    assert desk.state().settled_at is None
    reconcile_account(desk.account.pk)
    assert closing.carry_out(desk.account.pk) == 0
    closes = Order.objects.filter(purpose=Purpose.PANIC_CLOSE, status=OrderStatus.FILLED)
    assert closes.count() == 1
    assert PaperBalance.objects.get(currency="BTC").total == 0
    assert desk.state().settled_at == MOMENT


def test_f67_a_deal_that_cannot_be_closed_keeps_no_other_one_open(desk: Firm) -> None:
    stuck = open_deal(desk, 20_000)
    other = desk.desk.open("20000", max_active_deals=5, max_deals_per_pair=5)
    # The wallet lacks what the first deal records: its close is refused, by us or by the venue.
    Position.objects.filter(pk=stuck.pk).update(product=eth(desk))
    service.kill(desk.account, ANN)
    assert closing.carry_out(desk.account.pk) == 1
    other.refresh_from_db()
    assert other.status == "closed"
    state = desk.state()
    assert state.settled_at is None
    assert "ETH-USD" in state.closing_error
    with denied("still_closing"):
        release(desk)
    manual.cancel_deal(stuck, ANN)  # a person takes it out
    assert closing.carry_out(desk.account.pk) == 0
    assert desk.state().settled_at is not None


def eth(desk: Firm) -> Product:
    return Product.objects.create(
        exchange="coinbase", symbol="ETH-USD", base="ETH", quote="USD", price_increment=D("0.01"),
        base_increment=D("0.00000001"), quote_increment=D("0.01"), min_base=D("0.00000001"), min_quote=1,
    )  # fmt: skip


def test_f27_closes_that_the_venue_rejects_are_tried_less_and_less_often(desk: Firm) -> None:
    deal = open_deal(desk, 20_000)
    service.kill(desk.account, ANN)
    PaperBalance.objects.filter(currency="BTC").update(held=0)
    tries = []
    for second in range(0, 200, 10):
        with clock.at(MOMENT + timedelta(seconds=second)):  # without a price the paper venue rejects from second 70 on
            if second == 0:
                PaperBalance.objects.filter(currency="BTC").update(total=D(1), held=D(1))
            closing.carry_out(desk.account.pk)
            tries.append(Order.objects.filter(position=deal, purpose=Purpose.PANIC_CLOSE).count())
    assert tries[-1] <= 6


def test_f14_a_kill_and_its_history_are_there_after_a_restart(desk: Firm) -> None:
    """Nothing of it lives in a process: another connection's scope sees and enforces the same."""
    breach(desk)
    with detached("another process"), acting_for_account(desk.account.pk):
        assert desk.state().is_killed
        with refused("guard_killed"):
            desk.desk.intend_open("10", bot=None)


def test_a_kill_by_hand_does_the_same_and_names_the_person(desk: Firm) -> None:
    deal = open_deal(desk)
    state = service.kill(desk.account, ANN, "news ahead")
    assert (state.kill_reason, state.kill_message) == ("manual", f"Stopped by {ANN}. news ahead")
    closing.carry_out(desk.account.pk)
    deal.refresh_from_db()
    assert deal.status == "closed"


def test_a_kill_by_hand_needs_a_guard(db: None) -> None:
    with firm(on=False) as desk, denied("guard_off"):
        service.kill(desk.account, ANN)


def test_f67_one_account_that_fails_keeps_no_other_one_unmeasured(desk: Firm) -> None:
    with detached("test data"), firm() as other:
        PropGuardRules.objects.filter(account=other.account).update(day_zone="No/Where")
    with detached("as the loop, without a scope of its own"):
        result = service.refresh_all()
    assert (result.measured, result.failed) == (1, {other.account.pk: "ZoneInfoNotFoundError"})


# Releasing ----------------------------------------------------------------------------------------------------------


def release(desk: Firm, confirm: str = "", **given: Any) -> PropGuardState:
    with detached("the owner's part in a test"), acting_for(desk.account.owner):
        return limits.reset(desk.account, ANN, confirm or desk.account.name, **given)


def test_a_released_account_trades_again_with_a_day_of_its_own(desk: Firm) -> None:
    breach(desk)
    closing.carry_out(desk.account.pk)
    worth = PaperBalance.objects.get(currency="USD").total
    state = release(desk)
    assert (state.killed_at, state.kill_reason, state.day_start_equity) == (None, "", worth)
    assert desk.desk.intend_open("100", bot=None).pk
    desk.bot.refresh_from_db()
    assert desk.bot.status == Bot.Status.STOPPED  # a person starts it
    bot_services.start_bot(desk.bot, ANN)
    assert desk.kinds()[-1] == "reset"


def test_it_is_not_released_by_a_slip(desk: Firm) -> None:
    breach(desk)
    closing.carry_out(desk.account.pk)
    with denied("not_confirmed"):
        release(desk, "yes")


def test_below_the_total_limit_it_is_released_only_with_a_new_deposit(desk: Firm) -> None:
    open_deal(desk, 95_000)
    desk.tell(90)
    desk.refresh()
    closing.carry_out(desk.account.pk)
    with denied("still_breached"):
        release(desk)
    assert desk.state().is_killed
    worth = PaperBalance.objects.get(currency="USD").total
    release(desk, rebase=True)
    found = PropGuardRules.objects.get()
    assert found.initial_deposit == worth
    assert desk.refresh().killed_at is None


def test_f61_it_is_not_released_while_its_equity_is_unknown(desk: Firm) -> None:
    breach(desk)
    closing.carry_out(desk.account.pk)
    PaperBalance.objects.filter(currency="BTC").update(total=1)
    with desk.later(seconds=400), denied("equity_unknown"):
        release(desk)


def test_only_a_killed_account_is_released(desk: Firm) -> None:
    with denied("not_killed"):
        release(desk)


# Limits -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("daily_limit_pct", "0", "out_of_range"),
        ("daily_limit_pct", "100.1", "out_of_range"),
        ("total_limit_pct", "NaN", "not_a_number"),
        ("initial_deposit", "-1", "out_of_range"),
        ("initial_deposit", "1e400", "out_of_range"),
        ("max_spread_pct", "21", "out_of_range"),
        ("equity_max_age_seconds", "4", "out_of_range"),
        ("equity_max_age_seconds", "60.5", "out_of_range"),
        ("day_start", "25:00", "bad_time"),
        ("day_zone", "../etc/passwd", "bad_zone"),
        ("day_zone", "Mars/Base", "bad_zone"),
        ("currency", "U$D", "bad_currency"),
        ("nonsense", "1", "unknown_field"),
    ],
)
def test_f23_a_limit_that_cannot_be_is_refused_with_its_field(desk: Firm, field: str, value: str, code: str) -> None:
    with pytest.raises(InvalidInput, check=lambda error: (error.code, error.field) == (code, field)):
        desk.rules(**{field: value})


def test_a_guard_does_not_go_on_where_it_would_stop_the_account_at_once(db: None) -> None:
    with firm(on=False, USD=90_000) as desk:
        with pytest.raises(InvalidInput, check=lambda error: error.code == "would_breach"):
            desk.rules(enabled=True)
        assert not PropGuardRules.objects.filter(enabled=True).exists()
        assert desk.rules(enabled=True, initial_deposit="90000").enabled


def test_a_tighter_limit_does_not_stop_the_account_either(desk: Firm) -> None:
    open_deal(desk, 50_000)
    desk.tell(98)
    desk.refresh()
    with denied("would_breach"):
        desk.rules(daily_limit_pct="1")
    assert PropGuardRules.objects.get().daily_limit_pct == D("4.5")


def test_f61_a_guard_goes_on_with_a_known_equity_only(db: None) -> None:
    with firm(on=False, USD=100_000, BTC=1) as desk, desk.later(seconds=400), denied("equity_unknown"):
        desk.rules(enabled=True)


def test_while_it_is_killed_no_limit_is_changed(desk: Firm) -> None:
    breach(desk)
    with denied("guard_killed"):
        desk.rules(enabled=False)
    with denied("guard_killed"):
        desk.rules(daily_limit_pct="50")


def test_another_zone_begins_another_day_with_the_present_equity(desk: Firm) -> None:
    open_deal(desk, 10_000)
    desk.tell(90)
    desk.refresh()
    desk.rules(day_zone="UTC", day_start="00:00")
    state = desk.state()
    assert state.day_began_at == MOMENT.replace(hour=0, minute=0, second=0)
    assert state.day_start_equity == state.last_equity == D(100_000) - 10_060 + 9_000
    assert desk.desk.intend_open("10", max_active_deals=5, max_deals_per_pair=5).pk


def test_limits_and_releases_are_the_owners_alone(desk: Firm) -> None:
    manager = UserFactory()
    MembershipFactory(account=desk.account, user=manager, role="manager")
    with detached("a manager's part"), acting_for(manager):
        with pytest.raises(NotFound):
            limits.change_rules(desk.account, manager.email, daily_limit_pct="50")
        with pytest.raises(NotFound):
            limits.reset(desk.account, manager.email, desk.account.name)
        assert service.kill(desk.account, manager.email).is_killed  # a manager may stop it


def test_an_observer_cannot_stop_the_account(desk: Firm) -> None:
    observer = UserFactory()
    MembershipFactory(account=desk.account, user=observer, role="observer")
    with detached("an observer's part"), acting_for(observer), pytest.raises(NotFound):
        service.kill(desk.account, observer.email)


def test_f35_money_that_moves_is_neither_gain_nor_loss(desk: Firm) -> None:
    """A withdrawal must not stop the account, and a deposit must not hide a loss: while limits are on, none is made."""
    for move in (deposit, withdraw):
        with denied("guarded"):
            move(desk.account, "USD", D(20_000), ANN)
    with denied("guarded"):
        reset_paper(desk.account, ANN)
    assert desk.refresh().last_equity == D(100_000)
    desk.rules(enabled=False)
    withdraw(desk.account, "USD", D(20_000), ANN)


def test_resting_limit_orders_survive_without_a_breach(desk: Firm) -> None:
    order = desk.desk.open_limit("1", "90")
    desk.refresh()
    match_resting("coinbase", clock.now(), [desk.account.pk])
    order.refresh_from_db()
    assert order.status == OrderStatus.OPEN
