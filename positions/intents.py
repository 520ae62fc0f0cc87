"""Writing down an order before the venue hears of it. Nothing here sends anything.

Both :func:`intend_open` and :func:`intend` do, in one transaction:

1. Lock the account's row: counts and balances cannot change under us (F10).
2. Re-check what the caller decided on: deal slots and the pause switch for opens, the deal's state, and that the caller
   has seen every earlier order of this purpose (``Intent.sequence``), so a decision is acted on once (F1, F3).
3. Bring sizes and prices to the product's steps: sizes down, buy prices down, sell prices up (F24). An exit never
   exceeds what the deal holds nor what the wallet has (F25); a remainder too small to trade closes as dust (F29).
4. Refuse what is below the venue's minimums, with the numbers (F27).
5. Check the free balance less what orders have taken that it may not show yet, and less what open deals need
   (:mod:`positions.reserves`). Unknown is not zero and not enough: entries are refused (F34). Exits go ahead, the venue
   has the last word. No venue is asked here, under the lock: what an exchange holds was asked for before
   (``accounts.balances.refresh``) and read from rows.
6. Ask whether the account may place it at all (:mod:`positions.admission`).
7. Insert the order, status ``intended``, with its hold. Uniqueness constraints stand behind step 2.

The client id derives from the deal's uid, the purpose and the sequence, so it is unique by construction (F9), and the
same intent has the same id wherever it is made.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import Q

from accounts import perps_settings
from accounts.balances import Funds, funds_of
from accounts.exchanges.base import perps_of
from accounts.exchanges.factory import venue_of
from accounts.exchanges.perps_rules import entry_cost
from accounts.models import Account
from marketdata import market
from marketdata.models import Product
from positions import admission, numbers
from positions.booking import announce_position, close_as_dust, is_dust, lock_account, remaining_base, write
from positions.ledger import payable
from positions.models import Bracket, Order, PerpsTerms, Position
from positions.reserves import spoken_for, unseen
from positions.states import (
    ENTRY_PURPOSES,
    EXIT_PURPOSES,
    POSITION_ACTIVE,
    SINGLE_EXITS,
    WORKING,
    Direction,
    ExitReason,
    OrderType,
    PositionStatus,
    Purpose,
    Side,
    side_of,
)
from tradebot.core import clock, once
from tradebot.core.decimals import ONE, ZERO, ceil_to, floor_to, plain, quantize
from tradebot.core.errors import InvalidInput, OrderRefused, TradebotError
from tradebot.core.models import GlobalSettings
from tradebot.core.words import MarginMode

__all__ = ["Intent", "PerpsOpening", "client_order_id", "free_balance", "intend", "intend_open", "next_sequence"]


ENTRY_AGE: Final = timedelta(seconds=30)
"""How old an exchange's word on the balances may be when money is to be spent: whoever acts has just asked."""


@dataclass(frozen=True, slots=True)
class Intent:
    """An order somebody decided on.

    ``sequence`` is 1 + the number of orders with this purpose that the caller has seen in the deal. ``side`` follows
    from the deal's direction and the purpose; given, it must agree. Sizes: ``base_size`` in base, or ``quote_size`` in
    quote for market buys; an exit with neither is for all that remains. ``reference_price`` is the price the decision
    was made at (for minimums and holds of market orders; default: the current ask or bid). ``levels`` are the ladder
    levels it buys. ``trigger_price`` makes a market exit of a perpetual a stop.
    """

    purpose: Purpose
    sequence: int
    side: Side | None = None
    order_type: OrderType = OrderType.MARKET
    base_size: Decimal | None = None
    quote_size: Decimal | None = None
    limit_price: Decimal | None = None
    expires_at: datetime | None = None
    levels: int = 0
    exit_reason: ExitReason | None = None
    actor: str = "bot"
    reference_price: Decimal | None = None
    trigger_price: Decimal | None = None

    @property
    def is_exit(self) -> bool:
        """Return whether it reduces the deal."""
        return self.purpose in EXIT_PURPOSES


