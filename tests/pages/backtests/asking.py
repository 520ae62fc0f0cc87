"""What a browser sends to have something tried, and the worker that tries it."""

from __future__ import annotations

from typing import Any

from bots.backtesting import jobs, sweeps
from bots.backtesting import services as backtests
from bots.backtesting.models import Backtest
from tradebot.core.scoping import request_holder


def typed(**changes: Any) -> dict[str, Any]:
    """What a browser sends for a form that is in order."""
    return {
        "origin": "template:balanced",
        "symbols": ["BTC-USD"],
        "budget_kind": "percent",
        "budget_pct": "100",
        "budget_fixed": "",
        "split_budget": "on",
        "r.name": "",
        "r.exchange": "replay",
        "r.timeframe": "1m",
        "r.start": "2024-01-01",
        "r.end": "2024-01-01",
        "r.capital": "1000",
        "r.maker": "0,4",
        "r.taker": "0.6",
        "r.slippage": "0",
        "action": "run",
    } | changes


def work() -> None:
    """Carry out what waits, as a worker does."""
    with request_holder():
        job = jobs.claim_next()
        assert job is not None
        with jobs.acting_for_owner(job.owner_id):
            if isinstance(job, Backtest):
                backtests.run_backtest(job, tell=False)
            else:
                sweeps.run_to_end(job)
