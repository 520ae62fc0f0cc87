"""An exchange account's keys: tried before they are kept, replaced, removed, checked again. They only go in.

1. Keys are tidied up as they come from a clipboard, and put to the venue: what may they do, what do they see, what does
   trading cost? Nothing is stored before it has answered.
2. Keys that may not look or not trade are refused with the reason. Keys that may withdraw are refused until the person
   says that they are wanted so: Tradebot never withdraws, but whoever steals such a key can.
3. What is stored is encrypted and bound to its account, under a version that never repeats (F57), beside what the venue
   said. A new account starts read-only (see ``accounts.trading``).

No function here returns keys or puts them into an error, an event or an audit entry. Whoever calls has made sure that
it is the owner who asks (``accounts.confirming``). Venues are called, so nothing runs inside a transaction.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.db import transaction

from accounts import balances
from accounts.exchanges import factory
from accounts.exchanges.base import Balance, KeyPermissions, Venue
from accounts.exchanges.connectable import Connectable, offered_as
from accounts.models import Account, ExchangeCredential, User
from accounts.services import free_account_name, own_account
from tradebot.core import audit, clock
from tradebot.core.crypto import Secret
from tradebot.core.errors import InvalidInput, TradebotError, VenueDenied, VenueError, VenueThrottled
from tradebot.core.limits import seconds_to_wait
from tradebot.core.scoping import adopt_new_account

__all__ = [
    "KeyCheck",
    "Keys",
    "check_again",
    "connect",
    "read_keys",
    "remove_keys",
    "replace_keys",
    "try_keys",
]

log = structlog.get_logger(__name__)
LONGEST: Final = 8_000
CHECKS: Final = 10
CHECKS_SECONDS: Final = 600
_PEM: Final = re.compile(r"(-----BEGIN ([A-Z ]+)-----)(.*?)(-----END \2-----)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Keys:
    """What a person typed in, tidied up."""

    api_key: Secret
    api_secret: Secret
    passphrase: Secret


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """What the venue said: what the keys may do, what they see, and the fees (maker, taker; fractions) if it says."""

    permissions: KeyPermissions
    balances: Mapping[str, Balance]
    fees: tuple[Decimal, Decimal] | None


def read_keys(exchange: str, api_key: str, api_secret: str, passphrase: str = "") -> Keys:
    """Return the keys as the venue wants them. Raises InvalidInput (fields exchange, api_key, api_secret, passphrase).

    A private key keeps its lines, however it was pasted: with line ends written out as ``\\n``, with blanks in their
    place, or with those of Windows. No error repeats what was typed.
    """
    venue = offered_as(exchange)
    found = {
        "api_key": _unquoted(api_key),
        "api_secret": _tidy_secret(_unquoted(api_secret)),
        "passphrase": passphrase.strip(),
    }
    for field, text in found.items():
        if field == "passphrase" and not venue.wants_passphrase:
            if text:
                raise InvalidInput("not_wanted", f"{venue.name} knows no passphrase: leave it empty.", field=field)
            continue
        if not text:
            raise InvalidInput("required", "This is needed.", field=field)
        if len(text) > LONGEST:
            raise InvalidInput("too_long", f"It has at most {LONGEST} characters.", field=field)
    _check_private_key(found["api_secret"])
    if not found["api_key"].isprintable() or any(blank in found["api_key"] for blank in " \t"):
        raise InvalidInput("bad_key", "A key's name is one word, without blanks or line ends.", field="api_key")
    return Keys(*(Secret(text) for text in found.values()))


def try_keys(exchange: str, keys: Keys, *, accept_withdrawal: bool = False) -> KeyCheck:
    """Ask the venue what these keys may do and see (steps 1 and 2 above). Nothing is stored.

    Raises InvalidInput: ``key_refused``, ``key_cannot_view``, ``key_cannot_trade`` (field api_key),
    ``key_may_withdraw`` (field accept_withdrawal); VenueError when the venue could not be asked.
    """
    venue = offered_as(exchange)
    account = Account(kind=Account.Kind.EXCHANGE, exchange=exchange)
    account.credential = _filled(ExchangeCredential(account=account), keys)
    check = _asked(venue, account)
    _refuse_unfit(venue, check.permissions, accept_withdrawal)
    return check


def connect(
    user: User, exchange: str, name: str, keys: Keys, *, accept_withdrawal: bool = False
) -> tuple[Account, KeyCheck]:
    """Connect an exchange account of ``user`` by these keys, and let the bound scope reach it. It starts read-only.

    Raises what :func:`try_keys` raises, InvalidInput (field name) for its name, (field api_key) for a key that is
    connected already, and ``too_many_checks``.
    """
    free_account_name(user.pk, name)  # before the venue is troubled
    _refuse_known_key(user.pk, keys)
    _count(user.pk)
    check = try_keys(exchange, keys, accept_withdrawal=accept_withdrawal)
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        account = Account.objects.create(
            owner=user,
            name=free_account_name(user.pk, name),
            kind=Account.Kind.EXCHANGE,
            exchange=exchange,
            is_default=not Account.objects.filter(owner=user, is_default=True).exists(),
            keys_changed=1,
        )
        adopt_new_account(account.pk, user.pk)
        _store(account, keys, check)
        _note(
            account, user.email, "exchange_connected", check, exchange=exchange, accepted_withdrawal=accept_withdrawal
        )
    _look_at(account)
    return account, check


def replace_keys(account: Account, actor: str, keys: Keys, *, accept_withdrawal: bool = False) -> KeyCheck:
    """Put other keys in the place of the account's, once the venue has taken them. Only the owner may.

    Keys of another portfolio are refused while deals are open, whose coins are in this one. Raises what
    :func:`try_keys` raises, InvalidInput (field api_key), NotFound.
    """
    row = _own_exchange_account(account)
    _refuse_known_key(row.owner_id, keys, besides=row.pk)
    _count(row.owner_id)
    check = try_keys(row.exchange, keys, accept_withdrawal=accept_withdrawal)
    with transaction.atomic():
        row = _own_exchange_account(account)
        before = ExchangeCredential.objects.filter(account=row).first()
        bound_to = before.portfolio if before is not None else ""
        other = bool(bound_to and check.permissions.portfolio and bound_to != check.permissions.portfolio)
        if other and row.positions.filter(closed_at__isnull=True).exists():
            raise InvalidInput(
                "other_portfolio",
                f"These keys belong to “{check.permissions.portfolio}”, the account's deals are in “{bound_to}”. Close "
                "them first, or connect the keys as an account of their own.",
                field="api_key",
            )
        row.keys_changed += 1
        row.save(update_fields=["keys_changed"])
        _store(row, keys, check, before)
        _note(row, actor, "keys_replaced", check, accepted_withdrawal=accept_withdrawal)
    factory.retire(row.pk)
    _look_at(row)
    return check


@transaction.atomic
def remove_keys(account: Account, actor: str) -> Account:
    """Forget the account's keys at once, and make it read-only: nobody reaches the venue through it any more.

    Possible at any time, whatever is open there: keys that leaked cannot wait. Only the owner may. Raises NotFound.
    """
    row = _own_exchange_account(account)
    removed = ExchangeCredential.objects.filter(account=row).delete()[0]
    if not removed:
        return row
    transaction.on_commit(lambda: factory.retire(row.pk))
    row.keys_changed += 1
    if row.trading_state == Account.TradingState.ARMED:
        row.trading_state = Account.TradingState.READ_ONLY
        row.trading_state_at, row.trading_state_by = clock.now(), actor
    row.save(update_fields=["keys_changed", "trading_state", "trading_state_at", "trading_state_by"])
    audit.record(row.owner_id, actor, "keys_removed", f"account:{row.pk}", name=row.name)
    return row


def check_again(account: Account, actor: str) -> ExchangeCredential:
    """Ask the venue again what the account's keys may do, and keep the answer, also a no. Only the owner may.

    Raises InvalidInput (``no_keys``, ``too_many_checks``), VenueError when the venue could not be asked.
    """
    row = _own_exchange_account(account)
    stored = ExchangeCredential.objects.filter(account=row).first()
    if stored is None:
        raise InvalidInput("no_keys", "This account has no keys. Put some in first.")
    _count(row.owner_id)
    row.credential = stored
    problem, check = "", None
    try:
        check = _asked(offered_as(row.exchange), row)
    except InvalidInput as error:
        problem = error.message
    values: dict[str, Any] = {"checked_at": clock.now(), "problem": problem[:300]}
    if check is not None:
        values |= _said(check.permissions)
    with transaction.atomic():
        changed = ExchangeCredential.objects.filter(account=row, version=stored.version).update(**values)
        if changed:
            _note(row, actor, "keys_checked", check, problem=problem)
    return ExchangeCredential.objects.get(account=row)


# Asking the venue -----------------------------------------------------------------------------------------------------


def _asked(venue: Connectable, account: Account) -> KeyCheck:
    """Put the three questions. A venue that does not know the keys is a mistake in them, not of ours."""
    try:
        connection: Venue = venue.open_with(account)
        permissions = connection.permissions()
        held = connection.balances() if permissions.can_view is not False else {}
    except (VenueDenied, InvalidInput) as error:
        raise InvalidInput(
            "key_refused", f"{venue.name} does not take this key: {error.message}", field="api_key"
        ) from None
    except VenueError:
        raise
    except TradebotError as error:
        raise InvalidInput("key_refused", error.message, field="api_key") from None
    except ValueError:
        raise _bad_secret() from None
    fees = None
    try:
        fees = connection.fee_rates()
    except VenueError as error:
        log.info("keys.fees_not_told", exchange=venue.slug, code=error.code)
    return KeyCheck(permissions, held, fees)


def _refuse_unfit(venue: Connectable, permissions: KeyPermissions, accept_withdrawal: bool) -> None:
    if permissions.can_view is False:
        raise InvalidInput(
            "key_cannot_view",
            f"{venue.name} says that this key may not look at the account. Make one that may view and trade.",
            field="api_key",
        )
    if permissions.can_trade is False:
        raise InvalidInput(
            "key_cannot_trade",
            f"{venue.name} says that this key may not trade. Make one that may view and trade.",
            field="api_key",
        )
    if permissions.can_withdraw and not accept_withdrawal:
        raise InvalidInput(
            "key_may_withdraw",
            "This key may move money out of the exchange. Tradebot never does, but whoever gets hold of the key can. "
            "Make one without that right, or say below that you want this one all the same.",
            field="accept_withdrawal",
        )


def _count(user_id: int) -> None:
    wait = seconds_to_wait("key_checks", str(user_id), CHECKS, CHECKS_SECONDS)
    if wait:
        raise VenueThrottled(
            "too_many_checks",
            f"Keys can be checked {CHECKS} times in {CHECKS_SECONDS // 60} minutes. Try again in {wait} s.",
            retry_after=wait,
        )


def _refuse_known_key(owner_id: int, keys: Keys, besides: int | None = None) -> None:
    """Refuse a key that another account of the same person uses: its money would be counted twice."""
    wanted = keys.api_key.reveal()
    rows = ExchangeCredential.objects.filter(account__owner_id=owner_id).exclude(account_id=besides)
    for row in rows.select_related("account"):
        if row.api_key.reveal() == wanted:
            raise InvalidInput("key_known", f"This key is connected already, as {row.account.name}.", field="api_key")


def _look_at(account: Account) -> None:
    """Write down what the account holds, so that its page shows it at once; the loop does it otherwise."""
    try:
        balances.refresh(account)
    except TradebotError as error:
        log.info("keys.balances_not_told", account=account.pk, code=error.code)


# Storing --------------------------------------------------------------------------------------------------------------


def _store(account: Account, keys: Keys, check: KeyCheck, row: ExchangeCredential | None = None) -> None:
    row = _filled(row or ExchangeCredential(account=account), keys)
    row.version, row.updated_at, row.checked_at, row.problem = account.keys_changed, clock.now(), clock.now(), ""
    for name, value in _said(check.permissions).items():
        setattr(row, name, value)
    row.save()


def _filled(row: ExchangeCredential, keys: Keys) -> ExchangeCredential:
    for name in ("api_key", "api_secret", "passphrase"):
        setattr(row, name, getattr(keys, name))
    return row


def _said(permissions: KeyPermissions) -> dict[str, Any]:
    return {
        "can_view": permissions.can_view,
        "can_trade": permissions.can_trade,
        "can_withdraw": permissions.can_withdraw,
        "portfolio": permissions.portfolio[:120],
    }


def _note(account: Account, actor: str, action: str, check: KeyCheck | None, **detail: Any) -> None:
    said = _said(check.permissions) if check is not None else {}
    audit.record(account.owner_id, actor, action, f"account:{account.pk}", name=account.name, **said, **detail)


def _own_exchange_account(account: Account) -> Account:
    with transaction.atomic():
        row = own_account(account)
    if row.is_paper:
        raise InvalidInput("paper", f"{row.name} is a paper account: it has no keys.")
    return row


def _bad_secret() -> InvalidInput:
    # Libraries say more, in words that may hold parts of what was typed.
    return InvalidInput(
        "bad_secret",
        "This is not a secret of the form that the exchange gives out. Copy all of it, first and last line included.",
        field="api_secret",
    )


# Tidying up -----------------------------------------------------------------------------------------------------------


def _unquoted(text: str) -> str:
    """Return what was pasted without blanks around it, and without the quotes of the file that it was copied from."""
    text = text.strip().rstrip(",").strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text


def _tidy_secret(text: str) -> str:
    """Return a private key with its lines (RFC 7468), anything else without line ends."""
    text = text.replace("\\r", "").replace("\\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    found = _PEM.search(text)
    if found is None:
        return text.strip() if "\n" not in text.strip() else "".join(text.split())
    begin, _, body, end = found.groups()
    packed = "".join(body.split())
    lines = [packed[at : at + 64] for at in range(0, len(packed), 64)]
    return "\n".join([begin, *lines, end]) + "\n"


def _check_private_key(text: str) -> None:
    """Raise InvalidInput for what begins like a private key and cannot be read as one."""
    if "-----BEGIN" not in text:
        return
    try:
        load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _bad_secret() from None
