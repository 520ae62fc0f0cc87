"""From what a person asks for to what is simulated: checks, the range, the candles, the ``Spec``. Writes nothing.

Backtests and sweeps are asked for in the same words and checked here once. Every refusal is an ``InvalidInput`` that
names the field; where candles are missing it says what is held, so that a page can offer the download.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from django.conf import settings as django_settings

from accounts.exchanges.paper_rules import Costs
from accounts.models import PaperTerms, User
from bots import coins, strategies
from bots.backtest.spec import Pair, Spec
from bots.models import Backtest, Bot, BudgetKind, Sweep
from bots.signals.stored import BotSignals, heard_between, reach_of
from bots.strategies.base import Strategy
from bots.strategies.heard import NO_SIGNALS
from marketdata import coins as coin_book
from marketdata import history, sources
from marketdata.models import CandleSeries, Product
from marketdata.series import Candles, resample
from marketdata.store import store
from marketdata.timeframes import Timeframe
from positions.states import Direction
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, ZERO, dec, floor_to, for_money, from_float, plain
from tradebot.core.errors import InvalidInput, NotFound

__all__ = ["Loaded", "Plan", "defaults_of", "load", "make", "parsed_settings", "spec_of"]

MAX_PAIRS: Final = 200
MAX_NAME: Final = 120
WARM_UP: Final = 300
"""Candles before the range that warm indicators with a long memory, at least."""
SENSIBLE_LOOKS: Final = 1_500_000
"""Looks at all pairs up to which minutes are looked at when nobody chose a timeframe."""
HIGHEST_COST_PCT: Final = Decimal(10)
LARGEST_AMOUNT: Final = Decimal(10) ** 15
FOR_EVER: Final = 2**62

Held = Mapping[int, Mapping[Timeframe, CandleSeries]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What was checked: the fields of the row to make, and the candles it will look at (looks × pairs)."""

    fields: dict[str, Any]
    looks: int

    def row(self, model: type[Any], owner: User, **more: Any) -> Any:
        """Return an unsaved ``Backtest`` or ``Sweep``."""
        return model(owner=owner, **self.fields, **more)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Candles in memory. ``missing`` counts the periods of the range without trades, which are filled flat."""

    pairs: tuple[Pair, ...]
    warnings: list[str]
    candles: int
    missing: int


def make(
    user: User,
    *,
    name: str = "",
    bot: Bot | None = None,
    strategy: str = "indicator_dca",
    settings: Mapping[str, Any] | None = None,
    exchange: str = "",
    symbols: Iterable[str] = (),
    timeframe: str | None = None,
    start: datetime | int | None = None,
    end: datetime | int | None = None,
    capital: Decimal | int | str = 1000,
    balances: Mapping[str, Decimal | int | str] | None = None,
    budget_kind: str | None = None,
    budget_pct: Decimal | int | str | None = None,
    budget_fixed: Decimal | int | str | None = None,
    split_budget: bool | None = None,
    maker_fee_pct: Decimal | int | str = "0.4",
    taker_fee_pct: Decimal | int | str = "0.6",
    slippage_pct: Decimal | int | str = "0.05",
) -> Plan:
    """Check what was asked for; see ``backtests.start_backtest`` for the arguments. Raises InvalidInput, NotFound."""
    given: dict[str, Any] = {}
    if bot is not None:
        bot = _seen(bot)
        given = defaults_of(bot)
        strategy = bot.strategy
    elif settings is None:
        raise InvalidInput("missing_settings", "Say which settings to try, or choose a bot.", field="settings")
    chosen = strategies.get_strategy(strategy)
    parsed = parsed_settings(chosen, settings if settings is not None else given["settings"])
    products = _products(exchange or given.get("exchange", ""), list(symbols) or given.get("symbols", []))
    held = store.coverage([product.pk for product in products])
    first, last = _moment(start, "start"), _moment(end, "end")
    needed = _needed(chosen, parsed)
    looks_at = _timeframe(timeframe, needed, products, held, first, last)
    first, last = _range(looks_at, products, held, first, last)
    _require_candles(products, held, {looks_at, *needed}, first, last)
    looks = (last - first) // looks_at.seconds * len(products)
    if looks > django_settings.BACKTEST_MAX_CANDLES:
        raise InvalidInput(
            "too_many_candles",
            f"{looks:,} looks ({looks_at} candles of {_count(products)}); at most "
            f"{django_settings.BACKTEST_MAX_CANDLES:,} are simulated. Choose a shorter range or a longer timeframe.",
            field="start",
            looks=looks,
        )
    quote = products[0].quote
    money = (
        _balances(balances, quote)
        if balances is not None
        else _opening(parsed, products, held, looks_at, first, last, _amount(capital, "capital"))
    )
    fields = {
        "name": _name(name, bot.name if bot else chosen.label, products),
        "bot": bot,
        "strategy": chosen.name,
        "settings": parsed.to_json(),
        "exchange": products[0].exchange,
        "symbols": [product.symbol for product in products],
        "timeframe": looks_at.value,
        "start": first,
        "end": last,
        "quote_currency": quote,
        "balances": {currency: plain(amount) for currency, amount in money.items()},
        **_budget(budget_kind, budget_pct, budget_fixed, split_budget, given),
        "maker_fee_pct": _percent(maker_fee_pct, "maker_fee_pct", HIGHEST_COST_PCT),
        "taker_fee_pct": _percent(taker_fee_pct, "taker_fee_pct", HIGHEST_COST_PCT),
        "slippage_pct": _percent(slippage_pct, "slippage_pct", HIGHEST_COST_PCT),
    }
    return Plan(fields, looks)


def defaults_of(bot: Bot) -> dict[str, Any]:
    """Return arguments of :func:`make` that a form about ``bot`` begins with: settings, pairs, budget, fees."""
    rows = bot.bot_products.filter(enabled=True).select_related("product").order_by("id")
    products = [row.product for row in rows]
    exchange = bot.account.exchange if bot.account else (products[0].exchange if products else "")
    found: dict[str, Any] = {
        "strategy": bot.strategy,
        "settings": dict(bot.settings),
        "exchange": exchange,
        "symbols": [product.symbol for product in products],
        "budget_kind": str(bot.budget_kind),
        "budget_pct": bot.budget_pct,
        "budget_fixed": bot.budget_fixed,
        "split_budget": bot.split_budget,
    }
    terms = PaperTerms.objects.filter(account_id=bot.account_id).first() if bot.account_id else None
    if terms is not None:
        for name in ("maker_fee_pct", "taker_fee_pct", "slippage_pct"):
            found[name] = getattr(terms, name)
    return found


def parsed_settings(strategy: Strategy, settings: Mapping[str, Any]) -> Any:
    """Return the settings as the strategy's validated model. Raises InvalidInput naming the field."""
    return strategy.settings_from_json(settings)


