"""The world is whole: every owned model has a factory and rows of Ann's on each side, so the proof misses no table."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.conf import settings
from django.db import models

from accounts.access import acting_for
from tests.isolation.world import PRIVATE, SHARED, build, factory_of, owned_models
from tradebot.core.scoping import OwnedManager, OwnedModel, detached

OURS = ("accounts", "bots", "core", "marketdata", "notifications", "positions")

PUBLIC_TABLES = {
    "accounts.User": "people; one's own row through settings only, others' by e-mail where an account is shared",
    "core.GlobalSettings": "one row for the whole installation",
    "core.LoopState": "how the machinery is doing",
    "marketdata.Candle": "public market data",
    "marketdata.CandleSeries": "public market data",
    "marketdata.Coin": "what the operator thinks of coins, for everybody",
    "marketdata.MarketStatus": "public market data",
    "marketdata.Product": "public market data",
}
"""Tables without an owner, with the reason. A new model is owned, or it is in here."""


def test_every_model_is_owned_or_public_for_a_reason() -> None:
    ours = {model for model in apps.get_models() if model._meta.app_label in OURS}
    assert {model._meta.label for model in ours if not issubclass(model, OwnedModel)} == set(PUBLIC_TABLES)


def test_a_public_table_points_at_nobody() -> None:
    for label in PUBLIC_TABLES:
        for column in apps.get_model(label)._meta.concrete_fields:
            target = column.related_model
            assert not (isinstance(target, type) and issubclass(target, OwnedModel)), f"{label}.{column.name}"
            assert column.related_model is None or column.related_model._meta.label != settings.AUTH_USER_MODEL


@pytest.mark.parametrize("model", owned_models(), ids=lambda model: model._meta.label)
def test_every_owned_model_has_a_factory(model: type[OwnedModel]) -> None:
    assert factory_of(model) is not None, f"write a factory for {model._meta.label} in tests/factories"


@pytest.mark.parametrize("model", owned_models(), ids=lambda model: model._meta.label)
def test_every_owned_model_keeps_the_guarded_manager(model: type[OwnedModel]) -> None:
    assert isinstance(model._default_manager, OwnedManager)
    assert isinstance(model._meta.managers_map["objects"], OwnedManager)
    assert model.account_path or model.owner_path


@pytest.mark.django_db
def test_ann_has_a_marked_row_of_everything_and_others_do_not_see_it() -> None:
    world = build()
    shared, private = world.shared["account"].pk, world.private["account"].pk
    for model in owned_models():
        label = model._meta.label
        with detached("the proof counts"):
            if model.account_path:
                for account in (shared, private):
                    assert model.objects.filter(**{model.account_path: account}).exists(), f"{label}: add it to build()"
            else:
                assert model.objects.filter(**{model.owner_path: world.ann.pk}).exists(), f"{label}: add it to build()"
        with acting_for(world.bob):
            assert _marked(model, SHARED, PRIVATE) == [], label
        with acting_for(world.olga):
            assert _marked(model, PRIVATE) == [], label
            if model.account_path:
                rows = model.objects.filter(**{model.account_path: shared})
                assert rows.exists(), label
                assert not rows.editable().exists(), label


def _marked(model: type[OwnedModel], *marks: str) -> list[str]:
    kinds = models.CharField | models.TextField
    texts = [column.name for column in model._meta.concrete_fields if isinstance(column, kinds)]
    rows = model.objects.values_list(*texts)
    return [text for row in rows for text in row if any(mark in str(text) for mark in marks)]
