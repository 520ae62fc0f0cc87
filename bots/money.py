"""What the accounts of a look may spend: one definition of free, of worth and of reserved, for engine and previews.

* *wallet*: what the venue says is free, less what our own orders on their way to it will claim.
* *free*: the wallet without what open deals need (:mod:`positions.reserves`): base of longs, the buy-back of shorts.
* *value* in a quote currency: all of it that the account has, resting orders included, and its open deals there (F31).
* *reserved*: a running bot that trades both ways keeps the unused part of each side's share of its budget: quote for
  its long side, and for its short side as much of each of its coins, as the next deal may be in any of them. Other bots
  of the same account open nothing with that. Between two such bots the older one goes first.

Everything is by account; one account's money is never another's (F49). None is "not known", never zero (F34).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from accounts.exchanges.base import Balance
from bots import sizing
from bots.strategies.base import FeeRates, Quote
from marketdata.models import Product
from positions.ledger import quote_value
from positions.models import Position
from positions.reserves import Holds, spoken_for, worth_per_base
from positions.states import Direction
from tradebot.core.decimals import ONE, ZERO, for_money
from tradebot.core.errors import MissingInformation

if TYPE_CHECKING:
    from bots.facts import BotFacts

__all__ = ["Money", "Reserved"]


@dataclass(frozen=True, slots=True)
class Reserved:
    """What is kept for others of one currency, and the names of the bots that it is kept for."""

    amount: Decimal
    names: tuple[str, ...]


NOTHING = Reserved(ZERO, ())


@dataclass(slots=True)
class Money:
    """What is known about the money of some accounts. ``deals`` are all their active deals, by account, whosever bot's.

    ``both_ways`` are the running bots that trade both ways, by account; ``prices`` the current quotes by product id.
    """

    products: Mapping[int, Product]
    balances: dict[int, dict[str, Balance]]
    fee_rates: dict[int, FeeRates]
    deals: Mapping[int, list[Position]]
    holds: Holds
    both_ways: Mapping[int, list[BotFacts]]
    prices: Mapping[int, Quote] = field(default_factory=dict)
    _free: dict[tuple[int, str], Decimal | None] = field(default_factory=dict)
    _value: dict[tuple[int, str], Decimal | None] = field(default_factory=dict)
    _kept: dict[tuple[int, str], list[tuple[int, str, Decimal | None]]] = field(default_factory=dict)

    def wallet(self, account_id: int, currency: str) -> Decimal | None:
        """Return the free balance less what our own orders on their way will claim; None when it is not known."""
        balances = self.balances.get(account_id)
        if balances is None:
            return None
        balance = balances.get(currency)
        free = balance.free if balance is not None else ZERO
        return max(free - self.holds.unseen.get((account_id, currency), ZERO), ZERO)

    def free(self, account_id: int, currency: str) -> Decimal | None:
        """Return what of the wallet no open deal needs; None when that is not known."""
        key = (account_id, currency)
        if key not in self._free:
            self._free[key] = self._without_deals(account_id, currency)
        return self._free[key]

    def _without_deals(self, account_id: int, currency: str) -> Decimal | None:
        wallet, deals = self.wallet(account_id, currency), self.deals.get(account_id)
        if wallet is None or not deals:
            return wallet
        try:
            needed = spoken_for(deals, currency, self._price_of, self.fee_rates[account_id].taker, self.holds.closes)
        except MissingInformation:
            return None
        return max(wallet - needed, ZERO)

    def _price_of(self, position: Position) -> Decimal | None:
        quote = self.prices.get(position.product_id)
        return quote.mark if quote is not None else None

    def value(self, account_id: int, quote: str) -> Decimal | None:
        """Return the account's value in one quote currency, None when a balance or price is not known."""
        key = (account_id, quote)
        if key not in self._value:
            self._value[key] = self._worth(account_id, quote)
        return self._value[key]

    def _worth(self, account_id: int, quote: str) -> Decimal | None:
        balances = self.balances.get(account_id)
        if balances is None:
            return None
        held = [
            (position.base_held, worth_per_base(position, self._price_of(position)))
            for position in self.deals.get(account_id, ())
            if position.base_held and position.product.quote == quote
        ]
        try:
            return quote_value(balances[quote].total if quote in balances else ZERO, held)
        except MissingInformation:
            return None

    # Bots ------------------------------------------------------------------------------------------------------------

    def budget(self, facts: BotFacts, quote: str, direction: Direction) -> Decimal | None:
        """Return what the bot may use for its deals of this direction; None when the account's value is not known."""
        bot, settings = facts.bot, facts.settings
        assert bot.account_id is not None  # orphans are not looked at
        amount = bot.budget_fixed if bot.budget_kind == "fixed" else bot.budget_pct
        try:
            whole = sizing.bot_budget(bot.budget_kind, amount, self.value(bot.account_id, quote))
        except MissingInformation:
            return None
        share: Decimal = settings.budget_share(direction)
        if share == ONE:
            return whole
        with for_money():
            return whole * share

    def reserved(self, account_id: int, currency: str, besides: int | None = None) -> Reserved | None:
        """Return what of ``currency`` is kept for bots of this account other than the one with the id ``besides``.

        None while a price or balance that it depends on is not known.
        """
        keepers = self.both_ways.get(account_id)
        if not keepers:
            return NOTHING
        key = (account_id, currency)
        if key not in self._kept:
            self._kept[key] = [(facts.bot.pk, facts.bot.name, self.unused(facts, currency)) for facts in keepers]
        goes_first = any(facts.bot.pk == besides for facts in keepers)
        amount, names = ZERO, []
        for pk, name, unused in self._kept[key]:
            if pk == besides or (goes_first and besides is not None and besides < pk):
                continue
            if unused is None:
                return None
            if unused:
                amount += unused
                names.append(name)
        return Reserved(amount, tuple(names)) if names else NOTHING

    def spendable(self, account_id: int, currency: str, besides: int | None = None) -> Decimal | None:
        """Return what a bot may open with: what is free less what is reserved for others; None when not known."""
        free = self.free(account_id, currency)
        if not free or not self.both_ways.get(account_id):
            return free
        kept = self.reserved(account_id, currency, besides)
        return None if kept is None else max(free - kept.amount, ZERO)

    def unused(self, facts: BotFacts, currency: str) -> Decimal | None:
        """Return what the bot has not used yet of ``currency``: quote for its longs, base for its shorts."""
        total = ZERO
        quotes = {self.products[pair.product_id].quote for pair in facts.pairs}
        if currency in quotes:
            left = self._left(facts, currency, Direction.LONG)
            if left is None:
                return None
            total += left
        needs = [self._base_for_shorts(facts, self.products[pair.product_id], currency) for pair in facts.pairs]
        known = [need for need in needs if need is not None]
        return total + max(known, default=ZERO) if len(known) == len(needs) else None

    def _left(self, facts: BotFacts, quote: str, direction: Direction) -> Decimal | None:
        budget = self.budget(facts, quote, direction)
        return None if budget is None else max(budget - facts.committed(quote, direction), ZERO)

    def _base_for_shorts(self, facts: BotFacts, product: Product, currency: str) -> Decimal | None:
        if product.base != currency:
            return ZERO
        left, price = self._left(facts, product.quote, Direction.SHORT), self.prices.get(product.pk)
        if left is None or price is None:
            return None
        with for_money():
            return left / price.mark
