"""Parameter sweeps: the same backtest with many settings, shared by all worker processes.

A sweep is claimed like a backtest (``bots.backtesting.jobs``) and then split into strands: strand k of n tries the
points whose number leaves k when divided by n, some seconds at a time, so that other people's work gets its turn in
between. Points are rows, and one with a result is not tried again: whatever is killed goes on from there. A process
keeps the candles and indicators of the sweep that it worked on last.

With a holdout the points are judged on the earlier part of the range, and the best ones are then tried on the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final

import structlog
from django.conf import settings as django_settings
from django.db import transaction
from django.db.models import F

from accounts.models import User
from bots import strategies
from bots.backtest import grid, statistics
from bots.backtest.simulation import simulate
from bots.backtest.spec import Cancelled, Pair
from bots.backtest.statistics import OBJECTIVES
from bots.backtesting import jobs
from bots.backtesting import plan as backtest_plan
from bots.backtesting import services as backtests
from bots.models import Backtest, JobStatus, Sweep, SweepPoint
from bots.strategies.forms import field_specs
from marketdata.timeframes import Timeframe
from tradebot.core import clock, scoping
from tradebot.core.decimals import HUNDRED, dec
from tradebot.core.errors import InvalidInput, NotFound, TradebotError
from tradebot.core.scoping import OwnedQuerySet

__all__ = [
    "HeatMap",
    "best",
    "cancel_sweep",
    "delete_sweep",
    "heat_map",
    "open_point",
    "ranked",
    "recover",
    "run_strand",
    "run_sweep",
    "run_to_end",
    "settings_of",
    "split_at",
    "start_sweep",
    "sweepable",
    "top",
]

log = structlog.get_logger(__name__)
STRAND_SECONDS: Final = 5.0
ROWS_PER_INSERT: Final = 500
MOST_HOLDOUT_PCT: Final = Decimal(80)
LARGEST_CACHE: Final = 256 * 1024 * 1024
"""Bytes of indicators that a process keeps for one pair while it varies their parameters."""


# Asking -------------------------------------------------------------------------------------------------------------


def start_sweep(
    user: User,
    *,
    parameters: Sequence[Mapping[str, Any]],
    method: str = "grid",
    samples: int = 0,
    seed: int = 1,
    objective: str = "return_pct",
    holdout_pct: Decimal | int | str = 0,
    inline: bool = False,
    **backtest: Any,
) -> Sweep:
    """Check everything, create the sweep with its points and hand it to the workers after commit.

    ``parameters``: ``{"path": "take_profit", "values": ["1", "2"]}`` or ``{"path": "open_conditions.items.0.value",
    "from": 20, "to": 40, "step": 5}``. Combinations that the settings' schema refuses become points with an error.
    ``holdout_pct`` keeps the last part of the range for judging the best point. The other arguments are those of
    ``backtests.start_backtest``. Raises InvalidInput (``field``), NotFound.
    """
    if objective not in OBJECTIVES:
        raise InvalidInput("unknown_objective", f"{objective!r} is no figure to aim for.", field="objective")
    held_out = _holdout(holdout_pct)
    plan = backtest_plan.make(user, **backtest)
    settings = plan.fields["settings"]
    varied = grid.parameters(parameters, settings)
    tried = grid.combinations(varied, method, int(samples), int(seed))
    if plan.looks * len(tried) > django_settings.SWEEP_MAX_CANDLES:
        raise InvalidInput(
            "too_many_candles",
            f"{len(tried):,} points with {plan.looks:,} looks each; at most {django_settings.SWEEP_MAX_CANDLES:,} "
            "looks are simulated in all. Choose a shorter range, a longer timeframe or fewer values.",
            field="start",
        )
    row: Sweep = plan.row(
        Sweep,
        user,
        parameters=[parameter.to_json() for parameter in varied],
        method=method,
        samples=len(tried) if method == Sweep.Method.RANDOM else 0,
        seed=int(seed) % 2**31,
        objective=objective,
        holdout_pct=held_out,
        total=len(tried),
    )
    first, last = row.start, split_at(row)
    if (last - first) // Timeframe(row.timeframe).seconds < 2:
        raise InvalidInput("range_too_short", "The range is too short to hold a part of it out.", field="holdout_pct")
    strategy = strategies.get_strategy(row.strategy)
    with transaction.atomic():
        jobs.add(row, inline=inline)
        points = [
            SweepPoint(sweep=row, number=number, values=values, error=_refusal(strategy, settings, values))
            for number, values in enumerate(tried)
        ]
        SweepPoint.objects.bulk_create(points, batch_size=ROWS_PER_INSERT)
    return row


def cancel_sweep(sweep: Sweep) -> Sweep:
    """Ask a waiting or running sweep to stop and return it; points that are done stay. Raises NotFound."""
    row: Sweep = jobs.cancel(sweep)
    return row


def delete_sweep(sweep: Sweep) -> None:
    """Remove a sweep with its points. Raises InvalidInput while it runs, NotFound."""
    jobs.remove(sweep)


def _holdout(value: Decimal | int | str) -> Decimal:
    try:
        percent = dec(value)
    except (TypeError, ValueError) as error:
        raise InvalidInput("not_a_number", f"{value!r} is no percentage.", field="holdout_pct") from error
    if not 0 <= percent <= MOST_HOLDOUT_PCT:
        raise InvalidInput(
            "out_of_range", f"Hold out between 0 and {MOST_HOLDOUT_PCT} % of the range.", field="holdout_pct"
        )
    return percent


def _refusal(strategy: Any, settings: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    try:
        backtest_plan.parsed_settings(strategy, grid.with_values(settings, values))
    except TradebotError as error:
        return error.message[:300]
    return ""


def split_at(sweep: Sweep) -> int:
    """Return where the part that is held out begins: the end of the range without a holdout. Unix seconds."""
    frame = Timeframe(sweep.timeframe)
    kept = int((sweep.end - sweep.start) * (HUNDRED - sweep.holdout_pct) / HUNDRED)
    return frame.open_time(sweep.start + kept) if sweep.holdout_pct else sweep.end


# Working ------------------------------------------------------------------------------------------------------------


JUDGED = 20
"""How many of the best points are tried on the part that was held out: as many as the page lists."""


def run_sweep(sweep: Sweep) -> None:
    """Hand a claimed sweep to the worker processes, a strand for each, after commit."""
    strands = max(1, min(django_settings.BACKTEST_PROCESSES or 1, sweep.total))
    for strand in range(strands):
        _hand_over(sweep, strand, strands)


def run_strand(sweep: Sweep, strand: int = 0, strands: int = 1, *, tell: bool = True) -> bool:
    """Try points of a strand for some seconds, in the owner's scope. Returns whether some of the strand are left.

    Whoever finds that no point of the whole sweep is left ends it.
    """
    if sweep.status != JobStatus.RUNNING:
        return False
    meter = jobs.Meter(sweep, share=False, say=tell)
    try:
        return _try_points(sweep, meter, strand, strands)
    except Cancelled:
        _end(sweep, JobStatus.CANCELLED, tell)
    except jobs.Leaving:
        jobs.give_back(sweep)
    except jobs.LostClaim:
        log.info("sweep.claim_lost", sweep=sweep.pk)
    except TradebotError as error:
        jobs.abandon(sweep, error.message, say=tell)
    except Exception as error:
        jobs.abandon(sweep, f"The simulation failed ({type(error).__name__}): {error}", say=tell)
        raise
    _Memory.forget(sweep)
    return False


def run_to_end(sweep: Sweep, progress: Callable[[int, int], None] | None = None, *, tell: bool = True) -> Sweep:
    """Carry out a claimed sweep in this process, in its owner's scope, and return it."""
    while run_strand(sweep, tell=tell):
        if progress is not None:
            progress(sweep.total - len(_left(sweep)), sweep.total)
    row: Sweep = Sweep.objects.get(pk=sweep.pk)
    if progress is not None and row.status == JobStatus.FINISHED:
        progress(sweep.total, sweep.total)
    return row


