"""Admin pages of what every app relies on, and the two base classes of all of them.

The admin site shows every row to staff. It changes little: services are the writers of everything about money, so most
pages are to look at. Whatever is changed here leaves an audit entry.
"""

from __future__ import annotations

from typing import Any

from celery import current_app
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html

from tradebot.core import audit, clock, health
from tradebot.core.models import AuditEntry, GlobalSettings, LoopState

__all__ = ["AuditedAdmin", "ReadOnlyAdmin"]


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows to look at."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AuditedAdmin(admin.ModelAdmin):
    """Rows that staff may change; each change is written down with what it was before."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        obj.admin_changes = {
            name: [_plain(form.initial.get(name)), _plain(form.cleaned_data.get(name))]
            for name in form.changed_data
            if "password" not in name
        }
        super().save_model(request, obj, form, change)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._note(request, obj, "admin.added")
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._note(request, obj, "admin.changed", message=message if isinstance(message, str) else "")
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            self._note(request, obj, "admin.deleted")
        return super().log_deletions(request, queryset)

    def _note(self, request: HttpRequest, obj: Any, action: str, **detail: Any) -> None:
        actor = request.user
        assert actor.is_authenticated
        whose = self.person_of(obj) or actor.pk
        target = f"{obj._meta.model_name}:{obj.pk}"
        changes = getattr(obj, "admin_changes", {})
        audit.record(whose, actor.email, action, target, name=str(obj), changes=changes, **detail)

    def person_of(self, obj: Model) -> int | None:
        """Return the id of whose thing the row is; None for what is the operator's."""
        return getattr(obj, "owner_id", None) or getattr(obj, "user_id", None)


def _plain(value: Any) -> Any:
    if isinstance(value, QuerySet | list | tuple):
        return [str(one) for one in value]
    return str(value) if isinstance(value, Model) else value


@admin.register(GlobalSettings)
class GlobalSettingsAdmin(AuditedAdmin):
    """The one row of settings; the list leads straight to it."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        row = GlobalSettings.load()
        return redirect(reverse(f"{self.admin_site.name}:core_globalsettings_change", args=[row.pk]))


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Who did what to what. Kept for good."""

    list_display = ["at", "actor", "action", "target", "user"]
    list_filter = ["action"]
    list_select_related = ["user"]
    search_fields = ["actor", "action", "target", "user__email"]
    date_hierarchy = "at"


@admin.register(LoopState)
class LoopStateAdmin(ReadOnlyAdmin):
    """Whether each recurring loop is alive (F71)."""

    list_display = [
        "name",
        "state",
        "age",
        "expected_seconds",
        "last_duration_seconds",
        "runs",
        "failures",
        "last_error",
    ]

    class Media:
        css = {"all": ["tradebot/admin.css"]}

    @admin.display(description="state")
    def state(self, row: LoopState) -> str:
        """A word and a colour: well, late, or never succeeded."""
        word, kind = "well", "well"
        if row.last_success_at is None:
            word, kind = "never succeeded", "never"
        elif self._age(row) > health.allowed_age(row.expected_seconds):
            word, kind = "late", "late"
        return format_html('<span class="state-{}">{}</span>', kind, word)

    @admin.display(description="seconds since last success")
    def age(self, row: LoopState) -> str:
        return "" if row.last_success_at is None else f"{self._age(row):.0f}"

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        current_app.loader.import_default_modules()  # the modules that define loops enter them in health.LOOPS
        never = health.LOOPS.keys() - set(LoopState.objects.values_list("name", flat=True))
        if never:
            messages.warning(request, f"Never started: {', '.join(sorted(never))}.")
        return super().changelist_view(request, extra_context)

    @staticmethod
    def _age(row: LoopState) -> float:
        assert row.last_success_at is not None
        return (clock.now() - row.last_success_at).total_seconds()
