"""One bot's page: figures, why it does not trade, its decisions, its settings and who changed them. Reads only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any, Final

from django.core.paginator import Page, Paginator
from django.db.models import Max, QuerySet
from pydantic import ValidationError

from bots import gates, market_views, memory, strategies
from bots.conditions import NO_SIGNAL, Operator, Tree, describe, evaluate
from bots.gates import Gate
from bots.models import Bot, BotProduct, Decision, Signal, SignalHook
from bots.pages import BotRow, bot_rows
from bots.signals.hooks import hook_of
from bots.signals.stored import laid_over
from bots.strategies.base import Action
from bots.strategies.describe import settings_facts
from bots.strategies.forms import field_specs
from marketdata.indicators import spec_of
from marketdata.models import Product
from marketdata.timeframes import Timeframe
from positions import figures
from positions.cards import DealCard, deal_cards
from positions.deal_page import candle_rows, fill_marks
from positions.models import Fill, Order, Position
from positions.states import POSITION_ACTIVE, Direction, PositionStatus
from tradebot.core import clock
from tradebot.core.decimals import ZERO, for_money
from tradebot.core.errors import InvalidInput, TradebotError
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import current_scope, detached

__all__ = ["BotPage", "PairRow", "bot_chart", "bot_page"]

DURATIONS_READ: Final = 500
TRAIL_LENGTH: Final = 25
CHANGES_READ: Final = 20
SIGNALS_SHOWN: Final = 6
ALWAYS_SHOWN: Final = frozenset(
    {"direction", "max_active_deals", "max_safety_orders", "price_deviation", "take_profit", "open_conditions"}
)
"""Settings that say what a bot is, also where they are as usual."""


@dataclass(slots=True)
class PairRow:
    """A pair of a bot in one direction, with the last decision about it, and its open deal if there is one."""

    pair: BotProduct
    product: Product
    side: memory.Side
    deal: DealCard | None

    @property
    def direction(self) -> Direction:
        return self.side.direction

    @property
    def code(self) -> str:
        return str(getattr(self.pair, self.side.code))

    @property
    def said(self) -> str:
        """Return the last decision about opening, in words."""
        return str(getattr(self.pair, self.side.message))

    @property
    def changed_at(self) -> datetime | None:
        found: datetime | None = getattr(self.pair, self.side.changed_at)
        return found

    @property
    def message(self) -> str:
        if self.deal is not None:
            return self.deal.position.last_message or "a deal is open"
        return self.said or "not looked at yet"

    @property
    def evidence(self) -> dict[str, Any]:
        found = self.deal.position.last_evidence if self.deal is not None else getattr(self.pair, self.side.evidence)
        return found if isinstance(found, dict) else {}

    @property
    def checks(self) -> list[dict[str, Any]]:
        return _checks_of(self.evidence)

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
        return _numbers_of(self.evidence)


def _checks_of(evidence: Any) -> list[dict[str, Any]]:
    found = evidence.get("checks") if isinstance(evidence, dict) else None
    return [check for check in found if isinstance(check, dict)] if isinstance(found, list) else []


def _numbers_of(evidence: Any) -> list[tuple[str, Any]]:
    if not isinstance(evidence, dict):
        return []
    return [(name, value) for name, value in evidence.items() if value not in (None, "", [], {}) and _is_plain(value)]


def _is_plain(value: Any) -> bool:
    return not isinstance(value, list | dict)


@dataclass(frozen=True, slots=True)
class ConditionRow:
    """A condition with its outcome, as the "why no trade" table shows it."""

    label: str
    state: str
    value: float | None
    needed: str
    reason: str
    to_go: float | None


@dataclass(frozen=True, slots=True)
class TrailRow:
    """A decision that was written down, with the conditions and numbers behind it."""

    decision: Decision
    checks: list[ConditionRow]
    numbers: list[tuple[str, Any]]

    @property
    def acted(self) -> bool:
        return self.decision.action != "none"

    @property
    def has_more(self) -> bool:
        """Return whether there is anything behind the sentence."""
        return bool(self.checks or self.numbers)


@dataclass(slots=True)
class Why:
    """Why there is no trade on the chosen pair. ``now`` says in words what would be decided at this moment."""

    gates: tuple[Gate, ...] = ()
    rules: list[tuple[str, str, list[ConditionRow]]] = field(default_factory=list)
    rules_are_now: bool = False
    now: str = ""
    would_open: bool = False


@dataclass(slots=True)
class BotPage:
    """Everything one bot's page shows."""

    row: BotRow
    cards: list[DealCard]
    directions: tuple[Direction, ...]
    pairs: list[PairRow]
    chosen: PairRow | None
    why: Why
    by_hand: int
    median_seconds: float | None
    longest_seconds: float | None
    statistics: dict[str, Any]
    trail: Page[Any]
    decisions: list[TrailRow]
    facts: list[SettingRow]
    changes: list[Change]
    signals: SignalPanel


