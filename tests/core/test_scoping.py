"""The guard: every path to owned rows passes through the bound scope, and without one nothing compiles."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.db.models import Count, Exists, OuterRef, Prefetch

from accounts.access import acting_for, scope_of
from accounts.models import Account, Membership, PaperBalance
from bots.models import Bot
from tradebot.core.scoping import (
    ForeignRow,
    Scope,
    UnscopedQuery,
    acting_for_account,
    adopt_new_account,
    all_accounts,
    bind_request,
    bound,
    current_scope,
    request_holder,
    scope_or_none,
)

pytestmark = pytest.mark.django_db
IMPORT_TIME = Bot.objects.all()  # harmless: nothing is compiled yet
User = get_user_model()


class World:
    """Two people, an account each, one of Bob's shared with Ann, and an orphaned bot each."""

    def __init__(self) -> None:
        with all_accounts("test data"):
            self.ann = User.objects.create_user("ann@example.test")
            self.bob = User.objects.create_user("bob@example.test")
            self.a = Account.objects.create(owner=self.ann, name="a", exchange="simulated")
            self.b = Account.objects.create(owner=self.bob, name="b", exchange="simulated")
            self.shared = Account.objects.create(owner=self.bob, name="shared", exchange="simulated")
            self.membership = Membership.objects.create(account=self.shared, user=self.ann, role="observer")
            for account, owner, name in (
                (self.a, self.ann, "a"),
                (self.b, self.bob, "b"),
                (self.shared, self.bob, "s"),
                (None, self.ann, "orphan a"),
                (None, self.bob, "orphan b"),
            ):
                Bot.objects.create(account=account, owner=owner, name=name, quote_currency="USD")
            for account, total in ((self.a, 1), (self.b, 10), (self.shared, 100)):
                PaperBalance.objects.create(account=account, currency="USD", total=total)


@pytest.fixture
def world() -> World:
    return World()


UNSCOPED = {
    "iteration": lambda w: list(Bot.objects.all()),
    "iterator": lambda w: list(Bot.objects.iterator()),
    "count": lambda w: Bot.objects.count(),
    "exists": lambda w: Bot.objects.exists(),
    "excluded exists": lambda w: Bot.objects.exclude(pk=0).exists(),
    "first": lambda w: Bot.objects.first(),
    "get": lambda w: Bot.objects.get(pk=1),
    "in bulk": lambda w: Bot.objects.in_bulk(),
    "values": lambda w: list(Bot.objects.values_list("id")),
    "aggregate": lambda w: Bot.objects.aggregate(Count("id")),
    "update": lambda w: Bot.objects.update(name="x"),
    "delete": lambda w: Bot.objects.all().delete(),
    "subquery": lambda w: list(User.objects.filter(pk__in=Bot.objects.values("owner"))),
    "exists subquery": lambda w: list(User.objects.filter(Exists(Bot.objects.filter(owner=OuterRef("pk"))))),
    "union": lambda w: list(Bot.objects.order_by().union(Bot.objects.order_by())),
    "reverse relation": lambda w: w.a.bots.count(),
    "prefetch": lambda w: list(User.objects.prefetch_related("bots")),
    "select related": lambda w: list(Bot.objects.select_related("account")),
    "explain": lambda w: Bot.objects.explain(),
    "raw": lambda w: list(Bot.objects.raw("select * from bots_bot")),
    "get or create": lambda w: Bot.objects.get_or_create(name="a", owner=w.ann),
    "update or create": lambda w: Bot.objects.update_or_create(name="a", owner=w.ann),
    "bulk create": lambda w: Bot.objects.bulk_create([Bot(owner=w.ann, name="z")]),
    "bulk update": lambda w: Bot.objects.bulk_update([Bot(pk=1, owner=w.ann, name="z")], ["name"]),
    "save": lambda w: Bot(owner=w.ann, name="z").save(),
    "instance delete": lambda w: Bot(pk=1, owner=w.ann).delete(),
    "import-time queryset": lambda w: IMPORT_TIME.count(),
    "for_user": lambda w: list(Bot.objects.for_user(w.ann)),
    "for_account": lambda w: list(Bot.objects.for_account(w.a)),
    "editable": lambda w: list(Bot.objects.editable()),
    "path through a parent": lambda w: list(PaperBalance.objects.filter(account__name="a")),
}


@pytest.mark.parametrize("path", UNSCOPED)
def test_an_unscoped_query_raises(world: World, path: str) -> None:
    with pytest.raises(UnscopedQuery):
        UNSCOPED[path](world)


def test_form_and_serializer_choices_are_guarded(world: World) -> None:
    from django import forms
    from rest_framework import serializers

    class Form(forms.Form):
        bot = forms.ModelChoiceField(queryset=Bot.objects.all())

    class Serializer(serializers.Serializer):
        bot = serializers.PrimaryKeyRelatedField(queryset=Bot.objects.all())

    with all_accounts("test looks for ids"):
        foreign = Bot.objects.get(name="b").pk
    with pytest.raises(UnscopedQuery):
        list(Form().fields["bot"].choices)
    with pytest.raises(UnscopedQuery):
        Serializer(data={"bot": foreign}).is_valid()
    with acting_for(world.ann):
        assert {str(label) for value, label in Form().fields["bot"].choices if value} == {"a", "s", "orphan a"}
        assert not Form({"bot": foreign}).is_valid()
        assert not Serializer(data={"bot": foreign}).is_valid()


