"""The guard and money that is moved: an exchange's withdrawals stop nothing, its deposits make no room.

At a fake Coinbase over HTTP, by the loops' own tasks: balances are asked for, accounts measured, lists read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts import balances
from accounts.access import acting_for
from accounts.models import Account, PropGuardEvent, PropGuardState, VenueFunds
from bots.models import Bot
from notifications.models import Event
from positions import execution, manual, tasks
from positions.execution import Intent
from positions.guard import judging, limits, records, service
from positions.models import Position
from positions.states import Purpose
from tests.accounts.helpers import price
from tests.accounts.live import fake_venue, live_account
from tests.factories import BotFactory, ProductFactory, TransferFactory
from tests.positions.conftest import Desk, desk_outside
from tests.venue.server import FakeVenue
from tradebot.core import clock
from tradebot.core.errors import OrderRefused, TradebotError
from tradebot.core.scoping import acting_for_account, detached

pytestmark = pytest.mark.django_db

D = Decimal
ANN = "ann@example.com"
LISTS = "/v2/accounts"


@dataclass
class Place:
    """Ann's account of 100,000 USD at the venue, half of it in a deal of BTC at 50,000 (without fees), its guard on."""

    account: Account
    fake: FakeVenue
    desk: Desk
    at: datetime
    price: int = 50_000

    def round(self, seconds: int = 0) -> PropGuardState:
        """Let so much time pass, then do what the loops do: prices, balances, the guard; return where it stands."""
        self.at += timedelta(seconds=seconds)
        self.fake.control.shift_time((self.at - datetime.now(self.at.tzinfo)).total_seconds())
        with detached("the loops"), clock.at(self.at):
            price(self.price, self.price)
            with acting_for_account(self.account.pk), suppress(TradebotError):  # noted, and known to be old
                balances.refresh(self.account)
            tasks.measure_guarded.apply(throw=True)
        return self.state()

    def state(self) -> PropGuardState:
        with acting_for_account(self.account.pk):
            return PropGuardState.objects.get(account=self.account)

    def move(self, amount: str, currency: str = "USD") -> str:
        return self.fake.control.deposit("ann", currency, amount)

    def lists_read(self) -> int:
        """Return how often the account's lists were asked for: each time begins with its wallets."""
        return len([seen for seen in self.fake.requests if seen.path == LISTS])

    def entry(self, quote: int) -> str:
        """Return "passed", or why an entry of so much is refused; it is taken back."""
        first = Intent(
            purpose=Purpose.BASE_ORDER, sequence=1, quote_size=D(quote), reference_price=D(self.price), actor=ANN
        )
        with clock.at(self.at), acting_for_account(self.account.pk):
            try:
                order = self.desk.intend_open(intent=first, max_active_deals=9, max_deals_per_pair=9)
            except OrderRefused as refusal:
                return refusal.code
            execution.cancel(order, ANN)
        return "passed"

    def is_open(self) -> bool:
        """Return whether bots run and the deal is there: nothing was stopped."""
        with acting_for_account(self.account.pk):
            running = Bot.objects.get(pk=self.desk.bot.pk).status == Bot.Status.RUNNING
            return running and Position.objects.filter(status="open").exists()

    def told(self) -> list[str]:
        with detached("test looks"):
            rows = Event.objects.filter(kind="notification", user=self.account.owner).order_by("pk")
            return [row.payload["code"] for row in rows]

    def history(self) -> list[str]:
        with acting_for_account(self.account.pk):
            return list(PropGuardEvent.objects.order_by("pk").values_list("kind", flat=True))

    def rules(self, **changes: Any) -> None:
        with clock.at(self.at), acting_for(self.account.owner):
            limits.change_rules(self.account, ANN, **changes)

    @contextmanager
    def lists_fail(self) -> Iterator[None]:
        self.fake.control.fail("status", LISTS, status=403, count=None)
        yield
        self.fake.control.clear_faults()


@pytest.fixture
def place(db: None) -> Iterator[Place]:
    with ExitStack() as stack:
        fake = stack.enter_context(fake_venue())
        key = fake.add_account("ann", {"USD": "100000"}, maker=D(0), taker=D(0))
        fake.control.set_price("BTC-USD", "49999.99")  # the best ask is a cent above
        account = live_account(key)
        product = ProductFactory(exchange="coinbase", symbol="BTC-USD")
        desk = Desk(account, BotFactory(account=account, status=Bot.Status.RUNNING), product)
        made = Place(account, fake, desk, clock.now())
        with acting_for_account(account.pk):
            first = Intent(purpose=Purpose.BASE_ORDER, sequence=1, quote_size=D(50_000), reference_price=D(50_000))
            execution.submit(desk.intend_open(intent=first))
            balances.refresh(account)
        price(50_000, 50_000)
        made.at = clock.now() + timedelta(seconds=2)  # the venue tells whole seconds
        made.rules(enabled=True, day_start=(made.at - timedelta(hours=2)).strftime("%H:%M"), day_zone="UTC")
        made.round(5)
        made.round(61)  # a list may be sent for again
        yield made


