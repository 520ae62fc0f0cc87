"""Taking a signal in: whatever a sender that was let in sends is stored with a verdict, and nothing is stored twice.

The two inlets, the hook and the API, end here. A signal only sets conditions; budgets, limits and rules decide as
always, and nothing here knows an order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import transaction

from bots.kept_settings import compiled
from bots.models import Bot, Signal, SignalHook
from bots.signals.models import DEFAULT_MAX_LAG, HEARD
from bots.signals.payloads import Alert, alert_of, fields_of, matching
from bots.strategies import get_strategy
from marketdata.signals import SignalKind
from positions.models import Position
from positions.states import POSITION_ACTIVE
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound, TradebotError
from tradebot.core.scoping import acting_for_account, detached

__all__ = ["ADDRESS_LIMIT", "HOOK_LIMIT", "Taken", "take", "take_from_hook", "take_payload"]

HOOK_LIMIT: Final = (60, 60)
ADDRESS_LIMIT: Final = (120, 60)
"""Most signals for one bot, most requests of one address; each within so many seconds."""

Verdict = Signal.Verdict


@dataclass(frozen=True, slots=True)
class Taken:
    """A stored signal; ``is_new`` false where its id had come before and nothing was stored."""

    signal: Signal
    is_new: bool


def take_from_hook(hook: SignalHook, body: bytes) -> Taken:
    """Take what somebody sent who knows the hook's secret, whoever may be signed in in the same browser."""
    bot = hook.bot
    assert bot.account_id is not None  # a hook of an orphan is not found
    reason = "who knows a hook's secret tells its bot something, in the scope of that bot's account and no other"
    with detached(reason), acting_for_account(bot.account_id):
        return take_payload(bot, body)


def take_payload(bot: Bot, body: bytes) -> Taken:
    """Take what a hook was sent. What cannot be read is stored as such, with the reason. In the account's scope."""
    try:
        fields = fields_of(body)
    except InvalidInput as error:
        return _take_unread(bot, {}, error)
    try:
        alert = alert_of(fields)
    except InvalidInput as error:
        return _take_unread(bot, fields, error)
    return take(bot, alert, Signal.Source.HOOK)


def take(bot: Bot, alert: Alert, source: str) -> Taken:
    """Store a signal with its verdict and return it; one whose id has come before is returned as it was stored.

    1. The moment of reception is taken from the server's clock.
    2. The bot's row is locked, so that one id is stored once and one signal is the first.
    3. Verdict, in this order: a pair the bot has, not too late, a confidence that one of its conditions asks for.

    Raises NotFound for a bot that the caller may not change, or that is archived.
    """
    now = clock.now()
    with transaction.atomic():
        bot = _locked(bot)
        if before := _sent_before(bot, alert.external_id):
            return Taken(before, is_new=False)
        product_id, verdict, reason = _judged(bot, alert, now)
        signal = Signal(
            bot=bot,
            product_id=product_id,
            pair=alert.pair,
            kind=alert.kind.value,
            action=alert.action.value if alert.action else "",
            confidence=alert.confidence,
            reasoning=alert.reasoning,
            source=source,
            external_id=alert.external_id,
            sent_at=alert.sent_at,
            received_at=now,
            verdict=verdict,
            reason=reason,
        )
        if verdict in HEARD:
            known = Signal.objects.filter(bot=bot, kind=signal.kind, product_id=product_id, is_first=True)
            signal.is_first = not known.exists()
        signal.save()
    return Taken(signal, is_new=True)


@transaction.atomic
def _take_unread(bot: Bot, fields: dict[str, Any], error: InvalidInput) -> Taken:
    bot = _locked(bot)
    kind, pair = str(fields.get("kind", "")), str(fields.get("pair") or fields.get("ticker") or "")
    known = {one.value for one in SignalKind}
    signal = Signal(
        bot=bot,
        pair=pair[:60] if pair.isprintable() else "",
        kind=kind if kind in known else SignalKind.WEBHOOK.value,
        source=Signal.Source.HOOK,
        received_at=clock.now(),
        verdict=Verdict.BAD,
        reason=error.message[:300],
    )
    signal.save()
    return Taken(signal, is_new=True)


