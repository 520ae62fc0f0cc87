"""A request is carried out once: by which row, under which claim, and what a process that died leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connections, transaction

from accounts.access import acting_for
from accounts.models import User
from tests.factories import ActionKeyFactory, UserFactory
from tests.positions.conftest import many_connections  # noqa: F401 (a fixture)
from tradebot.core import audit, clock, once
from tradebot.core.errors import Conflict, InvalidInput
from tradebot.core.models import ActionKey, AuditEntry
from tradebot.core.once import KEPT, LEASE, Busy, Claim, CutOff, Finished, Reused
from tradebot.core.scoping import bound, current_scope, detached
from tradebot.core.tasks import prune_action_keys

MOMENT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def person(db: None) -> Iterator[User]:
    user = UserFactory()
    with clock.at(MOMENT), acting_for(user):
        yield user


def ask(user: User, key: str = "k", digest: str = "a", route: str = "/do/") -> Any:
    return once.claim(user.pk, route, key, digest)


def later(gap: timedelta) -> Any:
    return clock.at(MOMENT + gap)


def test_the_first_one_is_let_through_and_repeats_get_its_answer(person: User) -> None:
    first = ask(person)
    assert isinstance(first, Claim)
    assert isinstance(ask(person), Busy)
    first.finish(201, {"body": "made"})
    with later(KEPT - timedelta(seconds=1)):
        assert ask(person) == Finished(201, {"body": "made"})


def test_the_same_key_is_another_one_for_another_address_or_person(person: User) -> None:
    assert isinstance(ask(person), Claim)
    assert isinstance(ask(person, route="/other/"), Claim)
    with detached("test"), acting_for(other := UserFactory()):
        assert isinstance(ask(other), Claim)


def test_the_same_key_with_another_body_is_refused(person: User) -> None:
    first = ask(person)
    assert isinstance(ask(person, digest="b"), Reused)
    first.finish(200, {})
    assert isinstance(ask(person, digest="b"), Reused)
    assert isinstance(ask(person, digest="a"), Finished)


def test_a_refusal_that_did_nothing_gives_the_key_back(person: User) -> None:
    ask(person).finish_if_done(400, {})
    assert isinstance(ask(person, digest="b"), Claim)


def test_a_refusal_that_did_something_is_the_answer(person: User) -> None:
    first = ask(person)
    with first.holding():
        once.acted("order", "x")
    first.finish_if_done(409, {"body": "refused by the venue"})
    assert ask(person) == Finished(409, {"body": "refused by the venue"})


# Dying ----------------------------------------------------------------------------------------------------------------


def test_a_process_that_died_before_it_did_anything_blocks_for_the_lease_only(person: User) -> None:
    assert isinstance(ask(person), Claim)
    with later(LEASE - timedelta(seconds=1)):
        assert isinstance(ask(person), Busy)
    with later(LEASE):
        assert isinstance(ask(person), Claim)
        assert isinstance(ask(person), Busy)


def test_what_a_process_that_died_has_done_is_never_done_again(person: User) -> None:
    first = ask(person)
    with first.holding(), transaction.atomic():
        once.acted("thing", 7)
    for gap in (LEASE, LEASE * 2, KEPT - timedelta(seconds=1)):
        with later(gap):
            assert ask(person) == CutOff(("thing 7",))
    assert "What it did: thing 7." in CutOff(("thing 7",)).message


def test_what_was_rolled_back_was_not_done(person: User) -> None:
    first = ask(person)
    with suppress(IntegrityError), first.holding(), transaction.atomic():
        once.acted("thing", 7)
        UserFactory(email=person.email)
    with later(LEASE):
        assert isinstance(ask(person), Claim)


def carried_out_twice() -> None:
    with transaction.atomic():
        UserFactory(email="twice@example.com")
        once.acted("thing", 1)


def test_a_process_that_was_only_slow_does_nothing_once_a_repeat_has_taken_over(person: User) -> None:
    slow = ask(person)
    with later(LEASE):
        quick = ask(person)
        assert isinstance(quick, Claim)
        with slow.holding(), pytest.raises(Conflict) as refused:
            carried_out_twice()
        with quick.holding():
            once.acted("thing", 2)
        slow.finish(200, {"body": "late"})
        quick.finish(200, {"body": "mine"})
        assert ask(person) == Finished(200, {"body": "mine"})
    assert refused.value.code == "taken_over"
    assert not User.objects.filter(email="twice@example.com").exists()


def test_doing_something_shows_that_the_process_lives(person: User) -> None:
    first = ask(person)
    with later(LEASE - timedelta(seconds=1)), first.holding():
        once.acted("thing", 1)
    with later(LEASE * 2 - timedelta(seconds=2)):
        assert isinstance(ask(person), Busy)


def test_a_mistake_of_ours_blocks_nothing(person: User) -> None:
    ask(person).broke()
    second = ask(person)
    assert isinstance(second, Claim)
    with second.holding():
        once.acted("thing", 1)
    second.broke()
    assert ask(person) == CutOff(("thing 1",))


# Noting ---------------------------------------------------------------------------------------------------------------


def test_an_audit_entry_is_something_done_whoever_the_scope_acts_for(person: User) -> None:
    first = ask(person)
    with first.holding(), bound(current_scope()), transaction.atomic():
        audit.record(person.pk, person.email, "paper_deposit", "account:3")
    assert AuditEntry.objects.count() == 1
    assert ActionKey.objects.get().did == "paper_deposit account:3\n"


def test_without_a_key_nothing_is_noted(person: User, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        once.acted("thing", 1)


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 201, "a\n"])
def test_a_key_has_visible_characters_and_an_end(key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        once.checked_key(key)
    assert (refused.value.code, refused.value.field) == ("bad_idempotency_key", "Idempotency-Key")


def test_bodies_are_told_apart_by_their_parts() -> None:
    assert once.digest_of([b"ab", b"c"]) != once.digest_of([b"a", b"bc"])


def test_old_keys_are_forgotten_by_the_task_and_free_again_even_before_it(person: User) -> None:
    assert isinstance(ask(person), Claim)
    with later(KEPT):
        assert isinstance(ask(person), Claim)
    old = ActionKeyFactory(user=person, started_at=MOMENT - KEPT - timedelta(seconds=1))
    with later(timedelta(0)):
        prune_action_keys()
    assert ActionKey.objects.count() == 1
    assert not ActionKey.objects.filter(pk=old.pk).exists()


@pytest.mark.usefixtures("many_connections")
@pytest.mark.slow
def test_of_many_at_once_one_is_let_through() -> None:
    user = UserFactory()
    with detached("test data"):
        ActionKeyFactory(user=user, route="/do/", key="lost", started_at=MOMENT, lease_until=MOMENT, finished_at=None)
    start, found = threading.Barrier(6), []

    def run() -> None:
        with clock.at(MOMENT + LEASE), acting_for(user):
            start.wait()
            found.extend((key, type(ask(user, key=key, digest="0" * 64))) for key in ("new", "lost"))
        connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for key in ("new", "lost"):
        kinds = [kind for name, kind in found if name == key]
        assert (kinds.count(Claim), kinds.count(Busy)) == (1, 5)