@dataclass(frozen=True, slots=True)
class PerpsOpening:
    """What an opening order of a perpetual says besides: leverage, margin mode, and the bracket that is wanted."""

    leverage: int
    margin_mode: MarginMode
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None


@dataclass(frozen=True, slots=True)
class _Sized:
    """An intent at the product's steps, and what it may take from the free balance."""

    side: Side
    base_size: Decimal | None
    quote_size: Decimal | None
    limit_price: Decimal | None
    hold_currency: str
    hold_amount: Decimal


def client_order_id(position_uid: uuid.UUID, purpose: str, sequence: int) -> uuid.UUID:
    """Return the client id of a deal's order: the same for the same intent, never the same for another (F9)."""
    return uuid.uuid5(position_uid, f"{purpose}:{sequence}")


def next_sequence(position: Position, purpose: Purpose) -> int:
    """Return 1 + the number of orders with this purpose that exist now: what a person who decides now has seen."""
    return Order.objects.filter(position_id=position.pk, purpose=purpose).count() + 1


def intend_open(
    *,
    account: Account,
    bot: Any,
    product: Product,
    direction: Direction,
    frozen_settings: Mapping[str, Any],
    settings_version: int,
    strategy: str,
    budget_quote: Decimal,
    max_active_deals: int,
    max_deals_per_pair: int,
    intent: Intent,
    created_by: Any = None,
    expected_active: int | None = None,
    perps: PerpsOpening | None = None,
) -> Order:
    """Write down a new deal and its base order (steps above) and return the order; ``order.position`` is the deal.

    Both limits count the bot's deals of this direction. ``expected_active`` is the number of its active deals of this
    direction on this pair that the caller decided on, if it counted them: where several deals per pair are allowed, it
    keeps one decision from being acted on twice. ``perps`` is needed for a perpetual product, and for no other: its
    terms and its bracket are written with the order. Raises OrderRefused
    (``trading_paused``, ``bot_stopped``, ``deal_limit``, ``pair_deal_limit``, ``duplicate_intent``,
    ``product_not_trading``, ``missing_price``, ``balance_unknown``, ``insufficient_balance``, ``below_minimum``,
    ``perpetual_only_by_hand``, ``perpetuals_not_offered``, ``perpetuals_off``, ``margin_mode_differs``,
    ``position_exists`` …) and InvalidInput.
    """
    if intent.purpose is not Purpose.BASE_ORDER or intent.sequence != 1:
        raise InvalidInput("invalid", "A deal opens with its first base order.", field="purpose")
    _check_form(intent, clock.now())
    with transaction.atomic():
        account = lock_account(account.pk)
        _check_may_open(bot, account)
        slot = _free_slot(account, bot, product, direction, max_active_deals, max_deals_per_pair, expected_active)
        _check_perpetual(account, product, perps)
        sized = _size_entry(account, product, direction, intent, None if perps is None else perps.leverage)
        admission.require(_proposed(account, product, None, intent, sized))
        with _duplicates_refused():
            position = Position.objects.create(
                account=account,
                bot=bot,
                bot_name=bot.name if bot is not None else "",
                created_by=created_by,
                product=product,
                strategy=strategy,
                direction=direction,
                slot=slot,
                attempt_number=numbers.next_attempt_number(account.owner_id),
                settings=dict(frozen_settings),
                settings_version=settings_version,
                budget_quote=budget_quote,
            )
            if perps is not None:
                _write_terms(position, perps)
            order = _insert(position, account, intent, sized)
        announce_position(position)
    return order


