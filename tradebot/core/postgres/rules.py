"""Who may see and change which rows, as PostgreSQL itself enforces it: policies and keys made from the models.

The guard of ``tradebot.core.scoping`` keeps every query of the ORM inside the bound scope. These rules repeat it where
even raw SQL passes:

- *Policies* compare ``account_path`` and ``owner_path`` of each owned model with the scope that the connection has been
  told (``tradebot.core.postgres.base``): what may be read, and what may be written, by the same rule as the guard's.
- *Keys over two columns*: a row of one account can only point at a row of the same account.

They are written anew after every ``migrate`` that changed something, and taken away before it, since a column that a
policy names cannot change its type. SQLite has neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.apps import apps
from django.db import models, transaction

from tradebot.core.scoping import OwnedModel

__all__ = ["Key", "after_migrate", "before_migrate", "is_in_force", "keys", "owned_models", "policies"]

PREFIX: Final = "tradebot_"
MARKED: Final = "accounts_account"
"""The table whose policy carries the fingerprint of all rules, as a comment."""
UNLIMITED: Final = "(SELECT COALESCE(current_setting('tradebot.reason', true), '') <> '')"
PERSON: Final = "(SELECT NULLIF(current_setting('tradebot.person', true), '')::bigint)"
# In sub-selects, so that they are worked out once for a statement and not for every row.
READABLE: Final = "COALESCE((SELECT NULLIF(current_setting('tradebot.readable', true), '')::bigint[]), '{}')"
EDITABLE: Final = READABLE.replace("readable", "editable")


def owned_models() -> list[type[OwnedModel]]:
    """Return every model whose rows belong to an account or a person."""
    return [model for model in apps.get_models() if issubclass(model, OwnedModel)]


# Policies -----------------------------------------------------------------------------------------------------------


def policies(model: type[OwnedModel]) -> list[str]:
    """Return the statements that create the policies of a model's table."""
    table = _quoted(model._meta.db_table)
    reads = f"{UNLIMITED} OR {_belongs(model, table, model.account_path, model.owner_path, READABLE)}"
    if model.nobodys_are_everybodys and model.owner_path is not None:
        reads += f" OR {table}.{_column(model, model.owner_path)} IS NULL"
    writes = f"{UNLIMITED} OR {_belongs(model, table, model.account_path, model.owner_path, EDITABLE)}"
    return [
        f"CREATE POLICY {PREFIX}read ON {table} FOR SELECT USING ({reads})",
        f"CREATE POLICY {PREFIX}add ON {table} FOR INSERT WITH CHECK ({writes})",
        f"CREATE POLICY {PREFIX}change ON {table} FOR UPDATE USING ({writes}) WITH CHECK ({writes})",
        f"CREATE POLICY {PREFIX}remove ON {table} FOR DELETE USING ({writes})",
    ]


def _belongs(model: Any, table: str, account: str | None, owner: str | None, accounts: str) -> str:
    """Return the condition on a row of ``table``: of one of ``accounts``, or the person's own.

    As in the guard, a row with both counts as the person's only while it belongs to no account, except the account
    itself, which is its owner's. Paths through a foreign key become a sub-select on its table.
    """
    heads = {path.split("__")[0] for path in (account, owner) if path is not None and "__" in path}
    if heads:
        (head,) = heads
        field = model._meta.get_field(head)
        target = field.related_model
        rest = [None if path is None else path.split("__", 1)[1] for path in (account, owner)]
        inner = _belongs(target, "r", rest[0], rest[1], accounts)
        key, column = _quoted(target._meta.pk.column), _quoted(field.column)
        where = f"r.{key} = {table}.{column}"
        if accounts != READABLE:  # what may be read there is that table's own policy already
            where += f" AND {inner}"
        return f"EXISTS (SELECT 1 FROM {_quoted(target._meta.db_table)} r WHERE {where})"  # noqa: S608 (our own names)
    parts = []
    account_column = None if account is None else f"{table}.{_column(model, account)}"
    if account_column is not None:
        parts.append(f"{account_column} = ANY ({accounts})")
    if owner is not None:
        mine = f"{table}.{_column(model, owner)} = {PERSON}"
        if account_column is not None and account != "id":
            mine = f"({account_column} IS NULL AND {mine})"
        parts.append(mine)
    return f"({' OR '.join(parts)})"


