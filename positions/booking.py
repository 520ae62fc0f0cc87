"""What the venue confirmed becomes fills, totals and states. The only writer of fills, and of what derives from them.

``apply_report`` may be called with any report of an order, in any order, any number of times:

1. Lock the account, then the order. Everything below happens in one transaction (F13).
2. A report without a venue order id books nothing: no id is not a fill (F4).
3. Book the trades that are not booked yet, by the venue's trade id, whatever state the order is in. Late trades of an
   order that is already final are money too.
4. Move the order's status if the state table allows it; a late or repeated report never moves it backwards. "Filled"
   without all of its trades is not believed yet: the order stays working and is asked for again (F7, F8).
5. Release the hold by what was filled, and all of it when the order is final.
6. Derive the position's totals from all of its fills (:mod:`positions.ledger`).
7. Move the position: opened and numbered at its first fill (F6), failed or cancelled when nothing can fill it any more,
   closed when nothing tradable is left and no order is working.
8. Write the events. They are pushed after commit, and a failure to write them never costs the fill (F13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from django.db import transaction

from accounts.access import people_of_account
from accounts.exchanges.base import OrderRef, OrderReport, Trade
from accounts.models import Account
from marketdata import market
from notifications import outbox
from positions import ledger, numbers
from positions.ledger import FillFact, Totals
from positions.models import Fill, Order, PerpsTerms, Position
from positions.states import (
    EXIT_PURPOSES,
    EXIT_REASON_OF,
    FINAL,
    POSITION_FINAL,
    SINGLE_EXITS,
    WORKING,
    Direction,
    ExitReason,
    OrderStatus,
    PositionStatus,
    Purpose,
    Side,
    can_move,
)
from tradebot.core import clock
from tradebot.core.decimals import ZERO, floor_to, plain, quantize
from tradebot.core.errors import OrderRefused, TradebotError
from tradebot.core.scoping import ForeignRow

__all__ = [
    "announce",
    "announce_position",
    "apply_report",
    "close_as_dust",
    "conclude",
    "is_dust",
    "lock_account",
    "mark_of",
    "recompute",
    "ref_of",
    "remaining_base",
    "totals_by_position",
    "totals_of",
    "write",
]

log = structlog.get_logger(__name__)


# Locks and small writes ---------------------------------------------------------------------------------------------


def lock_account(account_id: int) -> Account:
    """Lock the account's row until the transaction ends and return it. Raises ForeignRow outside the bound scope."""
    account = Account.objects.select_for_update(no_key=True).editable().filter(pk=account_id).first()
    if account is None:
        raise ForeignRow("that account is outside the bound scope")
    return account


def lock_order(order: Order) -> Position:
    """Lock the order's account and row, bring ``order`` up to date and return its position."""
    lock_account(order.account_id)
    rows = Order.objects.select_for_update(of=("self",), no_key=True).select_related("account", "position__product")
    order.refresh_from_db(from_queryset=rows)
    return order.position


def write(row: Any, **values: Any) -> None:
    """Set ``values`` on ``row`` and in the database. Raises ForeignRow when the scope may not change it."""
    if not type(row).objects.filter(pk=row.pk).update(**values):
        raise ForeignRow(f"{type(row).__name__} {row.pk} may not be changed in this scope")
    for name, value in values.items():
        setattr(row, name, value)


# Totals -------------------------------------------------------------------------------------------------------------


def totals_of(position: Position) -> Totals:
    """Return what the position's fills add up to."""
    return totals_by_position([position])[position.pk]


def totals_by_position(positions: Iterable[Position]) -> dict[int, Totals]:
    """Return the totals of several positions in one query, two with perpetuals; their products should be loaded."""
    by_id = {position.pk: position for position in positions}
    facts: dict[int, list[FillFact]] = {pk: [] for pk in by_id}
    rows = Fill.objects.filter(position_id__in=list(by_id)).order_by("at", "id")
    for values in rows.values_list(
        "position_id", "side", "price", "base", "quote", "fee", "fee_currency", "at", "order__purpose"
    ):
        pk, side, price, base, quote, fee, fee_currency, at, purpose = values
        facts[pk].append(FillFact(Side(side), price, base, quote, fee, fee_currency, at, Purpose(purpose)))
    terms = _perps_terms(by_id.values())
    return {
        pk: ledger.totals(
            facts[pk],
            Direction(position.direction),
            position.product.base,
            position.product.quote,
            funding=terms[pk].funding_quote if pk in terms else ZERO,
            leverage=terms[pk].leverage if pk in terms else None,
        )
        for pk, position in by_id.items()
    }


