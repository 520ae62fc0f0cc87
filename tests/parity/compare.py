"""The same candles and settings through the real cycle and through a backtest: do all fills agree to the last digit?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from accounts.access import acting_for
from accounts.exchanges.paper_fills import costs_of
from accounts.models import PaperTerms, User
from bots import replay
from bots.backtest.simulation import simulate
from bots.backtest.spec import Outcome, Pair, Spec
from bots.models import ReplayRun
from bots.strategies import get_strategy
from marketdata.store import store
from marketdata.timeframes import Timeframe
from positions.models import Fill
from tradebot.core import clock
from tradebot.core.decimals import HUNDRED, dec, plain
from tradebot.core.scoping import acting_for_account

FillRow = tuple[str, str, str, str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Compared:
    """Both sides of one comparison: fills in order, and the fingerprints over them."""

    replayed: list[FillRow]
    simulated: list[FillRow]
    replay_fingerprint: str
    outcome: Outcome
    replay_seconds: float

    @property
    def first_difference(self) -> str:
        """Return the first fill that differs, empty when none does."""
        for number, (a, b) in enumerate(zip(self.replayed, self.simulated, strict=False)):
            if a != b:
                return f"fill {number}:\n  replay   {a}\n  backtest {b}"
        if len(self.replayed) != len(self.simulated):
            longer = self.replayed if len(self.replayed) > len(self.simulated) else self.simulated
            shorter = min(len(self.replayed), len(self.simulated))
            return f"{len(self.replayed)} replayed, {len(self.simulated)} simulated; first extra: {longer[shorter]}"
        return ""


@dataclass(frozen=True, slots=True)
class Asked:
    """One bot to compare: its settings, and what its account starts with."""

    settings: dict[str, Any]
    start: dict[str, Decimal]


def compare(
    user: User, files: list[Path], asked: Mapping[str, Asked], *, steps: int | None = None
) -> dict[str, Compared]:
    """Replay ``steps`` looks (None: all) of ``files`` through the cycle, all bots beside each other, simulate each by
    itself, and return both by name."""
    strategy = get_strategy("indicator_dca")
    with acting_for(user):
        runs = {
            name: replay.open_run(
                user,
                replay.ReplaySpec(
                    files=tuple(files),
                    strategy=strategy.name,
                    settings=strategy.settings_from_json(one.settings).to_json(),
                    budget_pct=HUNDRED,
                    start=one.start,
                    label=f"parity {name}",
                ),
                fresh=True,
            )[0]
            for name, one in asked.items()
        }
        first = next(iter(runs.values()))
        stop_at = None if steps is None else first.start + steps * first.step_seconds
        replay.run_together(list(runs.values()), stop_at=stop_at)
        return {name: _compared(run, asked[name].start) for name, run in runs.items()}


def _compared(run: ReplayRun, start: dict[str, Decimal]) -> Compared:
    with acting_for_account(run.account_id):
        rows = list(
            Fill.objects.filter(account_id=run.account_id)
            .select_related("order", "position__product")
            .order_by("at", "pk")
        )
        fingerprint = replay.fingerprint(rows)
    outcome = simulate(spec_of(run, start, end=run.cursor))
    return Compared(
        [_row(fill) for fill in rows],
        [
            _line(f.at, f.symbol, f.side, f.purpose, f.price, f.base, f.quote, f.fee, f.fee_currency)
            for f in outcome.fills
        ],
        fingerprint,
        outcome,
        run.wall_seconds,
    )


def spec_of(run: ReplayRun, start: dict[str, Decimal], end: int | None = None) -> Spec:
    """Return the backtest of what ``run`` replays, looks before ``end`` (Unix seconds) only."""
    assert run.bot is not None
    strategy = get_strategy(run.bot.strategy)
    settings = strategy.settings_from_json(run.bot.settings)
    base = next(timeframe for timeframe in Timeframe if timeframe.seconds == run.step_seconds)
    frames = {base, *strategy.required_series(settings)}
    pairs = []
    with acting_for_account(run.account_id), clock.at(datetime.fromtimestamp(run.end, UTC)):
        for row in run.bot.bot_products.select_related("product").order_by("pk"):
            candles = {
                frame: store.load([row.product_id], frame, count=None)[row.product_id]
                for frame in frames
                if frame.seconds >= base.seconds
            }
            pairs.append(Pair(row.product.terms, candles))
        terms = PaperTerms.objects.filter(account_id=run.account_id).first()
    return Spec(
        strategy=run.bot.strategy,
        settings=settings,
        pairs=tuple(pairs),
        timeframe=base,
        balances={currency: dec(amount) for currency, amount in start.items()},
        quote=run.bot.quote_currency,
        costs=costs_of(terms),
        budget_kind=run.bot.budget_kind,
        budget_pct=run.bot.budget_pct,
        budget_fixed=run.bot.budget_fixed,
        split_budget=run.bot.split_budget,
        end=end,
    )


def _row(fill: Fill) -> FillRow:
    at, order = int(fill.at.timestamp()), fill.order
    symbol = fill.position.product.symbol
    return _line(at, symbol, fill.side, order.purpose, fill.price, fill.base, fill.quote, fill.fee, fill.fee_currency)


def _line(at: int, symbol: str, side: str, purpose: str, *amounts: Any) -> FillRow:
    *numbers, currency = amounts
    moment = datetime.fromtimestamp(at, UTC).isoformat()
    price, base, quote, fee = (plain(number) for number in numbers)
    return moment, symbol, str(side), str(purpose), price, base, quote, fee, currency
