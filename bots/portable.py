"""Bots as documents and as copies: export, import, clone, and copy to another account.

A copy is a new, stopped bot. What is copied is what a person could have typed: name, settings, pairs and budget; never
ids, deals or state. A document comes from outside, so everything in it is checked as if it had been typed, and nothing
in it says whose the new bot is: the account it is made on says that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from accounts.models import Account, User
from bots import services
from bots.models import Bot, BudgetKind
from bots.strategies.forms import refusal
from marketdata.models import Product
from tradebot.core.decimals import plain
from tradebot.core.errors import InvalidInput

__all__ = ["LARGEST_DOCUMENT", "Copy", "clone_bot", "copy_bot", "exported", "import_bot", "read_document"]

FORMAT: Final = "tradebot-bot"
VERSION: Final = 1
LARGEST_DOCUMENT: Final = 256 * 1024
"""Bytes. A bot with 200 pairs and every condition there can be needs a tenth of it."""

_Amount = Annotated[Decimal, Field(allow_inf_nan=False, ge=0, lt=Decimal(10) ** 20)]


class _Document(BaseModel):
    """A bot as a file. The strategy's schema checks ``settings``, the market the pairs."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["tradebot-bot"] = FORMAT
    version: Literal[1]
    name: str = Field(min_length=1, max_length=services.MAX_NAME)
    strategy: str = Field(default="indicator_dca", max_length=40)
    settings: dict[str, Any]
    symbols: list[Annotated[str, Field(max_length=40)]] = Field(min_length=1, max_length=services.MAX_PAIRS)
    budget_kind: Literal["percent", "fixed"] = "percent"
    budget_pct: _Amount = Decimal(10)
    budget_fixed: _Amount = Decimal(0)
    split_budget: bool = True


@dataclass(frozen=True, slots=True)
class Copy:
    """A bot made from another one or from a document, and the pairs that it had to leave behind."""

    bot: Bot
    dropped: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """Return what was done, in words."""
        left = ""
        if self.dropped:
            are = "is" if len(self.dropped) == 1 else "are"
            left = f" {_listed(self.dropped)} {are} not traded on its account's market and {are} left out."
        return f"“{self.bot.name}” is ready and stopped.{left}"


# Out ----------------------------------------------------------------------------------------------------------------


