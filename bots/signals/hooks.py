"""A bot's hook: its address, its secret (made, replaced, revoked) and how late an alert may be.

A secret is shown when it is made and never again; only its SHA-256 is kept (F55). It is 256 random bits, which makes a
slow hash pointless: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from django.db import transaction

from bots.models import Bot, SignalHook
from bots.services import editable_bot, record
from bots.signals.models import LONGEST_LAG, SHORTEST_LAG
from tradebot.core import clock
from tradebot.core.errors import InvalidInput
from tradebot.core.scoping import detached

__all__ = ["digest_of", "found", "hook_of", "renew_secret", "revoke_secret", "set_max_lag"]

_NOBODYS: Final = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
"""Compared with where there is no hook, so that finding none takes as long as a wrong secret."""


def digest_of(secret: str) -> str:
    """Return what is kept of a secret: its SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def hook_of(bot: Bot) -> SignalHook | None:
    """Return the bot's hook, None before it was first given a secret. In the scope of whoever asks."""
    found: SignalHook | None = SignalHook.objects.filter(bot=bot).first()
    return found


@transaction.atomic
def renew_secret(bot: Bot, actor: str) -> tuple[SignalHook, str]:
    """Return the bot's hook with a new secret; the one before it lets nothing in from now on.

    This is the only moment the secret can be read. The address stays the same. Raises NotFound, InvalidInput.
    """
    bot = _workable(bot)
    hook = SignalHook.objects.select_for_update(of=("self",)).filter(bot=bot).first() or SignalHook(bot=bot)
    is_new = not hook.secret_digest
    secret = secrets.token_urlsafe(32)
    hook.secret_digest, hook.secret_made_at = digest_of(secret), clock.now()
    hook.save()
    record(bot, actor, "bot.hook_opened" if is_new else "bot.hook_secret_replaced")
    return hook, secret


@transaction.atomic
def revoke_secret(bot: Bot, actor: str) -> None:
    """Let nothing in by the bot's hook any more. Signals that came stay. Raises NotFound."""
    bot = editable_bot(bot)
    closed = SignalHook.objects.filter(bot=bot).exclude(secret_digest="").update(secret_digest="", secret_made_at=None)
    if closed:
        record(bot, actor, "bot.hook_closed")


@transaction.atomic
def set_max_lag(bot: Bot, seconds: int, actor: str) -> SignalHook:
    """Say how many seconds an alert may have been under way. Raises InvalidInput (max_lag_seconds), NotFound."""
    if not SHORTEST_LAG <= seconds <= LONGEST_LAG:
        raise InvalidInput(
            "bad_lag",
            f"An alert may be {SHORTEST_LAG} to {LONGEST_LAG:,} seconds old, not {seconds:,}.",
            field="max_lag_seconds",
        )
    bot = _workable(bot)
    hook = SignalHook.objects.select_for_update(of=("self",)).filter(bot=bot).first() or SignalHook(bot=bot)
    before = hook.max_lag_seconds
    if before != seconds or hook.pk is None:
        hook.max_lag_seconds = seconds
        hook.save()
        record(bot, actor, "bot.hook_changed", changes={"max_lag_seconds": [before, seconds]})
    return hook


def _workable(bot: Bot) -> Bot:
    bot = editable_bot(bot)
    if bot.archived_at is not None:
        raise InvalidInput("bot_archived", "An archived bot is told nothing any more.")
    if bot.account_id is None:
        raise InvalidInput("bot_orphaned", "The bot has no account, so it can be told nothing.", field="account")
    return bot


def found(public_id: str, secret: str) -> SignalHook | None:
    """Return the hook at this address, its ``bot`` at hand, if ``secret`` is its secret; else None.

    None too for a bot that is archived or has no account. One answer and the same work for an address that does not
    exist and for a wrong secret.
    """
    with detached("a hook's address and secret say whose bot it is, so nobody is known before they are checked"):
        hook: SignalHook | None = (
            SignalHook.objects.select_related("bot")
            .filter(public_id=public_id, bot__archived_at__isnull=True, bot__account__isnull=False)
            .first()
        )
    kept = hook.secret_digest if hook is not None and hook.is_open else _NOBODYS
    matches = hmac.compare_digest(digest_of(secret), kept)
    return hook if matches and kept is not _NOBODYS else None
