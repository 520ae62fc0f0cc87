"""What was done: the audit's entries, requests carried out once."""

from __future__ import annotations

import uuid

import factory

from tests.factories.accounts import UserFactory
from tests.factories.base import Factory
from tradebot.core import clock
from tradebot.core.models import ActionKey, AuditEntry


class AuditEntryFactory(Factory):
    class Meta:
        model = AuditEntry

    user = factory.SubFactory(UserFactory)
    actor = factory.LazyAttribute(lambda o: o.user.email if o.user else "system")
    action = "tested"
    target = "something"


class ActionKeyFactory(Factory):
    class Meta:
        model = ActionKey

    user = factory.SubFactory(UserFactory)
    route = "/somewhere/"
    key = factory.Sequence(lambda number: f"key-{number}")
    digest = "0" * 64
    claim = factory.LazyFunction(uuid.uuid4)
    lease_until = factory.LazyFunction(clock.now)
    finished_at = factory.LazyFunction(clock.now)
    status = 200
    answer = factory.LazyFunction(lambda: {"body": "done", "type": "text/plain"})
