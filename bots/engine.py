"""The monitor cycle: look at every bot that is due, decide, and act for the few that trade.

1. ``dispatch`` claims due bots: their next look is moved into the future and that is committed before anybody works on
   them, so a bot is never handed out twice and one that raises cannot block the rest (F2, F67). It hands them out
   grouped by account, in chunks.
2. ``run_chunk`` takes the lease of each account, so one worker at a time looks at an account; what somebody else has
   leased is left to the next look (F1).
3. A chunk is processed in stages with a constant number of queries: load the facts, build one market view per product,
   decide (pure), act, write what changed in bulk.
4. Acting is sequential within a bot and on fresh facts: exits and adds first, in the order of the deals, then opens in
   the order of the pairs. A deal gets one order a look, and a pair whose deal ended in this look rests until the next.
   So a look that was cut off by ``kill -9`` and is done again at the same moment ends in the same state (F14).
5. A decision may name resting orders that have to go first. They are cancelled, their final state is known, and then
   all is decided again (F19): a cancel is no order. While the venue has not confirmed it, nothing else is done (F5).

The lease and the claim only keep work apart. That an order is never doubled rests on the order protocol
(``positions.execution``), not on them.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import structlog
from django.db import transaction
from django.db.models import Q

from accounts import balances
from accounts.models import Account
from bots import facts as bot_facts
from bots import market_views, memory
from bots.facts import BotFacts, Deal, Facts
from bots.memory import Pair, Side
from bots.models import Bot, BotProduct
from bots.models import Decision as DecisionRow
from bots.strategies.base import Action, Decision, MarketView, OrderPlan, ReasonCode, Strategy
from marketdata import sources
from positions import execution, slippage
from positions.guard import check as guard
from positions.models import Order, Position
from positions.reconcile import settle_waiting
from positions.states import (
    EXIT_PURPOSES,
    FINAL,
    POSITION_ACTIVE,
    Direction,
    OrderType,
    PositionStatus,
    Purpose,
)
from tradebot.core import clock, scoping, stopping
from tradebot.core.decimals import plain, quantize
from tradebot.core.errors import MissingInformation, NotFound, OrderRefused, TradebotError, VenueError
from tradebot.core.models import GlobalSettings
from tradebot.core.redaction import described

__all__ = ["ChunkResult", "active_bots", "claim_due", "dispatch", "run_chunk"]

log = structlog.get_logger(__name__)

CHUNK_BOTS = 1000
CLAIM_LIMIT = 10_000
LEASE = timedelta(seconds=45)
REFRESH_NUMBERS = timedelta(minutes=15)
"""The same reason with other numbers is written this often; pages work the numbers of this moment out themselves."""
ROWS_PER_INSERT = 2_000
FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(minutes=5)
"""How long after the first rejected order, and after many in a row, the next one is sent."""
JUST_ASKED = timedelta(seconds=1)
WHILE_SHORT = timedelta(seconds=10)
"""How old an exchange's balances may be for a bot that is about to act, and for one that lacks the money to."""
SHORT_OF_MONEY = frozenset(
    {ReasonCode.INSUFFICIENT_BALANCE, ReasonCode.MISSING_BALANCE, ReasonCode.MISSING_BUDGET, ReasonCode.NO_BUDGET}
)
CHANGED = "changed_meanwhile"
REJECTED = "venue_rejected"
UNJUDGED = frozenset({"balance_unknown", CHANGED, REJECTED}) | guard.UNKNOWN
"""Refusals that say nothing about the decision: its crossings are judged again."""
Chunk = dict[int, list[int]]
"""Bot ids by account id."""


@dataclass(slots=True)
class ChunkResult:
    """What a chunk did: bots looked at, orders placed, bots that failed."""

    bots: int = 0
    orders: int = 0
    failed: int = 0


# 1. Claiming --------------------------------------------------------------------------------------------------------


def active_bots() -> Q:
    """Bots that there is something to watch for on a live market. Recordings are driven by their own clock."""
    return Q(next_check_at__isnull=False, account__isnull=False) & ~Q(account__exchange=sources.REPLAY)


