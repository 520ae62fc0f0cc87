"""The one way to a venue: from the account that an order belongs to, never from the caller (F49, F50, F51).

Live venues are built from the account's own keys, and from nobody else's. A client is kept for as long as those keys
are the account's: it is found by account id *and* the version of the keys, which grows with every change (F57), so an
old client is never used again, whichever process made it. :func:`retire` drops it at once where the change is made.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings

from accounts.exchanges.base import Capabilities, Venue
from accounts.models import Account, ExchangeCredential
from marketdata.wire.venues import LIVE
from tradebot.core.errors import MissingInformation, VenueDenied

__all__ = ["capabilities_of", "forget", "register", "retire", "venue_by_keys", "venue_of"]

Builder = Callable[[Account], Venue]
_builders: dict[str, Builder] = {}

MOST_CLIENTS: Final = 200
"""Clients kept in one process; those unused for longest go first."""
_clients: OrderedDict[tuple[int, str, int, str], Venue] = OrderedDict()
_lock = threading.Lock()


def register(kind: str, builder: Builder | None) -> None:
    """Let ``builder`` make the venue of accounts whose exchange is ``kind``; None takes it out again."""
    if builder is None:
        _builders.pop(kind, None)
    else:
        _builders[kind] = builder


def venue_of(account: Account) -> Venue:
    """Return the venue of ``account``.

    Raises MissingInformation for an exchange that we do not speak to, VenueDenied (``no_keys``) for a live account
    without keys.
    """
    if account.is_paper:
        from accounts.exchanges.paper import PaperVenue

        return PaperVenue(account)
    if (builder := _builders.get(account.exchange)) is not None:
        return builder(account)
    if account.exchange in LIVE:
        return _live(account)
    raise MissingInformation(
        "venue_unsupported", "This account's exchange cannot be traded yet.", exchange=account.exchange
    )


def venue_by_keys(account: Account, credential: ExchangeCredential) -> Venue:
    """Return a new connection by just these keys, stored or not, which is not kept: for trying keys out."""
    if (builder := _builders.get(account.exchange)) is not None:
        return builder(account)
    return _built(account, credential, LIVE[account.exchange].base_url())


def capabilities_of(account: Account) -> Capabilities | None:
    """Return what the account's venue offers, without connecting to it; None for an exchange that we do not know."""
    if account.is_paper:
        from accounts.exchanges.paper import PaperVenue

        return PaperVenue.capabilities
    if (builder := _builders.get(account.exchange)) is not None:
        return builder(account).capabilities
    if account.exchange in LIVE:
        from accounts.exchanges.ccxt.dialects import DIALECTS

        return DIALECTS[account.exchange].capabilities
    return None


def retire(account_id: int) -> None:
    """Forget every client of the account: its keys were changed or deleted. Called where that is done."""
    with _lock:
        for key in [key for key in _clients if key[0] == account_id]:
            del _clients[key]


def forget() -> None:
    """Forget every client. For tests, whose accounts' ids are used again after a rollback."""
    with _lock:
        _clients.clear()


def _live(account: Account) -> Venue:
    # The row is read each time: another process may have changed the keys, or taken them away.
    credential = ExchangeCredential.objects.filter(account_id=account.pk).first()
    if credential is None or not credential.api_key:
        retire(account.pk)
        raise VenueDenied("no_keys", "This account has no keys for its exchange.", exchange=account.exchange)
    url = LIVE[account.exchange].base_url()
    key = (account.pk, account.exchange, credential.version, url)
    with _lock:
        if (known := _clients.get(key)) is not None:
            _clients.move_to_end(key)
            return known
    made = _built(account, credential, url)
    with _lock:
        # Somebody else may have been faster: then theirs is everybody's.
        kept = _clients.setdefault(key, made)
        _clients.move_to_end(key)
        for old in [other for other in _clients if other[0] == account.pk and other != key]:
            del _clients[old]
        while len(_clients) > MOST_CLIENTS:
            _clients.popitem(last=False)
    return kept


def _built(account: Account, credential: ExchangeCredential, url: str) -> Venue:
    from accounts.exchanges.ccxt.dialects import DIALECTS
    from accounts.exchanges.ccxt.venue import CcxtVenue, connect

    dialect = DIALECTS[account.exchange]
    fields: tuple[Any, ...] = (credential.api_key, credential.api_secret, credential.passphrase)
    secrets = [field.reveal() for field in fields]
    # What the limits count under: one key used by two accounts has one allowance. It does not tell the key.
    name = hashlib.sha256(f"{account.exchange} {secrets[0]}".encode()).hexdigest()[:16]
    connection = connect(account.pk, dialect, url, name, *secrets, read_seconds=settings.VENUE_TIMEOUT_SECONDS)
    return CcxtVenue(account.pk, dialect, connection)
