"""Fixtures of the whole suite: people with their accounts, signed-in clients, and no scope left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tradebot.core.scoping import scope_or_none


@pytest.fixture(autouse=True)
def no_scope_left_behind() -> Iterator[None]:
    """A test that leaves a scope bound would hide what another one forgets to bind."""
    yield
    assert scope_or_none() is None


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    """Caches are global by design, so they are emptied between tests.

    Those of a process go by ids that a database never uses twice; the rollback at the end of a test does.
    """
    from django.core.cache import cache

    from accounts.exchanges import factory
    from bots import facts, market_views
    from marketdata.store import store

    cache.clear()
    facts.forget()
    market_views.forget()
    store.forget()
    factory.forget()
