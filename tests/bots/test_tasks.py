"""Retention of decisions (F68)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from bots.models import Decision
from bots.tasks import prune_decisions
from positions.models import Position
from tests.factories import DecisionFactory, PositionFactory
from tradebot.core import clock
from tradebot.core.models import GlobalSettings
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db
DAYS = GlobalSettings._meta.get_field("decision_retention_days").default


def decision(at: datetime, position: Position | None = None) -> int:
    extra = {} if position is None else {"bot": position.bot, "position": position}
    return DecisionFactory(at=at, **extra).pk


def left() -> set[int]:
    prune_decisions()
    with detached("test looks"):
        return set(Decision.objects.values_list("pk", flat=True))


def test_decisions_about_pairs_are_kept_for_the_days_that_the_operator_wants() -> None:
    old, young = (decision(clock.now() - timedelta(days=days)) for days in (DAYS + 1, DAYS - 1))
    assert left() == {young}
    assert old not in left()


def test_decisions_about_a_deal_are_kept_while_it_is_open() -> None:
    kept = decision(clock.now() - timedelta(days=10 * DAYS), PositionFactory(open=True))
    assert left() == {kept}


def test_decisions_about_a_deal_are_kept_as_long_after_it_has_ended() -> None:
    long_ago = clock.now() - timedelta(days=10 * DAYS)
    recent, past = (
        PositionFactory(closed=True, opened_at=long_ago, closed_at=clock.now() - timedelta(days=days))
        for days in (DAYS - 1, DAYS + 1)
    )
    kept, gone = decision(long_ago, recent), decision(long_ago, past)
    assert left() == {kept}
    assert gone not in left()
