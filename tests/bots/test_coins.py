"""How far a bot's owner trusts a coin, and what that keeps a bot from opening."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from bots import coins
from marketdata.models import Coin, Product
from tests.bots.world import World
from tests.factories import CoinReviewFactory, UserFactory
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import detached

pytestmark = pytest.mark.django_db(transaction=True)


def test_categories_of_many_coins_cost_two_queries() -> None:
    person = UserFactory()
    Coin.objects.create(code="AAA", category="approved")
    Coin.objects.create(code="BBB", category="meme")
    CoinReviewFactory(owner=person, code="BBB", category="blacklisted")
    CoinReviewFactory(owner=UserFactory(), code="AAA", category="questionable")
    with CaptureQueriesContext(connection) as queries:
        found = coins.categories(person.pk, ["AAA", "BBB", "CCC"])
    assert found == {"AAA": "approved", "BBB": "blacklisted", "CCC": ""}
    assert len(queries) == 2


def test_a_bot_opens_only_coins_of_the_categories_it_allows() -> None:
    world = World({"AAA-USD": [100.0] * 4, "BBB-USD": [100.0] * 4})
    Coin.objects.create(code="AAA", category="approved")
    world.look(1, bot := world.bot(allowed_categories=["approved"]))
    assert [deal.product.symbol for deal in world.deals()] == ["AAA-USD"]
    assert world.pair(bot, "BBB-USD").last_code == "category_not_allowed"


def test_the_owners_review_decides_and_nobody_elses() -> None:
    world = World({"AAA-USD": [100.0] * 4, "BBB-USD": [100.0] * 4})
    CoinReviewFactory(owner=world.owner, code="AAA", category="approved")
    CoinReviewFactory(owner=UserFactory(), code="BBB", category="approved")
    world.look(1, world.bot(allowed_categories=["approved"]))
    assert [deal.product.symbol for deal in world.deals()] == ["AAA-USD"]


def test_a_pair_of_two_stable_coins_is_skipped() -> None:
    world = World({"USDC-USD": [1.0] * 4, "AAA-USD": [100.0] * 4})
    bot = world.bot(skip_stable_pairs=True)
    world.look(1, bot)
    assert [deal.product.symbol for deal in world.deals()] == ["AAA-USD"]
    assert world.pair(bot, "USDC-USD").last_code == "stable_pair"


def test_a_pair_that_is_hardly_traded_is_left_alone() -> None:
    world = World({"AAA-USD": [100.0] * 4, "BBB-USD": [100.0] * 4, "CCC-USD": [100.0] * 4})
    for symbol, volume in (("AAA-USD", 1000.0), ("BBB-USD", 10.0), ("CCC-USD", None)):
        Product.objects.filter(pk=world.products[symbol].pk).update(volume_24h=volume)
    bot = world.bot(min_volume_24h="50000")
    world.look(1, bot)
    # Where the venue gives no figure, a recording tells it from its own candles.
    assert [deal.product.symbol for deal in world.deals()] == ["AAA-USD", "CCC-USD"]
    assert world.pair(bot, "BBB-USD").last_code == "volume_too_low"


def test_f46_filters_keep_no_open_deal_from_being_managed() -> None:
    world = World({"AAA-USD": [100.0, 100.0, 102.0, 102.0]})
    Coin.objects.create(code="AAA", category="approved")
    bot = world.bot(allowed_categories=["approved"], cooldown_seconds=3600)
    world.look(1, bot)
    Coin.objects.update(category="blacklisted")
    world.look(2, bot)
    assert [deal.status for deal in world.deals()] == ["closed"]


def test_the_operator_edits_coins_and_looks_at_reviews() -> None:
    site = Client()
    site.force_login(UserFactory(is_staff=True, is_superuser=True))
    CoinReviewFactory(owner=UserFactory(), code="AAA", category="meme")
    answer = site.post("/admin/marketdata/coin/add/", {"code": "AAA", "category": "approved", "note": ""})
    assert answer.status_code == 302
    assert Coin.objects.get(code="AAA").category == "approved"
    with detached("test looks"):
        assert AuditEntry.objects.filter(action="admin.added").exists()
    assert site.get("/admin/marketdata/coin/").status_code == 200
    assert b"meme" in site.get("/admin/bots/coinreview/").content
    assert site.get("/admin/bots/coinreview/add/").status_code == 403
