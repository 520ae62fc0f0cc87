"""Editing the settings of one deal: the whole is validated, the bot is left alone, the engine reads them anew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from bots import kept_settings, strategies
from bots.deal_settings import EDITABLE, update_deal_settings
from bots.models import Bot
from positions.models import Position
from tests.bots.world import World
from tests.factories import BotFactory, PositionFactory
from tests.pages.dealing import SETTINGS, closed_deal, open_deal
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, OrderRefused
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import acting_for_account, detached

ANN = "ann@example.com"
pytestmark = pytest.mark.django_db


@pytest.fixture
def bot() -> Bot:
    return BotFactory(settings=SETTINGS)


@pytest.fixture
def deal(bot: Bot) -> Iterator[Position]:
    """An open deal with one of three safety orders bought."""
    from tests.factories import ProductFactory

    position = open_deal(bot, ProductFactory())
    with acting_for_account(position.account_id):
        position.refresh_from_db()
        yield position


def last_audit() -> AuditEntry:
    with detached("test looks"):
        found = AuditEntry.objects.order_by("-pk").first()
    assert found is not None
    return found


def test_a_deals_settings_change_and_the_bots_do_not(deal: Position, bot: Bot) -> None:
    words = update_deal_settings(deal, {"stop_loss": "15", "take_profit": "4.5"}, ANN)
    assert words == ["Take profit: 3 % → 4.5 %", "Stop loss: 20 % → 15 %"]
    deal.refresh_from_db()
    bot.refresh_from_db()
    assert (deal.settings["stop_loss"], deal.settings["take_profit"], deal.settings_version) == ("15", "4.5", 2)
    assert (bot.settings["stop_loss"], bot.settings_version) == ("20", 1)
    entry = last_audit()
    assert (entry.user_id, entry.actor, entry.action) == (bot.owner_id, ANN, "deal_settings")
    assert entry.detail["changes"] == {"take_profit": ["3", "4.5"], "stop_loss": ["20", "15"]}
    assert entry.detail["words"] == words


def test_what_is_the_same_changes_nothing(deal: Position) -> None:
    assert update_deal_settings(deal, {"stop_loss": "20"}, ANN) == []
    deal.refresh_from_db()
    assert deal.settings_version == 1


def test_steps_of_the_take_profit_can_be_set(deal: Position) -> None:
    steps = [{"profit_pct": "1", "share_pct": "50"}, {"profit_pct": "3", "share_pct": "50"}]
    update_deal_settings(deal, {"take_profit_steps": steps}, ANN)
    assert deal.settings["take_profit_steps"] == steps
    with pytest.raises(InvalidInput, check=lambda error: error.field == "take_profit_steps"):
        update_deal_settings(deal, {"take_profit_steps": steps[:1]}, ANN)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"stop_loss": "5"}, "stop_loss", "closer than the deepest safety order"),
        ({"trailing_stop": "1"}, "trailing_stop", "closer than the deepest safety order"),
        ({"price_deviation": "9"}, "stop_loss", "closer than the deepest safety order"),
        ({"take_profit": "0"}, "take_profit", "greater than or equal to 0.1"),
        ({"take_profit": "NaN"}, "take_profit", "finite"),
        ({"take_profit": "1e400"}, "take_profit", ""),
        ({"take_profit": None}, "take_profit_mode", "needs a percentage"),
        ({"stop_loss": None, "stop_timeout_seconds": 60}, "stop_timeout_seconds", "neither a stop loss"),
        ({"max_safety_orders": 101}, "max_safety_orders", "100"),
        ({"max_safety_orders": 0}, "max_safety_orders", "1 safety orders are bought already"),
        ({"max_hold_hours": 0}, "max_hold_hours", ""),
        ({"direction": "short"}, "direction", "cannot be changed once a deal is open"),
        ({"base_order_size": "50"}, "base_order_size", "cannot be changed once a deal is open"),
        ({"open_conditions": {}}, "open_conditions", "cannot be changed once a deal is open"),
        ({"stop_los": "5"}, "stop_los", "There is no setting"),
    ],
)
def test_f23_what_cannot_be_set_names_its_field_and_changes_nothing(
    deal: Position, changes: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        update_deal_settings(deal, changes, ANN)
    assert caught.value.field == field
    assert words in caught.value.message
    deal.refresh_from_db()
    assert (deal.settings, deal.settings_version) == (SETTINGS, 1)


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(deal: Position) -> None:
    update_deal_settings(deal, {"stop_loss": "15"}, "max@example.com", version=1)
    with pytest.raises(OrderRefused, check=lambda error: error.code == "changed_meanwhile"):
        update_deal_settings(deal, {"stop_loss": "18"}, ANN, version=1)
    assert deal.settings["stop_loss"] == "15"


def test_an_ended_deal_keeps_its_settings(bot: Bot, deal: Position) -> None:
    ended = closed_deal(bot, deal.product)
    with pytest.raises(OrderRefused, check=lambda error: error.code == "position_ended"):
        update_deal_settings(ended, {"stop_loss": "15"}, ANN)


def test_every_editable_setting_is_one_of_the_strategy() -> None:
    assert set(strategies.get_strategy("indicator_dca").settings_model.model_fields) >= EDITABLE


TRAIL = {"armed": True, "peak": "110", "best": "112", "stop": "98", "breached_at": datetime(2026, 3, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"take_profit": "5"}, {"best", "stop", "breached_at"}),  # a new target is armed anew
        ({"trailing_stop": "30"}, {"armed", "peak", "best"}),  # a wider stop is not held to the old one
        ({"stop_loss": "25"}, {"armed", "peak", "best"}),
        ({"max_safety_orders": 2}, {"armed", "peak", "best", "stop", "breached_at"}),
    ],
)
def test_trailing_exits_forget_what_the_change_makes_wrong(
    deal: Position, changes: dict[str, Any], kept: set[str]
) -> None:
    trail = TRAIL | {"breached_at": "2026-03-01T00:00:00+00:00"}
    Position.objects.filter(pk=deal.pk).update(trail=trail)
    update_deal_settings(deal, changes, ANN)
    deal.refresh_from_db()
    assert set(deal.trail) == kept
    assert all(deal.trail[name] == trail[name] for name in kept)


def test_the_engine_acts_on_the_new_settings_at_its_next_look(db: None) -> None:
    kept_settings.forget()
    world = World({"BTC-USD": [100.0, 100.0, 100.5, 100.5, 100.5]})
    bot = world.bot("BTC-USD", take_profit="5")
    world.look(0, bot)
    (deal,) = world.deals()
    world.look(2, bot)
    assert world.deals(status="open")  # 0.5 % is no 5 %
    with clock.at(world.moment(2)), acting_for_account(world.account.pk):
        update_deal_settings(deal, {"take_profit": "0.4"}, ANN)
    world.look(3, bot)
    (deal,) = world.deals()
    assert (deal.status, deal.exit_reason) == ("closed", "take_profit")


def test_a_deal_of_a_short_side_is_edited_like_any_other(db: None) -> None:
    settings = SETTINGS | {"direction": "both", "short_conditions": "own"}
    position = PositionFactory(bot=BotFactory(settings=settings), settings=settings, direction="short", open=True)
    with acting_for_account(position.account_id):
        with pytest.raises(InvalidInput, check=lambda error: error.field == "take_profit"):
            update_deal_settings(position, {"take_profit": "120"}, ANN)  # a short cannot earn that
        update_deal_settings(position, {"take_profit": "20"}, ANN)
    assert position.settings["take_profit"] == "20"
    assert position.settings["direction"] == "both"
    assert Decimal(position.settings["stop_loss"]) == 20
