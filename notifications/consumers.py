"""The browser's socket: pushes a person's events in order, once each, and hands over what was missed.

Rules, all checked here:

1. Only a known person gets anything: by session cookie, or by a ticket sent as the first message within a few
   seconds.
2. A socket joins its person's group and no other (F54). An event of a shared account goes out only while the person
   may still see that account, asked at the moment of sending.
3. Events go out by rising id. A push carries the id of the person's event before it; when that is not the last one
   sent (a push was lost, or the process died between commit and push) the socket reads what is missing from the
   database. Every heartbeat of the browser does the same, so nothing is missed for longer than one heartbeat.
4. On PostgreSQL a transaction may commit after one with higher ids. A read therefore goes back a little further than
   the last id and leaves out what was sent.
5. Whoever is signed out, deactivated or shut out loses the socket: at once by ``session.revoked``, at the latest with
   the next heartbeat; a socket without heartbeats is closed.

Messages from the browser: ``{"type": "ticket", "ticket": …}``, ``{"type": "resume", "last_id": N, "seen": [ids]}``
and ``{"type": "ping", "last_id": N}``. To the browser: ``hello``, ``pong``, ``reload`` (missed too much to replay),
and events as ``{"type": kind, "id": N, "at": …, **payload}``.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.apps import apps
from django.db.models import Max, Q
from redis.exceptions import RedisError

from notifications.models import Event
from notifications.outbox import group_of, visible_events
from notifications.tickets import Proof, redeem
from tradebot.core import clock
from tradebot.core.scoping import Scope, bound

__all__ = ["EventConsumer"]

log = structlog.get_logger(__name__)
T = TypeVar("T")

TICKET_WAIT_SECONDS: Final = 5
HEARTBEAT_SECONDS: Final = 30
SILENCE_SECONDS: Final = 3 * HEARTBEAT_SECONDS
REPLAY_LIMIT: Final = 500
LATE_IDS: Final = 1000
LATE_COMMIT: Final = timedelta(seconds=30)
MESSAGES_PER_TEN_SECONDS: Final = 30
LONGEST_MESSAGE: Final = 32_768
MAX_ID: Final = 2**63 - 1
LAYER_ERRORS: Final = (OSError, TimeoutError, RedisError)

# Close codes. A browser asks for a new sign-in after 4401 and reconnects after the others.
BAD_MESSAGE: Final = 4400
SIGNED_OUT: Final = 4401
SILENT: Final = 4408
ACCESS_CHANGED: Final = 4409
TOO_MANY_MESSAGES: Final = 4429
TRY_LATER: Final = 1013


class _Bad(ValueError):
    """A message that the protocol does not know; ``code`` closes the socket."""

    def __init__(self, why: str, code: int = BAD_MESSAGE) -> None:
        super().__init__(why)
        self.code = code


class EventConsumer(AsyncJsonWebsocketConsumer):
    """One open socket. Its handlers run one after another, never two at a time.

    ``scope_of`` tells which accounts a user may see; the project that stands around the apps supplies it.
    """

    def __init__(self, scope_of: Callable[[Any], Scope]) -> None:
        super().__init__()
        self._scope_of = scope_of
        self._proof: Proof | None = None
        self._own_accounts: frozenset[int] = frozenset()
        self._started_at = -1  # everything after this id is this socket's to send; below zero before the start
        self._last_id = 0
        self._assumed: frozenset[int] = frozenset()  # recent ids that the browser has from elsewhere
        self._sent: OrderedDict[int, None] = OrderedDict()  # recent ids that went out here
        self._closing = False
        self._deadline: asyncio.TimerHandle | None = None
        self._arrivals: deque[float] = deque(maxlen=MESSAGES_PER_TEN_SECONDS)

    # The socket's life -----------------------------------------------------------------------------------------------

    async def connect(self) -> None:
        user = self.scope.get("user")
        await self.accept()
        if user is not None and user.is_authenticated:
            await self._begin(Proof.of_session(user, self.scope["session"].session_key))
        else:
            self._close_unless_heard_within(TICKET_WAIT_SECONDS, SIGNED_OUT)

    async def disconnect(self, code: int) -> None:
        self._closing = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._proof is not None:
            try:
                await self.channel_layer.group_discard(group_of(self._proof.user_id), self.channel_name)
            except LAYER_ERRORS as error:  # its memory of this socket runs out by itself
                log.info("socket left while the channel layer is away", error=str(error))

    def _close_unless_heard_within(self, seconds: float, code: int) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(seconds, lambda: loop.create_task(self._close(code)))

    async def _close(self, code: int) -> None:
        if not self._closing:
            self._closing = True
            await self.close(code=code)

    # What the browser says -------------------------------------------------------------------------------------------

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        if self._closing:
            return
        try:
            self._count_message()
            await self._answer(_parse(text_data))
        except _Bad as bad:
            await self._close(bad.code)

    def _count_message(self) -> None:
        now = asyncio.get_running_loop().time()
        if len(self._arrivals) == MESSAGES_PER_TEN_SECONDS and now - self._arrivals[0] < 10:
            raise _Bad("too many messages", TOO_MANY_MESSAGES)
        self._arrivals.append(now)

    async def _answer(self, content: dict[str, Any]) -> None:
        kind = content.get("type")
        if self._proof is None:
            ticket = content.get("ticket") if kind == "ticket" else None
            proof = await database_sync_to_async(redeem)(ticket) if isinstance(ticket, str) else None
            if proof is None:
                raise _Bad("not signed in", SIGNED_OUT)
            await self._begin(proof)
        elif kind == "resume":
            await self._go_back_to(_an_id(content.get("last_id")), _ids(content.get("seen")))
            await self._catch_up()
        elif kind == "ping":
            await self._heartbeat(_an_id(content.get("last_id", self._last_id)))
        else:
            raise _Bad("unknown type")

    async def _begin(self, proof: Proof) -> None:
        """Join the group, then read where the person's events stand: nothing falls between the two."""
        self._proof = proof
        latest = await self._ask(_latest) if await self._join() else None
        if latest is None:
            await self._close(SIGNED_OUT)
            return
        self._started_at = self._last_id = latest
        self._assumed = await self._known_up_to(latest)
        self._close_unless_heard_within(SILENCE_SECONDS, SILENT)
        await self.send_json({"type": "hello", "last_id": latest, "heartbeat_seconds": HEARTBEAT_SECONDS})

    async def _heartbeat(self, last_id: int) -> None:
        """Ask again who this is, renew the group (a restarted channel layer forgot it), send what is missing."""
        self._close_unless_heard_within(SILENCE_SECONDS, SILENT)
        if not await self._join():
            return
        if last_id < self._started_at:
            await self._go_back_to(last_id, None)
        if await self._catch_up():
            await self.send_json({"type": "pong", "last_id": self._last_id, "at": clock.now().isoformat()})

    async def _join(self) -> bool:
        assert self._proof is not None
        try:
            await self.channel_layer.group_add(group_of(self._proof.user_id), self.channel_name)
        except LAYER_ERRORS as error:
            log.warning("channel layer did not take a socket", error=str(error))
            await self._close(TRY_LATER)
        return not self._closing

    # What the channel layer brings -----------------------------------------------------------------------------------

    async def event_new(self, message: dict[str, Any]) -> None:
        """An event was committed. The next one of an own account goes straight out, anything else is read with care."""
        if self._started_at < 0 or self._closing or self._is_sent(message["id"]):
            return
        own = message["account_id"] is None or message["account_id"] in self._own_accounts
        if own and message["previous"] == self._last_id < message["id"]:
            await self._send_event(message["id"], message["kind"], message["at"], message["payload"])
        else:
            await self._catch_up()

    async def event_passing(self, message: dict[str, Any]) -> None:
        if self._started_at >= 0 and not self._closing:
            await self.send_json({**message["payload"], "type": message["kind"]})

    async def session_revoked(self, message: dict[str, Any]) -> None:
        """Somebody's access changed: a browser that is still welcome comes back and gets what it may see now."""
        await self._close(ACCESS_CHANGED)

    # Reading and sending ---------------------------------------------------------------------------------------------

    async def _go_back_to(self, last_id: int, seen: frozenset[int] | None) -> None:
        """Let what came after ``last_id`` be due, except what went out here; never moves forward.

        Of the ids up to ``last_id`` the browser has those in ``seen``, or all of them where it does not say.
        """
        self._started_at = self._last_id = min(last_id, self._last_id)
        self._assumed = await self._known_up_to(self._last_id) if seen is None else seen

    async def _catch_up(self) -> bool:
        """Send every event that is due. Returns whether the socket is still open."""
        due = await self._ask(self._read_due)
        if due is None:
            await self._close(SIGNED_OUT)
            return False
        if len(due) > REPLAY_LIMIT:
            self._last_id = await self._ask(_latest) or self._last_id
            self._assumed = await self._known_up_to(self._last_id)
            await self.send_json({"type": "reload", "last_id": self._last_id})
            return True
        for event in due:
            await self._send_event(event.pk, event.kind, event.at.isoformat(), event.payload)
        self._last_id = max(self._last_id, next(reversed(self._sent), 0))
        return True

    def _read_due(self) -> list[Event]:
        recent = Q(id__gt=self._last_id - LATE_IDS, at__gte=clock.now() - LATE_COMMIT)
        found = visible_events().filter(Q(id__gt=self._last_id) | recent).order_by("id")
        return [event for event in found[: REPLAY_LIMIT + LATE_IDS + 1] if not self._is_sent(event.pk)]

    async def _known_up_to(self, last_id: int) -> frozenset[int]:
        rows = await self._ask(
            lambda: list(Event.objects.filter(id__gt=last_id - LATE_IDS, id__lte=last_id).values_list("id", flat=True))
        )
        return frozenset(rows or ())

    def _is_sent(self, event_id: int) -> bool:
        return event_id in self._sent or event_id in self._assumed

    async def _send_event(self, event_id: int, kind: str, at: str, payload: dict[str, Any]) -> None:
        self._last_id = max(self._last_id, event_id)
        self._sent[event_id] = None
        while len(self._sent) > LATE_IDS:
            self._sent.popitem(last=False)
        await self.send_json({"at": at, **payload, "type": kind, "id": event_id})

    async def _ask(self, question: Callable[[], T]) -> T | None:
        """Answer ``question`` in the person's scope as it is now. None when the person may not be here any more."""
        return await database_sync_to_async(self._ask_now)(question)

    def _ask_now(self, question: Callable[[], T]) -> T | None:
        user = self._proof.person() if self._proof is not None else None
        if user is None:
            return None
        with bound(self._scope_of(user)):
            owned = apps.get_model("accounts", "Account").objects.filter(owner=user.pk)
            self._own_accounts = frozenset(owned.values_list("pk", flat=True))
            return question()


def _latest() -> int:
    return visible_events().aggregate(last=Max("id"))["last"] or 0


def _parse(text: str | None) -> dict[str, Any]:
    try:
        content = json.loads(text) if text and len(text) <= LONGEST_MESSAGE else None
    except (ValueError, RecursionError) as error:
        raise _Bad("not JSON") from error
    if not isinstance(content, dict):
        raise _Bad("a message is a JSON object")
    return content


def _an_id(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ID:
        raise _Bad("an id is a whole number")
    return value


def _ids(value: Any) -> frozenset[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > LATE_IDS:
        raise _Bad("seen is a list of ids")
    return frozenset(_an_id(one) for one in value)
