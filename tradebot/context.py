"""What the shell shows on every page. Nothing is asked for until a template uses it, so fragments cost nothing."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from accounts.models import Account, User
from accounts.selection import Choice, choices, in_view, narrowed, selected_account
from marketdata import market, sources
from marketdata.models import Product
from marketdata.services import MarketCondition, MarketState, status
from marketdata.wire.venues import LIVE
from positions.models import Position
from positions.portfolio.glance import worth_at_a_glance
from positions.states import POSITION_ACTIVE
from tradebot.core.models import GlobalSettings

TICKER: Final = ("BTC-USD", "ETH-USD")


@dataclass(frozen=True, slots=True)
class Entry:
    """A screen in the navigation; ``more`` ones leave the bottom bar of a phone."""

    key: str
    name: str
    icon: str
    url: str
    more: bool = False

    @property
    def href(self) -> str:
        return reverse(self.url)


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    entries: tuple[Entry, ...]


NAVIGATION: Final = (
    Group(
        "",
        (
            Entry("dashboard", "Dashboard", "home", "dashboard"),
            Entry("deals", "Deals", "deals", "deals"),
            Entry("bots", "Bots", "bot", "bots"),
            Entry("history", "History", "hist", "history"),
            Entry("perps", "Perpetuals", "perps", "perps", more=True),
            Entry("orders", "Orders", "list", "orders", more=True),
        ),
    ),
    Group("Research", (Entry("backtests", "Backtests", "test", "backtests", more=True),)),
    Group(
        "Money",
        (
            Entry("portfolio", "Portfolio", "pie", "portfolio", more=True),
            Entry("accounts", "Accounts", "key", "accounts", more=True),
            Entry("settings", "Settings", "gear", "settings"),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Strip:
    """The line on top that says which money moves: ``lead`` **name**. ``text`` **state**."""

    kind: str
    lead: str
    name: str
    text: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A price in the top bar; ``change`` is percent in 24 hours."""

    symbol: str
    base: str
    product: Product
    price: Any
    change: Any


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in the top bar, with its name."""

    name: str
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Note:
    kind: str
    lead: str
    text: str


class Shell:
    """The shell's figures for one request."""

    nav = NAVIGATION

    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    @cached_property
    def theme(self) -> str:
        wanted = getattr(self.request.user, "theme", User.Theme.AUTO)
        return str(User.Theme.LIGHT if wanted == User.Theme.AUTO else wanted)

    @property
    def follows_device(self) -> bool:
        return getattr(self.request.user, "theme", User.Theme.AUTO) == User.Theme.AUTO

    @property
    def zone(self) -> str:
        """Return the time zone in which the pages write moments."""
        return timezone.get_current_timezone_name()

    @property
    def other_theme(self) -> str:
        return str(User.Theme.LIGHT if self.theme == User.Theme.DARK else User.Theme.DARK)

    @property
    def demo(self) -> bool:
        """Whether to say where a newcomer finds the demo user; never who it is."""
        return bool(settings.DEMO and settings.DEBUG)

    @cached_property
    def choices(self) -> list[Choice]:
        return choices(self.request)

    @cached_property
    def account(self) -> Account | None:
        return selected_account(self.request)

    @cached_property
    def in_view(self) -> list[Account]:
        return in_view(self.request)

    @cached_property
    def strip(self) -> Strip:
        if (match := self.request.resolver_match) is not None and match.route.startswith("backtests/"):
            return Strip("sim", "Simulation.", "", "Nothing here is traded: it is tried on recorded candles.")
        if self.account is not None:
            return _strip_of(self.account)
        stopped = [account.name for account in self.in_view if account.is_killed]
        state = f"Stopped: {', '.join(stopped)}." if stopped else ""
        paper = sum(1 for account in self.in_view if account.is_paper)
        live = len(self.in_view) - paper
        if not self.in_view:
            return Strip("sim", "No account yet.", "", "Nothing is traded.")
        if not live:
            return Strip("paper", "All your accounts are paper.", "", "No real money moves here.", state)
        if not paper:
            return Strip("live", "All your accounts are live.", "", "Orders here use real money.", state)
        return Strip(
            "live",
            "Live and paper together:",
            "",
            f"{_accounts(live)} real money, {_accounts(paper)} pretend money (dashed).",
            state,
        )

    @cached_property
    def stoppable(self) -> list[Account]:
        """Return the accounts that the stop switch offers: the one in view, or all that the person may act on."""
        account = self.account
        rows = [choice.account for choice in self.choices if choice.editable and account in (None, choice.account)]
        return [row for row in rows if row.exchange != sources.REPLAY]

    @property
    def owns_several(self) -> bool:
        return sum(choice.account.owner_id == self.request.user.pk for choice in self.choices) > 1

    @cached_property
    def open_deals(self) -> int:
        return Position.objects.filter(narrowed(self.request), status__in=POSITION_ACTIVE).count()

    @cached_property
    def markets(self) -> list[MarketState]:
        return [status(exchange) for exchange in sorted({account.exchange for account in self.in_view})]

    @cached_property
    def market_notes(self) -> list[Note]:
        notes = [_note_of(state) for state in self.markets if state.condition is not MarketCondition.OK]
        if GlobalSettings.load().trading_paused:
            notes.insert(0, Note("warning", "Trading is paused.", "No bot opens a deal; open deals are still managed."))
        return notes

    @cached_property
    def worth(self) -> Money | None:
        """Return what the accounts in view are worth, live ones where there are both; None while it is not known."""
        accounts = [account for account in self.in_view if not account.is_paper] or self.in_view
        if not accounts:
            return None
        # Only the top bar's own renewal waits for a market; no page does for this figure.
        ask = (match := self.request.resolver_match) is not None and match.url_name == "ticker"
        found = worth_at_a_glance(accounts, "USD", ask=ask)
        if found.amount is None:
            return None
        mixed = len({account.is_paper for account in self.in_view}) == 2
        return Money("Live value" if mixed else "Value", found.amount, found.currency)

    @cached_property
    def ticker(self) -> list[Line]:
        """Return well-known prices of the market in view: a live one where there are both, as with :attr:`worth`."""
        accounts = [account for account in self.in_view if not account.is_paper] or self.in_view
        default = next((account for account in accounts if account.is_default), None)
        shown = self.account or default or next(iter(accounts), None)
        exchange = shown.exchange if shown else sources.SIMULATED
        products = Product.objects.filter(exchange=exchange, symbol__in=TICKER)
        quotes = market.quotes(exchange, TICKER)
        return [
            Line(row.symbol, row.base, row, quotes[row.symbol].last, quotes[row.symbol].change_24h)
            for row in products
            if row.symbol in quotes
        ]


