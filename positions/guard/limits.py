"""A guard's limits as its owner changes them, and releasing an account that it has stopped.

Both need the present equity: no change of a number closes deals, and nothing is released that would be stopped again at
once. Everything else that writes the guard's rows is in :mod:`.service`.
"""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db import transaction

from accounts.models import Account, PropGuardEvent, PropGuardRules, PropGuardState
from marketdata import sources
from positions.booking import lock_account
from positions.guard import moved, rules
from positions.guard.equity import Measured
from positions.guard.judging import drawdowns
from positions.guard.moved import Listed
from positions.guard.records import money, rules_of, state_of, tell, write_event
from positions.guard.service import measure_now
from tradebot.core import audit, clock
from tradebot.core.decimals import HUNDRED, dec, plain, quantize
from tradebot.core.errors import InvalidInput, NotFound, TradebotError
from tradebot.core.scoping import current_scope

__all__ = ["CHANGEABLE", "change_rules", "reset"]

LARGEST: Final = Decimal(10) ** 15
CHANGEABLE: Final = (
    "enabled",
    "currency",
    "initial_deposit",
    "daily_limit_pct",
    "total_limit_pct",
    "max_spread_pct",
    "equity_max_age_seconds",
    "day_start",
    "day_zone",
)


def reset(account: Account, actor: str, confirm: str, *, rebase: bool = False) -> PropGuardState:
    """Release a killed account. ``confirm`` is the account's name, typed by a person; bots and automation stay off.

    The day begins anew with the present equity. With ``rebase`` the initial deposit becomes the present equity too;
    without it an account that is still below its total limit is not released. Only the owner may.

    Raises InvalidInput: ``not_confirmed`` (field confirm), ``not_killed``, ``still_closing``, ``still_breached`` (field
    rebase), ``equity_unknown``; NotFound.
    """
    account = _owned(account)
    found = rules_of(account)
    if confirm.strip() != account.name:
        raise InvalidInput("not_confirmed", f"Type the account's name, {account.name}, to release it.", field="confirm")
    if found is None or not found.enabled:
        raise InvalidInput("guard_off", f"{account.name} has no guard that is on.")
    measured, listed = _known(account, found)
    with transaction.atomic():
        account = _owned(account)
        found, state = rules_of(account), state_of(account)
        if found is None or state.killed_at is None:
            raise InvalidInput("not_killed", "The guard has not stopped this account.")
        if state.settled_at is None:
            text = f" {state.closing_error}" if state.closing_error else ""
            raise InvalidInput("still_closing", f"Its deals are still being closed.{text}")
        value = quantize(measured.equity)
        _take(found, state, measured, listed)
        total = drawdowns(found, state)[PropGuardState.Reason.TOTAL]
        assert total is not None  # the equity was measured just now
        if total.is_reached and not rebase:
            raise InvalidInput(
                "still_breached",
                f"The account is worth {money(value)} {found.currency}, {plain(quantize(total.pct, 2))} % below its "
                f"initial deposit of {money(found.initial_deposit)}; the limit is {plain(found.total_limit_pct)} %. "
                "Releasing it means starting over with the present equity as the deposit.",
                field="rebase",
                equity=value,
                initial_deposit=found.initial_deposit,
                limit_pct=found.total_limit_pct,
            )
        before = {"reason": state.kill_reason, "since": state.killed_at, "initial_deposit": found.initial_deposit}
        if rebase:
            found.initial_deposit, found.changed_at = value, clock.now()
            found.save(update_fields=["initial_deposit", "changed_at"])
        state.killed_at, state.settled_at, state.kill_reason = None, None, ""
        state.kill_message, state.kill_numbers, state.killed_by, state.closing_error = "", {}, "", ""
        _begin_anew(found, state, measured, deposit=rebase)
        words = f"Released by {actor} with an equity of {money(value)} {found.currency}." + (
            " The initial deposit is that equity now." if rebase else ""
        )
        write_event(account, PropGuardEvent.Kind.RESET, words, actor, equity=value, rebased=rebase, before=before)
        audit.record(
            account.owner_id,
            actor,
            "guard_reset",
            f"account:{account.pk}",
            name=account.name,
            equity=value,
            rebased=rebase,
            before=before,
        )
        tell(account, "guard_reset", "info", f"{account.name}: {words} Its bots stay stopped until you start them.")
    return state