def intend(position: Position, intent: Intent) -> Order:
    """Write down an order of an existing deal (steps above) and return it; ``position`` is brought up to date.

    Raises OrderRefused: ``position_ended``, ``position_not_open``, ``nothing_to_close``, ``exit_working``,
    ``duplicate_intent``, ``ceiling_reached``, ``missing_price``, ``balance_unknown``, ``insufficient_balance``,
    ``below_minimum``, and ``closed_as_dust`` when the deal was closed because nothing tradable was left. InvalidInput
    when the intent contradicts itself.
    """
    _check_form(intent, clock.now())
    with transaction.atomic():
        account = lock_account(position.account_id)
        position.refresh_from_db(from_queryset=Position.objects.select_related("product", "account"))
        _check_position(position, intent)
        sized: _Sized | None
        if intent.is_exit:
            sized = _size_exit(account, position, intent)
        else:
            direction = Direction(position.direction)
            sized = _size_entry(account, position.product, direction, intent)
            if intent.purpose is Purpose.MANUAL_ADD:
                _check_ceiling(position, sized, intent)
        if sized is not None:
            admission.require(_proposed(account, position.product, position, intent, sized))
            with _duplicates_refused():
                order = _insert(position, account, intent, sized)
            if intent.purpose in SINGLE_EXITS and position.status != PositionStatus.CLOSING:
                write(position, status=PositionStatus.CLOSING)
                announce_position(position)
            return order
        close_as_dust(position, intent.reference_price)
    raise OrderRefused(
        "closed_as_dust", "What was left is below the venue's minimum, so the deal was closed as it is.", id=position.pk
    )


# Checks -------------------------------------------------------------------------------------------------------------


def _check_form(intent: Intent, now: datetime) -> None:
    """Raise InvalidInput for an intent that no order can be made of (F23)."""
    for name in ("base_size", "quote_size", "limit_price", "reference_price", "trigger_price"):
        value = getattr(intent, name)
        if value is not None and not (value.is_finite() and value > ZERO):
            raise InvalidInput("invalid", "It must be a number above zero.", field=name)
    if (intent.order_type is OrderType.LIMIT) != (intent.limit_price is not None):
        raise InvalidInput("invalid", "A limit order has a price, a market order has none.", field="limit_price")
    if intent.expires_at is not None and (intent.order_type is not OrderType.LIMIT or intent.expires_at <= now):
        raise InvalidInput("invalid", "A limit order may end at a moment in the future.", field="expires_at")
    if intent.trigger_price is not None and (not intent.is_exit or intent.order_type is not OrderType.MARKET):
        raise InvalidInput("invalid", "Only an exit at market waits for a trigger price.", field="trigger_price")
    if intent.base_size is not None and intent.quote_size is not None:
        raise InvalidInput("invalid", "An order has one size.", field="quote_size")
    if intent.quote_size is not None and (intent.is_exit or intent.order_type is OrderType.LIMIT):
        raise InvalidInput("invalid", "Only market entries are sized in quote currency.", field="quote_size")
    if not intent.is_exit and intent.base_size is None and intent.quote_size is None:
        raise InvalidInput("invalid", "An entry has a size.", field="base_size")


def _side(intent: Intent, direction: Direction) -> Side:
    side = side_of(direction, intent.purpose)
    if intent.side not in (None, side):
        raise InvalidInput("invalid", f"A {intent.purpose} of a {direction} is a {side}.", field="side")
    if intent.quote_size is not None and side is Side.SELL:
        raise InvalidInput("invalid", "Sells are sized in base currency.", field="quote_size")
    return side


def _check_may_open(bot: Any, account: Account) -> None:
    if GlobalSettings.load().trading_paused:
        raise OrderRefused("trading_paused", "Trading is paused for the whole installation: no new deals.")
    if bot is None:
        return
    bot.refresh_from_db(fields=["status", "account"])
    if bot.status != "running" or bot.account_id != account.pk:
        raise OrderRefused("bot_stopped", "The bot has been stopped.")


