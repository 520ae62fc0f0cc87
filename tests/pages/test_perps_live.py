"""The pages of perpetuals on a live account: its word and edge, what a read-only one may not, what closing may."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from accounts import perps_settings
from accounts.access import scope_of
from accounts.models import Account, User
from marketdata import services, sources
from marketdata.models import Product
from marketdata.sources.limiter import AddressLimiter
from positions.models import Position
from positions.states import PositionStatus
from tests.accounts.live import fake_venue, live_account, unhurried
from tests.pages.markup import offences, text
from tests.venue.server import FakeVenue
from tradebot.core.scoping import all_accounts, bound

PERP = "BTC-USDT-PERP"


@pytest.fixture
def fake() -> Iterator[FakeVenue]:
    sources._exchange.cache_clear()
    with fake_venue() as venue:
        sources.get("bybit").limiter = AddressLimiter(venue.url, 10_000)  # type: ignore[attr-defined]
        yield venue
    sources._exchange.cache_clear()


@pytest.fixture
def live(trader: User, fake: FakeVenue) -> Account:
    key = fake.add_account("trader", {"USDT": "10000"}, algorithm="HMAC")
    account = live_account(key, "bybit", owner=trader, name="Main")
    unhurried(account, fake.url)
    services.refresh_products("bybit")
    services.refresh_prices("bybit", [PERP])
    return account


def switched_on(account: Account) -> None:
    with bound(scope_of(account.owner)):
        perps_settings.update(account, "trader@example.com", enabled=True)


def in_state(account: Account, state: str) -> None:
    with all_accounts("test"):
        Account.objects.filter(pk=account.pk).update(trading_state=state)


def asked(action: str) -> dict[str, Any]:
    product = Product.objects.get(exchange="bybit", symbol=PERP)
    return {
        "product": product.pk,
        "direction": "long",
        "leverage": "5",
        "margin_mode": "isolated",
        "margin": "100",
        "stop_loss": "55000",
        "action": action,
    }


def test_a_live_account_says_so_and_trades_for_real(browser: Client, live: Account, fake: FakeVenue) -> None:
    path = f"/perps/{live.pk}/new/"
    assert "Perpetuals are off" in text(browser.get(path))
    switched_on(live)
    page = browser.post(path, asked("review"))
    assert offences(page) == []
    for words in ("Live", "Armed", "live-edge", "Open it for real", "margin mode there is that of the whole account"):
        assert words in text(page), words
    assert "Paper</span>" not in text(page)
    done = browser.post(path, asked("open"))
    assert done.status_code == 302
    listed = browser.get("/perps/")
    assert '<span class="st live">Live</span>' in text(listed)
    assert offences(listed) == []
    assert fake.control.contract_position("trader", PERP)["size"] == "0.008"
    bracket = browser.get(f"{done['Location']}bracket/")
    assert "This uses real money" in text(bracket)


@pytest.mark.parametrize(("state", "word"), [("read_only", "is read-only"), ("killed", "was stopped")])
def test_f63_an_account_that_is_not_armed_opens_nothing_and_closes(
    browser: Client, live: Account, fake: FakeVenue, state: str, word: str
) -> None:
    switched_on(live)
    path = f"/perps/{live.pk}/new/"
    deal = browser.post(path, asked("open"))["Location"]
    in_state(live, state)
    page = browser.post(path, {**asked("review"), "product": Product.objects.get(symbol="ETH-USDT-PERP").pk})
    assert word in text(page)
    assert "Open it for real" not in text(page)
    placed = len(fake.sent("/order/create"))
    refused = browser.post(path, {**asked("open"), "stop_loss": ""})
    assert refused.status_code == 422
    assert len(fake.sent("/order/create")) == placed
    assert browser.post(f"{deal}close/", {"share_pct": "100"}).status_code == 302
    with all_accounts("test"):
        assert Position.objects.get().status == PositionStatus.CLOSED
    assert fake.control.contract_position("trader", PERP)["size"] == "0"


def test_what_the_exchange_refuses_is_said_on_the_page(browser: Client, live: Account, fake: FakeVenue) -> None:
    switched_on(live)
    fake.control.set_contract_terms("trader", is_hedged=True)
    page = browser.post(f"/perps/{live.pk}/new/", asked("open"))
    assert page.status_code == 422
    assert "Switch its position mode to one-way at Bybit" in text(page)
    assert not fake.sent("/order/create")


def test_the_form_says_which_leverage_can_be_used(browser: Client, live: Account, fake: FakeVenue) -> None:
    switched_on(live)
    with bound(scope_of(live.owner)):
        perps_settings.update(live, "trader@example.com", max_leverage=10)
    assert "1 to 10. The higher" in text(browser.get(f"/perps/{live.pk}/new/"))
    Product.objects.filter(symbol="WIF-USDT-PERP").update(max_leverage=5)
    assert "1 to 10, for some no more than 5. The higher" in text(browser.get(f"/perps/{live.pk}/new/"))
