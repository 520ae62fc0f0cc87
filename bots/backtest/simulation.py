"""The backtest: the server's monitor cycle over recorded candles, with the paper venue and the ledger in memory. Pure.

A look happens at the close of every candle, as a replay through the real cycle makes it, in the same order:

1. Resting orders are matched with the candle that has just closed.
2. Deals are managed in the order in which they were opened, then pairs are considered in their order. After every order
   all is decided again on what is then true; a deal gets one order a look, and a pair whose deal ended rests until the
   next look.

The decisions are the strategy's own (``decide_open`` and ``manage``), on exact amounts; orders pass the checks of
``positions.intents`` and fill by ``accounts.exchanges.paper_rules``. So the fills are those of a replay, to the last
digit. What makes it fast is that the strategy is only asked at looks at which it could act (``triggers``): the entry
conditions are worked out over whole arrays, and an open deal says which prices it waits for.

Inside a candle the pessimistic order of things is taken, as by the replay: a stop that the candle's low (of a short:
its high) touched is hit, and sells at the stop or at the close, whichever is worse, even where the same candle reached
the target. Targets, rungs and conditions count by the close alone; resting orders fill when a later candle trades
through their limit. A stop that has to hold for a while is judged by closes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from bots.backtest import accounting
from bots.backtest.deals import Deal
from bots.backtest.funds import Funds
from bots.backtest.pairs import TradedPair
from bots.backtest.spec import Cancelled, Outcome, SimulatedFill, Spec
from bots.backtest.tracks import Track, first_and_last_look, moment_of
from bots.backtest.triggers import NEVER, best_between
from bots.backtest.venue import Overdrawn, RestingOrder, Wallet, candle_fills, give_back, take, take_or_rest
from bots.backtest.waiting import Waiting
from bots.strategies import get_strategy
from bots.strategies.base import Action, DealView, Decision, FeeRates, OpenContext, OrderPlan, ReasonCode
from positions import ledger
from positions.ledger import Totals, payable
from positions.states import EXIT_PURPOSES, Direction, ExitReason, Purpose, Side
from tradebot.core.decimals import ONE, ZERO, ceil_to, floor_to, for_money, from_float

__all__ = ["simulate"]

PROGRESS_STEPS = 200


def simulate(
    spec: Spec,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    *,
    every_look: bool = False,
) -> Outcome:
    """Return what ``spec`` comes to. ``progress(done, total)`` counts looks; both callbacks are asked now and then.

    ``every_look`` asks the strategy at every look about everything: slow, and the proof that passing looks over changes
    nothing.

    Raises Cancelled when ``cancelled`` returns true, ValueError when the spec has no pairs or no candles.
    """
    if not spec.pairs or not all(len(pair.candles[spec.timeframe]) for pair in spec.pairs):
        raise ValueError("a backtest needs pairs with candles")
    with for_money():
        run = _Run(spec, every_look=every_look)
        run.to_end(progress, cancelled)
        return run.outcome()


class _Run:
    """One simulation: all that changes while it runs."""

    def __init__(self, spec: Spec, *, every_look: bool) -> None:
        self.every_look = every_look
        self.spec, self.settings, self.strategy = spec, spec.settings, get_strategy(spec.strategy)
        first, last = first_and_last_look(spec.pairs, spec.timeframe)
        self.step = spec.timeframe.seconds
        self.first_time = first
        self.last_look = (last - first) // self.step
        if spec.end is not None:
            self.last_look = min(self.last_look, -(-(spec.end - first) // self.step) - 1)
        self.first_look = 0 if spec.start is None else max(0, -(-(spec.start - first) // self.step))
        stops = spec.settings.stop_loss is not None or spec.settings.trailing_stop is not None
        self.tracks = [
            Track(number, pair, spec.timeframe, first, with_range=stops) for number, pair in enumerate(spec.pairs)
        ]
        self.pairs = [TradedPair(track, spec.settings, every_look=every_look) for track in self.tracks]
        self.pair_of = {pair.track.number: pair for pair in self.pairs}
        self.waiting = {
            (track.number, direction): Waiting(spec.settings, track, direction, spec.costs.taker)
            for track in self.tracks
            for direction in spec.settings.directions
        }
        self.wallet = Wallet(spec.balances)
        self.fees = FeeRates(spec.costs.maker, spec.costs.taker)
        self.deals: list[Deal] = []
        self.funds = Funds(spec, self.wallet, self.tracks, self.deals)
        self.ended: list[Deal] = []
        self.fills: list[SimulatedFill] = []
        self.deltas = accounting.Deltas(self.tracks)
        self.attempts = self.orders = 0
        self.look = -1
        self.now = moment_of(first)
        self.cooldown = timedelta(seconds=spec.settings.cooldown_seconds)

    # The clock ------------------------------------------------------------------------------------------------------

    def to_end(self, progress: Callable[[int, int], None] | None, cancelled: Callable[[], bool] | None) -> None:
        """Go from look to look at which something could happen."""
        total = max(0, self.last_look - self.first_look + 1)
        told, step = self.first_look, max(1, total // PROGRESS_STEPS)
        look = self.first_look
        while (look := self._next_look(look)) != NEVER:
            self.look, self.now = look, moment_of(self.first_time + look * self.step)
            self._match()
            self._decide_and_act()
            self._schedule()
            look += 1
            if look - told >= step:
                told = look
                if cancelled is not None and cancelled():
                    raise Cancelled
                if progress is not None:
                    progress(look - self.first_look, total)
        if progress is not None:
            progress(total, total)

    def _next_look(self, look: int) -> int:
        """Return the first look from ``look`` on at which anything could happen, -1 at the end."""
        best = self.last_look + 1
        for deal in self.deals:
            if deal.wake != NEVER and deal.wake < best:
                best = max(deal.wake, look)
        for direction in self.settings.directions:
            if self._slots_left(direction):
                for pair in self.pairs:
                    at = self._entry_look(pair, direction, look)
                    if at != NEVER and at < best:
                        best = at
        return best if best <= self.last_look else NEVER

    def _entry_look(self, pair: TradedPair, direction: Direction, look: int) -> int:
        if self._on_pair(pair, direction) >= self.settings.max_deals_per_pair:
            return NEVER
        if self.cooldown and (closed := pair.last_closed.get(direction)) is not None:
            over = int((closed + self.cooldown).timestamp())
            look = max(look, -(-(over - self.first_time) // self.step))
        return pair.next_entry(direction, look)

    def _slots_left(self, direction: Direction) -> bool:
        most: int = self.settings.max_active_deals
        return len(self.deals) < most or sum(deal.direction is direction for deal in self.deals) < most

    def _on_pair(self, pair: TradedPair, direction: Direction) -> int:
        return len([deal for deal in self.deals if deal.track is pair.track and deal.direction is direction])

    # 1. Resting orders ----------------------------------------------------------------------------------------------

    def _match(self) -> None:
        """Fill resting orders by the candle that has just closed."""
        if not any(deal.resting for deal in self.deals):
            return
        found = []
        for track in self.tracks:
            if not track.has_price(self.look):
                continue
            held = [
                (order, deal)
                for deal in self.deals
                if deal.track is track
                for order in deal.resting
                if order.placed < self.look
            ]
            if not held:
                continue
            held.sort(key=lambda pair: pair[0].number)
            owner = {order.number: deal for order, deal in held}
            low, high, volume = self._candle(track)
            orders = [order for order, _ in held]
            for order, done in candle_fills(self.wallet, track.terms, self.spec.costs, orders, low, high, volume):
                found.append((order, owner[order.number], done))
        for order, deal, done in sorted(found, key=lambda row: row[0].number):
            self._book(deal, order.purpose, order.side, done, is_maker=True)
            if order.rest <= ZERO:
                self._finish(deal, order)
            self._settle(deal)
            deal.wake = self.look  # what follows from the fill is decided at this very look

    def _candle(self, track: Track) -> tuple[Decimal, Decimal, Decimal]:
        index, terms, candles = self.look - track.offset, track.terms, track.candles
        return (
            from_float(float(candles.low[index]), terms.price_increment),
            from_float(float(candles.high[index]), terms.price_increment),
            from_float(float(candles.volume[index]), terms.base_increment),
        )

    # 2. Deciding and acting -----------------------------------------------------------------------------------------

    def _decide_and_act(self) -> None:
        """Decide, act on the first decision that acts, and decide again until nothing acts any more."""
        done: set[Any] = set()
        while True:
            acting = self._next_action(done)
            if acting is None:
                return
            key, decision = acting
            if isinstance(key, Deal):
                if decision.cancels and self._clear_the_way(key, decision):
                    continue
                done.add(key)
                if decision.action is not Action.CANCEL:
                    self._act_on_deal(key, decision)
            else:
                done.add(key)
                self._open(self.pair_of[key[0]], decision)

    def _next_action(self, done: set[Any]) -> tuple[Any, Decision] | None:
        """Ask about every deal that is awake, then about every pair that could open; return the first to act."""
        look = self.look
        for deal in self.deals:
            if deal in done or deal.created == look or deal.acted == look or not 0 <= deal.wake <= look:
                continue
            if deal.track.has_price(look):
                decision = self._manage(deal)
                if decision.action is not Action.NONE:
                    return deal, decision
        for pair in self.pairs:
            if pair.rests_at == look or not pair.track.has_price(look):
                continue
            for direction in self.settings.directions:
                key = (pair.track.number, direction)
                if key in done or not self._slots_left(direction):
                    continue
                if self._entry_look(pair, direction, look) == look:
                    decision = self._consider(pair, direction)
                    if decision.action is not Action.NONE:
                        return key, decision
        return None

    def _manage(self, deal: Deal) -> Decision:
        """Ask the strategy about a deal; its trail is first brought up to the candles that were passed over."""
        track = deal.track
        if deal.scanned >= 0 and deal.scanned < self.look:
            prices = track.signed(deal.direction)
            at = best_between(prices, deal.scanned - track.offset, self.look - track.offset) + track.offset
            decision = self._ask(deal, at)
            if decision.action is not Action.NONE:
                raise AssertionError(f"deal {deal.number} would have acted at look {at}, which was passed over")
            deal.trail = decision.trail or deal.trail
        deal.scanned = -1
        decision = self._ask(deal, self.look)
        deal.looked = self.look
        deal.next_trail = decision.trail  # remembered when it acts, or at the end of the look
        return decision

    def _ask(self, deal: Deal, look: int) -> Decision:
        track = deal.track
        now = self.now if look == self.look else moment_of(self.first_time + look * self.step)
        view = track.show(look, now)
        seen = DealView(
            totals=deal.totals,
            levels_filled=deal.levels,
            opened_at=deal.opened_at or moment_of(self.first_time + deal.created * self.step),
            trail=deal.trail,
            budget_quote=deal.budget,
            orders=deal.working(),
            missed_limit_exit=deal.missed_limit_exit,
            free_quote=self.funds.free_quote(self.look),
            wallet_base=self.funds.base_for(deal),
            since=self.waiting[track.number, deal.direction].since(deal, look),
        )
        return self.strategy.manage(self.settings, seen, view, now, self.fees)

    def _consider(self, pair: TradedPair, direction: Direction) -> Decision:
        track, settings = pair.track, self.settings
        view = track.show(self.look, self.now)
        held = [deal for deal in self.deals if deal.direction is direction]
        return self.strategy.decide_open(
            settings,
            view,
            OpenContext(
                now=self.now,
                fee_rates=self.fees,
                open_deals=len(held),
                open_deals_on_pair=self._on_pair(pair, direction),
                bot_budget=self.funds.budget(direction, self.look),
                free_quote=self.funds.free_quote(self.look),
                split_budget=self.spec.split_budget,
                committed_quote=sum([deal.invested + deal.opening_quote for deal in held], ZERO),
                free_base=self.funds.free_base(track),
                largest_minimum=self.funds.largest_minimum(self.look),
                last_closed_at=pair.last_closed.get(direction),
                since=pair.since(direction, self.look, self.first_look),
                direction=direction,
                volume_24h=track.volume_24h(self.look) if settings.min_volume_24h is not None else None,
                category=track.pair.category,
                is_stable_pair=track.pair.is_stable_pair,
            ),
        )

    # Acting ---------------------------------------------------------------------------------------------------------

    def _clear_the_way(self, deal: Deal, decision: Decision) -> bool:
        """Cancel the resting orders that stand in the way; True when there were any, so that all is decided again."""
        orders = [order for order in deal.resting if order.purpose in decision.cancels]
        for order in orders:
            give_back(self.wallet, deal.track.terms, order)
            self._finish(deal, order)
            if order.purpose in EXIT_PURPOSES:
                deal.missed_limit_exit = True
        if orders:
            deal.wake = self.look  # all is decided again, at this very look
            self._settle(deal)
        return bool(orders)

    def _open(self, pair: TradedPair, decision: Decision) -> None:
        """Place the base order of a new deal, unless it is refused."""
        plan, direction, track = decision.order, decision.direction, pair.track
        assert plan is not None
        assert direction is not None
        if not self._entry_fits(track, plan):
            return
        # One opening a look and pair: an entry of the other direction that would have opened too is judged again.
        others = [
            other for other in self.settings.directions if other is not direction and self._would_open(pair, other)
        ]
        self.attempts += 1
        totals = Totals(direction, track.terms.base, track.terms.quote)
        deal = Deal(self.attempts, track, direction, self.look, decision.budget_quote, totals)
        deal.wake = self.look + 1
        self.deals.append(deal)
        pair.rests_at = self.look
        pair.pass_over(self.look, *others)
        if not self._send(deal, Purpose.BASE_ORDER, plan, plan.base_size, None):
            self._drop(deal)

    def _would_open(self, pair: TradedPair, direction: Direction) -> bool:
        if not pair.crossings[direction] or self._entry_look(pair, direction, self.look) != self.look:
            return False  # without crossings there is nothing that is judged once
        return self._slots_left(direction) and self._consider(pair, direction).action is Action.OPEN

    def _act_on_deal(self, deal: Deal, decision: Decision) -> None:
        """Place the order of a decision about a deal, or close it as dust."""
        plan = decision.order
        if decision.code is ReasonCode.DUST or plan is None:
            self._close_as_dust(deal, deal.track.mark(self.look))
            return
        purpose = decision.purpose
        assert purpose is not None
        if purpose not in EXIT_PURPOSES:
            if self._entry_fits(deal.track, plan):
                self._send(deal, purpose, plan, plan.base_size, None)
            return
        price = plan.limit_price or plan.price
        remaining = deal.totals.remaining_base
        if deal.is_dust(remaining, price):
            self._close_as_dust(deal, plan.price)
            return
        wanted = min(plan.base_size, remaining)
        terms = deal.track.terms
        if plan.side is Side.SELL:
            wanted = min(wanted, self.wallet.free(terms.base))
        else:
            dearer, free = max(self.fees.maker, self.fees.taker), self.wallet.free(terms.quote)
            wanted = payable(wanted, price, dearer, free, at_market=plan.limit_price is None)
        base = floor_to(wanted, terms.base_increment)
        if base <= ZERO or base < terms.min_base or base * price < terms.min_quote:
            return
        self._send(deal, purpose, plan, base, decision.exit_reason)

    def _entry_fits(self, track: Track, plan: OrderPlan) -> bool:
        """Return whether an entry passes the checks that are made before an order is written down."""
        terms, base = track.terms, plan.base_size
        price = self._limit(track, plan) or plan.price
        if base <= ZERO or base < terms.min_base or base * price < terms.min_quote:
            return False
        if plan.side is Side.SELL:
            return base <= self.wallet.free(terms.base)
        dearer = max(self.fees.maker, self.fees.taker)
        return base * price * (ONE + dearer) <= self.wallet.free(terms.quote)

    def _limit(self, track: Track, plan: OrderPlan) -> Decimal | None:
        if plan.limit_price is None:
            return None
        to_step = floor_to if plan.side is Side.BUY else ceil_to
        return to_step(plan.limit_price, track.terms.price_increment)

    def _send(self, deal: Deal, purpose: Purpose, plan: OrderPlan, base: Decimal, reason: ExitReason | None) -> bool:
        """Let the venue have an order; False when it refuses it."""
        terms, costs = deal.track.terms, self.spec.costs
        quote = deal.track.show(self.look, self.now).quote
        assert quote is not None
        price = quote.ask if plan.side is Side.BUY else quote.bid
        deal.acted = self.look
        deal.remember()
        deal.wake = self.look + 1
        self.orders += 1
        limit = self._limit(deal.track, plan)
        if purpose in EXIT_PURPOSES:
            deal.last_exit = (purpose, reason)
        order = None
        try:
            if limit is None:
                done = take(self.wallet, terms, costs, plan.side, base, price, plan.price)
                if done is None:
                    return False
            else:
                order = RestingOrder(self.orders, purpose, plan.side, base, limit, self.look, plan.levels)
                done = take_or_rest(self.wallet, terms, costs, order, price)
                deal.resting.append(order)
                deal.placed_at[order.number] = self.now
        except Overdrawn:
            return False
        if done is not None:
            self._book(deal, purpose, plan.side, done, is_maker=False)
            if order is None:
                if purpose is Purpose.SAFETY_ORDER:
                    deal.levels += max(plan.levels, 1)
            elif order.rest <= ZERO:
                self._finish(deal, order)
        self._settle(deal)
        return True

    def _book(self, deal: Deal, purpose: Purpose, side: Side, done: Any, *, is_maker: bool) -> None:
        before = deal.invested
        if not deal.has_fills:
            deal.first = self.look if deal.created < self.look else self.look + 1
        fill = deal.book(done, side, purpose, self.first_time + self.look * self.step, self.now, is_maker=is_maker)
        self.fills.append(fill)
        self.deltas.add(self.look, deal.track.number, fill, deal.invested - before)
        deal.wake = self.look + 1

    def _finish(self, deal: Deal, order: RestingOrder) -> None:
        """Take an order that is final off the deal; a safety order that filled counts its levels."""
        deal.resting.remove(order)
        del deal.placed_at[order.number]
        if order.purpose is Purpose.SAFETY_ORDER and order.filled > ZERO:
            deal.levels += max(order.levels, 1)
        deal.wake = self.look + 1

    def _settle(self, deal: Deal) -> None:
        """End a deal that can get no fill any more, or of which nothing tradable is left."""
        if deal.resting or deal.is_over:
            return
        if not deal.has_fills:
            self._drop(deal)
            return
        totals = deal.totals
        remaining, price = totals.remaining_base, totals.last_price
        if totals.exit_fills and price is not None and (not remaining or deal.is_dust(remaining, price)):
            deal.dust_price = price if remaining else None
            self._end(deal, deal.reason())

    def _close_as_dust(self, deal: Deal, price: Decimal) -> None:
        if deal.resting or not deal.is_dust(deal.totals.remaining_base, price):
            return
        deal.dust_price = price
        self._end(deal, ExitReason.DUST)

    def _end(self, deal: Deal, reason: ExitReason) -> None:
        deal.closed_at, deal.exit_reason = self.now, reason
        self.deltas.end(self.look, deal.invested)
        self._drop(deal)

    def _drop(self, deal: Deal) -> None:
        """Take a deal that is over off the list; its pair rests until the next look."""
        if deal in self.deals:
            self.deals.remove(deal)
        if deal.has_fills:
            self.ended.append(deal)
        pair = self.pair_of[deal.track.number]
        pair.rests_at = self.look
        pair.last_closed[deal.direction] = self.now
        opened = deal.created == self.look  # then its own entry has been judged
        pair.pass_over(self.look, *(d for d in self.settings.directions if not (opened and d is deal.direction)))

    # What is next ---------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Work out for every deal that was looked at when it could do something next."""
        look = self.look
        for deal in self.deals:
            deal.remember()
            if deal.wake > look + 1 or (deal.wake == NEVER and deal.looked != look):
                continue
            if deal.wake == look + 1 and deal.acted != look and deal.looked != look and deal.created != look:
                continue  # nothing concerned it: its next look stands
            if self.every_look:
                deal.wake, deal.scanned = max(look + 1, deal.track.offset), -1
            else:
                waiting = self.waiting[deal.track.number, deal.direction]
                deal.wake, deal.scanned = waiting.next_look(deal, look + 1, self.first_time)

    # The result -----------------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """Return the result at the last look."""
        end = max(self.last_look, self.first_look)
        self.look, self.now = end, moment_of(self.first_time + end * self.step)
        deals = sorted(
            [*self.ended, *(deal for deal in self.deals if deal.has_fills)],
            key=lambda deal: (deal.facts[0].at, deal.number),
        )
        results, realised, unrealised = [], ZERO, ZERO
        for number, deal in enumerate(deals, start=1):
            mark = deal.track.price(min(end, deal.track.last))
            if not deal.is_over and deal.track.has_price(end):
                unrealised += ledger.unrealised(deal.totals, mark, self.fees.taker).profit
            result = deal.result(mark, self.fees.taker)
            result.number = number
            results.append(result)
            realised += result.profit if deal.is_over else deal.profit()
        curves = self.deltas.curves(self.first_look, end, self.spec.balances, self.spec.quote)
        times = self.first_time + np.arange(self.first_look, end + 1, dtype=np.int64) * self.step
        return Outcome(
            quote=self.spec.quote,
            candles=sum(_within(track, self.first_look, end) for track in self.tracks),
            fills=tuple(self.fills),
            deals=tuple(results),
            times=times,
            equity=curves.equity,
            invested=curves.invested,
            held=curves.held,
            realised=realised,
            unrealised=unrealised,
            fees=sum((result.fees for result in results), ZERO),
            balances={currency: amount for currency, amount in self.wallet.total.items() if amount},
        )


def _within(track: Track, first: int, last: int) -> int:
    return max(0, min(track.last, last) - max(track.offset, first) + 1)
