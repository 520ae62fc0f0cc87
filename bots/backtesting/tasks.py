"""Celery entry points of backtests and sweeps, on a queue of their own. Thin: each calls services.

Messages carry no more than a hint; which work is done is decided from the rows (``bots.backtesting.jobs``).
"""

from __future__ import annotations

from celery import shared_task

from bots.backtesting import jobs, sweeps
from bots.backtesting import services as backtests
from bots.models import Backtest, Sweep

RECOVER_SECONDS = 60


@shared_task
def work() -> None:
    """Do the job whose turn it is, if there is one, and see to it that the next one gets its turn."""
    job = jobs.claim_next()
    if job is None:
        return
    try:
        with jobs.acting_for_owner(job.owner_id):
            if isinstance(job, Backtest):
                backtests.run_backtest(job)
            else:
                sweeps.run_sweep(job)
    finally:
        if jobs.has_waiting():
            jobs.wake()


@shared_task
def sweep_strand(owner_id: int, sweep_id: int, strand: int, strands: int) -> None:
    """Try some points of a running sweep of that person; another message follows for the rest."""
    with jobs.acting_for_owner(owner_id):
        sweep = Sweep.objects.filter(pk=sweep_id).first()
        more = sweep is not None and sweeps.run_strand(sweep, strand, strands)
    if more:
        sweep_strand.delay(owner_id, sweep_id, strand, strands)


@shared_task
def recover() -> None:
    """Queue again what a worker that died has left, and wake workers for what waits."""
    sweeps.recover()
    jobs.recover()
