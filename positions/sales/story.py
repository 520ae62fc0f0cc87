"""What became of sales and conversions by hand, in words. Reads only.

A conversion over a currency in between is two deals: the first one's frozen settings say what is wanted next
(``then``), the second one's which it follows (``after``). Its ``uid`` derives from the first one's, so there is one at
most.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from django.db.models import QuerySet

from accounts.models import Account
from positions.models import Position
from positions.states import POSITION_ACTIVE, KeptStrategy, PositionStatus
from tradebot.core.decimals import ZERO, dec, plain, quantize, round_to

__all__ = ["BY_HAND", "STOPPED", "Story", "StoryState", "latest", "next_uid", "story_of"]

BY_HAND: Final = (KeptStrategy.PURCHASE, KeptStrategy.SALE)
STOPPED: Final = "conversion_stopped"
"""The ``last_code`` of a first step that no second one follows; ``last_message`` says why."""


class StoryState(StrEnum):
    """How a sale or conversion stands."""

    WORKING = "working"
    DONE = "done"
    PARTLY = "partly"
    """Less was filled than asked for; what was is kept."""
    STOPPED = "stopped"
    """The second step did not happen: the money is in the currency in between."""
    FAILED = "failed"
    """Nothing was sold or bought."""


@dataclass(frozen=True, slots=True)
class Story:
    """A sale or conversion: its first deal, and the second one where there is one."""

    first: Position
    second: Position | None = None

    @property
    def gives(self) -> str:
        """Return the currency that was given away."""
        return str(self.first.settings.get("gives", ""))

    @property
    def into(self) -> str:
        """Return the currency that was wanted."""
        return str(self.first.settings.get("into", ""))

    @property
    def last(self) -> Position:
        """Return the deal that was begun last."""
        return self.second or self.first

    @property
    def wants_more(self) -> bool:
        """Return whether a second step was wanted and has not been begun."""
        return bool(self.first.settings.get("then")) and self.second is None

    @property
    def state(self) -> StoryState:
        """Return how it stands."""
        if self.first.status in POSITION_ACTIVE or self.last.status in POSITION_ACTIVE:
            return StoryState.WORKING
        if not _traded(self.first):
            return StoryState.FAILED
        if self.wants_more or not _traded(self.last):
            return StoryState.STOPPED
        return StoryState.PARTLY if any(map(_is_part, filter(None, (self.first, self.second)))) else StoryState.DONE

    @property
    def words(self) -> str:
        """Return what became of it, in sentences."""
        found = [_said(self.first)]
        if self.second is not None:
            found.append(_said(self.second))
        state = self.state
        if state is StoryState.WORKING and self.wants_more:
            waits = self.first.last_message
            found.append(f"The second step waits: {waits}" if waits else "The second step follows by itself.")
        elif state is StoryState.STOPPED:
            if self.second is None:
                why = self.first.last_message if self.first.last_code == STOPPED else "The first one was cancelled."
                found.append(f"The second step was not taken: {why}")
            found.append(f"The money stays in {self.first.product.quote}.")
        return " ".join(found)


def next_uid(first: Position) -> uuid.UUID:
    """Return the ``uid`` of the deal that follows: the same whoever begins it, so that it exists once."""
    return uuid.uuid5(first.uid, "then")


def story_of(position: Position) -> Story | None:
    """Return the story that a deal belongs to; None, without a query, for deals of another kind. One query at most."""
    if position.strategy not in BY_HAND:
        return None
    rows = Position.objects.select_related("product")
    if (before := position.settings.get("after")) is not None:
        first = rows.filter(account_id=position.account_id, pk=before).first()
        return Story(position) if first is None else Story(first, position)
    if not position.settings.get("then"):
        return Story(position)
    return Story(position, rows.filter(account_id=position.account_id, uid=next_uid(position)).first())


def latest(accounts: Iterable[Account], count: int) -> list[Story]:
    """Return the newest sales and conversions of these accounts, newest first. One query."""
    rows: QuerySet[Position] = Position.objects.filter(account__in=[row.pk for row in accounts], strategy__in=BY_HAND)
    found = list(rows.select_related("product", "account").order_by("-pk")[: 2 * count])
    by_uid = {row.uid: row for row in found}
    stories = [Story(row, by_uid.get(next_uid(row))) for row in found if "after" not in row.settings]
    return stories[:count]


def _traded(position: Position) -> bool:
    return bool(position.base_sold or position.base_bought)


def _is_part(position: Position) -> bool:
    """Return whether less was filled than its order asked for; a purchase may lack what rounding to a step leaves."""
    asked = dec(position.settings.get("size", "0"))
    if position.is_sale:
        return bool(position.base_sold < asked)
    rounding = position.product.base_increment * (position.average_price or ZERO)
    spent = position.quote_spent + position.fees_quote  # some venues take the fee out of the amount
    return bool(spent < asked - max(rounding, asked / 1000))


def _said(position: Position) -> str:
    """Return what one deal's order did."""
    product, is_sale = position.product, position.is_sale
    coin = product.base
    if not _traded(position):
        if position.status == PositionStatus.FAILED:
            why = position.last_error or "the venue refused the order."
            return f"{'Selling' if is_sale else 'Buying'} {coin} failed: {why}"
        if position.status in POSITION_ACTIVE:
            return f"The order that {'sells' if is_sale else 'buys'} {coin} is on its way."
        return f"The order that {'sells' if is_sale else 'buys'} {coin} was cancelled before it did anything."
    asked = _short(dec(position.settings.get("size", "0")))
    is_part, so_far = _is_part(position), " so far" if position.status in POSITION_ACTIVE else ""
    step = product.quote_increment or product.price_increment
    if is_sale:
        of = f" of {asked}" if is_part else ""
        brought = plain(round_to(position.quote_received - position.fees_quote, step))
        return f"Sold {_short(position.base_sold)}{of} {coin} for {brought} {product.quote} after fees{so_far}."
    part = f", less than the {asked} asked for" if is_part else ""
    spent = plain(round_to(position.quote_spent + position.fees_quote, step))
    return f"Bought {_short(position.base_held)} {coin} for {spent} {product.quote} with fees{part}{so_far}."


def _short(value: Decimal) -> str:
    return plain(quantize(max(value, ZERO), 8))
