"""Whether an account may take risk, and how much: read-only, armed, stopped; and the limits of its orders.

A live account starts *read-only*: it is looked at, what it holds can be sold, nothing is bought. It is *armed* by its
owner, who types its name and confirms with the second factor, and disarmed by a click. *Stopped* is what the kill
switch leaves behind (``bots.safety``); arming is the way out of that as well. A paper account is armed from the start
and only ever stopped.

The states and limits are looked at under the account's lock when an order is written down (``positions.safety``), so
they hold from the moment that they are committed. Every change leaves an audit entry and an event for open pages.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from django.db import transaction

from accounts.access import people_of_account
from accounts.models import Account, ExchangeCredential, TradingLimits
from accounts.services import LARGEST_AMOUNT, own_account
from notifications import outbox
from tradebot.core import audit, clock
from tradebot.core.decimals import HUNDRED, ZERO, dec, plain
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.scoping import current_scope

__all__ = ["LIMITS", "arm", "check_name", "disarm", "editable_account", "kill", "limits_of", "loosened", "set_limits"]

State = Account.TradingState
LIMITS: Final = ("largest_order", "largest_order_pct", "daily_loss", "daily_loss_pct", "max_open_deals")
CURRENCIES: Final = ("USD", "USDC", "USDT", "EUR", "GBP", "BTC", "ETH")
"""What limits may be set in. An order that cannot be valued in it is refused, so it has to be a common one."""
MOST_DEALS: Final = 10_000


def check_name(account: Account, typed: str) -> None:
    """Raise InvalidInput (field name) unless the account's name was typed, as it is."""
    if " ".join(typed.split()) != account.name:
        raise InvalidInput("wrong_name", f"This is not the account's name. Type {account.name}.", field="name")


def arm(account: Account, actor: str, typed: str) -> Account:
    """Let orders that take risk through from now on. Only the owner may, after ``typed``, the account's name.

    Whoever calls has confirmed the second factor where the account is live. Raises InvalidInput (field name;
    ``archived``, ``no_keys``, ``key_cannot_trade``), NotFound.
    """
    with transaction.atomic():
        row = own_account(account)
        check_name(row, typed)
        if row.archived_at is not None:
            raise InvalidInput("archived", f"{row.name} is archived.")
        if not row.is_paper:
            keys = ExchangeCredential.objects.filter(account=row).first()
            if keys is None:
                raise InvalidInput("no_keys", "This account has no keys. Put some in first.")
            if keys.can_trade is False or keys.problem:
                raise InvalidInput(
                    "key_cannot_trade", "Its keys may not trade, as the exchange says. Put others in first."
                )
        return _move(row, State.ARMED, actor, "account_armed")


def disarm(account: Account, actor: str) -> Account:
    """Let no order that takes risk through any more. Whoever may change the account may; bots go on looking.

    Raises InvalidInput for a paper account, NotFound.
    """
    with transaction.atomic():
        row = editable_account(account.pk)
        if row.is_paper:
            raise InvalidInput("paper", f"{row.name} is a paper account: stop it, or stop its bots.")
        if row.is_killed:
            return row
        return _move(row, State.READ_ONLY, actor, "account_disarmed")


def kill(account: Account, actor: str) -> Account:
    """Mark the account as stopped: nothing opens or adds there until its owner arms it again. For ``bots.safety``.

    Inside the caller's transaction. Raises NotFound.
    """
    return _move(editable_account(account.pk), State.KILLED, actor, "account_stopped")


def editable_account(pk: int) -> Account:
    """Return the account, locked, if the bound scope may change it. Inside a transaction. Raises NotFound."""
    row: Account | None = Account.objects.select_for_update(no_key=True).filter(pk=pk).first()
    if row is None or not (current_scope().unlimited or Account.objects.editable().filter(pk=pk).exists()):
        raise NotFound("no_account", "There is no such account.")
    return row