def _perps_terms(positions: Iterable[Position]) -> dict[int, PerpsTerms]:
    """Return the terms of those that are perpetuals, by deal; no query where there is none."""
    ids = [position.pk for position in positions if position.product.is_perpetual]
    return {row.position_id: row for row in PerpsTerms.objects.filter(position_id__in=ids)} if ids else {}


def remaining_base(position: Position) -> Decimal:
    """Return the base that the position still has to sell or buy back, from its stored totals."""
    return max(position.base_held * Direction(position.direction).sign, ZERO)


def recompute(position: Position) -> Totals:
    """Rebuild the position's totals from its fills, as a repair, and return them. Status and numbers stay."""
    with transaction.atomic():
        lock_account(position.account_id)
        position.refresh_from_db(from_queryset=Position.objects.select_related("product", "account"))
        totals = totals_of(position)
        write(position, **_derived(position, totals, list(position.orders.all())))
    return totals


def _derived(position: Position, totals: Totals, orders: Sequence[Order]) -> dict[str, Any]:
    """Return the position's derived columns. The one place that says what they are."""
    profit, pct = totals.realised_profit, totals.realised_pct
    if position.status == PositionStatus.CLOSED and position.dust_price is not None:
        dust = ledger.close_as_dust(totals, position.dust_price)
        profit, pct = dust.profit, dust.pct
    levels = (
        max(order.levels, 1)
        for order in orders
        if order.purpose == Purpose.SAFETY_ORDER and order.status in FINAL and order.filled_base > ZERO
    )
    amounts = {
        "base_bought": totals.base_bought,
        "base_sold": totals.base_sold,
        "base_held": totals.base_held,
        "quote_spent": totals.quote_spent,
        "quote_received": totals.quote_received,
        "fees_quote": totals.fees_in_quote,
        "average_price": totals.average_price,
        "realised_quote": profit,
        "realised_pct": pct,
    }
    return {
        **{name: None if value is None else quantize(value) for name, value in amounts.items()},
        "safety_orders_filled": sum(levels),
    }


def is_dust(position: Position, base: Decimal, price: Decimal) -> bool:
    """Return whether ``base`` is too little for the venue to trade at ``price``.

    Of a perpetual only less than a step is: what is left of it stays a position at the venue, and may be closed however
    small it is.
    """
    product = position.product
    if product.is_perpetual:
        return floor_to(base, product.base_increment) == ZERO
    sellable = ledger.sellable(base, price, product.base_increment, product.min_base, product.min_quote)
    return sellable == ZERO


def mark_of(position: Position) -> Decimal | None:
    """Return the mark price of the position's product, None when it is not known."""
    try:
        quote = market.quote(position.account.exchange, position.product.symbol)
    except TradebotError:
        return None
    return None if quote is None else quote.mark


def ref_of(order: Order) -> OrderRef:
    """Return what identifies the order to its venue."""
    return OrderRef(
        order.client_order_id,
        order.position.product.symbol,
        order.venue_order_id,
        order.submitted_at or order.created_at,
    )


# Reports ------------------------------------------------------------------------------------------------------------


def apply_report(order: Order, report: OrderReport) -> list[Fill]:
    """Book what ``report`` says about ``order`` (see above) and return the fills that were new.

    ``order`` and ``order.position`` are brought up to date. Raises ValueError when the report is about another order.
    """
    if report.client_order_id != order.client_order_id:
        raise ValueError("this report is about another order")
    if not report.venue_order_id and report.status is not OrderStatus.REJECTED:
        log.error("report.without_id", order=order.pk, status=report.status)
        return []
    with transaction.atomic():
        position = lock_order(order)
        before = position.status
        fills = _book(order, position, report.trades)
        booked = sum((fill.base for fill in fills), order.filled_base)
        now = clock.now()
        changes: dict[str, Any] = {"filled_base": booked, "not_found_at": None}
        changes["filled_quote"] = sum((fill.quote for fill in fills), order.filled_quote)
        emptied = _is_emptied(order, position, fills)
        changes |= _status_change(order, _believed(order, report, booked, emptied=emptied), now)
        if report.venue_order_id and not order.venue_order_id:
            changes["venue_order_id"] = report.venue_order_id
        if order.acknowledged_at is None:
            changes["acknowledged_at"] = now
        if report.error_code and "status" in changes:
            changes |= {"error_code": report.error_code[:60], "error_text": report.error_text[:300]}
        changes["hold_amount"] = _hold_left(order, fills, changes.get("status", order.status))
        write(order, **changes)
        totals = _settle(position, order, now)
        if fills or position.status != before:
            announce(position.account_id, lambda: _tell(order, position, fills, totals))
        if fills and before in POSITION_FINAL:
            announce(position.account_id, lambda: _tell_late(order, position))
    return fills


