"""Carrying out a panic sale: one turn at a time, by one worker at a time, until nothing is left or nothing more helps.

A turn (:func:`take_turn`):

1. Take the run's lease; who does not get it leaves. A process that dies (``kill -9``) loses it with time, and the loop
   hands the run to another one.
2. List the working orders that have no step yet, resting closes among them, and cancel each until the venue has
   confirmed it. Market closes that are on their way are left to do their work.
3. List the open deals that have no step yet and close each really at market. That goes through the order protocol, so a
   step that is done again finds the order that it wrote before, and never sells twice.
4. When no step is left to do and nothing new turned up, the run ends, and says what is left.

Steps fail alone. What may pass (the venue does not answer, a cancel is not confirmed yet) is tried again each turn for
:data:`PATIENCE`; anything else :data:`TRIES` times.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import Q

from accounts.access import people_of_account
from accounts.models import Account
from bots.panic.models import PanicRun, PanicStep
from notifications import outbox
from positions import execution, keeping, manual
from positions.manual import CloseState
from positions.models import Order, Position
from positions.reconcile import reconcile_account
from positions.states import (
    EXIT_PURPOSES,
    FINAL,
    POSITION_ACTIVE,
    POSITION_FINAL,
    WORKING,
    OrderStatus,
    OrderType,
    Purpose,
)
from tradebot.core import audit, clock, health
from tradebot.core.decimals import plain
from tradebot.core.errors import TradebotError
from tradebot.core.redaction import described
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = ["LOOP", "LOOP_SECONDS", "go_on_with_all", "take_turn"]

log = structlog.get_logger(__name__)

LOOP: Final = "panic sales"
LOOP_SECONDS: Final = 10
health.LOOPS[LOOP] = LOOP_SECONDS

LEASE: Final = timedelta(seconds=60)
"""Renewed with every step, and longer than any one takes."""
TRIES: Final = 4
PATIENCE: Final = timedelta(minutes=15)
MAY_PASS: Final = frozenset(
    {
        "cancel_unconfirmed",
        "balance_unknown",
        "clock_skew",
        "throttled",
        "unavailable",
        "unknown_outcome",
        "venue_down",
        "working",
    }
)
"""Reasons that go away by themselves."""

Kind, State = PanicStep.Kind, PanicStep.State
OPEN_STATES: Final = (State.WAITING, State.WORKING)


def go_on_with_all() -> int:
    """Take a turn with every run that is under way and nobody works on; return how many there were (F67)."""
    with all_accounts("panic sales of everybody go on"):
        rows = PanicRun.objects.filter(_free(), status=PanicRun.Status.RUNNING)
        ids = list(rows.order_by("pk").values_list("pk", flat=True))
    for run_id in ids:
        try:
            take_turn(run_id)
        except Exception:  # the loop's edge: the other people's runs go on
            log.exception("panic.turn_failed", run=run_id)
    return len(ids)


def take_turn(run_id: int) -> PanicRun | None:
    """Do what can be done now of the run (see above) and return it; None when somebody else is at it, or it ended."""
    token = str(uuid.uuid4())
    with all_accounts("the run says whose account it is about"):
        claimed = PanicRun.objects.filter(_free(), pk=run_id, status=PanicRun.Status.RUNNING).update(
            lease_token=token, lease_until=clock.now() + LEASE
        )
        if not claimed:
            return None
        account_id = PanicRun.objects.values_list("account_id", flat=True).get(pk=run_id)
    with acting_for_account(account_id):
        run: PanicRun = PanicRun.objects.select_related("account").get(pk=run_id)
        try:
            _Turn(run, token).take()
        finally:
            PanicRun.objects.filter(pk=run_id, lease_token=token).update(lease_token="", lease_until=None)
        run.refresh_from_db()
        return run


def _free() -> Q:
    return Q(lease_until__isnull=True) | Q(lease_until__lte=clock.now())


class _LeaseLost(Exception):
    """Somebody else has taken the run over, because this process was too slow."""


class _Turn:
    """One turn. Runs in the account's scope and never inside a transaction, because venues are called."""

    def __init__(self, run: PanicRun, token: str) -> None:
        self.run, self.token = run, token

    def take(self) -> None:
        try:
            self._settle_what_is_known()
            self._list_orders()
            self._each(Kind.CANCEL, self._cancel)
            self._list_deals()
            self._each(Kind.SELL, self._sell)
            if not self._list_orders() and not self._list_deals() and not self._open_steps().exists():
                self._finish()
        except _LeaseLost:
            log.warning("panic.lease_lost", run=self.run.pk)

    # Finding out what there is to do ----------------------------------------------------------------------------------

    def _settle_what_is_known(self) -> None:
        """Ask about every order in flight first: what a process that died has left is settled before anything new."""
        try:
            reconcile_account(self.run.account_id)
        except TradebotError as error:
            log.info("panic.venue_not_reached", run=self.run.pk, code=error.code)

    def _list_orders(self) -> int:
        """Write down a step for each working order that has none; return how many are new."""
        closing = Q(order_type=OrderType.MARKET, purpose__in=EXIT_PURPOSES)
        rows = Order.objects.filter(account=self.run.account, status__in=WORKING).exclude(closing)
        known = PanicStep.objects.filter(run=self.run, kind=Kind.CANCEL).values("order_id")
        new = list(rows.exclude(pk__in=known).select_related("position__product").order_by("pk"))
        for order in new:
            product = order.position.product
            price = f" at {plain(order.limit_price)} {product.quote}" if order.limit_price is not None else ""
            what = f"{product.symbol}: {order.purpose.replace('_', ' ')}, {order.side}{price}"
            self._step(Kind.CANCEL, what, order.position, order)
        return len(new)

    def _list_deals(self) -> int:
        """Write down a step for each open deal that has none; return how many are new."""
        rows = Position.objects.filter(account=self.run.account, status__in=POSITION_ACTIVE)
        known = PanicStep.objects.filter(run=self.run, kind=Kind.SELL).values("position_id")
        new = list(rows.exclude(pk__in=known).select_related("product").order_by("pk"))
        for deal in new:
            number = f"deal {deal.deal_number}" if deal.deal_number else f"attempt {deal.attempt_number}"
            self._step(Kind.SELL, f"{deal.product.symbol}, {number}", deal)
        return len(new)

    def _step(self, kind: PanicStep.Kind, what: str, position: Position, order: Order | None = None) -> None:
        PanicStep.objects.create(
            account=self.run.account, run=self.run, kind=kind, what=what[:160], position=position, order=order
        )

    def _open_steps(self) -> Any:
        return PanicStep.objects.filter(run=self.run, state__in=OPEN_STATES)

    # Doing it ---------------------------------------------------------------------------------------------------------

    def _each(self, kind: PanicStep.Kind, act: Callable[[PanicStep], None]) -> None:
        steps = self._open_steps().filter(kind=kind).select_related("position__product", "position__account", "order")
        for step in steps.order_by("pk"):
            self._renew()
            if step.started_at is None:
                step.started_at = clock.now()
            step.tries += 1
            step.state = State.WORKING
            step.save(update_fields=["started_at", "tries", "state"])
            try:
                act(step)
            except TradebotError as error:
                self._failed(step, error.code, error.message)
            except Exception as error:  # the other steps are to be done all the same
                log.exception("panic.step_failed", run=self.run.pk, step=step.pk)
                self._failed(step, "error", f"Something went wrong here ({described(error)}).")

    def _renew(self) -> None:
        mine = PanicRun.objects.filter(pk=self.run.pk, lease_token=self.token)
        if not mine.update(lease_until=clock.now() + LEASE):
            raise _LeaseLost

    def _cancel(self, step: PanicStep) -> None:
        order: Order = Order.objects.select_related("account", "position__product").get(pk=step.order_id)
        if order.status not in FINAL:
            order = execution.cancel(order, self.run.actor)
        if order.status not in FINAL:
            self._failed(step, "cancel_unconfirmed", "The venue has not confirmed the cancel yet.")
            return
        message = "Cancelled."
        if order.status == OrderStatus.FILLED:
            message = "It was filled before it could be cancelled."
        elif order.filled_base:
            message = f"Cancelled; {plain(order.filled_base)} {order.position.product.base} of it had been filled."
        self._done(step, message)

    def _sell(self, step: PanicStep) -> None:
        deal = step.position
        assert deal is not None
        deal.refresh_from_db(from_queryset=Position.objects.select_related("product", "account"))
        if deal.status in POSITION_FINAL:
            self._done(step, f"The deal is {deal.status}.")
            return
        if deal.is_sale:
            keeping.give_up(deal, self.run.actor)
            self._done(step, "The sale is ended; what it has brought stays in the account.")
            return
        answer = manual.close_at_market(deal, self.run.actor, Purpose.PANIC_CLOSE)
        if answer.order is not None:
            step.order = answer.order
            step.save(update_fields=["order"])
        if answer.state in (CloseState.WORKING, CloseState.REDUCED):
            self._failed(step, "working", answer.message)
        else:
            self._done(step, answer.message)

    # How it stands ----------------------------------------------------------------------------------------------------

    def _done(self, step: PanicStep, message: str) -> None:
        step.state, step.message, step.error_code, step.finished_at = State.DONE, message[:300], "", clock.now()
        step.save(update_fields=["state", "message", "error_code", "finished_at"])

    def _failed(self, step: PanicStep, code: str, message: str) -> None:
        """Note why it is not done; it is tried again unless that is of no use any more."""
        assert step.started_at is not None
        waits = code in MAY_PASS and clock.now() - step.started_at < PATIENCE
        over = not waits and (code in MAY_PASS or step.tries >= TRIES)
        step.state = State.FAILED if over else State.WORKING
        step.message, step.error_code, step.finished_at = message[:300], code[:60], clock.now() if over else None
        step.save(update_fields=["state", "message", "error_code", "finished_at"])

    def _finish(self) -> None:
        """End the run and say what is left, as the tables have it now."""
        run = self.run
        with transaction.atomic():
            Account.objects.select_for_update(no_key=True).get(pk=run.account_id)
            orders = Order.objects.filter(account=run.account, status__in=WORKING).count()
            deals = Position.objects.filter(account=run.account, status__in=POSITION_ACTIVE).count()
            failed = PanicStep.objects.filter(run=run, state=State.FAILED).count()
            ended = PanicRun.Status.INCOMPLETE if orders or deals or failed else PanicRun.Status.FINISHED
            mine = PanicRun.objects.filter(pk=run.pk, lease_token=self.token, status=PanicRun.Status.RUNNING)
            if not mine.update(status=ended, finished_at=clock.now(), orders_left=orders, deals_left=deals):
                raise _LeaseLost
            owner = run.account.owner_id
            audit.record(
                owner,
                run.actor,
                "panic_ended",
                f"account:{run.account_id}",
                run=run.pk,
                status=str(ended),
                orders_left=orders,
                deals_left=deals,
                failed=failed,
            )
            is_clean = ended == PanicRun.Status.FINISHED
            words = "everything is sold" if is_clean else f"{deals} deals and {orders} orders are left"
            payload = {
                "code": "panic_ended",
                "level": "info" if is_clean else "warning",
                "message": f"{run.account.name}: the panic sale has ended, {words}.",
                "account_id": run.account_id,
                "panic_run_id": run.pk,
            }
            outbox.publish(people_of_account(run.account_id), "notification", payload, run.account_id)
