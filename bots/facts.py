"""What is known about a chunk of bots, and how a strategy sees each of their pairs and deals. Makes no queries.

:func:`bots.loading.load` gathers it for a whole chunk before deciding, and for a single bot before acting: what is
acted on is always fresh (F35).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from bots import sizing
from bots.deal_facts import Deal
from bots.memory import Pair, Side
from bots.models import Bot
from bots.money import Money, Reserved
from bots.signals.stored import BotSignals
from bots.strategies.base import DealView, FeeRates, MarketView, OpenContext, Quote, Strategy, TrailState
from bots.strategies.dca_common import MAX_QUOTE_AGE
from bots.strategies.heard import HeardView
from marketdata.coins import Coins
from marketdata.models import Product
from marketdata.timeframes import Timeframe
from positions.states import Direction
from tradebot.core.decimals import MONEY, ZERO

__all__ = ["BotFacts", "Facts"]


@dataclass(slots=True)
class BotFacts:
    """One bot with its pairs, deals and settings.

    ``problem`` says what of it cannot be worked on: without a ``strategy`` it opens nothing, its deals are managed by
    their own frozen settings all the same.
    """

    bot: Bot
    strategy: Strategy | None = None
    settings: Any = None
    sides: tuple[Side, ...] = ()
    pairs: list[Pair] = field(default_factory=list)
    deals: list[Deal] = field(default_factory=list)
    problem: str = ""

    @property
    def trades_both_ways(self) -> bool:
        """Return whether it opens longs and shorts."""
        return len(self.sides) > 1

    def committed(self, quote: str, direction: Direction) -> Decimal:
        """Return what the deals of this direction have spent of ``quote`` and not got back, or will open with."""
        mine = [deal for deal in self.deals if deal.direction is direction and deal.totals.quote_currency == quote]
        return sum((deal.totals.remaining_invested + deal.opening_quote for deal in mine), ZERO)


@dataclass(slots=True)
class _Means:
    """What is the same for all pairs of a bot in one direction and one quote currency."""

    fee_rates: FeeRates
    budget: Decimal | None
    free_quote: Decimal | None
    split_budget: bool
    committed: Decimal
    largest_minimum: Decimal | None
    is_running: bool
    reviews: Mapping[str, str] | None
    deals: list[Deal]


@dataclass(slots=True)
class _Traits:
    """What is the same for all bots on one product: a day's trade, how its coins are seen, its smallest order."""

    quote: str
    volume_24h: Decimal | None
    category: str
    is_stable_pair: bool
    minimum: Decimal | None


