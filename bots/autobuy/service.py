"""Auto-buy at work: for each account, what its rules buy, what became of that, and the rules themselves.

``run_account``:

1. Purchases whose order has ended hand their coins over to the account (``positions.keeping``).
2. Purchases that work although their rule is off now, or the account's guard has stopped it, are cancelled (F64).
3. Each rule that is on decides. Everything from reading what is free to writing the order down happens in one
   transaction under the account's lock. So two workers buy once, a rule never spends what another order has just
   claimed, and a process that dies leaves an order that reconciliation sends, or nothing (F10, F14).
4. The order is sent after that transaction, as every order is. A limit order rests at the venue for as long as it
   takes; while a rule's purchase is under way, that rule buys nothing more.

What was decided is written down in words when it is something else than before (F68). A failure stays with the account
and the rule that it concerns (F67).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.db import transaction

from accounts.models import Account, AutoBuyRule
from bots.autobuy.deciding import ACTOR, Choice, decide
from bots.autobuy.models import AutoBuyDecision
from bots.autobuy.money import facts_of, spendable
from marketdata import market, sources
from marketdata.models import Product
from positions import execution, keeping
from positions.booking import lock_account, write
from positions.guard.records import is_killed
from positions.models import Order, Position
from positions.states import WORKING, Direction, KeptStrategy
from tradebot.core import clock
from tradebot.core.decimals import ZERO, plain
from tradebot.core.errors import OrderRefused, TradebotError
from tradebot.core.models import GlobalSettings
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = ["KEPT", "MINE", "Ran", "accounts_to_run", "prices_needed", "prune", "run_account", "run_all"]

log = structlog.get_logger(__name__)

MINE: Final = (KeptStrategy.AUTO_BUY,)
KEPT: Final = timedelta(days=90)
"""So long are decisions kept."""
REFRESH_NUMBERS: Final = timedelta(minutes=15)
WAIT: Final = timedelta(minutes=5)
"""So long after a purchase that the venue refused is the next one tried (F27)."""


@dataclass(slots=True)
class Ran:
    """What a round did: accounts looked at, orders placed, and what failed by account id."""

    accounts: int = 0
    orders: int = 0
    failed: dict[int, str] = field(default_factory=dict)


def accounts_to_run() -> tuple[list[int], list[int]]:
    """Return the accounts that have rules or purchases under way: on paper, and on exchanges."""
    with all_accounts("auto-buy finds out which accounts have rules or purchases under way"):
        on = AutoBuyRule.objects.filter(enabled=True).order_by().values_list("account_id", flat=True)
        busy = Position.objects.filter(strategy=KeptStrategy.AUTO_BUY, closed_at__isnull=True).order_by()
        ids = {*on, *busy.values_list("account_id", flat=True)}
        rows = Account.objects.filter(pk__in=ids).exclude(exchange=sources.REPLAY).order_by("pk")
        found = list(rows.values_list("pk", "kind"))
    paper = [pk for pk, kind in found if kind == Account.Kind.PAPER]
    return paper, [pk for pk, kind in found if kind != Account.Kind.PAPER]


def run_all(account_ids: Iterable[int]) -> Ran:
    """Run the rules of these accounts. One account's failure does not stop the rest (F67)."""
    result = Ran()
    for account_id in account_ids:
        try:
            result.orders += run_account(account_id)
        except Exception as error:  # the loop's edge
            result.failed[account_id] = error.code if isinstance(error, TradebotError) else type(error).__name__
            log.exception("auto_buy.account_failed", account=account_id)
        else:
            result.accounts += 1
    return result


def run_account(account_id: int) -> int:
    """Do what the account's rules say (steps above) and return how many orders were placed.

    Never inside a transaction: venues are called.
    """
    with acting_for_account(account_id):
        _hand_over(account_id)
        _cancel_unwanted(account_id)
        orders = 0
        for pk in AutoBuyRule.objects.filter(account_id=account_id, enabled=True).values_list("pk", flat=True):
            try:
                orders += _run_rule(account_id, pk)
            except Exception:  # the other rules are to be looked at all the same
                log.exception("auto_buy.rule_failed", account=account_id, rule=pk)
                _remember(pk, Choice("error", "Something went wrong here; it is tried again."), None)
        _hand_over(account_id)
    return orders


# Purchases under way ------------------------------------------------------------------------------------------------


def _hand_over(account_id: int) -> None:
    for position in keeping.under_way(account_id, MINE):
        keeping.keep(position)


def _cancel_unwanted(account_id: int) -> None:
    """Cancel purchases whose rule is off or gone, or whose account may not trade; coins that they have are kept."""
    on = set(AutoBuyRule.objects.filter(account_id=account_id, enabled=True).values_list("currency", flat=True))
    killed = is_killed(account_id)
    for position in keeping.under_way(account_id, MINE):
        if position.product.quote in on and not killed:
            continue
        try:
            keeping.give_up(position, ACTOR)
        except OrderRefused as refusal:  # the next round tries again
            log.info("auto_buy.not_cancelled", position=position.pk, code=refusal.code)


# One rule -----------------------------------------------------------------------------------------------------------


def _run_rule(account_id: int, rule_id: int) -> int:
    order: Order | None = None
    with transaction.atomic():
        account = lock_account(account_id)
        rule = AutoBuyRule.objects.filter(pk=rule_id, enabled=True).first()
        if rule is None:
            return 0
        choice = _choose(account, rule)
        if choice.intent is not None:
            try:
                order = _written(account, rule, choice)
            except OrderRefused as refusal:
                numbers = {name: str(value) for name, value in refusal.detail.items()}
                choice = Choice(refusal.code, refusal.message, choice.numbers | numbers)
        _remember(rule_id, choice, order.position if order is not None else None)
    if order is None:
        return 0
    execution.submit(order)
    keeping.keep(order.position)
    return 1