# Checks -------------------------------------------------------------------------------------------------------------


def _seen(bot: Bot) -> Bot:
    found: Bot | None = Bot.objects.select_related("account").filter(pk=bot.pk).first()
    if found is None:
        raise NotFound(message="There is no such bot.")
    return found


def _products(exchange: str, symbols: Iterable[str]) -> list[Product]:
    wanted = list(dict.fromkeys(str(symbol).strip().upper() for symbol in symbols if str(symbol).strip()))
    if exchange not in sources.SLUGS:
        raise InvalidInput("unknown_market", f"There is no market {exchange!r}.", field="exchange")
    if not wanted:
        raise InvalidInput("no_pairs", "Choose at least one pair.", field="symbols")
    if len(wanted) > MAX_PAIRS:
        raise InvalidInput("too_many_pairs", f"{len(wanted)} pairs; at most {MAX_PAIRS} are allowed.", field="symbols")
    found = {row.symbol: row for row in Product.objects.filter(exchange=exchange, symbol__in=wanted)}
    if unknown := [symbol for symbol in wanted if symbol not in found]:
        raise InvalidInput("unknown_pair", f"{unknown[0]} is not known on the market {exchange}.", field="symbols")
    products = [found[symbol] for symbol in wanted]
    if perpetual := next((product for product in products if product.is_perpetual), None):
        raise InvalidInput(
            "perpetual_pair",
            f"{perpetual.symbol} is a perpetual future: a backtest knows neither margin nor funding nor liquidation.",
            field="symbols",
        )
    quotes = sorted({product.quote for product in products})
    if len(quotes) > 1:
        raise InvalidInput(
            "mixed_quotes",
            f"A backtest trades in one quote currency, these pairs use {' and '.join(quotes)}. Make one for each.",
            field="symbols",
        )
    return products


def _needed(strategy: Strategy, parsed: Any) -> dict[Timeframe, int]:
    return {Timeframe(frame): count for frame, count in strategy.required_series(parsed).items()}