def losses(state: PropGuardState) -> tuple[Decimal, Decimal]:
    """Return what counts as lost today and in all."""
    assert state.last_equity is not None
    assert state.day_start_equity is not None
    total = judging.drawdowns(records.rules_of(state.account), state)[PropGuardState.Reason.TOTAL]  # type: ignore[arg-type]
    assert total is not None
    return state.day_start_equity - (state.last_equity - state.day_moved), total.loss


def both_losses(place: Place, state: PropGuardState) -> tuple[Decimal, Decimal]:
    with acting_for_account(place.account.pk):
        return losses(state)


# Withdrawals ----------------------------------------------------------------------------------------------------------


def test_a_withdrawal_beyond_both_limits_stops_nothing(place: Place) -> None:
    place.move("-20000")
    state = place.round(10)
    assert (state.last_equity, state.killed_at, state.breached_at) == (80_000, None, None)
    assert place.is_open()
    assert place.entry(100) == "guard_total_limit", "for a moment it is not clear what balances show"
    for _ in range(4):
        state = place.round(30)
    assert both_losses(place, state) == (0, 0)
    assert (state.day_moved, state.total_moved) == (-20_000, -20_000)
    assert place.entry(100) == "passed"
    assert (place.told(), place.history()) == ([], ["rules"])


def test_a_withdrawal_right_after_a_list_was_read_waits_for_the_next_one(place: Place) -> None:
    place.move("100")
    place.move("2000")
    read = place.lists_read()
    place.round(10)  # this is looked into
    assert place.lists_read() == read + 1
    place.move("-20000")
    for _ in range(5):
        state = place.round(10)
        assert (state.killed_at, place.lists_read()) == (None, read + 1)
        assert place.entry(100) == "guard_total_limit"
    state = place.round(10)
    assert (state.killed_at, state.breached_at, place.lists_read()) == (None, None, read + 2)
    assert place.told() == []


def test_what_is_lost_beside_a_withdrawal_stops_the_account_at_the_same_loss_as_before(place: Place) -> None:
    place.move("-20000")
    for _ in range(4):
        place.round(30)
    place.price = 45_501  # the BTC lost 4,499 of the 4,500 that may be lost in a day
    assert place.round(10).killed_at is None
    place.price = 45_500
    state = place.round(10)
    assert state.kill_reason == "daily_limit"
    assert (state.kill_numbers["loss"], state.kill_numbers["moved"]) == ("4500", "-20000")
    assert place.told() == ["guard_killed"]
    assert not place.is_open()


def test_a_withdrawal_in_a_coin_counts_at_what_it_was_worth_when_it_left(place: Place) -> None:
    with acting_for_account(place.account.pk):
        deal = Position.objects.get()
        with clock.at(place.at):
            manual.close_at_market(deal, ANN)
    place.round(10)
    place.move("1", "BTC")  # 50,000 come in
    for _ in range(4):
        place.round(30)
    place.move("-1", "BTC")  # and leave again
    for _ in range(4):
        state = place.round(30)
    assert state.total_moved == 0
    place.price = 30_000  # whose coin it is does not matter to this account any more
    state = place.round(30)
    assert state.killed_at is None
    assert both_losses(place, state) == (D("0.01"), D("0.01")), "the spread of the sale"


def test_a_withdrawal_that_is_under_way_for_long_stops_nothing(place: Place) -> None:
    """It has left the balance, and the venue lists it as pending until the chain has confirmed it."""
    moved = place.move("-20000")
    place.fake.control.set_movement("ann", moved, "pending")
    for _ in range(20):
        state = place.round(30)
        assert state.killed_at is None
    assert place.is_open()
    assert place.entry(100) == "guard_total_limit", "it may come back"
    with detached("test looks"):
        assert VenueFunds.objects.get(account=place.account).leaving[0][:2] == ["USD", "-20000"]
    place.fake.control.set_movement("ann", moved, "completed")
    for _ in range(3):
        state = place.round(30)
    assert state.total_moved == -20_000
    assert place.entry(100) == "passed"


def test_a_withdrawal_under_way_that_fails_gives_no_room(place: Place) -> None:
    moved = place.move("-20000")
    place.fake.control.set_movement("ann", moved, "pending")
    place.round(30)
    place.fake.control.set_movement("ann", moved, "failed")
    back = place.move("20000")  # the fake keeps a book: it puts the money back by a line of its own
    place.fake.control.set_movement("ann", back, "failed")
    for _ in range(4):
        state = place.round(30)
    assert (state.killed_at, both_losses(place, state)) == (None, (0, 0))


# Losses ---------------------------------------------------------------------------------------------------------------


def test_a_real_loss_is_believed_once_the_list_does_not_explain_it(place: Place) -> None:
    read = place.lists_read()
    place.price = 45_000
    state = place.round(10)
    assert state.kill_reason == "daily_limit"
    assert place.lists_read() == read + 1
    assert place.told() == ["guard_killed"], "and nobody had to wait"


