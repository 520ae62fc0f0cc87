"""The demo person: made on an empty database only, once, with bots that run."""

from __future__ import annotations

from pathlib import Path

import pytest

from accounts.access import acting_for
from accounts.models import Account, User
from bots.models import Bot
from tradebot.runtime import demo

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _market(settings) -> None:
    settings.MARKET = "simulated"


def test_the_demo_person_has_a_password_of_its_own_an_account_and_running_bots(tmp_path: Path) -> None:
    file = tmp_path / "demo-password.txt"
    made = demo.ensure_person(file)
    assert made is not None
    assert made.password == file.read_text().strip()
    assert file.stat().st_mode & 0o077 == 0
    assert demo.ensure_bots(made) == len(demo.BOTS)
    with acting_for(made.user):
        assert {bot.status for bot in Bot.objects.all()} == {Bot.Status.RUNNING}
        assert {account.kind for account in Account.objects.all()} == {Account.Kind.PAPER}
    assert not made.user.is_staff


def test_the_demo_person_and_bots_are_made_once(tmp_path: Path) -> None:
    file = tmp_path / "demo-password.txt"
    first = demo.ensure_person(file)
    assert first is not None
    demo.ensure_bots(first)
    again = demo.ensure_person(file)
    assert again is not None
    assert again.password == first.password
    assert demo.ensure_bots(again) == 0
    assert User.objects.count() == 1


def test_a_password_that_was_changed_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "demo-password.txt"
    made = demo.ensure_person(file)
    assert made is not None
    made.user.set_password("another long password")
    made.user.save()
    again = demo.ensure_person(file)
    assert again is not None
    assert again.password is None


def test_nobody_is_added_to_a_database_that_people_use(tmp_path: Path) -> None:
    User.objects.create_user("ann@example.test", "a long password")
    assert demo.ensure_person(tmp_path / "demo-password.txt") is None
    assert not (tmp_path / "demo-password.txt").exists()