def _free_slot(
    account: Account,
    bot: Any,
    product: Product,
    direction: Direction,
    max_active_deals: int,
    max_deals_per_pair: int,
    expected_active: int | None,
) -> int:
    """Return the number of a free slot of this pair and direction. Raises OrderRefused when there is none (F10)."""
    if bot is None:
        return 0
    active = list(
        Position.objects.filter(account=account, bot=bot, direction=direction, status__in=POSITION_ACTIVE)
        .order_by("id")
        .values_list("product_id", "slot")
    )
    taken = {slot for product_id, slot in active if product_id == product.pk}
    if expected_active is not None and len(taken) != expected_active:
        raise OrderRefused(
            "duplicate_intent", "This decision has been acted on.", seen=expected_active, active=len(taken)
        )
    if len(active) >= max_active_deals:
        raise OrderRefused(
            "deal_limit",
            f"The bot has {len(active)} of {max_active_deals} {direction} deals.",
            active=len(active),
            limit=max_active_deals,
        )
    if len(taken) >= max_deals_per_pair:
        raise OrderRefused(
            "pair_deal_limit",
            f"The bot has {len(taken)} of {max_deals_per_pair} {direction} deals on {product.symbol}.",
            active=len(taken),
            limit=max_deals_per_pair,
        )
    return next(number for number in range(len(taken) + 1) if number not in taken)


def _check_position(position: Position, intent: Intent) -> None:
    """Raise OrderRefused unless the deal is in a state that takes this order, and the caller has seen it as it is."""
    if position.status not in POSITION_ACTIVE:
        raise OrderRefused("position_ended", f"This deal is {position.status}.", status=str(position.status))
    orders = list(Order.objects.filter(position=position).values_list("purpose", "status"))
    working = {Purpose(purpose) for purpose, status in orders if status in WORKING}
    expected = 1 + sum(purpose == intent.purpose for purpose, _ in orders)
    if intent.sequence != expected or intent.purpose in working:
        raise OrderRefused(
            "duplicate_intent", "This decision has been acted on.", expected=expected, asked=intent.sequence
        )
    if intent.is_exit and working & SINGLE_EXITS:
        raise OrderRefused("duplicate_intent", "A close of this deal is working already.", working=sorted(working))
    if intent.is_exit:
        if position.status == PositionStatus.PENDING or remaining_base(position) <= ZERO:
            raise OrderRefused("nothing_to_close", "This deal holds nothing.")
    elif position.product.is_perpetual:
        raise OrderRefused("not_added_to", "A position in a perpetual is opened by one order and not added to.")
    elif position.status == PositionStatus.CLOSING:
        raise OrderRefused("exit_working", "A close of this deal is working: nothing is added.")
    elif position.status != PositionStatus.OPEN or intent.purpose is Purpose.BASE_ORDER:
        raise OrderRefused("position_not_open", "The base order of this deal is not filled yet.")


def _check_ceiling(position: Position, sized: _Sized, intent: Intent) -> None:
    if not position.budget_quote:
        return  # a deal without a ceiling
    spent = position.quote_spent if position.direction == Direction.LONG else position.quote_received
    price = sized.limit_price or intent.reference_price or ZERO
    added = sized.quote_size if sized.quote_size is not None else (sized.base_size or ZERO) * price
    if spent + added > position.budget_quote + position.product.quote_increment:
        left = max(position.budget_quote - spent, ZERO)
        raise OrderRefused(
            "ceiling_reached",
            f"The deal may spend {plain(left)} {position.product.quote} more.",
            field="quote_size",
            remaining=left,
            asked=added,
        )


