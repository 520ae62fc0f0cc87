"""Celery entry points of the loops over orders and values: each runs one service and records that it did.

A loop finds out which accounts there is something to do for. Paper accounts it does itself, in one go. An account on an
exchange becomes a task of its own, so that one whose venue is slow or away keeps no other one waiting (F67, F69).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from celery import shared_task

from accounts import balances, transfers
from accounts.models import Account
from positions import daymarks, perps_loop, perps_news, standstill, strangers
from positions import reconcile as service
from positions.guard import closing, judging
from positions.guard import service as guard
from positions.portfolio import snapshots
from positions.sales import service as sales
from tradebot.core import health
from tradebot.core.errors import TradebotError
from tradebot.core.scoping import acting_for_account, all_accounts

__all__ = [
    "ask_for_balances",
    "cancel_entries",
    "cancel_entries_of_stopped",
    "close_account",
    "close_after_guard",
    "compare_account",
    "go_on_with_sales",
    "go_on_with_sales_of",
    "mark_days",
    "measure_after_reading",
    "measure_guarded",
    "monitor_resting",
    "poll_account",
    "prune_equity",
    "read_late_funding",
    "reconcile",
    "reconcile_account",
    "refresh_account",
    "report_unmatched_fills",
    "take_value_snapshots",
    "tend_account",
    "tend_perpetuals",
]

GUARD_SECONDS: Final = 10
health.LOOPS.update({"guard": GUARD_SECONDS, "guard closing": GUARD_SECONDS})


@shared_task
def reconcile() -> None:
    """Ask the venues about every order that is not final."""
    with health.loop("reconcile", service.LOOPS["reconcile"]):
        paper, live = _by_kind(service.accounts_with_working_orders())
        _hand_out(reconcile_account, live, service.LOOPS["reconcile"])
        service.reconcile_all(paper)


@shared_task
def reconcile_account(account_id: int) -> None:
    """Ask one exchange about one account's orders."""
    service.reconcile_all([account_id])


@shared_task
def monitor_resting() -> None:
    """Match resting paper orders and book what resting orders got."""
    with health.loop("resting orders", service.LOOPS["resting orders"]):
        found = service.resting_accounts()
        _hand_out(poll_account, [pk for pk, market in found.items() if not market], service.LOOPS["resting orders"])
        service.monitor_resting({pk: market for pk, market in found.items() if market})


@shared_task
def poll_account(account_id: int) -> None:
    """Book what one exchange account's resting orders got."""
    service.monitor_resting({account_id: ""})


@shared_task
def report_unmatched_fills() -> None:
    """Report executions that belong to no order of ours."""
    with health.loop("unmatched fills", service.LOOPS["unmatched fills"]):
        _hand_out(compare_account, strangers.accounts_to_compare(), service.LOOPS["unmatched fills"])


@shared_task
def compare_account(account_id: int) -> None:
    """Compare one exchange account's executions with ours."""
    strangers.report_all_strangers([account_id])


@shared_task
def ask_for_balances() -> None:
    """Ask the exchanges what their accounts hold."""
    with health.loop("exchange balances", service.LOOPS["exchange balances"]):
        _hand_out(refresh_account, strangers.accounts_to_compare(), service.LOOPS["exchange balances"])


@shared_task
def refresh_account(account_id: int) -> None:
    """Ask one exchange what one account holds; a failure is written down with the account."""
    with acting_for_account(account_id):
        try:
            balances.refresh(Account.objects.get(pk=account_id))
        except TradebotError:
            return  # noted where the pages find it


@shared_task
def tend_perpetuals() -> None:
    """Settle paper perpetuals, book what venues did by themselves, and see that brackets stand."""
    with health.loop("perpetuals", perps_loop.LOOPS["perpetuals"]):
        paper, live = _by_kind(perps_loop.accounts_with_perpetuals())
        _hand_out(tend_account, live, perps_loop.LOOPS["perpetuals"])
        perps_loop.tend_all(paper)


@shared_task
def tend_account(account_id: int) -> None:
    """Look after one exchange account's perpetuals."""
    perps_loop.tend_all([account_id])


@shared_task
def go_on_with_sales() -> None:
    """Hand over what purchases and sales brought, and begin the second steps of conversions."""
    with health.loop("sales", sales.LOOPS["sales"]):
        paper, live = _by_kind(sales.accounts_to_go_on_with())
        _hand_out(go_on_with_sales_of, live, sales.LOOPS["sales"])
        sales.go_on_all(paper)


@shared_task
def go_on_with_sales_of(account_id: int) -> None:
    """Do so for one exchange account."""
    sales.go_on_all([account_id])


@shared_task
def read_late_funding() -> None:
    """Look after exchange accounts once more whose perpetual deals have ended: the last funding may be told late."""
    with health.loop("late funding", perps_loop.LOOPS["late funding"]):
        _, live = _by_kind(perps_loop.accounts_with_perpetuals(perps_news.LATE))
        _hand_out(tend_account, live, perps_loop.LOOPS["late funding"])


@shared_task
def cancel_entries(account_id: int) -> None:
    """Take back what a stopped account still has in the book to buy with."""
    standstill.cancel_entries(account_id)


@shared_task
def cancel_entries_of_stopped() -> None:
    """Do so for every stopped account, until nothing is left."""
    with health.loop(standstill.LOOP, standstill.LOOP_SECONDS):
        standstill.cancel_entries_of_stopped()


@shared_task
def mark_days() -> None:
    """Keep the figures that daily loss limits are counted from."""
    with health.loop(daymarks.LOOP, daymarks.LOOP_SECONDS):
        daymarks.mark_all()


@shared_task
def measure_guarded() -> None:
    """Measure every account that has a guard; one beyond a limit is stopped. Asks no venue: who has to gets a task."""
    with health.loop("guard", GUARD_SECONDS):
        _hand_out(measure_after_reading, guard.refresh_all().unread, int(judging.PATIENCE.total_seconds()))


@shared_task
def measure_after_reading(account_id: int) -> None:
    """Read what one guarded account's exchange lists of deposits and withdrawals, then measure the account again."""
    transfers.read_all([account_id])
    with acting_for_account(account_id):
        guard.refresh(account_id)


@shared_task
def close_after_guard() -> None:
    """Close what accounts still have open that their guard has stopped."""
    with health.loop("guard closing", GUARD_SECONDS):
        paper, live = _by_kind(closing.accounts_to_settle())
        closing.carry_out_all(paper)
        _hand_out(close_account, live, GUARD_SECONDS)


@shared_task
def close_account(account_id: int) -> None:
    """Close what one exchange account still has open that its guard has stopped."""
    closing.carry_out_all([account_id])


@shared_task
def prune_equity() -> None:
    """Delete old snapshots of equity."""
    guard.prune()


@shared_task
def take_value_snapshots() -> None:
    """Write down what accounts are worth, once a day."""
    with health.loop("value snapshots", snapshots.LOOPS["value snapshots"]):
        snapshots.take_all()


def _by_kind(account_ids: list[int]) -> tuple[list[int], list[int]]:
    with all_accounts("which of the accounts at hand are on an exchange"):
        live = set(Account.objects.filter(pk__in=account_ids, kind=Account.Kind.EXCHANGE).values_list("pk", flat=True))
    return [pk for pk in account_ids if pk not in live], sorted(live)


def _hand_out(task: Any, account_ids: Iterable[int], every_seconds: int) -> None:
    for account_id in account_ids:
        task.apply_async(args=(account_id,), expires=max(every_seconds * 0.9, 1.0))