def bot_page(
    bot: Bot, pair: str = "", side: str = "", acted_only: bool = False, trail_page: str | int | None = 1
) -> BotPage:
    """Return the page of ``bot`` with ``pair`` (a symbol) and ``side`` (a direction) chosen in "why no trade".

    ``acted_only`` narrows the decisions to those that placed or cancelled an order; ``trail_page`` is their page.
    """
    mine = Position.objects.filter(bot=bot)
    active = list(mine.filter(status__in=POSITION_ACTIVE).select_related("product", "account", "bot"))
    cards = deal_cards(active)
    sides = _sides(bot)
    looked_at = next((found for found in sides if found.direction.value == side), sides[0])
    pairs = _pair_rows(bot, cards, looked_at, both=len(sides) > 1)
    idle = next((row for row in pairs if row.deal is None), pairs[0] if pairs else None)
    chosen = next((row for row in pairs if row.product.symbol == pair), idle)
    seconds = _durations(mine)
    decisions = Decision.objects.filter(bot=bot).select_related("product", "position")
    if acted_only:
        decisions = decisions.exclude(action="none")
    trail: Page[Any] = Paginator(decisions, TRAIL_LENGTH).get_page(trail_page)
    row = bot_rows([bot], with_ended=False)[0]
    statistics = _statistics(mine)
    row.closed, row.judged, row.won = statistics["closed"], statistics["judged"], statistics["won"]
    row.realised = statistics["realised"]
    return BotPage(
        row=row,
        cards=cards,
        directions=tuple(found.direction for found in sides),
        pairs=pairs,
        chosen=chosen,
        why=_why(bot, chosen),
        by_hand=row.closed - row.judged,
        median_seconds=median(seconds) if seconds else None,
        longest_seconds=max(seconds, default=None),
        statistics=statistics,
        trail=trail,
        decisions=[
            TrailRow(
                decision, [_condition_row(c) for c in _checks_of(decision.evidence)], _numbers_of(decision.evidence)
            )
            for decision in trail.object_list
        ],
        facts=_facts(bot),
        changes=_changes(bot),
        signals=_signals(bot),
    )


@dataclass(frozen=True, slots=True)
class SignalPanel:
    """What the bot is told: the kinds that its rules ask for, by label, its hook, and the latest signals."""

    asked: list[str]
    hook: SignalHook | None
    recent: list[Signal]


def _signals(bot: Bot) -> SignalPanel:
    asked: list[str] = []
    try:
        strategy = strategies.get_strategy(bot.strategy)
        asked = [spec_of(kind).label for kind in strategy.required_signals(strategy.settings_from_json(bot.settings))]
    except InvalidInput:
        pass  # settings that cannot be read ask for nothing; the page says elsewhere that they cannot
    recent = Signal.objects.filter(bot=bot).select_related("product")[:SIGNALS_SHOWN]
    return SignalPanel(asked, hook_of(bot), list(recent))


def _sides(bot: Bot) -> tuple[memory.Side, ...]:
    try:
        settings: Any = strategies.get_strategy(bot.strategy).settings_from_json(bot.settings)
    except InvalidInput:
        return memory.sides_of((Direction.LONG,))
    return memory.sides_of(getattr(settings, "directions", (Direction.LONG,)))


def _pair_rows(bot: Bot, cards: Iterable[DealCard], side: memory.Side, *, both: bool) -> list[PairRow]:
    """Return a row for each pair; a bot that trades one way shows any deal of a pair, the other way's too."""
    deals: dict[int, DealCard] = {}
    for card in cards:
        if not both or card.position.direction == side.direction:
            deals.setdefault(card.position.product_id, card)
    rows = BotProduct.objects.filter(bot=bot).select_related("product").order_by("pk")
    return [PairRow(row, row.product, side, deals.get(row.product_id)) for row in rows]


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
    with for_money():
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


@dataclass(frozen=True, slots=True)
class SettingRow:
    """A setting in words. ``is_set``: it says what the bot does; otherwise it is off or as most bots have it."""

    label: str
    value: str
    is_set: bool


def _facts(bot: Bot) -> list[SettingRow]:
    try:
        strategy = strategies.get_strategy(bot.strategy)
        settings: Any = strategy.settings_from_json(bot.settings)
    except InvalidInput:
        return []
    usual = {spec.name: spec.default for spec in field_specs(strategy.settings_model)}
    stored = settings.to_json()
    return [
        SettingRow(fact.label, fact.value, fact.name in ALWAYS_SHOWN or stored.get(fact.name) != usual.get(fact.name))
        for fact in settings_facts(settings, bot.quote_currency)
    ]


