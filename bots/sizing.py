"""Budgets and ladders: how much a deal may spend, and at which prices it spends how much. Pure.

Every budget is divided exactly once, here (F30). The engine, the validation of settings and the form that shows a
ladder while it is edited all use these functions, so they cannot disagree. Prices and sizes are exact; rounding to a
venue's increments happens when an order is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, localcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from marketdata.terms import ProductTerms
from positions.ledger import ProfitReference
from positions.states import Direction
from tradebot.core.decimals import HUNDRED, MONEY, ONE, QUANTUM, ZERO, floor_to, for_money, plain
from tradebot.core.errors import MissingInformation

if TYPE_CHECKING:
    from bots.strategies.dca_settings import DcaSettings


class BaseOrderType(StrEnum):
    """What the base order's size is."""

    PERCENT = "percent"
    FIXED = "fixed"
    AUTOMATIC = "automatic"


class SafetyOrderType(StrEnum):
    """What the first safety order's size is."""

    PERCENT = "percent"
    FIXED = "fixed"


class DeviationReference(StrEnum):
    """Which price the ladder hangs from."""

    AVERAGE = "average"
    BASE_ORDER = "base_order"
    LAST_FILL = "last_fill"


# Budgets ------------------------------------------------------------------------------------------------------------


def bot_budget(kind: str, amount: Decimal, account_value: Decimal | None) -> Decimal:
    """Return a bot's whole budget in its quote currency.

    ``kind`` is ``percent`` (``amount`` percent of ``account_value``, which is :func:`positions.ledger.quote_value`) or
    ``fixed`` (``amount`` itself). 0 percent is 0 (F33). Raises MissingInformation when a percentage is asked of an
    unknown value, ValueError for another kind.
    """
    if kind == "fixed":
        return amount
    if kind != "percent":
        raise ValueError(f"{kind!r} is no kind of budget")
    if account_value is None:
        raise MissingInformation("missing_balance", "the account's value is not known")
    with for_money():
        return account_value * amount / HUNDRED


def deal_budget(budget: Decimal, deals: int, *, split: bool) -> Decimal:
    """Return what one deal may spend: the bot's ``budget`` shared by ``deals`` when split, else all of it (F30)."""
    return MONEY.divide(budget, deals) if split else budget


def fundable_deals(budget: Decimal, largest_minimum: Decimal, ladder_multiplier: Decimal, maximum: int) -> int:
    """Return how many deals the budget can fully fund, between 1 and ``maximum`` (the soft ceiling).

    ``largest_minimum`` is the largest minimum order of the bot's pairs in quote, ``ladder_multiplier`` how many times
    that a whole deal needs (:func:`smallest_deal_budget` divided by the minimum).
    """
    smallest = largest_minimum * ladder_multiplier
    if smallest <= ZERO:
        return maximum
    fitting = int(MONEY.divide(budget, smallest).to_integral_value(rounding=ROUND_FLOOR))
    return max(1, min(fitting, maximum))


# Ladders ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ladder:
    """The shape of a ladder: ``count`` safety orders, the first ``deviation_pct`` away and ``first_size`` quote big."""

    count: int
    deviation_pct: Decimal | int
    step_scale: Decimal | int = 1
    volume_scale: Decimal | int = 1
    first_size: Decimal | int = 0


@dataclass(frozen=True, slots=True)
class Rung:
    """One safety order: its number from 1, its distance from the reference in percent, its price and quote size."""

    level: int
    deviation_pct: Decimal
    price: Decimal
    size: Decimal


def cumulative_deviation_pct(ladder: Ladder, level: int) -> Decimal:
    """Return the distance of safety order ``level`` (from 1) from the reference price in percent: d + d·s + d·s² …"""
    with for_money():
        total, step = ZERO, Decimal(ladder.deviation_pct)
        for _ in range(level):
            total += step
            step *= ladder.step_scale
        return total


def safety_order_levels(ladder: Ladder, reference: Decimal, direction: Direction) -> list[Rung]:
    """Return the rungs below (long) or above (short) the reference price, nearest first.

    Deviations accumulate: d, d + d*s, d + d*s + d*s**2 … (s = ``ladder.step_scale``). Sizes grow by
    ``ladder.volume_scale`` from the first safety order. Prices and sizes are exact; rounding to the
    venue's increments happens when an order is made from a rung.

    >>> [r.price for r in safety_order_levels(Ladder(2, 2, Decimal("1.2")), Decimal(100), Direction.LONG)]
    [Decimal('98.00'), Decimal('95.600')]
    """
    rungs = []
    with for_money():
        deviation, step, size = ZERO, Decimal(ladder.deviation_pct), Decimal(ladder.first_size)
        for level in range(1, ladder.count + 1):
            deviation += step
            price = reference * (ONE - direction.sign * deviation / HUNDRED)
            rungs.append(Rung(level, deviation, price, size))
            step *= ladder.step_scale
            size *= ladder.volume_scale
    return rungs