def claim_due(now: datetime, limit: int = CLAIM_LIMIT) -> Chunk:
    """Claim the bots that are due and return them by account. The claim is committed when this returns (F2)."""
    interval = timedelta(seconds=GlobalSettings.load().cycle_seconds)
    with scoping.all_accounts("the dispatcher finds out whose bots are due"), transaction.atomic():
        due = list(
            Bot.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(active_bots(), next_check_at__lte=now)
            .order_by("next_check_at")
            .values_list("pk", "account_id")[:limit]
        )
        Bot.objects.filter(pk__in=[pk for pk, _ in due], next_check_at__lte=now).update(next_check_at=now + interval)
    claimed: Chunk = defaultdict(list)
    for pk, account_id in due:
        claimed[account_id].append(pk)
    return dict(claimed)


def dispatch(send: Callable[[Chunk], object], now: datetime | None = None) -> int:
    """Claim what is due and ``send`` it in chunks, an account never split over two. Returns the number of bots.

    An account on an exchange is a chunk of its own: its venue may keep it waiting, and nobody else with it (F67, F69).
    """
    claimed = claim_due(now or clock.now())
    with scoping.all_accounts("the dispatcher finds out which accounts wait for an exchange"):
        live = set(Account.objects.filter(pk__in=claimed, kind=Account.Kind.EXCHANGE).values_list("pk", flat=True))
    for account_id in sorted(live):
        send({account_id: claimed[account_id]})
    chunk: Chunk = {}
    for account_id, bot_ids in sorted(claimed.items()):
        if account_id in live:
            continue
        if chunk and sum(map(len, chunk.values())) + len(bot_ids) > CHUNK_BOTS:
            send(chunk)
            chunk = {}
        chunk[account_id] = bot_ids
    if chunk:
        send(chunk)
    return sum(map(len, claimed.values()))


# 2. Leasing ---------------------------------------------------------------------------------------------------------


def _lease(account_ids: Iterable[int], token: str, now: datetime) -> dict[int, str]:
    """Take the leases that are free (or already ours) and return the accounts now leased by ``token``: kinds by id."""
    with scoping.acting_for_accounts(account_ids), transaction.atomic():
        free = Q(lease_until__isnull=True) | Q(lease_until__lte=now) | Q(lease_token=token)
        Account.objects.filter(free).update(lease_token=token, lease_until=now + LEASE)
        return dict(Account.objects.filter(lease_token=token, lease_until__gt=now).values_list("pk", "kind"))


def _release(account_ids: Iterable[int], token: str) -> None:
    with scoping.acting_for_accounts(account_ids):
        Account.objects.filter(lease_token=token).update(lease_until=None, lease_token="")


# 3. A chunk ---------------------------------------------------------------------------------------------------------


def run_chunk(chunk: Mapping[int, Iterable[int]], now: datetime | None = None, token: str | None = None) -> ChunkResult:
    """Look at these bots (ids by account id) at ``now``, holding their accounts' leases under ``token``."""
    token = token or str(uuid.uuid4())
    moment = now or clock.now()
    leased = _lease(chunk, token, moment)
    if not leased:
        return ChunkResult()
    try:
        with scoping.acting_for_accounts(leased):
            settle_waiting(leased)
            live = frozenset(pk for pk, kind in leased.items() if kind == Account.Kind.EXCHANGE)
            return _Look([pk for account_id in leased for pk in chunk[account_id]], moment, live).run()
    finally:
        _release(leased, token)


class _Judged(NamedTuple):
    """What of a deal a decision about it rests on: an order is only written down while it is still so."""

    settings_version: int
    bought: Decimal
    sold: Decimal
    ceiling: Decimal

    @classmethod
    def of(cls, position: Position) -> _Judged:
        return cls(position.settings_version, position.base_bought, position.base_sold, position.budget_quote)


