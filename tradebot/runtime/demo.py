"""A demo person with a paper account and two running bots, so that a new installation shows something at once."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from allauth.account.models import EmailAddress
from django.db import transaction

from accounts.access import acting_for
from accounts.models import Account, User
from accounts.services import open_first_account, update_terms
from bots.models import Bot
from bots.services import create_bot, start_bot
from bots.strategies import STRATEGIES
from marketdata import services as market_services
from tradebot.core.errors import TradebotError
from tradebot.runtime.secrets import write_private

__all__ = ["EMAIL", "Demo", "ensure_bots", "ensure_person"]

log = structlog.get_logger(__name__)
EMAIL: Final = "demo@tradebot.local"
STRATEGY: Final = "indicator_dca"
BOTS: Final = (
    ("Demo: small steps", "demo", ("BTC-USD", "ETH-USD", "SOL-USD", "ADA-USD", "LTC-USD", "LINK-USD")),
    ("Demo: balanced", "balanced", ("BTC-USD", "ETH-USD", "SOL-USD")),
)
BUDGET_PCT: Final = 20
TERMS: Final = {"maker_fee_pct": "0.01", "taker_fee_pct": "0.01", "slippage_pct": "0"}
"""Fees of a large trader, so that small steps end within minutes; the account's page shows and changes them."""


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo person; ``password`` is None when they have chosen one of their own."""

    user: User
    account: Account
    password: str | None


def ensure_person(password_file: Path) -> Demo | None:
    """Return the demo person with their account, made now when there is nobody yet; None where there are others.

    The password is made up once and kept in ``password_file``, which only this user can read.
    """
    user = User.objects.filter(email=EMAIL).first()
    if user is None:
        if User.objects.exists():
            return None
        password = secrets.token_urlsafe(9)
        write_private(password_file, f"{password}\n")
        with transaction.atomic():
            user = User.objects.create_user(EMAIL, password)
            EmailAddress.objects.create(user=user, email=EMAIL, verified=True, primary=True)
    account = open_first_account(user)
    kept = password_file.read_text().strip() if password_file.is_file() else ""
    return Demo(user, account, kept if kept and user.check_password(kept) else None)


def ensure_bots(demo: Demo) -> int:
    """Give a demo person who never had a bot the demo bots, running. Returns how many were made.

    A market that does not answer leaves them for the next start.
    """
    with acting_for(demo.user):
        if Bot.objects.exists():
            return 0
        exchange = demo.account.exchange
        symbols = sorted({symbol for _, _, pairs in BOTS for symbol in pairs})
        try:
            market_services.refresh_products(exchange)
            market_services.refresh_prices(exchange, symbols)
            update_terms(demo.account, demo.user.email, **TERMS)
            for name, preset, pairs in BOTS:
                _make(demo, name, preset, pairs)
        except TradebotError as error:
            log.warning("demo bots were not made", reason=error.message)
        return Bot.objects.count()


def _make(demo: Demo, name: str, preset_name: str, symbols: tuple[str, ...]) -> None:
    strategy = STRATEGIES[STRATEGY]
    preset = next(preset for preset in strategy.presets if preset.name == preset_name)
    with transaction.atomic():
        bot = create_bot(
            demo.user,
            account=demo.account,
            name=name,
            strategy=STRATEGY,
            settings=preset.settings.to_json(),  # type: ignore[attr-defined]
            symbols=symbols,
            budget_pct=BUDGET_PCT,
        )
        start_bot(bot, actor=demo.user.email)
