"""The backtest on its own: passing looks over changes nothing, money adds up, the same input gives the same fills."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from bots.backtest.simulation import simulate
from bots.backtest.spec import Cancelled, Costs, Pair, Spec
from bots.strategies import get_strategy
from marketdata.series import Candles, resample
from marketdata.terms import ProductTerms
from marketdata.timeframes import Timeframe
from positions.states import Direction, Purpose, Side
from tests.bench.walk import walk
from tests.parity.presets import presets

FEE = Decimal("0.001")


def terms(symbol: str) -> ProductTerms:
    base, quote = symbol.split("-")
    return ProductTerms(symbol, base, quote, Decimal("0.01"), Decimal("0.0001"), Decimal("0.0001"), Decimal(1))


def pair(symbol: str, candles: Candles) -> Pair:
    larger = resample(candles, Timeframe.M1, Timeframe.M15)
    return Pair(terms(symbol), {Timeframe.M1: candles, Timeframe.M15: larger})


def spec(settings: dict[str, Any], *pairs: Pair, slippage: str = "0.0005", **more: Any) -> Spec:
    strategy = get_strategy("indicator_dca")
    balances = {"USD": Decimal(10_000), "AAA": Decimal(40), "BBB": Decimal(500)}
    return Spec(
        strategy=strategy.name,
        settings=strategy.settings_from_json(settings),
        pairs=pairs,
        timeframe=Timeframe.M1,
        balances=balances if settings.get("direction") in ("short", "both") else {"USD": Decimal(10_000)},
        quote="USD",
        costs=Costs(FEE / 2, FEE, Decimal(slippage), fee_in_base=more.pop("fee_in_base", False)),
        **more,
    )


def wild(seed: int, count: int, price: float) -> Candles:
    return walk(count, seed=seed, price=price, step_pct=0.3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", presets("1m"))
def test_looks_that_are_passed_over_change_nothing(name: str, seed: int):
    settings = presets("1m")[name]
    first = pair("AAA-USD", wild(seed, 1500, 100.0))
    second = pair("BBB-USD", wild(seed + 50, 1100, 9.0))
    quick = simulate(spec(settings, first, second))
    slow = simulate(spec(settings, first, second), every_look=True)
    assert quick.fills == slow.fills
    assert quick.deals == slow.deals
    assert quick.fingerprint == slow.fingerprint
    assert len(quick.fills) > 10


@pytest.mark.parametrize("fee_in_base", [False, True])
@pytest.mark.parametrize("name", presets("1m"))
def test_money_adds_up(name: str, fee_in_base: bool):
    """Opening balances and fills explain the closing balances, and the last point of the equity curve."""
    given = spec(presets("1m")[name], pair("AAA-USD", wild(5, 2000, 100.0)), fee_in_base=fee_in_base)
    found = simulate(given)
    balances = dict(given.balances)
    for fill in found.fills:
        sign = 1 if fill.side is Side.BUY else -1
        balances["USD"] -= sign * fill.quote
        balances["AAA"] = balances.get("AAA", Decimal(0)) + sign * fill.base
        balances[fill.fee_currency] -= fill.fee
        assert all(amount >= 0 for amount in balances.values())
    assert {currency: amount for currency, amount in balances.items() if amount} == {
        currency: amount for currency, amount in found.balances.items() if amount
    }
    last = Decimal(repr(float(given.pairs[0].candles[Timeframe.M1].close[-1])))
    worth = balances["USD"] + balances.get("AAA", Decimal(0)) * last
    assert found.equity[-1] == pytest.approx(float(worth), rel=1e-9)


def test_the_deals_of_a_backtest_are_made_of_its_fills():
    found = simulate(spec(presets("1m")["fixed"], pair("AAA-USD", wild(5, 3000, 100.0))))
    assert found.deals[0].fills[0].purpose is Purpose.BASE_ORDER
    assert sum(len(deal.fills) for deal in found.deals) == len(found.fills)
    closed = [deal for deal in found.deals if deal.closed_at is not None]
    assert closed
    for deal in closed:
        spent = sum((f.quote + f.fee for f in deal.fills if f.side is Side.BUY), Decimal(0))
        got = sum((f.quote - f.fee for f in deal.fills if f.side is Side.SELL), Decimal(0))
        dust = sum((f.base if f.side is Side.BUY else -f.base for f in deal.fills), Decimal(0))
        if not dust:
            assert deal.profit == got - spent
        assert deal.exit_reason is not None
        assert deal.closed_at > deal.opened_at


def test_candles_before_the_range_warm_the_indicators_and_are_not_traded():
    whole = pair("AAA-USD", wild(8, 3000, 100.0))
    start = int(whole.candles[Timeframe.M1].time[1500])
    end = int(whole.candles[Timeframe.M1].time[2500])
    found = simulate(spec(presets("1m")["fixed"], whole, start=start, end=end))
    assert found.fills
    assert all(start <= fill.at < end for fill in found.fills)
    assert int(found.times[0]) == start
    assert len(found.times) == len(found.equity) == len(found.invested) == len(found.held) == 1000


def test_a_pair_that_begins_later_is_traded_from_its_first_candle():
    early, late = wild(1, 2000, 100.0), wild(2, 2000, 9.0)
    second = late.tail(800)
    found = simulate(spec(presets("1m")["fixed"], pair("AAA-USD", early), pair("BBB-USD", second)))
    begins = int(second.time[0])
    assert {fill.symbol for fill in found.fills} == {"AAA-USD", "BBB-USD"}
    assert all(fill.at > begins for fill in found.fills if fill.symbol == "BBB-USD")
    slow = simulate(spec(presets("1m")["fixed"], pair("AAA-USD", early), pair("BBB-USD", second)), every_look=True)
    assert found.fingerprint == slow.fingerprint


def test_buy_and_hold_follows_the_prices():
    candles = wild(3, 400, 100.0)
    found = simulate(spec(presets("1m")["stops"], pair("AAA-USD", candles)))
    assert found.held == pytest.approx(10_000 * candles.close / candles.close[0])
    assert found.equity[0] == pytest.approx(10_000, rel=1e-3)  # the first order's fee and slippage are paid


@pytest.mark.parametrize("direction", ["long", "short"])
@pytest.mark.parametrize("stop", [{"stop_loss": "5"}, {"trailing_stop": "5"}])
def test_of_a_stop_and_a_target_inside_one_candle_the_stop_counts(direction: str, stop: dict[str, str]):
    """The pessimistic rule: the candle touches both and closes where nothing would act; it is the stop that is hit."""
    flat = wild(3, 300, 100.0)
    close, high, low = np.full(300, 100.0), np.full(300, 100.0), np.full(300, 100.0)
    high[200], low[200] = 120.0, 80.0
    candles = Candles(flat.time, close.copy(), high, low, close, flat.volume, flat.synthetic)
    settings = {"base_order_size": "20", "max_safety_orders": 0, "take_profit": "3", "direction": direction, **stop}
    found = simulate(spec(settings, pair("AAA-USD", candles), slippage="0"))
    first = found.deals[0]
    assert first.exit_reason == next(iter(stop))
    assert first.fills[-1].price == (Decimal(95) if direction == "long" else Decimal(105))
    assert first.profit < 0
    assert (
        found.fingerprint
        == simulate(spec(settings, pair("AAA-USD", candles), slippage="0"), every_look=True).fingerprint
    )


def test_a_stop_that_has_to_hold_is_judged_by_closes():
    flat = wild(3, 300, 100.0)
    close, low = np.full(300, 100.0), np.full(300, 100.0)
    low[200] = 80.0
    candles = Candles(flat.time, close.copy(), close.copy(), low, close, flat.volume, flat.synthetic)
    settings = {"base_order_size": "50", "max_safety_orders": 0, "stop_loss": "5", "stop_timeout_seconds": 60}
    found = simulate(spec(settings, pair("AAA-USD", candles)))
    assert found.deals[0].closed_at is None


def test_a_short_earns_when_the_price_falls():
    flat = wild(3, 300, 100.0)
    close = np.round(np.linspace(100.0, 90.0, 300), 2)
    candles = Candles(flat.time, close.copy(), close.copy(), close.copy(), close, flat.volume, flat.synthetic)
    settings = {"direction": "short", "base_order_size": "20", "max_safety_orders": 0, "take_profit": "2"}
    found = simulate(spec(settings, pair("AAA-USD", candles)))
    assert all(deal.direction is Direction.SHORT for deal in found.deals)
    assert found.deals[0].profit > 0
    assert found.realised > 0


def test_it_can_be_stopped_and_says_how_far_it_is():
    seen: list[tuple[int, int]] = []
    given = spec(presets("1m")["fixed"], pair("AAA-USD", wild(5, 3000, 100.0)))
    simulate(given, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3000, 3000)
    assert seen == sorted(seen)
    with pytest.raises(Cancelled):
        simulate(given, cancelled=lambda: True)


def test_the_fingerprint_of_a_fixed_walk_never_changes():
    """Every optimisation has to leave this alone; a change of a trading rule changes it on purpose, and says so."""
    found = simulate(spec(presets("1m")["fixed"], pair("AAA-USD", wild(5, 3000, 100.0))))
    assert (len(found.fills), found.fingerprint) == FIXED


FIXED = (87, "74a00bf1fad76334")
