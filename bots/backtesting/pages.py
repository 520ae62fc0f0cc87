"""What the pages of backtests and sweeps show. Reads only; a page costs the same number of queries however many deals
or points there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.core.paginator import Page, Paginator
from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from bots import strategies
from bots.backtest.statistics import OBJECTIVES, Objective
from bots.backtesting.charts import Plot, Series, plot
from bots.backtesting.models import Backtest, BacktestDeal, JobStatus, Sweep
from bots.models import BudgetKind
from bots.strategies.describe import settings_facts
from marketdata import history
from marketdata.models import Product
from marketdata.series import Candles
from marketdata.store import store
from marketdata.timeframes import Timeframe
from positions.states import ENTRY_PURPOSES, Purpose
from tradebot.core import clock
from tradebot.core.decimals import ZERO, plain
from tradebot.core.errors import InvalidInput

__all__ = [
    "SORTS",
    "DealTable",
    "FillRow",
    "JobRow",
    "ResultPage",
    "candle_window",
    "chart_timeframes_of",
    "deal_table",
    "facts_of",
    "fill_rows",
    "job_row",
    "negative",
    "number_of",
    "range_text",
    "result_page",
    "run_facts",
]

MOST_CANDLES: Final = 3_000
MOST_ROWS_READ: Final = 60_000
"""Candles of a shorter timeframe that one answer may be built from."""
DEALS_PER_PAGE: Final = 50
MOST_MARKS: Final = 1_500
SHORTEST_FOR_YEARS: Final = 60 * 86_400


# Jobs ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobRow:
    """A backtest or sweep in its list, and how far its work has come."""

    job: Any
    figures: Mapping[str, Any]

    @property
    def is_active(self) -> bool:
        return not self.job.is_over

    @property
    def percent(self) -> int:
        return round(min(max(self.job.progress, 0.0), 1.0) * 100)

    @property
    def symbols(self) -> list[str]:
        return [str(symbol) for symbol in self.job.symbols][:4]

    @property
    def more_symbols(self) -> int:
        return max(len(self.job.symbols) - 4, 0)

    @property
    def range_text(self) -> str:
        return range_text(self.job.start, self.job.end)

    @property
    def speaks_of_years(self) -> bool:
        """Return whether the range is long enough for a return a year to mean something at the head of the page."""
        return bool(self.job.end - self.job.start >= SHORTEST_FOR_YEARS)

    @property
    def badge(self) -> str:
        """Return the class of the badge that says how it stands."""
        return {
            JobStatus.RUNNING: "running",
            JobStatus.FAILED: "failed",
            JobStatus.FINISHED: "plain",
            JobStatus.CANCELLED: "stopped",
        }.get(self.job.status, "stopped")

    @property
    def state(self) -> str:
        if self.is_active and self.job.cancel_requested:
            return "Stopping"
        return str(JobStatus(self.job.status).label)

    @property
    def fall(self) -> float | None:
        """Return the worst drawdown as a fall: below zero."""
        return negative(self.figures.get("max_drawdown_pct"))

    @property
    def objective(self) -> Objective | None:
        return OBJECTIVES.get(getattr(self.job, "objective", ""))

    @property
    def speed(self) -> int | None:
        """Return the candles that were simulated in each second so far."""
        seconds = self.seconds
        if not seconds:
            return None
        candles = getattr(self.job, "candles", 0)
        if not self.job.is_over or not candles:
            periods = (self.job.end - self.job.start) / Timeframe(self.job.timeframe).seconds
            candles = periods * len(self.job.symbols) * self.job.progress
            candles *= getattr(self.job, "total", 0) or 1
        return round(candles / seconds) or None

    @property
    def seconds(self) -> float | None:
        """Return how long it has run, or ran."""
        if self.job.is_over:
            return self.job.wall_seconds or None
        if self.job.started_at is None:
            return None
        return max((clock.now() - self.job.started_at).total_seconds(), 0.0) or None

    @property
    def seconds_left(self) -> float | None:
        """Return how long it will still take at the speed so far."""
        seconds, done = self.seconds, self.job.progress
        return None if self.job.is_over or not seconds or done < 0.02 else seconds * (1 - done) / done


def range_text(start: int, end: int) -> str:
    """Return the days of [start, end), Unix seconds, as people write them; days are UTC, as candles are."""
    first, last = (datetime.fromtimestamp(moment, UTC) for moment in (start, max(start, end - 1)))
    year = "" if first.year == last.year else f" {first.year}"
    return f"{first.day} {first:%b}{year} to {last.day} {last:%b} {last.year}"


def job_row(job: Backtest | Sweep) -> JobRow:
    """Return the row of a job."""
    figures = job.statistics if isinstance(job, Backtest) else {}
    return JobRow(job, figures if isinstance(figures, dict) else {})


# One backtest -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Month:
    """A cell of the monthly table; ``heat`` is its class, worst to best."""

    name: str
    value: float | None
    heat: str
    deals: int
    profit: str


@dataclass(frozen=True, slots=True)
class Year:
    name: str
    months: tuple[Month | None, ...]
    value: float | None


@dataclass(frozen=True, slots=True)
class Stat:
    """A line of the statistics. ``kind`` is how it is written: pct, signed_pct, number, amount, signed, days, count."""

    label: str
    value: Any
    kind: str
    note: str = ""


@dataclass(slots=True)
class ResultPage:
    """Everything that a finished backtest shows besides its deals and candles."""

    row: JobRow
    figures: Mapping[str, Any]
    fall_at: datetime | None
    statistics: list[Stat]
    years: list[Year]
    pairs: list[Mapping[str, Any]]
    equity: Plot | None
    falls: Plot | None
    cursor: dict[str, Any]
    facts: list[Any]
    run_facts: list[tuple[str, str]]
    warnings: list[str]

    @property
    def hold_fall(self) -> float | None:
        return negative(self.figures.get("hold_max_drawdown_pct"))

    @property
    def fall(self) -> float | None:
        return self.row.fall


def result_page(backtest: Backtest) -> ResultPage:
    """Return the page of a finished backtest."""
    row = job_row(backtest)
    figures = row.figures
    curve = backtest.curve if isinstance(backtest.curve, dict) else {}
    times, equity = list(curve.get("t") or []), list(curve.get("equity") or [])
    held, falls = list(curve.get("held") or []), [negative(value) for value in curve.get("drawdown") or []]
    lines = [Series("Buy and hold", "held", times, held), Series("This run", "equity", times, equity)]
    bottom = figures.get("max_drawdown_at")
    return ResultPage(
        row=row,
        figures=figures,
        fall_at=datetime.fromtimestamp(bottom, UTC) if isinstance(bottom, int) else None,
        statistics=_statistics(figures),
        years=_years(backtest.monthly),
        pairs=[pair for pair in figures.get("pairs") or [] if isinstance(pair, dict)],
        equity=plot(lines),
        falls=plot([Series("Drawdown", "fall", times, falls)], unit="\u2009%", zero=True),
        cursor={"t": times, "equity": equity, "held": held, "falls": falls, "unit": backtest.quote_currency},
        facts=facts_of(backtest.strategy, backtest.settings, backtest.quote_currency),
        run_facts=run_facts(backtest),
        warnings=[str(line) for line in backtest.warnings],
    )


def negative(value: Any) -> float | None:
    """Return a fall, which is stored as a size, as the change that it is."""
    return None if not isinstance(value, int | float) else -float(value) if value else 0.0


def number_of(value: Any) -> float | None:
    """Return a stored figure, number or text, as a number to compare by."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


