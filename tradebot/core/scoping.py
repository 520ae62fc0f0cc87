"""Who may see and change which rows, decided when SQL is compiled. The single place that knows.

A *scope* names the accounts whose rows may be read, those whose rows may be changed, and the person whose personal
rows may be touched. The default manager of every owned model filters by :class:`ScopeGuard`, an SQL expression, so
every path passes through it (iteration, count, exists, aggregate, update, delete, subquery, union, prefetch, reverse
relation, serializer and form choices), and a queryset built at import time resolves per request. With no scope bound
the query does not compile and :class:`UnscopedQuery` is raised.

Interfaces open a *holder* (:func:`request_holder`) around a request and whichever authentication succeeds binds it,
once. Workers act in :func:`acting_for_account`. :func:`all_accounts` is for enumeration, the admin site and data
migrations, and states its reason. Which accounts a user owns or shares is not known here but in ``accounts.access``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

from django.db import models
from django.db.models import BooleanField, F
from django.db.models.expressions import Expression
from django.db.models.sql import Query

__all__ = [
    "ForeignRow",
    "OwnedManager",
    "OwnedModel",
    "OwnedQuerySet",
    "Scope",
    "ScopeGuard",
    "UnscopedQuery",
    "acting_for_account",
    "acting_for_accounts",
    "adopt_new_account",
    "all_accounts",
    "bind_request",
    "bound",
    "current_scope",
    "detached",
    "request_holder",
    "scope_or_none",
]


class UnscopedQuery(RuntimeError):
    """A query or write on owned rows with no scope bound."""


class ForeignRow(RuntimeError):
    """A write, or an explicit scope, that disagrees with the bound one."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Accounts to read, accounts to change (a subset), and the person; ``reason`` set means every row (system work)."""

    account_ids: frozenset[int] = frozenset()
    editable_ids: frozenset[int] = frozenset()
    owner_id: int | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.editable_ids <= self.account_ids:
            raise ValueError("what may be changed may be read")

    @property
    def unlimited(self) -> bool:
        return bool(self.reason)

    def covers(self, other: Scope) -> bool:
        """Whether ``other`` may be opened inside this scope: never wider, never another person."""
        if self.unlimited:
            return True
        return (
            not other.unlimited
            and other.account_ids <= self.account_ids
            and other.editable_ids <= self.editable_ids
            and other.owner_id in (None, self.owner_id)
        )


class _Holder:
    """A request's scope: empty until authentication binds it, and bound at most once."""

    __slots__ = ("scope",)

    def __init__(self, scope: Scope | None = None) -> None:
        self.scope = scope


_current: ContextVar[_Holder | None] = ContextVar("tradebot_scope", default=None)


def scope_or_none() -> Scope | None:
    """Return the bound scope, or None where none is."""
    holder = _current.get()
    return holder.scope if holder is not None else None


def current_scope() -> Scope:
    """Return the bound scope. Raises UnscopedQuery where none is."""
    if (scope := scope_or_none()) is None:
        raise UnscopedQuery("owned rows asked for outside a scope")
    return scope


@contextmanager
def request_holder() -> Iterator[None]:
    """Open an empty holder for one request or message; nothing is readable until :func:`bind_request`."""
    token = _current.set(_Holder())
    try:
        yield
    finally:
        _current.reset(token)


def bind_request(scope: Scope) -> None:
    """Bind the request's holder. Binding the same person again is harmless; anybody else raises ForeignRow."""
    holder = _current.get()
    if holder is None:
        raise UnscopedQuery("no request to bind a scope to")
    if holder.scope is not None and holder.scope != scope:
        raise ForeignRow("this request already acts for somebody else")
    holder.scope = scope


def adopt_new_account(account_id: int, owner_id: int) -> None:
    """Widen the bound scope by an account that its person has just created. For ``accounts.services`` only."""
    holder, scope = _current.get(), current_scope()
    if scope.unlimited or holder is None:
        return
    if scope.owner_id != owner_id:
        raise ForeignRow("the bound scope acts for somebody else")
    holder.scope = replace(
        scope, account_ids=scope.account_ids | {account_id}, editable_ids=scope.editable_ids | {account_id}
    )