@contextmanager
def _duplicates_refused() -> Iterator[None]:
    """A savepoint in which a uniqueness violation is a refusal, so that an outer transaction goes on."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if "unique" not in str(error).lower():
            raise
        raise OrderRefused("duplicate_intent", "This decision has been acted on.") from error


def _check_perpetual(account: Account, product: Product, perps: PerpsOpening | None) -> None:
    """Raise OrderRefused unless the account may open a position in this perpetual now; nothing for spot."""
    if not product.is_perpetual:
        if perps is not None:
            raise InvalidInput("invalid", f"{product.symbol} is traded without leverage.", field="leverage")
        return
    if perps is None:
        raise OrderRefused(
            "perpetual_only_by_hand", f"{product.symbol} is a perpetual future: bots trade spot pairs only."
        )
    try:
        venue = perps_of(venue_of(account))
    except TradebotError as error:
        raise OrderRefused("perpetuals_not_offered", error.message) from error
    perps_settings.require(account, product, perps.leverage)
    live = list(PerpsTerms.objects.filter(account=account, ended_at=None))
    differing = next((row for row in live if row.margin_mode != perps.margin_mode), None)
    if differing is not None and venue.capabilities.one_margin_mode:
        raise OrderRefused(
            "margin_mode_differs",
            f"{venue.capabilities.name} has one margin mode for all of an account, and a position with "
            f"{differing.margin_mode} margin is open. Open with that one, or close it first.",
            position=differing.position_id,
        )
    other = next((row for row in live if row.product_id == product.pk), None)
    if other is not None:
        raise OrderRefused(
            "position_exists",
            f"This account has a position in {product.symbol} already. Close it first.",
            position=other.position_id,
        )


def _write_terms(position: Position, perps: PerpsOpening) -> None:
    PerpsTerms.objects.create(
        position=position,
        account=position.account,
        product=position.product,
        leverage=perps.leverage,
        margin_mode=perps.margin_mode,
    )
    Bracket.objects.create(
        position=position, account=position.account, take_profit=perps.take_profit, stop_loss=perps.stop_loss
    )


# Sizes --------------------------------------------------------------------------------------------------------------


def _size_entry(
    account: Account, product: Product, direction: Direction, intent: Intent, leverage: int | None = None
) -> _Sized:
    """Return the entry at the product's steps. Raises OrderRefused below a minimum or above the free balance."""
    if product.status != Product.Status.ONLINE:
        raise OrderRefused("product_not_trading", f"{product.symbol} is {product.get_status_display()}.")
    side = _side(intent, direction)
    limit = _limit_price(product, side, intent)
    price = limit or intent.reference_price or _current_price(account, product, side)
    if price is None:
        raise OrderRefused("missing_price", f"There is no current price of {product.symbol}.")
    base = floor_to(intent.base_size, product.base_increment) if intent.base_size is not None else None
    quote = floor_to(intent.quote_size, product.quote_increment) if intent.quote_size is not None else None
    _check_minimums(product, base if base is not None else _exact(quote, price), quote, price)
    funds = _funds(account, ENTRY_AGE)
    if leverage is not None:
        if base is None:
            raise InvalidInput("invalid", "A perpetual is sized in base currency.", field="base_size")
        currency, hold = product.quote, entry_cost(base * price, leverage, max(funds.maker, funds.taker))
    elif side is Side.SELL:
        currency, hold = product.base, base or ZERO
    else:
        dearest = max(funds.maker, funds.taker)  # so that a hold is never too small
        currency, hold = product.quote, (quote if quote is not None else (base or ZERO) * price) * (ONE + dearest)
    free = _free(funds, account, currency)
    kept = _kept_for_deals(account, currency, funds)
    if hold > free - kept:
        more = f"; {plain(quantize(kept))} more belong to open deals" if kept else ""
        extra: dict[str, Any] = {"kept": kept} if kept else {}
        raise OrderRefused(
            "insufficient_balance",
            f"{plain(quantize(hold))} {currency} with fees are needed, "
            f"{plain(quantize(max(free - kept, ZERO)))} are free{more}.",
            needed=hold,
            free=max(free - kept, ZERO),
            currency=currency,
            **extra,
        )
    return _Sized(side, base, quote, limit, currency, hold)


def _size_exit(account: Account, position: Position, intent: Intent) -> _Sized | None:
    """Return the exit at the product's steps, never above what is held; None when the whole remainder is dust (F29)."""
    product = position.product
    side = _side(intent, Direction(position.direction))
    limit = _limit_price(product, side, intent)
    price = limit or intent.reference_price or _current_price(account, product, side)
    remaining = remaining_base(position)
    if price is not None and is_dust(position, remaining, price):
        return None
    wanted = min(intent.base_size, remaining) if intent.base_size is not None else remaining
    if product.is_perpetual:  # reduce-only: it takes neither coins nor money, and may be as small as a step
        return _Sized(side, floor_to(wanted, product.base_increment), None, limit, product.quote, ZERO)
    if side is Side.SELL:
        wanted = _within_wallet(account, position, wanted)
    elif price is not None:
        wanted = _within_means(account, position, wanted, price, intent)
    base = floor_to(wanted, product.base_increment)
    _check_minimums(product, base, None, price)
    hold = base if side is Side.SELL else base * (price or ZERO)
    return _Sized(side, base, None, limit, product.base if side is Side.SELL else product.quote, hold)


