"""What pages show of a perpetual deal besides every deal's card: terms, liquidation, bracket, funding. Reads only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from positions.figures import DealFigures
from positions.models import Bracket, PerpsTerms, Position
from positions.outlook import Outlook, Step
from positions.states import Direction
from tradebot.core.decimals import HUNDRED

__all__ = ["CLOSE_TO_LIQUIDATION_PCT", "PerpsCard", "liquidation_distance_pct", "outlook_of", "perps_cards"]

CLOSE_TO_LIQUIDATION_PCT: Final = Decimal(3)
"""A mark nearer than this to the price of liquidation is told."""


@dataclass(frozen=True, slots=True)
class PerpsCard:
    """The terms of a perpetual deal and the bracket that is wanted for it."""

    terms: PerpsTerms
    bracket: Bracket

    @property
    def label(self) -> str:
        """Return leverage and margin mode: "5× isolated"."""
        return f"{self.terms.leverage}\u00d7 {self.terms.margin_mode}"

    @property
    def margin(self) -> Decimal:
        """Return the margin that the venue keeps, or what opening took while it has not said."""
        return self.terms.initial_margin if self.terms.margin is None else self.terms.margin

    @property
    def is_protected(self) -> bool:
        """Return whether a stop is wanted and stands."""
        return self.bracket.stop_loss is not None and not self.bracket.alarm_code


def perps_cards(positions: Iterable[Position]) -> dict[int, PerpsCard]:
    """Return terms and brackets by deal, of those that are perpetuals. Two queries, none where there is none."""
    ids = [position.pk for position in positions if position.product.is_perpetual]
    if not ids:
        return {}
    found = {row.position_id: row for row in Bracket.objects.filter(position_id__in=ids)}
    terms = PerpsTerms.objects.filter(position_id__in=ids)
    return {row.position_id: PerpsCard(row, found[row.position_id]) for row in terms if row.position_id in found}


def liquidation_distance_pct(card: PerpsCard, figures: DealFigures) -> Decimal | None:
    """Return how far the mark may move against the deal before it is liquidated, in percent; None when not known."""
    mark, end = figures.mark, card.terms.liquidation_price
    if mark is None or end is None:
        return None
    return Direction(figures.position.direction).sign * (mark - end) / mark * HUNDRED


def outlook_of(card: PerpsCard) -> Outlook:
    """Return what lies ahead: take profit, stop, liquidation."""
    bracket, end = card.bracket, card.terms.liquidation_price
    where = "watched from here" if bracket.watched else "at the venue"
    trouble = f"It does not stand: {bracket.alarm_text}" if bracket.alarm_code else ""
    steps = (
        Step("Take profit", "waiting", "a limit order at", bracket.take_profit, ", at the venue.", trouble, "profit")
        if bracket.take_profit is not None
        else Step("Take profit", "off", text="None is set.", kind="profit"),
        Step("Stop", "waiting", "closes at market at", bracket.stop_loss, f", {where}.", trouble)
        if bracket.stop_loss is not None
        else Step("Stop", "off", text="None is set: nothing acts before the liquidation."),
        Step("Liquidation", "waiting", "the venue closes it at a mark of about", end, ".")
        if end is not None
        else Step("Liquidation", "off", text="No price is that bad, or the venue has not told it yet."),
    )
    return Outlook(target=bracket.take_profit, stop=bracket.stop_loss, steps=steps)