@contextmanager
def bound(scope: Scope) -> Iterator[Scope]:
    """Act in ``scope``. Inside a narrower scope only a yet narrower one may be opened."""
    outer = scope_or_none()
    if outer is not None and not outer.covers(scope):
        raise ForeignRow(f"{scope} cannot be opened inside {outer}")
    token = _current.set(_Holder(scope))
    try:
        yield scope
    finally:
        _current.reset(token)


def acting_for_account(account_id: int) -> Any:
    """Act for one account, reading and changing: what the engine does when it trades."""
    return acting_for_accounts([account_id])


def acting_for_accounts(account_ids: Iterable[int]) -> Any:
    """Act for exactly these accounts: a chunk of the cycle."""
    ids = frozenset(account_ids)
    return bound(Scope(account_ids=ids, editable_ids=ids))


def all_accounts(reason: str) -> Any:
    """Every row, for a stated reason. Enumerates; the work on each row runs in that account's scope."""
    if not reason:
        raise UnscopedQuery("all_accounts() states its reason")
    return bound(Scope(reason=reason))


@contextmanager
def detached(reason: str) -> Iterator[Scope]:
    """Every row, for a stated reason, whatever scope is bound outside; the outer scope returns at the end.

    The one way to widen a scope, so only a few small places of the system's own may use it, held by an allow-list test:
    finding out who asks and what they may reach (``accounts.tokens``, ``accounts.access``), leaving a share, choosing a
    name that is free among bots that the caller does not see, and writing rows for other people than the one who acts:
    events (``notifications.outbox``), audit entries, counters, and what a request has done
    (``tradebot.core.once``). Each returns or writes nothing else.
    """
    if not reason:
        raise UnscopedQuery("detached() states its reason")
    token = _current.set(_Holder(Scope(reason=reason)))
    try:
        yield current_scope()
    finally:
        _current.reset(token)


class ScopeGuard(Expression):
    """``account_id IN (…)`` and/or ``owner_id = …`` of the bound scope; raises while compiling when none is bound.

    ``account`` and ``owner`` are field paths from the model. With both, the person's rows count only while they
    belong to no account (orphans). ``editable`` narrows to accounts that the scope may change.
    """

    conditional = True
    output_field = BooleanField()

    def __init__(self, account: str | None, owner: str | None, *, editable: bool = False) -> None:
        super().__init__()
        self.editable = editable
        self.is_account = account == "id"  # the account itself: its owner's, whatever its own id
        self.sources: list[Any] = [None if name is None else F(name) for name in (account, owner)]

    def get_source_expressions(self) -> list[Any]:
        return [source for source in self.sources if source is not None]

    def set_source_expressions(self, exprs: Iterable[Any]) -> None:
        given = iter(exprs)
        self.sources = [None if source is None else next(given) for source in self.sources]

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        scope = current_scope()
        if scope.unlimited:
            return "1=1", []
        account, owner = self.sources
        ids = scope.editable_ids if self.editable else scope.account_ids
        parts: list[str] = []
        params: list[Any] = []
        if account is not None and ids:
            sql, given = compiler.compile(account)
            parts.append(f"{sql} IN ({', '.join(['%s'] * len(ids))})")
            params += [*given, *sorted(ids)]
        if owner is not None and scope.owner_id is not None:
            sql, given = compiler.compile(owner)
            mine, mine_params = f"{sql} = %s", [*given, scope.owner_id]
            if account is not None and not self.is_account:
                account_sql, account_given = compiler.compile(account)
                mine, mine_params = f"({account_sql} IS NULL AND {mine})", [*account_given, *mine_params]
            parts.append(mine)
            params += mine_params
        return (f"({' OR '.join(parts)})", params) if parts else ("1=0", [])