STATISTICS: Final = (
    ("Return a year", "annual_return_pct", "signed_pct"),
    ("Realised", "realised", "signed"),
    ("Unrealised at the end", "unrealised", "signed"),
    ("Return for each percent of drawdown", "return_per_drawdown", "number"),
    ("Longest time under water", "underwater_days", "days"),
    ("Sharpe ratio", "sharpe", "number"),
    ("Sortino ratio", "sortino", "number"),
    ("Won", "win_rate_pct", "pct"),
    ("Average deal", "average_deal_pct", "signed_pct"),
    ("Best deal", "best_deal_pct", "signed_pct"),
    ("Worst deal", "worst_deal_pct", "signed_pct"),
    ("Median time in a deal", "median_hours", "hours"),
    ("Longest deal", "longest_hours", "hours"),
    ("Deals a day", "deals_per_day", "number"),
    ("Safety orders bought", "safety_orders", "count"),
    ("Time in deals", "time_exposure_pct", "pct"),
    ("Capital in deals, mean", "capital_exposure_pct", "pct"),
    ("Traded volume", "volume", "amount"),
    ("Fees paid", "fees", "amount"),
    ("Still open at the end", "deals_open", "count"),
    ("Short deals", "deals_short", "count"),
)


def _statistics(figures: Mapping[str, Any]) -> list[Stat]:
    found = [Stat(label, figures.get(name), kind) for label, name, kind in STATISTICS if name in figures]
    return [stat for stat in found if not (stat.label == "Short deals" and not stat.value)]


