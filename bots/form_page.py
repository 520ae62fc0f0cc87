"""What the bot form shows besides its fields: pairs to choose, the live ladder, the present values of the rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any, Final

from accounts.models import Account
from bots import capital, market_views, strategies
from bots.capital import Check, Preview
from bots.conditions import Operator, Tree, describe, evaluate, vocabulary
from bots.form_trees import TreeDraft
from bots.forms import BotDraft, shares_of
from bots.loading import money_of
from bots.models import Bot
from bots.services import open_deal_count
from bots.signals.stored import laid_over
from marketdata.indicators import INDICATORS
from marketdata.models import Product
from marketdata.store import store
from marketdata.timeframes import Timeframe
from positions.states import Direction
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, MONEY, ONE, ZERO, for_money, plain
from tradebot.core.errors import TradebotError

__all__ = ["VOCABULARY", "FormPage", "LadderChart", "LadderRow", "LadderSide", "form_page", "merged_checks", "sides_of"]

MOST_SUGGESTED: Final = 400
QUICK_PAIRS: Final = 8
MOST_ROWS: Final = 12
QUOTES: Final = ("USD", "USDC", "EUR", "USDT", "GBP", "BTC", "ETH")
BASES: Final = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LINK", "LTC", "AVAX", "DOT")


@dataclass(frozen=True, slots=True)
class LadderRow:
    """A line of the ladder's table. Amounts are in quote, or in percent of the deal while its budget is not known."""

    name: str
    drop_pct: Decimal | None
    price: Decimal
    size: Decimal
    total: Decimal
    to_target_pct: Decimal | None
    is_low: bool


@dataclass(frozen=True, slots=True)
class Dot:
    """An order on the ladder's chart; the area of its ring follows its size."""

    x: str
    y: str
    radius: str


@dataclass(frozen=True, slots=True)
class LadderChart:
    """The ladder as a drawing of 320 × 150: each order's price, the average and the target after it."""

    dots: tuple[Dot, ...]
    average: str
    target: str
    labels: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class CoinNeed:
    """What a short sells before it buys back: base for one deal and for all, and what is free. None is not known."""

    currency: str
    one_deal: Decimal
    all_deals: Decimal
    free: Decimal | None

    @property
    def is_short(self) -> bool:
        """Return whether the coins that are free do not last for one deal."""
        return self.free is not None and self.free < self.one_deal


@dataclass(frozen=True, slots=True)
class LadderSide:
    """The ladder of one direction, as the form shows it."""

    preview: Preview
    rows: tuple[LadderRow, ...]
    more_rows: int
    chart: LadderChart | None
    coins: CoinNeed | None

    @property
    def is_short(self) -> bool:
        return self.preview.direction is Direction.SHORT

    @property
    def share_pct(self) -> Decimal:
        return self.preview.share * HUNDRED


@dataclass(slots=True)
class FormPage:
    """Everything the form's template needs beyond the draft."""

    draft: BotDraft
    bot: Bot | None
    account: Account | None
    accounts: list[Account]
    quote: str
    locked_quote: str
    open_deals: int
    products: list[Product]
    suggestions: list[str]
    quick: list[str]
    parsed: Any
    sides: list[LadderSide]
    sentences: dict[str, str]
    now_symbol: str

    @property
    def preview(self) -> Preview | None:
        """Return the ladder of the first direction."""
        return self.sides[0].preview if self.sides else None

    @property
    def example(self) -> str:
        """Return a pair that may be typed, as short as it may be."""
        return self.suggestions[0].partition("-")[0] if self.suggestions else "BTC"

    @property
    def rows(self) -> list[LadderRow]:
        return list(self.sides[0].rows) if self.sides else []

    @property
    def checks(self) -> list[Check]:
        """Return what stands for and against saving, of all directions, each sentence once."""
        return merged_checks(self.sides)

    @property
    def can_save(self) -> bool:
        """Return whether nothing is known that stands against saving."""
        return not self.draft.errors and all(side.preview.is_workable for side in self.sides)

    @property
    def step_sums(self) -> list[tuple[str, str]]:
        """Return what the shares of each list of steps add up to, by setting."""
        steps = self.draft.steps.items()
        return [(name, shares_of([row for row in rows if any(row.values())])) for name, rows in steps]

    @property
    def trees(self) -> list[TreeDraft]:
        """Return the rules, whose present values are renewed as one types."""
        return list(self.draft.trees.values())

    @property
    def is_paper(self) -> bool:
        return self.account is None or self.account.is_paper

    @property
    def words(self) -> dict[str, Any]:
        """Return what the condition builder offers."""
        return VOCABULARY

    @property
    def error_fields(self) -> list[tuple[str, str]]:
        """Return every field of the schema with its message, empty ones too: for renewing them all at once."""
        names = self.draft.model.model_fields
        return [(name, self.draft.errors.get(name, "")) for name in names if name not in self.draft.trees]