def _try_points(sweep: Sweep, meter: jobs.Meter, strand: int, strands: int) -> bool:
    begun = time.monotonic()
    mine = [number for number in _left(sweep) if number % strands == strand]
    _stop_if(meter.touch())
    if mine:
        pairs = _Memory.pairs(sweep, meter)
        for done, number in enumerate(mine, start=1):
            _try_point(sweep, pairs, number, meter)
            _note_progress(sweep)
            if time.monotonic() - begun >= STRAND_SECONDS and done < len(mine):
                return True
    if not _left(sweep):
        _judge(sweep, meter)
        _end(sweep, JobStatus.FINISHED, meter.says)
        _Memory.forget(sweep)
    return False


def _left(sweep: Sweep) -> list[int]:
    rows = SweepPoint.objects.filter(sweep=sweep, statistics={}, error="").order_by("number")
    return list(rows.values_list("number", flat=True))


def _try_point(sweep: Sweep, pairs: tuple[Pair, ...], number: int, meter: jobs.Meter) -> None:
    point = SweepPoint.objects.get(sweep=sweep, number=number)
    if point.attempts >= jobs.MOST_ATTEMPTS:
        figures, error = _given_up(sweep, point)
    else:
        with _begun(point):
            figures, error = _simulated(sweep, pairs, point, sweep.start, split_at(sweep), meter)
    score = None if error else statistics.value_of(figures, sweep.objective)
    SweepPoint.objects.filter(pk=point.pk).update(statistics=figures, error=error, score=score, attempts=0)