def _timeframe(
    wanted: str | None,
    needed: Mapping[Timeframe, int],
    products: Sequence[Product],
    held: Held,
    start: int | None,
    end: int | None,
) -> Timeframe:
    """Return the timeframe to look at: the one asked for, the shortest of the conditions' that can be made of what is
    held, or one short enough for the ladder and long enough for the range."""
    if wanted:
        return Timeframe.parse(str(wanted))
    first, last = start if start is not None else 0, end if end is not None else FOR_EVER

    def is_held(frame: Timeframe) -> bool:
        return all(history.base_for(held.get(product.pk, {}), frame, first, last) for product in products)

    for frame in sorted(needed, key=lambda frame: frame.seconds):
        if is_held(frame):
            return frame
    fitting = [frame for frame in Timeframe if is_held(frame)]
    for frame in fitting:
        begin, until = _range(frame, products, held, start, end)
        if (until - begin) // frame.seconds * len(products) <= SENSIBLE_LOOKS:
            return frame
    return fitting[-1] if fitting else min(needed, default=Timeframe.M1, key=lambda frame: frame.seconds)


def _range(
    frame: Timeframe, products: Sequence[Product], held: Held, start: int | None, end: int | None
) -> tuple[int, int]:
    """Return [start, end) on the timeframe's grid; what was not asked for is what all pairs hold together."""
    if start is None or end is None:
        bases = [
            history.base_for(held.get(product.pk, {}), frame, start or 0, end if end is not None else FOR_EVER)
            for product in products
        ]
        rows = [base[1] for base in bases if base is not None]
        if not rows:
            raise _no_candles(products[0], held, frame)
        first, last = max(row.start for row in rows), min(row.end for row in rows)
        if last <= first:
            first, last = min(row.start for row in rows), max(row.end for row in rows)
        start = first if start is None else start
        end = last if end is None else end
    begin = frame.open_time(start + frame.seconds - 1)
    until = frame.open_time(min(end, int(clock.now().timestamp())))
    if begin < 0 or until <= begin:
        raise InvalidInput(
            "empty_range", f"The range {_day(start)} to {_day(end)} has no closed {frame} candle.", field="start"
        )
    return begin, until


def _require_candles(
    products: Sequence[Product], held: Held, frames: Iterable[Timeframe], start: int, end: int
) -> None:
    for product in products:
        for frame in sorted(frames, key=lambda frame: frame.seconds):
            if history.base_for(held.get(product.pk, {}), frame, start, end) is None:
                raise _no_candles(product, held, frame)


def _no_candles(product: Product, held: Held, frame: Timeframe) -> InvalidInput:
    rows = sorted(held.get(product.pk, {}).items(), key=lambda one: one[0].seconds)
    stretches = ", ".join(
        f"{own} from {_day(row.start)} to {_day(row.end)}" for own, row in rows if row.end > row.start
    )
    known = f"Held are {stretches}" if stretches else "Nothing is held of this pair"
    remedy = "import a recording" if product.exchange == sources.REPLAY else "download its history first"
    return InvalidInput(
        "no_candles",
        f"{product.symbol}: {frame} candles of this range are not held. {known}; choose another range, or {remedy}.",
        field="start",
        pair=product.symbol,
        timeframe=frame.value,
        exchange=product.exchange,
    )


def _opening(
    parsed: Any,
    products: Sequence[Product],
    held: Held,
    frame: Timeframe,
    start: int,
    end: int,
    capital: Decimal,
) -> dict[str, Decimal]:
    """Return the opening balances: ``capital`` in quote, and for shorts, which sell what is owned, coins besides.

    They are worth the short side's share of the capital at the first prices, spread evenly over the pairs.
    """
    if capital <= ZERO:
        raise InvalidInput("no_capital", "The opening capital is above zero.", field="capital")
    found = {products[0].quote: capital}
    if Direction.SHORT not in parsed.directions:
        return found
    with for_money():
        each = capital * parsed.budget_share(Direction.SHORT) / len(products)
        for product in products:
            base = history.base_for(held.get(product.pk, {}), frame, start, end)
            price = _first_price(product, base[1] if base else None, frame, start, end)
            if price is not None:
                size = floor_to(each / price, product.base_increment)
                found[product.base] = found.get(product.base, ZERO) + size
    return found


def _first_price(product: Product, row: CandleSeries | None, frame: Timeframe, start: int, end: int) -> Decimal | None:
    if row is None:
        return None
    begin = max(start, row.start)
    candles = history.read(product, frame, begin, min(end, begin + 50 * frame.seconds), row)
    if not len(candles):
        candles = history.read(product, frame, begin, end, row)
    return from_float(float(candles.close[0]), product.price_increment) if len(candles) else None