VOCABULARY: Final[dict[str, Any]] = {
    **vocabulary(),
    "indicators": [(spec.name, spec.label) for spec in INDICATORS.values()],
    "operators": [(operator.value, operator.words) for operator in Operator],
}


def form_page(draft: BotDraft, bot: Bot | None = None, *, take_pair: bool = False) -> FormPage:
    """Return what the form shows for ``draft``; writes what is wrong with it into the draft's errors.

    ``take_pair`` adds the pair that was typed; while somebody is still typing it stays in its field.
    """
    accounts = list(Account.objects.editable().filter(archived_at__isnull=True))
    account = bot.account if bot is not None else _chosen(accounts, draft)
    if bot is None and account is not None:
        draft.account_id = str(account.pk)
    deals = open_deal_count(bot) if bot is not None else 0
    locked = bot.quote_currency if bot is not None and deals else ""
    if take_pair:
        _take_wanted_pair(draft, account, locked)
    products = _products(draft, account)
    quote = locked or (products[0].quote if products else "")
    suggestions = _suggestions(account, quote, draft.symbols)
    parsed = draft.parsed()
    budget = draft.budget()
    sides: list[LadderSide] = []
    if parsed is not None and budget is not None and account is not None and products:
        given = capital.Budget(draft.budget_kind, budget[0], budget[1], draft.split_budget)
        sides = sides_of(parsed, given, account, products, draft.shown)
    shown = sides[0].preview.shown if sides else None
    symbol = shown.product.symbol if shown else (products[0].symbol if products else "")
    _show_present_values(draft, bot, parsed, next((p for p in products if p.symbol == symbol), None))
    return FormPage(
        draft=draft,
        bot=bot,
        account=account,
        accounts=accounts,
        quote=quote,
        locked_quote=locked,
        open_deals=deals,
        products=products,
        suggestions=suggestions,
        quick=suggestions[:QUICK_PAIRS] if len(draft.symbols) < QUICK_PAIRS else [],
        parsed=parsed,
        sides=sides,
        sentences=_sentences(draft, parsed),
        now_symbol=symbol,
    )


def _chosen(accounts: Sequence[Account], draft: BotDraft) -> Account | None:
    """Return the account asked for, else the default one, else the first."""
    asked = next((account for account in accounts if str(account.pk) == draft.account_id), None)
    return asked or next((account for account in accounts if account.is_default), accounts[0] if accounts else None)


# Pairs --------------------------------------------------------------------------------------------------------------


def _take_wanted_pair(draft: BotDraft, account: Account | None, locked: str) -> None:
    """Move what was typed into the pair field to the chosen pairs, "XMR" completed by the bot's quote currency."""
    wanted, draft.wanted_pair = draft.wanted_pair, ""
    if not wanted or account is None:
        return
    online = _tradable(account)
    quote = locked or _quote_of(draft.symbols)
    names = [wanted] if "-" in wanted or not quote else [wanted, f"{wanted}-{quote}"]
    found = online.filter(symbol__in=names).values_list("symbol", flat=True).first()
    if found is None:
        draft.wanted_pair = wanted
        draft.errors.setdefault("symbols", no_pair(wanted, quote))
    elif found not in draft.symbols:
        draft.symbols.append(found)


def _tradable(account: Account) -> Any:
    """Return the pairs that a bot may have on the account's market now: spot only."""
    return Product.objects.filter(exchange=account.exchange, status=Product.Status.ONLINE, kind=Product.Kind.SPOT)


def no_pair(wanted: str, quote: str) -> str:
    """Return what to say of a pair that the market does not have; a currency alone may only lack its other half."""
    how = "Choose one from the list." if "-" in wanted else f"Write it as {wanted}-{quote or 'USD'}."
    return f"There is no pair {wanted} on this market. {how}"


def _quote_of(symbols: Sequence[str]) -> str:
    return symbols[0].partition("-")[2] if symbols else ""


def _products(draft: BotDraft, account: Account | None) -> list[Product]:
    """Return the chosen pairs that the account's market has, in the order chosen."""
    if account is None or not draft.symbols:
        return []
    found = {row.symbol: row for row in Product.objects.filter(exchange=account.exchange, symbol__in=draft.symbols)}
    unknown = [symbol for symbol in draft.symbols if symbol not in found]
    if unknown:
        draft.errors.setdefault("symbols", f"Not on this account's market: {', '.join(unknown)}.")
    products = [found[symbol] for symbol in draft.symbols if symbol in found]
    quotes = sorted({product.quote for product in products})
    if len(quotes) > 1:
        draft.errors.setdefault("symbols", f"One quote currency per bot; these use {' and '.join(quotes)}.")
        return []
    return products