def test_while_the_list_cannot_be_read_nothing_is_opened_and_closing_waits_ninety_seconds(place: Place) -> None:
    read = place.lists_read()
    with place.lists_fail():
        place.move("-20000")
        breached = place.round(10).breached_at
        assert breached == place.at
        assert place.entry(100) == "guard_total_limit"
        for _ in range(8):
            assert place.round(10).killed_at is None
        assert place.is_open()
        assert place.told() == ["guard_waits"]
        assert place.lists_read() - read <= 2, "once a minute at most"
        state = place.round(10)
    assert state.killed_at == place.at == breached + judging.PATIENCE
    assert "could not be read for 90 s" in state.kill_message
    assert place.told() == ["guard_waits", "guard_killed"]
    assert place.history()[-2:] == ["asked", "killed"]


def test_a_list_that_comes_within_that_time_explains_it(place: Place) -> None:
    with place.lists_fail():
        place.move("-20000")
        for _ in range(5):
            place.round(10)
    state = place.round(40)
    assert (state.killed_at, state.breached_at) == (None, None)
    assert place.told() == ["guard_waits", "guard_explained"]
    assert place.is_open()


def test_a_venue_that_goes_away_altogether_keeps_a_reached_limit_from_stopping_for_no_longer(place: Place) -> None:
    place.price = 45_000
    place.fake.control.fail("status", "", account="ann", status=403, count=None)
    state = place.round(10)
    assert state.breached_at is not None
    for _ in range(10):
        state = place.round(10)
    assert state.kill_reason == "daily_limit"
    assert "Its equity is not known since" in state.kill_message


# Deposits -------------------------------------------------------------------------------------------------------------


def test_a_deposit_makes_no_room_before_it_is_listed_nor_after(place: Place) -> None:
    place.price = 45_550
    place.round(70)  # 4,450 of 4,500 are lost; the spread of an entry of 40,000 may take more than 50
    assert place.entry(40_000) == "guard_daily_limit"
    place.move("100000")
    with place.lists_fail():
        state = place.round(10)
        assert state.last_equity == 195_550
        assert place.entry(40_000) == "guard_daily_limit", "not known where it comes from"
    for seconds in (60, 30, 30, 30, 30):
        state = place.round(seconds)
        assert state.killed_at is None
        assert place.entry(40_000) == "guard_daily_limit"
    assert both_losses(place, state) == (4_450, 4_450)
    place.price = 45_500
    assert place.round(10).kill_reason == "daily_limit", "at the same loss as without it"


def test_a_deposit_by_itself_stops_nothing_and_blocks_nothing_for_long(place: Place) -> None:
    place.move("100000")
    for _ in range(4):
        state = place.round(30)
        assert state.killed_at is None
    assert both_losses(place, state) == (0, 0)
    assert place.entry(1000) == "passed"


def test_lists_are_read_once_a_minute_at_most_and_not_at_all_while_nothing_happens(place: Place) -> None:
    read = place.lists_read()
    for _ in range(5):
        place.round(30)
    assert place.lists_read() == read
    for _ in range(12):  # two minutes of deposits that are looked into
        place.move("1000")
        place.round(10)
    assert place.lists_read() - read in (2, 3)


def test_a_new_initial_deposit_is_of_its_moment(place: Place) -> None:
    place.move("-20000")
    for _ in range(4):
        place.round(30)
    place.rules(initial_deposit="80000")
    state = place.round(10)
    assert state.total_moved == 0
    assert both_losses(place, state) == (0, 0)


def test_a_day_that_begins_begins_with_what_is_there(place: Place) -> None:
    place.move("-20000")
    for _ in range(4):
        place.round(30)
    state = place.round(86_400)
    state = place.round(30)
    assert (state.day_start_equity, state.day_moved, state.total_moved) == (80_000, 0, -20_000)
    place.price = 46_401  # 4.5 % of 80,000 are 3,600
    assert place.round(30).killed_at is None
    place.price = 46_400
    assert place.round(10).kill_reason == "daily_limit"


# Elsewhere ------------------------------------------------------------------------------------------------------------


def test_where_no_movements_are_listed_a_limit_is_believed_at_once(db: None) -> None:
    with clock.at(clock.now()), desk_outside("coinbase") as desk, acting_for_account(desk.account.pk):
        desk.tell(100)
        desk.ask()
        with detached("the owner's part in a test"), acting_for(desk.account.owner):
            limits.change_rules(desk.account, ANN, enabled=True, initial_deposit=10_000)
        assert desk.venue is not None
        desk.venue.wallet["USD"] = D(9_000)
        desk.ask()
        state = service.refresh(desk.account.pk)
    assert state is not None
    assert state.kill_reason == "total_limit"


def test_what_a_person_enters_by_hand_makes_no_room(place: Place) -> None:
    TransferFactory(account=place.account, amount=D(-20_000), source="manual", at=place.at, counted_at=place.at)
    state = place.round(70)
    assert (state.day_moved, state.total_moved) == (0, 0)
