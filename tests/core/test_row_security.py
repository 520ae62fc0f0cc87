"""PostgreSQL is told in whose scope each statement runs, whatever happens to the connection and its transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import OperationalError, ProgrammingError, connection, transaction

from positions.models import Position
from tests.factories import PositionFactory
from tradebot.core.postgres import rules
from tradebot.core.scoping import acting_for_account, detached

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no row-level security"),
]


def deals_seen() -> set[int]:
    """Return the deals that raw SQL sees."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM positions_position")
        return {row[0] for row in cursor.fetchall()}


# The scope of a connection ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [transaction.atomic, nullcontext], ids=["savepoint", "transaction"])
@pytest.mark.django_db(transaction=True)
def test_a_rollback_does_not_bring_an_older_scope_back(outside: Any) -> None:
    with detached("two people"):
        first, second = PositionFactory(), PositionFactory()
    with acting_for_account(first.account_id):
        assert deals_seen() == {first.pk}
    with outside(), acting_for_account(second.account_id):
        with transaction.atomic():
            assert deals_seen() == {second.pk}
            transaction.set_rollback(True)
        assert deals_seen() == {second.pk}
    assert deals_seen() == set()


def fails_in_the_scope_of(deal: Position) -> None:
    with transaction.atomic(), acting_for_account(deal.account_id):
        assert deals_seen() == {deal.pk}
        connection.cursor().execute("SELECT 1 FROM no_such_table")


@pytest.mark.django_db(transaction=True)
def test_a_scope_that_ends_in_a_failed_transaction_is_gone_after_it() -> None:
    with detached("somebody"):
        deal = PositionFactory()
    with pytest.raises(ProgrammingError, match="no_such_table"):
        fails_in_the_scope_of(deal)
    assert deals_seen() == set()


@pytest.mark.django_db(transaction=True)
def test_a_new_connection_begins_with_nobody() -> None:
    with detached("somebody"):
        deal = PositionFactory()
        assert deals_seen() == {deal.pk}
    connection.close()
    assert deals_seen() == set()


@pytest.fixture
def superuser() -> Iterator[Any]:
    """A connection, not opened yet, as the superuser that every cluster has."""
    other = connection.copy()
    other.settings_dict = {**other.settings_dict, "USER": "postgres"}
    kept, type(other)._role_is_checked = type(other)._role_is_checked, True
    try:
        other.connect()
    except OperationalError as error:
        pytest.skip(f"no superuser to connect as: {error}")
    other.close()
    type(other)._role_is_checked = False
    yield other
    type(other)._role_is_checked = kept
    other.close()


@pytest.mark.django_db
def test_a_role_that_the_rules_do_not_bind_is_refused(superuser: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"deploy/create-role\.sh"):
        superuser.connect()


# Keeping the rules up to date ---------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_migrating_puts_back_what_was_taken_away() -> None:
    assert rules.is_in_force(connection)
    for harm in (
        "DROP POLICY tradebot_read ON accounts_account",
        "ALTER TABLE bots_bot NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE positions_fill DISABLE ROW LEVEL SECURITY",
    ):
        with connection.cursor() as cursor:
            cursor.execute(harm)
        assert not rules.is_in_force(connection)
        call_command("migrate", verbosity=0, interactive=False)
        assert rules.is_in_force(connection)


@pytest.mark.django_db
def test_nothing_is_written_before_every_table_is_there() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP POLICY tradebot_read ON accounts_account")
        cursor.execute("ALTER TABLE bots_signal RENAME TO bots_signal_to_come")
    rules.after_migrate(connection)
    assert not rules.is_in_force(connection)
