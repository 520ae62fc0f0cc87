"""People, accounts and shares in the admin site. Money and orders are not changed here; keys are not shown at all."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from django import forms
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import BaseUserCreationForm
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from accounts import services
from accounts.models import Account, Membership, PaperBalance, PaperEntry, Transfer, User, ValueSnapshot
from notifications.outbox import close_sockets
from tradebot.core.admin import AuditedAdmin, ReadOnlyAdmin


class NewUserForm(BaseUserCreationForm):
    class Meta:
        model = User
        fields = ["email"]

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"]
        return email.lower()


@admin.register(User)
class UserAdmin(AuditedAdmin, DjangoUserAdmin):
    """People. They are deactivated, never deleted: their deals are history."""

    list_display = ["email", "is_active", "is_staff", "is_superuser", "date_joined", "last_login"]
    list_filter = ["is_active", "is_staff", "is_superuser"]
    search_fields = ["email"]
    ordering = ["email"]
    readonly_fields = ["set_password", "last_login", "date_joined"]
    add_form = NewUserForm
    add_form_template = None
    add_fieldsets = ((None, {"fields": ("email", "password1", "password2")}),)
    fieldsets = (
        (None, {"fields": ("email", "set_password", "timezone", "theme")}),
        ("Permissions", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "user_permissions")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    @admin.display(description="password")
    def set_password(self, user: User) -> str:
        address = reverse("admin:auth_user_password_change", args=[user.pk])
        return format_html('<a href="{}">Set another password</a>', address)

    def person_of(self, obj: Any) -> int | None:
        person: int | None = obj.pk
        return person

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            services.open_first_account(obj)
        elif "is_active" in form.changed_data and not obj.is_active:
            close_sockets(obj.pk)


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    """Accounts. Their keys are nowhere in the admin site."""

    list_display = ["name", "owner", "kind", "exchange", "is_default", "created_at", "archived_at"]
    list_filter = ["kind", "exchange", "is_default", ("archived_at", admin.EmptyFieldListFilter)]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__email"]


class MembershipForm(forms.ModelForm):
    """A share: whose account, with whom, as what, until when."""

    class Meta:
        model = Membership
        fields = ["account", "user", "role", "expires_at"]

    def clean(self) -> dict[str, Any] | None:
        user = self.cleaned_data.get("user")
        if user is not None and not EmailAddress.objects.filter(user=user, email=user.email, verified=True).exists():
            self.add_error("user", "This person has not confirmed their address.")
        return super().clean()


@admin.register(Membership)
class MembershipAdmin(AuditedAdmin):
    """Who shares whose account. A share is not rewritten into another one: it is ended, and made anew."""

    form = MembershipForm
    list_display = ["account", "owner", "user", "role", "created_at", "expires_at"]
    list_filter = ["role"]
    list_select_related = ["account__owner", "user"]
    search_fields = ["account__name", "account__owner__email", "user__email"]
    autocomplete_fields = ["account", "user"]

    @admin.display(ordering="account__owner__email")
    def owner(self, row: Membership) -> str:
        return row.account.owner.email

    def person_of(self, obj: Any) -> int | None:
        owner: int = obj.account.owner_id
        return owner

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        row = services.share(obj.account, obj.user.email, obj.role, obj.expires_at, actor=_actor(request))
        assert row is not None  # the form has asked whether the address is confirmed
        obj.pk = row.pk

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        services.revoke(obj.account, obj.user_id, actor=_actor(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset.select_related("account"):
            self.delete_model(request, row)


@admin.register(PaperBalance)
class PaperBalanceAdmin(ReadOnlyAdmin):
    """What paper accounts have."""

    list_display = ["account", "currency", "total", "held"]
    list_filter = ["currency"]
    list_select_related = ["account"]
    search_fields = ["account__name", "account__owner__email"]


@admin.register(PaperEntry)
class PaperEntryAdmin(ReadOnlyAdmin):
    """What changed them."""

    list_display = ["at", "account", "currency", "kind", "amount", "balance_after", "note"]
    list_filter = ["kind", "currency"]
    list_select_related = ["account"]
    search_fields = ["account__name", "account__owner__email"]
    date_hierarchy = "at"


@admin.register(Transfer)
class TransferAdmin(ReadOnlyAdmin):
    """What came into accounts and what left them."""

    list_display = ["at", "account", "currency", "amount", "value_usd", "source", "note"]
    list_filter = ["source", "currency"]
    list_select_related = ["account"]
    search_fields = ["external_id", "account__name", "account__owner__email"]
    date_hierarchy = "at"


@admin.register(ValueSnapshot)
class ValueSnapshotAdmin(ReadOnlyAdmin):
    """What accounts were worth, day by day."""

    list_display = ["date", "account", "value_usd", "value_btc", "complete", "taken_at"]
    list_filter = ["complete"]
    list_select_related = ["account"]
    search_fields = ["account__name", "account__owner__email"]
    date_hierarchy = "date"


def _actor(request: HttpRequest) -> str:
    assert isinstance(request.user, User)
    return request.user.email
