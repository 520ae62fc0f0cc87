"""Backtests: asking for one, carrying it out in a worker, its result, comparing and exporting.

Services here are the only writers of ``Backtest`` and ``BacktestDeal`` (the queue's own words are in
``bots.backtesting.jobs``). All but the worker's run in the person's scope. A result is stored in one transaction:
whoever reads a finished backtest reads all of it, and a worker that is killed leaves one that is running, which is
queued again.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import structlog
from django.db import transaction

from accounts.models import User
from bots import strategies
from bots.backtest import statistics
from bots.backtest.simulation import simulate
from bots.backtest.spec import Cancelled, Outcome, SimulatedDeal
from bots.backtesting import jobs
from bots.backtesting import plan as backtest_plan
from bots.backtesting.plan import Loaded
from bots.models import Backtest, BacktestDeal, Bot, JobStatus
from tradebot.core.decimals import plain
from tradebot.core.errors import InvalidInput, TradebotError

__all__ = [
    "as_json",
    "cancel_backtest",
    "compare",
    "deals_csv",
    "defaults_of",
    "delete_backtest",
    "fills_csv",
    "run_backtest",
    "start_backtest",
]

log = structlog.get_logger(__name__)
ROWS_PER_INSERT: Final = 500
MOST_COMPARED: Final = 10


def start_backtest(
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
    inline: bool = False,
) -> Backtest:
    """Check everything, create the row and hand it to a worker after commit.

    ``bot`` gives settings, pairs, market and budget; what else is given goes before them. ``start`` and ``end`` are
    aware or Unix seconds, the opening times of the candles in [start, end); left out, all that the pairs hold together.
    ``timeframe`` left out is the shortest of the conditions' that is held. ``capital`` is the opening amount of the
    quote currency; a bot that sells short owns coins besides, worth the short side's share of it at the first prices.
    ``balances`` says all opening amounts instead. Fees and slippage are in percent. With ``inline`` the caller runs it.
    Raises InvalidInput (``field``), NotFound for a bot that the person may not see.
    """
    plan = backtest_plan.make(
        user,
        name=name,
        bot=bot,
        strategy=strategy,
        settings=settings,
        exchange=exchange,
        symbols=symbols,
        timeframe=timeframe,
        start=start,
        end=end,
        capital=capital,
        balances=balances,
        budget_kind=budget_kind,
        budget_pct=budget_pct,
        budget_fixed=budget_fixed,
        split_budget=split_budget,
        maker_fee_pct=maker_fee_pct,
        taker_fee_pct=taker_fee_pct,
        slippage_pct=slippage_pct,
    )
    row: Backtest = plan.row(Backtest, user)
    with transaction.atomic():
        jobs.add(row, inline=inline)
    return row


def defaults_of(bot: Bot) -> dict[str, Any]:
    """Return keyword arguments of :func:`start_backtest` that a form begins with: the bot's settings, pairs, market,
    budget, and its account's fees where they are known."""
    return backtest_plan.defaults_of(bot)


def cancel_backtest(backtest: Backtest) -> Backtest:
    """Ask a waiting or running backtest to stop and return it. One that is over stays as it is. Raises NotFound."""
    row: Backtest = jobs.cancel(backtest)
    return row


def delete_backtest(backtest: Backtest) -> None:
    """Remove a backtest with its deals. Raises InvalidInput while it runs, NotFound."""
    jobs.remove(backtest)


# Working ------------------------------------------------------------------------------------------------------------


def run_backtest(
    backtest: Backtest, *, progress: Callable[[int, int], None] | None = None, tell: bool = True
) -> Backtest:
    """Carry out a claimed backtest, in its owner's scope, store what came of it and return it.

    ``progress(done, total)`` follows the looks. What goes wrong is stored in words; an error of ours is raised as well.
    """
    meter = jobs.Meter(backtest, say=tell)
    begun = time.perf_counter()

    def note(done: int, total: int) -> None:
        meter.progress(done, total)
        if progress is not None:
            progress(done, total)

    try:
        parsed = backtest_plan.parsed_settings(strategies.get_strategy(backtest.strategy), backtest.settings)
        loaded = backtest_plan.load(backtest, parsed, lambda: _stop_if(meter.cancelled()))
        outcome = simulate(backtest_plan.spec_of(backtest, parsed, loaded.pairs), note, meter.cancelled)
        _stop_if(meter.touch())
        return _store(backtest, outcome, loaded, begun, tell)
    except Cancelled:
        with transaction.atomic():
            cancelled: Backtest = jobs.finish(
                backtest, JobStatus.CANCELLED, say=tell, wall_seconds=time.perf_counter() - begun
            )
        return cancelled
    except jobs.Leaving:
        given_back: Backtest = jobs.give_back(backtest)
        return given_back
    except jobs.LostClaim:
        log.warning("backtest.claim_lost", backtest=backtest.pk)
        return backtest
    except TradebotError as error:
        failed: Backtest = jobs.abandon(backtest, error.message, say=tell)
        return failed
    except Exception as error:
        jobs.abandon(backtest, f"The simulation failed ({type(error).__name__}): {error}", say=tell)
        raise


def _stop_if(wanted: bool) -> None:
    if wanted:
        raise Cancelled