@contextmanager
def _begun(point: SweepPoint) -> Iterator[None]:
    """Note that a try has begun, for whoever comes after this process if it dies in it. Any other end takes it back."""
    rows = SweepPoint.objects.filter(pk=point.pk)
    rows.update(attempts=F("attempts") + 1)
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit):
        rows.filter(attempts__gt=0).update(attempts=F("attempts") - 1)
        raise


def _given_up(sweep: Sweep, point: SweepPoint) -> tuple[dict[str, Any], str]:
    """Return what is written about a point that took its worker along every time."""
    log.warning("sweep.point_given_up", sweep=sweep.pk, point=point.number, attempts=point.attempts)
    words = f"Given up: its worker ended before the result {point.attempts} times. A shorter range needs less memory."
    return {}, words


def _simulated(
    sweep: Sweep, pairs: tuple[Pair, ...], point: SweepPoint, start: int, end: int, meter: jobs.Meter
) -> tuple[dict[str, Any], str]:
    """Return the figures of a point on [start, end), or what stands against it."""
    strategy = strategies.get_strategy(sweep.strategy)
    try:
        parsed = backtest_plan.parsed_settings(strategy, grid.with_values(sweep.settings, point.values))
        spec = backtest_plan.spec_of(sweep, parsed, pairs, start, end)
        outcome = simulate(spec, lambda done, total: None, meter.cancelled)
    except TradebotError as error:
        return {}, error.message[:300]
    figures = statistics.summary(outcome)
    del figures["pairs"], figures["balances"]  # a sweep has many points
    return figures, ""


def _note_progress(sweep: Sweep) -> None:
    left = len(_left(sweep))
    sweep.progress = (sweep.total - left) / sweep.total
    jobs.claimed(sweep).update(progress=sweep.progress, deaths=0)


def _judge(sweep: Sweep, meter: jobs.Meter) -> None:
    """Try the best points on the part that was held out: one alone does not show whether being best means anything."""
    if not sweep.holdout_pct:
        return
    for point in top(sweep, JUDGED):
        if point.holdout or point.score is None:
            continue
        if point.attempts >= jobs.MOST_ATTEMPTS:
            figures, error = _given_up(sweep, point)
        else:
            pairs = _Memory.pairs(sweep, meter)
            with _begun(point):
                figures, error = _simulated(sweep, pairs, point, split_at(sweep), sweep.end, meter)
        found = {"error": error} if error else figures
        SweepPoint.objects.filter(pk=point.pk).update(holdout=found, attempts=0)
        jobs.claimed(sweep).update(deaths=0)


def _end(sweep: Sweep, status: str, tell: bool = True) -> None:
    taken = (clock.now() - sweep.started_at).total_seconds() if sweep.started_at else 0.0
    try:
        with transaction.atomic():
            jobs.finish(sweep, status, say=tell, wall_seconds=taken)
            if tell:
                jobs.wake()
    except jobs.LostClaim:
        pass  # the strand that ended it a moment ago


def _stop_if(wanted: bool) -> None:
    if wanted:
        raise Cancelled


def _hand_over(sweep: Sweep, strand: int, strands: int) -> None:
    from bots.backtesting import tasks as backtest_tasks  # they know this module

    transaction.on_commit(partial(backtest_tasks.sweep_strand.delay, sweep.owner_id, sweep.pk, strand, strands))


