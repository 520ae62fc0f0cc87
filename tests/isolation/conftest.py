"""The world of the isolation proof, made once for each file that looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from tests.isolation.world import World, build


@pytest.fixture(scope="module")
def made(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """The world, made once; each test's own transaction inside this one puts it back as it was."""
    with django_db_blocker.unblock(), transaction.atomic():
        world = build()
        world.sign_in()
        world.untouched = world.fingerprint()
        yield world
        transaction.set_rollback(True)


@pytest.fixture
def world(made: World, db: None) -> Iterator[World]:
    with made.watching():
        yield made