def conclude(order: Order, status: OrderStatus, code: str, text: str) -> None:
    """End an order on our own word: the venue refused it, never got it, or it was never sent. Nothing is booked.

    That word is about the order as the caller saw it. One that has been sent, or that the venue has answered about
    meanwhile, is left as it is.
    """
    report = OrderReport(order.client_order_id, "", OrderStatus.REJECTED, (), code, text)
    seen = order.status
    with transaction.atomic():
        position = lock_order(order)
        if order.status != seen:
            return
        if status is OrderStatus.REJECTED:
            apply_report(order, report)
            return
        before, now = position.status, clock.now()
        changes = _status_change(order, status, now)
        if not changes:
            return
        write(order, **changes, error_code=code[:60], error_text=text[:300], hold_amount=ZERO)
        totals = _settle(position, order, now)
        if position.status != before:
            announce(position.account_id, lambda: _tell(order, position, [], totals))


def _book(order: Order, position: Position, trades: Iterable[Trade]) -> list[Fill]:
    """Insert the trades that are not booked yet."""
    given = {trade.trade_id: trade for trade in trades if trade.trade_id and trade.base > ZERO and trade.quote > ZERO}
    if not given:
        return []
    known = set(Fill.objects.filter(order=order).values_list("venue_trade_id", flat=True))
    return Fill.objects.bulk_create(
        [
            Fill(
                account=order.account,
                position=position,
                order=order,
                venue_trade_id=trade.trade_id,
                side=order.side,
                price=trade.price,
                base=trade.base,
                quote=trade.quote,
                fee=trade.fee,
                fee_currency=trade.fee_currency,
                is_maker=trade.is_maker,
                at=trade.at,
            )
            for trade in given.values()
            if trade.trade_id not in known
        ]
    )


def _is_emptied(order: Order, position: Position, fills: Iterable[Fill]) -> bool:
    """Return whether these fills of an exit leave nothing of a perpetual position for the order to reduce."""
    if not position.product.is_perpetual or order.purpose not in EXIT_PURPOSES:
        return False
    return remaining_base(position) - sum((fill.base for fill in fills), ZERO) <= ZERO


def _believed(order: Order, report: OrderReport, booked: Decimal, *, emptied: bool = False) -> OrderStatus:
    """Return the status that the report and the booked trades together support (F7, F8).

    A reduce-only order that was larger than what there was is cut to it by its venue, which then calls it filled.
    """
    status = report.status
    if status is OrderStatus.FILLED:
        whole = booked > ZERO and (order.base_size is None or booked >= order.base_size)
        status = OrderStatus.FILLED if whole else OrderStatus.CANCELLED if booked and emptied else OrderStatus.OPEN
    if status is OrderStatus.REJECTED and booked > ZERO:
        status = OrderStatus.CANCELLED
    if status in (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED):
        status = OrderStatus.PARTIALLY_FILLED if booked > ZERO else OrderStatus.OPEN
    if status in (OrderStatus.INTENDED, OrderStatus.SUBMITTED):
        status = OrderStatus.PARTIALLY_FILLED if booked > ZERO else OrderStatus.SUBMITTED
    return status


def _status_change(order: Order, to: OrderStatus, now: datetime) -> dict[str, Any]:
    """Return the columns that change when the order may move ``to`` there, nothing when it may not."""
    current, changes = OrderStatus(order.status), dict[str, Any]()
    if current is OrderStatus.INTENDED and not can_move(current, to) and current is not to:
        current, changes["submitted_at"] = OrderStatus.SUBMITTED, now  # the venue knows it, so it was sent
        changes["status"] = current
    if can_move(current, to):
        changes["status"] = to
        if to in FINAL:
            changes["finished_at"] = now
    return changes


