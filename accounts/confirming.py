"""Proving again that it is the person who asks: the second factor before keys are put in and real money is let loose.

A code of the authenticator app (or a recovery code) comes with the request itself. Who has a security key only confirms
with it on the library's own page, and that counts for :data:`KEY_COUNTS_FOR`. Wrong codes are counted and limited as
at sign-in, and an app's code counts once. Who has no second factor is asked to set one up first.
"""

from __future__ import annotations

import time
from typing import Final

from allauth.account.authentication import get_authentication_records
from allauth.account.models import EmailAddress
from allauth.mfa.base.forms import BaseAuthenticateForm
from allauth.mfa.models import Authenticator
from django.http import HttpRequest

from accounts.models import User
from tradebot.core.errors import InvalidInput

__all__ = [
    "KEY_COUNTS_FOR",
    "confirm",
    "confirmed_for_keys",
    "has_second_factor",
    "may_set_one_up",
    "remember_for_keys",
    "takes_codes",
]

KEY_COUNTS_FOR: Final = 300
"""Seconds for which a confirmation with a security key, or one for typing keys in again, counts."""
SESSION_KEY: Final = "keys_confirmed_at"


def has_second_factor(user: User) -> bool:
    """Return whether the person has set up an authenticator app or a security key."""
    kinds = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]
    return bool(Authenticator.objects.filter(user=user, type__in=kinds).exists())


def takes_codes(user: User) -> bool:
    """Return whether the person can type a code: an authenticator app is set up."""
    return bool(Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists())


def may_set_one_up(user: User) -> bool:
    """Return whether the person can set up a second factor now: their e-mail address is confirmed."""
    return bool(EmailAddress.objects.filter(user=user, verified=True).exists())


def confirm(user: User, code: str, request: HttpRequest | None = None) -> None:
    """Make sure that it is ``user`` who asks, by ``code``, or by their security key in the ``request``'s session.

    Raises InvalidInput: ``second_factor_missing``, ``second_factor_needed``, ``second_factor_wrong`` (field code).
    """
    if not has_second_factor(user):
        raise InvalidInput(
            "second_factor_missing",
            "This needs a second factor. Set up an authenticator app or a security key first, under Settings, "
            "Security.",
            field="code",
        )
    if not code.strip():
        if request is not None and _used_security_key(request, user):
            return
        words = "Type the code that your authenticator app shows now."
        if not takes_codes(user):
            words = "Confirm with your security key first, or type a recovery code."
        raise InvalidInput("second_factor_needed", words, field="code")
    form = BaseAuthenticateForm({"code": code.strip()}, user=user)
    if not form.is_valid():
        words = " ".join(form.errors.get("code", ["The code is wrong."]))
        raise InvalidInput("second_factor_wrong", f"{words} A code counts once: wait for the next.", field="code")
    form.authenticator.record_usage()


def remember_for_keys(request: HttpRequest) -> None:
    """Let the person try the keys again for a while without another code: what was typed wrong is typed anew."""
    request.session[SESSION_KEY] = int(time.time())


def confirmed_for_keys(request: HttpRequest) -> bool:
    """Return whether the person has confirmed in this session, for putting keys in, a short while ago."""
    return _is_recent(request.session.get(SESSION_KEY))


def _used_security_key(request: HttpRequest, user: User) -> bool:
    return any(
        record.get("method") == "mfa"
        and record.get("type") == Authenticator.Type.WEBAUTHN
        and record.get("reauthenticated")
        and _is_recent(record.get("at"))
        for record in get_authentication_records(request, user)
    )


def _is_recent(at: object) -> bool:
    return isinstance(at, int | float) and 0 <= time.time() - at < KEY_COUNTS_FOR
