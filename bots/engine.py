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

The lease and the claim only keep work apart. That an order is never doubled rests on the order protocol
(``positions.execution``), not on them.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Q

from accounts.models import Account
from bots import facts as bot_facts
from bots import market_views
from bots.facts import BotFacts, Deal, Facts
from bots.models import Bot, BotProduct
from bots.models import Decision as DecisionRow
from bots.strategies.base import Action, Decision, MarketView, ReasonCode
from marketdata import sources
from positions import execution
from positions.models import Order, Position
from positions.states import EXIT_PURPOSES, FINAL, POSITION_ACTIVE, Purpose
from tradebot.core import clock, scoping
from tradebot.core.errors import OrderRefused
from tradebot.core.models import GlobalSettings

__all__ = ["ChunkResult", "active_bots", "claim_due", "dispatch", "run_chunk"]

log = structlog.get_logger(__name__)

CHUNK_BOTS = 1000
CLAIM_LIMIT = 10_000
LEASE = timedelta(seconds=45)
REFRESH_NUMBERS = timedelta(minutes=15)
"""The same reason with other numbers is written this often; pages work the numbers of this moment out themselves."""
REMEMBERED = ["last_code", "last_message", "last_evidence", "last_changed_at", "evaluated_until"]
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
    """Claim what is due and ``send`` it in chunks, an account never split over two. Returns the number of bots."""
    claimed = claim_due(now or clock.now())
    chunk: Chunk = {}
    for account_id, bot_ids in sorted(claimed.items()):
        if chunk and sum(map(len, chunk.values())) + len(bot_ids) > CHUNK_BOTS:
            send(chunk)
            chunk = {}
        chunk[account_id] = bot_ids
    if chunk:
        send(chunk)
    return sum(map(len, claimed.values()))


# 2. Leasing ---------------------------------------------------------------------------------------------------------


def _lease(account_ids: Iterable[int], token: str, now: datetime) -> set[int]:
    """Take the leases that are free (or already ours) and return the ids of the accounts now leased by ``token``."""
    with scoping.acting_for_accounts(account_ids), transaction.atomic():
        free = Q(lease_until__isnull=True) | Q(lease_until__lte=now) | Q(lease_token=token)
        Account.objects.filter(free).update(lease_token=token, lease_until=now + LEASE)
        return set(Account.objects.filter(lease_token=token, lease_until__gt=now).values_list("pk", flat=True))


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
            return _Look([pk for account_id in leased for pk in chunk[account_id]], moment).run()
    finally:
        _release(leased, token)


@dataclass(slots=True)
class _Outcome:
    """A decision about a deal or a pair, as it is to be written down."""

    facts: BotFacts
    decision: Decision
    pair: BotProduct | None = None
    deal: Deal | None = None
    order: Order | None = None
    written: bool = False

    @property
    def acts(self) -> bool:
        return self.decision.action is not Action.NONE

    @property
    def target(self) -> Position | BotProduct:
        """The row that remembers the decision."""
        if self.deal is not None:
            return self.deal.position
        assert self.pair is not None
        return self.pair

    @property
    def remembered(self) -> list[str]:
        return REMEMBERED if self.deal is None else [*REMEMBERED, "trail"]

    @property
    def key(self) -> tuple[str, int]:
        """What it is about: a deal or a pair."""
        if self.deal is not None:
            return "deal", self.deal.position.pk
        assert self.pair is not None
        return "pair", self.pair.pk

    @property
    def phase(self) -> str:
        if self.deal is None:
            return "open"
        return "add" if self.decision.action is Action.ADD else "close"