def _hold_left(order: Order, fills: Sequence[Fill], status: str) -> Decimal:
    if status in FINAL:
        return ZERO
    if order.position.product.is_perpetual:  # margin and fee, whichever side it is
        filled = order.filled_base + sum((fill.base for fill in fills), ZERO)
        whole = order.base_size or ZERO
        return order.hold_amount * max(whole - filled, ZERO) / (whole - order.filled_base) if whole > filled else ZERO
    if order.side == Side.SELL:
        taken = sum((fill.base for fill in fills), ZERO)
    else:
        taken = sum(
            (fill.quote + (fill.fee if fill.fee_currency == order.hold_currency else ZERO) for fill in fills), ZERO
        )
    return max(order.hold_amount - taken, ZERO)


# Positions ----------------------------------------------------------------------------------------------------------


def _settle(position: Position, order: Order, now: datetime) -> Totals:
    """Derive the position's totals and move its status as its fills and orders say."""
    totals = totals_of(position)
    orders = [order if row.pk == order.pk else row for row in position.orders.order_by("id")]
    working = [row for row in orders if row.status in WORKING]
    changes: dict[str, Any] = {}
    status = PositionStatus(position.status)
    if status is PositionStatus.PENDING:
        if totals.first_fill_at is not None:
            status = PositionStatus.OPEN
            changes["opened_at"] = totals.first_fill_at
            changes["deal_number"] = numbers.next_deal_number(position.account.owner_id)
        elif not working:
            failed = order.status == OrderStatus.REJECTED or bool(order.error_code)
            status = PositionStatus.FAILED if failed else PositionStatus.CANCELLED
            changes |= {"closed_at": now, "error_code": order.error_code, "last_error": order.error_text}
            if not failed:
                changes["exit_reason"] = ExitReason.CANCELLED
    if status in (PositionStatus.OPEN, PositionStatus.CLOSING):
        closing = any(row.purpose in SINGLE_EXITS for row in working)
        status = PositionStatus.CLOSING if closing else PositionStatus.OPEN
        price = totals.last_price
        if not working and totals.exit_fills and price is not None and is_dust(position, totals.remaining_base, price):
            status = PositionStatus.CLOSED
            changes |= {"closed_at": now, "exit_reason": _reason_of(orders)}
            changes["dust_price"] = None if totals.is_flat else price
    changes["status"] = status
    for name, value in changes.items():
        setattr(position, name, value)
    write(position, **changes, **_derived(position, totals, orders))
    if position.product.is_perpetual:
        _settle_terms(position, totals, now)
    return totals


def _settle_terms(position: Position, totals: Totals, now: datetime) -> None:
    """Keep what the terms of a perpetual deal derive from its fills; an ended deal makes room for the next one."""
    terms = PerpsTerms.objects.get(position=position)
    margin = quantize(totals.stake)
    ended = now if position.status in POSITION_FINAL else None
    if margin != terms.initial_margin or (ended is None) != (terms.ended_at is None):
        write(terms, initial_margin=margin, ended_at=ended)


def _reason_of(orders: Sequence[Order]) -> str:
    """Return why the position ended: the reason of its last exit that sold something."""
    last = [row for row in orders if row.purpose in EXIT_PURPOSES and row.filled_base > ZERO][-1]
    return last.exit_reason or EXIT_REASON_OF[Purpose(last.purpose)]