def _within_wallet(account: Account, position: Position, wanted: Decimal) -> Decimal:
    """Return what of ``wanted`` the wallet has, and note a shortage. An unknown balance does not hold a close up."""
    currency = position.product.base
    try:
        funds = _funds(account)
    except OrderRefused:
        return wanted
    if _is_older_than_fills(funds, position):
        return wanted
    free = _free(funds, account, currency)
    if free >= wanted:
        return wanted
    if free <= ZERO:
        raise OrderRefused(
            "insufficient_balance",
            f"The wallet has no free {currency}, the deal records {plain(wanted)}.",
            needed=wanted,
            free=free,
            currency=currency,
        )
    note = f"The wallet had {plain(free)} {currency} free where the deal records {plain(wanted)}: sold what there was."
    write(position, error_code="wallet_short", last_error=note[:300])
    return free


def _within_means(account: Account, position: Position, wanted: Decimal, price: Decimal, intent: Intent) -> Decimal:
    """Return what of ``wanted`` a short can pay to buy back, noting a shortage. What is not known holds nothing up."""
    currency = position.product.quote
    try:
        funds = _funds(account)
    except OrderRefused:
        return wanted
    if _is_older_than_fills(funds, position):
        return wanted
    free, fee = _free(funds, account, currency), max(funds.maker, funds.taker)
    found = payable(wanted, price, fee, free, at_market=intent.order_type is OrderType.MARKET)
    if found >= wanted:
        return wanted
    needed = wanted * price * (ONE + fee)
    if found <= ZERO:
        raise OrderRefused(
            "insufficient_balance",
            f"{plain(quantize(needed))} {currency} with fees are needed to buy back, none are free.",
            needed=needed,
            free=free,
            currency=currency,
        )
    note = (
        f"{plain(quantize(needed))} {currency} were needed to buy back, {plain(free)} were free: bought what could be."
    )
    write(position, error_code="wallet_short", last_error=note[:300])
    return found


def _limit_price(product: Product, side: Side, intent: Intent) -> Decimal | None:
    if intent.limit_price is None:
        return None
    to_step = floor_to if side is Side.BUY else ceil_to
    price = to_step(intent.limit_price, product.price_increment)
    if price <= ZERO:
        raise InvalidInput("invalid", "The price is below the product's smallest step.", field="limit_price")
    return price


def _current_price(account: Account, product: Product, side: Side) -> Decimal | None:
    """Return what a market order would meet now: the ask of a buy, the bid of a sell; None when not known."""
    try:
        quote = market.quote(account.exchange, product.symbol)
    except TradebotError:
        return None
    if quote is None:
        return None
    return quote.ask if side is Side.BUY else quote.bid


def _exact(quote: Decimal | None, price: Decimal) -> Decimal | None:
    return None if quote is None else quote / price


def _check_minimums(product: Product, base: Decimal | None, quote: Decimal | None, price: Decimal | None) -> None:
    """Raise OrderRefused with the numbers when an order is below one of the product's minimums (F27)."""
    value = quote if quote is not None else base * price if base is not None and price is not None else None
    for asked, minimum, currency in ((base, product.min_base, product.base), (value, product.min_quote, product.quote)):
        if asked is not None and (asked < minimum or asked <= ZERO):
            raise OrderRefused(
                "below_minimum",
                f"{plain(quantize(asked))} {currency} is below the smallest order of {plain(minimum)} {currency}.",
                asked=asked,
                minimum=minimum,
                currency=currency,
            )