def _column(model: Any, name: str) -> str:
    return _quoted(model._meta.get_field(name).column)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# Keys ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """A foreign key of rows under an account to rows under the same account."""

    table: str
    column: str
    target: str

    @property
    def name(self) -> str:
        """Return the constraint's name."""
        return f"{PREFIX}{self.table}_{self.column}"[:63]

    @property
    def statement(self) -> str:
        """Return what creates it; it is checked at the end of a transaction, as Django's own are."""
        return (
            f"ALTER TABLE {_quoted(self.table)} ADD CONSTRAINT {_quoted(self.name)} "
            f"FOREIGN KEY ({_quoted(self.column)}, account_id) REFERENCES {_quoted(self.target)} (id, account_id) "
            "DEFERRABLE INITIALLY DEFERRED"
        )


def keys() -> Iterator[Key]:
    """Yield the keys that hold rows to their own account.

    Between tables that name their account themselves. A bot may be without one while it waits for repair, so what
    points at bots is checked by ``OwnedModel.check_scope`` alone.
    """
    for model in owned_models():
        if not _names_account(model):
            continue
        for field in model._meta.concrete_fields:
            target = field.related_model
            if isinstance(target, type) and issubclass(target, OwnedModel) and _names_account(target):
                yield Key(model._meta.db_table, str(field.column), target._meta.db_table)


def _names_account(model: type[OwnedModel]) -> bool:
    if model.account_path != "account":
        return False
    field: Any = model._meta.get_field(model.account_path)
    return isinstance(field, models.ForeignKey) and not field.null


# Writing them -------------------------------------------------------------------------------------------------------


def before_migrate(connection: Any, plan: list[Any]) -> None:
    """Take the rules away where tables are about to change."""
    if plan:
        with transaction.atomic(using=connection.alias):
            _drop(connection)


def after_migrate(connection: Any) -> None:
    """Write the rules, unless they are in force as the models ask for them, or some of the tables are still to come."""
    if not _tables() <= set(connection.introspection.table_names()) or is_in_force(connection):
        return
    with transaction.atomic(using=connection.alias):
        _drop(connection)
        with connection.cursor() as cursor:
            for statement in _statements():
                cursor.execute(statement)
            cursor.execute(f"COMMENT ON POLICY {PREFIX}read ON {_quoted(MARKED)} IS '{_fingerprint()}'")


def is_in_force(connection: Any) -> bool:
    """Return whether every owned table is protected by the very rules that the models ask for."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT obj_description(oid, 'pg_policy') FROM pg_policy WHERE polname = %s AND polrelid = to_regclass(%s)",
            [f"{PREFIX}read", MARKED],
        )
        if cursor.fetchone() != (_fingerprint(),):
            return False
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity "
            "AND relnamespace = current_schema()::regnamespace"
        )
        return {row[0] for row in cursor.fetchall()} >= _tables()


def _tables() -> set[str]:
    return {model._meta.db_table for model in owned_models()}


def _statements() -> list[str]:
    wanted = list(keys())
    found = [
        f"CREATE UNIQUE INDEX {_quoted(f'{PREFIX}{target}'[:63])} ON {_quoted(target)} (id, account_id)"
        for target in sorted({key.target for key in wanted})
    ]
    found += [key.statement for key in wanted]
    for model in owned_models():
        found += policies(model)
        # Forced, because the tables belong to the role that the application runs as.
        table = _quoted(model._meta.db_table)
        found.append(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    return found


def _fingerprint() -> str:
    return hashlib.sha256("\n".join(_statements()).encode()).hexdigest()


def _drop(connection: Any) -> None:
    """Take away every rule that was ever written here, those about models that are gone included."""
    with connection.cursor() as cursor:
        cursor.execute(WRITTEN, {"ours": PREFIX})
        for (statement,) in cursor.fetchall():
            cursor.execute(statement)


WRITTEN: Final = """
    SELECT format('DROP POLICY %%I ON %%I', policyname, tablename) FROM pg_policies
    WHERE schemaname = current_schema() AND starts_with(policyname, %(ours)s)
    UNION ALL
    SELECT DISTINCT format('ALTER TABLE %%I DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', tablename)
    FROM pg_policies WHERE schemaname = current_schema() AND starts_with(policyname, %(ours)s)
    UNION ALL
    SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname) FROM pg_constraint
    WHERE contype = 'f' AND connamespace = current_schema()::regnamespace AND starts_with(conname, %(ours)s)
    UNION ALL
    SELECT format('DROP INDEX %%I', indexname) FROM pg_indexes
    WHERE schemaname = current_schema() AND starts_with(indexname, %(ours)s)
"""
"""What takes the rules away again, in this order: an index only after the keys that need it."""