def _accounts(count: int) -> str:
    return f"{count} account{'' if count == 1 else 's'} with"


def _strip_of(account: Account) -> Strip:
    state = "Stopped: nothing is bought." if account.is_killed else ""
    if not account.is_paper:
        if not account.is_armed:
            state = state or "Read-only: nothing is bought."
        return Strip("live", "Live account:", account.name, "Orders here use real money.", state)
    if (venue := LIVE.get(account.exchange)) is not None:
        return Strip("paper", "Paper account:", account.name, f"Pretend money at {venue.name}'s real prices.", state)
    if account.exchange == sources.REPLAY:
        return Strip("paper", "Paper account:", account.name, "Pretend money at recorded prices.", state)
    return Strip("paper", "Paper account:", account.name, "Pretend money at simulated prices.", state)


def _note_of(state: MarketState) -> Note:
    if state.condition is MarketCondition.SIMULATED:
        return Note("sim", "Simulated market.", "Its prices are made up by Tradebot and follow no real one.")
    if state.condition is MarketCondition.REPLAY:
        return Note("sim", "Recorded market.", state.message)
    lead = "No fresh prices." if state.condition is MarketCondition.STALE else "No prices yet."
    return Note("warning", f"{state.exchange.capitalize()}: {lead}", f"{state.message} Bots there wait.")


def shell(request: HttpRequest) -> dict[str, Any]:
    """Return ``shell`` (see :class:`Shell`), and ``nav`` for the pages of allauth, which belong to the settings."""
    context: dict[str, Any] = {"shell": SimpleLazyObject(lambda: Shell(request))}
    if request.path.startswith(("/auth/", "/settings/")):
        context["nav"] = "settings"
    return context