@dataclass(slots=True)
class _Look:
    """One look at a chunk of bots."""

    bot_ids: list[int]
    now: datetime
    outcomes: list[_Outcome] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    orders: int = 0

    def run(self) -> ChunkResult:
        chunk = bot_facts.load(self.bot_ids, self.now)
        views = market_views.build(chunk.products, chunk.wanted_series(), self.now)
        for facts in chunk.bots.values():
            self._look_at(facts, chunk, views)
        self._write(chunk)
        return ChunkResult(bots=len(chunk.bots), orders=self.orders, failed=len(self.problems))

    def _look_at(self, facts: BotFacts, chunk: Facts, views: Mapping[int, MarketView]) -> None:
        """Decide about one bot and act if it trades. Whatever goes wrong stays with this bot (F67)."""
        known = len(self.outcomes)
        try:
            if facts.problem:
                self.problems[facts.bot.pk] = facts.problem[:300]
            outcomes = _decide(facts, chunk, views, self.now)
            if any(outcome.acts for outcome in outcomes):
                account_id = facts.bot.account_id
                assert account_id is not None
                with scoping.acting_for_account(account_id):
                    outcomes = self._act(facts.bot.pk, views)
            self.outcomes += outcomes
        except Exception as error:
            del self.outcomes[known:]
            self.problems[facts.bot.pk] = f"{type(error).__name__}: {error}"[:300]
            log.exception("bot failed", bot=facts.bot.pk, account=facts.bot.account_id)

    # 4. Acting --------------------------------------------------------------------------------------------------------

    def _act(self, bot_id: int, views: Mapping[int, MarketView]) -> list[_Outcome]:
        """Decide again on fresh facts, one step at a time, and carry out what is decided."""
        done: dict[tuple[str, int], _Outcome] = {}
        while True:
            chunk = bot_facts.load([bot_id], self.now)
            fresh = {outcome.key: outcome for outcome in _decide(chunk.bots[bot_id], chunk, views, self.now)}
            left = {key: outcome for key, outcome in fresh.items() if key not in done}
            todo = next((outcome for outcome in left.values() if outcome.acts), None)
            if todo is None:
                return [*done.values(), *left.values()]
            if not _clear_the_way(todo):
                done[todo.key] = self._carry_out(todo, chunk)

    def _carry_out(self, outcome: _Outcome, chunk: Facts) -> _Outcome:
        """Intend and submit the order of a decision; a refusal becomes the decision's reason.

        What the decision wants remembered is committed with the intent: a crossing that was acted on is spent, and a
        trail has moved, exactly when the order exists (F14, F38).
        """
        try:
            with transaction.atomic():
                outcome.order = _intend(outcome, chunk)
                self._note(outcome)
                outcome.target.save(update_fields=outcome.remembered)
                _decision_row(outcome, self.now).save()
        except OrderRefused as refusal:
            outcome.order = None
            outcome.decision = replace(
                outcome.decision,
                action=Action.NONE,
                code=refusal.code,  # type: ignore[arg-type]  # codes of refusals and of reasons are one vocabulary on screen
                message=refusal.message,
                evidence={name: str(value) for name, value in refusal.detail.items()},
            )
            return outcome
        outcome.written = True
        if outcome.order is not None:
            self.orders += 1
            execution.submit(outcome.order)
        return outcome

    # 5. Writing -------------------------------------------------------------------------------------------------------

    def _note(self, outcome: _Outcome) -> bool:
        """Take over from the decision what its deal or pair remembers; return whether that is to be written.

        A reason is written when it changes or was acted on, not on every look (F68).
        """
        target, decision = outcome.target, outcome.decision
        message, dirty = decision.message[:400], False
        aged = target.last_changed_at is None or self.now - target.last_changed_at >= REFRESH_NUMBERS
        if target.last_code != decision.code or outcome.acts or (aged and target.last_message != message):
            target.last_code, target.last_message = str(decision.code), message
            target.last_evidence, target.last_changed_at = decision.evidence, self.now
            dirty = True
        if decision.evaluated_until is not None and target.evaluated_until != decision.evaluated_until:
            target.evaluated_until, dirty = decision.evaluated_until, True
        if isinstance(target, Position) and decision.trail is not None and target.trail != decision.trail.to_json():
            target.trail, dirty = decision.trail.to_json(), True
        return dirty

    def _write(self, chunk: Facts) -> None:
        """Write in bulk what changed and was not written when it was acted on."""
        left = [outcome for outcome in self.outcomes if not outcome.written]
        rows = [_decision_row(o, self.now) for o in left if o.target.last_code != o.decision.code]
        changed = [outcome.target for outcome in left if self._note(outcome)]
        with transaction.atomic():
            DecisionRow.objects.bulk_create(rows)
            pairs = [target for target in changed if isinstance(target, BotProduct)]
            BotProduct.objects.bulk_update(pairs, REMEMBERED, batch_size=200)
            positions = [target for target in changed if isinstance(target, Position)]
            Position.objects.bulk_update(positions, [*REMEMBERED, "trail"], batch_size=200)
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