@dataclass(slots=True)
class _Outcome:
    """A decision about a deal, or about opening in one direction on a pair, as it is to be written down."""

    facts: BotFacts
    decision: Decision
    side: Side
    pair: Pair | None = None
    deal: Deal | None = None
    order: Order | None = None
    found: dict[str, Any] = field(default_factory=dict)
    """The columns that the decision changes, and is to write unless it is ``written``."""
    written: bool = False
    judged: _Judged | None = None
    """The deal as it was when it was judged."""

    @property
    def acts(self) -> bool:
        return self.decision.action is not Action.NONE

    @property
    def row(self) -> Position | Pair:
        """What remembers the decision."""
        found = self.pair if self.deal is None else self.deal.position
        assert found is not None
        return found

    @property
    def model(self) -> type[Position] | type[BotProduct]:
        return BotProduct if self.deal is None else Position

    @property
    def key(self) -> tuple[Any, int, Direction]:
        """What it is about."""
        return self.model, self.row.pk, self.side.direction

    @property
    def phase(self) -> str:
        if self.deal is None:
            return "open"
        if self.decision.action is Action.CANCEL and not EXIT_PURPOSES.issuperset(self.decision.cancels):
            return "open" if Purpose.BASE_ORDER in self.decision.cancels else "add"
        return "add" if self.decision.action is Action.ADD else "close"

    def note(self, now: datetime, aged: datetime) -> bool:
        """Find out what the decision changes: when it is another one, was acted on, or was written before ``aged``.

        Return whether there is anything to write (F68).
        """
        self.found = memory.changes(self.row, self.side, self.decision, now, None if self.acts else aged)
        if self.deal is not None and self.decision.trail is not None:
            trail = self.decision.trail.to_json()
            if trail != self.deal.position.trail:
                self.found["trail"] = trail
        return bool(self.found)

    @property
    def is_news(self) -> bool:
        """Whether the reason is another one than before."""
        return bool(getattr(self.row, self.side.code) != self.decision.code)


