"""What the scheduler does for sign-ins."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts.tasks import clear_sessions
from tradebot.celery import app


@pytest.mark.django_db
def test_expired_sessions_go_and_living_ones_stay() -> None:
    now = timezone.now()
    for key, days in (("over", -1), ("living", 1)):
        Session.objects.create(session_key=key, session_data="", expire_date=now + timedelta(days=days))

    clear_sessions()

    assert list(Session.objects.values_list("session_key", flat=True)) == ["living"]


def test_sessions_are_cleared_daily() -> None:
    schedules = [entry["schedule"] for entry in app.conf.beat_schedule.values() if "clear_sessions" in entry["task"]]
    assert schedules == [timedelta(days=1).total_seconds()]