def _years(monthly: Any) -> list[Year]:
    """Return the months in rows of a year; a year's return is its months' returns compounded."""
    years: dict[str, list[Month | None]] = {}
    grown: dict[str, float] = {}
    for row in monthly if isinstance(monthly, list) else ():
        year, _, month = str(row.get("month", "")).partition("-")
        if not month.isdecimal() or not 1 <= int(month) <= 12:
            continue
        value = row.get("return_pct")
        months = years.setdefault(year, [None] * 12)
        months[int(month) - 1] = Month(
            f"{year}-{month}", value, _heat(value), int(row.get("deals") or 0), str(row.get("profit") or "")
        )
        grown[year] = grown.get(year, 1.0) * (1.0 + (value or 0.0) / 100.0)
    return [Year(year, tuple(months), (grown[year] - 1.0) * 100.0) for year, months in sorted(years.items())]


def _heat(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) < 0.05:
        return "ht3"
    if value > 0:
        return "ht6" if value >= 5 else "ht5" if value >= 2 else "ht4"
    return "ht1" if value <= -2 else "ht2"


def facts_of(strategy: str, settings: Any, quote: str) -> list[Any]:
    """Return settings in words, nothing for those that cannot be read any more."""
    try:
        return list(settings_facts(strategies.get_strategy(strategy).settings_from_json(settings), quote))
    except InvalidInput:
        return []


def run_facts(run: Backtest | Sweep) -> list[tuple[str, str]]:
    """Return how it was run, in words, without the strategy's settings."""
    fixed = run.budget_kind == BudgetKind.FIXED
    budget = f"{plain(run.budget_fixed)} {run.quote_currency}" if fixed else f"{plain(run.budget_pct)} % of the capital"
    opening = ", ".join(f"{amount} {code}" for code, amount in dict(run.balances).items())
    return [
        ("Pairs", ", ".join(str(symbol) for symbol in run.symbols)),
        ("Market", run.exchange.capitalize()),
        ("Range, UTC", range_text(run.start, run.end)),
        ("One look per candle of", run.timeframe),
        ("Started with", opening),
        ("Budget", budget + (", split over the deals" if run.split_budget else "")),
        ("Fees, maker and taker", f"{plain(run.maker_fee_pct)} % and {plain(run.taker_fee_pct)} %"),
        ("Slippage", f"{plain(run.slippage_pct)} %"),
    ]


# Deals --------------------------------------------------------------------------------------------------------------


