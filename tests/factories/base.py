"""What every factory is: one that makes the whole graph in the system's scope."""

from __future__ import annotations

from typing import Any

from factory.django import DjangoModelFactory

from tradebot.core.scoping import detached


class Factory(DjangoModelFactory):
    """Builds the whole graph in the system's scope, so a test may call it from inside any other one."""

    class Meta:
        abstract = True

    @classmethod
    def _generate(cls, strategy: Any, params: Any) -> Any:
        with detached("test data"):
            return super()._generate(strategy, params)
