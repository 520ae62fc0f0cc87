"""The admin site: sign-in is the same as everywhere, second factor included, and nothing secret is registered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from allauth.account.decorators import secure_admin_login
from django.contrib.admin import AdminSite, ModelAdmin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse

__all__ = ["TradebotAdminSite"]

SECRETS: Final = frozenset({"accounts.apitoken", "mfa.authenticator", "usersessions.usersession"})
"""Tables that show API tokens, second factors or session keys; libraries bring admin pages for some of them."""


class TradebotAdminSite(AdminSite):
    """For staff. Who is not signed in goes to the usual sign-in page, so the admin cannot be entered around it."""

    site_title = site_header = "Tradebot administration"
    index_title = "What the operator looks after"

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[ModelAdmin[Any]] | None = None,
        **options: Any,
    ) -> None:
        models = [model_or_iterable] if isinstance(model_or_iterable, type) else list(model_or_iterable)
        shown = [model for model in models if model._meta.label_lower not in SECRETS]
        super().register(shown, admin_class, **options)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response: HttpResponse = secure_admin_login(super().login)(request, extra_context)
        return response