@dataclass(slots=True)
class Facts:
    """What is known about a chunk. Prices come with the views (:meth:`see`).

    ``views`` are everybody's; strategies look at :meth:`view`, which lays over them what the bot at hand was told.
    """

    now: datetime
    bots: dict[int, BotFacts]
    products: dict[int, Product]
    money: Money
    last_closed: dict[tuple[int, int, str], datetime]
    failed_opens: dict[tuple[int, int, str], tuple[int, datetime]]
    ended_now: set[tuple[int, int]]
    trading_paused: bool
    closed_accounts: dict[int, Literal["read_only", "stopped"]]
    coins: Coins
    reviews: dict[int, dict[str, str]]
    signals: Mapping[int, BotSignals] = field(default_factory=dict)
    views: Mapping[int, MarketView] = field(default_factory=dict)
    _heard: dict[tuple[int, int], HeardView] = field(default_factory=dict)
    _means: dict[tuple[int, str, Direction, bool], _Means] = field(default_factory=dict)
    _traits: dict[int, _Traits] = field(default_factory=dict)

    def see(self, views: Mapping[int, MarketView]) -> None:
        """Take these views, by product id, and their prices; an old price is no price where money is counted."""
        self.views = views
        quotes: dict[int, Quote] = {}
        for pid, view in views.items():
            if view.quote is not None and self.now - view.quote.at <= MAX_QUOTE_AGE:
                quotes[pid] = view.quote
        self.money.prices = quotes
        self._heard.clear()

    def view(self, bot_id: int, product_id: int) -> MarketView | None:
        """Return how this bot sees the product: the shared view, with its own signals where its rules ask for any."""
        shared, signals = self.views.get(product_id), self.signals.get(bot_id)
        if shared is None or signals is None:
            return shared
        key = bot_id, product_id
        view = self._heard.get(key)
        if view is None:
            view = self._heard[key] = HeardView(shared, signals.about(product_id))
        return view

    def wanted_series(self) -> dict[int, dict[Timeframe, int]]:
        """Return, per product id, the timeframes that bots and deals need and how many candles of each."""
        users: dict[tuple[int, int], tuple[Strategy, Any]] = {}
        for facts in self.bots.values():
            if facts.strategy is not None and facts.bot.is_running:
                user, key = (facts.strategy, facts.settings), id(facts.settings)
                for pair in facts.pairs:
                    users[pair.product_id, key] = user
            for deal in facts.deals:  # from the deal's frozen copy (F43)
                if deal.strategy is not None:
                    users[deal.position.product_id, id(deal.settings)] = deal.strategy, deal.settings
        wanted: dict[int, dict[Timeframe, int]] = {pid: {} for pid in self.products}
        for (pid, _), (strategy, settings) in users.items():
            for timeframe, count in strategy.required_series(settings).items():
                wanted[pid][timeframe] = max(count, wanted[pid].get(timeframe, 0))
        return wanted

    def free(self, account_id: int, currency: str) -> Decimal | None:
        """Return what new entries of an account may use of a currency; None when it is not known. See :mod:`.money`."""
        return self.money.free(account_id, currency)

    def reserved(self, facts: BotFacts, pair: Pair, direction: Direction) -> Reserved | None:
        """Return what a deal of this direction is paid with and other bots of the account have reserved."""
        product = self.products[pair.product_id]
        currency = product.quote if direction is Direction.LONG else product.base
        assert facts.bot.account_id is not None
        return self.money.reserved(facts.bot.account_id, currency, facts.bot.pk)

    def open_context(self, facts: BotFacts, pair: Pair, side: Side, *, reserved: bool = True) -> OpenContext:
        """Return what the bot's state and account allow for a new deal of one side on this pair.

        ``reserved`` false counts what other bots have reserved as free, to find out whether that stands in the way.
        """
        bot_id, product_id, direction = pair.bot_id, pair.product_id, side.direction
        product, traits = self.products[product_id], self._traits.get(product_id) or self._learn(product_id)
        key = (bot_id, traits.quote, direction, reserved)
        means = self._means.get(key)
        if means is None:
            means = self._means[key] = self._means_of(facts, traits.quote, direction, reserved)
        category, deals = traits.category, means.deals
        return OpenContext(
            now=self.now,
            fee_rates=means.fee_rates,
            open_deals=len(deals),
            open_deals_on_pair=sum(deal.position.product_id == product_id for deal in deals) if deals else 0,
            bot_budget=means.budget,
            free_quote=means.free_quote,
            split_budget=means.split_budget,
            committed_quote=means.committed,
            free_base=self._free_for(facts, product.base, reserved) if direction is Direction.SHORT else None,
            largest_minimum=means.largest_minimum,
            bot_active=means.is_running,
            trading_paused=self.trading_paused,
            account_closed=self.closed_accounts.get(facts.bot.account_id or 0, ""),
            last_closed_at=self.last_closed.get((bot_id, product_id, direction)),
            since=side.since(pair),
            direction=direction,
            volume_24h=traits.volume_24h,
            category=self.coins.effective_category(product.base, means.reviews) if means.reviews else category,
            is_stable_pair=traits.is_stable_pair,
        )

    def _means_of(self, facts: BotFacts, quote: str, direction: Direction, reserved: bool) -> _Means:
        bot = facts.bot
        assert bot.account_id is not None  # orphans are not in a chunk
        return _Means(
            fee_rates=self.money.fee_rates[bot.account_id],
            budget=self.money.budget(facts, quote, direction),
            free_quote=self._free_for(facts, quote, reserved and direction is Direction.LONG),
            split_budget=bot.split_budget,
            committed=facts.committed(quote, direction) if facts.deals else ZERO,
            largest_minimum=self._largest_minimum(facts),
            is_running=bot.is_running,
            reviews=self.reviews.get(bot.owner_id),
            deals=[deal for deal in facts.deals if deal.direction is direction],
        )

    def _free_for(self, facts: BotFacts, currency: str, reserved: bool) -> Decimal | None:
        """Return what the bot may open with: the account's free balance less what others have reserved."""
        account_id = facts.bot.account_id
        assert account_id is not None
        if not reserved:
            return self.money.free(account_id, currency)
        return self.money.spendable(account_id, currency, facts.bot.pk)

    def _largest_minimum(self, facts: BotFacts) -> Decimal | None:
        """Return the largest minimum order of the bot's pairs, in quote; None where no price is known."""
        known = self._traits
        traits = [known.get(pair.product_id) or self._learn(pair.product_id) for pair in facts.pairs]
        return max((one.minimum for one in traits if one.minimum is not None), default=None)

    def _learn(self, product_id: int) -> _Traits:
        product, view = self.products[product_id], self.views.get(product_id)
        quote = view.quote if view is not None else None
        price = quote.mark if quote is not None else None
        traded = product.volume_24h if product.volume_24h is not None or quote is None else quote.volume_24h
        volume = None if traded is None else Decimal(repr(traded))
        traits = self._traits[product_id] = _Traits(
            quote=product.quote,
            volume_24h=None if price is None or volume is None else MONEY.multiply(volume, price),
            category=self.coins.effective_category(product.base),
            is_stable_pair=self.coins.is_stable_pair(product.base, product.quote),
            minimum=None if price is None else sizing.minimum_order_quote(product.terms, price),
        )
        return traits

    def deal_view(self, deal: Deal) -> DealView:
        """Return the deal as its strategy sees it.

        What is free for an entry leaves alone what other deals need. A long's wallet is all of its base: its own is in
        there.
        """
        position = deal.position
        product = self.products[position.product_id]
        base_of = self.money.wallet if deal.direction is Direction.LONG else self.money.free
        return DealView(
            totals=deal.totals,
            levels_filled=position.safety_orders_filled,
            opened_at=position.opened_at or position.created_at,
            trail=TrailState.from_json(position.trail),
            budget_quote=position.budget_quote or None,
            orders=deal.working_orders,
            missed_limit_exit=deal.missed_limit_exit,
            free_quote=self.money.free(position.account_id, product.quote),
            wallet_base=base_of(position.account_id, product.base),
            since=position.evaluated_until or None,
        )
