"""Deals of a replay: charts at the recording's own time, and out of sight until their account is chosen."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tests.bots.world import World
from tests.factories import AccountFactory, BotFactory, PositionFactory, ProductFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world() -> World:
    world = World({"AAA-USD": [100.0 + number % 5 for number in range(60)]})
    bot = world.bot()
    world.look(10, bot)
    return world


def test_a_chart_of_a_recording_ends_where_the_recording_ends(world: World, client: Client) -> None:
    client.force_login(world.owner)
    (deal,) = world.deals()
    page = client.get(reverse("deal", args=[deal.pk]))
    assert b"1m" in page.content
    chart = client.get(reverse("deal_chart", args=[deal.pk])).json()
    assert chart["timeframe"] == "1m"
    assert chart["candles"][-1][0] == world.moment(59).timestamp() - 60
    assert chart["marks"]


def test_a_recording_offers_no_timeframe_shorter_than_its_own(world: World, client: Client) -> None:
    from marketdata.services import chart_timeframes
    from marketdata.timeframes import Timeframe

    assert chart_timeframes(world.products["AAA-USD"], [Timeframe.M1, Timeframe.H1]) == [Timeframe.M1, Timeframe.H1]
    live = ProductFactory()
    assert chart_timeframes(live, [Timeframe.M1]) == [Timeframe.M1]


def test_recordings_are_seen_when_their_account_is_chosen_and_not_among_all(world: World, client: Client) -> None:
    own = AccountFactory(owner=world.owner, balances={"USD": 100})
    PositionFactory(bot=BotFactory(account=own, name="Today's bot"), open=True)
    client.force_login(world.owner)
    everything = client.get(reverse("deals")).content.decode()
    assert "Today&#x27;s bot" in everything
    assert "AAA-USD" not in everything
    session = client.session
    session["account_id"] = world.account.pk
    session.save()
    chosen = client.get(reverse("deals")).content.decode()
    assert "AAA-USD" in chosen
    assert "Today&#x27;s bot" not in chosen
