"""Everything that deciding about a chunk of bots needs, in a number of queries that does not depend on how many.

Used for a whole chunk before deciding, and for a single bot before acting: what is acted on is always fresh (F35).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any, Final, Literal

from django.db.models import Count, Max, Q

from accounts.balances import balances_of, fees_of, refresh
from accounts.models import Account
from bots import sizing
from bots.coins import overrides_of
from bots.memory import Pair, Side, sides_of
from bots.models import Bot
from bots.money import Money, Reserved
from bots.signals.stored import BotSignals, heard_by_bots, reach_of
from bots.strategies import get_strategy
from bots.strategies.base import DealView, FeeRates, MarketView, OpenContext, Quote, Strategy, TrailState, WorkingOrder
from bots.strategies.dca_common import MAX_QUOTE_AGE
from bots.strategies.heard import HeardView
from marketdata import coins, market
from marketdata.coins import Coins
from marketdata.models import Product
from marketdata.timeframes import Timeframe
from positions import booking, ledger
from positions.models import Order, Position
from positions.reserves import holds_of
from positions.states import (
    EXIT_PURPOSES,
    MACHINES,
    MANUAL_PURPOSES,
    POSITION_ACTIVE,
    WORKING,
    Direction,
    OrderStatus,
    OrderType,
    PositionStatus,
    Purpose,
)
from tradebot.core.decimals import MONEY, ZERO
from tradebot.core.errors import MissingInformation, TradebotError
from tradebot.core.models import GlobalSettings

__all__ = ["BotFacts", "Deal", "Facts", "compiled", "forget", "load", "money_of", "running_both_ways", "settings_of"]

COMPILED_KEPT: Final = 20_000
AT_THE_VENUE: Final = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)
MISSED: Final = (OrderStatus.CANCELLED, OrderStatus.EXPIRED)
FAILED_LATELY: Final = timedelta(minutes=15)
WHILE_TYPING: Final = timedelta(seconds=15)
"""How old an exchange's balances may be on a page that computes along while somebody fills in a form."""
"""So long is an attempt to open remembered that the venue rejected."""
BUDGETED: Final = (
    "owner",
    "account",
    "name",
    "strategy",
    "settings_version",
    "status",
    "quote_currency",
    "budget_kind",
    "budget_pct",
    "budget_fixed",
    "split_budget",
)
"""What a look reads of a bot. Its settings are read once for each version."""


# Settings -----------------------------------------------------------------------------------------------------------

_compiled: OrderedDict[tuple[str, int, int], Any] = OrderedDict()
_by_content: OrderedDict[bytes, Any] = OrderedDict()
_compiled_lock = threading.Lock()


def compiled(kind: str, pk: int, version: int, strategy: Strategy, data: Mapping[str, Any]) -> Any:
    """Return validated settings of a bot (or of a deal's frozen copy), kept by version. Raises InvalidInput.

    Equal settings are one object, however many bots have them: what is worked out of them is worked out once.
    """
    key = (kind, pk, version)
    if (settings := _compiled.get(key)) is None:
        settings = _shared(strategy, data)
        with _compiled_lock:
            _compiled[key] = settings
            while len(_compiled) > COMPILED_KEPT:
                _compiled.popitem(last=False)
    return settings


def _shared(strategy: Strategy, data: Mapping[str, Any]) -> Any:
    content = hashlib.blake2b(f"{strategy.name} {json.dumps(data, sort_keys=True)}".encode(), digest_size=16).digest()
    if (settings := _by_content.get(content)) is None:
        settings = strategy.settings_from_json(data)
        with _compiled_lock:
            _by_content[content] = settings
            while len(_by_content) > COMPILED_KEPT:
                _by_content.popitem(last=False)
    return settings


def forget() -> None:
    """Drop all validated settings that are kept."""
    with _compiled_lock:
        _compiled.clear()
        _by_content.clear()


def settings_of(bots: Iterable[Bot]) -> dict[int, tuple[Strategy, Any] | TradebotError]:
    """Return each bot's strategy and validated settings, or why they cannot be read. At most one query.

    The bots may be read without their settings: those are fetched for the versions that are not kept yet.
    """
    found: dict[int, tuple[Strategy, Any] | TradebotError] = {}
    unknown: dict[int, Strategy] = {}
    for bot in bots:
        try:
            strategy = get_strategy(bot.strategy)
        except TradebotError as error:
            found[bot.pk] = error
            continue
        settings = _compiled.get(("bot", bot.pk, bot.settings_version))
        if settings is None:
            unknown[bot.pk] = strategy
        else:
            found[bot.pk] = strategy, settings
    if unknown:
        rows = Bot.objects.filter(pk__in=unknown).order_by().values_list("pk", "settings_version", "settings")
        for pk, version, data in rows:
            try:
                found[pk] = unknown[pk], compiled("bot", pk, version, unknown[pk], data)
            except TradebotError as error:
                found[pk] = error
    return found


