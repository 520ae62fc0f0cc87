"""What of a currency nobody needs: neither open deals nor bots. What auto-buy may spend.

From what the account has free (:mod:`bots.money`: the wallet without holds and without what open deals need) goes off
what is kept for bots, each unit once:

* A running bot keeps the unused part of its budget: quote for its longs, base for its shorts. What its deals have spent
  is used. What its resting safety orders hold has left the free balance already, so it is not kept a second time (F31).
* A deal keeps what it may still spend up to its ceiling, less what its resting orders hold. Within a running bot that
  is part of the same budget, so the larger of the two counts.

Everything is by account; None is "not known", never zero (F34).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from accounts.models import Account
from bots import loading
from bots.facts import BotFacts, Facts
from bots.models import Bot
from marketdata import market
from positions.models import Order, Position
from positions.states import ENTRY_PURPOSES, KEPT_STRATEGIES, POSITION_ACTIVE, WORKING, Direction, Purpose
from tradebot.core.decimals import ZERO

__all__ = ["Spendable", "facts_of", "spendable"]


@dataclass(frozen=True, slots=True)
class Spendable:
    """What is free of a currency, what of it is kept, and the names of whom it is kept for."""

    free: Decimal
    kept: Decimal
    names: tuple[str, ...]

    @property
    def amount(self) -> Decimal:
        """Return what may be spent."""
        return max(self.free - self.kept, ZERO)


def facts_of(account: Account, now: datetime) -> Facts:
    """Return what is known about the account's bots, deals and money, at present prices. Asks no venue.

    From the rows as they are now, so a deposit counts at once (F35). Raises TradebotError when prices cannot be read.
    """
    rows = Bot.objects.filter(account=account, archived_at__isnull=True)
    known = loading.load(rows.values_list("pk", flat=True), now, [account.pk])
    by_symbol = {product.symbol: pk for pk, product in known.products.items()}
    quotes = market.quotes(account.exchange, by_symbol, now) if by_symbol else {}
    known.money.prices = {by_symbol[symbol]: quote for symbol, quote in quotes.items()}
    return known


def spendable(known: Facts, account_id: int, currency: str) -> Spendable | str:
    """Return what may be spent of ``currency``, or in words what of it is not known."""
    free = known.money.free(account_id, currency)
    if free is None:
        return f"what of the {currency} is free is not known: a balance or a price is missing"
    deals = known.money.deals.get(account_id, [])
    holds = _held_by_entries(deals)
    by_bot: dict[int | None, Decimal] = defaultdict(Decimal)
    for deal in deals:
        by_bot[deal.bot_id] += _still_to_spend(deal, currency, holds)
    kept, names = by_bot.pop(None, ZERO), ["deals without a bot"]
    if not kept:
        names.clear()
    for pk, facts in known.bots.items():
        rest = by_bot.pop(pk, ZERO)
        if facts.bot.is_running:
            unused = _unused(known, facts, currency, holds)
            if unused is None:
                return f"what “{facts.bot.name}” may need of the {currency} is not known: {_why(facts)}"
            rest = max(rest, unused)
        if rest:
            kept += rest
            names.append(f"“{facts.bot.name}”")
    archived = sum(by_bot.values(), ZERO)  # deals whose bots are put away
    if archived:
        kept += archived
        names.append("deals of former bots")
    return Spendable(free, kept, tuple(names))


def _why(facts: BotFacts) -> str:
    return facts.problem or "a balance or a price is missing"


def _unused(known: Facts, facts: BotFacts, currency: str, holds: _Holds) -> Decimal | None:
    """Return what a running bot has not used of its budget and not claimed by resting orders; None: not known."""
    if facts.strategy is None:
        return None
    unused = known.money.unused(facts, currency)
    if unused is None:
        return None
    resting = sum(
        (holds.adds.get(deal.position.pk, ZERO) for deal in facts.deals if deal.totals.quote_currency == currency), ZERO
    )
    return max(unused - resting, ZERO)


def _still_to_spend(deal: Position, currency: str, holds: _Holds) -> Decimal:
    """Return what a long deal may still spend up to its ceiling, beyond what its orders hold already."""
    if deal.strategy in KEPT_STRATEGIES or deal.direction != Direction.LONG or deal.product.quote != currency:
        return ZERO
    if deal.status not in POSITION_ACTIVE or not deal.budget_quote:
        return ZERO
    return max(deal.budget_quote - deal.quote_spent - holds.entries.get(deal.pk, ZERO), ZERO)


@dataclass(frozen=True, slots=True)
class _Holds:
    """What working entries hold, by deal id: ``entries`` all of them, ``adds`` without base orders, which a bot's
    budget counts as used."""

    entries: Mapping[int, Decimal]
    adds: Mapping[int, Decimal]


def _held_by_entries(deals: Iterable[Position]) -> _Holds:
    """Return what the working entries of these deals hold. One query."""
    entries: dict[int, Decimal] = defaultdict(Decimal)
    adds: dict[int, Decimal] = defaultdict(Decimal)
    rows = Order.objects.filter(position__in=list(deals), status__in=WORKING, purpose__in=ENTRY_PURPOSES).order_by()
    for pk, purpose, amount in rows.values_list("position_id", "purpose", "hold_amount"):
        entries[pk] += amount
        if purpose != Purpose.BASE_ORDER:
            adds[pk] += amount
    return _Holds(entries, adds)
