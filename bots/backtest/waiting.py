"""When a DCA deal could next do something: what it waits for, as price levels for ``triggers``. Pure.

A superset, like everything in ``triggers``: levels come from the same functions as the decisions, as float64.
"""

from __future__ import annotations

import math
from decimal import Decimal

from bots.backtest.deals import Deal
from bots.backtest.tracks import Track
from bots.backtest.triggers import FIRST_WINDOW, MARGIN, NEVER, WINDOW_GROWTH, Levels, next_trigger
from bots.backtest.venue import RestingOrder
from bots.conditions import Tree, could_hold
from bots.strategies.dca_deal import DealPlan
from bots.strategies.dca_settings import DcaSettings
from bots.strategies.dca_words import TakeProfitMode
from marketdata.series import IntArray
from positions.states import Direction, OrderType, Purpose, Side

__all__ = ["Waiting", "looks_of"]


def looks_of(tree: Tree, track: Track) -> IntArray | None:
    """Return the looks at which a tree could hold, ascending; None for an empty tree, which always holds."""
    return None if tree.is_empty else track.mask_of(could_hold(tree, track.full, track.timeframe))


class Waiting:
    """What deals of one pair and direction wait for under ``settings``."""

    def __init__(self, settings: DcaSettings, track: Track, direction: Direction, taker: Decimal) -> None:
        self.settings, self.track, self.taker, self.sign = settings, track, taker, direction.sign
        self.side = settings.shape.sides[direction]
        adding, closing = self.side.adding.tree, self.side.closing.tree
        self.add_looks, self.close_looks = looks_of(adding, track), looks_of(closing, track)
        self.frames = tuple(dict.fromkeys((*adding.crossing_timeframes, *closing.crossing_timeframes)))
        executions = (settings.base_order_execution, settings.safety_order_execution, settings.take_profit_execution)
        self.uses_limits = OrderType.LIMIT in executions
        self.rungs_rest = settings.safety_order_execution is OrderType.LIMIT
        self.trails_profit = settings.take_profit_mode is TakeProfitMode.TRAILING
        by_price = settings.take_profit_mode is TakeProfitMode.FIXED or closing.is_empty
        self.closes_by_price = by_price and not self.trails_profit
        self.trailing_keep = float(self.side.pull_back_factor)
        factor = self.side.trailing_stop_factor
        self.stop_keep = None if factor is None else float(factor)

    def since(self, deal: Deal, look: int) -> dict[str, int] | None:
        """Return what had been judged of a deal's crossings before ``look``; nothing at its first look."""
        if not self.frames or look <= deal.first:
            return None
        found = {str(frame): self.track.judged(frame, look - 1) for frame in self.frames}
        return {frame: time for frame, time in found.items() if time is not None} or None

    def next_look(self, deal: Deal, look: int, first_time: int) -> tuple[int, int]:
        """Return the next look from ``look`` at which the deal may do something, -1 when there is none, and from where
        its trail has to be brought up to date then, -1 for not at all. ``first_time`` is the time of look 0."""
        track = self.track
        index = max(look - track.offset, 0)
        if index >= len(track.close):
            return NEVER, -1
        if self._must_ask(deal):
            return look, -1
        levels = self._levels(deal)
        prices, worst = track.signed(deal.direction), track.worst(deal.direction)
        found = next_trigger(prices, worst, index, levels, track.offset)
        wake = found + track.offset if found != NEVER else NEVER
        for other in (self._overdue_look(deal, first_time), self._resting_look(deal, look)):
            if other != NEVER and (wake == NEVER or other < wake):
                wake = max(other, look)
        return wake, look if levels.trails else -1

    def _must_ask(self, deal: Deal) -> bool:
        """Return whether the strategy has to be asked at the next look, whatever the price."""
        if deal.trail.breached_at is not None:
            return True
        if not self.uses_limits:
            return False
        if deal.missed_limit_exit or deal.looked <= deal.acted:
            return True  # orders rest by what the deal is now: the strategy says which
        rungs = sum(order.purpose is Purpose.SAFETY_ORDER for order in deal.resting)
        if rungs < len(deal.resting):
            return True  # a base order or a close rests: it may be moved or given up
        return self.rungs_rest and not rungs and deal.levels < len(self.side.rung_factors)

    def _levels(self, deal: Deal) -> Levels:
        """Return the signed prices that the deal waits for. Its plan is the strategy's own."""
        found, sign = Levels(), self.sign
        if not deal.has_fills:
            return found
        plan = DealPlan.of(self.settings, self.side, deal.totals, deal.levels, self.taker)
        if plan.stop_loss is not None:
            found.stop = sign * float(plan.stop_loss)
        if self.stop_keep is not None:
            best = deal.trail.best or plan.base_order_price
            found.best, found.keep = sign * float(best or 0), self.stop_keep
            if deal.trail.stop is not None:
                found.stop = max(found.stop, sign * float(deal.trail.stop))
        if plan.next_price is not None and not self.rungs_rest:
            found.rung, found.add_looks = sign * float(plan.next_price), self.add_looks
        self._wait_for_profit(deal, plan, found)
        return found

    def _wait_for_profit(self, deal: Deal, plan: DealPlan, found: Levels) -> None:
        level = math.inf if plan.floor is None else self.sign * float(plan.floor)
        if self.close_looks is not None:
            found.close_looks = self.close_looks
            found.conditional_profit = -math.inf if self.settings.take_profit is None else level
        if self.trails_profit and deal.trail.armed and deal.trail.peak is not None:
            found.armed_peak, found.armed_keep = self.sign * float(deal.trail.peak), self.trailing_keep
        elif self.trails_profit or self.closes_by_price:
            found.profit = level

    def _overdue_look(self, deal: Deal, first_time: int) -> int:
        """Return the look at which the longest hold is over, -1 when there is none."""
        hours = self.settings.max_hold_hours
        if hours is None or deal.opened_at is None:
            return NEVER
        return -(-(int(deal.opened_at.timestamp()) + hours * 3600 - first_time) // self.track.step)

    def _resting_look(self, deal: Deal, look: int) -> int:
        """Return the first look from ``look`` at which one of its resting orders fills, -1 when none does."""
        found = (self._fill_look(order, max(look, order.placed + 1)) for order in deal.resting)
        return min((at for at in found if at != NEVER), default=NEVER)

    def _fill_look(self, order: RestingOrder, look: int) -> int:
        """Return the first look from ``look`` at which a candle trades through a resting order, -1 when none does."""
        candles, track, limit = self.track.candles, self.track, float(order.limit)
        buys = order.side is Side.BUY
        prices = candles.low if buys else candles.high
        start, window = max(look - track.offset, 0), FIRST_WINDOW
        while start < len(prices):
            chunk = prices[start : start + window]
            hit = chunk <= limit * (1 + MARGIN) if buys else chunk >= limit * (1 - MARGIN)
            first = int(hit.argmax())
            if hit[first]:
                return start + first + track.offset
            start += window
            window *= WINDOW_GROWTH
        return NEVER