# What is known about bots and deals ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Deal:
    """An active position with its orders and totals. Without a ``strategy`` its settings cannot be read."""

    position: Position
    orders: list[Order]
    totals: ledger.Totals
    strategy: Strategy | None = None
    settings: Any = None

    def next_sequence(self, purpose: Purpose) -> int:
        """Return 1 + the number of orders with this purpose."""
        return 1 + sum(order.purpose == purpose for order in self.orders)

    @property
    def direction(self) -> Direction:
        """Return which way the deal earns."""
        return self.totals.direction

    @property
    def working(self) -> list[Order]:
        """Return the orders that may still fill."""
        return [order for order in self.orders if order.status in WORKING]

    @property
    def working_orders(self) -> tuple[WorkingOrder, ...]:
        """Return the same as strategies see them."""
        return tuple(_working_order(order) for order in self.working)

    @property
    def missed_limit_exit(self) -> bool:
        """Return whether the machine's latest limit close ended unfilled and nothing of the deal has filled since.

        One that a person has cancelled was not missed, it was not wanted: the machine judges anew.
        """
        closes = (
            order
            for order in reversed(self.orders)
            if order.order_type == OrderType.LIMIT and order.purpose in EXIT_PURPOSES and not _by_person(order)
        )
        latest = next(closes, None)
        if latest is None or latest.status not in MISSED or latest.finished_at is None:
            return False
        if latest.cancel_actor and latest.cancel_actor not in MACHINES:
            return False
        filled_at = self.totals.last_fill_at
        return filled_at is None or filled_at <= latest.finished_at

    @property
    def rejections(self) -> tuple[int, datetime] | None:
        """Return how many of the machine's latest orders in a row were rejected, and when the last was; None: none."""
        count, at = 0, None
        for order in reversed(self.orders):
            if order.status != OrderStatus.REJECTED or _by_person(order):
                break
            count, at = count + 1, at or order.finished_at
        return None if at is None else (count, at)

    @property
    def opening_quote(self) -> Decimal:
        """Return what the unfilled part of a base order under way comes to in quote, as far as it is known."""
        with localcontext(MONEY):
            return sum((_to_come(order) for order in self.working if order.purpose == Purpose.BASE_ORDER), ZERO)


def _by_person(order: Order) -> bool:
    return order.actor not in MACHINES or order.purpose in MANUAL_PURPOSES


def _to_come(order: Order) -> Decimal:
    if order.limit_price is not None and order.base_size is not None:
        return (order.base_size - order.filled_base) * order.limit_price
    return order.hold_amount if order.side == "buy" else ZERO


def _working_order(order: Order) -> WorkingOrder:
    """Return the order as a strategy sees it."""
    return WorkingOrder(
        purpose=Purpose(order.purpose),
        order_type=OrderType(order.order_type),
        base_size=order.base_size if order.base_size is not None else order.filled_base,
        placed_at=order.submitted_at or order.created_at,
        filled_base=order.filled_base,
        limit_price=order.limit_price,
        levels=order.levels,
        by_person=_by_person(order),
        is_acknowledged=order.status in AT_THE_VENUE,
        is_cancelling=order.cancel_requested_at is not None,
    )


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


# Loading ------------------------------------------------------------------------------------------------------------


def load(bot_ids: Iterable[int], now: datetime, accounts: Iterable[int] = ()) -> Facts:
    """Load the bots and all that deciding about them needs, and what concerns the money of ``accounts`` besides.

    Runs in a scope that holds their accounts.
    """
    bots = {bot.pk: BotFacts(bot) for bot in Bot.objects.filter(pk__in=list(bot_ids)).only(*BUDGETED).order_by("pk")}
    account_ids = {*accounts, *(facts.bot.account_id for facts in bots.values() if facts.bot.account_id is not None)}
    others = {bot.pk: BotFacts(bot) for bot in running_both_ways(account_ids) if bot.pk not in bots}
    everybody = bots | others
    _attach_settings(everybody)
    for pair in Pair.of_bots(everybody):
        everybody[pair.bot_id].pairs.append(pair)
    active = list(Position.objects.filter(account__in=account_ids, status__in=POSITION_ACTIVE).order_by("pk"))
    used = {pair.product_id for facts in everybody.values() for pair in facts.pairs}
    products = Product.objects.in_bulk(used | {position.product_id for position in active})
    deals: dict[int, list[Position]] = defaultdict(list)
    for position in active:
        position.product = products[position.product_id]
        deals[position.account_id].append(position)
    _attach_deals(everybody, active)
    both_ways: dict[int, list[BotFacts]] = defaultdict(list)
    for facts in everybody.values():
        if facts.trades_both_ways and facts.bot.is_running and facts.bot.account_id is not None:
            both_ways[facts.bot.account_id].append(facts)
    last_closed, failed_opens = _last_closed(bots, now)
    codes = {product.base for product in products.values()}
    return Facts(
        now=now,
        bots=bots,
        products=products,
        money=Money(
            products, balances_of(account_ids), _fee_rates(account_ids), deals, holds_of(account_ids), both_ways
        ),
        last_closed=last_closed,
        failed_opens=failed_opens,
        ended_now={(bot_id, product_id) for (bot_id, product_id, _), at in last_closed.items() if at >= now},
        trading_paused=GlobalSettings.load().trading_paused,
        closed_accounts=_closed(account_ids),
        coins=coins.load(codes | {product.quote for product in products.values()}),
        reviews=overrides_of({facts.bot.owner_id for facts in bots.values()}, codes),
        signals=heard_by_bots(_signals_asked(bots.values()), now),
    )


