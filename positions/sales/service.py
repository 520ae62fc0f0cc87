"""Selling coins that no deal holds, and converting one currency into another. By the order protocol alone.

``convert`` does, outside of any transaction because venues are called:

1. Ask an exchange what the account holds, and work out what it comes to (:mod:`positions.sales.plan`).
2. Write the order down as a deal of one order that is kept (:mod:`positions.keeping`): ``intend_open`` checks under the
   account's lock that what is sold is free, and all that any entry has to pass. Then it is sent, as every order is.
3. ``go_on``: when the order has ended, what it brought becomes the account's. Where a second step was wanted (the wish
   is in the first deal's frozen settings), its order is written down in the same transaction, sized by what the first
   one really brought, net of fees; so either both have happened or neither, and whoever comes next sees it. The second
   deal's uid derives from the first one's besides. A loop goes on with what a process that died, or a venue that did
   not answer, has left (:func:`go_on_all`).

A second step that is refused is not tried again: the money stays in the currency in between, and that is told. Only
what is not known for a moment (a price, a balance) is waited for, :data:`PATIENCE` long; meanwhile the first deal is
open, so nobody else spends the money. A first order that somebody cancelled is followed by nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import structlog
from django.db import transaction

from accounts.access import people_of_account
from accounts.balances import fees_of
from accounts.models import Account
from marketdata import market, sources
from marketdata.models import Product
from notifications import outbox
from positions import execution, handling, keeping
from positions.booking import announce, announce_position, lock_account, totals_of, write
from positions.execution import Intent
from positions.intents.means import ENTRY_AGE
from positions.models import Order, Position
from positions.sales.plan import plan_of
from positions.sales.story import STOPPED, Story, StoryState, next_uid, story_of
from positions.sales.ways import Step, ways_from
from positions.states import KEPT_STRATEGIES, Direction, PositionStatus, Purpose
from tradebot.core import clock, health
from tradebot.core.decimals import ONE, ZERO, floor_to, for_money, plain
from tradebot.core.errors import InvalidInput, OrderRefused, TradebotError
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = [
    "LOOPS",
    "Exchanged",
    "WentOn",
    "accounts_to_go_on_with",
    "convert",
    "go_on",
    "go_on_all",
    "sell",
    "sold_for",
]

log = structlog.get_logger(__name__)

LOOPS: Final = {"sales": 5}
"""How often the loop goes on with what is left, in seconds."""
health.LOOPS.update(LOOPS)

PATIENCE: Final = timedelta(minutes=2)
"""So long after the first step is a second one waited for that cannot be judged."""
MAY_PASS: Final = frozenset({"missing_price", "insufficient_balance"})
"""Refusals that go away by themselves, beside those of what is unknown: an exchange may show proceeds a little late."""


@dataclass(frozen=True, slots=True)
class Exchanged:
    """The answer to a sale or conversion. ``order`` is the first step's, ``second`` the next one's, if it was begun."""

    story: Story
    order: Order
    second: Order | None

    @property
    def state(self) -> StoryState:
        """Return how it stands."""
        return self.story.state

    @property
    def message(self) -> str:
        """Return the answer in words."""
        return self.story.words


# Asking for it --------------------------------------------------------------------------------------------------------


def sell(
    account: Account,
    currency: str,
    into: str = "",
    *,
    actor: str,
    amount: Decimal | None = None,
    created_by: Any = None,
) -> Exchanged:
    """Sell ``amount`` (default: all that is free) of a coin at market for ``into``, which its pair is quoted in.

    Without ``into`` it is what most pairs are quoted in. Raises what :func:`convert` does.
    """
    into = sold_for(account, currency, into)
    return convert(account, currency, into, actor=actor, amount=amount, created_by=created_by)


def sold_for(account: Account, currency: str, into: str = "") -> str:
    """Return ``into`` if the coin can be sold for it, the usual currency where none is named.

    Raises InvalidInput (``no_way``, field ``into`` or ``currency``).
    """
    sales = [name for name, way in ways_from(account, currency, into).items() if way.is_sale]
    if not sales:
        where = f" for {into}" if into else ""
        raise InvalidInput(
            "no_way",
            f"This account's market trades no pair that sells {currency}{where}.",
            field="into" if into else "currency",
        )
    return sales[0]


def convert(
    account: Account,
    currency: str,
    into: str,
    *,
    actor: str,
    amount: Decimal | None = None,
    created_by: Any = None,
) -> Exchanged:
    """Turn ``amount`` (default: all that is free) of ``currency`` into ``into`` at market, in one order or in two.

    Raises InvalidInput naming the field (``amount``, ``into``) with the numbers; MissingInformation without a price;
    OrderRefused: ``nothing_free``, ``balance_unknown``, ``account_archived``, ``no_sales``, the refusals of
    ``execution.intend_open``, or the venue's own code when it rejects the order and nothing was filled.
    """
    handling.ask_for_funds_of(account)
    plan = plan_of(account, currency, into, amount, ENTRY_AGE)
    settings = {"gives": currency, "into": into, "size": plain(plan.size.base or plan.size.value)}
    if plan.way.second is not None:
        settings["then"] = plan.way.second.product.symbol
    quote = plan.quotes[plan.way.first.product.symbol]
    price = quote.bid if plan.way.first.sells else quote.ask
    with transaction.atomic():
        try:
            order = _written(
                account,
                plan.way.first,
                plan.size.base,
                plan.size.quote,
                settings,
                "Sale" if plan.way.is_sale else "Conversion",
                actor,
                created_by,
                reference_price=price,
            )
        except OrderRefused as refusal:
            if refusal.code in ("below_minimum", "insufficient_balance"):
                raise InvalidInput(refusal.code, refusal.message, field="amount", **refusal.detail) from refusal
            raise
        handling.record(
            order.position,
            actor,
            "coins_sold" if plan.way.is_sale else "coins_converted",
            **settings,
            order=order.pk,
        )
    order = execution.submit(order)
    first = order.position
    go_on(first)
    handling.refresh(first)
    order.refresh_from_db()
    if not order.filled_base:
        handling.require_carried_out(order)
    story = story_of(first)
    assert story is not None
    return Exchanged(story, order, None if story.second is None else story.second.orders.get())


def _written(
    account: Account,
    step: Step,
    base: Decimal | None,
    quote: Decimal | None,
    settings: dict[str, Any],
    name: str,
    actor: str,
    created_by: Any,
    *,
    reference_price: Decimal | None = None,
    uid: Any = None,
) -> Order:
    """Write a step's order down as a deal of its own. Inside a transaction. Raises OrderRefused, InvalidInput."""
    intent = Intent(
        purpose=Purpose.BASE_ORDER,
        sequence=1,
        base_size=base,
        quote_size=quote,
        reference_price=reference_price,
        actor=actor,
    )
    order = execution.intend_open(
        account=account,
        bot=None,
        product=step.product,
        direction=step.direction,
        frozen_settings=settings,
        settings_version=1,
        strategy=step.strategy,
        budget_quote=quote or ZERO,
        max_active_deals=1,
        max_deals_per_pair=1,
        intent=intent,
        created_by=created_by,
        uid=uid,
    )
    write(order.position, bot_name=name)
    return order


