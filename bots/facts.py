"""Everything that deciding about a chunk of bots needs, in a number of queries that does not depend on how many.

Used for a whole chunk before deciding, and for a single bot before acting: what is acted on is always fresh (F35).
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Max

from accounts.balances import balances_of
from accounts.exchanges.base import Balance
from accounts.models import PaperTerms
from bots import sizing
from bots.models import Bot, BotProduct
from bots.strategies import get_strategy
from bots.strategies.base import DealView, FeeRates, MarketView, OpenContext, Strategy, TrailState
from bots.strategies.dca_common import MAX_QUOTE_AGE
from marketdata.models import Product
from marketdata.timeframes import Timeframe
from positions import booking, ledger
from positions.models import Order, Position
from positions.states import EXIT_PURPOSES, POSITION_ACTIVE, WORKING, OrderType, Purpose
from tradebot.core.decimals import HUNDRED, ZERO
from tradebot.core.errors import MissingInformation, TradebotError
from tradebot.core.models import GlobalSettings

__all__ = ["BotFacts", "Deal", "Facts", "compiled", "forget", "load"]

COMPILED_KEPT = 20_000
_compiled: OrderedDict[tuple[str, int, int], Any] = OrderedDict()
_compiled_lock = threading.Lock()


def compiled(kind: str, pk: int, version: int, strategy: Strategy, data: Mapping[str, Any]) -> Any:
    """Return validated settings of a bot (or of a deal's frozen copy), kept by version. Raises InvalidInput."""
    key = (kind, pk, version)
    if (settings := _compiled.get(key)) is None:
        settings = strategy.settings_from_json(data)
        with _compiled_lock:
            _compiled[key] = settings
            while len(_compiled) > COMPILED_KEPT:
                _compiled.popitem(last=False)
    return settings


def forget() -> None:
    """Drop all validated settings that are kept."""
    with _compiled_lock:
        _compiled.clear()


@dataclass(slots=True)
class Deal:
    """An active position with its orders and totals. Without a ``strategy`` its settings cannot be read."""

    position: Position
    orders: list[Order]
    totals: ledger.Totals
    strategy: Strategy | None = None
    settings: Any = None

    def next_sequence(self, purpose: Purpose) -> int:
        return 1 + sum(order.purpose == purpose for order in self.orders)

    @property
    def working(self) -> list[Order]:
        return [order for order in self.orders if order.status in WORKING]


@dataclass(slots=True)
class BotFacts:
    """One bot with its pairs, deals and settings.

    ``problem`` says what of it cannot be worked on: without a ``strategy`` it opens nothing, its deals are managed by
    their own frozen settings all the same.
    """

    bot: Bot
    strategy: Strategy | None = None
    settings: Any = None
    pairs: list[BotProduct] = field(default_factory=list)
    deals: list[Deal] = field(default_factory=list)
    problem: str = ""


@dataclass(slots=True)
class Facts:
    """What is known about a chunk. ``active`` holds every active position of the accounts, whosever bot's."""

    now: datetime
    bots: dict[int, BotFacts]
    products: dict[int, Product]
    active: list[Position]
    balances: dict[int, dict[str, Balance]]
    fee_rates: dict[int, FeeRates]
    last_closed: dict[tuple[int, int], datetime]
    ended_now: set[tuple[int, int]]
    holds: dict[tuple[int, str], Decimal]
    trading_paused: bool
    _worth: dict[tuple[int, str], Decimal | None] = field(default_factory=dict)
    _minimums: dict[int, Decimal | None] = field(default_factory=dict)

    def wanted_series(self) -> dict[int, dict[Timeframe, int]]:
        """Return, per product id, the timeframes that bots and deals need and how many candles of each."""
        wanted: dict[int, dict[Timeframe, int]] = {pid: {} for pid in self.products}

        def note(pid: int, series: Mapping[Timeframe, int]) -> None:
            for timeframe, count in series.items():
                wanted[pid][timeframe] = max(count, wanted[pid].get(timeframe, 0))

        for facts in self.bots.values():
            if facts.strategy is not None and facts.bot.is_running:
                series = facts.strategy.required_series(facts.settings)
                for pair in facts.pairs:
                    note(pair.product_id, series)
            for deal in facts.deals:  # from the deal's frozen copy (F43)
                if deal.strategy is not None:
                    note(deal.position.product_id, deal.strategy.required_series(deal.settings))
        return wanted

    def free(self, account_id: int, currency: str) -> Decimal | None:
        """Return the free balance less what our own orders on their way will claim; None when it is not known."""
        balances = self.balances.get(account_id)
        if balances is None:
            return None
        balance = balances.get(currency)
        free = balance.free if balance is not None else ZERO
        return max(free - self.holds.get((account_id, currency), ZERO), ZERO)

    def account_value(self, account_id: int, quote: str, views: Mapping[int, MarketView]) -> Decimal | None:
        """Return the account's value in one quote currency, None when a balance or price is not known."""
        key = (account_id, quote)
        if key not in self._worth:
            self._worth[key] = self._account_value(account_id, quote, views)
        return self._worth[key]

    def _account_value(self, account_id: int, quote: str, views: Mapping[int, MarketView]) -> Decimal | None:
        free = self.free(account_id, quote)
        if free is None:
            return None
        holdings = []
        for position in self.active:
            product = self.products.get(position.product_id)
            if position.account_id != account_id or product is None or product.quote != quote:
                continue
            view = views.get(product.pk)
            quoted = view.quote if view is not None else None
            fresh = quoted is not None and self.now - quoted.at <= MAX_QUOTE_AGE
            holdings.append((position.base_held, quoted.mark if quoted is not None and fresh else None))
        try:
            return sizing.quote_value(free, holdings)
        except MissingInformation:
            return None

    def open_context(
        self, facts: BotFacts, pair: BotProduct, views: Mapping[int, MarketView], now: datetime
    ) -> OpenContext:
        """Return what the bot's state and account allow for a new deal on this pair."""
        bot = facts.bot
        account_id = bot.account_id
        assert account_id is not None  # orphans are not in a chunk
        product = self.products[pair.product_id]
        key = (account_id, product.quote)
        value = self.account_value(*key, views)
        amount = bot.budget_fixed if bot.budget_kind == "fixed" else bot.budget_pct
        try:
            budget = sizing.bot_budget(bot.budget_kind, amount, value)
        except MissingInformation:
            budget = None
        same_quote = [deal for deal in facts.deals if self.products[deal.position.product_id].quote == product.quote]
        return OpenContext(
            now=now,
            fee_rates=self.fee_rates[account_id],
            open_deals=len(facts.deals),
            open_deals_on_pair=sum(deal.position.product_id == pair.product_id for deal in facts.deals),
            bot_budget=budget,
            free_quote=self.free(*key),
            split_budget=bot.split_budget,
            committed_quote=sum((deal.totals.remaining_invested for deal in same_quote), ZERO),
            free_base=self.free(account_id, product.base),
            largest_minimum=self._largest_minimum(facts, views),
            bot_active=bot.is_running,
            trading_paused=self.trading_paused,
            last_closed_at=self.last_closed.get((bot.pk, pair.product_id)),
            since=pair.evaluated_until or None,
        )

    def _largest_minimum(self, facts: BotFacts, views: Mapping[int, MarketView]) -> Decimal | None:
        """Return the largest minimum order of the bot's pairs, in quote; None where no price is known."""
        if facts.bot.pk not in self._minimums:
            seen = [views[pair.product_id] for pair in facts.pairs if pair.product_id in views]
            minimums = [sizing.minimum_order_quote(view.product, view.quote.mark) for view in seen if view.quote]
            self._minimums[facts.bot.pk] = max(minimums, default=None)
        return self._minimums[facts.bot.pk]

    def deal_view(self, deal: Deal) -> DealView:
        """Return the deal as its strategy sees it."""
        position = deal.position
        product = self.products[position.product_id]
        exits = [order for order in deal.working if order.purpose in EXIT_PURPOSES]
        return DealView(
            totals=deal.totals,
            levels_filled=position.safety_orders_filled,
            opened_at=position.opened_at or position.created_at,
            trail=TrailState.from_json(position.trail),
            budget_quote=position.budget_quote or None,
            pending_entry=any(order.purpose not in EXIT_PURPOSES for order in deal.working),
            pending_exit=any(order.order_type == OrderType.MARKET for order in exits),
            resting_close=any(order.order_type == OrderType.LIMIT for order in exits),
            free_quote=self.free(position.account_id, product.quote),
            wallet_base=self._wallet(position.account_id, product.base),
            since=position.evaluated_until or None,
        )

    def _wallet(self, account_id: int, currency: str) -> Decimal | None:
        balances = self.balances.get(account_id)
        if balances is None:
            return None
        return balances[currency].free if currency in balances else ZERO


def load(bot_ids: Iterable[int], now: datetime) -> Facts:
    """Load the bots and all that deciding about them needs. Runs in a scope that holds their accounts."""
    bots = {bot.pk: BotFacts(bot) for bot in Bot.objects.filter(pk__in=list(bot_ids)).order_by("pk")}
    accounts = {facts.bot.account_id for facts in bots.values() if facts.bot.account_id is not None}
    products: dict[int, Product] = {}
    for pair in BotProduct.objects.filter(bot__in=bots, enabled=True).select_related("product").order_by("pk"):
        pair.bot = bots[pair.bot_id].bot
        bots[pair.bot_id].pairs.append(pair)
        products[pair.product_id] = pair.product
    active = list(
        Position.objects.filter(account__in=accounts, status__in=POSITION_ACTIVE)
        .select_related("product")
        .order_by("pk")
    )
    products |= {position.product_id: position.product for position in active}
    _attach_deals(bots, active)
    longest_cooldown = 0
    for facts in bots.values():
        _attach_settings(facts)
        longest_cooldown = max(longest_cooldown, getattr(facts.settings, "cooldown_seconds", 0) or 0)
    ended = {
        (row["bot_id"], row["product_id"]): row["at"]
        for row in Position.objects.filter(bot__in=bots, closed_at__gte=now - timedelta(seconds=longest_cooldown))
        .values("bot_id", "product_id")
        .annotate(at=Max("closed_at"))
    }
    return Facts(
        now=now,
        bots=bots,
        products=products,
        active=active,
        balances=balances_of(accounts),
        fee_rates=_fee_rates(accounts),
        last_closed=ended,
        ended_now={key for key, at in ended.items() if at >= now},
        holds=_holds(accounts, products),
        trading_paused=GlobalSettings.load().trading_paused,
    )


def _attach_settings(facts: BotFacts) -> None:
    bot = facts.bot
    try:
        facts.strategy = get_strategy(bot.strategy)
        facts.settings = compiled("bot", bot.pk, bot.settings_version, facts.strategy, bot.settings)
    except TradebotError as error:
        facts.strategy, facts.problem = None, error.message


def _attach_deals(bots: Mapping[int, BotFacts], active: list[Position]) -> None:
    mine = {position.pk: (position, bots[position.bot_id or 0]) for position in active if position.bot_id in bots}
    orders: dict[int, list[Order]] = defaultdict(list)
    for order in Order.objects.filter(position__in=mine).order_by("pk"):
        orders[order.position_id].append(order)
    totals = booking.totals_by_position(position for position, _ in mine.values())
    for position, facts in mine.values():
        position.bot = facts.bot
        deal = Deal(position, orders[position.pk], totals[position.pk])
        facts.deals.append(deal)
        try:
            deal.strategy = get_strategy(position.strategy)
            deal.settings = compiled("deal", position.pk, position.settings_version, deal.strategy, position.settings)
        except TradebotError as error:
            deal.strategy, facts.problem = (
                None,
                f"deal {position.deal_number or position.attempt_number}: {error.message}",
            )


def _fee_rates(account_ids: Iterable[int]) -> dict[int, FeeRates]:
    """Return fees as fractions. Accounts without paper terms use the terms' defaults until their venue has told."""
    default = PaperTerms()
    rates = {pk: FeeRates(default.maker_fee_pct / HUNDRED, default.taker_fee_pct / HUNDRED) for pk in account_ids}
    for terms in PaperTerms.objects.filter(account__in=rates):
        rates[terms.account_id] = FeeRates(terms.maker_fee_pct / HUNDRED, terms.taker_fee_pct / HUNDRED)
    return rates


def _holds(account_ids: Iterable[int], products: Mapping[int, Product]) -> dict[tuple[int, str], Decimal]:
    """Return what our orders that the venue may not know yet will claim, by account and currency (F10)."""
    holds: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
    for order in Order.objects.filter(account__in=list(account_ids), status__in=["intended", "submitted"]):
        holds[order.account_id, order.hold_currency] += order.hold_amount
    return holds
