"""Deals, orders and fills over the API."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from marketdata import services as market_services
from positions.models import Position
from positions.states import Purpose
from tests.api.conftest import ClientOf, People
from tests.factories import BotFactory, FillFactory, OrderFactory, PositionFactory, ProductFactory
from tradebot.core import clock
from tradebot.core.scoping import acting_for_account, detached


@pytest.fixture
def deal(people: People) -> Position:
    """An open deal of Ann's that holds 0.01 BTC, bought at half of what it costs at the simulated market."""
    from positions.execution import recompute

    market_services.refresh_products("simulated")
    market_services.refresh_prices("simulated", ["BTC-USD"])
    product = ProductFactory()
    position: Position = PositionFactory(
        bot=BotFactory(account=people.account, products=[product]),
        product=product,
        budget_quote=Decimal(1000),
        open=True,
    )
    order = OrderFactory(position=position, status="filled", finished_at=clock.now())
    FillFactory(order=order, price=Decimal(100), base=Decimal("0.01"))
    with acting_for_account(people.account.pk):
        recompute(position)
        position.refresh_from_db()
    return position


def test_a_deal_shows_its_trades_and_figures_as_strings(people: People, client_of: ClientOf, deal: Position) -> None:
    row = client_of(people.olga).get(f"/api/positions/{deal.pk}/").data
    assert (row["status"], row["base_held"], row["symbol"]) == ("open", "0.01", "BTC-USD")
    assert [(trade["base"], trade["price"]) for trade in row["trades"]] == [("0.01", "100")]
    assert Decimal(row["mark_price"]) > 0
    assert Decimal(row["profit_quote"]) == Decimal(row["realised_quote"]) + Decimal(row["unrealised_quote"])


def test_closing_at_market_answers_what_the_venue_said(people: People, client_of: ClientOf, deal: Position) -> None:
    ann, path = client_of(people.ann), f"/api/positions/{deal.pk}/"
    preview = ann.get(f"{path}close-preview/")
    assert (preview.status_code, preview.data["base"], preview.data["is_dust"]) == (200, "0.01", False)
    closed = ann.post(f"{path}close/")
    assert (closed.status_code, closed.data["state"]) == (200, "closed"), closed.data
    assert closed.data["position"]["status"] == "closed"
    assert closed.data["order"]["actor"] == people.ann.email
    again = ann.post(f"{path}close/")
    assert (again.status_code, again.data["code"]) == (409, "position_ended")


def test_cancelling_keeps_the_coins(people: People, client_of: ClientOf, deal: Position) -> None:
    answer = client_of(people.max).post(f"/api/positions/{deal.pk}/cancel/")
    assert (answer.status_code, answer.data["status"]) == (200, "cancelled")


def test_a_note_is_kept(people: People, client_of: ClientOf, deal: Position) -> None:
    path = f"/api/positions/{deal.pk}/"
    assert client_of(people.ann).patch(path, {"notes": " watch it "}, format="json").data["notes"] == "watch it"
    refused = client_of(people.ann).patch(path, {"status": "closed"}, format="json")
    assert (refused.status_code, refused.data["field"], refused.data["code"]) == (400, "status", "unknown_field")
    too_long = client_of(people.ann).patch(path, {"notes": "x" * 5001}, format="json")
    assert (too_long.status_code, too_long.data["field"]) == (400, "notes")


@pytest.mark.parametrize(
    ("method", "suffix", "body"),
    [("post", "close/", {}), ("post", "cancel/", {}), ("patch", "", {"notes": "seen"})],
)
def test_an_observer_changes_no_deal(
    people: People, client_of: ClientOf, deal: Position, method: str, suffix: str, body: dict[str, Any]
) -> None:
    path = f"/api/positions/{deal.pk}/{suffix}"
    assert getattr(client_of(people.olga), method)(path, body, format="json").status_code == 403
    assert getattr(client_of(people.bob), method)(path, body, format="json").status_code == 404
    with detached("test looks"):
        assert Position.objects.get(pk=deal.pk).status == "open"


def test_f34_an_unknown_price_is_null_not_zero(people: People, client_of: ClientOf) -> None:
    product = ProductFactory(symbol="NOWHERE-USD")
    deal = PositionFactory(bot=BotFactory(account=people.account), product=product, open=True)
    row = client_of(people.ann).get(f"/api/positions/{deal.pk}/").data
    assert (row["mark_price"], row["unrealised_quote"]) == (None, None)


def test_deals_are_filtered(people: People, client_of: ClientOf) -> None:
    bot, ann = BotFactory(account=people.account), client_of(people.ann)
    eth = ProductFactory(symbol="ETH-USD")
    long_ago = clock.now() - timedelta(days=10)
    old = PositionFactory(bot=bot, closed=True, closed_at=long_ago, product=eth)
    new = PositionFactory(bot=bot, closed=True)
    running = PositionFactory(account=people.account, bot=None, open=True)

    def found(query: str) -> list[int]:
        answer = ann.get(f"/api/positions/?{query}")
        assert answer.status_code == 200, answer.data
        return sorted(row["id"] for row in answer.data["results"])

    assert found("status=closed") == [old.pk, new.pk]
    assert found("status=closed&status=open") == [old.pk, new.pk, running.pk]
    assert found(f"bot={bot.pk}") == [old.pk, new.pk]
    assert found(f"account={people.account.pk}&direction=long") == [old.pk, new.pk, running.pk]
    assert found("symbol=eth-usd") == found(f"product={eth.pk}") == [old.pk]
    assert found(f"closed_before={(long_ago + timedelta(days=1)):%Y-%m-%dT%H:%M:%SZ}") == [old.pk]
    assert found(f"closed_after={(long_ago + timedelta(days=1)):%Y-%m-%dT%H:%M:%SZ}") == [new.pk]
    assert found("ordering=id&page_size=1") == [old.pk]
    for query, field in (
        ("status=nonsense", "status"),
        ("closed_after=yesterday", "closed_after"),
        ("product=NaN", "product"),
        ("product=99999999999999999999", "product"),
        ("account=1e400", "account"),
    ):
        refused = ann.get(f"/api/positions/?{query}")
        assert (refused.status_code, refused.data["field"]) == (400, field)


def test_orders_and_fills_are_listed_and_filtered(people: People, client_of: ClientOf, deal: Position) -> None:
    other = OrderFactory(
        position=PositionFactory(bot=BotFactory(account=people.account)), purpose=Purpose.BASE_ORDER, status="open"
    )
    ann = client_of(people.ann)
    assert [row["id"] for row in ann.get("/api/orders/?status=open").data["results"]] == [other.pk]
    assert ann.get(f"/api/orders/?position={deal.pk}").data["count"] == 1
    assert ann.get(f"/api/orders/?bot={deal.bot_id}").data["count"] == 1
    assert ann.get(f"/api/orders/{other.pk}/").data["client_order_id"] == str(other.client_order_id)
    (fill,) = ann.get("/api/fills/").data["results"]
    assert (fill["position"], fill["symbol"], fill["quote"]) == (deal.pk, "BTC-USD", "1")
    assert ann.get(f"/api/fills/{fill['id']}/").status_code == 200
    assert ann.get(f"/api/fills/?position={other.position_id}").data["count"] == 0
    bob = client_of(people.bob)
    assert bob.get("/api/orders/").data["count"] == bob.get("/api/fills/").data["count"] == 0
    assert bob.get(f"/api/orders/?position={deal.pk}").data["count"] == 0
    assert bob.get(f"/api/orders/{other.pk}/").status_code == 404
