"""What a bot may spend right now, and what its ladder makes of that: for saving a bot, and for the form's preview.

Prices, balances and fees are read here; every amount is computed by ``bots.sizing``, as the engine does it, so that
the form promises nothing else. What cannot be read is None and says why: unknown is not zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import Any, Final, Literal

from accounts.models import Account
from bots import sizing
from bots.loading import money_of
from bots.models import Bot, BudgetKind
from bots.sizing import LadderReport
from bots.strategies.base import FeeRates
from bots.strategies.dca_settings import DcaSettings
from marketdata import market
from marketdata.models import Product
from marketdata.sources.base import Quote
from positions.states import Direction
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, MONEY, ONE, ZERO, for_money, plain
from tradebot.core.errors import InvalidInput, MissingInformation, TradebotError

__all__ = ["Budget", "Check", "PairLadder", "Preview", "Purse", "preview", "purse_of", "refuse_unworkable"]

ASSUMED_FEES: Final = FeeRates(maker=Decimal("0.004"), taker=Decimal("0.006"))
NOMINAL: Final = HUNDRED
"""A ladder without a known budget is shown for a deal of 100: its sizes are then percent of the deal's budget."""


@dataclass(frozen=True, slots=True)
class Purse:
    """What an account has in one quote currency. ``free`` is spendable: it leaves alone what open deals need and what
    bots that trade both ways have reserved. ``value`` is all of it, open deals there included (F31).

    Either is None when it is not known; ``problem`` then says why.
    """

    quote: str
    free: Decimal | None
    value: Decimal | None
    fee_rates: FeeRates
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """A bot's budget as its form states it."""

    kind: str
    pct: Decimal
    fixed: Decimal
    split: bool

    def amount(self, purse: Purse) -> Decimal | None:
        """Return the budget in quote, None when the account's value is not known."""
        try:
            return sizing.bot_budget(
                self.kind, self.pct if self.kind == BudgetKind.PERCENT else self.fixed, purse.value
            )
        except MissingInformation:
            return None


@dataclass(frozen=True, slots=True)
class PairLadder:
    """One pair's ladder at its present price. ``report`` is None while the price is not known."""

    product: Product
    quote: Quote | None
    report: LadderReport | None


@dataclass(frozen=True, slots=True)
class Check:
    """One line of "before you save". ``state`` is fine, wrong (saving is refused), warn or unknown."""

    state: Literal["fine", "wrong", "warn", "unknown"]
    text: str


@dataclass(frozen=True, slots=True)
class Preview:
    """The ladder of one direction with its costs. Amounts are in the quote currency; None is not known.

    ``budget`` is this direction's ``share`` (a fraction) of the bot's, ``smallest_budget`` and ``smallest_pct`` what
    the whole bot needs so that this direction works. ``nominal``: sizes are percent.
    """

    direction: Direction
    share: Decimal
    purse: Purse
    budget: Decimal | None
    deal_budget: Decimal | None
    deals: int
    pairs: tuple[PairLadder, ...]
    shown: PairLadder | None
    nominal: bool
    one_deal: Decimal | None
    all_deals: Decimal | None
    fundable: int | None
    smallest_budget: Decimal | None
    smallest_pct: Decimal | None
    minimum: Decimal
    minimum_pair: str
    checks: tuple[Check, ...]

    @property
    def is_workable(self) -> bool:
        """Return whether nothing stands against saving."""
        return all(check.state != "wrong" for check in self.checks)


def purse_of(account: Account, quote: str, besides: Bot | None = None) -> Purse:
    """Return what ``account`` has in ``quote`` for a new bot, or for the bot ``besides`` that is there already.

    Asks the account's venue; never raises, but says what went wrong.
    """
    try:
        money = money_of(account, clock.now())
    except TradebotError as error:
        return Purse(quote, None, None, ASSUMED_FEES, error.message)
    free = money.spendable(account.pk, quote, None if besides is None else besides.pk)
    value = money.value(account.pk, quote)
    problem = "a price is not known" if free is None or value is None else ""
    return Purse(quote, free, value, money.fee_rates[account.pk], problem)