def ladder_factor(count: int, first_ratio: Decimal, volume_scale: Decimal) -> Decimal:
    """Return what a whole ladder costs in base orders: 1 + Σ r·vᵏ⁻¹ (r = first safety order / base order)."""
    with for_money():
        total, size = ONE, first_ratio
        for _ in range(count):
            total += size
            size *= volume_scale
        return total


def automatic_base_size(budget: Decimal, count: int, first_ratio: Decimal, volume_scale: Decimal) -> Decimal:
    """Return the base order that makes the whole ladder cost exactly ``budget``."""
    with for_money():
        return budget / ladder_factor(count, first_ratio, volume_scale)


def base_order_size(settings: DcaSettings, budget: Decimal) -> Decimal:
    """Return the base order's quote size for a deal with this budget."""
    if settings.base_order_type is BaseOrderType.FIXED:
        return settings.base_order_size
    if settings.base_order_type is BaseOrderType.PERCENT:
        return MONEY.divide(MONEY.multiply(budget, settings.base_order_size), HUNDRED)
    return MONEY.divide(budget, settings.shape.ladder_factor)


def ladder_of(settings: DcaSettings, base_quote: Decimal) -> Ladder:
    """Return the ladder of a deal whose base order came to ``base_quote``, as filled where it is filled (F37)."""
    first = settings.safety_order_size
    if settings.safety_order_type is SafetyOrderType.PERCENT:
        first = MONEY.divide(MONEY.multiply(base_quote, first), HUNDRED)
    return Ladder(
        settings.max_safety_orders, settings.price_deviation, settings.step_scale, settings.volume_scale, first
    )


def smallest_deal_budget(settings: DcaSettings, minimum: Decimal) -> Decimal | None:
    """Return the least quote budget with which no order of a deal is below ``minimum`` and the ladder is paid for.

    None when no budget would do, because a fixed size is below the minimum or the percentages exceed the budget.
    """
    with for_money():
        count, base = settings.max_safety_orders, settings.base_order_size
        size, base_type = settings.safety_order_size, settings.base_order_type
        total_steps, least_step = settings.shape.size_sum, settings.shape.least_size
        fixed_safety = settings.safety_order_type is SafetyOrderType.FIXED
        if fixed_safety and count and size * least_step < minimum:
            return None
        safety_total = size * total_steps if fixed_safety else ZERO
        ratio = ZERO if fixed_safety else size / HUNDRED
        factor = ONE + ratio * total_steps
        least_base = minimum if fixed_safety or not count else max(minimum, minimum / (ratio * least_step))
        if base_type is BaseOrderType.FIXED:
            return base * factor + safety_total if base >= least_base else None
        if base_type is BaseOrderType.AUTOMATIC:
            return least_base * factor
        share = base / HUNDRED
        if share * factor > ONE or (safety_total and share >= ONE):
            return None
        return max(least_base / share, safety_total / (ONE - share) if safety_total else ZERO)


def minimum_order_quote(terms: ProductTerms, price: Decimal) -> Decimal:
    """Return the smallest order the venue takes, in quote at ``price``."""
    with for_money():
        return max(terms.min_quote, terms.min_base * price, terms.base_increment * price)


def base_for(quote: Decimal, price: Decimal, terms: ProductTerms) -> Decimal:
    """Return the base that ``quote`` comes to at ``price``, floored to the product's increment (F24)."""
    with for_money():
        return floor_to(quote / price, terms.base_increment)


def below_minimum(base: Decimal, price: Decimal, terms: ProductTerms) -> str:
    """Return why an order of ``base`` at ``price`` is too small for the venue, in words; empty when it is not (F27)."""
    if base <= ZERO or base < terms.min_base:
        return f"{plain(base)} {terms.base} is below the minimum of {plain(terms.min_base)} {terms.base}"
    with for_money():
        quote = base * price
    if quote < terms.min_quote:
        return f"{_short(quote)} {terms.quote} is below the minimum of {plain(terms.min_quote)} {terms.quote}"
    return ""


def _short(value: Decimal) -> str:
    """Return ``value`` with 8 significant digits at most. Rounded down, or "x is below y" might read "y is below y"."""
    with localcontext(MONEY) as context:
        context.prec, context.rounding = 8, ROUND_FLOOR
        return plain(+value)


