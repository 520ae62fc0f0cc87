"""What the pages of bots show: the list's rows, one bot's figures, why it did not trade, its history. Reads only.

The list costs the same number of queries however many bots it shows.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, localcontext
from statistics import median
from typing import Any, Final

from django.db.models import Count, Max, Q, QuerySet

from accounts.balances import balances_of
from bots import market_views, sizing, strategies
from bots.conditions import Operator, Tree, evaluate
from bots.models import Bot, BotProduct, Decision
from bots.strategies.describe import settings_facts
from bots.strategies.forms import field_specs
from marketdata.models import Product
from marketdata.timeframes import Timeframe
from positions import figures
from positions.cards import DealCard, deal_cards
from positions.deal_page import candle_rows, fill_marks
from positions.models import Fill, Order, Position
from positions.states import POSITION_ACTIVE, PositionStatus
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, MONEY, ZERO
from tradebot.core.errors import InvalidInput, MissingInformation, TradebotError
from tradebot.core.models import AuditEntry
from tradebot.core.money import amount_total

__all__ = ["BotPage", "BotRow", "PairRow", "bot_chart", "bot_page", "bot_rows"]

SHOWN_PAIRS: Final = 4
DURATIONS_READ: Final = 500


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

    @property
    def win_pct(self) -> Decimal | None:
        return Decimal(self.won) / self.judged * HUNDRED if self.judged else None

    @property
    def used_pct(self) -> Decimal | None:
        if self.budget is None or self.budget <= ZERO:
            return None
        with localcontext(MONEY):
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
    def check_due(self) -> bool:
        return self.bot.next_check_at is not None


def bot_rows(bots: Sequence[Bot], *, with_ended: bool = True) -> list[BotRow]:
    """Return the rows of ``bots`` in their order. Their accounts should be loaded already.

    ``with_ended`` adds up ended deals, the dearest part; who has done that already leaves it out.
    """
    rows = {bot.pk: _row(bot) for bot in bots}
    _add_pairs(rows)
    if with_ended:
        _add_ended(rows)
    _add_open(rows)
    return [rows[bot.pk] for bot in bots]


def _row(bot: Bot) -> BotRow:
    try:
        strategy = strategies.get_strategy(bot.strategy)
        settings: Any = strategy.settings_from_json(bot.settings)
    except InvalidInput:
        return BotRow(bot, bot.strategy)
    deals = getattr(settings, "max_active_deals", None)
    return BotRow(bot, strategy.label, str(getattr(settings, "direction", "")), max_deals=deals)


def _add_pairs(rows: dict[int, BotRow]) -> None:
    pairs = BotProduct.objects.filter(bot__in=rows).select_related("product").order_by("pk")
    for pair in pairs:
        row = rows[pair.bot_id]
        if pair.enabled:
            row.symbols.append(pair.product.symbol)
        if pair.last_changed_at and (row.last_at is None or pair.last_changed_at > row.last_at):
            row.last_message, row.last_pair, row.last_at = pair.last_message, pair.product.symbol, pair.last_changed_at


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
        holdings[deal.position.account_id, deal.quote].append((deal.position.base_held, deal.mark))
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
            free = balances[quote].free if quote in balances else ZERO
            value = sizing.quote_value(free, [item for item in holdings[bot.account_id, quote] if item[0]])
        amount = bot.budget_fixed if bot.budget_kind == "fixed" else bot.budget_pct
        return sizing.bot_budget(bot.budget_kind, amount, value)
    except MissingInformation:
        return None


# One bot ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class PairRow:
    """A pair of a bot with the last decision about it, and its open deal if there is one."""

    pair: BotProduct
    product: Product
    deal: DealCard | None

    @property
    def message(self) -> str:
        if self.deal is not None:
            return self.deal.position.last_message or "a deal is open"
        return self.pair.last_message or "not looked at yet"

    @property
    def checks(self) -> list[dict[str, Any]]:
        evidence = self.deal.position.last_evidence if self.deal is not None else self.pair.last_evidence
        found = evidence.get("checks") if isinstance(evidence, dict) else None
        return found if isinstance(found, list) else []

    @property
    def met_text(self) -> str:
        """Return how many of the conditions hold: "1/3"; a dash without any."""
        if self.deal is not None:
            return "deal"
        met = sum(1 for check in self.checks if check.get("state") == "met")
        return f"{met}/{len(self.checks)}" if self.checks else "–"

    @property
    def numbers(self) -> list[tuple[str, Any]]:
        """Return the other numbers behind the decision."""
        evidence = self.deal.position.last_evidence if self.deal is not None else self.pair.last_evidence
        if not isinstance(evidence, dict):
            return []
        return [(name, value) for name, value in evidence.items() if not isinstance(value, list | dict)]


@dataclass(frozen=True, slots=True)
class ConditionRow:
    """A condition with its outcome, as the "why no trade" table shows it."""

    label: str
    state: str
    value: float | None
    needed: str
    reason: str
    to_go: float | None


@dataclass(slots=True)
class BotPage:
    """Everything one bot's page shows."""

    row: BotRow
    cards: list[DealCard]
    pairs: list[PairRow]
    chosen: PairRow | None
    rules: list[tuple[str, str, list[ConditionRow]]]
    rules_are_now: bool
    by_hand: int
    median_seconds: float | None
    longest_seconds: float | None
    statistics: dict[str, Any]
    decisions: list[Decision]
    facts: list[Any]
    changes: list[Any]