SORTS: Final = {
    "-number": "Newest first",
    "number": "Oldest first",
    "-profit": "Most profit",
    "profit": "Most loss",
    "-pct": "Best percent",
    "pct": "Worst percent",
    "-time": "Longest",
    "-orders": "Most safety orders",
}


@dataclass(frozen=True, slots=True)
class DealTable:
    """A page of deals, narrowed and sorted."""

    page: Page[Any]
    sort: str
    pair: str
    ended: str
    sorts: tuple[tuple[str, str], ...] = tuple(SORTS.items())
    endings: tuple[tuple[str, str], ...] = (("", "All"), ("won", "Won"), ("lost", "Lost"), ("open", "Still open"))

    @property
    def is_narrowed(self) -> bool:
        return bool(self.pair or self.ended)


def deal_table(backtest: Backtest, query: Mapping[str, Any]) -> DealTable:
    """Return the page of deals that ``query`` (of the address) asks for; what is not understood is left out."""
    sort = str(query.get("sort", ""))
    sort = sort if sort in SORTS else "-number"
    pair = str(query.get("pair", ""))
    pair = pair if pair in backtest.symbols else ""
    ended = str(query.get("ended", ""))
    rows: QuerySet[Any] = BacktestDeal.objects.filter(backtest=backtest)
    if pair:
        rows = rows.filter(symbol=pair)
    if ended == "won":
        rows = rows.filter(closed_at__isnull=False, profit__gt=ZERO)
    elif ended == "lost":
        rows = rows.filter(closed_at__isnull=False, profit__lte=ZERO)
    elif ended == "open":
        rows = rows.filter(closed_at__isnull=True)
    else:
        ended = ""
    last = Value(datetime.fromtimestamp(backtest.end, UTC), output_field=DateTimeField())
    orders: dict[str, Any] = {
        "number": F("number"),
        "profit": F("profit"),
        "pct": F("profit_pct"),
        "time": ExpressionWrapper(Coalesce("closed_at", last) - F("opened_at"), output_field=DurationField()),
        "orders": F("safety_orders"),
    }
    order = orders[sort.removeprefix("-")]
    ordered = order.desc(nulls_last=True) if sort.startswith("-") else order.asc(nulls_last=True)
    rows = rows.order_by(ordered, "-number")
    return DealTable(Paginator(rows, DEALS_PER_PAGE).get_page(query.get("page")), sort, pair, ended)


@dataclass(frozen=True, slots=True)
class FillRow:
    """One fill of a simulated deal as its table shows it."""

    at: datetime | None
    what: str
    side: str
    price: str
    base: str
    quote: str
    fee: str
    fee_currency: str
    is_maker: bool


def fill_rows(deal: BacktestDeal) -> list[FillRow]:
    """Return the fills of ``deal`` in order."""
    found = []
    for fill in deal.fills if isinstance(deal.fills, list) else ():
        moment = _moment(fill.get("at"))
        found.append(
            FillRow(
                at=None if moment is None else datetime.fromtimestamp(moment, UTC),
                what=str(fill.get("purpose", "")).replace("_", " "),
                side=str(fill.get("side", "")),
                price=str(fill.get("price", "")),
                base=str(fill.get("base", "")),
                quote=str(fill.get("quote", "")),
                fee=str(fill.get("fee", "")),
                fee_currency=str(fill.get("fee_currency", "")),
                is_maker=bool(fill.get("is_maker")),
            )
        )
    return found


def _moment(value: Any) -> int | None:
    """Return a fill's moment in Unix seconds, however it was stored."""
    if isinstance(value, int | float):
        return int(value)
    try:
        return int(datetime.fromisoformat(str(value)).timestamp())
    except ValueError:
        return None


# Candles ------------------------------------------------------------------------------------------------------------


