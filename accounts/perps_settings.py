"""How an account trades perpetual futures: whether at all, with which leverage and margin mode unless said otherwise.

An account without settings of its own trades them on paper with the model's defaults, and nowhere else.
"""

from __future__ import annotations

from typing import Any, Final

from django.db import transaction

from accounts.exchanges.perps_rules import MAX_LEVERAGE
from accounts.models import Account, PerpsSettings
from marketdata.models import Product
from tradebot.core import audit, clock
from tradebot.core.errors import InvalidInput, OrderRefused
from tradebot.core.words import MarginMode

__all__ = ["most_leverage", "require", "settings_of", "update"]

FIELDS: Final = ("enabled", "default_leverage", "max_leverage", "margin_mode")


def settings_of(account: Account) -> PerpsSettings:
    """Return the account's settings; unsaved defaults where it has none of its own."""
    found = PerpsSettings.objects.filter(account=account).first()
    return found or PerpsSettings(account=account, enabled=account.is_paper)


def most_leverage(settings: PerpsSettings, product: Product) -> int:
    """Return the highest leverage for a new position: the account's, the product's and ours, whichever is the least."""
    return min(settings.max_leverage, product.max_leverage or MAX_LEVERAGE, MAX_LEVERAGE)


def require(account: Account, product: Product, leverage: int) -> None:
    """Raise OrderRefused (``perpetuals_off``) or InvalidInput (``leverage``) unless the account may open with it."""
    settings = settings_of(account)
    if not settings.enabled:
        raise OrderRefused("perpetuals_off", f"Perpetuals are switched off for {account.name}.")
    most = most_leverage(settings, product)
    if not 1 <= leverage <= most:
        raise InvalidInput(
            "out_of_range",
            f"{product.symbol} can be traded with a leverage of 1 to {most} on this account.",
            field="leverage",
            limit=most,
            asked=leverage,
        )


def update(account: Account, actor: str, **changes: Any) -> PerpsSettings:
    """Change the account's settings; open positions stay as they are. Raises InvalidInput naming the field."""
    with transaction.atomic():
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        settings = settings_of(account)
        before = {name: getattr(settings, name) for name in FIELDS}
        for name in FIELDS:
            if name in changes:
                setattr(settings, name, changes[name])
        for name in ("max_leverage", "default_leverage"):
            if not 1 <= getattr(settings, name) <= MAX_LEVERAGE:
                raise InvalidInput(
                    "out_of_range", f"A leverage lies between 1 and {MAX_LEVERAGE}.", field=name, limit=MAX_LEVERAGE
                )
        if settings.default_leverage > settings.max_leverage:
            raise InvalidInput(
                "above_limit",
                f"It is {settings.default_leverage}, above the highest leverage of {settings.max_leverage}.",
                field="default_leverage",
            )
        if settings.margin_mode not in set(MarginMode):
            raise InvalidInput("invalid", "The margin is isolated or cross.", field="margin_mode")
        settings.updated_at = clock.now()
        settings.save()
        after = {name: getattr(settings, name) for name in FIELDS}
        if after != before or settings._state.adding:
            audit.record(account.owner_id, actor, "perps_settings", account.name, before=before, after=after)
    return settings