def change_rules(account: Account, actor: str, **changes: Any) -> PropGuardRules:
    """Change an account's limits, or switch its guard on or off. Only the owner may.

    ``changes`` are fields of :class:`PropGuardRules` (``CHANGEABLE``). A guard goes on, or is tightened, only while the
    equity is known and within the new limits: no change of a number closes deals. While the account is killed nothing
    is changed. Raises InvalidInput naming the field, NotFound.
    """
    unknown = sorted(set(changes) - set(CHANGEABLE))
    if unknown:
        raise InvalidInput("unknown_field", f"There is no {unknown[0]}.", field=unknown[0])
    account = _owned(account)
    wanted = rules_of(account) or PropGuardRules(account=account)
    for name, value in changes.items():
        setattr(wanted, name, _checked(name, value))
    measured, listed = None, moved.NOTHING
    if wanted.enabled:
        if account.exchange == sources.REPLAY:
            raise InvalidInput("no_guard", "A recording has a clock of its own; a guard needs the present.")
        if account.archived_at is not None:
            raise InvalidInput("archived", f"{account.name} is archived.")
        measured, listed = _known(account, wanted)
    with transaction.atomic():
        account = _owned(account)
        found, state = rules_of(account) or PropGuardRules(account=account), state_of(account)
        if state.killed_at is not None:
            raise InvalidInput("guard_killed", "The guard has stopped this account. Release it first.")
        before = {name: getattr(found, name) for name in CHANGEABLE}
        was_on = found.enabled
        for name in changes:
            setattr(found, name, getattr(wanted, name))
        after = {name: getattr(found, name) for name in CHANGEABLE}
        changed = {name: [before[name], after[name]] for name in CHANGEABLE if before[name] != after[name]}
        if not changed and found.pk is not None:
            return found
        if found.enabled:
            assert measured is not None
            deposit = not was_on or bool({"currency", "initial_deposit"} & set(changed))
            if not was_on or {"currency", "day_start", "day_zone"} & set(changed):
                _begin_anew(found, state, measured, deposit=deposit)
            else:
                _take(found, state, measured, listed, deposit=deposit)
                state.save()
            _refuse_breach(found, state)
        found.changed_at = clock.now()
        found.save()
        write_event(account, PropGuardEvent.Kind.RULES, _said(changed), actor, changes=changed)
        audit.record(
            account.owner_id, actor, "guard_rules", f"account:{account.pk}", name=account.name, changes=changed
        )
    return found


def _begin_anew(found: PropGuardRules, state: PropGuardState, measured: Measured, *, deposit: bool) -> None:
    """Let the guard's day begin with this measurement, and with ``deposit`` the initial deposit be of this moment."""
    value = quantize(measured.equity)
    state.day_began_at = rules.day_start(clock.now(), found.day_start, ZoneInfo(found.day_zone))
    state.day_start_equity, state.day_measured_at = value, measured.at
    state.last_equity, state.last_equity_at = value, measured.at
    state.failed_at, state.error_code, state.error_text = None, "", ""
    moved.begin_anew(state, measured, deposit=deposit)
    state.save()


def _take(
    found: PropGuardRules, state: PropGuardState, measured: Measured, listed: Listed, *, deposit: bool = False
) -> None:
    """Let the account stand where this measurement says; a new ``deposit`` is of this moment. Saves nothing."""
    if deposit:
        state.total_balances_at, state.total_listed_at = measured.balances_at, None
    moved.note(state, found, measured, listed)
    state.last_equity, state.last_equity_at = quantize(measured.equity), measured.at


