"""The monitor cycle: look at every bot that is due, decide, and act for the few that trade.

1. ``dispatch`` claims due bots: their next look is moved into the future and that is committed before anybody works on
   them, so a bot is never handed out twice and one that raises cannot block the rest (F2, F67). It hands them out
   grouped by account, in chunks.
2. ``run_chunk`` takes the lease of each account, so one worker at a time looks at an account; what somebody else has
   leased is left to the next look (F1).
3. A chunk is processed in stages with a constant number of queries: load the facts (``bots.loading``), build one market
   view per product (``bots.market_views``), decide (``bots.deciding``, no queries), act, write what changed in bulk.
4. Acting is sequential within a bot and on fresh facts: exits and adds first, in the order of the deals, then opens in
   the order of the pairs. A deal gets one order a look, and a pair whose deal ended in this look rests until the next.
   So a look that was cut off by ``kill -9`` and is done again at the same moment ends in the same state (F14). The
   steps are here; what each takes, its checks and its order, is in ``bots.acting``.
5. A decision may name resting orders that have to go first. They are cancelled, their final state is known, and then
   all is decided again (F19): a cancel is no order. While the venue has not confirmed it, nothing else is done (F5).

The lease and the claim only keep work apart. That an order is never doubled rests on the order protocol
(``positions.execution``), not on them.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q

from accounts import balances
from accounts.models import Account
from bots import acting, loading, market_views, memory
from bots.deciding import Outcome, decide
from bots.facts import BotFacts, Facts
from bots.models import Bot, BotProduct
from bots.models import Decision as DecisionRow
from bots.strategies.base import Action, MarketView, ReasonCode
from marketdata import sources
from positions import execution
from positions.models import Position
from positions.reconcile import settle_waiting
from positions.states import POSITION_ACTIVE
from tradebot.core import clock, scoping, stopping
from tradebot.core.errors import OrderRefused, TradebotError
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
JUST_ASKED = timedelta(seconds=1)
WHILE_SHORT = timedelta(seconds=10)
"""How old an exchange's balances may be for a bot that is about to act, and for one that lacks the money to."""
SHORT_OF_MONEY = frozenset(
    {ReasonCode.INSUFFICIENT_BALANCE, ReasonCode.MISSING_BALANCE, ReasonCode.MISSING_BUDGET, ReasonCode.NO_BUDGET}
)
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


@dataclass(slots=True)
class _Look:
    """One look at a chunk of bots. ``outcomes`` are those that are to be written at its end.

    ``live`` are the accounts on an exchange: what they hold has to be asked for before their money is spent.
    """

    bot_ids: list[int]
    now: datetime
    live: frozenset[int]
    outcomes: list[Outcome] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    orders: int = 0

    def run(self) -> ChunkResult:
        chunk = loading.load(self.bot_ids, self.now)
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
            outcomes = decide(facts, chunk)
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

    def _act(self, bot_id: int, views: Mapping[int, MarketView]) -> list[Outcome]:
        """Decide again on fresh facts, one step at a time, and carry out what is decided."""
        done: dict[Any, Outcome] = {}
        while True:
            chunk = loading.load([bot_id], self.now)
            chunk.see(views)
            if stopping.is_stopping():  # the next look, after the restart, goes on where this one was (F70)
                return list(done.values())
            fresh = {outcome.key: outcome for outcome in decide(chunk.bots[bot_id], chunk)}
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

    def _step(self, todo: Outcome, chunk: Facts) -> bool:
        """Carry out a decision, or what has to be cancelled before it; False when all is to be decided again then."""
        cancelled, cancels = acting.cancel(todo), todo.decision.action is Action.CANCEL
        if cancelled:
            if cancels:
                _decision_row(todo, self.now).save()
            return False
        if cancels or cancelled is False:
            todo.decision = acting.unconfirmed(todo.decision)
        else:
            self._carry_out(todo, chunk)
        return True

    def _carry_out(self, outcome: Outcome, chunk: Facts) -> None:
        """Intend and submit the order of a decision; a refusal becomes the decision's reason.

        What the decision wants remembered is committed with the intent: a crossing that was acted on is spent, and a
        trail has moved, exactly when the order exists (F14, F38).
        """
        try:
            acting.check_rejections(outcome, chunk)
            acting.check_slippage(outcome, chunk)
            with transaction.atomic():
                outcome.order = acting.intend(outcome, chunk)
                acting.check_judged(outcome)
                outcome.note(self.now, self.now)
                _remember([outcome])
                _decision_row(outcome, self.now).save()
        except OrderRefused as refusal:
            outcome.order = None
            outcome.decision = acting.refused(outcome.decision, refusal)
            return
        outcome.written = True
        if outcome.order is not None:
            self.orders += 1
            execution.submit(outcome.order)

    # Writing ----------------------------------------------------------------------------------------------------------

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


def _remember(outcomes: Iterable[Outcome]) -> None:
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


def _refresh(outcomes: Iterable[Outcome], facts: BotFacts) -> None:
    """Put the pairs' present rows into what is still to be written: the other side of a pair may have acted since."""
    rows = {pair.pk: pair for pair in facts.pairs}
    for outcome in outcomes:
        if outcome.pair is not None and not outcome.written:
            outcome.pair = rows.get(outcome.pair.pk, outcome.pair)


def _decision_row(outcome: Outcome, now: datetime) -> DecisionRow:
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
