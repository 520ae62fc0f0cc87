"""Doing what a person asks for once, however often it is asked: double click, refresh, retry after a lost answer.

Every acting form carries a one-time field, and a program may send an ``Idempotency-Key``. Both are a *key*: a row of
the person for one address (``ActionKey``), kept for :data:`KEPT` with the answer.

1. **Claim.** The row is inserted before anything is done; uniqueness lets one request through. A repeat gets the stored
   answer, or is told that the first one is still at it. The same key with another body is refused.
2. **Act.** Services say what they do by :func:`acted`, inside the very transaction that does it. That statement also
   proves that the claim still holds, so a claim that was taken over writes nothing: a process that was only slow cannot
   double what its successor does.
3. **Answer.** The answer is stored. A refusal that did nothing gives the key back, so that it may be tried again.

A process that dies in between leaves a row without an answer and a lease that runs out. What the row says was done
decides then: nothing, and a repeat carries it out anew; something, and nothing is done again, the repeat is told what
that was (an order that was written down is settled by reconciliation, whoever asked for it). As a claim with anything
done is never taken over, its lease is no more than how long repeats are told to wait.

The pages' side is in ``tradebot.core.once_pages``, the API's in ``tradebot.core.once_api``.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import structlog
from django.db import transaction
from django.db.models import TextField, Value
from django.db.models.functions import Concat

from tradebot.core import clock
from tradebot.core.errors import Conflict, InvalidInput
from tradebot.core.models import ActionKey
from tradebot.core.scoping import all_accounts, detached

__all__ = [
    "KEPT",
    "LEASE",
    "Busy",
    "Claim",
    "CutOff",
    "Finished",
    "Reused",
    "acted",
    "checked_key",
    "claim",
    "digest_of",
    "prune",
    "register",
    "told",
]

log = structlog.get_logger(__name__)

KEPT: Final = timedelta(hours=24)
LEASE: Final = timedelta(seconds=60)
"""A claim that has said nothing for so long may belong to a process that died."""
KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
_TRIES: Final = 5


# What became of a claim -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Claim:
    """The right to carry a request out. ``token`` tells this claim from a later one of the same key."""

    pk: int
    token: uuid.UUID
    is_open: bool = field(default=True, init=False)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Let :func:`acted` write to this claim."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)

    def finish(self, status: int, answer: Mapping[str, Any]) -> None:
        """Store the answer for repeats: an HTTP ``status`` and what it consists of, as JSON values."""
        self.is_open = False
        if not self._row.update(finished_at=clock.now(), status=status, answer=dict(answer)):
            log.warning("once.claim_lost", key=self.pk)

    def finish_if_done(self, status: int, answer: Mapping[str, Any]) -> None:
        """Store the answer where something was done; otherwise give the key back: it may be tried again."""
        with transaction.atomic():
            if self._row.filter(did="").delete()[0]:
                self.is_open = False
                return
        self.finish(status, answer)

    def broke(self) -> None:
        """Note that no answer will come: what was done counts, and where nothing was the key is free again."""
        self.is_open = False
        with transaction.atomic():
            if not self._row.filter(did="").delete()[0]:
                self._row.update(lease_until=clock.now())

    @property
    def _row(self) -> Any:
        return ActionKey.objects.filter(pk=self.pk, claim=self.token, finished_at__isnull=True)


@dataclass(frozen=True, slots=True)
class Finished:
    """It was carried out before: the answer then."""

    status: int
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Busy:
    """It is being carried out, or its process has only just died."""


@dataclass(frozen=True, slots=True)
class Reused:
    """The key was used for something else."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """It was begun, did something, and never came to its answer."""

    did: tuple[str, ...]

    @property
    def message(self) -> str:
        """Return what is known about it, in words."""
        done = "; ".join(told(self.did))
        return f"This was begun before and has not come to an answer, so it is not done again. What it did: {done}."


_current: ContextVar[Claim | None] = ContextVar("tradebot_once", default=None)


# Asking ---------------------------------------------------------------------------------------------------------------


def checked_key(key: str) -> str:
    """Return the key if it can be one. Raises InvalidInput."""
    if not KEY.fullmatch(key):
        words = "A key has 1 to 200 visible ASCII characters."
        raise InvalidInput("bad_idempotency_key", words, field="Idempotency-Key")
    return key


def digest_of(parts: Iterable[bytes]) -> str:
    """Return what tells one body from another: of each part its length and its bytes."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()


def claim(user_id: int, route: str, key: str, digest: str) -> Claim | Finished | Busy | Reused | CutOff:
    """Claim the key of this person and address, or return what stands in the way. Call outside of any transaction.

    The bound scope is the person's.
    """
    route = route if len(route) <= 200 else digest_of([route.encode()])
    for _ in range(_TRIES):
        now, token = clock.now(), uuid.uuid4()
        row = ActionKey(
            user_id=user_id,
            route=route,
            key=key,
            digest=digest,
            claim=token,
            started_at=now,
            lease_until=now + LEASE,
        )
        with transaction.atomic(durable=True):
            ActionKey.objects.bulk_create([row], ignore_conflicts=True)
        found = ActionKey.objects.filter(user_id=user_id, route=route, key=key).first()
        if found is None:
            continue  # given back or pruned a moment ago
        if found.claim == token:
            return Claim(found.pk, token)
        if found.started_at <= now - KEPT:
            ActionKey.objects.filter(pk=found.pk, claim=found.claim).delete()
            continue
        if found.digest != digest:
            return Reused()
        if found.finished_at is not None:
            return Finished(found.status, found.answer)
        if found.lease_until > now:
            return Busy()
        if found.did:
            return CutOff(tuple(found.did.splitlines()))
        same = ActionKey.objects.filter(pk=found.pk, claim=found.claim, did="", finished_at__isnull=True)
        if same.filter(lease_until=found.lease_until).update(claim=token, lease_until=now + LEASE):
            log.warning("once.taken_over", key=found.pk, route=route)
            return Claim(found.pk, token)
    return Busy()


# Acting ---------------------------------------------------------------------------------------------------------------


def acted(kind: str, what: object) -> None:
    """Say that something is done, inside the transaction that does it: ``acted("order", 12)``.

    Nothing where no key was sent. Raises Conflict (``taken_over``), which has to end that transaction, when another
    request with the same key has been let through meanwhile.
    """
    held = _current.get()
    if held is None:
        return
    line = f"{kind} {what}".replace("\n", " ")
    with detached("what a request did is noted on its own key, whatever account it is done for"):
        rows = ActionKey.objects.filter(pk=held.pk, claim=held.token, finished_at__isnull=True)
        if not rows.update(
            did=Concat("did", Value(f"{line}\n"), output_field=TextField()), lease_until=clock.now() + LEASE
        ):
            raise Conflict("taken_over", "This request was taken over by a repeat of it. Nothing was done here.")


_tellers: dict[str, Callable[[str], str]] = {}


def register(kind: str, teller: Callable[[str], str]) -> None:
    """Let ``teller`` say in words how what is called ``kind`` stands now. For the app that knows."""
    _tellers[kind] = teller


def told(did: Iterable[str]) -> list[str]:
    """Return in words what was done and how it stands now, each thing once."""
    found = []
    for line in dict.fromkeys(did):
        kind, _, what = line.partition(" ")
        found.append(_tellers[kind](what) if kind in _tellers else line)
    return found


def prune() -> int:
    """Delete keys that are older than :data:`KEPT` and return how many there were."""
    with all_accounts("retention of what requests were answered"):
        gone, _ = ActionKey.objects.filter(started_at__lt=clock.now() - KEPT).delete()
    return gone