def _signals_asked(bots: Iterable[BotFacts]) -> dict[int, int]:
    """Return how many seconds back signals count, for those bots alone whose own or frozen rules ask for any (F43)."""
    wanted: dict[int, int] = {}
    for facts in bots:
        users = [(facts.strategy, facts.settings), *((deal.strategy, deal.settings) for deal in facts.deals)]
        for strategy, settings in users:
            if strategy is not None and (asked := strategy.required_signals(settings)):
                wanted[facts.bot.pk] = max(reach_of(asked), wanted.get(facts.bot.pk, 0))
    return wanted


def money_of(account: Account, now: datetime) -> Money:
    """Return what an account may spend, at present prices: what the engine would say. For pages and checks.

    Asks the account's venue, unless it has just been asked. Raises TradebotError when that is not known.
    """
    refresh(account, WHILE_TYPING)
    money = load((), now, [account.pk]).money
    if account.pk not in money.balances:
        raise MissingInformation("balance_unknown", "The account's balances are not known.")
    by_symbol = {product.symbol: pid for pid, product in money.products.items()}
    quotes = market.quotes(account.exchange, by_symbol, now) if by_symbol else {}
    money.prices = {by_symbol[symbol]: quote for symbol, quote in quotes.items()}
    return money


def running_both_ways(account_ids: Iterable[int]) -> Iterable[Bot]:
    """Return the running bots of these accounts that trade both ways: they reserve money, due or not. One query."""
    rows = Bot.objects.filter(account__in=list(account_ids), status=Bot.Status.RUNNING, settings__direction="both")
    return rows.only(*BUDGETED).order_by("pk")


def _attach_settings(bots: Mapping[int, BotFacts]) -> None:
    for pk, found in settings_of(facts.bot for facts in bots.values()).items():
        facts = bots[pk]
        if isinstance(found, TradebotError):
            facts.problem = found.message
        else:
            facts.strategy, facts.settings = found
            facts.sides = sides_of(facts.settings.directions)


def _attach_deals(bots: Mapping[int, BotFacts], active: Sequence[Position]) -> None:
    mine = {position.pk: (position, bots[position.bot_id or 0]) for position in active if position.bot_id in bots}
    if not mine:
        return
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


def _last_closed(
    bots: Mapping[int, BotFacts], now: datetime
) -> tuple[dict[tuple[int, int, str], datetime], dict[tuple[int, int, str], tuple[int, datetime]]]:
    """Return when the bots last ended a deal, by bot, product and direction, as far back as a cooldown reaches; and how
    many of their attempts have failed there lately, and when the last one did.
    """
    longest = max((getattr(facts.settings, "cooldown_seconds", 0) or 0 for facts in bots.values()), default=0)
    since = now - max(timedelta(seconds=longest), FAILED_LATELY)
    failed = Q(status=PositionStatus.FAILED, closed_at__gte=now - FAILED_LATELY)
    last: dict[tuple[int, int, str], datetime] = {}
    failures: dict[tuple[int, int, str], tuple[int, datetime]] = {}
    rows = Position.objects.filter(bot__in=bots, closed_at__gte=since).order_by()
    for row in rows.values("bot_id", "product_id", "direction").annotate(
        at=Max("closed_at"), failed=Count("pk", filter=failed), failed_at=Max("closed_at", filter=failed)
    ):
        key = row["bot_id"], row["product_id"], row["direction"]
        last[key] = row["at"]
        if row["failed"]:
            failures[key] = row["failed"], row["failed_at"]
    return last, failures


def _closed(account_ids: Iterable[int]) -> dict[int, Literal["read_only", "stopped"]]:
    """Return why accounts take no risk at present, of those that do not. One query."""
    rows = Account.objects.filter(pk__in=list(account_ids)).exclude(trading_state=Account.TradingState.ARMED)
    rows = rows.only("pk", "kind", "trading_state").order_by()
    return {row.pk: "stopped" if row.is_killed else "read_only" for row in rows if not row.is_armed}


def _fee_rates(account_ids: Iterable[int]) -> dict[int, FeeRates]:
    return {pk: FeeRates(maker=maker, taker=taker) for pk, (maker, taker) in fees_of(account_ids).items()}
