"""The figures of a backtest, one function each. Pure.

Ratios are floats (``_pct`` is in percent), amounts are exact and come out as text in :func:`summary`. What cannot be
said (no deal, no loss to divide by, too short a range) is None, never zero. The equity curve begins with the opening
equity, before anything was paid for; a day is a UTC day.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bots.backtest.spec import Outcome, SimulatedDeal
from marketdata.series import FloatArray, IntArray
from marketdata.timeframes import DAY_SECONDS
from positions.states import Direction
from tradebot.core.decimals import MONEY, ZERO, for_money, plain

__all__ = [
    "CHART_POINTS",
    "OBJECTIVES",
    "Drawdown",
    "Objective",
    "annual_return_pct",
    "average_deal",
    "average_deal_pct",
    "capital_exposure_pct",
    "daily_returns",
    "deals_per_day",
    "drawdowns",
    "extreme_deal",
    "hold_max_drawdown_pct",
    "hold_return_pct",
    "hours_in_deals",
    "max_drawdown",
    "monthly",
    "pairs",
    "profit_factor",
    "return_pct",
    "sharpe",
    "sortino",
    "summary",
    "thinned",
    "time_exposure_pct",
    "value_of",
    "win_rate_pct",
]

YEAR_SECONDS: Final = 365.25 * DAY_SECONDS
DAYS_OF_A_YEAR: Final = 365
CHART_POINTS: Final = 1_500
FLAT: Final = 1e-12
"""Deviations of daily returns below this are rounding, not movement."""

Deals = Sequence[SimulatedDeal]


@dataclass(frozen=True, slots=True)
class Objective:
    """A figure that a sweep can aim for."""

    name: str
    label: str
    unit: str = ""
    higher_is_better: bool = True


OBJECTIVES: Final[dict[str, Objective]] = {
    objective.name: objective
    for objective in (
        Objective("return_pct", "Return", "%"),
        Objective("annual_return_pct", "Return a year", "%"),
        Objective("profit", "Profit"),
        Objective("realised", "Realised profit"),
        Objective("max_drawdown_pct", "Worst drawdown", "%", higher_is_better=False),
        Objective("return_per_drawdown", "Return for each percent of drawdown"),
        Objective("sharpe", "Sharpe ratio"),
        Objective("sortino", "Sortino ratio"),
        Objective("profit_factor", "Profit factor"),
        Objective("win_rate_pct", "Deals won", "%"),
        Objective("average_deal_pct", "Average deal", "%"),
        Objective("worst_deal_pct", "Worst deal", "%"),
        Objective("deals_closed", "Deals closed"),
        Objective("deals_per_day", "Deals a day"),
        Objective("mean_hours", "Time in a deal", "h", higher_is_better=False),
        Objective("fees", "Fees", higher_is_better=False),
        Objective("time_exposure_pct", "Time in deals", "%", higher_is_better=False),
        Objective("capital_exposure_pct", "Capital in deals", "%", higher_is_better=False),
        Objective("excess_return_pct", "Return above buy and hold", "%"),
    )
}


# The curve ----------------------------------------------------------------------------------------------------------


def _with_opening(curve: FloatArray, opening: float) -> FloatArray:
    return np.concatenate(([opening], curve))


def _opening(outcome: Outcome) -> float:
    """The opening equity: what buying and holding begins with."""
    return float(outcome.held[0]) if len(outcome.held) else 0.0


def _growth_pct(curve: FloatArray, opening: float) -> float | None:
    if not len(curve) or opening <= 0:
        return None
    return (float(curve[-1]) / opening - 1.0) * 100.0


def return_pct(outcome: Outcome) -> float | None:
    """Return 100 · (last equity / opening equity − 1)."""
    return _growth_pct(outcome.equity, _opening(outcome))


def annual_return_pct(outcome: Outcome) -> float | None:
    """Return the compound annual growth: 100 · ((last / opening)^(year / range) − 1); None for less than a day."""
    opening = _opening(outcome)
    if len(outcome.times) < 2 or opening <= 0 or outcome.equity[-1] <= 0:
        return None
    seconds = int(outcome.times[-1] - outcome.times[0])
    if seconds < DAY_SECONDS:
        return None
    power = math.log(float(outcome.equity[-1]) / opening) * YEAR_SECONDS / seconds
    return None if power > 50 else (math.exp(power) - 1.0) * 100.0  # a few lucky days are no e^50 a year


def drawdowns(curve: FloatArray) -> FloatArray:
    """Return at each point how far, in percent, the curve lies below its highest value so far: 100 · (1 − v / peak)."""
    peaks = np.maximum.accumulate(curve)
    if not len(curve) or peaks[0] <= 0:  # peaks only rise, so the first one tells
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(peaks > 0, 100.0 * (1.0 - curve / peaks), 0.0), dtype=np.float64)
    falls: FloatArray = np.divide(curve, peaks, out=peaks)
    falls -= 1.0
    falls *= -100.0
    return falls


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall, when its bottom was (Unix seconds), and the longest time below an earlier peak in seconds."""

    pct: float
    bottom_at: int
    longest_seconds: int