# Going on -------------------------------------------------------------------------------------------------------------


class _NotYet(Exception):
    """The second step cannot be judged at this moment."""

    def __init__(self, refusal: TradebotError) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def go_on(position: Position) -> Order | None:
    """Hand over what the deal's order brought if it has ended, and begin what is to follow; return the second order.

    Safe to call at any time, by anybody, any number of times. Never inside a transaction: venues are called.
    """
    handling.refresh(position)
    if not keeping.has_ended(position):
        return None
    wanted = position.settings.get("then")
    if not wanted:
        keeping.keep(position)
        return None
    handling.ask_for_funds_of(position.account)
    market.fresh_quotes(position.account.exchange, [wanted])
    try:
        order = _handed_over(position, wanted)
    except _NotYet as wait:
        _note(position, wait.refusal)
        return None
    if order is None:
        return None
    order = execution.submit(order)
    keeping.keep(order.position)
    if not order.filled_base and order.position.status == PositionStatus.FAILED:
        _tell(position, Story(position, order.position))
    return order


def _handed_over(position: Position, wanted: str) -> Order | None:
    """End the first deal and write the second one's order down, in one transaction; None where nothing follows."""
    with transaction.atomic():
        account = lock_account(position.account_id)
        handling.refresh(position)
        if not keeping.has_ended(position):
            return None  # somebody else was faster
        ended = position.orders.order_by("-pk").first()
        assert ended is not None
        keeping.hand_over(position)
        if ended.cancel_actor:
            return None
        try:
            return _followed(account, position, wanted, ended.actor)
        except (OrderRefused, InvalidInput) as refusal:
            may_pass = refusal.code in MAY_PASS or refusal.code.endswith("_unknown")
            if may_pass and clock.now() - (ended.finished_at or clock.now()) < PATIENCE:
                raise _NotYet(refusal) from refusal
            message = refusal.message[:400]
            write(position, last_code=STOPPED, last_message=message, last_changed_at=clock.now())
            _tell(position, Story(position))
    return None