def preview(
    settings: Any,
    products: Sequence[Product],
    purse: Purse,
    budget: Budget,
    shown: str = "",
    direction: Direction | None = None,
) -> Preview | None:
    """Return the ladder of ``settings`` on each of ``products`` (of one market and quote), None without a ladder.

    ``shown`` is the symbol of the pair to show; the one with the largest minimum by default. ``direction`` is one that
    the settings trade in; their first one by default.
    """
    if not isinstance(settings, DcaSettings) or not products:
        return None
    way = direction or settings.directions[0]
    share = settings.budget_share(way)
    quotes = market.fresh_quotes(products[0].exchange, [product.symbol for product in products])
    minimum, largest = _largest_minimum(products, quotes)
    smallest = sizing.smallest_deal_budget(settings, minimum) if minimum else None
    whole = budget.amount(purse)
    amount = None if whole is None else _times(whole, share)
    funded = _funded(settings, amount, minimum, smallest)
    per_deal = None if amount is None else sizing.deal_budget(amount, funded, split=budget.split)
    nominal = not per_deal and _follows_budget(settings)
    pairs = tuple(_pair(settings, product, quotes, per_deal, purse.fee_rates.taker, way) for product in products)
    chosen = next((pair for pair in pairs if pair.product.symbol == (shown or largest)), pairs[0])
    one = None if nominal or chosen.report is None else _with_fee(chosen.report.total_cost, purse.fee_rates.taker)
    wanted = None if smallest is None else smallest * (settings.max_active_deals if budget.split else 1)
    if wanted is not None and share != ONE:
        wanted = _over(wanted, share)
    found = Preview(
        direction=way,
        share=share,
        purse=purse,
        budget=amount,
        deal_budget=per_deal,
        deals=settings.max_active_deals,
        pairs=pairs,
        shown=chosen,
        nominal=nominal,
        one_deal=one,
        all_deals=None if one is None else one * settings.max_active_deals,
        fundable=None if amount is None or smallest is None else funded if amount >= smallest else 0,
        smallest_budget=wanted,
        smallest_pct=None if not purse.value or wanted is None else _share(wanted, purse.value),
        minimum=minimum,
        minimum_pair=largest,
        checks=(),
    )
    return replace(found, checks=tuple(_checks(settings, found, budget)))


def refuse_unworkable(settings: Any, products: Sequence[Product], account: Account, budget: Budget) -> None:
    """Raise InvalidInput when a ladder cannot be traded as it is, naming the pair, the rung and the limit (F27).

    What cannot be known now (a price, a balance) is not held against it; the engine asks again before each order.
    """
    if not isinstance(settings, DcaSettings) or not products:
        return
    purse = purse_of(account, products[0].quote)
    amount = budget.amount(purse)
    field = "budget_pct" if budget.kind == BudgetKind.PERCENT else "budget_fixed"
    if amount is not None and amount <= ZERO:
        raise InvalidInput("no_budget", _no_budget(purse, budget, account.name), field=field)
    for direction in settings.directions:
        found = preview(settings, products, purse, budget, direction=direction)
        for pair in found.pairs if found else ():
            _refuse_violations(settings, pair, direction, is_known=amount is not None)


def _refuse_violations(settings: DcaSettings, pair: PairLadder, direction: Direction, *, is_known: bool) -> None:
    for violation in pair.report.violations if pair.report else ():
        rung = {} if violation.level is None else {"rung": violation.level}
        if not is_known and _depends_on_budget(settings, violation.code):
            continue
        whose = f" ({direction})" if len(settings.directions) > 1 else ""
        raise InvalidInput(
            violation.code,
            f"{pair.product.symbol}{whose}: {violation.message}. {_remedy(violation.code)}",
            field="settings",
            pair=pair.product.symbol,
            **rung,
        )


def _pair(
    settings: DcaSettings,
    product: Product,
    quotes: Mapping[str, Quote],
    per_deal: Decimal | None,
    fee: Decimal,
    direction: Direction,
) -> PairLadder:
    quote = quotes.get(product.symbol)
    if quote is None:
        return PairLadder(product, None, None)
    report = sizing.ladder_report(settings, quote.mark, product.terms, per_deal or NOMINAL, fee, direction)
    return PairLadder(product, quote, report)


def _follows_budget(settings: DcaSettings) -> bool:
    return settings.base_order_type is not sizing.BaseOrderType.FIXED


def _depends_on_budget(settings: DcaSettings, code: str) -> bool:
    return code == "over_budget" or (code == "below_minimum" and _follows_budget(settings))


def _largest_minimum(products: Iterable[Product], quotes: Mapping[str, Quote]) -> tuple[Decimal, str]:
    """Return the largest smallest-order of the pairs in quote, and whose it is; zero while no price is known."""
    known = [
        (sizing.minimum_order_quote(product.terms, quotes[product.symbol].mark), product.symbol)
        for product in products
        if product.symbol in quotes
    ]
    return max(known, default=(ZERO, ""))