def max_drawdown(times: IntArray, curve: FloatArray, opening: float | None = None) -> Drawdown | None:
    """Return the largest of :func:`drawdowns` and the longest stretch from a peak until it was reached again.

    A stretch that has not ended counts up to the last point. ``opening`` is the value before the first point.
    """
    if not len(curve):
        return None
    if opening is not None:
        curve, times = _with_opening(curve, opening), np.concatenate((times[:1], times))
    falls = drawdowns(curve)
    bottom = int(np.argmax(falls))
    peaks = np.append(np.flatnonzero(falls <= 1e-9), len(falls))
    below = np.flatnonzero(np.diff(peaks) > 1)
    longest = 0
    if len(below):
        back = np.minimum(peaks[below + 1], len(falls) - 1)
        longest = int((times[back] - times[peaks[below]]).max())
    return Drawdown(float(falls[bottom]), int(times[bottom]), longest)


def _day_ends(times: IntArray) -> npt.NDArray[np.intp]:
    """Return the indices of the last point of each UTC day. A look at midnight ends the day before it."""
    first = (int(times[0]) - 1) // DAY_SECONDS * DAY_SECONDS
    midnights = np.arange(first + DAY_SECONDS, int(times[-1]), DAY_SECONDS)
    found = np.searchsorted(times, midnights, side="right") - 1
    return np.unique(np.append(found, len(times) - 1))