def _refuse_breach(found: PropGuardRules, state: PropGuardState) -> None:
    fields = {PropGuardState.Reason.TOTAL: "total_limit_pct", PropGuardState.Reason.DAILY: "daily_limit_pct"}
    for reason, drawdown in drawdowns(found, state).items():
        if drawdown is not None and drawdown.is_reached:
            raise InvalidInput(
                "would_breach",
                f"The account is worth {money(drawdown.equity)} {found.currency}, "
                f"{plain(quantize(drawdown.pct, 2))} % below {money(drawdown.base)}: with this limit it would be "
                "stopped and its deals closed at once.",
                field=fields[PropGuardState.Reason(reason)],
                equity=state.last_equity,
                base=drawdown.base,
                limit_pct=drawdown.limit_pct,
            )


def _known(account: Account, found: PropGuardRules) -> tuple[Measured, Listed]:
    """Return what the account is worth now, and what is known of money that was moved.

    Raises InvalidInput (``equity_unknown``) when its worth is not known.
    """
    try:
        measured = measure_now(account, found)
        return measured, moved.known(account, found, state_of(account), measured)
    except TradebotError as error:
        raise InvalidInput(
            "equity_unknown", f"What the account is worth is not known now: {error.message}", field="currency"
        ) from error


# Checks -------------------------------------------------------------------------------------------------------------


def _checked(name: str, value: Any) -> Any:
    """Return one rule as it is stored. Raises InvalidInput naming it."""
    if name == "enabled":
        return bool(value)
    if name == "currency":
        return _currency(value)
    if name == "day_start":
        return _day_start(value)
    if name == "day_zone":
        return _day_zone(value)
    if name == "equity_max_age_seconds":
        return int(_number(name, value, Decimal(5), Decimal(300), whole=True))
    if name == "initial_deposit":
        return _number(name, value, Decimal("0.01"), LARGEST)
    return _number(name, value, Decimal("0.01"), HUNDRED if name != "max_spread_pct" else Decimal(20))


def _number(name: str, value: Any, lowest: Decimal, highest: Decimal, *, whole: bool = False) -> Decimal:
    try:
        number = dec(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput("not_a_number", "It has to be a number.", field=name) from error
    if not lowest <= number <= highest or number != round(number, 0 if whole else 18):
        kind = "a whole number" if whole else "a number"
        raise InvalidInput(
            "out_of_range", f"It is {kind} from {plain(lowest)} to {plain(highest)}.", field=name, asked=number
        )
    return number


def _currency(value: Any) -> str:
    currency = str(value).strip().upper()
    if not (currency.isalnum() and currency.isascii() and len(currency) <= 20):
        raise InvalidInput("bad_currency", "A currency is up to 20 letters and digits, such as USD.", field="currency")
    return currency


def _day_start(value: Any) -> time:
    try:
        moment = value if isinstance(value, time) else time.fromisoformat(str(value))
    except ValueError as error:
        raise InvalidInput("bad_time", "It is a time of day, such as 17:00.", field="day_start") from error
    if moment.tzinfo is not None:
        raise InvalidInput("bad_time", "It is a time of day without a zone.", field="day_start")
    return moment.replace(second=0, microsecond=0)


def _day_zone(value: Any) -> str:
    name = str(value).strip()
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput("bad_zone", "There is no such time zone.", field="day_zone") from error
    return name


# Rows and words -----------------------------------------------------------------------------------------------------


def _owned(account: Account) -> Account:
    """Return the account, fresh, if the bound scope is its owner's (or the system's)."""
    scope = current_scope()
    row: Account | None = Account.objects.filter(pk=account.pk).first()
    if row is None or not (scope.unlimited or scope.owner_id == row.owner_id):
        raise NotFound("no_account", "There is no such account.")
    return lock_account(account.pk) if transaction.get_connection().in_atomic_block else row


def _said(changed: dict[str, list[Any]]) -> str:
    if changed.get("enabled") == [False, True]:
        return "The guard is on."
    if changed.get("enabled") == [True, False]:
        return "The guard is off."
    names = ", ".join(name.replace("_pct", "").replace("_", " ") for name in changed)
    return f"Changed: {names}."