@dataclass(slots=True)
class _Look:
    """One look at a chunk of bots. ``outcomes`` are those that are to be written at its end.

    ``live`` are the accounts on an exchange: what they hold has to be asked for before their money is spent.
    """

    bot_ids: list[int]
    now: datetime
    live: frozenset[int]
    outcomes: list[_Outcome] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    orders: int = 0

    def run(self) -> ChunkResult:
        chunk = bot_facts.load(self.bot_ids, self.now)
        views = market_views.build(chunk.products, chunk.wanted_series(), self.now)
        chunk.see(views)
        for facts in chunk.bots.values():
            self._look_at(facts, chunk, views)
        self._write(chunk)
        return ChunkResult(bots=len(chunk.bots), orders=self.orders, failed=len(self.problems))

    def _look_at(self, facts: BotFacts, chunk: Facts, views: Mapping[int, MarketView]) -> None:
        """Decide about one bot and act if it trades. Whatever goes wrong stays with this bot (F67)."""
        known = len(self.outcomes)
        try:
            outcomes = _decide(facts, chunk)
            if facts.problem:
                self.problems[facts.bot.pk] = facts.problem[:300]
            acts = any(outcome.acts for outcome in outcomes)
            account_id = facts.bot.account_id
            assert account_id is not None
            is_live = account_id in self.live
            if acts or (is_live and any(outcome.decision.code in SHORT_OF_MONEY for outcome in outcomes)):
                with scoping.acting_for_account(account_id):
                    if is_live:
                        _ask_for_funds(account_id, JUST_ASKED if acts else WHILE_SHORT)
                    outcomes = self._act(facts.bot.pk, views)
            aged = self.now - REFRESH_NUMBERS
            # What changes nothing, nearly everything, is let go at once.
            self.outcomes += [outcome for outcome in outcomes if not outcome.written and outcome.note(self.now, aged)]
        except Exception as error:
            del self.outcomes[known:]
            self.problems[facts.bot.pk] = described(error)[:300]
            log.exception("bot failed", bot=facts.bot.pk, account=facts.bot.account_id)

    # 4. Acting --------------------------------------------------------------------------------------------------------

    def _act(self, bot_id: int, views: Mapping[int, MarketView]) -> list[_Outcome]:
        """Decide again on fresh facts, one step at a time, and carry out what is decided."""
        done: dict[Any, _Outcome] = {}
        while True:
            chunk = bot_facts.load([bot_id], self.now)
            chunk.see(views)
            if stopping.is_stopping():  # the next look, after the restart, goes on where this one was (F70)
                return list(done.values())
            fresh = {outcome.key: outcome for outcome in _decide(chunk.bots[bot_id], chunk)}
            left = {key: outcome for key, outcome in fresh.items() if key not in done}
            todo = next((outcome for outcome in left.values() if outcome.acts), None)
            if todo is None:
                _refresh(done.values(), chunk.bots[bot_id])
                return [*done.values(), *left.values()]
            try:
                is_done = self._step(todo, chunk)
            except Exception as error:  # the others are to be acted on all the same (F67)
                self.problems[bot_id] = described(error)[:300]
                log.exception("decision not carried out", bot=bot_id, code=str(todo.decision.code))
                todo.written = is_done = True
            if is_done:
                done[todo.key] = todo
                if todo.pair is not None:  # it rests now, so what was decided about its other side stands
                    done |= {key: other for key, other in left.items() if other.pair is todo.pair and not other.acts}

    def _step(self, todo: _Outcome, chunk: Facts) -> bool:
        """Carry out a decision, or what has to be cancelled before it; False when all is to be decided again then."""
        cancelled, cancels = _cancelled(todo), todo.decision.action is Action.CANCEL
        if cancelled:
            if cancels:
                _decision_row(todo, self.now).save()
            return False
        if cancels or cancelled is False:
            todo.decision = _unconfirmed(todo.decision)
        else:
            self._carry_out(todo, chunk)
        return True

    def _carry_out(self, outcome: _Outcome, chunk: Facts) -> None:
        """Intend and submit the order of a decision; a refusal becomes the decision's reason.

        What the decision wants remembered is committed with the intent: a crossing that was acted on is spent, and a
        trail has moved, exactly when the order exists (F14, F38).
        """
        try:
            _check_rejections(outcome, chunk)
            _check_slippage(outcome, chunk)
            with transaction.atomic():
                outcome.order = _intend(outcome, chunk)
                _check_judged(outcome)
                outcome.note(self.now, self.now)
                _remember([outcome])
                _decision_row(outcome, self.now).save()
        except OrderRefused as refusal:
            outcome.order = None
            outcome.decision = _refused(outcome.decision, refusal)
            return
        outcome.written = True
        if outcome.order is not None:
            self.orders += 1
            execution.submit(outcome.order)

    # 5. Writing -------------------------------------------------------------------------------------------------------

    def _write(self, chunk: Facts) -> None:
        """Write in bulk what changed and was not written when it was acted on."""
        news = [_decision_row(outcome, self.now) for outcome in self.outcomes if outcome.is_news]
        with transaction.atomic():
            DecisionRow.objects.bulk_create(news, batch_size=ROWS_PER_INSERT)
            _remember(self.outcomes)
            self._write_bots(chunk)

    def _write_bots(self, chunk: Facts) -> None:
        sound = [pk for pk in chunk.bots if pk not in self.problems]
        Bot.objects.filter(pk__in=sound).update(last_checked_at=self.now, last_error="")
        for pk, problem in self.problems.items():
            Bot.objects.filter(pk=pk).update(last_checked_at=self.now, last_error=problem)
        # A stopped bot is watched for as long as it has a deal.
        idle = [facts.bot.pk for facts in chunk.bots.values() if not facts.bot.is_running and not facts.deals]
        if idle:
            busy = Position.objects.filter(bot__in=idle, status__in=POSITION_ACTIVE).values("bot_id")
            Bot.objects.filter(pk__in=idle, status=Bot.Status.STOPPED).exclude(pk__in=busy).update(next_check_at=None)


def _ask_for_funds(account_id: int, max_age: timedelta) -> None:
    """Ask the exchange what the account holds before its money is spent, holding no lock.

    A deposit counts at once (F35). Where the exchange does not say, entries are refused and exits go ahead.
    """
    try:
        balances.refresh(Account.objects.get(pk=account_id), max_age)
    except TradebotError as error:
        log.info("balances not told", account=account_id, code=error.code)


def _remember(outcomes: Iterable[_Outcome]) -> None:
    """Write what deals and pairs remember of these decisions."""
    rows: dict[type[Position] | type[BotProduct], dict[int, dict[str, Any]]] = {Position: {}, BotProduct: {}}
    accounts: set[int] = set()
    versions: dict[int, int] = {}
    for outcome in outcomes:
        pk, written, found = outcome.row.pk, rows[outcome.model], outcome.found
        if pk in written and "evaluated_until" in found and "evaluated_until" in written[pk]:
            # The other side of the same pair: each has changed its own part.
            until = outcome.decision.evaluated_until or {}
            found["evaluated_until"] = outcome.side.judged(written[pk]["evaluated_until"], until)
        written.setdefault(pk, {}).update(found)
        if outcome.judged is not None:
            versions[pk] = outcome.judged.settings_version
        accounts.add(outcome.facts.bot.account_id or 0)  # an orphan is never looked at
    for model, values in rows.items():
        memory.write(model, values, accounts, versions if model is Position else None)