def test_a_scope_shows_own_shared_and_orphaned_rows_only(world: World) -> None:
    with acting_for(world.ann):
        assert sorted(IMPORT_TIME.values_list("name", flat=True)) == ["a", "orphan a", "s"]
        assert world.b.bots.count() == 0
        assert {x.pk for x in Account.objects.all()} == {world.a.pk, world.shared.pk}
        prefetched = {x.pk: len(x.bots.all()) for x in User.objects.prefetch_related(Prefetch("bots"))}
        assert prefetched == {world.ann.pk: 2, world.bob.pk: 1}


def test_reads_of_anothers_rows_find_nothing_and_change_nothing(world: World) -> None:
    with acting_for(world.ann):
        assert Bot.objects.filter(name="b").update(name="stolen") == 0
        assert Bot.objects.filter(name="b").delete()[0] == 0
        assert not Bot.objects.filter(name="b").exists()
        assert PaperBalance.objects.aggregate(n=Count("id"))["n"] == 2
    with all_accounts("test looks"):
        assert Bot.objects.filter(name="b").exists()


def test_an_observer_reads_a_shared_account_and_cannot_change_it(world: World) -> None:
    with acting_for(world.ann):
        shared_bot = Bot.objects.get(name="s")
        assert Bot.objects.filter(name="s").update(name="mine") == 0
        assert Bot.objects.filter(name="s").delete()[0] == 0
        assert not Bot.objects.editable().filter(name="s").exists()
        with pytest.raises(ForeignRow):
            shared_bot.save()
        with pytest.raises(ForeignRow):
            shared_bot.delete()
        with pytest.raises(ForeignRow):
            PaperBalance(account=world.shared, currency="BTC").save()


def test_a_manager_changes_a_shared_account_until_the_share_ends(world: World) -> None:
    from datetime import timedelta

    from tradebot.core import clock

    with all_accounts("test data"):
        Membership.objects.update(role="manager")
    with acting_for(world.ann):
        assert Bot.objects.filter(name="s").update(name="kept") == 1
    with all_accounts("test data"):
        Membership.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    with acting_for(world.ann):
        assert not Bot.objects.filter(name="kept").exists()


def test_writes_outside_the_scope_raise(world: World) -> None:
    with acting_for(world.ann):
        with pytest.raises(ForeignRow):
            Bot(owner=world.bob, account=world.b, name="planted", quote_currency="USD").save()
        with pytest.raises(ForeignRow):
            Bot(owner=world.bob, account=None, name="planted", quote_currency="USD").save()
        with pytest.raises(ForeignRow):
            PaperBalance.objects.bulk_create([PaperBalance(account=world.b, currency="BTC")])


def test_a_row_cannot_point_at_a_row_of_another_account(world: World) -> None:
    from bots.models import Decision

    with all_accounts("test: the check holds in system work too"):
        foreign = Bot.objects.get(name="b")
        with pytest.raises(ForeignRow):
            Decision(account=world.a, bot=foreign, phase="open", action="none", code="x", message="x").save()


def test_inside_a_scope_only_a_narrower_one_opens(world: World) -> None:
    with acting_for(world.ann):
        with pytest.raises(ForeignRow), all_accounts("escape"):
            pass
        with pytest.raises(ForeignRow), acting_for_account(world.b.pk):
            pass
        with pytest.raises(ForeignRow), acting_for_account(world.shared.pk):  # observed, so not to be acted on
            pass
        with pytest.raises(ForeignRow), bound(Scope(owner_id=world.bob.pk)):
            pass
        with acting_for_account(world.a.pk):
            assert list(Bot.objects.values_list("name", flat=True)) == ["a"]


def test_explicit_forms_agree_with_the_bound_scope(world: World) -> None:
    with acting_for(world.ann):
        assert Bot.objects.for_user(world.ann).count() == 3
        with pytest.raises(ForeignRow):
            Bot.objects.for_user(world.bob)
        assert Bot.objects.for_account(world.a).count() == 1
        with pytest.raises(ForeignRow):
            Bot.objects.for_account(world.b)


def test_a_scope_states_its_reason_when_it_is_unlimited() -> None:
    with pytest.raises(UnscopedQuery):
        all_accounts("")
    with pytest.raises(ValueError, match="may be read"):
        Scope(editable_ids=frozenset({1}))


def test_a_request_binds_once(world: World) -> None:
    with request_holder():
        with pytest.raises(UnscopedQuery):
            current_scope()
        bind_request(scope_of(world.ann))
        bind_request(scope_of(world.ann))  # the same person by another road is harmless
        with pytest.raises(ForeignRow):
            bind_request(scope_of(world.bob))
        assert current_scope().owner_id == world.ann.pk
    assert scope_or_none() is None
    with pytest.raises(UnscopedQuery):
        bind_request(scope_of(world.ann))


def test_a_new_account_joins_the_scope_of_its_person_only(world: World) -> None:
    with acting_for(world.ann):
        account = Account.objects.create(owner=world.ann, name="second", exchange="simulated")
        with pytest.raises(ForeignRow):
            PaperBalance(account=account, currency="USD").save()
        adopt_new_account(account.pk, account.owner_id)
        PaperBalance(account=account, currency="USD").save()
        with pytest.raises(ForeignRow):
            adopt_new_account(world.b.pk, world.bob.pk)


def test_a_task_starts_and_ends_without_a_scope(world: World) -> None:
    from celery import shared_task

    seen = []

    @shared_task(name="tests.leaky")
    def leaky(account_id: int) -> None:
        seen.append(scope_or_none())
        acting_for_account(account_id).__enter__()

    with acting_for(world.ann):
        leaky.delay(world.a.pk)
        assert current_scope().owner_id == world.ann.pk
    leaky.delay(world.b.pk)
    assert seen == [None, None]
    assert scope_or_none() is None
