"""How people's words for money are read: a currency's code, an amount of it. Refusals name the field and the limit."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from tradebot.core.decimals import PLACES, ZERO, dec, plain
from tradebot.core.errors import InvalidInput

__all__ = ["LARGEST_AMOUNT", "checked_amount", "checked_currency"]

LARGEST_AMOUNT: Final = Decimal(10) ** 12
"""The most that one deposit, withdrawal or start balance may be, in its currency."""
CURRENCY: Final = re.compile(r"[A-Z0-9]{1,20}")


def checked_currency(value: str, field: str) -> str:
    """Return the code in capitals. Raises InvalidInput for what is no code."""
    currency = str(value).strip().upper()
    if not CURRENCY.fullmatch(currency):
        raise InvalidInput("bad_currency", "A currency is up to 20 letters and digits, such as USD.", field=field)
    return currency


def checked_amount(value: Decimal | int | str, field: str, *, zero: bool = False) -> Decimal:
    """Return the amount if it is above zero (or zero, where ``zero`` allows it) and at most :data:`LARGEST_AMOUNT`.

    Raises InvalidInput.
    """
    try:
        amount = dec(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput("bad_amount", "That is not an amount.", field=field) from error
    if amount < ZERO or (amount == ZERO and not zero) or amount > LARGEST_AMOUNT:
        raise InvalidInput(
            "bad_amount",
            f"An amount is above zero and at most {plain(LARGEST_AMOUNT)}.",
            field=field,
            limit=LARGEST_AMOUNT,
        )
    if amount != round(amount, PLACES):
        raise InvalidInput("bad_amount", f"An amount has at most {PLACES} decimals.", field=field)
    return amount