def recover() -> int:
    """Hand out again the strands of sweeps that nobody works on. Returns how many sweeps there were.

    A point that takes its worker along is given up after :data:`jobs.MOST_ATTEMPTS` tries, which counts as one that is
    done. A sweep that loses its workers once more than that without any point being done is ended as failed: they die
    before they come to one, while they read its candles.
    """
    limit = clock.now() - jobs.STALE_AFTER
    with scoping.all_accounts("finds sweeps whose workers died; each is worked on for its owner alone"):
        rows = list(Sweep.objects.filter(status=JobStatus.RUNNING, touched_at__lt=limit))
    for row in rows:
        with jobs.acting_for_owner(row.owner_id):
            if row.cancel_requested:
                _end(row, JobStatus.CANCELLED)
            elif row.deaths >= jobs.MOST_ATTEMPTS:
                words = f"Its workers ended {row.deaths + 1} times before they had done a point."
                jobs.abandon(row, f"{words} A shorter range or fewer pairs need less memory.")
                jobs.wake()
            elif (
                jobs.claimed(row)
                .filter(touched_at=row.touched_at)
                .update(touched_at=clock.now(), deaths=row.deaths + 1)
            ):
                log.warning("sweep.workers_lost", sweep=row.pk, deaths=row.deaths + 1)
                run_sweep(row)
    return len(rows)


class _Memory:
    """The candles of the sweep that this process worked on last, with the indicators worked out on them."""

    _pk: int | None = None
    _pairs: tuple[Pair, ...] = ()

    @classmethod
    def pairs(cls, sweep: Sweep, meter: jobs.Meter) -> tuple[Pair, ...]:
        key = sweep.pk
        if cls._pk != key:
            cls._pk, cls._pairs = None, ()
            strategy = strategies.get_strategy(sweep.strategy)
            parsed = backtest_plan.parsed_settings(strategy, sweep.settings)
            loaded = backtest_plan.load(sweep, parsed, lambda: _stop_if(meter.cancelled()))
            cls._pk, cls._pairs = key, loaded.pairs
        for pair in cls._pairs:
            if sum(getattr(values, "nbytes", 0) for values in pair.cache.values()) > LARGEST_CACHE:
                pair.cache.clear()
        return cls._pairs

    @classmethod
    def forget(cls, sweep: Sweep) -> None:
        if cls._pk == sweep.pk:
            cls._pk, cls._pairs = None, ()


# Reading ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Scores over two parameters, the others at their best. ``scores[row][column]``, None where nothing was found."""

    x: str
    y: str
    columns: tuple[Any, ...]
    rows: tuple[Any, ...]
    scores: tuple[tuple[float | None, ...], ...]
    points: tuple[tuple[int | None, ...], ...]
    """The id of the point of each cell."""
    best: tuple[int, int] | None
    """(row, column) of the best cell."""


def top(sweep: Sweep, n: int = 20) -> list[SweepPoint]:
    """Return the ``n`` best points, best first; of equal ones the earlier."""
    return list(ranked(sweep).filter(score__isnull=False)[: max(n, 0)])


def ranked(sweep: Sweep) -> OwnedQuerySet:
    """Return all points, best first; those without a score come last."""
    score = F("score").desc(nulls_last=True) if _higher(sweep) else F("score").asc(nulls_last=True)
    rows: OwnedQuerySet = SweepPoint.objects.filter(sweep=sweep).order_by(score, "number")
    return rows


def best(sweep: Sweep) -> SweepPoint | None:
    """Return the best point, None while nothing has a score."""
    found = top(sweep, 1)
    return found[0] if found else None