def _store(backtest: Backtest, outcome: Outcome, loaded: Loaded, begun: float, tell: bool) -> Backtest:
    figures = statistics.summary(outcome) | {"candles": loaded.candles, "missing_candles": loaded.missing}
    monthly, curve = statistics.monthly(outcome), statistics.thinned(outcome)
    deals = [_deal_row(backtest, deal) for deal in outcome.deals]
    with transaction.atomic():
        row: Backtest = jobs.finish(
            backtest,
            JobStatus.FINISHED,
            say=tell,
            candles=outcome.candles,
            fills=len(outcome.fills),
            fingerprint=outcome.fingerprint[:16],
            statistics=figures,
            monthly=monthly,
            curve=curve,
            warnings=loaded.warnings,
            error="",
            wall_seconds=time.perf_counter() - begun,
        )
        BacktestDeal.objects.bulk_create(deals, batch_size=ROWS_PER_INSERT)
    return row


def _deal_row(backtest: Backtest, deal: SimulatedDeal) -> BacktestDeal:
    return BacktestDeal(
        backtest=backtest,
        number=deal.number,
        symbol=deal.symbol,
        direction=deal.direction.value,
        opened_at=datetime.fromtimestamp(deal.opened_at, UTC),
        closed_at=None if deal.closed_at is None else datetime.fromtimestamp(deal.closed_at, UTC),
        exit_reason=deal.exit_reason.value if deal.exit_reason else "",
        invested=deal.invested,
        profit=deal.profit,
        profit_pct=deal.profit_pct,
        fees=deal.fees,
        safety_orders=deal.safety_orders,
        fills=[
            {
                "at": fill.at,
                "side": fill.side.value,
                "purpose": fill.purpose.value,
                "price": plain(fill.price),
                "base": plain(fill.base),
                "quote": plain(fill.quote),
                "fee": plain(fill.fee),
                "fee_currency": fill.fee_currency,
                "is_maker": fill.is_maker,
            }
            for fill in deal.fills
        ],
    )


# Reading ------------------------------------------------------------------------------------------------------------


def compare(ids: Sequence[int]) -> list[Backtest]:
    """Return the finished backtests with these ids in that order, at most ten; others are left out."""
    wanted = list(dict.fromkeys(ids))[:MOST_COMPARED]
    rows = Backtest.objects.filter(pk__in=wanted, status=JobStatus.FINISHED).in_bulk()
    return [rows[pk] for pk in wanted if pk in rows]


DEAL_COLUMNS: Final = (
    "number",
    "symbol",
    "direction",
    "opened_at",
    "closed_at",
    "exit_reason",
    "invested",
    "profit",
    "profit_pct",
    "fees",
    "safety_orders",
    "fills",
)
FILL_COLUMNS: Final = ("at", "side", "purpose", "price", "base", "quote", "fee", "fee_currency", "is_maker")


def deals_csv(backtest: Backtest) -> str:
    """Return the deals as CSV with a heading; times are ISO 8601, amounts exact. Raises InvalidInput before the end."""
    return _csv(DEAL_COLUMNS, (_deal_values(deal) for deal in _deals(backtest)))


def fills_csv(backtest: Backtest) -> str:
    """Return the fills in the order of the deals as CSV with a heading. Raises InvalidInput before the end."""

    def rows() -> Iterator[list[Any]]:
        for deal in _deals(backtest):
            for fill in deal.fills:
                at = datetime.fromtimestamp(fill["at"], UTC).isoformat()
                yield [deal.number, deal.symbol, at, *(fill[name] for name in FILL_COLUMNS[1:])]

    return _csv(("deal", "symbol", *FILL_COLUMNS), rows())


def as_json(backtest: Backtest) -> dict[str, Any]:
    """Return everything about a backtest as JSON values: settings, figures, months, curve, deals with their fills."""
    deals = [
        {**dict(zip(DEAL_COLUMNS, _deal_values(deal), strict=True)), "fills": deal.fills} for deal in _deals(backtest)
    ]
    return {
        "format": "tradebot-backtest",
        "version": 1,
        "name": backtest.name,
        "strategy": backtest.strategy,
        "settings": backtest.settings,
        "exchange": backtest.exchange,
        "symbols": backtest.symbols,
        "timeframe": backtest.timeframe,
        "start": _iso(backtest.start),
        "end": _iso(backtest.end),
        "quote_currency": backtest.quote_currency,
        "balances": backtest.balances,
        "budget_kind": backtest.budget_kind,
        "budget_pct": plain(backtest.budget_pct),
        "budget_fixed": plain(backtest.budget_fixed),
        "split_budget": backtest.split_budget,
        "maker_fee_pct": plain(backtest.maker_fee_pct),
        "taker_fee_pct": plain(backtest.taker_fee_pct),
        "slippage_pct": plain(backtest.slippage_pct),
        "status": str(backtest.status),
        "candles": backtest.candles,
        "fingerprint": backtest.fingerprint,
        "statistics": backtest.statistics,
        "monthly": backtest.monthly,
        "curve": backtest.curve,
        "warnings": backtest.warnings,
        "deals": deals,
    }


def _deals(backtest: Backtest) -> Iterable[BacktestDeal]:
    if backtest.status != JobStatus.FINISHED:
        raise InvalidInput("not_finished", "The backtest has no result to export.")
    rows: Iterable[BacktestDeal] = BacktestDeal.objects.filter(backtest=backtest).order_by("number")
    return rows


def _deal_values(deal: BacktestDeal) -> list[Any]:
    values = []
    for name in DEAL_COLUMNS:
        value = getattr(deal, name)
        if name == "fills":
            value = len(value)
        elif isinstance(value, Decimal):
            value = plain(value)
        elif isinstance(value, datetime):
            value = value.isoformat()
        values.append(value)
    return values


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue()


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
