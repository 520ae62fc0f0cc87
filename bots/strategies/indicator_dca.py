"""The DCA bot as a strategy: its settings, what it looks at, and its two decisions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bots.conditions import Asked, required_series
from bots.strategies.base import Strategy
from bots.strategies.dca_manage import manage
from bots.strategies.dca_open import decide_open
from bots.strategies.dca_presets import PRESETS
from bots.strategies.dca_settings import DcaSettings
from marketdata.timeframes import Timeframe

__all__ = ["STRATEGY", "decide_open", "manage", "needed_series", "needed_signals"]


def needed_series(settings: DcaSettings) -> dict[Timeframe, int]:
    """Return the timeframes and numbers of closed candles these settings look at (F43: of this very copy)."""
    wanted: dict[Timeframe, int] = {}
    asked = (settings.open_tree, settings.add_tree, settings.close_tree)
    for tree in (tree_of(direction) for direction in settings.directions for tree_of in asked):
        for timeframe, count in required_series(tree).items():
            wanted[timeframe] = max(wanted.get(timeframe, 0), count)
    return wanted


def needed_signals(settings: DcaSettings) -> Mapping[str, Asked]:
    """Return what these settings ask for, by kind of signal."""
    return settings.signals


STRATEGY: Final = Strategy(
    name="indicator_dca",
    label="DCA with indicators",
    description="Buys when its conditions hold, buys more as the price falls, sells at a profit; or the reverse.",
    settings_model=DcaSettings,
    decide_open=decide_open,
    manage=manage,
    required_series=needed_series,
    presets=PRESETS,
    required_signals=needed_signals,
)
