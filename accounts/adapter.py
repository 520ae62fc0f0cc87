"""How allauth behaves here: sign-up respects the global switch and gives each new person a paper account."""

from __future__ import annotations

from decimal import Context, localcontext
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.http import HttpRequest

from tradebot.core.models import GlobalSettings

__all__ = ["AccountAdapter", "MFAAdapter"]


class AccountAdapter(DefaultAccountAdapter):
    """Sign-up can be closed by the operator; a new person starts with a paper account."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return GlobalSettings.load().signup_open

    def save_user(self, request: HttpRequest, user: Any, form: Any, commit: bool = True) -> Any:
        from accounts.services import open_first_account

        user = super().save_user(request, user, form, commit=commit)
        if commit:
            open_first_account(user)
        return user


class MFAAdapter(DefaultMFAAdapter):
    """Second-factor secrets are encrypted at rest with the same keys as everything else."""

    def build_totp_svg(self, url: str) -> str:
        # The library that draws the code mixes floats with decimals, which money's context refuses.
        with localcontext(Context(traps=[])):
            return str(super().build_totp_svg(url))

    def encrypt(self, text: str) -> str:
        from tradebot.core.crypto import seal

        return seal(text, "mfa")

    def decrypt(self, encrypted_text: str) -> str:
        from tradebot.core.crypto import unseal

        return unseal(encrypted_text, "mfa")
