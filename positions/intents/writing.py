"""The transaction that writes an order down: the steps of :mod:`positions.intents`, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from accounts.models import Account
from marketdata.models import Product
from positions import admission, numbers
from positions.booking import announce_position, close_as_dust, lock_account, write
from positions.intents import checks
from positions.intents.intent import Intent, PerpsOpening, client_order_id
from positions.intents.sizes import Sized, current_price, size_entry, size_exit
from positions.models import Bracket, Order, PerpsTerms, Position
from positions.states import ENTRY_PURPOSES, SINGLE_EXITS, Direction, PositionStatus, Purpose
from tradebot.core import clock, once
from tradebot.core.decimals import ZERO, quantize
from tradebot.core.errors import InvalidInput, OrderRefused

__all__ = ["intend", "intend_open"]


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
    uid: UUID | None = None,
) -> Order:
    """Write down a new deal and its base order and return the order; ``order.position`` is the deal.

    Both limits count the bot's deals of this direction. ``expected_active`` is the number of its active deals of this
    direction on this pair that the caller decided on, if it counted them: where several deals per pair are allowed, it
    keeps one decision from being acted on twice. ``perps`` is needed for a perpetual product, and for no other: its
    terms and its bracket are written with the order. ``uid`` is given to a deal that may exist once only, such as what
    follows from another one: a second one is refused (``duplicate_intent``). Raises OrderRefused
    (``trading_paused``, ``bot_stopped``, ``deal_limit``, ``pair_deal_limit``, ``duplicate_intent``,
    ``product_not_trading``, ``missing_price``, ``balance_unknown``, ``insufficient_balance``, ``below_minimum``,
    ``perpetual_only_by_hand``, ``perpetuals_not_offered``, ``perpetuals_off``, ``margin_mode_differs``,
    ``position_exists`` …) and InvalidInput.
    """
    if intent.purpose is not Purpose.BASE_ORDER or intent.sequence != 1:
        raise InvalidInput("invalid", "A deal opens with its first base order.", field="purpose")
    checks.well_formed(intent, clock.now())
    with transaction.atomic():
        account = lock_account(account.pk)
        checks.may_open(bot, account)
        slot = checks.free_slot(account, bot, product, direction, max_active_deals, max_deals_per_pair, expected_active)
        checks.perpetual_allowed(account, product, perps)
        sized = size_entry(account, product, direction, intent, None if perps is None else perps.leverage)
        admission.require(_proposed(account, product, None, intent, sized))
        with _duplicates_refused():
            position = Position.objects.create(
                uid=uid or uuid4(),
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
    """Write down an order of an existing deal and return it; ``position`` is brought up to date.

    Raises OrderRefused: ``position_ended``, ``position_not_open``, ``nothing_to_close``, ``exit_working``,
    ``duplicate_intent``, ``ceiling_reached``, ``missing_price``, ``balance_unknown``, ``insufficient_balance``,
    ``below_minimum``, and ``closed_as_dust`` when the deal was closed because nothing tradable was left. InvalidInput
    when the intent contradicts itself.
    """
    checks.well_formed(intent, clock.now())
    with transaction.atomic():
        account = lock_account(position.account_id)
        position.refresh_from_db(from_queryset=Position.objects.select_related("product", "account"))
        checks.takes_order(position, intent)
        sized: Sized | None
        if intent.is_exit:
            sized = size_exit(account, position, intent)
        else:
            direction = Direction(position.direction)
            sized = size_entry(account, position.product, direction, intent)
            if intent.purpose is Purpose.MANUAL_ADD:
                checks.within_ceiling(position, sized, intent)
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


def _proposed(
    account: Account, product: Product, position: Position | None, intent: Intent, sized: Sized
) -> admission.Proposed:
    price = sized.limit_price or intent.reference_price or current_price(account, product, sized.side)
    value = sized.quote_size
    if value is None and price is not None:
        value = (sized.base_size or ZERO) * price
    return admission.Proposed(
        account, product, intent.purpose, sized.side, position, price, value, intent.actor, reduces_risk=intent.is_exit
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


def _insert(position: Position, account: Account, intent: Intent, sized: Sized) -> Order:
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