def _funded(settings: DcaSettings, amount: Decimal | None, minimum: Decimal, smallest: Decimal | None) -> int:
    """Return over how many deals the budget is shared: the soft ceiling, as the strategy counts it."""
    if amount is None or smallest is None or not minimum:
        return settings.max_active_deals
    with for_money():
        return sizing.fundable_deals(amount, minimum, smallest / minimum, settings.max_active_deals)


def _with_fee(cost: Decimal, fee: Decimal) -> Decimal:
    with for_money():
        return cost * (ONE + fee)


def _times(amount: Decimal, share: Decimal) -> Decimal:
    with for_money():
        return amount * share


def _over(amount: Decimal, share: Decimal) -> Decimal:
    with for_money():
        return amount / share


def _share(part: Decimal, whole: Decimal) -> Decimal:
    with for_money():
        return part / whole * HUNDRED


# Sentences ----------------------------------------------------------------------------------------------------------


def _short(value: Decimal) -> str:
    with localcontext(MONEY) as context:
        context.prec = 6
        return plain(+value)


def _no_budget(purse: Purse, budget: Budget, account: str) -> str:
    if budget.kind == BudgetKind.PERCENT and budget.pct == ZERO:
        return "The budget is 0 %, so nothing can be bought. Give it a share above 0 %."
    return f"“{account}” has no {purse.quote} to spend. Deposit some, or choose pairs in a currency that it has."


def _remedy(code: str) -> str:
    if code == "below_minimum":
        return "Raise the budget or the sizes, use fewer safety orders, or remove the pair."
    if code == "over_budget":
        return "Raise the budget, allow fewer deals or lower the sizes."
    return "Lower the deviation, the step scale or the number of safety orders."


def _checks(settings: DcaSettings, found: Preview, budget: Budget) -> Iterable[Check]:
    purse, pairs = found.purse, found.pairs
    unpriced = [pair.product.symbol for pair in pairs if pair.quote is None]
    if unpriced:
        named = ", ".join(unpriced[:4]) + (f" and {len(unpriced) - 4} more" if len(unpriced) > 4 else "")
        yield Check("unknown", f"No price is known for {named}, so the smallest order there cannot be checked yet.")
    if found.budget is None:
        yield Check("unknown", f"The budget is not known: {purse.problem or 'no account is chosen'}")
    elif found.budget <= ZERO:
        yield Check("wrong", _no_budget(purse, budget, "The account"))
        return
    wrong = list(_violations(settings, pairs, found.budget))
    yield from wrong
    if not wrong and found.minimum and not found.nominal:
        count = "the pair" if len(pairs) == 1 else f"the {len(pairs)} pairs"
        named = f"{_short(found.minimum)} {purse.quote}, {found.minimum_pair}"
        yield Check("fine", f"Every order is above the largest minimum of {count} ({named}).")
    if found.fundable is not None and not wrong:
        yield _funding(found, budget)
    if settings.stop_loss is not None:
        side = "below" if found.direction is Direction.LONG else "above"
        text = f"The stop loss, {plain(settings.stop_loss)} % {side} the average,"
        yield Check(
            "fine", f"{text} is beyond the last safety order." if settings.max_safety_orders else f"{text} is on."
        )
    elif settings.trailing_stop is None:
        yield Check("warn", "No stop is set: beyond the last safety order nothing acts.")


def _violations(settings: DcaSettings, pairs: Iterable[PairLadder], amount: Decimal | None) -> Iterable[Check]:
    for pair in pairs:
        for violation in pair.report.violations if pair.report else ():
            if amount is None and _depends_on_budget(settings, violation.code):
                continue
            yield Check("wrong", f"{pair.product.symbol}: {violation.message}. {_remedy(violation.code)}")
            break  # one rung of a pair says enough


def _funding(found: Preview, budget: Budget) -> Check:
    deals, count = found.deals, found.fundable or 0
    if count >= deals or not budget.split:
        text = "The budget covers a whole deal" if deals == 1 else f"The budget covers all {deals} deals"
        return Check("fine", f"{text} with every safety order.")
    ask = f"{_short(found.smallest_budget or ZERO)} {found.purse.quote}"
    if budget.kind == BudgetKind.PERCENT and found.smallest_pct is not None:
        ask = f"{found.smallest_pct:.1f} %"
    share = f"It is shared by {count}; give it {ask} or allow fewer deals." if count else f"Give it {ask}."
    return Check("warn", f"The budget fully funds {count} of {deals} deals. {share}")
