"""Recorded candles through the real thing: the same cycle, order protocol, paper venue and database as the server.

A run has an account, a bot and a clock of its own. Its cursor is the step to do next; it moves on only after everything
about a step is committed. A run that was killed at any line goes on with the same step, and because orders have client
ids of their own and a look is repeatable (``bots.engine``), it ends as if nothing had happened.

Nothing else touches the run: the live cycle leaves the market ``replay`` alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from django.db import transaction

from accounts import services as account_services
from accounts.exchanges import paper
from accounts.models import Account, User
from bots import engine
from bots import services as bot_services
from bots.models import ReplayRun
from marketdata import sources
from marketdata.models import CandleSeries, Product
from marketdata.sources.replay import import_file
from marketdata.store import store
from marketdata.timeframes import Timeframe
from notifications import outbox
from positions.models import Fill, Position
from positions.reconcile import reconcile_account
from positions.states import POSITION_ACTIVE, PositionStatus, Side
from tradebot.core import clock
from tradebot.core.decimals import ZERO, plain
from tradebot.core.scoping import acting_for_account, acting_for_accounts

__all__ = ["ReplaySpec", "Report", "equity_curve", "open_run", "report", "run_to_end", "run_together"]


@dataclass(frozen=True, slots=True)
class ReplaySpec:
    """What to replay: candle files, and the bot to run over them. ``start`` are the opening paper balances."""

    files: tuple[Path, ...]
    strategy: str
    settings: Mapping[str, Any]
    budget_pct: Decimal
    start: Mapping[str, Decimal]
    label: str

    def key(self) -> str:
        """Return a hash of everything that decides the outcome, the candles included."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        rest = [self.strategy, self.settings, str(self.budget_pct), {c: str(a) for c, a in self.start.items()}]
        digest.update(json.dumps(rest, sort_keys=True).encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a finished run. Amounts are strings in ``quote``; ``fingerprint`` is a hash over all fills."""

    quote: str
    candles: int
    deals_closed: int
    deals_open: int
    won: int
    win_rate_pct: float | None
    realised: str
    unrealised: str
    fees: str
    fills: int
    max_drawdown_pct: float
    equity_start: str
    equity_end: str
    wall_seconds: float
    candles_per_second: float
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


# Opening a run ------------------------------------------------------------------------------------------------------


def open_run(user: User, spec: ReplaySpec, *, fresh: bool = False) -> tuple[ReplayRun, bool]:
    """Return a run of ``spec`` for ``user`` and whether it goes on from an earlier, unfinished attempt.

    Runs in the user's scope. Raises InvalidInput for files or settings that do not fit.
    """
    series = [import_file(path) for path in spec.files]
    key = spec.key()
    unfinished = ReplayRun.objects.filter(key=key, status=ReplayRun.Status.RUNNING).select_related("account", "bot")
    if (run := unfinished.filter(account__owner=user).first()) is not None and not fresh:
        return run, True
    return _create(user, spec, series, key), False


def _create(user: User, spec: ReplaySpec, series: list[CandleSeries], key: str) -> ReplayRun:
    step = min(Timeframe(row.timeframe).seconds for row in series)
    first = min(row.start for row in series) + step  # the first price is that of the first closed candle
    last = max(row.end for row in series)
    symbols = sorted({row.product.symbol for row in series})
    # The moment at which every pair has a price, for the checks that a new bot passes.
    everybody = max(row.start for row in series) + step
    with clock.at(datetime.fromtimestamp(everybody, UTC)), transaction.atomic():
        account = account_services.create_paper_account(
            user, name=_free_account_name(user, spec.label), exchange=sources.REPLAY, start=dict(spec.start)
        )
        bot = bot_services.create_bot(
            user,
            account=account,
            name=bot_services.free_name(user, spec.label),
            strategy=spec.strategy,
            settings=spec.settings,
            symbols=symbols,
            budget_kind="percent",
            budget_pct=spec.budget_pct,
        )
        bot_services.start_bot(bot, actor="replay")
        return ReplayRun.objects.create(
            account=account,
            bot=bot,
            key=key,
            step_seconds=step,
            start=first,
            end=last,
            cursor=first,
            result={"start": {currency: plain(amount) for currency, amount in spec.start.items()}},
        )


def _free_account_name(user: User, label: str) -> str:
    taken = set(Account.objects.filter(owner=user, name__startswith=label).values_list("name", flat=True))
    number = 1
    while (name := label if number == 1 else f"{label} {number}") in taken:
        number += 1
    return name


# Running ------------------------------------------------------------------------------------------------------------


def run_to_end(run: ReplayRun, progress: Callable[[int, int], None] | None = None, stop_at: int | None = None) -> None:
    """Do every step that is left. ``progress(done, total)`` follows each; ``stop_at`` (Unix seconds) ends early."""
    run_together([run], progress, stop_at)


def run_together(
    runs: Sequence[ReplayRun], progress: Callable[[int, int], None] | None = None, stop_at: int | None = None
) -> None:
    """Do every step that is left of runs over the same candles, under one clock and in one chunk, as the server would.

    Each has an account of its own, so none notices the others; a step costs little more than that of one run. Raises
    ValueError for runs that are not at the same step of the same candles.
    """
    first = runs[0]
    if len({(run.cursor, run.start, run.end, run.step_seconds) for run in runs}) > 1:
        raise ValueError("these runs are not at the same step of the same candles")
    total = (first.end - first.start) // first.step_seconds + 1
    while first.cursor <= first.end and (stop_at is None or first.cursor < stop_at):
        started = time.perf_counter()
        moment = datetime.fromtimestamp(first.cursor, UTC)
        with clock.at(moment), outbox.silenced(), acting_for_accounts([run.account_id for run in runs]):
            _step(runs, moment)
            taken = time.perf_counter() - started
            for run in runs:
                run.cursor += run.step_seconds
                run.wall_seconds += taken
                ReplayRun.objects.filter(pk=run.pk).update(cursor=run.cursor, wall_seconds=run.wall_seconds)
        if progress is not None:
            progress((first.cursor - first.start) // first.step_seconds, total)


def _step(runs: Sequence[ReplayRun], moment: datetime) -> None:
    """What the server's loops do, once each: resting orders, reconciliation, the cycle."""
    chunk = {run.account_id: [run.bot_id] for run in runs if run.bot_id is not None}
    paper.match_resting(sources.REPLAY, moment, list(chunk))
    for account_id in chunk:
        reconcile_account(account_id)
    engine.run_chunk(chunk, moment, token=f"replay-{runs[0].pk}")


# Figures ------------------------------------------------------------------------------------------------------------


def equity_curve(run: ReplayRun) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return (times in Unix seconds, account value in the bot's quote currency as float64) for every step.

    For charts and drawdown only: the exact figures come from the ledger.
    """
    times = np.arange(run.start, run.end + 1, run.step_seconds, dtype=np.int64)
    quote = _quote_of(run)
    cash = np.full(len(times), 0.0)
    start = run.result.get("start") or {}
    cash += float(Decimal(start.get(quote, "0")))
    products = {p.pk: p for p in Product.objects.filter(pk__in=_product_ids(run))}
    held = {pk: np.zeros(len(times)) for pk in products}
    fills = Fill.objects.filter(account_id=run.account_id).select_related("position")
    for fill in fills.order_by("at", "pk"):
        at = int(np.searchsorted(times, fill.at.timestamp(), side="left"))
        sign = 1.0 if fill.side == Side.BUY else -1.0
        product = products[fill.position.product_id]
        cash[at:] -= sign * float(str(fill.quote))
        held[product.pk][at:] += sign * float(str(fill.base))
        fee = float(str(fill.fee))
        if fill.fee_currency == product.quote:
            cash[at:] -= fee
        else:
            held[product.pk][at:] -= fee
    with clock.at(datetime.fromtimestamp(run.end, UTC)):
        timeframe = next(tf for tf in Timeframe if tf.seconds == run.step_seconds)
        for pk, candles in store.load(list(products), timeframe, count=None).items():
            if not len(candles):
                continue
            closes_at = candles.time + timeframe.seconds
            index = np.searchsorted(closes_at, times, side="right") - 1
            price = np.where(index >= 0, candles.close[np.maximum(index, 0)], 0.0)
            cash += held[pk] * price
    return times, cash


def report(run: ReplayRun) -> Report:
    """Work out the figures of ``run``, store them with it and mark it finished if its last step is done."""
    with acting_for_account(run.account_id), clock.at(datetime.fromtimestamp(min(run.cursor, run.end), UTC)):
        closed = list(Position.objects.filter(account_id=run.account_id, status=PositionStatus.CLOSED))
        active = list(
            Position.objects.filter(account_id=run.account_id, status__in=POSITION_ACTIVE).select_related("product")
        )
        fills = list(
            Fill.objects.filter(account_id=run.account_id).select_related("position__product").order_by("at", "pk")
        )
        times, equity = equity_curve(run)
        peaks = np.maximum.accumulate(equity)
        candles = _candle_count(run)
        won = sum(position.realised_quote > ZERO for position in closed)
        result = Report(
            quote=_quote_of(run),
            candles=candles,
            deals_closed=len(closed),
            deals_open=len(active),
            won=won,
            win_rate_pct=round(100 * won / len(closed), 1) if closed else None,
            realised=plain(sum((position.realised_quote for position in (*closed, *active)), ZERO)),
            unrealised=plain(_unrealised(run, active)),
            fees=plain(sum((position.fees_quote for position in (*closed, *active)), ZERO)),
            fills=len(fills),
            max_drawdown_pct=round(float(((peaks - equity) / peaks).max() * 100), 2) if len(times) else 0.0,
            equity_start=f"{equity[0]:.8f}",
            equity_end=f"{equity[-1]:.8f}",
            wall_seconds=round(run.wall_seconds, 2),
            candles_per_second=round(candles / run.wall_seconds, 1) if run.wall_seconds else 0.0,
            fingerprint=fingerprint(fills),
        )
        run.result = {**run.result, "report": result.to_json()}
        if run.cursor > run.end:
            run.status, run.finished_at = ReplayRun.Status.FINISHED, datetime.now(UTC)
        run.save()
    return result


def fingerprint(fills: Iterable[Fill]) -> str:
    """Return a hash over when, what, at which price, how much and at what fee, to the last digit."""
    digest = hashlib.sha256()
    for fill in fills:
        amounts = "|".join(plain(value) for value in (fill.price, fill.base, fill.quote, fill.fee))
        digest.update(
            f"{fill.at.isoformat()}|{fill.position.product.symbol}|{fill.side}|{amounts}|{fill.fee_currency}\n".encode()
        )
    return digest.hexdigest()[:16]


def _unrealised(run: ReplayRun, active: list[Position]) -> Decimal:
    from positions import figures

    return figures.unrealised_by_quote(active).get(_quote_of(run), ZERO)


def _quote_of(run: ReplayRun) -> str:
    assert run.bot is not None
    return run.bot.quote_currency


def _product_ids(run: ReplayRun) -> list[int]:
    assert run.bot is not None
    return list(run.bot.bot_products.values_list("product_id", flat=True))


def _candle_count(run: ReplayRun) -> int:
    with clock.at(datetime.fromtimestamp(run.end, UTC)):
        timeframe = next(tf for tf in Timeframe if tf.seconds == run.step_seconds)
        return sum(len(candles) for candles in store.load(_product_ids(run), timeframe, count=None).values())
