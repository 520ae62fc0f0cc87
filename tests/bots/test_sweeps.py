"""Sweeps: which settings are tried, how the work is shared, what is best, and how it fares on what was held out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from accounts.access import acting_for
from accounts.models import User
from bots.backtest import grid
from bots.backtesting import jobs, sweeps
from bots.backtesting import tasks as backtest_tasks
from bots.models import Backtest, JobStatus, Sweep, SweepPoint
from bots.strategies import get_strategy
from tests.bots.recordings import RSI_3M, SETTINGS, START, WAVE, recording
from tests.factories import SweepFactory, SweepPointFactory, UserFactory
from tradebot.core import clock, stopping
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.scoping import detached, request_holder

MINUTE = 60
STEPS = [{"path": "take_profit", "values": [1, "0.5", 2]}, {"path": "price_deviation", "from": 1, "to": 3, "step": 1}]


@pytest.fixture
def person(db: None) -> User:
    recording("BTC-USD", WAVE * 20)
    user: User = UserFactory()
    return user


@pytest.fixture
def acting(person: User) -> Iterator[User]:
    with acting_for(person):
        yield person


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """Processes remember the sweep they worked on by its id, which the rollback of a test gives away again."""
    yield
    sweeps._Memory._pk = None


def asked(user: User, **changes: Any) -> Sweep:
    given = {"settings": SETTINGS, "exchange": "replay", "symbols": ["BTC-USD"], "parameters": STEPS, "slippage_pct": 0}
    return sweeps.start_sweep(user, **(given | changes))


def done(user: User, **changes: Any) -> Sweep:
    asked(user, **changes)
    with request_holder():
        row = jobs.claim_next()
    assert isinstance(row, Sweep)
    return sweeps.run_to_end(row)


def points(sweep: Sweep) -> list[SweepPoint]:
    return list(SweepPoint.objects.filter(sweep=sweep).order_by("number"))


# The grid -----------------------------------------------------------------------------------------------------------


def test_every_combination_once_in_a_fixed_order() -> None:
    found = grid.parameters(STEPS, SETTINGS)
    assert [parameter.values for parameter in found] == [("0.5", 1, 2), (1, 2, 3)]
    tried = grid.combinations(found)
    assert len(tried) == 9
    assert tried[:2] == [{"take_profit": "0.5", "price_deviation": 1}, {"take_profit": "0.5", "price_deviation": 2}]
    assert len({tuple(values.items()) for values in tried}) == 9


def test_random_samples_are_different_ones_and_the_seed_says_which() -> None:
    found = grid.parameters([{"path": "take_profit", "from": "0.1", "to": 20, "step": "0.1"}, STEPS[1]], SETTINGS)
    first, again = (grid.combinations(found, "random", 50, 7) for _ in range(2))
    assert first == again != grid.combinations(found, "random", 50, 8)
    assert len({tuple(values.items()) for values in first}) == 50
    assert len(grid.combinations(found[1:], "random", 50)) == 3


def test_values_inside_conditions_are_reached_by_path() -> None:
    settings = get_strategy("indicator_dca").settings_from_json({**SETTINGS, "open_conditions": RSI_3M}).to_json()
    changed = grid.with_values(
        settings,
        {"open_conditions.items.0.value": 30, "open_conditions.items.0.params.period": 7, "take_profit": "2.5"},
    )
    parsed = get_strategy("indicator_dca").settings_from_json(changed)
    condition = parsed.open_conditions.items[0]
    assert (condition.value, condition.params["period"], str(parsed.take_profit)) == (30, 7, "2.5")
    assert settings["open_conditions"]["items"][0]["value"] == 50  # the original is left alone


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ([], "no_parameters"),
        ([{"path": "nonsense", "values": [1]}], "unknown_path"),
        ([{"path": "open_conditions.items.3.value", "values": [1]}], "unknown_path"),
        ([{"path": "base_order_type", "values": [1]}], "not_a_number"),
        ([{"path": "take_profit", "values": []}], "no_values"),
        ([{"path": "take_profit"}], "no_values"),
        ([{"path": "take_profit", "values": "12"}], "no_values"),
        ([{"path": "take_profit", "values": ["a"]}], "not_a_number"),
        ([{"path": "take_profit", "values": [True]}], "not_a_number"),
        ([{"path": "take_profit", "values": ["1e999999"]}], "out_of_range"),
        ([{"path": "take_profit", "from": 1, "to": 2, "step": "1e-9999"}], "out_of_range"),
        ([{"path": "take_profit", "from": 2, "to": 1, "step": 1}], "bad_range"),
        ([{"path": "take_profit", "from": 1, "to": 2, "step": 0}], "bad_range"),
        ([{"path": "take_profit", "from": 1, "to": 2, "step": "0.001"}], "too_many_values"),
        ([{"path": "take_profit", "values": [1]}] * 2, "twice"),
        (
            [
                {"path": "take_profit", "from": 1, "to": 100, "step": 1},
                {"path": "price_deviation", "from": 1, "to": 21, "step": 1},
            ],
            "too_many_combinations",
        ),
    ],
)
def test_what_cannot_be_varied_is_refused(acting: User, parameters: Any, code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        asked(acting, parameters=parameters)
    assert (refused.value.code, refused.value.field) == (code, "parameters")
    assert not Sweep.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"objective": "luck"}, "objective"),
        ({"method": "guess"}, "method"),
        ({"method": "random", "samples": 0}, "samples"),
        ({"holdout_pct": 81}, "holdout_pct"),
        ({"holdout_pct": "x"}, "holdout_pct"),
        ({"end": START + 2 * MINUTE, "holdout_pct": 60}, "holdout_pct"),
        ({"symbols": []}, "symbols"),
    ],
)
def test_other_mistakes_are_refused_by_field(acting: User, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        asked(acting, **changes)
    assert refused.value.field == field


def test_too_much_work_is_refused(acting: User, settings: Any) -> None:
    settings.SWEEP_MAX_CANDLES = 1_000
    with pytest.raises(InvalidInput, match="9 points with 260 looks each"):
        asked(acting)


# The work -----------------------------------------------------------------------------------------------------------


def test_every_point_is_tried_and_the_best_is_best(acting: User) -> None:
    row = done(acting)
    found = points(row)
    assert (row.status, row.progress, row.total, len(found)) == (JobStatus.FINISHED, 1.0, 9, 9)
    assert all(point.score is not None and point.statistics["deals"] > 0 for point in found)
    winner = sweeps.best(row)
    assert winner is not None
    assert winner.score == max(point.score for point in found)
    assert [point.score for point in sweeps.top(row, 3)] == sorted((point.score for point in found), reverse=True)[:3]


def test_a_point_is_what_a_backtest_with_its_settings_gives(acting: User) -> None:
    row = done(acting)
    point = points(row)[4]
    sweeps.open_point(acting, point)
    with request_holder():
        claimed = jobs.claim_next()
    assert isinstance(claimed, Backtest)
    from bots.backtesting import services as backtests

    single = backtests.run_backtest(claimed)
    assert single.settings["take_profit"] == str(point.values["take_profit"])
    for name in ("return_pct", "profit", "deals", "fees", "max_drawdown_pct", "sharpe"):
        assert single.statistics[name] == point.statistics[name], name


def test_combinations_that_the_schema_refuses_are_points_with_the_reason(acting: User) -> None:
    row = done(acting, parameters=[{"path": "price_deviation", "values": [2, 50]}])
    good, bad = points(row)
    assert good.score is not None
    assert bad.score is None
    assert "20" in bad.error
    assert row.status == JobStatus.FINISHED


def test_a_lower_drawdown_is_better(acting: User) -> None:
    row = done(acting, objective="max_drawdown_pct")
    winner = sweeps.best(row)
    assert winner is not None
    assert winner.score == min(point.score for point in points(row))


def test_the_best_ones_are_judged_on_what_was_held_out(acting: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "JUDGED", 2)
    row = done(acting, holdout_pct=30)
    assert sweeps.split_at(row) == START + 182 * MINUTE
    winner = sweeps.best(row)
    assert winner is not None
    assert winner.statistics["looks"] == 182
    assert winner.holdout["looks"] == 78
    assert {point.number for point in points(row) if point.holdout} == {point.number for point in sweeps.top(row, 2)}


def test_several_processes_share_a_sweep_and_one_ends_it(
    person: User, settings: Any, django_capture_on_commit_callbacks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BACKTEST_PROCESSES = 2
    monkeypatch.setattr(sweeps, "STRAND_SECONDS", 0.0)  # a message for every point
    strands = []
    run = sweeps.run_strand

    def noted(sweep: Sweep, strand: int, of: int) -> bool:
        strands.append((strand, of))
        return run(sweep, strand, of)

    monkeypatch.setattr(sweeps, "run_strand", noted)
    with django_capture_on_commit_callbacks(execute=True), acting_for(person):
        row = asked(person)
    with detached("test looks"):
        row.refresh_from_db()
        assert row.status == JobStatus.FINISHED
        assert SweepPoint.objects.filter(sweep=row, score__isnull=False).count() == 9
    assert set(strands) == {(0, 2), (1, 2)}
    assert len(strands) >= 9


def test_a_killed_worker_loses_one_point_at_most(acting: User, monkeypatch: pytest.MonkeyPatch) -> None:
    asked(acting)
    with request_holder():
        row = jobs.claim_next()
    assert isinstance(row, Sweep)
    tried = sweeps._try_point

    def dying(sweep: Sweep, pairs: Any, number: int, meter: Any) -> None:
        if number == 4:
            raise SystemExit
        tried(sweep, pairs, number, meter)

    with monkeypatch.context() as patched:
        patched.setattr(sweeps, "_try_point", dying)
        with pytest.raises(SystemExit):
            sweeps.run_strand(row)
    assert SweepPoint.objects.filter(score__isnull=False).count() == 4
    handed: list[Any] = []
    monkeypatch.setattr(sweeps, "_hand_over", lambda *args: handed.append(args))
    with request_holder():
        assert sweeps.recover() == 0
        with clock.at(clock.now() + jobs.STALE_AFTER + timedelta(seconds=5)):
            assert sweeps.recover() == 1
    assert handed
    again = sweeps.run_to_end(Sweep.objects.get(pk=row.pk))
    assert again.status == JobStatus.FINISHED
    assert SweepPoint.objects.filter(score__isnull=False).count() == 9


class Died(BaseException):
    """The process was killed here: nothing of it runs any more."""


def works_until_it_ends(row: Sweep, monkeypatch: pytest.MonkeyPatch, most: int = 12) -> int:
    """Let worker after worker try the sweep, each found dead two minutes later; return how many died."""
    monkeypatch.setattr(sweeps, "_hand_over", lambda *_: None)
    deaths, moment = 0, clock.now()
    while deaths < most:
        with clock.at(moment):
            try:
                sweeps.run_to_end(Sweep.objects.get(pk=row.pk))
            except Died:
                deaths += 1
            if Sweep.objects.get(pk=row.pk).is_over:
                return deaths
        sweeps._Memory.forget(row)
        moment += jobs.STALE_AFTER + timedelta(seconds=5)
        with clock.at(moment), request_holder():
            assert sweeps.recover() == 1
    return deaths


def claimed_sweep(user: User, **changes: Any) -> Sweep:
    asked(user, **changes)
    with request_holder():
        row = jobs.claim_next()
    assert isinstance(row, Sweep)
    return row


def test_a_point_that_takes_its_worker_along_every_time_is_given_up(
    acting: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = claimed_sweep(acting)
    simulate = sweeps.simulate
    fatal = str(points(row)[4].values["take_profit"]), str(points(row)[4].values["price_deviation"])

    def deadly(spec: Any, *args: Any) -> Any:
        if (str(spec.settings.take_profit), str(spec.settings.price_deviation)) == fatal:
            raise Died
        return simulate(spec, *args)

    monkeypatch.setattr(sweeps, "simulate", deadly)
    assert works_until_it_ends(row, monkeypatch) == jobs.MOST_ATTEMPTS == 3
    row.refresh_from_db()
    found = points(row)
    assert (row.status, row.deaths) == (JobStatus.FINISHED, 0)
    assert [point.number for point in found if point.error] == [4]
    assert "ended before the result 3 times" in found[4].error
    assert (found[4].score, sum(point.score is not None for point in found)) == (None, 8)


def test_the_best_point_that_kills_its_worker_on_the_part_held_out_is_given_up_there(
    acting: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "JUDGED", 1)
    row = claimed_sweep(acting, holdout_pct=30)
    simulate = sweeps.simulate

    def deadly(spec: Any, *args: Any) -> Any:
        if spec.start >= sweeps.split_at(row):
            raise Died
        return simulate(spec, *args)

    monkeypatch.setattr(sweeps, "simulate", deadly)
    assert works_until_it_ends(row, monkeypatch) == 3
    winner = sweeps.best(row)
    assert winner is not None
    assert "ended before the result 3 times" in winner.holdout["error"]


def test_a_sweep_whose_workers_die_before_its_first_point_fails(acting: User, monkeypatch: pytest.MonkeyPatch) -> None:
    row = claimed_sweep(acting)

    def deadly(*_: Any) -> Any:
        raise Died

    monkeypatch.setattr(sweeps.backtest_plan, "load", deadly)
    assert works_until_it_ends(row, monkeypatch, most=5) == 4
    row.refresh_from_db()
    assert row.status == JobStatus.FAILED
    assert "ended 4 times before they had done a point" in row.error


def test_a_try_that_is_stopped_is_no_death(acting: User, monkeypatch: pytest.MonkeyPatch) -> None:
    row = claimed_sweep(acting)
    simulate = sweeps.simulate

    def leaving(*_: Any) -> Any:
        raise jobs.Leaving

    for _ in range(jobs.MOST_ATTEMPTS + 1):
        monkeypatch.setattr(sweeps, "simulate", leaving)
        assert not sweeps.run_strand(row)
        with request_holder():
            again = jobs.claim_next()
        assert isinstance(again, Sweep)
        row = again
    assert {point.attempts for point in points(row)} == {0}
    monkeypatch.setattr(sweeps, "simulate", simulate)
    assert sweeps.run_to_end(row).status == JobStatus.FINISHED
    assert not any(point.error for point in points(row))


def test_one_whose_process_ends_goes_back_into_the_queue_with_its_points(
    acting: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "STRAND_SECONDS", 0.0)
    row = asked(acting)
    with request_holder():
        claimed = jobs.claim_next()
    assert isinstance(claimed, Sweep)
    assert sweeps.run_strand(claimed)
    stopping.stop()
    try:
        assert not sweeps.run_strand(claimed)
    finally:
        stopping.go_on()
    row.refresh_from_db()
    assert row.status == JobStatus.QUEUED
    with request_holder():
        again = jobs.claim_next()
    assert isinstance(again, Sweep)
    assert sweeps.run_to_end(again).status == JobStatus.FINISHED


def test_cancelling_keeps_the_points_that_are_done(acting: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "STRAND_SECONDS", 0.0)
    asked(acting)
    with request_holder():
        row = jobs.claim_next()
    assert isinstance(row, Sweep)
    assert sweeps.run_strand(row)
    sweeps.cancel_sweep(row)
    assert not sweeps.run_strand(row)
    row.refresh_from_db()
    assert row.status == JobStatus.CANCELLED
    assert SweepPoint.objects.filter(score__isnull=False).count() == 1
    sweeps.delete_sweep(row)
    assert not SweepPoint.objects.exists()


def test_a_message_about_somebody_elses_sweep_does_nothing(person: User) -> None:
    foreign = SweepFactory(status=JobStatus.RUNNING)
    SweepPointFactory(sweep=foreign)
    backtest_tasks.sweep_strand(person.pk, foreign.pk, 0, 1)
    with detached("test looks"):
        assert SweepPoint.objects.get().score is None


# Reading ------------------------------------------------------------------------------------------------------------


def scored(owner: User, scores: dict[tuple[int, int, int], float | None], objective: str = "return_pct") -> Sweep:
    names = ("take_profit", "price_deviation", "max_safety_orders")
    values = [sorted({key[n] for key in scores}) for n in range(3)]
    sweep: Sweep = SweepFactory(
        owner=owner,
        objective=objective,
        parameters=[{"path": name, "values": found} for name, found in zip(names, values, strict=True)],
    )
    for number, (key, score) in enumerate(scores.items()):
        SweepPointFactory(sweep=sweep, number=number, values=dict(zip(names, key, strict=True)), score=score)
    return sweep


def test_a_heat_map_shows_each_cell_with_the_others_at_their_best(acting: User) -> None:
    sweep = scored(acting, {(1, 1, 0): 5, (1, 1, 9): 7, (2, 1, 0): 3, (1, 2, 0): -1, (2, 2, 0): None})
    found = sweeps.heat_map(sweep)
    assert found is not None
    assert (found.x, found.y, found.columns, found.rows) == ("take_profit", "price_deviation", (1, 2), (1, 2))
    assert found.scores == ((7, 3), (-1, None))
    assert found.best == (0, 0)
    numbers = {point.pk: point.number for point in points(sweep)}
    assert [[numbers.get(pk) for pk in line] for line in found.points] == [[1, 2], [3, None]]
    turned = sweeps.heat_map(sweep, "max_safety_orders", "take_profit")
    assert turned is not None
    assert turned.scores == ((5, 7), (3, None))
    for bad in (("take_profit", "take_profit"), ("nonsense", "")):
        with pytest.raises(InvalidInput):
            sweeps.heat_map(sweep, *bad)


def test_a_heat_map_of_something_to_keep_low(acting: User) -> None:
    found = sweeps.heat_map(scored(acting, {(1, 1, 0): 5, (1, 1, 9): 7, (2, 1, 0): 3}, "max_drawdown_pct"))
    assert found is not None
    assert (found.scores, found.best) == (((5, 3),), (0, 1))


def test_one_parameter_makes_no_map_and_no_score_no_best(acting: User) -> None:
    sweep = SweepFactory(owner=acting)
    assert sweeps.heat_map(sweep) is None
    assert sweeps.best(sweep) is None
    empty = sweeps.heat_map(scored(acting, {(1, 1, 0): None}))
    assert empty is not None
    assert empty.best is None


def test_numbers_that_can_vary_are_listed_with_their_limits() -> None:
    parsed = get_strategy("indicator_dca").settings_from_json({**SETTINGS, "open_conditions": RSI_3M})
    found = {row["path"]: row for row in sweeps.sweepable(parsed)}
    assert (found["take_profit"]["value"], found["take_profit"]["minimum"], found["take_profit"]["unit"]) == (
        "1",
        "0.1",
        "%",
    )
    assert found["stop_loss"]["value"] is None
    assert "RSI(14) on 3m is below 50" in found["open_conditions.items.0.value"]["label"]
    assert "period of" in found["open_conditions.items.0.params.period"]["label"]
    assert "base_order_type" not in found


def test_f52_a_point_of_somebody_else_does_not_exist(acting: User) -> None:
    foreign = SweepPointFactory()
    with pytest.raises(NotFound):
        sweeps.open_point(acting, foreign)
    for act in (sweeps.cancel_sweep, sweeps.delete_sweep):
        with pytest.raises(NotFound):
            act(foreign.sweep)