# Deciding -----------------------------------------------------------------------------------------------------------


def _decide(facts: BotFacts, chunk: Facts) -> list[_Outcome]:
    """Return what is to be done about each deal, then about each pair, of one bot. No queries, no effects."""
    outcomes = list(_about_deals(facts, chunk))
    if facts.bot.is_running and facts.strategy is not None:
        outcomes += _about_pairs(facts, facts.strategy, chunk)
    return outcomes


def _about_deals(facts: BotFacts, chunk: Facts) -> Iterator[_Outcome]:
    bot, now = facts.bot, chunk.now
    assert bot.account_id is not None
    fees = chunk.money.fee_rates[bot.account_id]
    for deal in facts.deals:
        if any(order.created_at >= now for order in deal.orders):
            continue  # one order a look
        view = chunk.view(bot.pk, deal.position.product_id)
        decision = None if bot.is_running else _given_up(deal)
        if decision is None and deal.strategy is not None and view is not None:
            try:
                decision = deal.strategy.manage(deal.settings, chunk.deal_view(deal), view, now, fees)
            except Exception as error:  # the others are to be looked at all the same (F67)
                name = f"deal {deal.position.deal_number or deal.position.attempt_number}"
                log.exception("deal cannot be judged", bot=bot.pk, account=bot.account_id, deal=deal.position.pk)
                facts.problem = f"{name}: {described(error)}"
        if decision is not None:
            side = memory.sides_of((deal.direction,))[0]
            yield _Outcome(facts, decision, side, deal=deal, judged=_Judged.of(deal.position))


def _about_pairs(facts: BotFacts, strategy: Strategy, chunk: Facts) -> Iterator[_Outcome]:
    settings, sides, now = facts.settings, facts.sides, chunk.now
    resting = {deal.position.product_id for deal in facts.deals if deal.position.created_at >= now}
    for pair in facts.pairs:
        view = chunk.view(pair.bot_id, pair.product_id)
        if view is None or pair.product_id in resting or (pair.bot_id, pair.product_id) in chunk.ended_now:
            continue
        for side in sides:
            try:
                decision = strategy.decide_open(settings, view, chunk.open_context(facts, pair, side))
                if decision.code is ReasonCode.INSUFFICIENT_BALANCE:
                    decision = _reserved_for_others(facts, chunk, pair, side, decision) or decision
            except Exception as error:  # as above
                symbol = chunk.products[pair.product_id].symbol
                log.exception("pair cannot be judged", bot=facts.bot.pk, account=facts.bot.account_id, symbol=symbol)
                facts.problem = f"{symbol}: {described(error)}"
            else:
                yield _Outcome(facts, decision, side, pair=pair)


def _given_up(deal: Deal) -> Decision | None:
    """Return the cancel of a stopped bot's base order that rests in the book and has bought nothing; None without."""
    if deal.position.status != PositionStatus.PENDING:
        return None
    for order in deal.working_orders:
        if order.purpose is Purpose.BASE_ORDER and order.is_resting and not order.filled_base and not order.by_person:
            words = "the bot is stopped: its base order, which has not filled, is cancelled"
            return Decision(
                Action.CANCEL, ReasonCode.BOT_STOPPED, words, cancels=(Purpose.BASE_ORDER,), direction=deal.direction
            )
    return None


