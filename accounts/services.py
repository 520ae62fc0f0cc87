"""What happens to accounts: opened, funded, reset, renamed, archived, shared. Each act leaves an audit entry.

Everything works inside the bound scope: an account outside of it is not found, one that may only be looked at is not
changed. ``actor`` is the e-mail address of whoever acts, or the part of the system that does, for the audit entry.
Refusals are InvalidInput with a sentence for the person and the field at fault, where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction

from accounts import transfers
from accounts.access import acting_for
from accounts.amounts import LARGEST_AMOUNT
from accounts.amounts import checked_amount as _amount
from accounts.amounts import checked_currency as _currency
from accounts.exchanges.paper_ledger import Ledger
from accounts.models import Account, Membership, PaperBalance, PaperEntry, PaperOrder, PaperTerms, PropGuardRules, User
from marketdata import sources
from notifications.outbox import close_sockets
from tradebot.core import audit, clock
from tradebot.core.decimals import ZERO, dec, plain
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.scoping import ForeignRow, adopt_new_account, current_scope, detached, scope_or_none
from tradebot.core.words import OrderStatus

__all__ = [
    "LARGEST_AMOUNT",
    "archive_account",
    "create_paper_account",
    "deposit",
    "free_account_name",
    "leave",
    "open_first_account",
    "own_account",
    "rename",
    "reset_paper",
    "revoke",
    "set_default",
    "share",
    "update_terms",
    "withdraw",
]

FIRST_NAME: Final = "Paper"
WORKING: Final = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)
TERMS: Final = ("maker_fee_pct", "taker_fee_pct", "slippage_pct", "fee_currency")


# Opening -------------------------------------------------------------------------------------------------------------


def open_first_account(user: User) -> Account:
    """Give a new person a paper account with the usual start balances, on the market that new accounts get at present.

    A person who has an account already keeps what they have: the default one is returned, or the oldest. Works without
    a scope too, because nobody is signed in yet at sign-up.
    """
    with acting_for(user) if scope_or_none() is None else nullcontext():
        existing = Account.objects.filter(owner=user).order_by("-is_default", "pk").first()
        if existing is not None:
            return existing
        return create_paper_account(user, FIRST_NAME, sources.default_market())


def create_paper_account(user: User, name: str, exchange: str, start: Mapping[str, Decimal] | None = None) -> Account:
    """Open a paper account of ``user`` that trades on the market ``exchange``, and let the bound scope reach it.

    ``start`` is what it begins with, by currency (default: settings.PAPER_START; zeros are fine). The first account of
    a person becomes the default one. Raises InvalidInput (fields name, exchange, start).
    """
    if exchange not in sources.SLUGS:
        raise InvalidInput("unknown_market", f"There is no market {exchange!r}.", field="exchange")
    given = settings.PAPER_START if start is None else start
    amounts = {_currency(currency, "start"): _amount(amount, "start", zero=True) for currency, amount in given.items()}
    now = clock.now()
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        account = Account.objects.create(
            owner=user,
            name=free_account_name(user.pk, name),
            kind=Account.Kind.PAPER,
            exchange=exchange,
            is_default=not Account.objects.filter(owner=user, is_default=True).exists(),
            created_at=now,
            trading_state=Account.TradingState.ARMED,
        )
        adopt_new_account(account.pk, user.pk)
        PaperTerms.objects.create(account=account)
        ledger = Ledger([account.pk], now)
        for currency, amount in amounts.items():
            ledger.change(account.pk, currency, amount, PaperEntry.Kind.DEPOSIT, note="start")
        ledger.write()
        transfers.take_paper(account, now)
        _note(account, user.email, "account_opened", exchange=exchange, start=amounts)
    return account


# Money ---------------------------------------------------------------------------------------------------------------


def deposit(account: Account, currency: str, amount: Decimal, actor: str) -> PaperBalance:
    """Put paper money in. ``amount`` is above zero, at most :data:`LARGEST_AMOUNT`. Returns the new balance.

    Raises InvalidInput (fields currency, amount), NotFound.
    """
    return _move(account, currency, amount, actor, PaperEntry.Kind.DEPOSIT)


def withdraw(account: Account, currency: str, amount: Decimal, actor: str) -> PaperBalance:
    """Take paper money out, at most what resting orders have not claimed. Returns the new balance.

    Raises InvalidInput (fields currency, amount), NotFound.
    """
    return _move(account, currency, amount, actor, PaperEntry.Kind.WITHDRAWAL)


def _move(account: Account, currency: str, amount: Decimal, actor: str, kind: PaperEntry.Kind) -> PaperBalance:
    currency, amount = _currency(currency, "currency"), _amount(amount, "amount")
    with transaction.atomic():
        ledger = _ledger(account)
        _refuse_while_guarded(account)
        if kind == PaperEntry.Kind.WITHDRAWAL:
            free = ledger.free(account.pk, currency)
            if amount > free:
                raise InvalidInput(
                    "above_free",
                    f"At most {plain(free)} {currency} can be taken out: the rest is not there or claimed by orders.",
                    field="amount",
                    free=free,
                    asked=amount,
                )
            amount = -amount
        ledger.change(account.pk, currency, amount, kind)
        ledger.write()
        transfers.take_paper(account, ledger.now)
        _note(account, actor, f"paper_{kind.value}", currency=currency, amount=abs(amount))
        return ledger.balance(account.pk, currency)


def reset_paper(account: Account, actor: str, start: Mapping[str, Decimal] | None = None) -> None:
    """Set a paper account's balances back to ``start`` (default: settings.PAPER_START).

    The journal goes on: it gets an entry for each difference, nothing is deleted. Raises InvalidInput while orders
    rest or deals are open, because those count on what is there; NotFound.
    """
    given = settings.PAPER_START if start is None else start
    amounts = {_currency(currency, "start"): _amount(amount, "start", zero=True) for currency, amount in given.items()}
    with transaction.atomic():
        ledger = _ledger(account)
        _refuse_while_guarded(account)
        _refuse_while_busy(account, "reset")
        before = {}
        for currency in sorted({*ledger.currencies(account.pk), *amounts}):
            before[currency] = ledger.balance(account.pk, currency).total
            difference = amounts.get(currency, ZERO) - before[currency]
            ledger.change(account.pk, currency, difference, PaperEntry.Kind.RESET)
        ledger.write()
        transfers.take_paper(account, ledger.now)
        _note(account, actor, "paper_reset", before=before, after=amounts)


def update_terms(account: Account, actor: str, **terms: Any) -> PaperTerms:
    """Change what trading on a paper account costs: ``maker_fee_pct``, ``taker_fee_pct``, ``slippage_pct`` (percent,
    0 to 5), ``fee_currency`` ("quote", or "base": of buys).

    Counts from the next fill; an order that rests pays at most what was claimed for it. Raises InvalidInput with the
    field, NotFound.
    """
    unknown = sorted(set(terms) - set(TERMS))
    if unknown:
        raise InvalidInput("unknown_field", f"There is no {unknown[0]}.", field=unknown[0])
    with transaction.atomic():
        _ledger(account)
        row = PaperTerms.objects.filter(account=account).first() or PaperTerms(account=account)
        before = {name: getattr(row, name) for name in terms}
        for name, value in terms.items():
            setattr(row, name, _fee_currency(value) if name == "fee_currency" else _percent(value, name))
        if row.fee_currency != before.get("fee_currency", row.fee_currency) and _resting(account):
            raise InvalidInput(
                "working_orders",
                "Cancel the resting orders first: they claim for the fee as it is.",
                field="fee_currency",
            )
        row.save()
        _note(account, actor, "paper_terms", before=before, after={name: getattr(row, name) for name in terms})
    return row


# The account itself --------------------------------------------------------------------------------------------------


def rename(account: Account, name: str, actor: str) -> Account:
    """Give the account another name, unique among its owner's. Only the owner may.

    Raises InvalidInput (field name), NotFound.
    """
    with transaction.atomic():
        row = own_account(account)
        before, row.name = row.name, free_account_name(row.owner_id, name, besides=row.pk)
        row.save(update_fields=["name"])
        _note(row, actor, "account_renamed", before=before, after=row.name)
    return row


def set_default(account: Account, actor: str) -> Account:
    """Make it its owner's default account. Only the owner may. Raises InvalidInput for an archived one, NotFound."""
    with transaction.atomic():
        row = own_account(account)
        if row.archived_at is not None:
            raise InvalidInput("archived", f"{row.name} is archived.")
        if not row.is_default:
            Account.objects.filter(owner_id=row.owner_id, is_default=True).update(is_default=False)
            row.is_default = True
            row.save(update_fields=["is_default"])
            _note(row, actor, "account_default")
    return row


