"""Django's PostgreSQL backend, which tells the database in whose scope each statement runs.

Row-level security (``tradebot.core.postgres.rules``) compares rows with settings of the connection. They are sent
before a statement whose scope differs from that of the one before, and again after a rollback, which takes them back.
Without a scope they are empty: no owned row is seen or written.

The Django setting ``ENGINE`` names this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus

from tradebot.core.scoping import Scope, scope_or_none

__all__ = ["DatabaseWrapper"]

NOBODY: Final = Scope()
SEND: Final = (
    "SELECT set_config('tradebot.reason', %s, false), set_config('tradebot.person', %s, false), "
    "set_config('tradebot.readable', %s, false), set_config('tradebot.editable', %s, false)"
)
EXEMPT: Final = "SELECT current_user, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection whose statements run in the bound scope, in the database's eyes too."""

    _role_is_checked = False
    _sent: Scope | None = None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect. Raises ImproperlyConfigured when the role is exempt from row-level security."""
        connection = super().get_new_connection(conn_params)
        self._sent = None
        if not DatabaseWrapper._role_is_checked:
            try:
                _refuse_exempt_role(connection)
            except ImproperlyConfigured:
                connection.close()
                raise
            DatabaseWrapper._role_is_checked = True
        return connection

    def create_cursor(self, name: str | None = None) -> Any:
        """Return a cursor for a statement, the bound scope having been sent."""
        scope = scope_or_none() or NOBODY
        # In a transaction that has failed nothing can be sent, and nothing but a rollback is done.
        if scope != self._sent and self.connection.info.transaction_status is not TransactionStatus.INERROR:
            with self.wrap_database_errors:
                self.connection.execute(SEND, _values(scope))
            self._sent = scope
        return super().create_cursor(name)

    def _rollback(self) -> Any:
        self._sent = None
        return super()._rollback()  # type: ignore[misc]

    def _savepoint_rollback(self, sid: str) -> None:
        super()._savepoint_rollback(sid)  # type: ignore[misc]
        self._sent = None


def _values(scope: Scope) -> tuple[str, str, str, str]:
    person = "" if scope.owner_id is None else str(scope.owner_id)
    return (
        scope.reason,
        person,
        _array(scope.account_ids),
        _array(scope.editable_ids),
    )


def _array(ids: Iterable[int]) -> str:
    return f"{{{','.join(map(str, sorted(ids)))}}}"


def _refuse_exempt_role(connection: Any) -> None:
    row = connection.execute(EXEMPT).fetchone()
    if not connection.autocommit:
        connection.rollback()
    if row is not None and row[1]:
        raise ImproperlyConfigured(
            f"The PostgreSQL role {row[0]!r} is a superuser or exempt from row-level security, so the database would "
            "not keep people apart. Give Tradebot a role of its own; deploy/create-role.sh makes one."
        )
