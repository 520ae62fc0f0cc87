"""Starting a panic sale, and what there is to know about one.

Automation goes first (F64): in the transaction that writes the run down the account is stopped, so that no order that
adds risk is written any more, and its bots with it. What follows is the work of :mod:`bots.panic.work`, step by step.

What it does not do: turn coins that belong to no deal into another currency, or touch orders that were placed
elsewhere. The pages say so.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import partial

import structlog
from django.db import transaction

from accounts import trading
from accounts.models import Account
from accounts.services import own_account
from bots.panic.models import PanicRun, PanicStep
from bots.safety import stop_account
from positions.cards import DealCard, deal_cards
from positions.models import Order, Position
from positions.states import POSITION_ACTIVE, WORKING
from tradebot.core import audit, clock
from tradebot.core.decimals import ZERO, for_money

__all__ = ["Outlook", "outlook", "running_run", "start", "wake"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a panic sale would come to now: deals, orders to cancel, and value by quote currency where it is known."""

    cards: tuple[DealCard, ...]
    orders: int
    value: dict[str, Decimal]
    unrealised: dict[str, Decimal]
    unpriced: int


def outlook(account: Account) -> Outlook:
    """Return what there is to cancel and to sell at present prices, fees of closing included. Reads only."""
    rows = Position.objects.filter(account=account, status__in=POSITION_ACTIVE).select_related(
        "product", "account", "bot"
    )
    cards = tuple(deal_cards(list(rows.order_by("pk"))))
    value: dict[str, Decimal] = {}
    profit: dict[str, Decimal] = {}
    unpriced = 0
    with for_money():
        for card in cards:
            if not card.held:
                continue
            result, quote = card.figures.unrealised, card.figures.quote
            if result is None:
                unpriced += 1
                continue
            value[quote] = value.get(quote, ZERO) + result.value
            profit[quote] = profit.get(quote, ZERO) + result.profit
    orders = Order.objects.filter(account=account, status__in=WORKING).count()
    return Outlook(cards, orders, value, profit, unpriced)


def running_run(account: Account) -> PanicRun | None:
    """Return the account's panic sale that is under way, None when there is none."""
    return PanicRun.objects.filter(account=account, status=PanicRun.Status.RUNNING).first()


def start(account: Account, actor: str, typed: str) -> PanicRun:
    """Stop the account's automation and begin to sell all; return the run, or the one that is under way.

    Only the owner may, after ``typed``, the account's name. Whoever calls has confirmed the second factor where the
    account is live. Raises InvalidInput (field name), NotFound.
    """
    with transaction.atomic():
        row = own_account(account)
        trading.check_name(row, typed)
        if (under_way := running_run(row)) is not None:
            return under_way
        stopped = stop_account(row, actor)
        run = PanicRun.objects.create(account=row, actor=actor)
        now = clock.now()
        bots = f"{stopped.bots} bot{'' if stopped.bots == 1 else 's'} with it" if stopped.bots else "no bot was running"
        others = f", {stopped.automations} more automations" if stopped.automations else ""
        PanicStep.objects.create(
            account=row,
            run=run,
            kind=PanicStep.Kind.AUTOMATION,
            state=PanicStep.State.DONE,
            what=row.name,
            message=f"The account is stopped, {bots}{others}.",
            tries=1,
            started_at=now,
            finished_at=now,
        )
        audit.record(row.owner_id, actor, "panic_started", f"account:{row.pk}", name=row.name, run=run.pk)
        transaction.on_commit(partial(wake, run.pk), robust=True)
    return run


def wake(run_id: int) -> None:
    """Have a worker go on with the run now; a loop does it within seconds if nobody takes the message."""
    from bots.panic.tasks import go_on

    try:
        go_on.delay(run_id)
    except Exception:  # the run is written down, so it is carried out all the same
        log.exception("panic.not_queued", run=run_id)