def _move(row: Account, state: str, actor: str, action: str) -> Account:
    if row.trading_state == state:
        return row
    before, row.trading_state = row.trading_state, state
    row.trading_state_at, row.trading_state_by = clock.now(), actor
    row.save(update_fields=["trading_state", "trading_state_at", "trading_state_by"])
    audit.record(
        row.owner_id, actor, action, f"account:{row.pk}", name=row.name, before=str(before), live=not row.is_paper
    )
    payload = {
        "code": action,
        "level": "warning" if state == State.KILLED else "info",
        "message": f"{row.name} is {row.get_trading_state_display().lower()} now, by {actor}.",
        "account_id": row.pk,
        "trading_state": str(state),
    }
    outbox.publish(people_of_account(row.pk), "notification", payload, row.pk)
    return row


# Limits ---------------------------------------------------------------------------------------------------------------


def limits_of(account: Account) -> TradingLimits:
    """Return the account's limits; none are set where there is no row."""
    return TradingLimits.objects.filter(account=account).first() or TradingLimits(account=account)


def loosened(before: TradingLimits, wanted: Mapping[str, Any]) -> list[str]:
    """Return the limits that ``wanted`` would raise or take away. Another currency loosens whatever it counts."""
    found = []
    other = wanted.get("currency", before.currency) != before.currency
    for name in LIMITS:
        old = getattr(before, name)
        new = wanted.get(name, old)
        if old is not None and (new is None or new > old or (other and name in ("largest_order", "daily_loss"))):
            found.append(name)
    return found


def set_limits(account: Account, actor: str, *, confirmed: bool, **wanted: Any) -> TradingLimits:
    """Set limits of the account; what is left out stays, None takes a limit away. Only the owner may.

    Tightening holds at once. Loosening those of a live account needs ``confirmed``: whoever calls has asked for the
    second factor. Raises InvalidInput (the field at fault; ``second_factor_needed``, field code), NotFound.
    """
    unknown = sorted(set(wanted) - {*LIMITS, "currency"})
    if unknown:
        raise InvalidInput("unknown_field", f"There is no {unknown[0]}.", field=unknown[0])
    values = {name: _checked(name, value) for name, value in wanted.items()}
    with transaction.atomic():
        row = own_account(account)
        limits = TradingLimits.objects.select_for_update().filter(account=row).first() or TradingLimits(account=row)
        loose = loosened(limits, values)
        if loose and not row.is_paper and not confirmed:
            raise InvalidInput(
                "second_factor_needed",
                "Loosening a limit of a live account needs the code of your authenticator app.",
                field="code",
                loosened=", ".join(loose),
            )
        before = {name: getattr(limits, name) for name in values}
        for name, value in values.items():
            setattr(limits, name, value)
        changed = {name: [before[name], value] for name, value in values.items() if before[name] != value}
        if changed or limits.pk is None:
            limits.updated_at = clock.now()
            limits.save()
            audit.record(row.owner_id, actor, "limits_changed", f"account:{row.pk}", name=row.name, changed=changed)
    return limits


def _checked(name: str, value: Any) -> Any:
    if name == "currency":
        if value not in CURRENCIES:
            raise InvalidInput("unknown_currency", f"Limits are set in {', '.join(CURRENCIES)}.", field=name)
        return value
    if value is None:
        return None
    if name == "max_open_deals":
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_DEALS:
            raise InvalidInput("out_of_range", f"It is between 1 and {MOST_DEALS}.", field=name, limit=MOST_DEALS)
        return value
    try:
        number = dec(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput("bad_amount", "That is not a number.", field=name) from error
    most: Decimal = HUNDRED if name.endswith("_pct") else LARGEST_AMOUNT
    if not ZERO < number <= most or number != round(number, 18):
        unit = " percent" if name.endswith("_pct") else ""
        raise InvalidInput("out_of_range", f"It is above zero and at most {plain(most)}{unit}.", field=name, limit=most)
    return number
