"""Fixtures of the whole suite: people with their accounts, signed-in clients, and no scope left behind."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import stamina
from django.db import connection
from xdist.scheduler import LoadScopeScheduling

from tests import prepared as preparing
from tradebot.core.scoping import all_accounts, scope_or_none

DATABASE_FIXTURES: Final = frozenset({"db", "transactional_db"})
STAYS: Final = frozenset({"auth_permission", "django_content_type"})
"""Tables that hold the same whatever is tested; Django fills them again after every flush that empties them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", action="store_true", help="only the tests that reach the database")


def pytest_configure() -> None:
    """Spend no time on what is not tested.

    Tests leave little garbage, and all that is loaded is looked through each time somebody looks for it. What is asked
    for again is asked for as often as ever, but at once.
    """
    gc.set_threshold(10_000, 20, 20)
    stamina.set_testing(True, attempts=10, cap=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is slow comes first, so that nobody waits for it at the end; beyond that the order stays random.

    Journeys come before everything: no Django runs beside a browser in one thread. With ``--database`` leave out what
    would be the same on any other database.
    """
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("browser", "slow")])
    if not config.getoption("--database"):
        return
    reaching = [item for item in items if _reaches_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(reaching)])
    items[:] = reaching


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Journeys are made by one process, with one browser and one installation; everything else by whoever is free."""
    return _OneForJourneys(config, log)


class _OneForJourneys(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return "journeys" if nodeid.startswith("tests/journeys/") else nodeid


def _reaches_database(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("django_db") is not None or not DATABASE_FIXTURES.isdisjoint(fixtures)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A data folder to copy, with a migrated database and the static files, made once for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    return preparing.prepared_in(base if worker_id == "master" else base.parent)


def _copies_database(worker_id: str) -> bool:
    """Several processes need several databases, of which one is migrated; PostgreSQL makes its own."""
    return worker_id != "master" and connection.vendor == "sqlite"


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_keepdb: bool, worker_id: str) -> bool:
    return django_db_keepdb or _copies_database(worker_id)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings: None, request: pytest.FixtureRequest, worker_id: str
) -> Iterator[None]:
    """Begin with a copy of the migrated database, which is then kept only as long as the run takes."""
    if not _copies_database(worker_id):
        yield
        return
    name = connection.settings_dict["TEST"]["NAME"]
    shutil.copy(request.getfixturevalue("prepared") / preparing.DATABASE, name)
    yield
    connection.close()
    for left in (name, f"{name}-wal", f"{name}-shm"):
        Path(left).unlink(missing_ok=True)


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
