"""What an account's owner allows: the checks that every order passes under the account's lock, see ``admission``.

* An account that is read-only or was stopped takes no order that adds risk, whoever asks: bots, a person, automation.
* Limits set by the owner: the largest single order, the day's loss, the number of open deals.

What a limit needs and nobody knows blocks the order (F61): a limit that is not enforced because a price is missing is
none. Everything that only reduces risk passes (F63).
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from accounts.models import Account, TradingLimits
from positions.daymarks import result_of_day
from positions.models import Position
from positions.states import POSITION_ACTIVE
from positions.worth import rates, worth
from tradebot.core.decimals import HUNDRED, ZERO, for_money, plain, quantize
from tradebot.core.errors import MissingInformation, OrderRefused

if TYPE_CHECKING:
    from positions.admission import Proposed

__all__ = ["armed", "within_limits"]


def armed(proposed: Proposed) -> None:
    """Refuse risk on an account that is read-only (``account_read_only``) or was stopped (``account_stopped``)."""
    account = proposed.account
    if proposed.reduces_risk or account.is_armed:
        return
    if account.is_killed:
        raise OrderRefused(
            "account_stopped", f"{account.name} was stopped: nothing is opened or added until its owner arms it again."
        )
    raise OrderRefused(
        "account_read_only", f"{account.name} is read-only: nothing is opened or added until its owner arms it."
    )


def within_limits(proposed: Proposed) -> None:
    """Refuse an order that would break a limit: ``order_too_large``, ``open_deals_limit``, ``daily_loss_reached``, and
    ``limit_unknown`` when a limit cannot be judged."""
    if proposed.reduces_risk:
        return
    limits = TradingLimits.objects.filter(account=proposed.account).first()
    if limits is None:
        return
    try:
        _open_deals(proposed, limits)
        _order_size(proposed, limits)
        _daily_loss(proposed.account, limits)
    except MissingInformation as error:
        raise OrderRefused(
            "limit_unknown",
            f"A limit of {proposed.account.name} cannot be judged, so nothing is bought: {error.message}",
        ) from error


def _open_deals(proposed: Proposed, limits: TradingLimits) -> None:
    if limits.max_open_deals is None or proposed.position is not None:
        return
    active = Position.objects.filter(account=proposed.account, status__in=POSITION_ACTIVE).count()
    if active >= limits.max_open_deals:
        raise OrderRefused(
            "open_deals_limit",
            f"{proposed.account.name} has {active} open deals, its owner allows {limits.max_open_deals}.",
            active=active,
            limit=limits.max_open_deals,
        )


def _order_size(proposed: Proposed, limits: TradingLimits) -> None:
    most = _allowed(proposed.account, limits.currency, limits.largest_order, limits.largest_order_pct)
    if most is None:
        return
    quote = proposed.product.quote
    rate = rates(proposed.account.exchange, limits.currency, [quote]).get(quote)
    if proposed.value_quote is None or rate is None:
        raise MissingInformation("value_unknown", f"What the order is worth in {limits.currency} is not known.")
    with for_money():
        value = proposed.value_quote * rate
    if value > most:
        raise OrderRefused(
            "order_too_large",
            f"The order is worth {_short(value)} {limits.currency}; {proposed.account.name} takes at most "
            f"{_short(most)} {limits.currency} in one.",
            asked=value,
            limit=most,
            currency=limits.currency,
        )


def _daily_loss(account: Account, limits: TradingLimits) -> None:
    most = _allowed(account, limits.currency, limits.daily_loss, limits.daily_loss_pct)
    if most is None:
        return
    day = result_of_day(account, limits.currency)
    if -day.amount >= most:
        raise OrderRefused(
            "daily_loss_reached",
            f"{account.name} has lost {_short(-day.amount)} {limits.currency} today; its owner allows {_short(most)}. "
            "Nothing is opened or added until the next day begins.",
            lost=-day.amount,
            limit=most,
            currency=limits.currency,
        )


def _allowed(account: Account, currency: str, amount: Decimal | None, percent: Decimal | None) -> Decimal | None:
    """Return the tighter of a limit as an amount and one as a share of the account's value; None where none is set."""
    found = [] if amount is None else [amount]
    if percent is not None:
        with for_money():
            found.append(worth(account, currency) * percent / HUNDRED)
    return min(found, default=None)


def _short(value: Decimal) -> str:
    """Return an amount for a sentence: two decimals, or as many as a small one needs."""
    shown = quantize(value, 2) if abs(value) >= 1 or value == ZERO else quantize(value, 8)
    return plain(shown)
