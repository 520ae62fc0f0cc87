"""Bots in the admin site: to look at, and to repair those that lost their account."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.access import acting_for
from accounts.models import Account, User
from bots import services
from bots.autobuy import admin as auto_buy_admin  # noqa: F401 (registers its own pages)
from bots.backtesting import admin as backtest_admin  # noqa: F401 (registers its own pages)
from bots.models import Bot, BotTemplate, CoinReview, Decision, Signal
from tradebot.core.admin import ReadOnlyAdmin
from tradebot.core.errors import TradebotError


class OrphanedFilter(admin.SimpleListFilter):
    """Bots without an account: they cannot run until they get one."""

    title = "orphaned"
    parameter_name = "orphaned"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Orphaned"), ("no", "On an account")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(account__isnull=chosen == "yes")


@admin.register(Bot)
class BotAdmin(ReadOnlyAdmin):
    """Bots of everybody. Their owners change them; the operator repairs orphaned ones."""

    list_display = ["name", "owner", "account", "status", "strategy", "quote_currency", "last_checked_at", "last_error"]
    list_filter = [OrphanedFilter, "status", "strategy", ("archived_at", admin.EmptyFieldListFilter)]
    list_select_related = ["owner", "account"]
    search_fields = ["name", "owner__email", "account__name"]
    actions = ["assign_to_default_account"]

    def has_repair_permission(self, request: HttpRequest) -> bool:
        """Return whether this member of staff may put bots on accounts."""
        return bool(request.user.has_perm("bots.change_bot"))

    @admin.action(description="Assign to the owner's default account", permissions=["repair"])
    def assign_to_default_account(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Put orphaned bots on their owners' default accounts. They stay stopped until somebody starts them."""
        assert isinstance(request.user, User)
        assigned = 0
        for bot in queryset.select_related("owner"):
            problem = _assign(bot, request.user.email)
            if problem:
                messages.warning(request, f"{bot.name} of {bot.owner.email}: {problem}")
            else:
                assigned += 1
        if assigned:
            messages.success(request, f"Assigned {assigned} {'bot' if assigned == 1 else 'bots'}.")


def _assign(bot: Bot, actor: str) -> str:
    """Put an orphaned bot on its owner's default account, acting as the owner; return what stands against it."""
    if not bot.is_orphan:
        return "it has an account."
    with acting_for(bot.owner):
        account = Account.objects.filter(owner=bot.owner, is_default=True, archived_at__isnull=True).first()
        if account is None:
            return "its owner has no default account."
        try:
            services.assign_account(bot, account, actor)
        except TradebotError as error:
            return error.message
    return ""


@admin.register(BotTemplate)
class BotTemplateAdmin(ReadOnlyAdmin):
    """Presets, and the templates that people keep."""

    list_display = ["name", "owner", "strategy", "created_at"]
    list_filter = [("owner", admin.EmptyFieldListFilter), "strategy"]
    list_select_related = ["owner"]
    search_fields = ["name", "owner__email"]


@admin.register(Decision)
class DecisionAdmin(ReadOnlyAdmin):
    """What bots decided."""

    list_display = ["at", "account", "bot", "product", "phase", "action", "code", "message"]
    list_filter = ["phase", "action"]
    list_select_related = ["account", "bot", "product"]
    search_fields = ["bot__name", "code", "account__owner__email"]


@admin.register(Signal)
class SignalAdmin(ReadOnlyAdmin):
    """What bots were told."""

    list_display = ["received_at", "bot", "kind", "product", "confidence", "source", "verdict", "reason"]
    list_filter = ["kind", "source", "verdict"]
    list_select_related = ["bot", "product"]
    search_fields = ["bot__name", "bot__owner__email", "external_id"]


@admin.register(CoinReview)
class CoinReviewAdmin(ReadOnlyAdmin):
    """What people think of coins, for themselves."""

    list_display = ["code", "owner", "category", "reason", "updated_at"]
    list_filter = ["category"]
    list_select_related = ["owner"]
    search_fields = ["code", "owner__email"]
