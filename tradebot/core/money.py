"""Exact money columns on SQLite and PostgreSQL.

Django's DecimalField on SQLite keeps 15 significant digits and sums as float. Here SQLite stores text under a decimal
collation, so ordering and comparison are by value, with a registered exact sum; PostgreSQL uses ``numeric``.
Arithmetic between columns in SQL is not offered on SQLite (it would go through float): add in Python under a lock.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.core import exceptions
from django.db import models
from django.db.backends.signals import connection_created
from django.db.models.functions import Coalesce

from tradebot.core.decimals import MONEY, PLACES, ZERO, quantize

__all__ = ["AmountField", "AmountSum", "amount_total"]


class _ExactSum:
    def __init__(self) -> None:
        self.total: Decimal | None = None

    def step(self, value: str | None) -> None:
        if value is not None:
            self.total = Decimal(value) if self.total is None else MONEY.add(self.total, Decimal(value))

    def finalize(self) -> str | None:
        return None if self.total is None else format(self.total, "f")


def _compare(left: str, right: str) -> int:
    a, b = Decimal(left), Decimal(right)
    return (a > b) - (a < b)


def _prepare_sqlite(connection: Any, **kwargs: Any) -> None:
    if connection.vendor == "sqlite":
        connection.connection.create_collation("amount", _compare)
        connection.connection.create_aggregate("amount_sum", 1, _ExactSum)


connection_created.connect(_prepare_sqlite, dispatch_uid="tradebot.core.money")


class AmountField(models.DecimalField):
    """Exact decimal, 20 digits before and 18 after the point; refuses floats, NaN and infinities."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_digits", 38)
        kwargs.setdefault("decimal_places", PLACES)
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        if kwargs.get("max_digits") == 38:
            del kwargs["max_digits"]
        if kwargs.get("decimal_places") == PLACES:
            del kwargs["decimal_places"]
        return name, path, args, kwargs

    def get_internal_type(self) -> str:
        return "AmountField"

    def db_type(self, connection: Any) -> str:
        if connection.vendor == "sqlite":
            return "text COLLATE amount"
        return f"numeric({self.max_digits},{self.decimal_places})"

    def rel_db_type(self, connection: Any) -> str:
        return self.db_type(connection)

    def cast_db_type(self, connection: Any) -> str:
        return "text" if connection.vendor == "sqlite" else self.db_type(connection)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Decimal | None:
        if value is None:
            return None
        if isinstance(value, float):
            raise TypeError("an amount went through a float; use AmountSum in place of Sum")
        return Decimal(value)

    def to_python(self, value: Any) -> Decimal | None:
        if isinstance(value, float):
            raise TypeError("a float is not an amount")
        number = super().to_python(value)
        if number is not None and not number.is_finite():
            raise exceptions.ValidationError("Enter a finite number.", code="invalid")
        return number

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if value is None or hasattr(value, "resolve_expression"):
            return value
        number = self.to_python(value)
        if number is None:
            return None
        number = quantize(number, self.decimal_places)
        if len(number.as_tuple().digits) > self.max_digits:
            raise ValueError(f"{self.name}: more than {self.max_digits - self.decimal_places} digits before the point")
        return format(number, "f") if connection.vendor == "sqlite" else number

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        return value if hasattr(value, "as_sql") else self.get_db_prep_value(value, connection)


class AmountSum(models.Sum):
    """Exact sum; plain ``Sum`` on SQLite goes through float and is refused on the way out by the field."""

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, function="amount_sum", **extra)


def amount_total(expression: str, **kwargs: Any) -> Coalesce:
    """Exact sum of ``expression`` that is 0 where there are no rows."""
    return Coalesce(AmountSum(expression, **kwargs), models.Value(ZERO, output_field=AmountField()))
