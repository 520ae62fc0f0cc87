"""What deals and pairs remember about the decisions on them, and writing it down for many at once.

A pair remembers for each direction in which its bot opens: bots of one direction use the plain columns; of bots that
trade both ways the short side uses those named ``short_…``, and its timeframes in ``evaluated_until`` read "short 5m".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db import connection, models

from bots.models import BotProduct
from bots.strategies.base import Decision
from positions.states import Direction
from tradebot.core.scoping import ForeignRow, current_scope

__all__ = ["Pair", "Side", "changes", "sides_of", "write"]

SHORT: Final = "short "
MESSAGE_LENGTH: Final = 400
GUARD: Final = ("settings_version",)


class Pair(NamedTuple):
    """A pair of a bot as a look reads it: one of tens of thousands, so no model instance."""

    pk: int
    bot_id: int
    product_id: int
    last_code: str
    last_message: str
    last_changed_at: datetime | None
    short_code: str
    short_message: str
    short_changed_at: datetime | None
    evaluated_until: dict[str, int]

    @classmethod
    def of_bots(cls, bot_ids: Iterable[int]) -> Iterable[Pair]:
        """Return the enabled pairs of these bots in the order in which they are looked at. One query."""
        rows = BotProduct.objects.filter(bot__in=list(bot_ids), enabled=True).order_by("pk")
        return map(cls._make, rows.values_list(*cls._fields))


@dataclass(frozen=True, slots=True)
class Side:
    """One direction in which a bot opens, and where its pairs remember about it."""

    direction: Direction
    code: str = "last_code"
    message: str = "last_message"
    evidence: str = "last_evidence"
    changed_at: str = "last_changed_at"
    prefix: str = ""

    def since(self, pair: Pair) -> dict[str, int] | None:
        """Return what was judged for this side by timeframe, None when nothing was."""
        judged = pair.evaluated_until
        if not judged:
            return None
        if not self.prefix:
            return judged
        cut = len(self.prefix)
        return {key[cut:]: time for key, time in judged.items() if key.startswith(self.prefix)} or None

    def judged(self, before: Mapping[str, int], until: Mapping[str, int]) -> dict[str, int]:
        """Return ``before`` with this side's part replaced by ``until``."""
        others = {key: time for key, time in before.items() if key.startswith(SHORT) is not bool(self.prefix)}
        return others | {f"{self.prefix}{timeframe}": time for timeframe, time in until.items()}


_PLAIN: Final = {direction: Side(direction) for direction in Direction}
_SHORT: Final = Side(Direction.SHORT, "short_code", "short_message", "short_evidence", "short_changed_at", SHORT)


def sides_of(directions: tuple[Direction, ...]) -> tuple[Side, ...]:
    """Return the sides of a bot that opens in these directions."""
    if len(directions) == 1:
        return (_PLAIN[directions[0]],)
    return tuple(_SHORT if direction is Direction.SHORT else _PLAIN[direction] for direction in directions)


def changes(row: Any, side: Side, decision: Decision, now: datetime, written_before: datetime | None) -> dict[str, Any]:
    """Return the columns of ``row`` (a :class:`Pair`, a deal) that ``decision`` changes; usually none (F68).

    Words and numbers are only worked out where they are written: for another reason, and for the same one when it was
    last written at or before ``written_before`` and reads differently now. None writes whatever it was.
    """
    found: dict[str, Any] = {}
    changed_at, is_new = getattr(row, side.changed_at), getattr(row, side.code) != decision.code
    if is_new or changed_at is None or written_before is None or changed_at <= written_before:
        message = decision.message[:MESSAGE_LENGTH]
        if is_new or written_before is None or getattr(row, side.message) != message:
            found[side.code], found[side.message] = str(decision.code), message
            found[side.evidence], found[side.changed_at] = decision.evidence, now
    until = decision.evaluated_until
    if until is not None:
        judged = side.judged(row.evaluated_until, until)
        if judged != row.evaluated_until:
            found["evaluated_until"] = judged
    return found


def write(
    model: type[models.Model],
    rows: Mapping[int, Mapping[str, Any]],
    accounts: Iterable[int],
    versions: Mapping[int, int] | None = None,
) -> None:
    """Write these columns, by primary key; one statement for each set of columns, however many rows.

    ``accounts`` are those that the rows belong to. Raises ForeignRow when the bound scope may not change one of them.
    A row that is gone meanwhile stays gone. ``versions`` are the ``settings_version`` that the rows were judged by: one
    that has another version by now was edited meanwhile and stays as the edit has left it.
    """
    scope = current_scope()
    if not scope.unlimited and not scope.editable_ids.issuperset(accounts):
        raise ForeignRow(f"{model.__name__} of an account outside the scope")
    groups: dict[tuple[str, ...], list[int]] = {}
    for pk, values in rows.items():
        groups.setdefault(tuple(sorted(values)), []).append(pk)
    for names, ids in groups.items():
        statement, prepare = _update(model, names, guarded=versions is not None)
        guards = {} if versions is None else {pk: (versions[pk],) for pk in ids}
        with connection.cursor() as cursor:
            cursor.executemany(statement, [(*prepare(rows[pk]), pk, *guards.get(pk, ())) for pk in ids])


def _update(
    model: type[models.Model], names: tuple[str, ...], *, guarded: bool
) -> tuple[str, Callable[[Mapping[str, Any]], Iterable[Any]]]:
    """Return the statement that updates one row, and what turns a row's values into its parameters."""
    quote = connection.ops.quote_name
    known = {field.name: field for field in model._meta.concrete_fields}
    columns = {name: quote(str(known[name].column)) for name in (*names, "id", *GUARD[:guarded])}
    table = quote(model._meta.db_table)
    assignments = ", ".join(f"{columns[name]} = %s" for name in names)
    where = " AND ".join(f"{columns[name]} = %s" for name in ("id", *GUARD[:guarded]))
    statement = f"UPDATE {table} SET {assignments} WHERE {where}"  # noqa: S608 (names of our own columns)
    prepare = {name: known[name].get_db_prep_save for name in names}

    def parameters(values: Mapping[str, Any]) -> Iterable[Any]:
        return (prepare[name](values[name], connection) for name in names)

    return statement, parameters