def heat_map(sweep: Sweep, x: str = "", y: str = "") -> HeatMap | None:
    """Return the matrix over the parameters with the paths ``x`` (columns) and ``y`` (rows), each cell the best point
    there. By default the first two; None with fewer than two. Raises InvalidInput for a path that does not vary."""
    values = {str(row["path"]): tuple(row["values"]) for row in sweep.parameters}
    if len(values) < 2:
        return None
    x = x or next(path for path in values if path != y)
    y = y or next(path for path in values if path != x)
    for path, field in ((x, "x"), (y, "y")):
        if path not in values:
            raise InvalidInput("unknown_path", f"{path!r} does not vary in this sweep.", field=field)
    if x == y:
        raise InvalidInput("same_path", "A heat map needs two different parameters.", field="y")
    cells: dict[tuple[Any, Any], tuple[float, int]] = {}
    better = 1.0 if _higher(sweep) else -1.0
    rows = SweepPoint.objects.filter(sweep=sweep, score__isnull=False).order_by("number")
    for pk, at, score in rows.values_list("pk", "values", "score"):
        cell = (at.get(y), at.get(x))
        if cell not in cells or better * score > better * cells[cell][0]:
            cells[cell] = (score, pk)
    grid_of = [[cells.get((row, column)) for column in values[x]] for row in values[y]]
    ranked = [
        (better * cell[0], -r, -c) for r, line in enumerate(grid_of) for c, cell in enumerate(line) if cell is not None
    ]
    _, row_at, column_at = max(ranked, default=(0.0, 1, 1))
    return HeatMap(
        x,
        y,
        values[x],
        values[y],
        tuple(tuple(None if cell is None else cell[0] for cell in line) for line in grid_of),
        tuple(tuple(None if cell is None else cell[1] for cell in line) for line in grid_of),
        (-row_at, -column_at) if ranked else None,
    )


def _higher(sweep: Sweep) -> bool:
    return OBJECTIVES[sweep.objective].higher_is_better


def settings_of(point: SweepPoint) -> dict[str, Any]:
    """Return the complete settings of a point, as JSON values."""
    return grid.with_values(point.sweep.settings, point.values)


def open_point(user: User, point: SweepPoint) -> Backtest:
    """Start a backtest with the settings of a point, over the sweep's whole range, and return it.

    Raises InvalidInput for settings that cannot be traded, NotFound for a point of somebody else.
    """
    found: SweepPoint | None = SweepPoint.objects.select_related("sweep__bot").filter(pk=point.pk).first()
    if found is None:
        raise NotFound(message="There is no such point.")
    sweep = found.sweep
    row = backtests.start_backtest(
        user,
        name=f"{sweep.name}, point {found.number + 1}"[-120:],
        strategy=sweep.strategy,
        settings=settings_of(found),
        exchange=sweep.exchange,
        symbols=sweep.symbols,
        timeframe=sweep.timeframe,
        start=sweep.start,
        end=sweep.end,
        balances=sweep.balances,
        budget_kind=sweep.budget_kind,
        budget_pct=sweep.budget_pct,
        budget_fixed=sweep.budget_fixed,
        split_budget=sweep.split_budget,
        maker_fee_pct=sweep.maker_fee_pct,
        taker_fee_pct=sweep.taker_fee_pct,
        slippage_pct=sweep.slippage_pct,
    )
    return row


def sweepable(settings: Any) -> list[dict[str, Any]]:
    """Return the numeric settings of a validated model that a sweep can vary, its conditions' numbers included.

    Each: ``path``, ``label``, ``unit``, ``value`` (None: off at present), ``minimum`` and ``maximum`` (text or None).
    """
    data = settings.to_json()
    found = []
    for spec in field_specs(type(settings)):
        if spec.kind in ("decimal", "integer"):
            found.append(_choice(spec.name, spec.label, data.get(spec.name), spec.unit, spec.minimum, spec.maximum))
        elif spec.kind == "conditions":
            tree = getattr(settings, spec.name)
            paths = grid.numeric_paths({spec.name: data.get(spec.name)})
            labels = {path: f"{spec.label}: {_condition_at(tree, path)}" for path in paths}
            found += [_choice(path, labels[path], value) for path, value in paths.items()]
    return found


def _choice(
    path: str, label: str, value: Any, unit: str = "", minimum: str | None = None, maximum: str | None = None
) -> dict[str, Any]:
    return {"path": path, "label": label, "value": value, "unit": unit, "minimum": minimum, "maximum": maximum}


def _condition_at(tree: Any, path: str) -> str:
    """Return the condition that a path leads into in words, and which of its numbers it is."""
    steps = path.split(".")[1:]
    node = tree
    while len(steps) >= 2 and steps[0] == "items":
        node, steps = node.items[int(steps[1])], steps[2:]
    label = getattr(node, "label", "")
    return label if steps == ["value"] else f"{steps[-1].replace('_', ' ')} of {label}"
