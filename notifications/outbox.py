"""Events: written with the fact they speak of, pushed to open browsers after commit.

:func:`publish` is called inside the transaction that books a fill or changes a deal, so an event exists exactly when
its fact does. The push to the channel layer follows after commit and may fail without touching anything (F13): the
row is the truth, and a socket that missed a push reads it within one heartbeat (see ``notifications.consumers``).

:func:`push` is for what nobody needs to catch up on (progress of a task), :func:`close_sockets` for a person whose
access has changed: call it when a membership ends or changes, a user is deactivated or a session is ended (F54).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction
from django.db.models import Max, Q
from prometheus_client import Counter

from notifications.models import Event
from tradebot.core.decimals import plain
from tradebot.core.scoping import OwnedQuerySet, current_scope, detached

__all__ = ["close_sockets", "group_of", "publish", "push", "silenced", "visible_events"]

log = structlog.get_logger(__name__)
PUSH_TIMEOUT_SECONDS: Final = 2.0
PAUSE_AFTER_FAILURE_SECONDS: Final = 5.0
PUSHES_FAILED = Counter("tradebot_socket_pushes_failed", "Messages that the channel layer did not take.")

_silenced: ContextVar[bool] = ContextVar("tradebot_outbox_silenced", default=False)
_silent_until = 0.0  # monotonic; while the channel layer is down no worker waits for it again and again


def group_of(user_id: int) -> str:
    """Return the name of a person's channel group. There are no other groups (F54)."""
    return f"user.{user_id:d}"


@contextmanager
def silenced() -> Iterator[None]:
    """Publish nothing within this context: a replay of the past is not news."""
    token = _silenced.set(True)
    try:
        yield
    finally:
        _silenced.reset(token)


def publish(user_ids: Iterable[int], kind: str, payload: Mapping[str, Any], account_id: int | None = None) -> None:
    """Write one event of ``kind`` for each person in the caller's transaction, and push it after commit.

    ``user_ids`` says who is told: for an account's events ``accounts.access.people_of_account``. ``payload`` is made of
    JSON values, amounts, times and ids. The event of an account shows only to people who may still see that account.
    """
    people = sorted(set(user_ids))
    if not people or _silenced.get():
        return
    body = {name: _json_value(value) for name, value in payload.items()}
    with detached("events are written for everybody who may see the account"):
        # A hint that saves a read: a socket that has sent the event before this one sends this one straight away.
        latest = dict(
            Event.objects.filter(user_id__in=people)
            .order_by()
            .values("user_id")
            .annotate(last=Max("id"))
            .values_list("user_id", "last")
        )
        rows = Event.objects.bulk_create(
            Event(user_id=user_id, account_id=account_id, kind=kind, payload=body) for user_id in people
        )
    messages = [
        (
            group_of(row.user_id),
            {
                "type": "event.new",
                "id": row.pk,
                "previous": latest.get(row.user_id, 0),
                "kind": kind,
                "account_id": account_id,
                "at": row.at.isoformat(),
                "payload": body,
            },
        )
        for row in rows
    ]
    transaction.on_commit(partial(_send, messages), robust=True)


def push(user_ids: Iterable[int], kind: str, payload: Mapping[str, Any]) -> None:
    """Tell open browsers something that need not be kept; whoever is away never hears of it. Sent after commit."""
    body = {name: _json_value(value) for name, value in payload.items()}
    messages = [
        (group_of(user_id), {"type": "event.passing", "kind": kind, "payload": body}) for user_id in set(user_ids)
    ]
    transaction.on_commit(partial(_send, messages), robust=True)


def close_sockets(user_id: int) -> None:
    """Close the person's live sockets after commit; those still entitled to one sign in again by themselves (F54)."""
    transaction.on_commit(partial(_send, [(group_of(user_id), {"type": "session.revoked"})]), robust=True)


def visible_events() -> OwnedQuerySet:
    """Return the bound person's events without those of accounts that the person may no longer see."""
    scope, events = current_scope(), Event.objects.all()
    return events if scope.unlimited else events.filter(Q(account=None) | Q(account__in=sorted(scope.account_ids)))


def _send(messages: list[tuple[str, dict[str, Any]]]) -> None:
    """Give messages to the channel layer within a short time, or count and log that it did not take them."""
    global _silent_until
    if time.monotonic() < _silent_until:
        PUSHES_FAILED.inc(len(messages))
        return
    try:
        async_to_sync(_group_send)(messages)
    except Exception as error:  # noqa: BLE001 (the fact is committed: whatever goes wrong here stays here, F13)
        _silent_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
        PUSHES_FAILED.inc(len(messages))
        log.warning(
            "channel layer did not take a push", error=f"{type(error).__name__}: {error}", messages=len(messages)
        )


async def _group_send(messages: list[tuple[str, dict[str, Any]]]) -> None:
    layer = get_channel_layer()
    async with asyncio.timeout(PUSH_TIMEOUT_SECONDS):
        for group, message in messages:
            await layer.group_send(group, message)


def _json_value(value: Any) -> Any:
    """Return ``value`` in JSON's terms: amounts as plain strings, times in ISO form. Raises TypeError for others."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return plain(value)
        case date():  # and datetime
            return value.isoformat()
        case UUID():
            return str(value)
        case Mapping():
            return {str(name): _json_value(inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_json_value(inner) for inner in value]
    raise TypeError(f"an event cannot carry a {type(value).__name__}")