# The report ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReportRung:
    """A rung with what the deal looks like once it has filled. Level 0 is the base order.

    ``deviation_pct`` is the distance from the reference, ``drop_pct`` that from the base price; amounts are in quote.
    """

    level: int
    deviation_pct: Decimal
    drop_pct: Decimal
    price: Decimal
    size: Decimal
    cumulative_cost: Decimal
    average_after: Decimal
    target_after: Decimal | None


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a ladder cannot be traded as it is. ``level`` names the rung (0: base order), None the ladder as a whole."""

    code: str
    message: str
    level: int | None = None


@dataclass(frozen=True, slots=True)
class LadderReport:
    """A ladder at a price: its rungs, its cost and what stands against it."""

    rungs: tuple[ReportRung, ...]
    base_size: Decimal
    total_cost: Decimal
    budget: Decimal | None
    smallest_budget: Decimal | None
    violations: tuple[Violation, ...]

    @property
    def is_workable(self) -> bool:
        """Return whether nothing stands against the ladder."""
        return not self.violations


def ladder_report(
    settings: DcaSettings,
    price: Decimal,
    terms: ProductTerms,
    budget: Decimal,
    fee_rate: Decimal,
    direction: Direction | None = None,
) -> LadderReport:
    """Return the ladder of one deal opened at ``price`` with ``budget`` quote, each rung filled at its own price.

    ``fee_rate`` is the taker fee as a fraction; targets are net of it. Violations name the rung that is below the
    venue's minimum, has no price above zero, or would never be reached in order, and say so when the budget does not
    pay for the ladder.
    """
    way = direction or settings.directions[0]
    base_size = base_order_size(settings, budget)
    rungs = _simulate(settings, price, base_size, fee_rate, way)
    violations: list[Violation] = []
    for rung in rungs:
        name = "the base order" if rung.level == 0 else f"safety order {rung.level}"
        if rung.price <= ZERO:
            violations.append(
                Violation(
                    "price_not_above_zero",
                    f"{name} lies {plain(rung.deviation_pct)} % below its reference: there is no such price",
                    rung.level,
                )
            )
            break
        problem = below_minimum(base_for(rung.size, rung.price, terms), rung.price, terms)
        if problem:
            violations.append(Violation("below_minimum", f"{name}: {problem}", rung.level))
    total = sum((rung.size for rung in rungs), ZERO)
    # Sizes that were divided out of the budget may add up to it but for the last digit.
    if total - budget > QUANTUM:
        violations.append(
            Violation(
                "over_budget",
                f"the ladder costs {_short(total)} {terms.quote}, a deal may spend {_short(budget)} {terms.quote}",
            )
        )
    smallest = smallest_deal_budget(settings, minimum_order_quote(terms, price))
    return LadderReport(tuple(rungs), base_size, total, budget, smallest, tuple(violations))


@dataclass(frozen=True, slots=True)
class _Step:
    """A rung of a ladder that is filled on its way, with what the deal paid (or received) for how much so far."""

    level: int
    price: Decimal
    size: Decimal
    cost: Decimal
    quantity: Decimal
    average: Decimal


def _walk(settings: DcaSettings, price: Decimal, base_size: Decimal, way: Direction) -> Iterator[_Step]:
    """Yield base order and rungs, each filled at its own price, following the settings' reference price.

    The walk ends at the first price that does not exist. The caller sets the context.
    """
    average = last = price
    cost, quantity = base_size, base_size / price
    average = cost / quantity if quantity else price
    yield _Step(0, price, base_size, cost, quantity, average)
    size = Decimal(ladder_of(settings, base_size).first_size)
    reference_kind = settings.deviation_reference
    for level, factor in enumerate(settings.shape.sides[way].rung_factors, start=1):
        if reference_kind is DeviationReference.AVERAGE:
            reference = average
        else:
            reference = last if reference_kind is DeviationReference.LAST_FILL else price
        at = reference * factor
        if at > ZERO:
            cost += size
            quantity += size / at
            average, last = (cost / quantity if quantity else at), at
        yield _Step(level, at, size, cost, quantity, average)
        if at <= ZERO:
            return
        size *= settings.volume_scale


def _simulate(
    settings: DcaSettings, price: Decimal, base_size: Decimal, fee_rate: Decimal, way: Direction
) -> list[ReportRung]:
    """Return base order and rungs as the report shows them."""
    with for_money():
        ladder = ladder_of(settings, base_size)
        deviations = [ZERO, *(rung.deviation_pct for rung in safety_order_levels(ladder, price, way))]
        return [
            ReportRung(
                level=step.level,
                deviation_pct=deviations[step.level],
                drop_pct=way.sign * (ONE - step.price / price) * HUNDRED,
                price=step.price,
                size=step.size,
                cumulative_cost=step.cost,
                average_after=step.average,
                target_after=_target(settings, step.cost, step.quantity, base_size, fee_rate, way),
            )
            for step in _walk(settings, price, base_size, way)
        ]


def _target(
    settings: DcaSettings, cost: Decimal, quantity: Decimal, base_size: Decimal, fee_rate: Decimal, way: Direction
) -> Decimal | None:
    """Return the take-profit price of a deal that paid (or received) ``cost`` for ``quantity``, net of both fees."""
    if settings.take_profit is None or not quantity:
        return None
    invested = cost * (ONE + way.sign * fee_rate)
    stake = base_size if settings.take_profit_type is ProfitReference.BASE else invested
    price = (invested + way.sign * stake * settings.take_profit / HUNDRED) / quantity / (ONE - way.sign * fee_rate)
    return price if price > ZERO else None


def ladder_fault(
    settings: DcaSettings, price: Decimal, terms: ProductTerms, budget: Decimal, base_size: Decimal, way: Direction
) -> str:
    """Return the code of the first violation that :func:`ladder_report` would name; empty when there is none.

    ``base_size`` is :func:`base_order_size` of the budget. Mostly a glance at the smallest order will do: where it is
    well above every minimum, so are the others. Only what comes close is walked through, order by order.
    """
    with for_money():
        return fault_in_context(settings, price, terms, budget, base_size, way)


def fault_in_context(
    settings: DcaSettings, price: Decimal, terms: ProductTerms, budget: Decimal, base_size: Decimal, way: Direction
) -> str:
    """Do what :func:`ladder_fault` does, for a caller that has set the context."""
    shape = settings.shape
    side = shape.sides[way]
    first = settings.safety_order_size
    if settings.safety_order_type is SafetyOrderType.PERCENT:
        first = base_size * first / HUNDRED
    smallest = min(base_size, first * shape.least_size) if side.rung_factors else base_size
    highest = price * side.highest_factor
    # Flooring takes less than one increment off an order.
    needed = max(terms.min_quote, terms.min_base * highest) + terms.base_increment * highest
    if smallest > needed * _CLEARLY_MORE and side.lowest_factor > ZERO:
        if shape.always_within_budget:
            return ""
        total = base_size + first * shape.size_sum
        if total * _CLEARLY_MORE < budget:
            return ""
    if smallest * _CLEARLY_MORE < terms.min_quote and side.lowest_factor > ZERO:
        return "below_minimum"
    total = ZERO
    for step in _walk(settings, price, base_size, way):
        if step.price <= ZERO:
            return "price_not_above_zero"
        base = floor_to(step.size / step.price, terms.base_increment)
        if base <= ZERO or base < terms.min_base or base * step.price < terms.min_quote:
            return "below_minimum"
        total += step.size
    return "over_budget" if total - budget > QUANTUM else ""


_CLEARLY_MORE: Final = Decimal("1.000000001")


def deepest_drop_pct(
    deviation_reference: DeviationReference, ladder: Ladder, first_ratio: Decimal, direction: Direction
) -> tuple[Decimal, Decimal]:
    """Return how far the last safety order is from the average before it and from the base price, in percent.

    ``first_ratio`` is the first safety order's size in base orders. The first figure is the largest over all rungs:
    a stop that is measured from the average must be farther away than that, or a rung is never reached.
    """
    with for_money():
        price = average = last = HUNDRED
        cost, quantity = HUNDRED, ONE
        from_average = from_base = ZERO
        for level in range(1, ladder.count + 1):
            reference = {"average": average, "base_order": HUNDRED, "last_fill": last}[deviation_reference]
            deviation = cumulative_deviation_pct(ladder, level)
            price = reference * (ONE - direction.sign * deviation / HUNDRED)
            if price <= ZERO:
                return HUNDRED, HUNDRED
            from_average = max(from_average, direction.sign * (ONE - price / average) * HUNDRED)
            from_base = max(from_base, direction.sign * (ONE - price / HUNDRED) * HUNDRED)
            size = HUNDRED * first_ratio * Decimal(ladder.volume_scale) ** (level - 1)
            cost, quantity, last = cost + size, quantity + size / price, price
            average = cost / quantity
        return from_average, from_base
