"""What a look at a bot says: a decision about each of its deals, then about each of its pairs.

The decisions are the strategies' (``bots.strategies``), on what has been loaded (``bots.facts``): no queries, no
effects. A deal or pair that cannot be judged is told in ``BotFacts.problem`` and holds up no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import structlog

from bots import memory
from bots.deal_facts import Deal
from bots.facts import BotFacts, Facts
from bots.memory import Pair, Side
from bots.models import BotProduct
from bots.strategies.base import Action, Decision, ReasonCode, Strategy
from positions.models import Order, Position
from positions.states import EXIT_PURPOSES, Direction, PositionStatus, Purpose
from tradebot.core.decimals import plain, quantize
from tradebot.core.redaction import described

__all__ = ["Judged", "Outcome", "decide"]

log = structlog.get_logger(__name__)


class Judged(NamedTuple):
    """What of a deal a decision about it rests on: an order is only written down while it is still so."""

    settings_version: int
    bought: Decimal
    sold: Decimal
    ceiling: Decimal

    @classmethod
    def of(cls, position: Position) -> Judged:
        return cls(position.settings_version, position.base_bought, position.base_sold, position.budget_quote)


@dataclass(slots=True)
class Outcome:
    """A decision about a deal, or about opening in one direction on a pair, as it is to be written down."""

    facts: BotFacts
    decision: Decision
    side: Side
    pair: Pair | None = None
    deal: Deal | None = None
    order: Order | None = None
    found: dict[str, Any] = field(default_factory=dict)
    """The columns that the decision changes, and is to write unless it is ``written``."""
    written: bool = False
    judged: Judged | None = None
    """The deal as it was when it was judged."""

    @property
    def acts(self) -> bool:
        return self.decision.action is not Action.NONE

    @property
    def row(self) -> Position | Pair:
        """What remembers the decision."""
        found = self.pair if self.deal is None else self.deal.position
        assert found is not None
        return found

    @property
    def model(self) -> type[Position] | type[BotProduct]:
        return BotProduct if self.deal is None else Position

    @property
    def key(self) -> tuple[Any, int, Direction]:
        """What it is about."""
        return self.model, self.row.pk, self.side.direction

    @property
    def phase(self) -> str:
        if self.deal is None:
            return "open"
        if self.decision.action is Action.CANCEL and not EXIT_PURPOSES.issuperset(self.decision.cancels):
            return "open" if Purpose.BASE_ORDER in self.decision.cancels else "add"
        return "add" if self.decision.action is Action.ADD else "close"

    def note(self, now: datetime, aged: datetime) -> bool:
        """Find out what the decision changes: when it is another one, was acted on, or was written before ``aged``.

        Return whether there is anything to write (F68).
        """
        self.found = memory.changes(self.row, self.side, self.decision, now, None if self.acts else aged)
        if self.deal is not None and self.decision.trail is not None:
            trail = self.decision.trail.to_json()
            if trail != self.deal.position.trail:
                self.found["trail"] = trail
        return bool(self.found)

    @property
    def is_news(self) -> bool:
        """Whether the reason is another one than before."""
        return bool(getattr(self.row, self.side.code) != self.decision.code)


def decide(facts: BotFacts, chunk: Facts) -> list[Outcome]:
    """Return what is to be done about each deal, then about each pair, of one bot. No queries, no effects."""
    outcomes = list(_about_deals(facts, chunk))
    if facts.bot.is_running and facts.strategy is not None:
        outcomes += _about_pairs(facts, facts.strategy, chunk)
    return outcomes


def _about_deals(facts: BotFacts, chunk: Facts) -> Iterator[Outcome]:
    bot, now = facts.bot, chunk.now
    assert bot.account_id is not None
    fees = chunk.money.fee_rates[bot.account_id]
    for deal in facts.deals:
        if any(order.created_at >= now for order in deal.orders):
            continue  # one order a look
        view = chunk.view(bot.pk, deal.position.product_id)
        decision = None if bot.is_running else _given_up(deal)
        if decision is None and deal.strategy is not None and view is not None:
            try:
                decision = deal.strategy.manage(deal.settings, chunk.deal_view(deal), view, now, fees)
            except Exception as error:  # the others are to be looked at all the same (F67)
                name = f"deal {deal.position.deal_number or deal.position.attempt_number}"
                log.exception("deal cannot be judged", bot=bot.pk, account=bot.account_id, deal=deal.position.pk)
                facts.problem = f"{name}: {described(error)}"
        if decision is not None:
            side = memory.sides_of((deal.direction,))[0]
            yield Outcome(facts, decision, side, deal=deal, judged=Judged.of(deal.position))


def _about_pairs(facts: BotFacts, strategy: Strategy, chunk: Facts) -> Iterator[Outcome]:
    settings, sides, now = facts.settings, facts.sides, chunk.now
    resting = {deal.position.product_id for deal in facts.deals if deal.position.created_at >= now}
    for pair in facts.pairs:
        view = chunk.view(pair.bot_id, pair.product_id)
        if view is None or pair.product_id in resting or (pair.bot_id, pair.product_id) in chunk.ended_now:
            continue
        for side in sides:
            try:
                decision = strategy.decide_open(settings, view, chunk.open_context(facts, pair, side))
                if decision.code is ReasonCode.INSUFFICIENT_BALANCE:
                    decision = _reserved_for_others(facts, chunk, pair, side, decision) or decision
            except Exception as error:  # as above
                symbol = chunk.products[pair.product_id].symbol
                log.exception("pair cannot be judged", bot=facts.bot.pk, account=facts.bot.account_id, symbol=symbol)
                facts.problem = f"{symbol}: {described(error)}"
            else:
                yield Outcome(facts, decision, side, pair=pair)


def _given_up(deal: Deal) -> Decision | None:
    """Return the cancel of a stopped bot's base order that rests in the book and has bought nothing; None without."""
    if deal.position.status != PositionStatus.PENDING:
        return None
    for order in deal.working_orders:
        if order.purpose is Purpose.BASE_ORDER and order.is_resting and not order.filled_base and not order.by_person:
            words = "the bot is stopped: its base order, which has not filled, is cancelled"
            return Decision(
                Action.CANCEL, ReasonCode.BOT_STOPPED, words, cancels=(Purpose.BASE_ORDER,), direction=deal.direction
            )
    return None


def _reserved_for_others(facts: BotFacts, chunk: Facts, pair: Pair, side: Side, refusal: Decision) -> Decision | None:
    """Return the refusal that names what other bots have reserved, if that is what stands in the way."""
    kept = chunk.reserved(facts, pair, side.direction)
    if kept is None or not kept.amount or facts.strategy is None:
        return None
    free = chunk.open_context(facts, pair, side, reserved=False)
    view = chunk.view(pair.bot_id, pair.product_id)
    assert view is not None
    if facts.strategy.decide_open(facts.settings, view, free).code is ReasonCode.INSUFFICIENT_BALANCE:
        return None
    product = chunk.products[pair.product_id]
    currency, amount = (
        (product.quote, free.free_quote) if side.direction is Direction.LONG else (product.base, free.free_base)
    )
    reserved, all_free = plain(quantize(kept.amount, 8)), plain(quantize(amount, 8)) if amount is not None else ""
    names = ", ".join(f"“{name}”" for name in kept.names)
    return replace(
        refusal,
        code=ReasonCode.RESERVED,
        words=f"{all_free} {currency} is free, of which {reserved} {currency} is reserved for {names}",
        numbers={"free": all_free, "reserved": reserved, "currency": currency, "bots": list(kept.names)},
    )
