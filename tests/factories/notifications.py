"""Events."""

from __future__ import annotations

import factory

from notifications.models import Event
from tests.factories.accounts import UserFactory
from tests.factories.base import Factory


class EventFactory(Factory):
    class Meta:
        model = Event

    user = factory.SubFactory(UserFactory)
    kind = Event.Kind.NOTIFICATION
    payload = factory.LazyFunction(lambda: {"text": "something happened"})
