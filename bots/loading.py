"""Everything that deciding about a chunk of bots needs, in a number of queries that does not depend on how many.

Used for a whole chunk before deciding, and for a single bot before acting: what is acted on is always fresh (F35).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from django.db.models import Count, Max, Q

from accounts.balances import balances_of, fees_of, refresh
from accounts.models import Account
from bots.coins import overrides_of
from bots.deal_facts import Deal
from bots.facts import BotFacts, Facts
from bots.kept_settings import compiled, settings_of
from bots.memory import Pair, sides_of
from bots.models import Bot
from bots.money import Money
from bots.signals.stored import heard_by_bots, reach_of
from bots.strategies import get_strategy
from bots.strategies.base import FeeRates
from marketdata import coins, market
from marketdata.models import Product
from positions import booking
from positions.models import Order, Position
from positions.reserves import holds_of
from positions.states import POSITION_ACTIVE, PositionStatus
from tradebot.core.errors import MissingInformation, TradebotError
from tradebot.core.models import GlobalSettings

__all__ = ["load", "money_of", "running_both_ways"]

FAILED_LATELY: Final = timedelta(minutes=15)
"""So long is an attempt to open remembered that the venue rejected."""
WHILE_TYPING: Final = timedelta(seconds=15)
"""How old an exchange's balances may be on a page that computes along while somebody fills in a form."""
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


def _signals_asked(bots: Iterable[BotFacts]) -> dict[int, int]:
    """Return how many seconds back signals count, for those bots alone whose own or frozen rules ask for any (F43)."""
    wanted: dict[int, int] = {}
    for facts in bots:
        users = [(facts.strategy, facts.settings), *((deal.strategy, deal.settings) for deal in facts.deals)]
        for strategy, settings in users:
            if strategy is not None and (asked := strategy.required_signals(settings)):
                wanted[facts.bot.pk] = max(reach_of(asked), wanted.get(facts.bot.pk, 0))
    return wanted


def _closed(account_ids: Iterable[int]) -> dict[int, Literal["read_only", "stopped"]]:
    """Return why accounts take no risk at present, of those that do not. One query."""
    rows = Account.objects.filter(pk__in=list(account_ids)).exclude(trading_state=Account.TradingState.ARMED)
    rows = rows.only("pk", "kind", "trading_state").order_by()
    return {row.pk: "stopped" if row.is_killed else "read_only" for row in rows if not row.is_armed}


def _fee_rates(account_ids: Iterable[int]) -> dict[int, FeeRates]:
    return {pk: FeeRates(maker=maker, taker=taker) for pk, (maker, taker) in fees_of(account_ids).items()}