class OwnedQuerySet(models.QuerySet[Any]):
    """Querysets of owned models: explicit forms that agree with the bound scope, and guarded bulk writes."""

    def for_user(self, user: Any) -> Self:
        """Rows of ``user``'s scope. Raises ForeignRow when the bound scope acts for somebody else."""
        scope = current_scope()
        if not scope.unlimited and scope.owner_id != user.pk:
            raise ForeignRow("the bound scope acts for somebody else")
        return self

    def for_account(self, account: Any) -> Self:
        """Rows of one account. Raises ForeignRow when the bound scope does not hold it."""
        scope = current_scope()
        account_id = getattr(account, "pk", account)
        if not scope.unlimited and account_id not in scope.account_ids:
            raise ForeignRow("that account is outside the bound scope")
        return self.filter(**{self.model.account_path: account_id})

    def editable(self) -> Self:
        """Rows that the scope may change, not only read (an observer's shared accounts drop out)."""
        return self.filter(ScopeGuard(self.model.account_path, self.model.owner_path, editable=True))

    def update(self, **kwargs: Any) -> int:
        if self.query.is_sliced or self.query.combinator:
            return super().update(**kwargs)
        return super(OwnedQuerySet, self.editable()).update(**kwargs)

    def delete(self) -> tuple[int, dict[str, int]]:
        if self.query.is_sliced or self.query.combinator or self.query.distinct:
            return super().delete()
        return super(OwnedQuerySet, self.editable()).delete()

    def raw(self, *args: Any, **kwargs: Any) -> Any:
        raise UnscopedQuery("raw() goes round the guard")

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        rows = list(objs)
        for row in rows:
            row.check_scope()
        return super().bulk_create(rows, *args, **kwargs)

    def bulk_update(self, objs: Iterable[Any], fields: Iterable[str], batch_size: int | None = None) -> int:
        rows = list(objs)
        for row in rows:
            row.check_scope()
        return super().bulk_update(rows, fields, batch_size=batch_size)


class OwnedManager(models.Manager.from_queryset(OwnedQuerySet)):  # type: ignore[misc]
    """Default manager of owned models: always inside the bound scope."""

    def get_queryset(self) -> OwnedQuerySet:
        query = _guarded_query(self.model).chain()
        return OwnedQuerySet(self.model, query=query, using=self._db, hints=self._hints)


@cache
def _guarded_query(model: type[OwnedModel]) -> Query:
    """Return the query that all of the model's begin as. Made once: who asks is looked up whenever one is compiled."""
    guard = ScopeGuard(model.account_path, model.owner_path)
    return models.QuerySet(model).filter(guard).query


class OwnedModel(models.Model):
    """A row of an account (``account_path``), of a person (``owner_path``), or, while orphaned, of the person.

    Paths are field paths such as ``"id"``, ``"account"`` or ``"bot__account"``. A row may only point at rows of its own
    account: forward foreign keys bypass managers, so this is checked on save.
    """

    account_path: str | None = "account"
    owner_path: str | None = None
    nobodys_are_everybodys = False
    """Whether rows without an owner are for everybody to read, by a manager of their own."""

    objects = OwnedManager()

    class Meta:
        abstract = True

    def _value_at(self, path: str | None) -> Any:
        if path is None:
            return None
        row: Any = self
        *steps, last = path.split("__")
        for step in steps:
            if (row := getattr(row, step)) is None:
                return None
        return getattr(row, row._meta.get_field(last).attname)

    def check_scope(self) -> None:
        """Raise ForeignRow unless the bound scope may change this row and it points at rows of its own account only."""
        scope = current_scope()
        account_id, owner_id = self._value_at(self.account_path), self._value_at(self.owner_path)
        if not scope.unlimited:
            mine = owner_id is not None and owner_id == scope.owner_id
            if not (account_id in scope.editable_ids or (mine and (account_id is None or self.account_path == "id"))):
                raise ForeignRow(f"{type(self).__name__} of account {account_id} is outside the scope")
        if account_id is None:
            return
        for field in self._meta.concrete_fields:
            target = field.related_model
            if not field.is_relation or not isinstance(target, type) or not issubclass(target, OwnedModel):
                continue
            if target.account_path in (None, "id") or getattr(self, field.attname) is None:
                continue
            related = getattr(self, field.name)
            if related._value_at(target.account_path) not in (None, account_id):
                raise ForeignRow(f"{type(self).__name__}.{field.name} points at a row of another account")

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.check_scope()
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        self.check_scope()
        return super().delete(*args, **kwargs)