def archive_account(account: Account, actor: str) -> Account:
    """Take the account off the lists; its history stays. A default account hands that on to its owner's oldest other.

    Only the owner may. Raises InvalidInput for the only listed account, and while orders rest, deals are open or bots
    run on it; NotFound.
    """
    with transaction.atomic():
        row = own_account(account)
        if row.archived_at is not None:
            return row
        others = Account.objects.filter(owner_id=row.owner_id, archived_at__isnull=True).exclude(pk=row.pk)
        heir = others.order_by("pk").first()
        if heir is None:
            raise InvalidInput("only_account", "It is the only account: open another one first.")
        _refuse_while_busy(row, "archived")
        if row.bots.filter(status="running").exists():
            raise InvalidInput("bots_running", "Stop its bots first: an account with running bots cannot be archived.")
        was_default, row.is_default, row.archived_at = row.is_default, False, clock.now()
        row.save(update_fields=["is_default", "archived_at"])
        if was_default:
            heir.is_default = True
            heir.save(update_fields=["is_default"])
        _note(row, actor, "account_archived")
    return row


# Sharing -------------------------------------------------------------------------------------------------------------


def share(account: Account, email: str, role: str, expires: datetime | None, actor: str) -> Membership | None:
    """Let another person look at the account (observer) or act on it (manager), for good or until ``expires`` (aware).

    Only an address that its person has confirmed gets a share: anybody could have signed up with another one. For all
    others nothing happens and None is returned, which interfaces do not pass on, so that sharing does not tell who is
    here (F52). Sharing again changes role and end. Only the owner shares. Raises InvalidInput (fields email, role,
    expires), NotFound for an account that is not the person's own.
    """
    if role not in Membership.Role.values:
        raise InvalidInput("unknown_role", f"There is no role {role!r}.", field="role")
    if expires is not None and (expires.tzinfo is None or expires <= clock.now()):
        raise InvalidInput("bad_expiry", "The end of a share lies in the future.", field="expires")
    with transaction.atomic():
        row = own_account(account)
        address = email.strip().lower()
        if address == row.owner.email:
            raise InvalidInput("own_account", "It is your own account.", field="email")
        confirmed = EmailAddress.objects.filter(email=address, verified=True, user__is_active=True)
        found = confirmed.exclude(user_id=row.owner_id).select_related("user").first()
        if found is None:
            return None
        person: User = found.user
        membership, _ = Membership.objects.update_or_create(
            account=row, user=person, defaults={"role": role, "expires_at": expires}
        )
        _note(row, actor, "account_shared", email=person.email, role=role, expires=expires)
        close_sockets(person.pk)  # it comes back by itself, with what the person may see now
    return membership