def _locked(bot: Bot) -> Bot:
    rows = Bot.objects.select_for_update(of=("self",), no_key=True).editable()
    found: Bot | None = rows.filter(pk=bot.pk, archived_at__isnull=True).first()
    if found is None:
        raise NotFound(message="There is no such bot.")
    return found


def _sent_before(bot: Bot, external_id: str) -> Signal | None:
    if not external_id:
        return None
    found: Signal | None = Signal.objects.filter(bot=bot, external_id=external_id).first()
    return found


# Verdicts -----------------------------------------------------------------------------------------------------------


def _judged(bot: Bot, alert: Alert, now: datetime) -> tuple[int | None, str, str]:
    """Return the pair's product (None: all), the verdict and its reason in words."""
    pairs = dict(bot.bot_products.filter(enabled=True).order_by("pk").values_list("product__symbol", "product_id"))
    product_id: int | None = None
    if not alert.every_pair:
        symbol = matching(alert.pair, pairs) if alert.pair else next(iter(pairs)) if len(pairs) == 1 else None
        if symbol is None:
            return None, Verdict.UNKNOWN_PAIR, _no_such_pair(alert, list(pairs))
        product_id = pairs[symbol]
    if late := _late(bot, alert, now):
        return product_id, *late
    if doubt := _doubt(bot, alert):
        return product_id, Verdict.LOW_CONFIDENCE, doubt
    return product_id, Verdict.ACCEPTED, ""


def _no_such_pair(alert: Alert, pairs: list[str]) -> str:
    has = f"{', '.join(pairs[:5])}{' …' if len(pairs) > 5 else ''}" if pairs else "none"
    if alert.pair:
        return f"{alert.pair} is no pair of this bot; it has {has}."
    return f"It names no pair, and the bot has {len(pairs)} ({has}). Name one, or say all."


def _late(bot: Bot, alert: Alert, now: datetime) -> tuple[str, str] | None:
    """Return verdict and reason when the time of sending speaks against the signal; one without a time passes."""
    if alert.sent_at is None:
        return None
    most = SignalHook.objects.filter(bot=bot).values_list("max_lag_seconds", flat=True).first() or DEFAULT_MAX_LAG
    lag = (now - alert.sent_at).total_seconds()
    if lag > most:
        return Verdict.TOO_LATE, f"It was under way for {lag:,.0f} s; {most:,} s are allowed."
    if lag < -most:
        return Verdict.BAD, f"It says that it was sent {-lag:,.0f} s from now; one of the two clocks is wrong."
    return None


def _doubt(bot: Bot, alert: Alert) -> str:
    """Return why a model's signal meets none of the bot's conditions, empty when it may meet one or none asks."""
    if alert.kind is SignalKind.WEBHOOK or alert.confidence is None:
        return ""
    least = min(_asked_confidences(bot, alert.kind), default=None)
    if least is None or alert.confidence >= least:
        return ""
    return f"Its confidence is {alert.confidence:g}; the conditions of this bot ask for {least:g} or more."


def _asked_confidences(bot: Bot, kind: SignalKind) -> Iterator[float]:
    """Yield what the conditions of the bot and those frozen in its open deals ask of signals of this kind (F43)."""
    deals = Position.objects.filter(bot=bot, status__in=POSITION_ACTIVE)
    rows = [("bot", bot), *(("deal", deal) for deal in deals.only("strategy", "settings_version", "settings"))]
    for name, row in rows:
        try:
            strategy = get_strategy(row.strategy)
            settings = compiled(name, row.pk, row.settings_version, strategy, row.settings)
        except TradebotError:
            continue  # what cannot be read asks for nothing; the cycle reports it to the owner
        asked = strategy.required_signals(settings).get(kind.value)
        if asked is not None:
            yield asked.least_confidence
