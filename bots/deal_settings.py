"""Changing the settings that one open deal was frozen with. The bot, and every other deal, keep theirs.

The changes are laid over the deal's own settings and the whole is validated by its strategy, so a deal can never hold
what a bot could not: a stop closer than the ladder is refused with the numbers. ``settings_version`` grows by one,
which makes the engine read the settings anew at its next look. What opened the deal (its direction, pair, base order,
entry conditions) and what concerns the bot as a whole cannot be changed any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from django.db import transaction

from bots import strategies
from bots.conditions import Tree, describe
from bots.strategies.base import Strategy, TrailState
from bots.strategies.describe import settings_facts
from bots.strategies.forms import field_specs
from positions import handling
from positions.booking import announce_position, lock_account, write
from positions.models import Position
from tradebot.core.errors import InvalidInput, OrderRefused

__all__ = ["EDITABLE", "change_words", "update_deal_settings"]

EDITABLE: Final = frozenset(
    {
        "take_profit",
        "take_profit_type",
        "take_profit_mode",
        "take_profit_steps",
        "trailing_deviation",
        "stop_loss",
        "trailing_stop",
        "stop_timeout_seconds",
        "max_hold_hours",
        "max_safety_orders",
        "safety_order_type",
        "safety_order_size",
        "price_deviation",
        "step_scale",
        "volume_scale",
        "deviation_reference",
        "safety_order_execution",
        "take_profit_execution",
        "limit_timeout_seconds",
        "slippage_guard",
        "max_slippage",
        "add_conditions",
        "close_conditions",
        "short_add_conditions",
        "short_close_conditions",
    }
)
"""What an open deal still asks about. Everything else has had its effect when the deal opened."""

_TARGETS: Final = frozenset({"take_profit", "take_profit_type", "take_profit_mode"})
_STOPS: Final = frozenset({"stop_loss", "trailing_stop", "stop_timeout_seconds"})


def update_deal_settings(
    position: Position, changes: Mapping[str, Any], actor: str, *, version: int | None = None
) -> list[str]:
    """Change settings of one deal and return what changed in words ("Stop loss: 18 % → 15 %"), empty for nothing.

    ``changes`` holds the new values by name, what is left out stays. ``version`` is the ``settings_version`` that the
    person saw, if known. Raises InvalidInput: ``not_editable`` or ``invalid_settings`` with the field, ``errors`` in
    its detail; ``below_bought`` (``max_safety_orders``). OrderRefused: ``position_ended``, ``changed_meanwhile``.
    """
    strategy = strategies.get_strategy(position.strategy)
    _refuse_unknown(strategy, changes)
    with transaction.atomic():
        lock_account(position.account_id)
        handling.refresh(position)
        handling.refuse_ended(position)
        if version is not None and version != position.settings_version:
            raise OrderRefused(
                "changed_meanwhile",
                "Somebody changed the deal's settings in the meantime. Look at them again before you save.",
                seen=version,
                now=position.settings_version,
            )
        before = strategy.settings_from_json(position.settings)
        after = strategy.settings_from_json({**before.to_json(), **changes})
        _refuse_fewer_than_bought(position, after)
        old, new = before.to_json(), after.to_json()
        changed = [name for name in new if old.get(name) != new[name]]
        if not changed:
            return []
        words = change_words(before, after, changed, position.product.quote)
        write(
            position,
            settings=new,
            settings_version=position.settings_version + 1,
            trail=_trail_after(position.trail, changed),
        )
        announce_position(position)
        handling.record(
            position,
            actor,
            "deal_settings",
            version=position.settings_version,
            changes={name: [old.get(name), new[name]] for name in changed},
            words=words,
        )
    return words


def change_words(before: Any, after: Any, names: Iterable[str], quote: str = "") -> list[str]:
    """Return for each of the settings ``names`` what it was and what it is: "Stop loss: 18 % → 15 %"."""
    was, now = ({fact.name: fact.value for fact in settings_facts(found, quote)} for found in (before, after))
    labels = {spec.name: spec.label for spec in field_specs(type(after))}
    return [
        f"{labels.get(name, name)}: {was.get(name) or _plain(getattr(before, name, None))} → "
        f"{now.get(name) or _plain(getattr(after, name, None))}"
        for name in names
    ]


def _plain(value: Any) -> str:
    """Return a setting that has no effect, and so no words of its own."""
    if value is None or value == ():
        return "off"
    if isinstance(value, Tree):
        return describe(value) or "none"
    return str(value)


def _refuse_unknown(strategy: Strategy, changes: Mapping[str, Any]) -> None:
    for name in changes:
        if name not in EDITABLE:
            known = name in strategy.settings_model.model_fields
            raise InvalidInput(
                "not_editable" if known else "unknown_field",
                f"{name} cannot be changed once a deal is open." if known else f"There is no setting {name!r:.60}.",
                field=name[:80],
            )


def _refuse_fewer_than_bought(position: Position, after: Any) -> None:
    bought, wanted = position.safety_orders_filled, getattr(after, "max_safety_orders", None)
    if wanted is not None and wanted < bought:
        raise InvalidInput(
            "below_bought",
            f"{bought} safety orders are bought already; {wanted} is less. {bought} means that none is added.",
            field="max_safety_orders",
            bought=bought,
        )


def _trail_after(trail: Mapping[str, Any], changed: Iterable[str]) -> dict[str, Any]:
    """Return what trailing exits still remember: a new target is armed anew, a new stop starts from the best price."""
    state, names = TrailState.from_json(trail), set(changed)
    new_target, new_stop = bool(names & _TARGETS), bool(names & _STOPS)
    if new_target:
        state = replace(state, armed=False, peak=None)
    if new_stop:
        state = replace(state, stop=None, breached_at=None)
    return state.to_json()