# Deciding -----------------------------------------------------------------------------------------------------------


def _decide(facts: BotFacts, chunk: Facts, views: Mapping[int, MarketView], now: datetime) -> list[_Outcome]:
    """Return what is to be done about each deal, then about each pair, of one bot. No queries, no effects."""
    bot, outcomes = facts.bot, []
    assert bot.account_id is not None
    for deal in facts.deals:
        if deal.strategy is None or any(order.created_at >= now for order in deal.orders):
            continue  # one order a look
        view = views.get(deal.position.product_id)
        if view is None:
            continue
        decision = deal.strategy.manage(
            deal.settings, chunk.deal_view(deal), view, now, chunk.fee_rates[bot.account_id]
        )
        outcomes.append(_Outcome(facts, decision, deal=deal))
    if not bot.is_running or facts.strategy is None:
        return outcomes
    opened_now = {deal.position.product_id for deal in facts.deals if deal.position.created_at >= now}
    for pair in facts.pairs:
        if pair.product_id in opened_now or (bot.pk, pair.product_id) in chunk.ended_now:
            continue
        view = views.get(pair.product_id)
        if view is None:
            continue
        decision = facts.strategy.decide_open(facts.settings, view, chunk.open_context(facts, pair, views, now))
        outcomes.append(_Outcome(facts, decision, pair=pair))
    return outcomes


def _intend(outcome: _Outcome, chunk: Facts) -> Order | None:
    """Write down the order of a decision; None where the deal was closed without one (dust). Raises OrderRefused."""
    decision, facts = outcome.decision, outcome.facts
    if outcome.deal is not None:
        position = outcome.deal.position
        if decision.code == ReasonCode.DUST or decision.order is None:
            execution.close_as_dust(position)
            return None
        purpose = decision.purpose
        assert purpose is not None
        return execution.intend(position, _intent(decision, purpose, outcome.deal.next_sequence(purpose)))
    assert outcome.pair is not None
    assert decision.direction is not None
    assert decision.budget_quote is not None
    bot = facts.bot
    assert bot.account is not None
    return execution.intend_open(
        account=bot.account,
        bot=bot,
        product=chunk.products[outcome.pair.product_id],
        direction=decision.direction,
        frozen_settings=bot.settings,
        settings_version=bot.settings_version,
        strategy=bot.strategy,
        budget_quote=decision.budget_quote,
        max_active_deals=facts.settings.max_active_deals,
        max_deals_per_pair=facts.settings.max_deals_per_pair,
        intent=_intent(decision, Purpose.BASE_ORDER, 1),
        expected_active=sum(deal.position.product_id == outcome.pair.product_id for deal in facts.deals),
    )


def _clear_the_way(outcome: _Outcome) -> bool:
    """Cancel a resting close that a protective exit replaces (F19, F21); True when all has to be decided again."""
    plan, deal = outcome.decision.order, outcome.deal
    if plan is None or deal is None or not plan.replaces_resting_close:
        return False
    resting = [order for order in deal.working if order.purpose in EXIT_PURPOSES]
    ended = [execution.cancel(order, "bot").status in FINAL for order in resting]
    # An unknown answer leaves the close working; then the intent is refused by the one-close rule and tried next look.
    return bool(ended) and all(ended)


def _intent(decision: Decision, purpose: Purpose, sequence: int) -> execution.Intent:
    plan = decision.order
    assert plan is not None
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
    bot, decision = outcome.facts.bot, outcome.decision
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
        message=decision.message[:400],
        evidence=decision.evidence,
        at=now,
    )
