"""Fixtures of the whole suite: people with their accounts, signed-in clients, and no scope left behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest
from django.db import connection

from tradebot.core.scoping import all_accounts, scope_or_none

DATABASE_FIXTURES: Final = frozenset({"db", "transactional_db"})
STAYS: Final = frozenset({"auth_permission", "django_content_type"})
"""Tables that hold the same whatever is tested; Django fills them again after every flush that empties them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", action="store_true", help="only the tests that reach the database")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--database`` leave out what would be the same on any other database."""
    if not config.getoption("--database"):
        return
    reaching = [item for item in items if _reaches_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(reaching)])
    items[:] = reaching


def _reaches_database(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("django_db") is not None or not DATABASE_FIXTURES.isdisjoint(fixtures)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """The database, from which a test that commits has only those tables emptied that hold something.

    Django empties all of them, which on PostgreSQL takes as long as many such a test.
    """
    kept = connection.ops.sql_flush
    connection.ops.sql_flush = _deletes  # type: ignore[method-assign,assignment]
    yield
    connection.ops.sql_flush = kept  # type: ignore[method-assign]


def _deletes(style: Any, tables: Sequence[str], *, reset_sequences: bool = False, allow_cascade: bool = False) -> Any:
    quoted = {table: connection.ops.quote_name(table) for table in tables if table not in STAYS}
    with all_accounts("tests empty the tables"), connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {name})" for table, name in quoted.items()
            )
        )
        deletes = [f"DELETE FROM {quoted[table]}" for (table,) in cursor.fetchall()]
    if deletes and connection.vendor == "postgresql":
        return ["SELECT set_config('tradebot.reason', 'tests empty the tables', true)", *deletes]
    return deletes


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
    from bots import kept_settings, market_views
    from marketdata.store import store

    cache.clear()
    kept_settings.forget()
    market_views.forget()
    store.forget()
    factory.forget()