def _suggestions(account: Account | None, quote: str, chosen: Sequence[str]) -> list[str]:
    """Return pairs to choose from, those of well-known currencies first."""
    if account is None:
        return []
    rows = _tradable(account).exclude(symbol__in=chosen)
    if quote:
        rows = rows.filter(quote=quote)
    known = sorted(
        rows.values_list("quote", "base", "symbol"), key=lambda row: (_rank(QUOTES, row[0]), _rank(BASES, row[1]))
    )
    return [symbol for _, _, symbol in known[:MOST_SUGGESTED]]


def _rank(words: Sequence[str], word: str) -> tuple[int, str]:
    return (words.index(word) if word in words else len(words), word)


# The ladder ---------------------------------------------------------------------------------------------------------


def sides_of(
    parsed: Any, budget: capital.Budget, account: Account, products: Sequence[Product], shown: str = ""
) -> list[LadderSide]:
    """Return the ladder of each direction that the settings trade in, the long side first.

    ``shown`` is the symbol of the pair to show; by default the one whose minimum is the largest.
    """
    purse = capital.purse_of(account, products[0].quote)
    sides = []
    for direction in getattr(parsed, "directions", ()):
        found = capital.preview(parsed, products, purse, budget, shown, direction)
        if found is None:
            continue
        rows = _rows(found)
        coins = _coins(found, account) if direction is Direction.SHORT else None
        sides.append(LadderSide(found, tuple(rows[:MOST_ROWS]), max(len(rows) - MOST_ROWS, 0), _chart(found), coins))
    return sides


def merged_checks(sides: Sequence[LadderSide]) -> list[Check]:
    """Return the checks of all sides; one that both have is said once, another one says whose it is."""
    if len(sides) < 2:
        return [*(sides[0].preview.checks if sides else ()), *_coin_checks(sides)]
    shared = {check.text for check in sides[0].preview.checks} & {check.text for check in sides[1].preview.checks}
    found: dict[str, Check] = {}
    for side in sides:
        for check in side.preview.checks:
            whose = "" if check.text in shared else f"{'Short' if side.is_short else 'Long'} side: "
            found.setdefault(whose + check.text, Check(check.state, whose + check.text))
    return [*found.values(), *_coin_checks(sides)]


def _coin_checks(sides: Sequence[LadderSide]) -> Iterator[Check]:
    for side in sides:
        if side.coins is not None and side.coins.is_short:
            need, free = _short_text(side.coins.one_deal), _short_text(side.coins.free or ZERO)
            yield Check(
                "warn",
                f"A short sells coins that the account holds: a whole deal needs {need} {side.coins.currency}, "
                f"{free} are free.",
            )


def _coins(preview: Preview, account: Account) -> CoinNeed | None:
    """Return the coins that shorts on the shown pair sell; None while no size is known."""
    report = preview.shown.report if preview.shown else None
    if report is None or preview.shown is None or preview.nominal:
        return None
    with for_money():
        one = sum((rung.size / rung.price for rung in report.rungs if rung.price > ZERO), ZERO)
        everything = one * preview.deals
    currency = preview.shown.product.base
    try:
        free = money_of(account, clock.now()).spendable(account.pk, currency)
    except TradebotError:
        free = None
    return CoinNeed(currency, one, everything, free)


def _short_text(value: Decimal) -> str:
    with localcontext(MONEY) as context:
        context.prec = 6
        return plain(+value)


def _rows(preview: Preview) -> list[LadderRow]:
    report = preview.shown.report if preview.shown else None
    if report is None:
        return []
    low = {violation.level for violation in report.violations if violation.code == "below_minimum"}
    rows = []
    with for_money():
        for rung in report.rungs:
            if rung.price <= ZERO:
                break
            to_target = None if rung.target_after is None else (rung.target_after / rung.price - ONE) * HUNDRED
            rows.append(
                LadderRow(
                    name="Base" if rung.level == 0 else f"SO {rung.level}",
                    drop_pct=-preview.direction.sign * rung.drop_pct if rung.level else None,
                    price=rung.price,
                    size=rung.size,
                    total=rung.cumulative_cost,
                    to_target_pct=to_target,
                    is_low=rung.level in low and not preview.nominal,
                )
            )
    return rows