def close_as_dust(position: Position, price: Decimal | None = None) -> Position:
    """Close a deal whose remaining base is too little to trade, valued at ``price`` (default: the mark) (F29).

    Raises OrderRefused: ``missing_price``; ``not_dust`` when the remainder can be traded, or orders are still working.
    """
    with transaction.atomic():
        lock_account(position.account_id)
        position.refresh_from_db(from_queryset=Position.objects.select_related("product", "account"))
        if position.status in POSITION_FINAL:
            return position
        price = price if price is not None else mark_of(position)
        if price is None:
            raise OrderRefused("missing_price", f"There is no current price of {position.product.symbol}.")
        totals, orders = totals_of(position), list(position.orders.all())
        if (
            position.status == PositionStatus.PENDING
            or any(row.status in WORKING for row in orders)
            or not is_dust(position, totals.remaining_base, price)
        ):
            raise OrderRefused("not_dust", "What remains of this deal can be traded.")
        position.status, position.dust_price = PositionStatus.CLOSED, price
        write(
            position,
            status=PositionStatus.CLOSED,
            dust_price=price,
            exit_reason=ExitReason.DUST,
            closed_at=clock.now(),
            **_derived(position, totals, orders),
        )
        if position.product.is_perpetual:
            _settle_terms(position, totals, clock.now())
        announce_position(position)
    return position


# Events -------------------------------------------------------------------------------------------------------------


def announce(account_id: int, tell: Callable[[], None]) -> None:
    """Write events inside the running transaction; a failure to do so is recorded and costs nothing else (F13)."""
    try:
        with transaction.atomic():
            tell()
    except Exception:  # the fill is money, an event is a courtesy
        log.exception("events.not_written", account=account_id)


def announce_position(position: Position) -> None:
    """Tell everybody who may see the account where this position stands."""
    announce(position.account_id, lambda: _publish(position, "position", _position_payload(position)))


def _publish(position: Position, kind: str, payload: dict[str, Any]) -> None:
    outbox.publish(people_of_account(position.account_id), kind, payload, position.account_id)


def _position_payload(position: Position) -> dict[str, Any]:
    return {
        "position_id": position.pk,
        "status": str(position.status),
        "account_id": position.account_id,
        "deal_number": position.deal_number,
        "bot_id": position.bot_id,
        "bot": position.bot_name,
        "product": position.product.symbol,
        "exit_reason": str(position.exit_reason),
        "error_code": position.error_code,
        "at": clock.now().isoformat(),
    }


def _tell(order: Order, position: Position, fills: Sequence[Fill], totals: Totals) -> None:
    if fills:
        _publish(position, "order_fill", _fill_payload(order, position, fills, totals))
    _publish(position, "position", _position_payload(position))


def _tell_late(order: Order, position: Position) -> None:
    name = f"deal {position.deal_number}" if position.deal_number else f"attempt {position.attempt_number}"
    text = f"The venue filled an order of {name} on {position.product.symbol} after it had ended ({position.status})."
    _publish(
        position,
        "notification",
        {
            "code": "late_fill",
            "level": "warning",
            "message": text,
            "position_id": position.pk,
            "order_id": order.pk,
            "account_id": position.account_id,
        },
    )


def _fill_type(order: Order, direction: Direction) -> str:
    if order.status in WORKING:
        return "partial_fill"
    if order.purpose in EXIT_PURPOSES:
        return "sell" if direction is Direction.LONG else "close_short"
    if order.purpose == Purpose.MANUAL_ADD:
        return "manual"
    if order.position.is_sale:
        return "sell"
    return str(order.purpose) if direction is Direction.LONG else "short_sell"


def _fill_payload(order: Order, position: Position, fills: Sequence[Fill], totals: Totals) -> dict[str, Any]:
    """Return one event for all that a report brought: its price is their average, profit is the deal's so far."""
    base = sum((fill.base for fill in fills), ZERO)
    quote = sum((fill.quote for fill in fills), ZERO)
    is_exit = order.purpose in EXIT_PURPOSES
    pct = position.realised_pct
    return {
        "fill_type": _fill_type(order, totals.direction),
        "position_id": position.pk,
        "deal_number": position.deal_number,
        "bot": position.bot_name,
        "bot_id": position.bot_id,
        "account_id": position.account_id,
        "product": position.product.symbol,
        "side": str(order.side),
        "price": plain(fills[0].price if len(fills) == 1 else quantize(quote / base)),
        "base_amount": plain(base),
        "quote_amount": plain(quote),
        "quote": position.product.quote,
        "profit": plain(position.realised_quote) if is_exit else None,
        "profit_percentage": plain(pct) if is_exit and pct is not None else None,
        "exit_reason": str(order.exit_reason or EXIT_REASON_OF[Purpose(order.purpose)]) if is_exit else None,
        "is_paper": position.account.is_paper,
        "at": fills[-1].at.isoformat(),
    }