def _choose(account: Account, rule: AutoBuyRule) -> Choice:
    """Return what the rule does, on facts that are read now, under the lock."""
    now = clock.now()
    if account.archived_at is not None:
        return Choice("account_archived", "The account is archived.")
    if is_killed(account.pk):
        return Choice("guard_killed", "The account's guard has stopped it.")
    if GlobalSettings.load().trading_paused:
        return Choice("trading_paused", "Trading is paused for the whole installation.")
    symbol = f"{rule.coin}-{rule.currency}"
    product = Product.objects.filter(exchange=account.exchange, symbol=symbol).first()
    if product is None:
        return Choice("unknown_pair", f"{symbol} is not traded on the account's market.")
    if (working := _working(account, rule)) is not None:
        return working
    if (refused_at := _refused_lately(account, product, now)) is not None:
        return Choice("venue_rejected", f"The venue refused the last purchase at {refused_at:%H:%M} UTC.")
    try:
        known = facts_of(account, now)
        quote = market.quote(account.exchange, symbol, now)
    except TradebotError as error:
        return Choice("missing_price", f"Prices cannot be read: {error.message}")
    found = spendable(known, account.pk, rule.currency)
    rates = known.money.fee_rates[account.pk]
    return decide(rule, product, quote, found, max(rates.maker, rates.taker))


def _working(account: Account, rule: AutoBuyRule) -> Choice | None:
    """Return the answer of a rule whose purchase is under way."""
    position = keeping.under_way(account.pk, MINE, product__quote=rule.currency).first()
    if position is None:
        return None
    order = position.orders.filter(status__in=WORKING).order_by("pk").first()
    if order is None:
        return Choice("auto_buy_working", f"A purchase of {position.product.base} is being completed.")
    size = order.base_size if order.base_size is not None else order.quote_size
    unit = position.product.base if order.base_size is not None else position.product.quote
    where = f" at {plain(order.limit_price)} or less" if order.limit_price is not None else " at market"
    words = f"An order for {plain(size or ZERO)} {unit}{where} is working; the next one waits for its end."
    return Choice("auto_buy_working", words, {"order": order.pk})


def _refused_lately(account: Account, product: Product, now: datetime) -> datetime | None:
    """Return when the venue refused a purchase, if that is too young for another try."""
    rows = Position.objects.filter(account=account, product=product, strategy=KeptStrategy.AUTO_BUY)
    last = rows.order_by("-pk").first()
    if last is None or last.status != "failed" or last.closed_at is None or now - last.closed_at >= WAIT:
        return None
    at: datetime = last.closed_at
    return at


def _written(account: Account, rule: AutoBuyRule, choice: Choice) -> Order:
    """Write the purchase down as a deal of one entry. Raises OrderRefused."""
    assert choice.intent is not None
    product = Product.objects.get(exchange=account.exchange, symbol=f"{rule.coin}-{rule.currency}")
    order = execution.intend_open(
        account=account,
        bot=None,
        product=product,
        direction=Direction.LONG,
        frozen_settings={"rule": rule.pk, "order_type": str(rule.order_type), "minimum": plain(rule.minimum)},
        settings_version=1,
        strategy=KeptStrategy.AUTO_BUY,
        budget_quote=choice.budget,
        max_active_deals=1,
        max_deals_per_pair=1,
        intent=choice.intent,
    )
    write(order.position, bot_name="Auto-buy")
    return order


def _remember(rule_id: int, choice: Choice, position: Position | None) -> None:
    """Write the rule's last decision, and a line of its trail when it is another one than before, or bought."""
    now = clock.now()
    with transaction.atomic():
        rule = AutoBuyRule.objects.filter(pk=rule_id).first()
        if rule is None:
            return
        is_news = rule.last_code != choice.code or position is not None
        changes: dict[str, Any] = {}
        if is_news or rule.last_looked_at is None or now - rule.last_looked_at >= REFRESH_NUMBERS:
            changes = {"last_code": choice.code[:60], "last_message": choice.words[:400]}
            changes |= {"last_numbers": choice.numbers, "last_looked_at": now}
            write(rule, **changes)
        if is_news:
            AutoBuyDecision.objects.create(
                account_id=rule.account_id,
                rule=rule,
                position=position,
                code=choice.code[:60],
                message=choice.words[:400],
                numbers=choice.numbers,
                at=now,
            )


# For loops ----------------------------------------------------------------------------------------------------------


def prices_needed() -> dict[str, set[str]]:
    """Return, by market, the symbols that rules which are on buy."""
    with all_accounts("public prices are fetched once for all rules"):
        rows = AutoBuyRule.objects.filter(enabled=True, account__archived_at__isnull=True).order_by()
        wanted = list(rows.values_list("account__exchange", "coin", "currency").distinct())
    found: dict[str, set[str]] = {}
    for exchange, coin, currency in wanted:
        found.setdefault(exchange, set()).add(f"{coin}-{currency}")
    return {
        exchange: set(Product.objects.filter(exchange=exchange, symbol__in=symbols).values_list("symbol", flat=True))
        for exchange, symbols in found.items()
    }


def prune() -> int:
    """Delete decisions older than :data:`KEPT` and return how many."""
    with all_accounts("retention of auto-buy decisions"), transaction.atomic():
        return int(AutoBuyDecision.objects.filter(at__lt=clock.now() - KEPT).delete()[0])