def revoke(account: Account, user_id: int, actor: str) -> None:
    """End a person's share. Only the owner may. Raises NotFound when there is none to end."""
    with transaction.atomic():
        row = own_account(account)
        gone = Membership.objects.filter(account_id=row.pk, user_id=user_id).select_related("user").first()
        if gone is None:
            raise NotFound("no_membership", "There is no such share.")
        gone.delete()
        _note(row, actor, "account_share_ended", email=gone.user.email, role=gone.role)
        close_sockets(user_id)  # F54


def leave(account: Account, user: User) -> None:
    """Give up one's own share of somebody else's account. The bound scope is ``user``'s.

    Raises InvalidInput for one's own account, NotFound where there is no share to give up.
    """
    if current_scope().owner_id != user.pk:
        raise ForeignRow("a share is left by the person who has it")
    with transaction.atomic():
        row = Account.objects.filter(pk=account.pk).first()
        if row is None:
            raise NotFound("no_account", "There is no such account.")
        if row.owner_id == user.pk:
            raise InvalidInput("own_account", "It is your own account, so it cannot be left.")
        with detached("an observer may give up a share that is the account's row, which they may not change"):
            gone = Membership.objects.filter(account_id=row.pk, user_id=user.pk).first()
            if gone is None:
                raise NotFound("no_membership", "There is no such share.")
            gone.delete()
        _note(row, user.email, "account_left", email=user.email, role=gone.role)
        close_sockets(user.pk)  # F54