def bot_page(bot: Bot, pair: str = "", acted_only: bool = False) -> BotPage:
    """Return the page of ``bot`` with ``pair`` (a symbol) chosen in "why no trade"."""
    mine = Position.objects.filter(bot=bot)
    active = list(mine.filter(status__in=POSITION_ACTIVE).select_related("product", "account", "bot"))
    cards = deal_cards(active)
    pairs = _pair_rows(bot, cards)
    idle = next((row for row in pairs if row.deal is None), pairs[0] if pairs else None)
    chosen = next((row for row in pairs if row.product.symbol == pair), idle)
    rules, are_now = _rules(bot, chosen)
    seconds = _durations(mine)
    decisions = Decision.objects.filter(bot=bot).select_related("product")
    if acted_only:
        decisions = decisions.exclude(action="none")
    row = bot_rows([bot], with_ended=False)[0]
    statistics = _statistics(mine)
    row.closed, row.judged, row.won = statistics["closed"], statistics["judged"], statistics["won"]
    row.realised = statistics["realised"]
    return BotPage(
        row=row,
        cards=cards,
        pairs=pairs,
        chosen=chosen,
        rules=rules,
        rules_are_now=are_now,
        by_hand=row.closed - row.judged,
        median_seconds=median(seconds) if seconds else None,
        longest_seconds=max(seconds, default=None),
        statistics=statistics,
        decisions=list(decisions[:30]),
        facts=_facts(bot),
        changes=_changes(bot),
    )


def _pair_rows(bot: Bot, cards: Iterable[DealCard]) -> list[PairRow]:
    deals: dict[int, DealCard] = {}
    for card in cards:
        deals.setdefault(card.position.product_id, card)
    rows = BotProduct.objects.filter(bot=bot).select_related("product").order_by("pk")
    return [PairRow(row, row.product, deals.get(row.product_id)) for row in rows]


def _durations(rows: QuerySet[Position]) -> list[float]:
    times = figures.ended(rows).filter(opened_at__isnull=False, status=PositionStatus.CLOSED).order_by("-closed_at")
    return [
        (closed - opened).total_seconds()
        for opened, closed in times.values_list("opened_at", "closed_at")[:DURATIONS_READ]
        if opened is not None and closed is not None
    ]


def _statistics(rows: QuerySet[Position]) -> dict[str, Any]:
    """Return what the bot's ended deals add up to: one plain read, added up here.

    As sums of the database each figure would look at every amount once more, several times dearer on SQLite.
    """
    ended = figures.ended(rows).values_list("status", "exit_reason", "realised_quote", "fees_quote")
    gains = losses = fees = ZERO
    closed = judged = won = wins = losers = 0
    with localcontext(MONEY):
        for status, reason, profit, fee in ended.iterator(chunk_size=5_000):
            fees += fee
            if profit > ZERO:
                gains, wins = gains + profit, wins + 1
            elif profit < ZERO:
                losses, losers = losses + profit, losers + 1
            if status == PositionStatus.CLOSED:
                closed += 1
                if reason not in figures.MANUAL_REASONS:
                    judged += 1
                    won += profit > ZERO
        return {
            "closed": closed,
            "judged": judged,
            "won": won,
            "realised": gains + losses,
            "average_win": gains / wins if wins else None,
            "average_loss": losses / losers if losers else None,
            "factor": gains / -losses if losses else None,
            "fees": fees,
            "deepest": figures.ended(rows).aggregate(deepest=Max("safety_orders_filled"))["deepest"],
        }


def _facts(bot: Bot) -> list[Any]:
    try:
        settings = strategies.get_strategy(bot.strategy).settings_from_json(bot.settings)
    except InvalidInput:
        return []
    return settings_facts(settings, bot.quote_currency)


_ACTIONS: Final = {
    "bot.created": "Created",
    "bot.started": "Started",
    "bot.stopped": "Stopped",
    "bot.archived": "Archived",
    "bot.assigned": "Moved to another account",
    "bot.changed": "Changed",
}


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the bot's history: who did what, with the values before and after."""

    at: datetime
    actor: str
    title: str
    lines: list[tuple[str, Any, Any]]


