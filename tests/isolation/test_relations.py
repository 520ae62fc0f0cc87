"""Choices that a request can name: filters, writable relations of serializers, form choices. Found, not listed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, Final

import pytest
from django import forms
from django_filters import FilterSet
from rest_framework import serializers

from accounts.access import acting_for
from tests.isolation.world import PRIVATE, SHARED, World
from tradebot.api_urls import router
from tradebot.core.scoping import OwnedModel, UnscopedQuery

PACKAGES: Final = ("accounts", "bots", "marketdata", "notifications", "positions", "tradebot")

READ_ONLY_CHOICES: Final[dict[str, str]] = {
    "NewBacktestSerializer.bot": "its settings and pairs are read and tried on candles; the bot is not changed",
    "NewSweepSerializer.bot": "its settings and pairs are read and tried on candles; the bot is not changed",
    "NewTemplateSerializer.bot": "its settings are read and kept as a template of one's own; the bot is not changed",
}
"""Relations that may name what one may see but not change. All others offer only what the person may change."""


def load_everything() -> None:
    """Import every module of the project, so that every class exists."""
    for package in PACKAGES:
        root = importlib.import_module(package)
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            if ".migrations" not in module.name and not module.name.startswith("tradebot.setup"):
                importlib.import_module(module.name)


def ours(base: type) -> list[type]:
    """Return the project's classes below ``base``, in a stable order."""

    def below(parent: type) -> Iterator[type]:
        for child in parent.__subclasses__():
            yield child
            yield from below(child)

    load_everything()
    found = {child for child in below(base) if child.__module__.split(".")[0] in PACKAGES}
    return sorted(found, key=lambda child: f"{child.__module__}.{child.__qualname__}")


def is_owned(queryset: Any) -> bool:
    return queryset is not None and issubclass(queryset.model, OwnedModel)


def filter_choices() -> list[tuple[str, Any]]:
    found = []
    for filterset in ours(FilterSet):
        for name, one in filterset.base_filters.items():  # type: ignore[attr-defined]
            queryset = one.extra.get("queryset")
            if is_owned(queryset):
                found.append((f"{filterset.__name__}.{name}", queryset))
    return found


def written_relations() -> list[tuple[str, Any]]:
    found = []
    for serializer in ours(serializers.Serializer):
        if issubclass(serializer, serializers.ModelSerializer) and not hasattr(serializer, "Meta"):
            continue  # a base class
        for name, one in serializer().fields.items():  # type: ignore[attr-defined]
            relation = getattr(one, "child_relation", one)
            if isinstance(relation, serializers.RelatedField) and not one.read_only and is_owned(relation.queryset):
                found.append((f"{serializer.__name__}.{name}", relation.queryset))
    return found


def form_choices() -> list[tuple[str, Any]]:
    found = []
    for form in ours(forms.BaseForm):
        if "admin" in form.__module__:
            continue  # the operator's forms are about everybody's rows
        for name, one in getattr(form, "base_fields", {}).items():
            if isinstance(one, forms.ModelChoiceField) and is_owned(one.queryset):
                found.append((f"{form.__module__}.{form.__qualname__}.{name}", one.queryset))
    return found


FILTERS, RELATIONS, CHOICES = filter_choices(), written_relations(), form_choices()


def test_there_is_something_to_prove() -> None:
    assert len(FILTERS) >= 5
    assert {name for name, _ in RELATIONS} >= {"NewBotSerializer.account", "NewTemplateSerializer.bot"}


@pytest.mark.parametrize(("name", "queryset"), FILTERS + RELATIONS + CHOICES)
def test_choices_are_those_of_whoever_asks(world: World, name: str, queryset: Any) -> None:
    with pytest.raises(UnscopedQuery):
        queryset.all().exists()
    for person, hidden in ((world.bob, (SHARED, PRIVATE)), (world.olga, (PRIVATE,))):
        with acting_for(person):
            seen = " ".join(str(row) for row in queryset.all())
            assert not any(mark in seen for mark in hidden), name
    with acting_for(world.ann):
        assert PRIVATE in " ".join(str(row) for row in queryset.all()), name


@pytest.mark.parametrize(("name", "queryset"), RELATIONS + CHOICES)
def test_what_is_written_names_only_what_one_may_change(world: World, name: str, queryset: Any) -> None:
    with acting_for(world.olga):
        offered = any(SHARED in str(row) for row in queryset.all())
    assert offered == (name in READ_ONLY_CHOICES), name


def test_an_exemption_is_about_something() -> None:
    assert set(READ_ONLY_CHOICES) <= {name for name, _ in RELATIONS + CHOICES}


def filter_names() -> list[tuple[str, str]]:
    return [
        (f"/api/{prefix}/", name)
        for prefix, viewset, _ in router.registry
        for name in getattr(viewset, "filterset_class", FilterSet).base_filters
    ]


@pytest.mark.parametrize(("path", "name"), filter_names())
def test_no_filter_value_finds_anothers_rows(world: World, path: str, name: str) -> None:
    client = world.client_of(world.bob)
    rows = {**world.shared, **world.private}
    values = {str(getattr(rows.get(kind, rows["account"]), "pk", "")) for kind in (name, "account", "position", "bot")}
    for value in (*values, SHARED, PRIVATE, "true", "false", "closed", "USD", "0"):
        answer = client.get(path, {name: value})
        assert answer.status_code in (200, 400), (name, value)
        said = answer.content.decode().replace(value, "") if answer.status_code == 400 else answer.content.decode()
        assert SHARED not in said, (name, value)
        assert PRIVATE not in said, (name, value)


@pytest.mark.parametrize("prefix", [prefix for prefix, _, _ in router.registry])
@pytest.mark.parametrize("words", ["ordering=owner__email", "ordering=account__owner__password", "search=q7private7q"])
def test_ordering_and_search_reach_no_further_than_the_list(world: World, prefix: str, words: str) -> None:
    client = world.client_of(world.bob)
    plain, asked = client.get(f"/api/{prefix}/"), client.get(f"/api/{prefix}/?{words}")
    assert asked.status_code == 200
    if words.startswith("ordering"):
        assert _ids(asked) == _ids(plain)
    assert PRIVATE not in asked.content.decode().replace(words, "")


def _ids(answer: Any) -> list[int]:
    return [row["id"] for row in answer.json()["results"]]
