"""A second factor for tests: an authenticator app, and recovery codes that count as its codes, each once."""

from __future__ import annotations

from collections.abc import Callable

from allauth.core import context
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.test import RequestFactory

from accounts.models import User

__all__ = ["second_factor"]


def second_factor(user: User) -> Callable[[], str]:
    """Set up an authenticator app for ``user`` and return what gives the next good code."""
    with context.request_context(RequestFactory().get("/")):
        TOTP.activate(user, generate_totp_secret())
        codes = iter(RecoveryCodes.activate(user).get_unused_codes())
    return lambda: next(codes)
