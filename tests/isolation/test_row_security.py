"""The database keeps people apart by itself: raw SQL, with no guard in between, meets the same rules (PostgreSQL)."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction

from accounts.access import acting_for
from tests.factories import OrderFactory, PositionFactory
from tests.isolation.world import World, owned_models
from tradebot.core.scoping import acting_for_account, detached

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has no row-level security"),
]

TABLES: Final = sorted(model._meta.db_table for model in owned_models())
BY_TABLE: Final = {model._meta.db_table: model for model in owned_models()}
PEOPLE: Final = ("ann", "bob", "olga")


def seen(table: str) -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT id FROM "{table}"')
        return {row[0] for row in cursor.fetchall()}


def written(statement: str, *values: Any) -> int:
    """Run a statement that writes, undo it, and return how many rows it changed."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, values)
        count = cursor.rowcount
        transaction.set_rollback(True)
    return count


# Reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("table", TABLES)
def test_raw_sql_reads_what_the_guard_shows(world: World, table: str, person: str) -> None:
    model = BY_TABLE[table]
    with acting_for(getattr(world, person)):
        shown = set(model.objects.values_list("pk", flat=True))
        if model.nobodys_are_everybodys:
            shown |= set(model.presets.values_list("pk", flat=True))
        assert seen(table) == shown
    with detached("the proof looks at Ann's rows"):
        anns = set(world.anns(model).values_list("pk", flat=True))
    assert (shown & anns == anns) if person == "ann" else not anns <= shown


@pytest.mark.parametrize("table", TABLES)
def test_without_a_scope_raw_sql_reads_nothing(world: World, table: str) -> None:
    nobodys = BY_TABLE[table].nobodys_are_everybodys
    assert not (set() if nobodys else seen(table))


def test_an_engine_at_work_for_one_account_reads_that_account_alone(world: World) -> None:
    account = world.private["account"]
    with acting_for_account(account.pk):
        assert seen("accounts_account") == {account.pk}
        assert seen("bots_bot") == {world.private["bot"].pk}
        assert seen("accounts_apitoken") == set()


# Writing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_raw_sql_of_others_changes_and_deletes_nothing(world: World, table: str) -> None:
    """Bob is a stranger; Olga reads Ann's shared account, and only that."""
    with detached("the proof looks at Ann's rows"):
        mine = list(world.anns(BY_TABLE[table]).values_list("pk", flat=True))
    assert mine
    for person in (world.bob, world.olga):
        with acting_for(person):
            for pk in mine:
                assert written(f'UPDATE "{table}" SET id = id WHERE id = %s', pk) == 0
                assert written(f'DELETE FROM "{table}" WHERE id = %s', pk) == 0
    with acting_for(world.ann):
        assert [written(f'UPDATE "{table}" SET id = id WHERE id = %s', pk) for pk in mine] == [1] * len(mine)


@pytest.mark.parametrize("table", TABLES)
def test_a_row_cannot_be_slipped_into_what_is_anothers(world: World, table: str) -> None:
    """A copy of a row of Ann's, as somebody would add it who knows every column."""
    model = BY_TABLE[table]
    columns = [f'"{field.column}"' for field in model._meta.concrete_fields if field.column != "id"]
    names, places = ", ".join(columns), ", ".join(["%s"] * len(columns))
    with detached("the proof takes a copy"), connection.cursor() as cursor:
        cursor.execute(f'SELECT {names} FROM "{table}" WHERE id = %s', [world.anns(model).first().pk])
        plain = [json.dumps(value) if isinstance(value, (dict, list)) else value for value in cursor.fetchone()]
    with acting_for(world.bob), pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
        written(f'INSERT INTO "{table}" ({names}) VALUES ({places})', *plain)


def test_a_row_cannot_be_given_away(world: World) -> None:
    with detached("the proof looks"):
        others = world.bob.accounts.first()
    with acting_for(world.ann), pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
        written("UPDATE bots_bot SET account_id = %s WHERE id = %s", others.pk, world.private["bot"].pk)


def test_what_points_at_a_row_of_another_account_is_refused_even_to_the_system(world: World) -> None:
    with detached("two accounts"):
        order = OrderFactory(position=PositionFactory())
        elsewhere = PositionFactory()
    with detached("the system mixes them up"), connection.cursor() as cursor:
        cursor.execute("UPDATE positions_order SET position_id = %s WHERE id = %s", [elsewhere.pk, order.pk])
        with pytest.raises(IntegrityError, match="tradebot_positions_order"), transaction.atomic():
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("UPDATE positions_order SET position_id = %s WHERE id = %s", [order.position_id, order.pk])
