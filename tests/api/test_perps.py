"""Perpetuals over the API and on the pages: opening, brackets, closing, settings, refusals, whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import Account, User
from marketdata.models import Product
from positions.models import Position
from tests.accounts.helpers import live_account, live_product, price
from tests.factories import AccountFactory, MembershipFactory, UserFactory
from tests.positions.conftest import MOMENT
from tradebot.core import clock
from tradebot.core.scoping import detached

D = Decimal
PERP = "BTC-USD-PERP"


@pytest.fixture
def account(db: None) -> Iterator[Account]:
    with clock.at(MOMENT):
        found = live_account(USD=1000)
        live_product(PERP, kind="perpetual", maintenance_pct=D(2), max_leverage=10, funding_hours=8)
        price(100, 100, PERP)
        yield found


@pytest.fixture
def product(account: Account) -> Product:
    return Product.objects.get(exchange=account.exchange, symbol=PERP)


def client_of(user: User) -> APIClient:
    client = APIClient()
    client.force_login(user)
    return client


def opened(account: Account, product: Product, **asked: Any) -> Any:
    body = {"account": account.pk, "product": product.pk, "direction": "long", "margin": "40", "leverage": 5} | asked
    return client_of(account.owner).post("/api/positions/open-perp/", body, format="json")


def test_a_position_is_opened_changed_and_closed(account: Account, product: Product) -> None:
    answer = opened(account, product, take_profit="110", stop_loss="95")
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["state"], body["bracket"]["alarm_code"]) == ("open", "")
    assert D(body["position"]["base_held"]) == 2
    pk = body["position"]["id"]
    client = client_of(account.owner)
    perp = client.get(f"/api/positions/{pk}/perp/").json()
    assert (perp["perps"]["leverage"], D(perp["perps"]["margin"])) == (5, 40)
    assert round(D(perp["perps"]["liquidation_price"]), 4) == D("81.6327")
    changed = client.post(
        f"/api/positions/{pk}/modify-tp-sl/", {"take_profit": None, "stop_loss": "97"}, format="json"
    ).json()
    assert (changed["bracket"]["take_profit"], D(changed["bracket"]["stop_loss"])) == (None, 97)
    part = client.post(f"/api/positions/{pk}/close/", {"share_pct": "50"}, format="json").json()
    assert (part["state"], D(part["position"]["base_held"])) == ("reduced", 1)
    assert client.post(f"/api/positions/{pk}/close/", {}, format="json").json()["state"] == "closed"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"leverage": 11}, "leverage"),
        ({"margin": "NaN"}, "margin"),
        ({"margin": "1e400"}, "margin"),
        ({"margin": None}, "margin"),
        ({"stop_loss": "101"}, "stop_loss"),
        ({"take_profit": "99"}, "take_profit"),
        ({"direction": "up"}, "direction"),
        ({"price": "-1"}, "price"),
    ],
)
def test_f23_bad_input_is_400_naming_the_field(
    account: Account, product: Product, asked: dict[str, Any], field: str
) -> None:
    answer = opened(account, product, **asked)
    assert answer.status_code == 400
    assert field in answer.content.decode()
    with detached("test"):
        assert not Position.objects.exists()


def test_a_spot_deal_has_no_bracket(account: Account, product: Product) -> None:
    from tests.factories import PositionFactory

    deal = PositionFactory(bot__account=account, product=live_product(), open=True)
    client = client_of(account.owner)
    assert client.get(f"/api/positions/{deal.pk}/perp/").status_code == 404
    answer = client.post(
        f"/api/positions/{deal.pk}/modify-tp-sl/", {"take_profit": None, "stop_loss": None}, format="json"
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "not_a_perpetual")


def test_nobody_opens_or_changes_what_is_not_theirs(account: Account, product: Product) -> None:
    pk = opened(account, product).json()["position"]["id"]
    stranger, observer = UserFactory(), UserFactory()
    MembershipFactory(account=account, user=observer, role="observer")
    body = {"account": account.pk, "product": product.pk, "direction": "long", "margin": "40"}
    bracket = {"take_profit": None, "stop_loss": "90"}
    for user, code in ((stranger, 404), (observer, 403)):
        client = client_of(user)
        assert client.post("/api/positions/open-perp/", body, format="json").status_code == 400
        assert client.post(f"/api/positions/{pk}/modify-tp-sl/", bracket, format="json").status_code == code
        assert client.patch(f"/api/accounts/{account.pk}/perps-settings/", {}, format="json").status_code == code


def test_settings_are_read_and_changed(account: Account) -> None:
    client, path = client_of(account.owner), f"/api/accounts/{account.pk}/perps-settings/"
    assert client.get(path).json() == {
        "enabled": True,
        "default_leverage": 3,
        "max_leverage": 10,
        "margin_mode": "isolated",
    }
    assert client.patch(path, {"max_leverage": 4}, format="json").json()["max_leverage"] == 4
    answer = client.patch(path, {"default_leverage": 5}, format="json")
    assert (answer.status_code, answer.json()["field"]) == (400, "default_leverage")


# Pages ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(client: Client, account: Account) -> Client:
    client.force_login(account.owner)
    return client


def test_opening_on_the_page_shows_what_it_comes_to_before_anything_is_done(
    browser: Client, account: Account, product: Product
) -> None:
    path = f"/perps/{account.pk}/new/"
    asked = {
        "product": product.pk,
        "direction": "short",
        "leverage": "5",
        "margin_mode": "isolated",
        "margin": "40",
        "stop_loss": "105",
        "action": "review",
    }
    page = browser.post(path, asked)
    assert page.status_code == 200
    assert "117.65" in page.content.decode()  # 240 / 2.04
    with detached("test"):
        assert not Position.objects.exists()
    done = browser.post(path, asked | {"action": "open"})
    with detached("test"):
        deal = Position.objects.get()
    assert done.url == f"/deals/{deal.pk}/"
    for address in ("/perps/", "/deals/", f"/deals/{deal.pk}/", f"/deals/{deal.pk}/bracket/", "/"):
        page = browser.get(address)
        assert page.status_code == 200, address
    listed = browser.get("/perps/").content.decode()
    assert PERP in listed
    assert "5× isolated" in listed


def test_a_mistake_on_the_page_comes_back_beside_its_field(browser: Client, account: Account, product: Product) -> None:
    asked = {"product": product.pk, "direction": "long", "leverage": "10", "margin_mode": "isolated", "margin": "40"}
    page = browser.post(f"/perps/{account.pk}/new/", asked | {"stop_loss": "80", "action": "open"})
    assert page.status_code == 422
    assert "would be liquidated at about 91.84" in page.content.decode()


def test_the_bracket_page_changes_take_profit_and_stop(browser: Client, account: Account, product: Product) -> None:
    pk = opened(account, product).json()["position"]["id"]
    assert browser.post(f"/deals/{pk}/bracket/", {"take_profit": "120", "stop_loss": ""}).status_code == 302
    with detached("test"):
        bracket = Position.objects.get(pk=pk).bracket
    assert (bracket.take_profit, bracket.stop_loss) == (D(120), None)
    assert browser.post(f"/deals/{pk}/bracket/", {"take_profit": "90"}).status_code == 422


def test_bots_refuse_a_perpetual_by_name(account: Account, product: Product) -> None:
    answer = client_of(account.owner).post(
        "/api/bots/", {"account": account.pk, "name": "Perps", "symbols": [PERP], "settings": {}}, format="json"
    )
    assert (answer.status_code, answer.json().get("code")) == (400, "perpetual_pair"), answer.content
    assert "bots trade spot pairs only" in answer.content.decode()


def test_a_recorded_market_is_not_offered(client: Client, account: Account) -> None:
    replay = AccountFactory(owner=account.owner, exchange="replay")
    client.force_login(account.owner)
    assert client.get(f"/perps/{replay.pk}/new/").status_code == 404
