"""Exact decimal arithmetic for money: one context, one way to round. Pure: knows no Django.

Amounts are ``Decimal`` with up to 20 digits before and 18 after the point. Floats are refused; a candle price, which
is a float, becomes money only through :func:`from_float`, at the product's own increment.
"""

from __future__ import annotations

import decimal
from contextlib import AbstractContextManager, nullcontext
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from functools import lru_cache
from typing import Final

ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)
HUNDRED: Final = Decimal(100)

PLACES: Final = 18
QUANTUM: Final = Decimal(1).scaleb(-PLACES)

MONEY: Final = decimal.Context(
    prec=60,
    rounding=ROUND_HALF_EVEN,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow, decimal.FloatOperation],
)


def use_money_context() -> None:
    """Make :data:`MONEY` the context of this thread and the default of threads started later."""
    decimal.setcontext(MONEY.copy())
    decimal.DefaultContext.prec = MONEY.prec
    decimal.DefaultContext.traps = dict(MONEY.traps)
    decimal.DefaultContext.rounding = MONEY.rounding


_AS_IT_IS: Final = nullcontext()
_PRECISION: Final = MONEY.prec
_ROUNDING: Final = MONEY.rounding


def for_money() -> AbstractContextManager[object]:
    """Return what to enter before counting with operators: :data:`MONEY`, or nothing where it is in force already."""
    context = decimal.getcontext()
    if context.prec == _PRECISION and context.rounding == _ROUNDING:
        return _AS_IT_IS
    return decimal.localcontext(MONEY)


def dec(value: Decimal | int | str) -> Decimal:
    """Return ``value`` as a finite Decimal. Raises TypeError for floats, ValueError for NaN, infinity or no number."""
    if isinstance(value, float):
        raise TypeError("a float is not an amount")
    try:
        number = Decimal(value)
    except (decimal.InvalidOperation, ValueError) as error:
        raise ValueError(f"{value!r} is not a number") from error
    if not number.is_finite():
        raise ValueError(f"{value!r} is not a finite number")
    return number


def quantize(value: Decimal, places: int = PLACES) -> Decimal:
    """Return ``value`` rounded half-even to ``places`` digits after the point."""
    return value.quantize(QUANTUM if places == PLACES else ONE.scaleb(-places), None, MONEY)


@lru_cache(maxsize=1024)
def _decimal_place(increment: Decimal) -> Decimal | None:
    """Return an increment of 1, 0.1, 0.01 and so on in its shortest form, None for any other."""
    shortest = increment.normalize(MONEY)
    return shortest if shortest.as_tuple().digits == (1,) and ZERO < shortest <= ONE else None


def _to_step(value: Decimal, increment: Decimal, rounding: str) -> Decimal:
    place = _decimal_place(increment)
    if place is not None:
        return value.quantize(place, rounding, MONEY)
    if increment <= ZERO:
        raise ValueError("an increment is above zero")
    steps = MONEY.divide(value, increment).to_integral_value(rounding=rounding, context=MONEY)
    return MONEY.multiply(steps, increment)


def floor_to(value: Decimal, increment: Decimal) -> Decimal:
    """Return the largest multiple of ``increment`` that is not above ``value`` (F24)."""
    return _to_step(value, increment, ROUND_FLOOR)


def ceil_to(value: Decimal, increment: Decimal) -> Decimal:
    """Return the smallest multiple of ``increment`` that is not below ``value``."""
    return _to_step(value, increment, ROUND_CEILING)


def round_to(value: Decimal, increment: Decimal) -> Decimal:
    """Return the multiple of ``increment`` nearest to ``value``."""
    return _to_step(value, increment, ROUND_HALF_EVEN)


def from_float(value: float, increment: Decimal) -> Decimal:
    """Return a candle price (float64) as money: its shortest decimal form, rounded to the product's price increment."""
    return round_to(Decimal(repr(float(value))), increment)


def plain(value: Decimal) -> str:
    """Return ``value`` without exponent and without trailing zeros (``1E-8`` becomes ``0.00000001``)."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text