def _followed(account: Account, first: Position, wanted: str, actor: str) -> Order:
    """Write the second step's order down, for all that the first one brought. Raises OrderRefused, InvalidInput."""
    product = Product.objects.filter(exchange=account.exchange, symbol=wanted).first()
    if product is None:
        raise OrderRefused("product_not_trading", f"{wanted} is not traded any more.")
    fee = max(fees_of([account.pk])[account.pk])
    with for_money():
        value = floor_to(totals_of(first).invested_quote / (ONE + fee), product.quote_increment)
    if value <= ZERO:
        raise OrderRefused("below_minimum", f"What was brought is too little to buy {product.base} with.")
    settings = {"after": first.pk, "gives": product.quote, "into": product.base, "size": plain(value)}
    step = Step(product, Direction.LONG)
    with transaction.atomic():
        return _written(
            account, step, None, value, settings, "Conversion", actor, first.created_by, uid=next_uid(first)
        )


def _note(position: Position, refusal: TradebotError) -> None:
    """Say why the second step waits, once for each reason."""
    handling.refresh(position)
    message = refusal.message[:400]
    if (position.last_code, position.last_message) != (refusal.code[:60], message):
        with transaction.atomic():
            write(position, last_code=refusal.code[:60], last_message=message, last_changed_at=clock.now())
            announce_position(position)


def _tell(position: Position, story: Story) -> None:
    """Tell the people of the account that a conversion ended half way."""
    payload = {
        "code": STOPPED,
        "level": "warning",
        "message": f"{position.account.name}: {story.words}",
        "position_id": position.pk,
        "account_id": position.account_id,
    }
    people = people_of_account(position.account_id)
    with transaction.atomic():
        announce(position.account_id, lambda: outbox.publish(people, "notification", payload, position.account_id))


# The loop -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class WentOn:
    """What a round did: accounts visited, second orders begun, and what failed by account id."""

    accounts: int = 0
    orders: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def accounts_to_go_on_with() -> list[int]:
    """Return the accounts that have purchases or sales which are not handed over yet, recordings aside."""
    with all_accounts("the loop looks for purchases and sales under way"):
        rows = Position.objects.filter(strategy__in=sorted(KEPT_STRATEGIES), closed_at__isnull=True)
        rows = rows.exclude(account__exchange=sources.REPLAY).order_by("account_id")
        return list(rows.values_list("account_id", flat=True).distinct())


def go_on_all(account_ids: Iterable[int]) -> WentOn:
    """Go on with what these accounts have under way. One failure stops neither the rest nor the others (F67)."""
    result = WentOn()
    for account_id in account_ids:
        with acting_for_account(account_id):
            for position in keeping.under_way(account_id):
                try:
                    result.orders += go_on(position) is not None
                except Exception as error:  # the loop's edge
                    result.failed[account_id] = error.code if isinstance(error, TradebotError) else type(error).__name__
                    log.exception("sales.not_gone_on_with", position=position.pk)
        result.accounts += 1
    return result
