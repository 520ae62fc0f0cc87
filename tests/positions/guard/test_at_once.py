"""The guard among many: orders, measurements and kills at the same moment, each in a thread with a connection."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Account, PaperBalance, PropGuardEvent, PropGuardState
from bots.models import Bot
from marketdata.models import Product
from positions.guard import closing, service
from positions.models import Order
from positions.states import OrderStatus, Purpose
from tests.positions.conftest import MOMENT, Desk
from tests.positions.guard.firm import firm
from tests.positions.helpers import in_threads
from tradebot.core import clock
from tradebot.core.errors import OrderRefused
from tradebot.core.scoping import acting_for_account, detached

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("many_connections")]

D = Decimal
THREADS = 4


def desk_of(pk: int) -> Desk:
    """The account's desk as a thread of its own reads it."""
    account = Account.objects.get(pk=pk)
    return Desk(account, Bot.objects.get(account=account), Product.objects.get(symbol="BTC-USD"))


def acting(pk: int, work: Any) -> Any:
    def run(number: int) -> Any:
        with clock.at(MOMENT), acting_for_account(pk):
            return work(number)

    return run


def test_f62_of_orders_at_one_moment_only_those_pass_that_the_limit_has_room_for() -> None:
    """Each of four orders may cost 8.50 at once; 20 are left to the daily limit, so two fit, whichever they are."""
    with firm() as desk:
        pk = desk.account.pk
        PropGuardState.objects.update(last_equity=D(95_520))

    results = in_threads(
        THREADS,
        acting(pk, lambda _: desk_of(pk).intend_open("1000", max_active_deals=9, max_deals_per_pair=9)),
    )
    assert sum(isinstance(result, Order) for result in results) == 2, results
    assert {result.code for result in results if isinstance(result, OrderRefused)} == {"guard_daily_limit"}


def test_f62_no_order_is_written_after_the_kill_that_it_raced_with() -> None:
    with firm() as desk:
        pk = desk.account.pk
        PaperBalance.objects.filter(currency="USD").update(total=D(95_000))

    def work(number: int) -> Any:
        if number == 0:
            return service.refresh(pk)
        return desk_of(pk).intend_open("10", max_active_deals=9, max_deals_per_pair=9)

    results = in_threads(THREADS, acting(pk, work))
    killed = PropGuardEvent.objects
    with detached("test looks"):
        event = killed.get(kind="killed")
        before_the_kill = sum(isinstance(result, Order) for result in results)
        assert Order.objects.count() == before_the_kill
        assert event.at == MOMENT
    refusals = {result.code for result in results if isinstance(result, OrderRefused)}
    assert refusals <= {"guard_killed", "bot_stopped"}, results
    with clock.at(MOMENT), acting_for_account(pk), pytest.raises(OrderRefused):
        desk_of(pk).intend_open("10", bot=None, max_active_deals=9, max_deals_per_pair=9)


def test_many_workers_measure_kill_and_close_as_one() -> None:
    """One kill, one close a deal, one end, however many workers find the breach."""
    with firm() as desk:
        pk = desk.account.pk
        deal = desk.desk.open("60000")
        desk.tell(90)

    def work(number: int) -> Any:
        service.refresh(pk)
        return closing.carry_out(pk)

    in_threads(THREADS, acting(pk, work))
    with clock.at(MOMENT), acting_for_account(pk):
        assert closing.carry_out(pk) == 0
        deal.refresh_from_db()
        assert deal.status == "closed"
        closes = Order.objects.filter(purpose=Purpose.PANIC_CLOSE)
        assert [row.status for row in closes] == [OrderStatus.FILLED]
        assert list(PropGuardEvent.objects.order_by("pk").values_list("kind", flat=True)) == [
            "rules",
            "killed",
            "settled",
        ]
        assert PaperBalance.objects.get(currency="BTC").total == 0
