"""A person's own coin categories: the page, the API, and the gates that they flip at the next look."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import User
from bots import gates
from bots.models import BotProduct, CoinReview
from marketdata.models import Coin
from positions.states import Direction
from tests.bots.world import World
from tests.factories import CoinReviewFactory, MembershipFactory, ProductFactory, UserFactory
from tradebot.core.models import AuditEntry
from tradebot.core.scoping import acting_for_account, detached

PAGE = "/settings/coins/"


def reviews(person: User) -> dict[str, tuple[str, str]]:
    with detached("test looks"):
        return {row.code: (row.category, row.reason) for row in CoinReview.objects.filter(owner=person)}


def row_of(page: str, code: str) -> str:
    found = re.search(rf"<tr>\s*<td><b>{code}</b></td>.*?</tr>", page, re.DOTALL)
    assert found is not None, code
    return " ".join(re.sub(r"<form.*", "", found[0], flags=re.DOTALL).split())


@pytest.fixture
def coins(db: None) -> None:
    for symbol in ("BTC-USD", "ETH-USD", "PEPE-USD"):
        ProductFactory(symbol=symbol)
    Coin.objects.create(code="BTC", category="approved", note="the first one")
    Coin.objects.create(code="PEPE", category="meme")


def test_the_page_says_which_category_counts_and_whose_word_it_is(browser: Client, trader: User, coins: None) -> None:
    CoinReviewFactory(owner=trader, code="PEPE", category="blacklisted")
    CoinReviewFactory(owner=UserFactory(), code="ETH", category="approved")
    page = browser.get(PAGE).content.decode()
    assert "<td>approved</td>" in row_of(page, "BTC")
    assert "the operator’s" in row_of(page, "BTC")
    assert "the first one" in row_of(page, "BTC")
    assert "<td>unreviewed</td>" in row_of(page, "ETH")
    assert "nobody’s" in row_of(page, "ETH")
    assert "<td>blacklisted</td>" in row_of(page, "PEPE")
    assert "yours" in row_of(page, "PEPE")
    assert "operator: meme" in row_of(page, "PEPE")


def test_a_review_is_written_changed_and_dropped_on_the_page(browser: Client, trader: User, coins: None) -> None:
    typed = {"code": "PEPE", "category": "approved", "reason": "  held  for years ", "q": "PE", "page": "1"}
    answer = browser.post(PAGE, typed, follow=True)
    assert answer.redirect_chain == [(f"{PAGE}?q=PE&page=1", 302)]
    assert reviews(trader) == {"PEPE": ("approved", "held for years")}
    assert "yours" in row_of(answer.content.decode(), "PEPE")
    browser.post(PAGE, {"code": "PEPE", "category": "questionable"})
    assert reviews(trader) == {"PEPE": ("questionable", "")}
    answer = browser.post(PAGE, {"code": "PEPE", "category": ""}, follow=True)
    assert reviews(trader) == {}
    assert "<td>meme</td>" in row_of(answer.content.decode(), "PEPE")
    with detached("test looks"):
        done = AuditEntry.objects.filter(user=trader, target="coin:PEPE").order_by("pk")
        assert list(done.values_list("action", flat=True)) == ["coin.reviewed", "coin.reviewed", "coin.review_dropped"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"code": "NIXDA", "category": "approved"}, "NIXDA is no coin that is known here."),
        ({"code": "", "category": "approved"}, "Nothing is no coin"),
        ({"code": "BTC", "category": "splendid"}, "A category is one of"),
        ({"code": "BTC", "category": "approved", "reason": "x" * 201}, "at most 200 characters"),
        ({"code": "BTC", "category": ""}, "You have not reviewed this coin."),
    ],
)
def test_what_cannot_be_written_is_said(
    browser: Client, trader: User, coins: None, typed: dict[str, str], said: str
) -> None:
    answer = browser.post(PAGE, typed)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert reviews(trader) == {}


def test_coins_are_found_by_their_code_and_ones_own_are_shown_alone(browser: Client, trader: User, coins: None) -> None:
    CoinReviewFactory(owner=trader, code="PEPE", category="meme")

    def shown(query: str) -> list[str]:
        return [row.code for row in browser.get(f"{PAGE}?{query}").context["page"].object_list]

    assert shown("") == ["BTC", "ETH", "PEPE"]
    assert shown("q=et") == ["ETH"]
    assert shown("q=nothing") == []
    assert shown("show=own") == ["PEPE"]
    assert shown("show=own&q=b") == []


def test_the_page_costs_the_same_however_many_coins(browser: Client, trader: User, coins: None) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert browser.get(PAGE).status_code == 200
        return len(captured)

    queries()
    before = queries()
    for number in range(60):
        ProductFactory(symbol=f"C{number:02}-USD")
        CoinReviewFactory(owner=trader, code=f"C{number:02}", category="meme")
    assert queries() == before
    assert "C59" in browser.get(f"{PAGE}?page=2").content.decode()


# The API ------------------------------------------------------------------------------------------------------------


def test_reviews_over_the_api(trader: User, coins: None) -> None:
    client = APIClient()
    client.force_login(trader)
    made = client.post("/api/coin-reviews/", {"code": "pepe", "category": "approved", "reason": "why"}, format="json")
    assert made.status_code == 201
    path = f"/api/coin-reviews/{made.json()['id']}/"
    assert {name: made.json()[name] for name in ("code", "category", "reason")} == {
        "code": "PEPE",
        "category": "approved",
        "reason": "why",
    }
    again = client.post("/api/coin-reviews/", {"code": "PEPE", "category": "meme"}, format="json")
    assert (again.status_code, again.json()["id"], again.json()["reason"]) == (200, made.json()["id"], "")
    assert client.patch(path, {"reason": "new"}, format="json").json()["category"] == "meme"
    assert client.get("/api/coin-reviews/?category=meme").json()["count"] == 1
    found = client.get("/api/coin-reviews/effective/?search=e").json()["results"]
    assert found == [
        {"code": "ETH", "category": "", "whose": "", "operators": ""},
        {"code": "PEPE", "category": "meme", "whose": "own", "operators": "meme"},
    ]
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert reviews(trader) == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"category": "approved"}, "code"),
        ({"code": "NIXDA", "category": "approved"}, "code"),
        ({"code": "BTC", "category": "splendid"}, "category"),
        ({"code": "BTC"}, "category"),
        ({"code": "BTC", "category": "approved", "reason": "x" * 201}, "reason"),
        ({"code": "BTC", "category": "approved", "owner": 1}, "owner"),
    ],
)
def test_the_api_refuses_by_field(trader: User, coins: None, body: dict[str, str], field: str) -> None:
    client = APIClient()
    client.force_login(trader)
    answer = client.post("/api/coin-reviews/", body, format="json")
    assert (answer.status_code, answer.json()["field"]) == (400, field)
    assert reviews(trader) == {}


# What it is for -----------------------------------------------------------------------------------------------------


def test_a_change_on_the_page_flips_what_the_bot_opens_at_its_next_look(db: None) -> None:
    world = World({"AAA-USD": [100.0] * 8})
    bot = world.bot(allowed_categories=["approved"])
    owner, manager = Client(), Client()
    owner.force_login(world.owner)
    helper = UserFactory()
    MembershipFactory(account=world.account, user=helper, role="manager")
    manager.force_login(helper)

    world.look(1, bot)
    assert world.pair(bot).last_code == "category_not_allowed"
    manager.post(PAGE, {"code": "AAA", "category": "approved"})  # it is the owner's word that counts
    world.look(2, bot)
    assert world.deals() == []

    def gate() -> str:
        with acting_for_account(bot.account_id):
            pair = BotProduct.objects.select_related("product").get(bot=bot)
            found = gates.questions_now(bot, pair, Direction.LONG).gates
        return next(one.state for one in found if one.name == "Category of AAA")

    assert gate() == "unmet"
    assert owner.post(PAGE, {"code": "AAA", "category": "approved"}).status_code == 302
    assert gate() == "met"
    world.look(3, bot)
    assert [deal.status for deal in world.deals()] == ["open"]
    owner.post(PAGE, {"code": "AAA", "category": "blacklisted"})
    assert gate() == "unmet"
    assert [deal.status for deal in world.deals()] == ["open"]  # held deals are managed whatever it says
