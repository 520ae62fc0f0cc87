"""An account of a prop firm: 100,000 USD, one pair whose price the test tells, a guard that is on, and its losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from accounts.access import acting_for
from accounts.models import Account, PropGuardEvent, PropGuardRules, PropGuardState
from bots.models import Bot
from marketdata.models import Product
from notifications.models import Event
from positions.guard import limits, service
from positions.models import Position
from tests.accounts.helpers import D, live_account, live_product, price
from tests.factories import BotFactory
from tests.positions.conftest import MOMENT, Desk
from tradebot.core import clock
from tradebot.core.errors import InvalidInput
from tradebot.core.scoping import acting_for_account, detached

ANN = "ann@example.com"


@dataclass
class Firm:
    """The account with everything around it. Use it inside :func:`firm`, which acts for the account."""

    account: Account
    bot: Bot
    product: Product
    desk: Desk

    def rules(self, **changes: Any) -> PropGuardRules:
        with detached("the owner's part in a test"), acting_for(self.account.owner):
            return limits.change_rules(self.account, ANN, **changes)

    def state(self) -> PropGuardState:
        return PropGuardState.objects.get(account=self.account)

    def refresh(self) -> PropGuardState:
        found = service.refresh(self.account.pk)
        assert found is not None
        return found

    def tell(self, middle: int | str, spread: str = "0") -> None:
        """Let BTC-USD stand at ``middle``."""
        half = D(spread) / 2
        price(str(D(middle) - half), str(D(middle) + half))

    def kinds(self) -> list[str]:
        """Return the guard's history, oldest first."""
        return list(PropGuardEvent.objects.order_by("pk").values_list("kind", flat=True))

    def told(self) -> list[str]:
        """Return the codes of what the owner was told."""
        with detached("test looks"):
            rows = Event.objects.filter(kind="notification", user=self.account.owner).order_by("pk")
            return [row.payload["code"] for row in rows]

    def deals(self, **filters: Any) -> list[Position]:
        return list(Position.objects.filter(**filters).order_by("pk"))

    @contextmanager
    def later(self, **span: int) -> Iterator[None]:
        """Move the clock on, with a fresh price."""
        with clock.at(clock.now() + timedelta(**span)):
            yield


@contextmanager
def firm(on: bool = True, **balances: Any) -> Iterator[Firm]:
    """Make the account at :data:`MOMENT`, the price at 100, and act for it."""
    with clock.at(MOMENT):
        account = live_account(**(balances or {"USD": 100_000}))
        product = live_product(min_quote=1)
        price(100, 100)
        bot = BotFactory(account=account, status=Bot.Status.RUNNING, products=[product])
        made = Firm(account, bot, product, Desk(account, bot, product))
        if on:
            made.rules(enabled=True)
        with acting_for_account(account.pk):
            yield made


def denied(code: str) -> Any:
    return pytest.raises(InvalidInput, check=lambda error: error.code == code)


def open_deal(desk: Firm, quote: int = 1000) -> Position:
    return desk.desk.open(str(quote))


def breach(desk: Firm) -> Position:
    """Lose 5 % of the account with one deal; its kill is not carried out yet."""
    deal = open_deal(desk, 50_000)
    desk.tell(90)
    assert desk.refresh().kill_reason == "daily_limit"
    return deal


def release(desk: Firm, confirm: str = "", **given: Any) -> PropGuardState:
    with detached("the owner's part in a test"), acting_for(desk.account.owner):
        return limits.reset(desk.account, ANN, confirm or desk.account.name, **given)
