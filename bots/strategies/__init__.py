"""The strategies a bot can follow, by name. Pure."""

from __future__ import annotations

from typing import Final

from bots.strategies import indicator_dca
from bots.strategies.base import Strategy
from tradebot.core.errors import InvalidInput

__all__ = ["STRATEGIES", "get_strategy"]

STRATEGIES: Final[dict[str, Strategy]] = {strategy.name: strategy for strategy in (indicator_dca.STRATEGY,)}


def get_strategy(name: str) -> Strategy:
    """Return the strategy called ``name``. Raises InvalidInput (``unknown_strategy``)."""
    try:
        return STRATEGIES[name]
    except KeyError:
        raise InvalidInput(
            "unknown_strategy", f"{name!r} is no strategy; known are {', '.join(STRATEGIES)}", field="strategy"
        ) from None