def _changes(bot: Bot) -> list[Change]:
    labels = {}
    try:
        model = strategies.get_strategy(bot.strategy).settings_model
        labels = {f"settings.{spec.name}": spec.label for spec in field_specs(model)}
    except InvalidInput:
        pass
    entries = AuditEntry.objects.filter(target=f"bot:{bot.pk}", action__in=_ACTIONS).order_by("-pk")[:12]
    return [
        Change(
            at=entry.at,
            actor=entry.actor,
            title=_ACTIONS[entry.action],
            lines=[
                (labels.get(name, name.replace("_", " ").capitalize()), _short(before), _short(after))
                for name, (before, after) in (entry.detail.get("changes") or {}).items()
            ],
        )
        for entry in entries
    ]


def _short(value: Any) -> str:
    if value is None or value == "":
        return "off"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):  # a rule: its length says enough here
        count = str(value).count("'indicator'")
        return f"{count} condition{'' if count == 1 else 's'}"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    return str(value).replace("_", " ")


# Why no trade -------------------------------------------------------------------------------------------------------

_RULES: Final = (
    ("open_conditions", "Entry rule"),
    ("add_conditions", "Rule for adding"),
    ("close_conditions", "Rule for closing"),
)


def _rules(bot: Bot, chosen: PairRow | None) -> tuple[list[tuple[str, str, list[ConditionRow]]], bool]:
    """Return the rules that count for the chosen pair, with each condition's outcome, and whether they are of now.

    As decided where the decision kept its checks; worked out now from the candles at hand otherwise. A pair with an
    open deal shows what its deal asks, from the deal's own settings (F43).
    """
    if chosen is None:
        return [], False
    try:
        strategy = strategies.get_strategy(bot.strategy)
        source = chosen.deal.position.settings if chosen.deal is not None else bot.settings
        settings: Any = strategy.settings_from_json(source)
    except InvalidInput:
        return [], False
    names = _RULES[1:] if chosen.deal is not None else _RULES[:1]
    trees = [(title, getattr(settings, name, None)) for name, title in names]
    wanted = [(title, tree) for title, tree in trees if isinstance(tree, Tree) and not tree.is_empty]
    if chosen.checks and chosen.deal is None and wanted:
        title, tree = wanted[0]
        return [(title, tree.join.value, [_condition_row(check) for check in chosen.checks])], False
    series: dict[Timeframe, int] = strategy.required_series(settings)
    product = chosen.product
    try:
        view = market_views.build({product.pk: product}, {product.pk: series}, clock.now())[product.pk]
    except TradebotError:
        return [], False
    return [
        (title, tree.join.value, [_condition_row(check.as_json()) for check in evaluate(tree, view).checks])
        for title, tree in wanted
    ], True


_WORDS: Final = {
    ">": "above",
    ">=": "at least",
    "<": "below",
    "<=": "at most",
    "=": "equal to",
    "!=": "not",
    "crosses_above": "crosses above",
    "crosses_below": "crosses below",
    "increasing": "increasing",
    "decreasing": "decreasing",
}


_OPERATOR: Final = re.compile(" (?:" + "|".join(re.escape(operator.words) for operator in Operator) + ")")
_DISTANT: Final = frozenset({">", ">=", "<", "<=", "crosses_above", "crosses_below"})
"""Operators for which the distance to the threshold says how much is still missing."""


def _condition_row(check: dict[str, Any]) -> ConditionRow:
    operator, threshold, value = check.get("operator", ""), check.get("threshold"), check.get("value")
    words = _WORDS.get(operator, operator)
    needed = words if threshold is None else f"{words} {threshold:g}"
    label = _OPERATOR.split(str(check.get("label", "")))[0]
    to_go = None
    if value is not None and threshold is not None and operator in _DISTANT and check.get("state") != "met":
        to_go = threshold - value
    return ConditionRow(label, str(check.get("state", "unknown")), value, needed, str(check.get("reason", "")), to_go)


# The chart ----------------------------------------------------------------------------------------------------------


def bot_chart(bot: Bot, product: Product, timeframe: Timeframe, since: datetime) -> dict[str, Any]:
    """Return candles of one pair with the bot's entries, adds and exits since ``since``."""
    fills = Fill.objects.filter(position__bot=bot, position__product=product, at__gte=since)
    rows = fills.select_related("order").order_by("at", "id")
    marks: list[tuple[Fill, Order]] = [(fill, fill.order) for fill in rows]
    profits = dict(
        Position.objects.filter(bot=bot, product=product, closed_at__gte=since).values_list("pk", "realised_pct")
    )
    return {
        "product": product.symbol,
        "timeframe": timeframe.value,
        "step": float(product.price_increment),
        "candles": candle_rows(product, timeframe, since),
        "marks": fill_marks(marks, timeframe, profits),
        "lines": [],
    }
