"""Looking at rows as the test itself, which is nobody: whosever they are, whatever scope is bound, on any database."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import models

from tradebot.core.scoping import detached

__all__ = ["everything"]

M = TypeVar("M", bound=models.Model)


class _Everybodys(models.QuerySet[Any]):
    """A queryset that asks the database outside every scope."""

    def _fetch_all(self) -> None:
        with detached("a test looks"):
            super()._fetch_all()  # type: ignore[misc]

    def exists(self) -> bool:
        with detached("a test looks"):
            return super().exists()

    def count(self) -> int:
        with detached("a test looks"):
            return super().count()

    def update(self, **changes: Any) -> int:
        with detached("a test changes what it looks at"):
            return super().update(**changes)

    def bulk_create(self, rows: Any, *args: Any, **kwargs: Any) -> list[Any]:
        with detached("a test makes what it looks at"):
            return super().bulk_create(rows, *args, **kwargs)


def everything(model: type[M]) -> models.QuerySet[M]:
    """Return all rows of ``model``."""
    return _Everybodys(model)