def _funds(account: Account, max_age: timedelta | None = None) -> Funds:
    """Return what is known of the account's money. Raises OrderRefused (``balance_unknown``)."""
    try:
        return funds_of(account, max_age)
    except TradebotError as error:
        raise OrderRefused("balance_unknown", error.message) from error


def free_balance(account: Account, currency: str) -> Decimal:
    """Return what of ``currency`` is free: the venue's figure less what our orders took that it may not show yet.

    Raises OrderRefused (``balance_unknown``) when it is not known. A currency that is not listed is not held.
    """
    return _free(_funds(account), account, currency)


def _free(funds: Funds, account: Account, currency: str) -> Decimal:
    balance = funds.balances.get(currency)
    return (balance.free if balance is not None else ZERO) - unseen(account.pk, currency)


def _is_older_than_fills(funds: Funds, position: Position) -> bool:
    """Return whether the deal has traded since the balances were asked for: then they say nothing about its coins."""
    return funds.asked_at is not None and position.fills.filter(recorded_at__gt=funds.asked_at).exists()


def _kept_for_deals(account: Account, currency: str, funds: Funds) -> Decimal:
    """Return what of ``currency`` the account's open deals need. Raises OrderRefused while a price is not known."""
    rows = Position.objects.filter(
        Q(direction=Direction.LONG, product__base=currency) | Q(direction=Direction.SHORT, product__quote=currency),
        account=account,
        status__in=POSITION_ACTIVE,
    ).exclude(product__kind=Product.Kind.PERPETUAL)
    positions = list(rows.select_related("product"))
    if not positions:
        return ZERO
    closes = Order.objects.filter(position__in=positions, status__in=WORKING, purpose__in=EXIT_PURPOSES)
    claimed: dict[int, Decimal] = {}
    for pk, amount in closes.values_list("position_id", "hold_amount"):
        claimed[pk] = claimed.get(pk, ZERO) + amount
    shorts = {position.product.symbol for position in positions if position.direction == Direction.SHORT}
    try:
        quotes = market.quotes(account.exchange, shorts) if shorts else {}
        marks = {symbol: quote.mark for symbol, quote in quotes.items()}

        def price_of(position: Position) -> Decimal | None:
            return marks.get(position.product.symbol)

        return spoken_for(positions, currency, price_of, funds.taker, claimed)
    except TradebotError as error:
        raise OrderRefused("balance_unknown", f"What open deals need is not known: {error.message}") from error


def _proposed(
    account: Account, product: Product, position: Position | None, intent: Intent, sized: _Sized
) -> admission.Proposed:
    price = sized.limit_price or intent.reference_price or _current_price(account, product, sized.side)
    value = sized.quote_size
    if value is None and price is not None:
        value = (sized.base_size or ZERO) * price
    return admission.Proposed(
        account, product, intent.purpose, sized.side, position, price, value, intent.actor, reduces_risk=intent.is_exit
    )


def _insert(position: Position, account: Account, intent: Intent, sized: _Sized) -> Order:
    levels = max(intent.levels, 1) if intent.purpose is Purpose.SAFETY_ORDER else intent.levels
    order: Order = Order.objects.create(
        account=account,
        position=position,
        client_order_id=client_order_id(position.uid, intent.purpose, intent.sequence),
        purpose=intent.purpose,
        sequence=intent.sequence,
        side=sized.side,
        order_type=intent.order_type,
        base_size=sized.base_size,
        quote_size=sized.quote_size,
        limit_price=sized.limit_price,
        trigger_price=intent.trigger_price,
        reference_price=None if intent.reference_price is None else quantize(intent.reference_price),
        expires_at=intent.expires_at,
        levels=levels if intent.purpose in ENTRY_PURPOSES else 0,
        exit_reason=intent.exit_reason or "",
        hold_currency=sized.hold_currency,
        hold_amount=sized.hold_amount,
        actor=intent.actor[:254],
    )
    once.acted("order", order.pk)
    return order