def exported(bot: Bot) -> dict[str, Any]:
    """Return the bot as a document: plain JSON values, amounts as text."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": bot.name,
        "strategy": bot.strategy,
        "settings": bot.settings,
        "symbols": _symbols_of(bot),
        "budget_kind": str(bot.budget_kind),
        "budget_pct": plain(bot.budget_pct),
        "budget_fixed": plain(bot.budget_fixed),
        "split_budget": bot.split_budget,
    }


# In -----------------------------------------------------------------------------------------------------------------


def read_document(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object that a person gave as text or file. Raises InvalidInput (``document``)."""
    size = len(text.encode(errors="replace")) if isinstance(text, str) else len(text)
    if size > LARGEST_DOCUMENT:
        raise too_large()
    if not text.strip():
        raise InvalidInput("missing_document", "Choose a file, or paste what was exported.", field="document")
    try:
        found = json.loads(text, parse_float=_exact, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("not_json", f"This is not JSON: {str(error)[:120]}.", field="document") from error
    if not isinstance(found, dict):
        raise InvalidInput("not_an_object", "An exported bot is a JSON object: {…}.", field="document")
    return found


def too_large() -> InvalidInput:
    """Return the refusal of a document that is too long to be read."""
    limit = LARGEST_DOCUMENT // 1024
    return InvalidInput("too_large", f"An exported bot is at most {limit} KB.", field="document", limit_kb=limit)


def import_bot(user: User, account: Account, document: Mapping[str, Any], *, name: str = "") -> Copy:
    """Make a stopped bot on ``account`` from a document; ``name`` goes before the document's.

    Pairs that the account's market does not trade are left out and named. Raises InvalidInput naming the field of the
    document at fault, NotFound for an account the caller may not change.
    """
    account = services.editable_account(account)
    found = _checked(document)
    kept, dropped = _traded(account, found.symbols)
    bot = services.create_bot(
        user,
        account=account,
        name=name.strip() or services.free_name(account.owner, " ".join(found.name.split())),
        strategy=found.strategy,
        settings=found.settings,
        symbols=kept,
        budget_kind=found.budget_kind,
        budget_pct=found.budget_pct,
        budget_fixed=found.budget_fixed,
        split_budget=found.split_budget,
        origin="import",
    )
    return Copy(bot, dropped)


def _checked(document: Mapping[str, Any]) -> _Document:
    try:
        return _Document.model_validate(dict(document))
    except ValidationError as error:
        refused = refusal(error)
        first = refused.detail["errors"][0]
        if first["field"] == "format" or first["field"] == "version":
            refused.message = f"{first['field']}: this is no exported bot of version {VERSION}."
        raise refused from error


def _exact(literal: str) -> Decimal | str:
    try:
        return Decimal(literal)
    except InvalidOperation:  # an exponent beyond all bounds
        return literal


# Copies -------------------------------------------------------------------------------------------------------------


def clone_bot(bot: Bot, user: User) -> Copy:
    """Make a stopped bot like ``bot`` on the same account. Raises InvalidInput, NotFound."""
    bot = services.editable_bot(bot)
    if bot.account is None:
        raise InvalidInput("bot_orphaned", "The bot has no account. Assign it to one, or copy it to one.")
    return _copied(bot, bot.account, user)


def copy_bot(bot: Bot, account: Account, user: User) -> Copy:
    """Make a stopped bot like ``bot`` on another account that the caller may change; it belongs to that one's owner.

    Its budget stays as it is stated. Pairs that the account's market does not trade are left out and named. Raises
    InvalidInput when none is left, NotFound.
    """
    bot = services.editable_bot(bot)
    account = services.editable_account(account)
    if account.pk == bot.account_id:
        raise InvalidInput("same_account", "The bot is on this account already. Choose another one.", field="account")
    return _copied(bot, account, user)


def _copied(bot: Bot, account: Account, user: User) -> Copy:
    kept, dropped = _traded(account, _symbols_of(bot))
    copy = services.create_bot(
        user,
        account=account,
        name=services.free_name(account.owner, bot.name),
        strategy=bot.strategy,
        settings=bot.settings,
        symbols=kept,
        budget_kind=BudgetKind(bot.budget_kind),
        budget_pct=bot.budget_pct,
        budget_fixed=bot.budget_fixed,
        split_budget=bot.split_budget,
        origin=f"“{bot.name}”" if account.owner_id == bot.owner_id else "copy",
    )
    return Copy(copy, dropped)


def _symbols_of(bot: Bot) -> list[str]:
    rows = bot.bot_products.filter(enabled=True).order_by("pk")
    return list(rows.values_list("product__symbol", flat=True))


def _traded(account: Account, symbols: Iterable[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return the pairs that the account's market trades now, and those that it does not."""
    wanted = list(dict.fromkeys(symbol.strip().upper() for symbol in symbols if symbol.strip()))
    online_now = Product.objects.filter(exchange=account.exchange, status=Product.Status.ONLINE)
    rows = online_now.filter(symbol__in=wanted, kind=Product.Kind.SPOT)
    online = set(rows.values_list("symbol", flat=True))
    kept, dropped = [s for s in wanted if s in online], tuple(s for s in wanted if s not in online)
    if dropped and not kept:
        raise InvalidInput(
            "no_pairs",
            f"{_listed(dropped)} {'is' if len(dropped) == 1 else 'are'} not traded on the market of “{account.name}” "
            f"({account.exchange}), so no pair would be left.",
            field="symbols",
        )
    return kept, dropped


def _listed(symbols: tuple[str, ...]) -> str:
    shown = ", ".join(symbols[:8])
    return shown if len(symbols) <= 8 else f"{shown} and {len(symbols) - 8} more"
