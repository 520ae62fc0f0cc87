"""Stored signals as conditions see them: arrays for each bot, pair and kind, in one query for any number of bots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import numpy as np
from django.db import transaction
from django.db.models import Count, Q

from accounts.access import acting_for
from accounts.models import User
from bots.conditions import Asked
from bots.models import Bot, Signal
from bots.signals.models import HEARD
from bots.strategies.base import MarketView
from bots.strategies.heard import Heard, HeardView
from marketdata.signals import ACTION_NUMBERS, Signals
from tradebot.core import clock, scoping
from tradebot.core.scoping import detached

__all__ = ["MOST_KEPT", "BotSignals", "heard_between", "heard_by_bots", "laid_over", "prune", "reach_of"]

MOST_KEPT: Final = 10_000
"""Signals of one bot that are kept, the newest; what more a sender sends pushes the oldest out."""


class _Row(NamedTuple):
    bot_id: int
    product_id: int | None
    kind: str
    received_at: datetime
    confidence: float | None
    action: str
    is_first: bool


class BotSignals:
    """What one bot has been told lately."""

    __slots__ = ("_about", "_rows")

    def __init__(self, rows: Iterable[_Row] = ()) -> None:
        self._rows = list(rows)  # oldest first
        self._about: dict[int, Heard] = {}

    def first_of(self, kinds: Iterable[str]) -> float | None:
        """Return when the first signal of these kinds came (Unix seconds), None when none has."""
        wanted = set(kinds)
        return next((row.received_at.timestamp() for row in self._rows if row.kind in wanted), None)

    def about(self, product_id: int) -> Heard:
        """Return the signals about one pair, those about all pairs among them, by kind."""
        found = self._about.get(product_id)
        if found is None:
            kinds: dict[str, list[_Row]] = defaultdict(list)
            for row in self._rows:
                if row.product_id is None or row.product_id == product_id:
                    kinds[row.kind].append(row)
            found = self._about[product_id] = {kind: _signals(rows) for kind, rows in kinds.items()}
        return found


def _signals(rows: list[_Row]) -> Signals:
    at = np.array([row.received_at.timestamp() for row in rows], dtype=np.float64)
    confidence = np.array([np.nan if row.confidence is None else row.confidence for row in rows], dtype=np.float64)
    action = np.array([ACTION_NUMBERS[row.action] for row in rows], dtype=np.int64)
    return Signals(at, confidence, action, since=float(at[0]))


def _read(bot_ids: Iterable[int], since: datetime, until: datetime) -> dict[int, list[_Row]]:
    """Return what these bots were told in (since, until], and the first ones before. One query."""
    rows = Signal.objects.filter(bot__in=list(bot_ids), verdict__in=HEARD, received_at__lte=until)
    rows = rows.filter(Q(received_at__gt=since) | Q(is_first=True)).order_by("received_at", "pk")
    found: dict[int, list[_Row]] = defaultdict(list)
    for values in rows.values_list(*_Row._fields):
        row = _Row(*values)
        found[row.bot_id].append(row)
    return found


def heard_by_bots(wanted: Mapping[int, int], now: datetime) -> dict[int, BotSignals]:
    """Return, for each bot that asks, what it was told in the last seconds that count for it. ``wanted`` gives them.

    One query for any number of bots, none when no bot asks.
    """
    if not wanted:
        return {}
    found = _read(wanted, now - timedelta(seconds=max(wanted.values())), now)
    return {bot_id: BotSignals(found.get(bot_id, ())) for bot_id in wanted}


def heard_between(person: User, bot_id: int, start: int, end: int, reach: int) -> tuple[str, BotSignals] | None:
    """Return a bot's name and what it was told in a range (Unix seconds) and ``reach`` seconds before it.

    For backtests, which work in a scope without accounts: None for a bot that their person does not see (any more).
    """
    since, until = datetime.fromtimestamp(start - reach, UTC), datetime.fromtimestamp(end, UTC)
    with detached("a backtest reads what its bot was told, as far as its person sees the bot"), acting_for(person):
        name = Bot.objects.filter(pk=bot_id).values_list("name", flat=True).first()
        return None if name is None else (name, BotSignals(_read([bot_id], since, until).get(bot_id, ())))


def laid_over(
    view: MarketView, bot_id: int | None, product_id: int, asked: Mapping[str, Asked], now: datetime
) -> MarketView:
    """Return ``view`` with the bot's signals laid over it where settings ask for any. For pages."""
    if not asked:
        return view
    signals = BotSignals()
    if bot_id is not None:
        signals = heard_by_bots({bot_id: reach_of(asked)}, now)[bot_id]
    return HeardView(view, signals.about(product_id))


def reach_of(asked: Mapping[str, Asked]) -> int:
    """Return how many seconds back the farthest of these kinds may count."""
    return max((one.seconds for one in asked.values()), default=0)


def prune(days: int) -> None:
    """Delete signals older than ``days`` and those beyond the newest :data:`MOST_KEPT` of a bot; first ones stay."""
    limit = clock.now() - timedelta(days=days)
    with scoping.all_accounts("retention of signals"), transaction.atomic():
        later = Signal.objects.filter(is_first=False)
        later.filter(received_at__lt=limit).delete()
        full = later.order_by().values("bot").annotate(count=Count("pk")).filter(count__gt=MOST_KEPT)
        for bot_id in list(full.values_list("bot", flat=True)):
            newest = later.filter(bot=bot_id).order_by("-received_at", "-pk").values_list("pk", flat=True)
            edge = newest[MOST_KEPT - 1 : MOST_KEPT]
            oldest_kept = Signal.objects.get(pk=edge[0])
            later.filter(bot=bot_id, received_at__lt=oldest_kept.received_at).delete()
