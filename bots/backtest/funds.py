"""What a bot of a backtest may spend and sell, as ``bots.money`` and ``positions.reserves`` define it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from bots import sizing
from bots.backtest.deals import Deal
from bots.backtest.spec import Spec
from bots.backtest.tracks import Track
from bots.backtest.venue import Wallet
from positions.states import Direction
from tradebot.core.decimals import ONE, ZERO, quantize

__all__ = ["Funds"]


class Funds:
    """The wallet seen past the open deals. ``deals`` is the simulation's own list, which changes as it goes on."""

    __slots__ = ("_any_short", "_deals", "_spec", "_taker", "_tracks", "_wallet")

    def __init__(self, spec: Spec, wallet: Wallet, tracks: Sequence[Track], deals: list[Deal]) -> None:
        self._spec, self._wallet, self._tracks, self._deals = spec, wallet, tracks, deals
        self._any_short = Direction.SHORT in spec.settings.directions
        self._taker = ONE + spec.costs.taker

    def free_quote(self, look: int) -> Decimal | None:
        """Return the free quote without what open shorts need to buy back; None while a price of theirs is missing."""
        free = self._wallet.free(self._spec.quote)
        if not self._any_short:
            return free
        for deal in self._deals:
            remaining = deal.totals.remaining_base
            if deal.direction is Direction.SHORT and remaining:
                if not deal.track.has_price(look):
                    return None
                average = quantize(deal.totals.average_price or ZERO)
                need = max(remaining * deal.track.mark(look) * self._taker, remaining * average)
                free -= max(need - deal.claimed_by_closes(), ZERO)
        return max(free, ZERO)

    def free_base(self, track: Track) -> Decimal:
        """Return the free base without what open longs hold."""
        base = track.terms.base
        free = self._wallet.free(base)
        for deal in self._deals:
            if deal.direction is Direction.LONG and deal.track.terms.base == base:
                free -= max(deal.totals.remaining_base - deal.claimed_by_closes(), ZERO)
        return max(free, ZERO)

    def base_for(self, deal: Deal) -> Decimal:
        """Return the base that a long can sell, or that is free beside a short."""
        if deal.direction is Direction.LONG:
            return self._wallet.free(deal.track.terms.base)
        return self.free_base(deal.track)

    def budget(self, direction: Direction, look: int) -> Decimal | None:
        """Return the bot's budget for one direction, None while a price that it depends on is not known."""
        spec = self._spec
        whole: Decimal = spec.budget_fixed
        if spec.budget_kind != "fixed":
            value = self._wallet.total.get(spec.quote, ZERO)
            for deal in self._deals:
                if held := deal.totals.base_held:
                    if not deal.track.has_price(look):
                        return None
                    value += held * deal.track.mark(look)
            whole = sizing.bot_budget(spec.budget_kind, spec.budget_pct, value)
        share: Decimal = spec.settings.budget_share(direction)
        return whole if share == ONE else whole * share

    def largest_minimum(self, look: int) -> Decimal | None:
        """Return the largest minimum order among the pairs, in quote; None while no pair has a price."""
        minimums = [
            sizing.minimum_order_quote(track.terms, track.mark(look)) for track in self._tracks if track.has_price(look)
        ]
        return max(minimums, default=None)