# Details -------------------------------------------------------------------------------------------------------------


def _note(account: Account, actor: str, action: str, **detail: Any) -> None:
    audit.record(account.owner_id, actor, action, f"account:{account.pk}", name=account.name, **detail)


def own_account(account: Account) -> Account:
    """Return the account, locked, if the bound scope is its owner's (or the system's)."""
    scope = current_scope()
    row = Account.objects.select_for_update(no_key=True).filter(pk=account.pk).first()
    if row is None or not (scope.unlimited or scope.owner_id == row.owner_id):
        raise NotFound("no_account", "There is no such account.")
    return row


def _ledger(account: Account) -> Ledger:
    if not account.is_paper:
        raise InvalidInput("not_paper", f"{account.name} is not a paper account.")
    return Ledger([account.pk], clock.now())


def _resting(account: Account) -> bool:
    return bool(PaperOrder.objects.filter(account_id=account.pk, status__in=WORKING).exists())


def _refuse_while_busy(account: Account, what: str) -> None:
    if _resting(account):
        raise InvalidInput(
            "working_orders", f"Cancel its resting orders first: the account cannot be {what} with them."
        )
    if account.positions.filter(closed_at__isnull=True).exists():
        raise InvalidInput("open_deals", f"Close or cancel its deals first: the account cannot be {what} with them.")


def _refuse_while_guarded(account: Account) -> None:
    """Raise InvalidInput while loss limits are on: money that moves would count as a gain, or as a loss."""
    if PropGuardRules.objects.filter(account_id=account.pk, enabled=True).exists():
        raise InvalidInput(
            "guarded",
            f"The loss limits of {account.name} would take this for a gain or a loss. Switch them off first.",
        )


def free_account_name(owner_id: int, name: str, besides: int | None = None) -> str:
    """Return the name as it is kept. Raises InvalidInput (field name) for one that is none, or taken by the owner's."""
    cleaned = " ".join(name.split())
    longest = Account._meta.get_field("name").max_length or 0
    if not cleaned or len(cleaned) > longest or not cleaned.isprintable():
        raise InvalidInput("bad_name", f"A name has 1 to {longest} characters.", field="name")
    if Account.objects.filter(owner_id=owner_id, name=cleaned).exclude(pk=besides).exists():
        raise InvalidInput("name_taken", f"You have an account named {cleaned} already.", field="name")
    return cleaned


def _percent(value: Any, field: str) -> Decimal:
    try:
        number = dec(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput("bad_percent", "That is not a number.", field=field) from error
    if not ZERO <= number <= 5 or number != round(number, 18):
        raise InvalidInput("bad_percent", "It is between 0 and 5 percent.", field=field, limit=Decimal(5))
    return number


def _fee_currency(value: Any) -> str:
    if value not in PaperTerms.FeeCurrency.values:
        raise InvalidInput("bad_fee_currency", "Fees are taken in quote or base.", field="fee_currency")
    return str(value)
