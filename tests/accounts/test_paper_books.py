"""Whatever happens in whatever order, a paper account's books agree with one another."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.exchanges.paper import PaperVenue, match_resting
from accounts.models import Account
from accounts.services import deposit, update_terms, withdraw
from tests.accounts.helpers import LIVE, D, assert_books_agree, buy, live_account, live_product, price, ref, sell
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, VenueRejected
from tradebot.core.scoping import acting_for_account

pytestmark = pytest.mark.django_db

CENTS = st.integers(8_000, 12_000).map(lambda cents: Decimal(cents).scaleb(-2))
SIZES = st.integers(1, 90_000).map(lambda steps: Decimal(steps).scaleb(-3))
MONEY = st.integers(1, 9_000_000).map(lambda steps: Decimal(steps).scaleb(-3))
SIDES = st.sampled_from([buy, sell])

STEPS = st.one_of(
    st.tuples(st.just("price"), CENTS),
    st.tuples(st.just("market"), SIDES, SIZES),
    st.tuples(st.just("spend"), MONEY),
    st.tuples(st.just("limit"), SIDES, SIZES, CENTS, st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("match"), st.integers(0, 120)),
    st.tuples(st.just("move"), st.sampled_from([deposit, withdraw]), st.sampled_from(["USD", "LTC", "EUR"]), MONEY),
    st.tuples(
        st.just("terms"), st.sampled_from(["0", "0.333333333333333333", "5"]), st.sampled_from(["base", "quote"])
    ),
)


class Machine:
    """Plays the steps on one account and checks the books after each."""

    def __init__(self, account: Account) -> None:
        self.account, self.venue = account, PaperVenue(account)
        self.placed: list = []
        self.now = clock.now()

    def play(self, steps: list[tuple]) -> None:
        with acting_for_account(self.account.pk):
            for name, *arguments in steps:
                with clock.at(self.now), suppress(VenueRejected, InvalidInput):
                    getattr(self, name)(*arguments)
                assert_books_agree(self.account)

    def price(self, bid: Decimal) -> None:
        price(bid, bid + D("0.01"), "LTC-USD")

    def market(self, side, base: Decimal) -> None:
        self.venue.place(side("LTC-USD", base=base))

    def spend(self, quote: Decimal) -> None:
        self.venue.place(buy("LTC-USD", quote=quote))

    def limit(self, side, base: Decimal, limit: Decimal, expires: bool) -> None:
        order = side(
            "LTC-USD", base=base, limit=limit, expires_at=self.now + timedelta(seconds=60) if expires else None
        )
        self.placed.append(order.client_order_id)
        self.venue.place(order)

    def cancel(self, number: int) -> None:
        if self.placed:
            self.venue.cancel(ref(self.placed[number % len(self.placed)]))

    def match(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        with clock.at(self.now):
            match_resting(LIVE, self.now, [self.account.pk])

    def move(self, act, currency: str, amount: Decimal) -> None:
        act(self.account, currency, amount, "person@example.com")

    def terms(self, fee: str, currency: str) -> None:
        update_terms(self.account, "person@example.com", maker_fee_pct=fee, taker_fee_pct=fee, fee_currency=currency)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=5, max_size=40))
def test_f59_entries_add_up_holds_agree_and_nothing_goes_below_zero(steps: list[tuple]) -> None:
    live_product("LTC-USD", base_increment=D("0.001"), min_base=D("0.001"))
    price(100, "100.01", "LTC-USD")
    Machine(live_account(slippage_pct="0.05", USD=10_000, LTC=100)).play(steps)
