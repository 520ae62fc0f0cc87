"""All deals of a bot at once, and a look asked for by a person: honest answers, whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.access import acting_for
from accounts.models import Account, User
from bots import bulk, looks, services
from bots.models import Bot, Decision
from bots.strategies.dca_settings import DcaSettings
from marketdata import services as market_services
from marketdata.models import Product
from positions.models import Position
from tests.bots.world import OPEN_AT_ONCE, World
from tests.factories import AccountFactory, BotFactory, MembershipFactory, PaperTermsFactory, UserFactory
from tradebot.core import clock
from tradebot.core.errors import InvalidInput, NotFound
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import all_accounts

pytestmark = pytest.mark.django_db

STEADY = [100.0] * 5


@pytest.fixture
def world() -> World:
    return World({"BTC-USD": STEADY, "ETH-USD": STEADY})


@pytest.fixture
def bot(world: World) -> Bot:
    """A bot with a deal on each of its two pairs."""
    bot = world.bot()
    world.look(0, bot)
    assert len(world.deals(status="open")) == 2
    return bot


def test_what_all_deals_are_worth_is_added_up_before_anything_is_sold(world: World, bot: Bot) -> None:
    with clock.at(world.moment(1)), acting_for(world.owner):
        found = bulk.bulk_preview(bot)
    assert (found.count, found.invested, found.value, found.unrealised) == (2, Decimal(200), Decimal(200), Decimal(0))


def test_selling_all_closes_every_deal_and_answers_for_each(world: World, bot: Bot) -> None:
    with clock.at(world.moment(1)), acting_for(world.owner):
        answers = bulk.sell_all(bot, world.owner.email)
    assert [(answer.position.product.symbol, answer.state) for answer in answers] == [
        ("BTC-USD", "closed"),
        ("ETH-USD", "closed"),
    ]
    assert bulk.said(answers, "closed") == "2 of 2 closed."
    assert {deal.status for deal in world.deals()} == {"closed"}
    with all_accounts("test"):
        assert Bot.objects.get(pk=bot.pk).is_running, "it was not asked to stop"
        entry = AuditEntry.objects.get(action="bot.sold_all")
    assert (entry.actor, entry.detail["deals"], entry.detail["failed"]) == (world.owner.email, 2, 0)


def test_a_bot_that_is_stopped_along_opens_nothing_again(world: World, bot: Bot) -> None:
    with clock.at(world.moment(1)), acting_for(world.owner):
        bulk.sell_all(bot, world.owner.email, stop=True)
    world.look(2, bot)
    assert {deal.status for deal in world.deals()} == {"closed"}
    with all_accounts("test"):
        assert not Bot.objects.get(pk=bot.pk).is_running


def test_f22_cancelling_all_sells_nothing_and_keeps_the_coins(world: World, bot: Bot) -> None:
    sold_before = world.fills()
    with clock.at(world.moment(1)), acting_for(world.owner):
        answers = bulk.cancel_all(bot, world.owner.email, stop=True)
    assert [answer.state for answer in answers] == ["cancelled", "cancelled"]
    assert world.fills() == sold_before
    assert {deal.status for deal in world.deals()} == {"cancelled"}


def test_a_deal_that_fails_is_told_and_stops_none_of_the_others(world: World, bot: Bot) -> None:
    first, second = world.deals()
    Product.objects.filter(pk=first.product_id).update(symbol="GONE-USD")  # the market knows of no such pair
    with clock.at(world.moment(1)), acting_for(world.owner):
        found = bulk.sell_all(bot, world.owner.email)
    assert [(answer.position.pk, answer.failed) for answer in found] == [(first.pk, True), (second.pk, False)]
    assert found[0].code
    assert found[0].message
    assert bulk.said(found, "closed") == "1 of 2 closed, 1 failed."
    assert [deal.status for deal in world.deals()] == ["open", "closed"]


def test_a_bot_without_deals_has_nothing_to_sell(world: World) -> None:
    idle = world.bot(running=False)
    with acting_for(world.owner):
        assert bulk.sell_all(idle, world.owner.email) == []
        assert bulk.bulk_preview(idle).count == 0
    assert "nothing to do" in bulk.said([], "closed")


@pytest.mark.parametrize(
    "act",
    [
        lambda bot, actor: bulk.sell_all(bot, actor, stop=True),
        lambda bot, actor: bulk.cancel_all(bot, actor),
        looks.run_now,
    ],
)
def test_observers_and_strangers_do_nothing(world: World, bot: Bot, act: Callable[[Bot, str], Any]) -> None:
    for person in (MembershipFactory(account=world.account).user, UserFactory()):
        with acting_for(person), pytest.raises(NotFound):
            act(bot, person.email)
    assert {deal.status for deal in world.deals()} == {"open"}


# Looking now --------------------------------------------------------------------------------------------------------


@pytest.fixture
def market(db: None) -> None:
    market_services.refresh_products("simulated")


@pytest.fixture
def owner(market: None) -> User:
    return UserFactory()


@pytest.fixture
def mine(owner: User) -> Account:
    account: Account = AccountFactory(owner=owner, balances={"USD": 10_000})
    PaperTermsFactory(account=account)
    return account


def made(account: Account, **more: Any) -> Bot:
    pairs = list(Product.objects.filter(exchange="simulated", symbol__in=["BTC-USD", "ETH-USD"]).order_by("symbol"))
    settings = DcaSettings.from_json(OPEN_AT_ONCE).to_json()
    given = {"status": "running", "next_check_at": clock.now(), "budget_kind": "fixed", "budget_fixed": 5_000} | more
    return BotFactory(account=account, products=pairs, settings=settings, split_budget=False, **given)


def test_a_look_now_acts_and_says_what_was_decided(owner: User, mine: Account) -> None:
    bot = made(mine)
    with acting_for(owner):
        look = looks.run_now(bot, owner.email)
        assert (look.orders, look.busy, look.problem) == (2, False, "")
        assert "2 orders placed" in look.summary
        assert [(line.symbol, line.acted) for line in look.lines] == [("BTC-USD", True), ("ETH-USD", True)]
        again = looks.run_now(bot, owner.email)
        assert again.orders == 0
        assert "nothing to do now" in again.summary
        assert any("deals are open on this pair" in line.text for line in again.lines)
        assert Position.objects.filter(bot=bot).count() == 2
        assert AuditEntry.objects.filter(action="bot.run_asked").count() == 2


def test_f1_a_look_while_a_worker_looks_waits_its_turn(owner: User, mine: Account) -> None:
    bot, now = made(mine), clock.now()
    with acting_for(owner):
        Account.objects.filter(pk=mine.pk).update(lease_token="worker", lease_until=now + timedelta(minutes=1))
        with clock.at(now):
            look = looks.run_now(bot, owner.email)
        assert (look.busy, look.lines) == (True, ())
        assert Bot.objects.get(pk=bot.pk).next_check_at == now, "due at once"
        assert not Position.objects.exists()
        assert not Decision.objects.exists()


def test_there_has_to_be_something_to_look_at(owner: User, mine: Account) -> None:
    bot = made(mine, status="stopped", next_check_at=None)
    with acting_for(owner), pytest.raises(InvalidInput) as caught:
        looks.run_now(bot, owner.email)
    assert caught.value.code == "bot_stopped"


def test_a_recording_is_not_looked_at_out_of_turn(world: World) -> None:
    bot = world.bot()
    with acting_for(world.owner), pytest.raises(InvalidInput) as caught:
        looks.run_now(bot, world.owner.email)
    assert caught.value.code == "replay"
    with acting_for(world.owner):
        assert services.open_deal_count(bot) == 0
