"""Bots with their figures, as the list and every page about bots show them. Reads only.

The list costs the same number of queries however many bots it shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from django.db.models import Count, Q

from accounts.balances import balances_of
from bots import sizing, strategies
from bots.models import Bot, BotProduct, ReplayRun
from marketdata import sources
from positions import figures
from positions.ledger import quote_value
from positions.models import Position
from positions.reserves import worth_per_base
from positions.states import POSITION_ACTIVE, PositionStatus
from tradebot.core.decimals import HUNDRED, ZERO, for_money
from tradebot.core.errors import InvalidInput, MissingInformation
from tradebot.core.money import amount_total

__all__ = ["BotRow", "bot_rows", "finished_replays"]

SHOWN_PAIRS: Final = 4


@dataclass(slots=True)
class BotRow:
    """A bot in the list. Amounts are in its quote currency; None is not known."""

    bot: Bot
    strategy: str
    direction: str = ""
    symbols: list[str] = field(default_factory=list)
    open_deals: int = 0
    max_deals: int | None = None
    closed: int = 0
    won: int = 0
    judged: int = 0
    realised: Decimal = ZERO
    unrealised: Decimal | None = ZERO
    invested: Decimal = ZERO
    budget: Decimal | None = None
    last_message: str = ""
    last_pair: str = ""
    last_at: datetime | None = None
    replay_finished: bool = False

    @property
    def state(self) -> tuple[str, str]:
        """Return where the bot stands: the stylesheet's word for it, and what people read."""
        if self.bot.archived_at is not None:
            return "plain", "Archived"
        if self.replay_finished:
            return "plain", "Replay finished"
        return ("running", "Running") if self.bot.is_running else ("stopped", "Stopped")

    @property
    def win_pct(self) -> Decimal | None:
        return Decimal(self.won) / self.judged * HUNDRED if self.judged else None

    @property
    def used_pct(self) -> Decimal | None:
        if self.budget is None or self.budget <= ZERO:
            return None
        with for_money():
            return self.invested / self.budget * HUNDRED

    @property
    def is_paper(self) -> bool:
        return self.bot.account is None or self.bot.account.is_paper

    @property
    def shown_symbols(self) -> list[str]:
        return self.symbols[:SHOWN_PAIRS]

    @property
    def more_symbols(self) -> int:
        return max(len(self.symbols) - SHOWN_PAIRS, 0)

    @property
    def is_replay(self) -> bool:
        """Return whether it trades on a recording, which has a clock of its own."""
        return self.bot.account is not None and self.bot.account.exchange == sources.REPLAY

    @property
    def can_run(self) -> bool:
        """Return whether there is anything to look at now."""
        return self.bot.next_check_at is not None and not self.is_replay


def bot_rows(bots: Sequence[Bot], *, with_ended: bool = True) -> list[BotRow]:
    """Return the rows of ``bots`` in their order. Their accounts should be loaded already.

    ``with_ended`` adds up ended deals, the dearest part; who has done that already leaves it out.
    """
    rows = {bot.pk: _row(bot) for bot in bots}
    _add_pairs(rows)
    if with_ended:
        _add_ended(rows)
    _add_open(rows)
    if recorded := [pk for pk, row in rows.items() if row.is_replay]:
        for pk in Bot.objects.filter(finished_replays(), pk__in=recorded).values_list("pk", flat=True):
            rows[pk].replay_finished = True
    return [rows[bot.pk] for bot in bots]


def finished_replays() -> Q:
    """Return the filter for bots whose recording has been played to its end: there is nothing left to run."""
    runs = ReplayRun.objects.filter(status=ReplayRun.Status.FINISHED)
    return Q(account__exchange=sources.REPLAY, account__replay_run__in=runs)


def _row(bot: Bot) -> BotRow:
    try:
        strategy = strategies.get_strategy(bot.strategy)
        settings: Any = strategy.settings_from_json(bot.settings)
    except InvalidInput:
        return BotRow(bot, bot.strategy)
    deals = getattr(settings, "max_active_deals", None)
    if deals is not None:
        deals *= len(getattr(settings, "directions", (1,)))  # the limit counts per direction
    return BotRow(bot, strategy.label, str(getattr(settings, "direction", "")), max_deals=deals)


def _add_pairs(rows: dict[int, BotRow]) -> None:
    pairs = BotProduct.objects.filter(bot__in=rows).select_related("product").order_by("pk")
    for pair in pairs:
        row = rows[pair.bot_id]
        if pair.enabled:
            row.symbols.append(pair.product.symbol)
        for at, message in ((pair.last_changed_at, pair.last_message), (pair.short_changed_at, pair.short_message)):
            if at and (row.last_at is None or at > row.last_at):
                row.last_message, row.last_pair, row.last_at = message, pair.product.symbol, at


def _add_ended(rows: dict[int, BotRow]) -> None:
    closed = Q(status=PositionStatus.CLOSED)
    judged = closed & ~Q(exit_reason__in=figures.MANUAL_REASONS)
    ended = figures.ended(Position.objects.filter(bot__in=rows))
    for found in ended.values("bot_id").annotate(
        closed=Count("id", filter=closed),
        judged=Count("id", filter=judged),
        won=Count("id", filter=judged & Q(realised_quote__gt=ZERO)),
        realised=amount_total("realised_quote"),
    ):
        row = rows[found["bot_id"]]
        row.closed, row.won, row.judged, row.realised = (
            found["closed"],
            found["won"],
            found["judged"],
            found["realised"],
        )


def _add_open(rows: dict[int, BotRow]) -> None:
    """Add what is open, and what each bot's budget is: of the account's value, other bots' deals included (F31)."""
    accounts = {row.bot.account_id for row in rows.values() if row.bot.account_id is not None}
    active = list(
        Position.objects.filter(account__in=accounts, status__in=POSITION_ACTIVE).select_related("product", "account")
    )
    found = figures.deal_figures(active)
    holdings: dict[tuple[int, str], list[tuple[Decimal, Decimal | None]]] = defaultdict(list)
    for deal in found:
        holdings[deal.position.account_id, deal.quote].append(
            (deal.position.base_held, worth_per_base(deal.position, deal.mark))
        )
        row = rows.get(deal.position.bot_id) if deal.position.bot_id is not None else None
        if row is None or deal.quote != row.bot.quote_currency:
            continue
        row.open_deals += 1
        row.invested += deal.totals.remaining_invested if deal.totals is not None else ZERO
        if deal.unrealised is None or row.unrealised is None:
            row.unrealised = None
        else:
            row.unrealised += deal.unrealised.profit
    balances = balances_of(accounts)
    for row in rows.values():
        if row.bot.account_id is not None:
            row.budget = _budget(row.bot, balances.get(row.bot.account_id), holdings)


def _budget(bot: Bot, balances: Any, holdings: dict[tuple[int, str], list[tuple[Decimal, Decimal | None]]]) -> Any:
    """Return the bot's whole budget now, None when a balance or a price is not known."""
    value = None
    quote = bot.quote_currency
    try:
        if balances is not None and bot.account_id is not None:
            own = balances[quote].total if quote in balances else ZERO
            value = quote_value(own, [item for item in holdings[bot.account_id, quote] if item[0]])
        amount = bot.budget_fixed if bot.budget_kind == "fixed" else bot.budget_pct
        return sizing.bot_budget(bot.budget_kind, amount, value)
    except MissingInformation:
        return None