def _reserved_for_others(facts: BotFacts, chunk: Facts, pair: Pair, side: Side, refusal: Decision) -> Decision | None:
    """Return the refusal that names what other bots have reserved, if that is what stands in the way."""
    kept = chunk.reserved(facts, pair, side.direction)
    if kept is None or not kept.amount or facts.strategy is None:
        return None
    free = chunk.open_context(facts, pair, side, reserved=False)
    view = chunk.view(pair.bot_id, pair.product_id)
    assert view is not None
    if facts.strategy.decide_open(facts.settings, view, free).code is ReasonCode.INSUFFICIENT_BALANCE:
        return None
    product = chunk.products[pair.product_id]
    currency, amount = (
        (product.quote, free.free_quote) if side.direction is Direction.LONG else (product.base, free.free_base)
    )
    reserved, all_free = plain(quantize(kept.amount, 8)), plain(quantize(amount, 8)) if amount is not None else ""
    names = ", ".join(f"“{name}”" for name in kept.names)
    return replace(
        refusal,
        code=ReasonCode.RESERVED,
        words=f"{all_free} {currency} is free, of which {reserved} {currency} is reserved for {names}",
        numbers={"free": all_free, "reserved": reserved, "currency": currency, "bots": list(kept.names)},
    )


def _refresh(outcomes: Iterable[_Outcome], facts: BotFacts) -> None:
    """Put the pairs' present rows into what is still to be written: the other side of a pair may have acted since."""
    rows = {pair.pk: pair for pair in facts.pairs}
    for outcome in outcomes:
        if outcome.pair is not None and not outcome.written:
            outcome.pair = rows.get(outcome.pair.pk, outcome.pair)


# Acting on a decision -----------------------------------------------------------------------------------------------


def _cancelled(outcome: _Outcome) -> bool | None:
    """Cancel the resting orders that a decision names (F19, F21, F22).

    Return True when all of them have ended, so that all has to be decided again; False while the venue has not said so,
    which leaves the rest to the next look; None when there is nothing to cancel.
    """
    deal, names = outcome.deal, outcome.decision.cancels
    if deal is None or not names:
        return None
    ended = [execution.cancel(order, "bot").status in FINAL for order in deal.working if order.purpose in names]
    return all(ended) if ended else None


def _unconfirmed(decision: Decision) -> Decision:
    """Return what is remembered while a cancel is not confirmed: nothing was acted on, so no crossing is spent."""
    return replace(
        decision,
        action=Action.NONE,
        code=ReasonCode.ORDER_PENDING,
        words=f"{decision.message}; the venue has not confirmed yet that the order in the way is cancelled",
        numbers=decision.evidence,
        evaluated_until=None,
    )


def _refused(decision: Decision, refusal: OrderRefused) -> Decision:
    """Return the decision as the refusal of its order; while something is not known, no crossing is spent."""
    known = refusal.code in set(ReasonCode)
    code: Any = ReasonCode(refusal.code) if known else refusal.code  # refusals and reasons are one vocabulary on screen
    unknown = code.is_missing_information if known else code in UNJUDGED
    return replace(
        decision,
        action=Action.NONE,
        code=code,
        words=refusal.message,
        numbers={name: str(value) for name, value in refusal.detail.items()},
        trail=None if code == CHANGED else decision.trail,
        evaluated_until=None if unknown else decision.evaluated_until,
    )


def _check_judged(outcome: _Outcome) -> None:
    """Raise OrderRefused when the deal, which is locked now, is not as it was judged: then the next look decides.

    A person or another worker may have edited, added, sold, or booked a fill between the two; sizes, rungs and stops
    would be those of another deal (F1, F20).
    """
    if outcome.deal is not None and outcome.judged != _Judged.of(outcome.deal.position):
        raise OrderRefused(CHANGED, "The deal was changed while it was looked at; it is looked at again.")


def _check_rejections(outcome: _Outcome, chunk: Facts) -> None:
    """Raise OrderRefused while the venue's latest no is too young for another try (F27).

    Each rejection in a row doubles the wait, up to :data:`LONGEST_WAIT`. Cancels need no order and never wait. Nor do
    recordings, which are looked at once a candle and end.
    """
    if chunk.products[outcome.row.product_id].exchange == sources.REPLAY:
        return
    if outcome.deal is not None:
        found = outcome.deal.rejections
    else:
        found = chunk.failed_opens.get((outcome.facts.bot.pk, outcome.row.product_id, outcome.side.direction))
    if found is None or outcome.decision.order is None:
        return
    count, at = found
    wait = min(FIRST_WAIT * 2 ** min(count - 1, 10), LONGEST_WAIT)
    if chunk.now - at < wait:
        raise OrderRefused(
            REJECTED, "The venue rejected the last order. Each time it does, the next try is made later.", wait=wait
        )