def chart_timeframes_of(backtest: Backtest, product: Product) -> list[Timeframe]:
    """Return the timeframes in which the pair's chart can be shown: the run's own and longer ones."""
    own = Timeframe(backtest.timeframe)
    held = store.coverage([product.pk]).get(product.pk, {})
    longer = (tf for tf in (Timeframe.M15, Timeframe.H1, Timeframe.H4, Timeframe.D1) if tf.seconds > own.seconds)
    return [tf for tf in (own, *longer) if history.base_for(held, tf, backtest.start, backtest.end) is not None]


def candle_window(
    backtest: Backtest, product: Product, timeframe: Timeframe, until: int | None, count: int
) -> dict[str, Any]:
    """Return up to ``count`` candles of one pair that open before ``until``, with the marks of its deals.

    Never more than 3 000, never outside the run's range, however far the range or ``until`` reach. ``earlier`` and
    ``later`` are the values of ``until`` for the neighbouring windows, None at the ends.
    """
    held = store.coverage([product.pk]).get(product.pk, {})
    source = history.base_for(held, timeframe, backtest.start, backtest.end)
    candles = Candles.empty()
    first = last = timeframe.open_time(backtest.start)
    begin, end = backtest.start, backtest.end
    if source is not None:
        base, series = source
        begin, end = max(begin, series.start), min(end, series.end)
        most = max(1, min(MOST_CANDLES, MOST_ROWS_READ * base.seconds // timeframe.seconds))
        count = max(1, min(count, most))
        last = min(end, max(until, begin + timeframe.seconds) if until is not None else end)
        last = -(-(last - timeframe.offset) // timeframe.seconds) * timeframe.seconds + timeframe.offset
        first = max(last - count * timeframe.seconds, timeframe.open_time(begin))
        candles = history.read(product, timeframe, first, last, series)
    columns = (candles.time, candles.open, candles.high, candles.low, candles.close)
    step = (last - first) or timeframe.seconds
    return {
        "product": product.symbol,
        "timeframe": timeframe.value,
        "step": float(product.price_increment),
        "candles": [list(row) for row in zip(*(column.tolist() for column in columns), strict=True)],
        "marks": _marks(backtest, product.symbol, timeframe, first, last),
        "lines": [],
        "earlier": first if first > begin else None,
        "later": min(last + step, end) if last < end else None,
    }


def _marks(backtest: Backtest, symbol: str, timeframe: Timeframe, first: int, last: int) -> list[dict[str, Any]]:
    begin, end = (datetime.fromtimestamp(moment, UTC) for moment in (first, last))
    deals = BacktestDeal.objects.filter(
        Q(closed_at__isnull=True) | Q(closed_at__gte=begin), backtest=backtest, symbol=symbol, opened_at__lte=end
    )
    marks: list[dict[str, Any]] = []
    for profit, percent, fills in deals.values_list("profit", "profit_pct", "fills")[:MOST_MARKS]:
        added = 0
        exit_mark: dict[str, Any] | None = None
        for fill in fills if isinstance(fills, list) else ():
            moment, purpose = _moment(fill.get("at")), str(fill.get("purpose", ""))
            if moment is None:
                continue
            # A look is at a candle's close: the mark belongs to the candle that ends there.
            time, side = timeframe.open_time(moment - 1), str(fill.get("side", ""))
            entry = purpose in ENTRY_PURPOSES
            if entry and purpose != Purpose.BASE_ORDER:
                added += 1
            if not first <= time < last:
                continue
            if entry:
                kind = "base" if purpose == Purpose.BASE_ORDER else "add"
                marks.append({"time": time, "kind": kind, "side": side, "text": "B" if kind == "base" else str(added)})
            else:
                exit_mark = {"time": time, "kind": "exit", "side": side, "won": profit >= ZERO}
                exit_mark["text"] = purpose.replace("_", " ")
                marks.append(exit_mark)
        if exit_mark is not None and percent is not None:
            sign = "+" if percent > ZERO else "\u2212" if percent < ZERO else ""
            exit_mark["text"] = f"{sign}{abs(percent):.1f} %"
    return sorted(marks, key=lambda mark: mark["time"])[:MOST_MARKS]