def _chart(preview: Preview) -> LadderChart | None:
    report = preview.shown.report if preview.shown else None
    rungs = [rung for rung in report.rungs if rung.price > ZERO] if report else []
    if not rungs:
        return None
    # Only a drawing: floats are fine here.
    prices = [float(rung.price) for rung in rungs]
    averages = [float(rung.average_after) for rung in rungs]
    targets = [float(rung.target_after) for rung in rungs if rung.target_after is not None]
    sizes = [float(rung.size) for rung in rungs]
    high, low = max(prices + averages + targets), min(prices + averages + targets)
    largest = max(sizes) or 1.0
    step = 250 / max(1, len(rungs) - 1)

    def x(number: int) -> float:
        return 18 + number * step

    def y(price: float) -> float:
        return 12 + (high - price) / ((high - low) or 1.0) * 120

    def path(values: Sequence[float]) -> str:
        return "".join(f"{'L' if i else 'M'}{x(i):.1f},{y(v):.1f}" for i, v in enumerate(values))

    dots = tuple(
        Dot(f"{x(i):.1f}", f"{y(price):.1f}", f"{3 + 7 * (sizes[i] / largest) ** 0.5:.1f}")
        for i, price in enumerate(prices)
    )
    return LadderChart(dots, path(averages), path(targets), tuple(_labels(x, y, prices, averages, targets)))


def _labels(x: Any, y: Any, prices: list[float], averages: list[float], targets: list[float]) -> Any:
    """Yield (x, y, text) of the words at the ends of the lines, moved apart where they would meet."""
    if len(prices) == 1:
        yield f"{x(0) + 14:.0f}", f"{y(prices[0]) + 4:.0f}", "base order only"
        return
    yield "10", f"{y(prices[0]) + 22:.0f}", "base"
    taken: list[float] = []
    words = [(averages[-1], "average"), (prices[-1], f"SO {len(prices) - 1}")]
    if targets:
        words.insert(0, (targets[-1], "target"))
    for value, text in words:
        place = y(value) + 4
        while any(abs(place - other) < 11 for other in taken):
            place += 11
        taken.append(place)
        yield "284", f"{min(place, 147):.0f}", text


# Rules --------------------------------------------------------------------------------------------------------------


def _show_present_values(draft: BotDraft, bot: Bot | None, parsed: Any, product: Product | None) -> None:
    """Put beside each condition what it says for ``product`` at the last closed candle."""
    trees = {name: getattr(parsed, name, None) for name in draft.trees} if parsed is not None else {}
    found = {name: tree for name, tree in trees.items() if isinstance(tree, Tree) and not tree.is_empty}
    if product is None or not found:
        return
    strategy = strategies.get_strategy(draft.strategy)
    wanted: dict[Timeframe, int] = strategy.required_series(parsed)
    for timeframe, count in wanted.items():
        try:
            store.ensure(product, timeframe, count)
        except TradebotError:
            continue  # The condition then says how many candles it has.
    now = clock.now()
    shared = market_views.build({product.pk: product}, {product.pk: wanted}, now)[product.pk]
    view = laid_over(shared, bot.pk if bot else None, product.pk, strategy.required_signals(parsed), now)
    for name, tree in found.items():
        draft.trees[name].show(evaluate(tree, view).checks)


_PHASES: Final = {
    "open": ("Opens{} when {}.", "No rule: opens{} at once, as soon as a deal is free."),
    "add": ("Adds{} at a rung's price when also {}.", "No rule: adds{} by price alone."),
    "close": ("Closes{} when {}, and the target is reached where there is one.", "No rule: closes{} by profit."),
}


def _sentences(draft: BotDraft, parsed: Any) -> dict[str, str]:
    """Return each rule in words, for under its builder, and what its mirror asks of shorts where there is one."""
    found = {}
    directions = getattr(parsed, "directions", ())
    for name in draft.trees:
        phase = name.removeprefix("short_").removesuffix("_conditions")
        tree = getattr(parsed, name, None)
        if phase not in _PHASES or not isinstance(tree, Tree):
            continue
        is_short = name.startswith("short_") or directions == (Direction.SHORT,)
        found[name] = _said(phase, tree, " a short" if is_short and phase == "open" else "")
        if len(directions) > 1 and str(parsed.short_conditions) == "mirrored" and not tree.is_empty:
            mirrored: Tree = getattr(parsed, f"{phase}_tree")(Direction.SHORT)
            found[name] += f" Short side, mirrored: {describe(mirrored)}."
    return found


def _said(phase: str, tree: Tree, what: str) -> str:
    rule, none = _PHASES[phase]
    return none.format(what) if tree.is_empty else rule.format(what, describe(tree))