_ACTIONS: Final = {
    "bot.created": "Created",
    "bot.started": "Started",
    "bot.stopped": "Stopped",
    "bot.archived": "Archived",
    "bot.assigned": "Moved to another account",
    "bot.changed": "Changed",
    "bot.sold_all": "Sold all",
    "bot.cancelled_all": "Cancelled all deals",
    "bot.hook_opened": "Opened the hook",
    "bot.hook_secret_replaced": "Replaced the hook's secret",
    "bot.hook_closed": "Closed the hook",
    "bot.hook_changed": "Changed the hook",
}


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the bot's history: who did what, with the values before and after."""

    at: datetime
    actor: str
    title: str
    lines: list[tuple[str, Any, Any]]


def _changes(bot: Bot) -> list[Change]:
    """Return what was done to the bot, newest first. Whoever sees the bot sees who changed it.

    Audit entries belong to the owner alone, who may have moved the bot between accounts that others do not see: the
    names of accounts are left out for them.
    """
    labels: dict[str, str] = {}
    try:
        model = strategies.get_strategy(bot.strategy).settings_model
        labels = {f"settings.{spec.name}": spec.label for spec in field_specs(model)}
    except InvalidInput:
        pass
    is_owner = current_scope().owner_id == bot.owner_id
    with detached("who may see a bot may see who changed its settings"):
        rows = AuditEntry.objects.filter(user_id=bot.owner_id, target=f"bot:{bot.pk}", action__in=_ACTIONS)
        entries = list(rows.order_by("-pk")[:CHANGES_READ])
    return [
        Change(
            at=entry.at,
            actor=entry.actor,
            title=_ACTIONS[entry.action],
            lines=[
                (labels.get(name, name.replace("_", " ").capitalize()), _short(before), _short(after))
                for name, (before, after) in (entry.detail.get("changes") or {}).items()
                if is_owner or name != "account"
            ],
        )
        for entry in entries
    ]


def _short(value: Any) -> str:
    """Return a stored value as people read it: rules and steps in words."""
    if value is None or value == "":
        return "off"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        try:
            return describe(Tree.model_validate(value)) or "no conditions"
        except ValidationError:
            return "a rule that cannot be read"
    if isinstance(value, list):
        return ", ".join(_entry(item) for item in value) or "none"
    return str(value).replace("_", " ")


def _entry(item: Any) -> str:
    if isinstance(item, dict) and "profit_pct" in item:
        return f"{item.get('share_pct')} % at {item['profit_pct']} %"
    return str(item)


# Why no trade -------------------------------------------------------------------------------------------------------


def _why(bot: Bot, chosen: PairRow | None) -> Why:
    """Return why nothing happens on the chosen pair: what is asked, what the answer is now, what is missing.

    A pair with an open deal shows what its deal asks, from the deal's own settings (F43). Where no candles are at hand
    now, the conditions are shown as the last decision saw them.
    """
    if chosen is None:
        return Why()
    if chosen.deal is not None:
        return _why_deal(chosen, chosen.deal)
    found = gates.questions_now(bot, chosen.pair, chosen.direction)
    why = Why(gates=found.gates, rules_are_now=True)
    if found.decision is not None:
        why.now, why.would_open = found.decision.message, found.decision.action is Action.OPEN
    live = [_condition_row(check.as_json()) for check in found.checks]
    join = found.join
    if chosen.checks and all(row.value is None and row.reason != NO_SIGNAL for row in live):
        live, why.rules_are_now = [_condition_row(check) for check in chosen.checks], False
    why.rules = [("Entry rule", join, live)] if live else []
    return why


def _why_deal(chosen: PairRow, deal: DealCard) -> Why:
    position = deal.position
    try:
        strategy = strategies.get_strategy(position.strategy)
        settings: Any = strategy.settings_from_json(position.settings)
    except InvalidInput:
        return Why()
    direction = Direction(position.direction)
    trees = [("Rule for adding", settings.add_tree(direction)), ("Rule for closing", settings.close_tree(direction))]
    wanted = [(title, tree) for title, tree in trees if isinstance(tree, Tree) and not tree.is_empty]
    if not wanted:
        return Why()
    series: dict[Timeframe, int] = strategy.required_series(settings)
    product = chosen.product
    try:
        shared = market_views.build({product.pk: product}, {product.pk: series}, clock.now())[product.pk]
    except TradebotError:
        return Why()
    asked = strategy.required_signals(settings)
    view = laid_over(shared, position.bot_id, product.pk, asked, clock.now())
    rules = [
        (title, tree.join.value, [_condition_row(check.as_json()) for check in evaluate(tree, view).checks])
        for title, tree in wanted
    ]
    return Why(rules=rules, rules_are_now=True)


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