def _check_slippage(outcome: _Outcome, chunk: Facts) -> None:
    """Raise OrderRefused when the order book would make a market order worse than its plan allows.

    A recording has no book, so nothing is asked there.
    """
    plan, product = outcome.decision.order, chunk.products[outcome.row.product_id]
    if plan is None or plan.max_slippage_pct is None or plan.order_type is not OrderType.MARKET:
        return
    if product.exchange == sources.REPLAY:
        return
    try:
        found = slippage.expected(product.exchange, product.symbol, plan.side, plan.base_size)
    except (MissingInformation, VenueError, NotFound) as error:
        message = f"the order book of {product.symbol} cannot be read: {error.message}"
        raise OrderRefused(ReasonCode.MISSING_BOOK, message) from error
    allowed = plan.max_slippage_pct
    if found.is_covered and found.pct <= allowed:
        return
    what = f"{plain(plan.base_size)} {product.base}"
    if found.is_covered or found.pct > allowed:
        message = f"{what} would fill {found.pct:.3f} % worse than the best price, allowed are {plain(allowed)} %"
    else:
        message = f"{what} is more than the {plain(found.offered)} {product.base} that the order book shows"
    raise OrderRefused(
        ReasonCode.SLIPPAGE_TOO_HIGH,
        message,
        slippage_pct=f"{found.pct:.6f}",
        allowed_pct=plain(allowed),
        best=plain(found.best),
        average=plain(quantize(found.average)),
        offered=plain(found.offered),
    )


def _intend(outcome: _Outcome, chunk: Facts) -> Order | None:
    """Write down the order of a decision; None where the deal was closed without one (dust). Raises OrderRefused."""
    decision, facts = outcome.decision, outcome.facts
    if outcome.deal is not None:
        position = outcome.deal.position
        if decision.code is ReasonCode.DUST or decision.order is None:
            execution.close_as_dust(position)
            return None
        purpose = decision.purpose
        assert purpose is not None
        return execution.intend(
            position, _intent(decision, decision.order, purpose, outcome.deal.next_sequence(purpose))
        )
    pair, direction, bot = outcome.pair, outcome.side.direction, facts.bot
    assert pair is not None
    assert decision.order is not None
    assert decision.budget_quote is not None
    assert bot.account is not None
    on_pair = (deal for deal in facts.deals if deal.position.product_id == pair.product_id)
    return execution.intend_open(
        account=bot.account,
        bot=bot,
        product=chunk.products[pair.product_id],
        direction=direction,
        frozen_settings=facts.settings.to_json(),
        settings_version=bot.settings_version,
        strategy=bot.strategy,
        budget_quote=decision.budget_quote,
        max_active_deals=facts.settings.max_active_deals,
        max_deals_per_pair=facts.settings.max_deals_per_pair,
        intent=_intent(decision, decision.order, Purpose.BASE_ORDER, 1),
        expected_active=sum(deal.direction is direction for deal in on_pair),
    )


def _intent(decision: Decision, plan: OrderPlan, purpose: Purpose, sequence: int) -> execution.Intent:
    return execution.Intent(
        purpose=purpose,
        side=plan.side,
        order_type=plan.order_type,
        base_size=plan.base_size,
        limit_price=plan.limit_price,
        levels=plan.levels,
        exit_reason=decision.exit_reason,
        sequence=sequence,
        reference_price=plan.price,
    )


def _decision_row(outcome: _Outcome, now: datetime) -> DecisionRow:
    bot, decision, side, found = outcome.facts.bot, outcome.decision, outcome.side, outcome.found
    if side.message not in found:  # it reads as before
        found = {side.message: decision.message[: memory.MESSAGE_LENGTH], side.evidence: decision.evidence}
    position = outcome.order.position if outcome.order else outcome.deal.position if outcome.deal else None
    pair = outcome.pair if outcome.deal is None else None
    return DecisionRow(
        account_id=position.account_id if position else bot.account_id or 0,  # an orphan is never looked at
        bot=bot,
        position=position,
        product_id=pair.product_id if pair else position.product_id if position else None,
        phase=outcome.phase,
        action=decision.action.value,
        code=str(decision.code),
        message=found[side.message],
        evidence=found[side.evidence],
        at=now,
    )
