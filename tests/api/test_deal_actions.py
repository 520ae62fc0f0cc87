"""What is done to a deal over the API: at a limit, in parts, adding, its ceiling, its settings. For whom, and how."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from marketdata import services as market_services
from positions.models import Position
from tests.api.conftest import ClientOf, People
from tests.factories import BotFactory, FillFactory, OrderFactory, PositionFactory, ProductFactory
from tests.pages.dealing import SETTINGS
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
        settings=SETTINGS,
        budget_quote=Decimal(500),
        open=True,
    )
    order = OrderFactory(position=position, status="filled", finished_at=clock.now())
    FillFactory(order=order, price=Decimal(10_000), base=Decimal("0.01"))
    with acting_for_account(people.account.pk):
        recompute(position)
        position.refresh_from_db()
    return position


def path(deal: Position, suffix: str = "") -> str:
    return f"/api/positions/{deal.pk}/{suffix}"


def price_of(client: Any, deal: Position) -> Decimal:
    return Decimal(client.get(path(deal, "ticker/")).data["ask"])


def test_the_ticker_says_what_the_deals_product_costs(people: People, client_of: ClientOf, deal: Position) -> None:
    row = client_of(people.olga).get(path(deal, "ticker/")).data
    assert row["symbol"] == "BTC-USD"
    assert Decimal(row["bid"]) < Decimal(row["mark"]) < Decimal(row["ask"])
    assert (row["exit"], row["age_seconds"] >= 0) == (row["bid"], True)


def test_the_slippage_of_all_of_it_and_of_a_part(people: People, client_of: ClientOf, deal: Position) -> None:
    ann = client_of(people.ann)
    whole = ann.get(path(deal, "slippage-check/")).data
    assert (whole["base"], whole["remaining"], whole["side"]) == ("0.01", "0.01", "sell")
    part = ann.get(path(deal, "slippage-check/?base=0.004")).data
    assert (part["base"], Decimal(part["expected_price"]) > 0) == ("0.004", True)
    assert Decimal(part["slippage_pct"]) >= 0
    assert Decimal(part["fee_quote"]) < Decimal(whole["fee_quote"])


@pytest.mark.parametrize("query", ["base=1", "base=0", "base=-1", "base=NaN", "base=1e400", "share_pct=101", "bse=1"])
def test_f23_a_slippage_check_of_what_is_not_there(
    people: People, client_of: ClientOf, deal: Position, query: str
) -> None:
    answer = client_of(people.ann).get(path(deal, f"slippage-check/?{query}"))
    assert (answer.status_code, answer.data["field"]) == (400, query.partition("=")[0])


def test_a_limit_close_is_placed_changed_and_cancelled(people: People, client_of: ClientOf, deal: Position) -> None:
    manager = client_of(people.max)
    ask = price_of(manager, deal)
    body = {"price": str(ask * 2), "share_pct": "50"}
    placed = manager.post(path(deal, "limit-close/"), body, format="json")
    assert (placed.status_code, placed.data["state"]) == (200, "resting"), placed.data
    assert (placed.data["order"]["base_size"], placed.data["order"]["purpose"]) == ("0.005", "limit_close")
    assert (placed.data["order"]["actor"], placed.data["position"]["status"]) == (people.max.email, "closing")
    again = manager.post(path(deal, "limit-close/"), body, format="json")
    assert (again.status_code, again.data["code"]) == (409, "limit_close_working")
    until = (clock.now() + timedelta(hours=3)).isoformat()
    body = {"price": str(ask * 3), "time_in_force": "GTD", "expires_at": until}
    changed = manager.post(path(deal, "update-limit-close/"), body, format="json")
    assert (changed.status_code, changed.data["order"]["base_size"]) == (200, "0.005"), changed.data
    assert changed.data["order"]["expires_at"] is not None
    ended = manager.post(path(deal, "cancel-limit-close/"))
    assert (ended.status_code, ended.data["state"], ended.data["position"]["status"]) == (200, "cancelled", "open")
    none = manager.post(path(deal, "cancel-limit-close/"))
    assert (none.status_code, none.data["code"]) == (409, "no_limit_close")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "price"),
        ({"price": "0"}, "price"),
        ({"price": "-1"}, "price"),
        ({"price": "NaN"}, "price"),
        ({"price": "1e400"}, "price"),
        ({"price": "Infinity"}, "price"),
        ({"price": "cheap"}, "price"),
        ({"price": "1", "base": "0.011"}, "base"),
        ({"price": "1", "share_pct": "100.01"}, "share_pct"),
        ({"price": "1", "time_in_force": "GTD"}, "expires_at"),
        ({"price": "1", "time_in_force": "GTD", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"price": "1", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"price": "1", "time_in_force": "IOC"}, "time_in_force"),
        ({"price": "1", "amount": "1"}, "amount"),
    ],
)
def test_f23_a_limit_close_that_is_not_possible_is_400_with_its_field(
    people: People, client_of: ClientOf, deal: Position, body: dict[str, Any], field: str
) -> None:
    answer = client_of(people.ann).post(path(deal, "limit-close/"), body, format="json")
    assert (answer.status_code, answer.data["field"]) == (400, field), answer.data
    assert answer.data["detail"]
    with detached("test looks"):
        assert deal.orders.count() == 1


def test_a_part_is_closed_at_market(people: People, client_of: ClientOf, deal: Position) -> None:
    answer = client_of(people.ann).post(path(deal, "close/"), {"share_pct": "25"}, format="json")
    assert (answer.status_code, answer.data["state"]) == (200, "reduced"), answer.data
    assert answer.data["position"]["base_held"] == "0.0075"
    wrong = client_of(people.ann).post(path(deal, "close/"), {"base": "1"}, format="json")
    assert (wrong.status_code, wrong.data["field"]) == (400, "base")
    assert "0.0075 BTC are left" in wrong.data["detail"]


def test_funds_are_added_within_the_ceiling_or_raise_it(people: People, client_of: ClientOf, deal: Position) -> None:
    ann = client_of(people.ann)
    added = ann.post(path(deal, "add-funds/"), {"amount": "100"}, format="json")
    assert (added.status_code, added.data["state"], added.data["raised_to"]) == (200, "filled", None), added.data
    assert added.data["order"]["purpose"] == "manual_add"
    assert added.data["position"]["safety_orders_filled"] == 0
    much = ann.post(path(deal, "add-funds/"), {"amount": "1000"}, format="json")
    assert (much.status_code, much.data["field"], much.data["code"]) == (400, "amount", "ceiling_reached")
    raised = ann.post(path(deal, "add-funds/"), {"amount": "1000", "raise_ceiling": True}, format="json")
    assert raised.status_code == 200, raised.data
    assert raised.data["raised_to"] == raised.data["position"]["budget_quote"]
    resting = ann.post(path(deal, "add-funds/"), {"amount": "50", "order_type": "limit", "price": "100"}, format="json")
    assert (resting.status_code, resting.data["field"]) == (400, "amount")
    body = {"amount": "50", "order_type": "limit", "price": "100", "raise_ceiling": True}
    resting = ann.post(path(deal, "add-funds/"), body, format="json")
    assert (resting.status_code, resting.data["state"]) == (200, "resting"), resting.data
    ended = ann.post(path(deal, "cancel-add-funds/"))
    assert (ended.status_code, ended.data["state"]) == (200, "cancelled")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "amount"),
        ({"amount": "0"}, "amount"),
        ({"amount": "1e400"}, "amount"),
        ({"amount": "0.5"}, "amount"),
        ({"amount": "10", "order_type": "limit"}, "price"),
        ({"amount": "10", "price": "100"}, "price"),
        ({"amount": "10", "order_type": "limit", "price": "0"}, "price"),
        ({"amount": "10", "order_type": "stop"}, "order_type"),
    ],
)
def test_f23_an_addition_that_is_not_possible_is_400_with_its_field(
    people: People, client_of: ClientOf, deal: Position, body: dict[str, Any], field: str
) -> None:
    answer = client_of(people.ann).post(path(deal, "add-funds/"), body, format="json")
    assert (answer.status_code, answer.data["field"]) == (400, field), answer.data


def test_the_ceiling_is_resized_but_not_below_what_is_spent(
    people: People, client_of: ClientOf, deal: Position
) -> None:
    ann = client_of(people.ann)
    answer = ann.post(path(deal, "resize/"), {"budget_quote": "900"}, format="json")
    assert (answer.status_code, answer.data["budget_quote"]) == (200, "900")
    low = ann.post(path(deal, "resize/"), {"budget_quote": "99"}, format="json")
    assert (low.status_code, low.data["field"], low.data["numbers"]["spent"]) == (400, "budget_quote", "100")
    assert ann.post(path(deal, "resize/"), {}, format="json").data["field"] == "budget_quote"


def test_the_settings_of_one_deal_are_shown_and_changed(people: People, client_of: ClientOf, deal: Position) -> None:
    manager = client_of(people.max)
    seen = manager.get(path(deal, "settings/")).data
    assert (seen["settings"]["stop_loss"], seen["settings_version"], "direction" in seen["editable"]) == (
        "20",
        1,
        False,
    )
    body = {"settings": {"stop_loss": "18"}, "settings_version": 1}
    changed = manager.patch(path(deal, "settings/"), body, format="json")
    assert (changed.status_code, changed.data["settings"]["stop_loss"]) == (200, "18"), changed.data
    assert changed.data["settings_version"] == 2
    stale = manager.patch(path(deal, "settings/"), body, format="json")
    assert (stale.status_code, stale.data["code"]) == (409, "changed_meanwhile")
    close = manager.patch(path(deal, "settings/"), {"settings": {"stop_loss": "2"}}, format="json")
    assert (close.status_code, close.data["field"]) == (400, "stop_loss")
    assert "stop_loss" in close.data["errors"]
    other = manager.patch(path(deal, "settings/"), {"settings": {"direction": "short"}}, format="json")
    assert (other.status_code, other.data["field"]) == (400, "direction")


ACTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("post", "close/", {"share_pct": "50"}),
    ("post", "limit-close/", {"price": "999999"}),
    ("post", "update-limit-close/", {"price": "999999"}),
    ("post", "cancel-limit-close/", {}),
    ("post", "add-funds/", {"amount": "50"}),
    ("post", "cancel-add-funds/", {}),
    ("post", "resize/", {"budget_quote": "900"}),
    ("patch", "settings/", {"settings": {"stop_loss": "18"}}),
]


@pytest.mark.parametrize(("method", "suffix", "body"), ACTIONS, ids=[suffix for _, suffix, _ in ACTIONS])
def test_an_observer_may_not_act_and_for_strangers_there_is_no_deal(
    people: People, client_of: ClientOf, deal: Position, method: str, suffix: str, body: dict[str, Any]
) -> None:
    assert getattr(client_of(people.olga), method)(path(deal, suffix), body, format="json").status_code == 403
    stranger = getattr(client_of(people.bob), method)(path(deal, suffix), body, format="json")
    nobody = getattr(client_of(people.bob), method)(f"/api/positions/999999999/{suffix}", body, format="json")
    assert (stranger.status_code, stranger.content) == (404, nobody.content)
    with detached("test looks"):
        found = Position.objects.get(pk=deal.pk)
        assert (found.status, found.budget_quote, found.settings_version) == ("open", 500, 1)
        assert found.orders.count() == 1


@pytest.mark.parametrize("suffix", ["ticker/", "slippage-check/", "settings/"])
def test_an_observer_may_look_and_a_stranger_may_not(
    people: People, client_of: ClientOf, deal: Position, suffix: str
) -> None:
    assert client_of(people.olga).get(path(deal, suffix)).status_code == 200
    assert client_of(people.bob).get(path(deal, suffix)).status_code == 404
