"""Validated settings of bots and of deals' frozen copies, kept by version in each process.

A document is checked once and not at every look; one that was changed has another version.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from bots.models import Bot
from bots.strategies import get_strategy
from bots.strategies.base import Strategy
from tradebot.core.errors import TradebotError

__all__ = ["compiled", "forget", "settings_of"]

COMPILED_KEPT: Final = 20_000

_compiled: OrderedDict[tuple[str, int, int], Any] = OrderedDict()
_by_content: OrderedDict[bytes, Any] = OrderedDict()
_compiled_lock = threading.Lock()


def compiled(kind: str, pk: int, version: int, strategy: Strategy, data: Mapping[str, Any]) -> Any:
    """Return validated settings of a bot (or of a deal's frozen copy), kept by version. Raises InvalidInput.

    Equal settings are one object, however many bots have them: what is worked out of them is worked out once.
    """
    key = (kind, pk, version)
    if (settings := _compiled.get(key)) is None:
        settings = _shared(strategy, data)
        with _compiled_lock:
            _compiled[key] = settings
            while len(_compiled) > COMPILED_KEPT:
                _compiled.popitem(last=False)
    return settings


def _shared(strategy: Strategy, data: Mapping[str, Any]) -> Any:
    content = hashlib.blake2b(f"{strategy.name} {json.dumps(data, sort_keys=True)}".encode(), digest_size=16).digest()
    if (settings := _by_content.get(content)) is None:
        settings = strategy.settings_from_json(data)
        with _compiled_lock:
            _by_content[content] = settings
            while len(_by_content) > COMPILED_KEPT:
                _by_content.popitem(last=False)
    return settings


def forget() -> None:
    """Drop all validated settings that are kept."""
    with _compiled_lock:
        _compiled.clear()
        _by_content.clear()


def settings_of(bots: Iterable[Bot]) -> dict[int, tuple[Strategy, Any] | TradebotError]:
    """Return each bot's strategy and validated settings, or why they cannot be read. At most one query.

    The bots may be read without their settings: those are fetched for the versions that are not kept yet.
    """
    found: dict[int, tuple[Strategy, Any] | TradebotError] = {}
    unknown: dict[int, Strategy] = {}
    for bot in bots:
        try:
            strategy = get_strategy(bot.strategy)
        except TradebotError as error:
            found[bot.pk] = error
            continue
        settings = _compiled.get(("bot", bot.pk, bot.settings_version))
        if settings is None:
            unknown[bot.pk] = strategy
        else:
            found[bot.pk] = strategy, settings
    if unknown:
        rows = Bot.objects.filter(pk__in=unknown).order_by().values_list("pk", "settings_version", "settings")
        for pk, version, data in rows:
            try:
                found[pk] = unknown[pk], compiled("bot", pk, version, unknown[pk], data)
            except TradebotError as error:
                found[pk] = error
    return found