def _balances(given: Mapping[str, Decimal | int | str], quote: str) -> dict[str, Decimal]:
    found = {str(code).strip().upper(): _amount(amount, "balances") for code, amount in given.items()}
    if len(found) > MAX_PAIRS + 1 or any(not code or len(code) > 20 for code in found):
        raise InvalidInput("bad_balances", "Opening balances are amounts by currency.", field="balances")
    if not any(found.values()):
        raise InvalidInput("no_capital", "The opening capital is above zero.", field="balances")
    return {quote: ZERO, **found}


def _budget(
    kind: str | None,
    pct: Decimal | int | str | None,
    fixed: Decimal | int | str | None,
    split: bool | None,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    chosen = str(kind or given.get("budget_kind", BudgetKind.PERCENT.value))
    if chosen not in BudgetKind.values:
        raise InvalidInput("unknown_budget", f"{chosen!r} is no kind of budget.", field="budget_kind")
    percent = _percent(given.get("budget_pct", HUNDRED) if pct is None else pct, "budget_pct", HUNDRED)
    amount = _amount(given.get("budget_fixed", ZERO) if fixed is None else fixed, "budget_fixed")
    if chosen == BudgetKind.PERCENT and percent == ZERO:
        raise InvalidInput("no_budget", "The budget is 0 %, so nothing can be bought.", field="budget_pct")
    if chosen == BudgetKind.FIXED and amount == ZERO:
        raise InvalidInput("no_budget", "The budget is 0, so nothing can be bought.", field="budget_fixed")
    return {
        "budget_kind": chosen,
        "budget_pct": percent,
        "budget_fixed": amount,
        "split_budget": bool(given.get("split_budget", True) if split is None else split),
    }


def _amount(value: Decimal | int | str, field: str) -> Decimal:
    try:
        amount = dec(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput("not_a_number", f"{value!r} is not an amount.", field=field) from error
    if not ZERO <= amount < LARGEST_AMOUNT:
        raise InvalidInput("out_of_range", f"{value} is not an amount from 0 to {LARGEST_AMOUNT:,}.", field=field)
    return amount


def _percent(value: Decimal | int | str, field: str, most: Decimal) -> Decimal:
    percent = _amount(value, field)
    if percent > most:
        raise InvalidInput("out_of_range", f"{plain(percent)} % is more than {plain(most)} %.", field=field)
    return percent


def _moment(value: datetime | int | None, field: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInput("naive_time", "A time needs its time zone.", field=field)
        return int(value.timestamp())
    if not 0 <= int(value) < 2**40:
        raise InvalidInput("bad_time", f"{value} is no time.", field=field)
    return int(value)


def _name(name: str, fallback: str, products: Sequence[Product]) -> str:
    text = " ".join(str(name or "").split())
    if len(text) > MAX_NAME:
        raise InvalidInput("name_too_long", f"At most {MAX_NAME} characters are allowed.", field="name")
    if text:
        return text
    pairs = ", ".join(product.symbol for product in products[:3])
    return f"{fallback}: {pairs}{f' and {len(products) - 3} more' if len(products) > 3 else ''}"[:MAX_NAME]


def _count(products: Sequence[Product]) -> str:
    return "1 pair" if len(products) == 1 else f"{len(products)} pairs"


def _day(seconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return "ever"
    return f"{moment:%Y-%m-%d}" if seconds % 86_400 == 0 else f"{moment:%Y-%m-%d %H:%M}"


# Loading ------------------------------------------------------------------------------------------------------------


def load(job: Backtest | Sweep, parsed: Any, still_wanted: Callable[[], None] | None = None) -> Loaded:
    """Read the candles of a job. ``still_wanted`` is called after each pair and may raise to stop.

    Raises InvalidInput when a pair has no candles in the range (any more).
    """
    strategy = strategies.get_strategy(job.strategy)
    frame = Timeframe(job.timeframe)
    needed = {frame: 0, **_needed(strategy, parsed)}
    products = _products(job.exchange, job.symbols)
    held = store.coverage([product.pk for product in products])
    book = coin_book.load({code for product in products for code in (product.base, product.quote)})
    categories = coins.categories(job.owner_id, [product.base for product in products])
    signals, warnings = _signals(job, strategy, parsed)
    pairs, total, missing = [], 0, 0
    for product in products:
        candles, notes = _candles_of(product, held.get(product.pk, {}), needed, frame, job.start, job.end)
        in_range = candles[frame].time >= job.start
        flat = int(candles[frame].synthetic[in_range].sum())
        count = int(in_range.sum())
        total, missing = total + count, missing + flat
        if flat:
            notes.append(f"{product.symbol}: {flat:,} of {count:,} {frame} candles had no trades and are filled flat.")
        warnings += notes
        pairs.append(
            Pair(
                product.terms,
                candles,
                category=categories.get(product.base, ""),
                is_stable_pair=book.is_stable_pair(product.base, product.quote),
                heard=NO_SIGNALS if signals is None else signals.about(product.pk),
            )
        )
        if still_wanted is not None:
            still_wanted()
    return Loaded(tuple(pairs), warnings, total, missing)


def _signals(job: Backtest | Sweep, strategy: Strategy, parsed: Any) -> tuple[BotSignals | None, list[str]]:
    """Return what the job's bot was told, None where the rules ask for no signal or there is no bot, and notes."""
    asked = strategy.required_signals(parsed)
    if not asked:
        return None, []
    kinds = " and ".join(sorted(asked))
    found = heard_between(job.owner, job.bot_id, job.start, job.end, reach_of(asked)) if job.bot_id else None
    if found is None:
        return None, [
            f"Signals ({kinds}): this run is not of a saved bot, so none has come: their value is 0 throughout."
        ]
    name, signals = found
    first = signals.first_of(asked)
    if first is None or first >= job.end:
        return signals, [f"Signals ({kinds}): “{name}” had received none by the end, so conditions on them never hold."]
    notes = [f"Signals ({kinds}): those that “{name}” has received and that are still kept were used."]
    if first > job.start:
        notes.append(f"Before {_day(int(first))}, when the first one came, conditions on signals are unknown.")
    return signals, notes


def _candles_of(
    product: Product,
    held: Mapping[Timeframe, CandleSeries],
    needed: Mapping[Timeframe, int],
    frame: Timeframe,
    start: int,
    end: int,
) -> tuple[dict[Timeframe, Candles], list[str]]:
    """Return the candles of one pair by timeframe, from before the range so that indicators are warm, and notes."""
    bases: dict[Timeframe, tuple[CandleSeries, int]] = {}
    source: dict[Timeframe, Timeframe] = {}
    for own, count in needed.items():
        found = history.base_for(held, own, start, end)
        if found is None:
            raise _no_candles(product, {product.pk: held}, own)
        base, row = found
        begin = start - max(count, WARM_UP if count else 0) * own.seconds
        source[own] = base
        bases[base] = (row, min(begin, bases[base][1] if base in bases else begin))
    read = {base: history.read(product, base, begin, end, row) for base, (row, begin) in bases.items()}
    candles, notes = {}, []
    for own, count in needed.items():
        candles[own] = resample(read[source[own]], source[own], own)
        if not len(candles[own]):
            raise _no_candles(product, {product.pk: held}, own)
        first = int(candles[own].time[0])
        if own is not frame and count and first + count * own.seconds > start:
            ready = _day(first + count * own.seconds)
            notes.append(f"{product.symbol}: conditions on {own} candles have enough of them from {ready} on.")
    main = candles[frame]
    first, last = int(main.time[0]), int(main.time[-1]) + frame.seconds
    if first > start:
        notes.append(f"{product.symbol}: its candles begin on {_day(first)} only.")
    if last < end:
        notes.append(f"{product.symbol}: its candles end on {_day(last)} already.")
    if last <= start:
        raise _no_candles(product, {product.pk: held}, frame)
    return candles, notes


def spec_of(
    job: Backtest | Sweep, parsed: Any, pairs: tuple[Pair, ...], start: int | None = None, end: int | None = None
) -> Spec:
    """Return what is simulated. ``start`` and ``end`` narrow the job's range (opening times of candles)."""
    frame = Timeframe(job.timeframe)
    first, last = (job.start if start is None else start), (job.end if end is None else end)
    with for_money():
        costs = Costs(
            maker=job.maker_fee_pct / HUNDRED,
            taker=job.taker_fee_pct / HUNDRED,
            slippage=job.slippage_pct / HUNDRED,
            fee_in_base=False,
        )
    return Spec(
        strategy=job.strategy,
        settings=parsed,
        pairs=pairs,
        timeframe=frame,
        balances={currency: dec(amount) for currency, amount in job.balances.items()},
        quote=job.quote_currency,
        costs=costs,
        budget_kind=job.budget_kind,
        budget_pct=job.budget_pct,
        budget_fixed=job.budget_fixed,
        split_budget=job.split_budget,
        # A look happens at a candle's close: the first one closes a candle after the range begins.
        start=first + frame.seconds,
        end=last + 1,
    )