def daily_returns(outcome: Outcome) -> FloatArray:
    """Return the change of equity over each UTC day as a fraction; the first day counts from the opening equity."""
    if not len(outcome.times):
        return np.empty(0)
    values = _with_opening(outcome.equity[_day_ends(outcome.times)], _opening(outcome))
    before = values[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        returns = np.where(before > 0, values[1:] / before - 1.0, 0.0)
    return np.asarray(returns, dtype=np.float64)


def sharpe(returns: FloatArray) -> float | None:
    """Return mean / standard deviation (n − 1) of daily returns · √365, no risk-free rate; None below 2 days."""
    if len(returns) < 2:
        return None
    deviation = float(returns.std(ddof=1))
    return None if deviation < FLAT else float(returns.mean()) / deviation * math.sqrt(DAYS_OF_A_YEAR)


def sortino(returns: FloatArray) -> float | None:
    """Return mean / √(mean of squared losses over all days) · √365; None for fewer than 2 days or no losing day."""
    if len(returns) < 2:
        return None
    deviation = math.sqrt(float((np.minimum(returns, 0.0) ** 2).mean()))
    return None if deviation < FLAT else float(returns.mean()) / deviation * math.sqrt(DAYS_OF_A_YEAR)


def time_exposure_pct(outcome: Outcome) -> float | None:
    """Return the share of looks at which a deal was open, in percent."""
    if not len(outcome.invested):
        return None
    return 100.0 * float(np.count_nonzero(outcome.invested)) / len(outcome.invested)


def capital_exposure_pct(outcome: Outcome) -> float | None:
    """Return the mean over all looks of what was in deals as a share of the equity, in percent."""
    if not len(outcome.invested):
        return None
    sound = outcome.equity > 0
    shares = np.divide(outcome.invested, outcome.equity, out=np.zeros(len(sound)), where=True if sound.all() else sound)
    return 100.0 * float(shares.mean())


def hold_return_pct(outcome: Outcome) -> float | None:
    """Return what buying the pairs evenly at the start and holding them would have returned, in percent, no fees."""
    return _growth_pct(outcome.held, _opening(outcome))


def hold_max_drawdown_pct(outcome: Outcome) -> float | None:
    """Return the largest fall of buying and holding, in percent."""
    return float(drawdowns(outcome.held).max()) if len(outcome.held) else None


# The deals ----------------------------------------------------------------------------------------------------------


def _closed(deals: Iterable[SimulatedDeal]) -> list[SimulatedDeal]:
    return [deal for deal in deals if deal.closed_at is not None]


def _total(amounts: Iterable[Decimal]) -> Decimal:
    with for_money():
        return sum(amounts, ZERO)


def _won(closed: Deals) -> int:
    return sum(deal.profit > ZERO for deal in closed)


def win_rate_pct(closed: Deals) -> float | None:
    """Return the share of closed deals with a profit above zero, in percent."""
    return 100.0 * _won(closed) / len(closed) if closed else None


def profit_factor(closed: Deals) -> float | None:
    """Return the sum of profits / the sum of losses of closed deals; None without a loss."""
    gains = _total(deal.profit for deal in closed if deal.profit > ZERO)
    losses = _total(deal.profit for deal in closed if deal.profit < ZERO)
    return float(gains / -losses) if losses else None


def average_deal(closed: Deals) -> Decimal | None:
    """Return the mean profit of closed deals, in quote."""
    if not closed:
        return None
    with for_money():
        return _total(deal.profit for deal in closed) / len(closed)


def _percents(closed: Deals) -> FloatArray:
    return np.array([float(deal.profit_pct) for deal in closed if deal.profit_pct is not None])


def average_deal_pct(closed: Deals) -> float | None:
    """Return the mean of the profits of closed deals in percent of what each had invested."""
    values = _percents(closed)
    return float(values.mean()) if len(values) else None


def extreme_deal(closed: Deals, pick: Callable[..., SimulatedDeal]) -> SimulatedDeal | None:
    """Return the closed deal with the best (``pick=max``) or worst (``min``) profit in percent."""
    known = [deal for deal in closed if deal.profit_pct is not None]
    return pick(known, key=lambda deal: deal.profit_pct) if known else None


def hours_in_deals(deals: Deals, until: int) -> tuple[float | None, float | None, float | None]:
    """Return mean and median hours of closed deals, and the longest of all, open ones counted up to ``until``."""
    took = np.array([deal.closed_at - deal.opened_at for deal in deals if deal.closed_at is not None]) / 3600.0
    longest = max((((deal.closed_at or until) - deal.opened_at) / 3600.0 for deal in deals), default=None)
    if not len(took):
        return None, None, longest
    return float(took.mean()), float(np.median(took)), longest


def deals_per_day(closed: Deals, times: IntArray) -> float | None:
    """Return the closed deals / the days of the range, the part of a day counted; None for no range."""
    if len(times) < 2:
        return None
    return len(closed) * DAY_SECONDS / float(times[-1] - times[0])


# Tables -------------------------------------------------------------------------------------------------------------


def monthly(outcome: Outcome) -> list[dict[str, Any]]:
    """Return one row for each UTC month: return of the equity in percent of its start, realised profit, deals closed.

    ``profit`` and ``deals`` are those of deals closed in the month; the drawdown is within the month.
    """
    if not len(outcome.times):
        return []
    ends = _day_ends(outcome.times)
    months = ((outcome.times[ends] - 1).astype("datetime64[s]")).astype("datetime64[M]")
    last_days = np.flatnonzero(np.append(months[1:] != months[:-1], True))
    closed = _by_month(_closed(outcome.deals))
    rows, begin, before = [], 0, _opening(outcome)
    for day in last_days.tolist():
        end = int(ends[day]) + 1
        part = _with_opening(outcome.equity[begin:end], before)
        month = str(months[day])
        deals = closed.get(month, [])
        rows.append(
            {
                "month": month,
                "return_pct": _rounded((float(part[-1]) / before - 1.0) * 100.0 if before > 0 else None),
                "profit": plain(_total(deal.profit for deal in deals)),
                "deals": len(deals),
                "won": _won(deals),
                "max_drawdown_pct": _rounded(float(drawdowns(part).max())),
            }
        )
        begin, before = end, float(part[-1])
    return rows


def _by_month(closed: Deals) -> dict[str, list[SimulatedDeal]]:
    if not closed:
        return {}
    moments = np.array([(deal.closed_at or 0) - 1 for deal in closed], dtype=np.int64)
    found: dict[str, list[SimulatedDeal]] = {}
    for month, deal in zip(moments.astype("datetime64[s]").astype("datetime64[M]").astype(str), closed, strict=True):
        found.setdefault(str(month), []).append(deal)
    return found


def pairs(outcome: Outcome) -> list[dict[str, Any]]:
    """Return one row for each pair that had a deal, most profitable first; open deals count at their last price."""
    grouped: dict[str, list[SimulatedDeal]] = {}
    for deal in outcome.deals:
        grouped.setdefault(deal.symbol, []).append(deal)
    rows = [(_total(deal.profit for deal in deals), symbol, deals) for symbol, deals in grouped.items()]
    return [
        {
            "symbol": symbol,
            "deals": len(deals),
            "deals_closed": len(closed := _closed(deals)),
            "won": _won(closed),
            "win_rate_pct": _rounded(win_rate_pct(closed)),
            "profit": plain(profit),
            "average_deal_pct": _rounded(average_deal_pct(closed)),
            "fees": plain(_total(deal.fees for deal in deals)),
            "safety_orders": sum(deal.safety_orders for deal in deals),
        }
        for profit, symbol, deals in sorted(rows, key=lambda row: (-row[0], row[1]))
    ]


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return every figure by name, as JSON values: ratios rounded floats, amounts text in the quote currency."""
    deals = outcome.deals
    closed = _closed(deals)
    opening = _opening(outcome)
    deepest = max_drawdown(outcome.times, outcome.equity, opening)
    returns = daily_returns(outcome)
    best, worst = extreme_deal(closed, max), extreme_deal(closed, min)
    mean, median, longest = hours_in_deals(deals, int(outcome.times[-1]) if len(outcome.times) else 0)
    gained, held = return_pct(outcome), hold_return_pct(outcome)
    average = average_deal(closed)
    won = _won(closed)
    ratios: dict[str, float | None] = {
        "return_pct": gained,
        "annual_return_pct": annual_return_pct(outcome),
        "max_drawdown_pct": deepest.pct if deepest else None,
        "return_per_drawdown": gained / deepest.pct if gained is not None and deepest and deepest.pct > 0 else None,
        "underwater_days": deepest.longest_seconds / DAY_SECONDS if deepest else None,
        "sharpe": sharpe(returns),
        "sortino": sortino(returns),
        "profit_factor": profit_factor(closed),
        "time_exposure_pct": time_exposure_pct(outcome),
        "capital_exposure_pct": capital_exposure_pct(outcome),
        "win_rate_pct": win_rate_pct(closed),
        "average_deal_pct": average_deal_pct(closed),
        "best_deal_pct": _number(best.profit_pct) if best else None,
        "worst_deal_pct": _number(worst.profit_pct) if worst else None,
        "mean_hours": mean,
        "median_hours": median,
        "longest_hours": longest,
        "deals_per_day": deals_per_day(closed, outcome.times),
        "hold_return_pct": held,
        "hold_max_drawdown_pct": hold_max_drawdown_pct(outcome),
        "excess_return_pct": gained - held if gained is not None and held is not None else None,
    }
    last = float(outcome.equity[-1]) if len(outcome.equity) else 0.0
    return {
        **{name: _rounded(value) for name, value in ratios.items()},
        "max_drawdown_at": deepest.bottom_at if deepest else None,
        "equity_start": _amount(opening),
        "equity_end": _amount(last),
        "profit": _amount(last - opening),
        "realised": plain(outcome.realised),
        "unrealised": plain(outcome.unrealised),
        "fees": plain(outcome.fees),
        "volume": plain(_total(fill.quote for fill in outcome.fills)),
        "average_deal": plain(_eight(average)) if average is not None else None,
        "best_deal": plain(best.profit) if best else None,
        "worst_deal": plain(worst.profit) if worst else None,
        "deals": len(deals),
        "deals_closed": len(closed),
        "deals_open": len(deals) - len(closed),
        "deals_short": sum(deal.direction is Direction.SHORT for deal in deals),
        "won": won,
        "lost": len(closed) - won,
        "safety_orders": sum(deal.safety_orders for deal in deals),
        "fills": len(outcome.fills),
        "looks": len(outcome.times),
        "balances": {currency: plain(amount) for currency, amount in outcome.balances.items()},
        "pairs": pairs(outcome),
    }


def thinned(outcome: Outcome, points: int = CHART_POINTS) -> dict[str, Any]:
    """Return the curves with at most ``points`` points, for charts: times, equity, drawdown, buy and hold, in deals.

    Of each stretch the lowest and highest equity and the deepest drawdown are kept, so no spike is lost; first and last
    point always are.
    """
    count = len(outcome.times)
    falls = drawdowns(_with_opening(outcome.equity, _opening(outcome)))[1:] if count else np.empty(0)
    if count <= points:
        kept = np.arange(count)
    else:
        buckets = max((points - 2) // 3, 1)
        width = -(-count // buckets)
        kept = np.unique(
            np.concatenate(
                [
                    [0, count - 1],
                    _extremes(outcome.equity, width, np.argmin),
                    _extremes(outcome.equity, width, np.argmax),
                    _extremes(falls, width, np.argmax),
                ]
            )
        )
    return {
        "t": outcome.times[kept].tolist(),
        "equity": _short(outcome.equity[kept]),
        "drawdown": np.round(falls[kept], 3).tolist(),
        "held": _short(outcome.held[kept]),
        "invested": _short(outcome.invested[kept]),
    }


def _extremes(values: FloatArray, width: int, pick: Callable[..., Any]) -> npt.NDArray[np.int64]:
    """Return the index of the extreme value of each stretch of ``width`` points."""
    whole = len(values) // width
    found = pick(values[: whole * width].reshape(whole, width), axis=1) + np.arange(whole) * width
    if whole * width < len(values):
        found = np.append(found, whole * width + int(pick(values[whole * width :])))
    return np.asarray(found, dtype=np.int64)


def _short(values: FloatArray) -> list[float]:
    return [float(f"{value:.8g}") for value in values.tolist()]


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.10g}")


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _eight(value: Decimal) -> Decimal:
    return value.quantize(Decimal("1E-8"), context=MONEY)


def _amount(value: float) -> str:
    """A value of the curve, which is a float, as text with as many digits as it is good for."""
    return plain(Decimal(repr(float(f"{value:.12g}"))))


def value_of(figures: Mapping[str, Any], name: str) -> float | None:
    """Return a figure of :func:`summary` as a number to rank by; None when it is not known."""
    value = figures.get(name)
    return None if value is None else float(value)
